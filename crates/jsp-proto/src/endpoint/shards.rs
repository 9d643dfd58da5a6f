//! Several endpoints that are one server: each has a part of its connections, and datagrams tell which.
//!
//! The first byte of a destination id, modulo the number of shards, names the shard. A client chooses the id of its
//! hello at random, and so its shard; every id that a shard gives names the shard itself, so that all that belongs to
//! the connection comes there, whatever address it comes from.

use jsp_crypto::{Prf, Zeroizing};
use jsp_wire::ConnectionId;

use super::Endpoint;
use super::tickets::Tickets;
use crate::config::{EndpointConfig, RetryPolicy};

/// Shards that an endpoint may have at most: ids of one shard must stay many.
pub const SHARDS_MAX: usize = 64;

/// Where the first byte of the destination id stands, behind the first byte of a short header.
pub const SHORT_ID_AT: usize = 1;

/// The same in a long header: behind the version and the id's length.
pub const LONG_ID_AT: usize = 6;

/// Which shard of how many.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shard {
    index: u8,
    count: u8,
}

impl Shard {
    /// The only one.
    pub(super) const ALONE: Self = Self { index: 0, count: 1 };

    /// The shard that a datagram is for, of `count`; the first for one that is too short to say.
    pub fn of(datagram: &[u8], count: usize) -> usize {
        let is_long = datagram.first().is_some_and(|first| first & 0x80 != 0);
        let place = if is_long { LONG_ID_AT } else { SHORT_ID_AT };
        let first = datagram.get(place).copied().map_or(0, usize::from);
        first.checked_rem(count).unwrap_or(0)
    }

    /// Has the id name this shard. All that name it are about equally likely.
    // spec: CON-120
    pub(super) fn mark(self, id: ConnectionId) -> ConnectionId {
        let mut bytes = id.as_bytes().to_vec();
        let Some(first) = bytes.first_mut().filter(|_| self.count > 1) else { return id };
        let over = first.checked_rem(self.count).unwrap_or(0);
        *first = first.saturating_sub(over).checked_add(self.index).unwrap_or(self.index);
        ConnectionId::new(&bytes).unwrap_or(id)
    }
}

impl Endpoint {
    /// `count` endpoints, 1 to [`SHARDS_MAX`], that are one server together: feed each with the datagrams that
    /// [`Shard::of`] says are its own. They share its limits, and the keys and memory of tickets: a ticket of one is
    /// of use at any, and brings early data once.
    pub fn sharded(mut config: EndpointConfig, count: usize) -> Vec<Self> {
        let seed = Zeroizing::new(core::mem::take(&mut config.seed));
        let count = u8::try_from(count.clamp(1, SHARDS_MAX)).unwrap_or(1);
        let tickets = Tickets::default();
        let of_shard = |index| {
            let mut endpoint = Self::new(share_of(&config, &seed, Shard { index, count }));
            endpoint.shard = Shard { index, count };
            // spec: CON-121
            endpoint.tickets = tickets.beside();
            endpoint
        };
        (0..count).map(of_shard).collect()
    }
}

/// What one shard gets of the whole.
fn share_of(
    config: &EndpointConfig,
    seed: &[u8; 32],
    Shard { index, count }: Shard,
) -> EndpointConfig {
    let mut config = config.clone();
    config.seed = match index {
        0 => *seed,
        _ => Prf::new(*seed).derive("seed of a shard", &[index]),
    };
    if let Some(setup) = &mut config.server {
        let share = |whole: usize| whole.div_ceil(usize::from(count));
        setup.connections_max = share(setup.connections_max);
        if let RetryPolicy::WhenHalfOpen(most) = &mut setup.retry {
            *most = share(*most);
        }
    }
    config
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_names_its_shard_in_every_header() {
        for count in [1, 2, 3, 7, 64] {
            for index in 0..count {
                for first in 0..=255 {
                    let id = ConnectionId::new(&[first, 1, 2, 3]).unwrap();
                    let id = Shard { index, count }.mark(id);
                    let short = [&[0x40], id.as_bytes()].concat();
                    let long = [&[0xc0, 0, 0, 0, 1, 4], id.as_bytes()].concat();
                    for datagram in [short, long] {
                        assert_eq!(Shard::of(&datagram, count.into()), usize::from(index));
                    }
                    assert_eq!(id.as_bytes().get(1..), Some(&[1, 2, 3][..]));
                }
            }
        }
        for short in [&[][..], &[0x40], &[0xc0, 1, 2, 3, 4, 5]] {
            assert_eq!(Shard::of(short, 7), 0);
        }
        assert_eq!(Shard::of(&[0x40, 9], 0), 0);
    }

    #[test]
    fn ids_of_a_shard_are_spread_over_all_its_first_bytes() {
        let shard = Shard { index: 1, count: 3 };
        let mark = |first| shard.mark(ConnectionId::new(&[first]).unwrap()).as_bytes()[0];
        let firsts: std::collections::BTreeSet<u8> = (0..=255).map(mark).collect();
        assert_eq!(firsts.len(), 85);
    }
}
