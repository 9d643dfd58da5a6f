//! Resumption tickets: their layout and how they are sealed.
//!
//! The handshake of this version neither issues nor accepts tickets; RESUME
//! will be negotiated by [`features::RESUME`](crate::features::RESUME) in a
//! later version of this crate. The layout is fixed now so that it can be
//! tested and reviewed.
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 4 | key epoch |
//! | 4 | 12 | nonce |
//! | 16 | 97 | sealed contents |
//! | 113 | 16 | AES-256-GCM-SIV tag |
//!
//! The epoch is authenticated. A repeated nonce reveals only whether two
//! tickets have equal contents (RFC 8452), and each has a random `uid`.

use crate::handshake::codec::Reader;
use crate::packet::TAG_LEN;
use crate::rng::{self, Rng};
use crate::suite::Suite;
use aes_gcm_siv::aead::{AeadInOut, inout::InOutBuf};
use aes_gcm_siv::{Aes256GcmSiv, KeyInit};
use alloc::vec::Vec;
use core::fmt;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// Length of a sealed ticket, in bytes.
pub const TICKET_LEN: usize = 129;
/// Length of the contents before sealing, in bytes.
const CONTENTS_LEN: usize = 97;
/// Version of the layout, the first byte of the contents.
const LAYOUT: u8 = 1;

/// What a ticket holds. Wiped when dropped; has no `Debug`.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct TicketContents {
    /// Flag bits; bit 0: early data is allowed.
    pub flags: u8,
    /// The suite of the connection that issued it.
    #[zeroize(skip)]
    pub suite: Suite,
    /// When it was issued, in milliseconds since 1970 UTC.
    pub issued_ms: u64,
    /// How long it is valid, in seconds.
    pub lifetime_s: u32,
    /// The shard that alone accepts its early data.
    pub home_shard: u16,
    /// The ticket's own number: each ticket serves once.
    pub uid: [u8; 16],
    /// The pre-shared key.
    pub psk: [u8; 32],
    /// Hash of the server's transport parameters, which early data relied on.
    pub params_hash: [u8; 8],
    /// Hash of the client's identity; zero for an anonymous client.
    pub client_hash: [u8; 16],
    /// The most early data accepted, in bytes.
    pub max_early_data: u32,
    /// Hash of the client's network prefix.
    pub prefix_hash: [u8; 4],
}

/// Why a ticket is refused. The handshake then goes on in full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TicketError {
    /// It has the wrong length, is sealed under a key that is gone, was
    /// changed, or has an unknown layout. One answer for all: there is nothing
    /// to learn from it.
    Invalid,
    /// Its life is over, or has not begun.
    Expired,
}

impl fmt::Display for TicketError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Invalid => "the ticket is not valid here",
            Self::Expired => "the ticket is too old",
        })
    }
}

impl core::error::Error for TicketError {}

/// The current and the previous ticket key. Rotate every twelve hours.
pub struct TicketKeys {
    epoch: u32,
    current: Zeroizing<[u8; 32]>,
    previous: Zeroizing<[u8; 32]>,
}

impl TicketKeys {
    /// Two fresh keys, the current one with this epoch number. Servers that
    /// share keys share epochs.
    pub fn new(epoch: u32, rng: &mut dyn Rng) -> Self {
        Self {
            epoch,
            current: Zeroizing::new(rng::array(rng)),
            previous: Zeroizing::new(rng::array(rng)),
        }
    }

    /// Replaces the older key; tickets sealed under it are void.
    pub fn rotate(&mut self, rng: &mut dyn Rng) {
        core::mem::swap(&mut self.current, &mut self.previous);
        self.current = Zeroizing::new(rng::array(rng));
        self.epoch = self.epoch.wrapping_add(1);
    }

    /// Seals a ticket. `None` only when the cipher fails, which it does not
    /// for contents of this length.
    pub fn seal(&self, contents: &TicketContents, rng: &mut dyn Rng) -> Option<[u8; TICKET_LEN]> {
        let epoch = self.epoch.to_be_bytes();
        let nonce: [u8; 12] = rng::array(rng);
        let mut text = contents.to_bytes();
        let cipher = Aes256GcmSiv::new(&(*self.current).into());
        let tag = cipher
            .encrypt_inout_detached(&nonce.into(), &aad(epoch), InOutBuf::from(text.as_mut_slice()))
            .ok()?;
        let mut out = [0; TICKET_LEN];
        let parts: [&[u8]; 4] = [&epoch, &nonce, &text, &tag];
        for (to, from) in out.iter_mut().zip(parts.into_iter().flatten()) {
            *to = *from;
        }
        Some(out)
    }

    /// Opens a ticket and checks that it is valid at `now_ms` (milliseconds
    /// since 1970 UTC). Whether its `uid` was used before is the caller's check.
    pub fn open(&self, ticket: &[u8], now_ms: u64) -> Result<TicketContents, TicketError> {
        let contents = self.unseal(ticket).ok_or(TicketError::Invalid)?;
        let lifetime_ms = u64::from(contents.lifetime_s).saturating_mul(1000);
        match now_ms.checked_sub(contents.issued_ms) {
            Some(age) if age <= lifetime_ms => Ok(contents),
            _ => Err(TicketError::Expired),
        }
    }

    fn unseal(&self, ticket: &[u8]) -> Option<TicketContents> {
        let mut reader = Reader::new(ticket);
        let epoch: [u8; 4] = reader.array()?;
        let nonce: [u8; 12] = reader.array()?;
        let mut text = Zeroizing::new(reader.array::<CONTENTS_LEN>()?);
        let tag: [u8; TAG_LEN] = reader.array()?;
        let number = u32::from_be_bytes(epoch);
        let key = if number == self.epoch {
            &self.current
        } else if number.wrapping_add(1) == self.epoch {
            &self.previous
        } else {
            return None;
        };
        if !reader.is_empty() {
            return None;
        }
        Aes256GcmSiv::new(&(**key).into())
            .decrypt_inout_detached(
                &nonce.into(),
                &aad(epoch),
                InOutBuf::from(text.as_mut_slice()),
                &tag.into(),
            )
            .ok()?;
        TicketContents::from_bytes(text.as_slice())
    }
}

fn aad(epoch: [u8; 4]) -> [u8; 16] {
    let mut out = *b"jsp1 ticket.....";
    if let Some(tail) = out.last_chunk_mut() {
        *tail = epoch;
    }
    out
}

impl TicketContents {
    fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let mut out = Zeroizing::new(Vec::with_capacity(CONTENTS_LEN));
        out.extend_from_slice(&[LAYOUT, self.flags, self.suite.id()]);
        out.extend_from_slice(&self.issued_ms.to_be_bytes());
        out.extend_from_slice(&self.lifetime_s.to_be_bytes());
        out.extend_from_slice(&self.home_shard.to_be_bytes());
        out.extend_from_slice(&self.uid);
        out.extend_from_slice(&self.psk);
        out.extend_from_slice(&self.params_hash);
        out.extend_from_slice(&self.client_hash);
        out.extend_from_slice(&self.max_early_data.to_be_bytes());
        out.extend_from_slice(&self.prefix_hash);
        out
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        if reader.u8()? != LAYOUT {
            return None;
        }
        let contents = Self {
            flags: reader.u8()?,
            suite: Suite::from_id(reader.u8()?)?,
            issued_ms: reader.u64()?,
            lifetime_s: reader.u32()?,
            home_shard: reader.u16()?,
            uid: reader.array()?,
            psk: reader.array()?,
            params_hash: reader.array()?,
            client_hash: reader.array()?,
            max_early_data: reader.u32()?,
            prefix_hash: reader.array()?,
        };
        reader.is_empty().then_some(contents)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_rng::SeededRng;

    fn contents() -> TicketContents {
        TicketContents {
            flags: 1,
            suite: Suite::Aes256Gcm,
            issued_ms: 1_000_000,
            lifetime_s: 60,
            home_shard: 0x1234,
            uid: [1; 16],
            psk: [2; 32],
            params_hash: [3; 8],
            client_hash: [4; 16],
            max_early_data: 14_000,
            prefix_hash: [5; 4],
        }
    }

    #[test]
    fn a_ticket_opens_for_its_life_and_two_epochs() {
        let mut rng = SeededRng(1);
        let mut keys = TicketKeys::new(u32::MAX, &mut rng);
        let ticket = keys.seal(&contents(), &mut rng).unwrap();
        assert_eq!(contents().to_bytes().len(), CONTENTS_LEN);
        assert!(keys.open(&ticket, 1_000_000) == Ok(contents()));
        assert!(keys.open(&ticket, 1_060_000) == Ok(contents()));
        for time in [0, 999_999, 1_060_001, u64::MAX] {
            assert!(keys.open(&ticket, time) == Err(TicketError::Expired));
        }
        keys.rotate(&mut rng);
        assert!(keys.open(&ticket, 1_000_000) == Ok(contents()));
        keys.rotate(&mut rng);
        assert!(keys.open(&ticket, 1_000_000) == Err(TicketError::Invalid));
    }

    #[test]
    fn every_bit_is_authenticated() {
        let mut rng = SeededRng(1);
        let keys = TicketKeys::new(5, &mut rng);
        let mut ticket = keys.seal(&contents(), &mut rng).unwrap();
        for bit in 0..TICKET_LEN * 8 {
            ticket[bit / 8] ^= 1 << (bit % 8);
            assert!(keys.open(&ticket, 1_000_000) == Err(TicketError::Invalid), "bit {bit}");
            ticket[bit / 8] ^= 1 << (bit % 8);
        }
        for len in 0..TICKET_LEN {
            assert!(keys.open(&ticket[..len], 1_000_000) == Err(TicketError::Invalid));
        }
        let mut long = ticket.to_vec();
        long.push(0);
        assert!(keys.open(&long, 1_000_000) == Err(TicketError::Invalid));
        let other = TicketKeys::new(5, &mut rng);
        assert!(other.open(&ticket, 1_000_000) == Err(TicketError::Invalid));
    }
}
