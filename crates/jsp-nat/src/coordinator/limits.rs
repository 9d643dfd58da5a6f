//! What clients may have and do.

use crate::relay;

/// What a datagram costs beside its bytes: the relay's header, and those of IPv4 and UDP. Many small ones
/// are work like few long ones, and take as much of the network.
pub(super) const BESIDE: u64 = relay::HEADER_LEN as u64 + 20 + 8;

/// What clients may have and do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Clients at once.
    pub clients_max: usize,
    /// Ways that one client has asked for, and as many that others have asked for to it. One caller has
    /// no more of the latter than are left for others.
    pub channels_max: usize,
    /// Ways that one client may ask for in a minute. One caller may ask for half of them to one client,
    /// at least one.
    pub asks_per_minute: u32,
    /// Bytes that one client may have forwarded in a second, with 37 for the headers of each datagram; twice
    /// that at once.
    pub relay_rate: u64,
    /// Bytes that all together may have forwarded in a second, with those for headers.
    pub relay_rate_total: u64,
    /// The longest datagram that is forwarded, in bytes, without the relay's header.
    pub datagram_len_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            clients_max: 10_000,
            channels_max: 64,
            asks_per_minute: 120,
            relay_rate: 1_000_000,
            relay_rate_total: 100_000_000,
            datagram_len_max: 1500,
        }
    }
}
