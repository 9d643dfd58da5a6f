//! How sealed datagrams travel through a relay: a mark, a channel, and the datagram as it is.
//!
//! The first byte tells these apart from everything else that comes to the same port: STUN begins
//! with 0 to 3, TURN channels and short headers with 64 to 127, long headers with 192 to 255
//! (RFC 9443, section 3; 4 to 15 are free).

/// First byte of a datagram that a relay forwards.
// spec: RDV-20
pub const MARK_RELAY: u8 = 8;
/// First byte of a datagram that opens a way between peers; see [`crate::punch`].
pub const MARK_PUNCH: u8 = 9;
/// Bytes before the sealed datagram.
pub const HEADER_LEN: usize = 9;

/// The header before a datagram for this channel.
pub fn header(channel: u64) -> [u8; HEADER_LEN] {
    let mut out = [MARK_RELAY; HEADER_LEN];
    for (slot, byte) in out.iter_mut().skip(1).zip(channel.to_be_bytes()) {
        *slot = byte;
    }
    out
}

/// The channel and the sealed datagram; `None` when it is not one for a relay, or empty.
pub fn parse(datagram: &[u8]) -> Option<(u64, &[u8])> {
    let (head, sealed) = datagram.split_first_chunk::<HEADER_LEN>()?;
    let (mark, channel) = head.split_first()?;
    if *mark != MARK_RELAY || sealed.is_empty() {
        return None;
    }
    Some((u64::from_be_bytes(channel.try_into().ok()?), sealed))
}

/// What a datagram is, as far as its first byte tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// STUN (RFC 8489).
    Stun,
    /// Forwarded by a relay.
    Relay,
    /// Opens a way between peers.
    Punch,
    /// Of a connection, or nothing that is known here.
    Transport,
}

/// What a datagram is.
// spec: RDV-20
pub fn classify(datagram: &[u8]) -> Class {
    match datagram.first() {
        Some(0..=3) => Class::Stun,
        Some(&MARK_RELAY) => Class::Relay,
        Some(&MARK_PUNCH) => Class::Punch,
        _ => Class::Transport,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    // spec-test: RDV-20
    fn what_is_forwarded_is_told_apart_by_its_first_byte() {
        let mut datagram = header(0x0102_0304_0506_0708).to_vec();
        assert_eq!(parse(&datagram), None);
        datagram.extend([0x40, 1, 2]);
        assert_eq!(parse(&datagram), Some((0x0102_0304_0506_0708, &[0x40, 1, 2][..])));
        assert_eq!(classify(&datagram), Class::Relay);
        assert_eq!(classify(&[MARK_PUNCH]), Class::Punch);
        assert_eq!(classify(&[1]), Class::Stun);
        for first in (64..=127u8).chain(192..=255) {
            assert_eq!(classify(&[first]), Class::Transport);
            assert_eq!(parse(&[first; 20]), None);
        }
    }
}
