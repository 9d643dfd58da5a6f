//! Obfuscation: a wrapping of whole datagrams that leaves nothing on the wire but bytes that look random
//! to whoever has not the key, and a length.
//!
//! ```text
//! wrapped = tag 16 | ciphertext
//! ```
//!
//! AES-256-GCM-SIV with the hour for a nonce. The tag is a pseudo-random function of all of the datagram and
//! starts the key stream, so it does the work of a salt as well: no randomness is drawn, no byte is spent on a
//! nonce, and what was not made with the key is refused before anything of it is looked at. Equal datagrams of
//! one hour look alike (RFC 8452, section 4); packet numbers keep them from being equal.
//!
//! The key is known to every client. It keeps strangers out and adds nothing to the protection of packets, which
//! does not rest on it.

use alloc::boxed::Box;
use core::fmt;

use aes_gcm_siv::aead::{AeadInOut, inout::InOutBuf};
use aes_gcm_siv::{Aes256GcmSiv, KeyInit};
use zeroize::Zeroizing;

use crate::identity::Fingerprint;
use crate::primitives::{HashAlg, MacKey};

/// Bytes that the wrapping adds to a datagram.
pub const OBFUSCATION_LEN: usize = 16;

/// How long one nonce is used, in seconds.
const EPOCH: u64 = 3600;

/// What a server and its clients share to hide from others: 32 bytes that are handed out with the server's
/// address. Wiped when dropped.
#[derive(Clone)]
pub struct ObfuscationKey(Zeroizing<[u8; 32]>);

impl ObfuscationKey {
    /// A key of its own: 32 random bytes.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }
}

/// Who knows the server's fingerprint knows the key: one thing to hand out, not two.
impl From<Fingerprint> for ObfuscationKey {
    fn from(fingerprint: Fingerprint) -> Self {
        Self::from_bytes(*fingerprint.as_bytes())
    }
}

impl fmt::Debug for ObfuscationKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ObfuscationKey(..)")
    }
}

/// The tag of a wrapped datagram. Another datagram has the same once in 2^128 times, so it tells one that comes
/// again from a new one.
pub type DatagramTag = [u8; OBFUSCATION_LEN];

/// Wraps and unwraps datagrams under one key.
pub struct Obfuscator {
    cipher: Box<Aes256GcmSiv>,
}

impl Obfuscator {
    /// The wrapping of a key.
    // spec: PRV-20
    pub fn new(key: &ObfuscationKey) -> Self {
        let digest = MacKey::new(HashAlg::Sha256, key.0.as_slice()).mac(&[b"jsp1 obfuscation"]);
        let key: Zeroizing<[u8; 32]> = Zeroizing::new(digest.prefix());
        Self { cipher: Box::new(Aes256GcmSiv::new(&(*key).into())) }
    }

    /// Wraps what stands behind the first [`OBFUSCATION_LEN`] bytes of `room`, in place. `unix_seconds` is the
    /// time in seconds since 1970 UTC. False when nothing does, or more than a datagram can be.
    pub fn wrap(&self, unix_seconds: u64, room: &mut [u8]) -> bool {
        let Some((tag, text)) = room.split_first_chunk_mut::<OBFUSCATION_LEN>() else {
            return false;
        };
        if text.is_empty() {
            return false;
        }
        let nonce = nonce(unix_seconds / EPOCH);
        let sealed = self.cipher.encrypt_inout_detached(&nonce.into(), &[], InOutBuf::from(text));
        match sealed {
            Ok(made) => {
                *tag = made.into();
                true
            }
            Err(_) => false,
        }
    }

    /// Unwraps a datagram in place: what it holds stands behind the first [`OBFUSCATION_LEN`] bytes then. `None`,
    /// and the bytes as they were, when it was not wrapped with this key at about this time: clocks may differ by
    /// half an hour.
    // spec: PRV-21
    pub fn unwrap(&self, unix_seconds: u64, wrapped: &mut [u8]) -> Option<DatagramTag> {
        let (tag, text) = wrapped.split_first_chunk_mut::<OBFUSCATION_LEN>()?;
        let epoch = unix_seconds / EPOCH;
        let is_first_half = unix_seconds % EPOCH < EPOCH / 2;
        let nearest = if is_first_half { epoch.checked_sub(1) } else { epoch.checked_add(1) };
        for epoch in [Some(epoch), nearest].into_iter().flatten() {
            let (nonce, tag_bytes) = (nonce(epoch), (*tag).into());
            let text = InOutBuf::from(&mut *text);
            if self.cipher.decrypt_inout_detached(&nonce.into(), &[], text, &tag_bytes).is_ok() {
                return Some(*tag);
            }
        }
        None
    }
}

fn nonce(epoch: u64) -> [u8; 12] {
    let mut nonce = [0; 12];
    if let Some(low) = nonce.last_chunk_mut() {
        *low = epoch.to_be_bytes();
    }
    nonce
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    const NOON: u64 = 1_800_000_000 / EPOCH * EPOCH;

    fn wrapped(obfuscator: &Obfuscator, time: u64, datagram: &[u8]) -> Vec<u8> {
        let mut room = [&[0; OBFUSCATION_LEN], datagram].concat();
        assert!(obfuscator.wrap(time, &mut room));
        room
    }

    fn opens(obfuscator: &Obfuscator, time: u64, bytes: &[u8]) -> Option<Vec<u8>> {
        let mut bytes = bytes.to_vec();
        let before = bytes.clone();
        match obfuscator.unwrap(time, &mut bytes) {
            Some(tag) => {
                assert_eq!(tag, before[..OBFUSCATION_LEN]);
                Some(bytes[OBFUSCATION_LEN..].to_vec())
            }
            None => {
                assert_eq!(bytes, before, "what is refused stays as it was");
                None
            }
        }
    }

    // spec-test: PRV-20
    #[test]
    fn what_the_key_wraps_only_the_key_unwraps() {
        let fingerprint = Fingerprint::from_bytes([7; 32]);
        let ours = Obfuscator::new(&fingerprint.into());
        let same = Obfuscator::new(&ObfuscationKey::from_bytes([7; 32]));
        let other = Obfuscator::new(&ObfuscationKey::from_bytes([8; 32]));
        for len in [1, 15, 16, 17, 64, 1200, 9000] {
            let datagram: Vec<u8> = (0..len).map(|n| n as u8).collect();
            let wire = wrapped(&ours, NOON, &datagram);
            assert_eq!(wire.len(), len + OBFUSCATION_LEN);
            assert_eq!(opens(&same, NOON, &wire), Some(datagram));
            assert_eq!(opens(&other, NOON, &wire), None);
            for place in [0, OBFUSCATION_LEN - 1, OBFUSCATION_LEN, wire.len() - 1] {
                let mut damaged = wire.clone();
                damaged[place] ^= 0x40;
                assert_eq!(opens(&ours, NOON, &damaged), None);
            }
            assert_eq!(opens(&ours, NOON, &wire[..wire.len() - 1]), None);
        }
        assert!(!ours.wrap(NOON, &mut [0; OBFUSCATION_LEN]));
        assert!(ours.unwrap(NOON, &mut [0; 3]).is_none());
    }

    // spec-test: PRV-21
    #[test]
    fn clocks_may_differ_by_half_an_hour_and_recordings_grow_old() {
        let obfuscator = Obfuscator::new(&ObfuscationKey::from_bytes([1; 32]));
        for sent in [NOON, NOON + 1, NOON + EPOCH / 2, NOON + EPOCH - 1] {
            let wire = wrapped(&obfuscator, sent, b"hello");
            for later in [0, EPOCH / 2 - 1] {
                assert!(opens(&obfuscator, sent + later, &wire).is_some(), "{later}");
                assert!(opens(&obfuscator, sent - later, &wire).is_some(), "-{later}");
            }
            assert!(opens(&obfuscator, sent + EPOCH * 3 / 2 + 1, &wire).is_none());
            assert!(opens(&obfuscator, sent - EPOCH * 3 / 2 - 1, &wire).is_none());
        }
        let ahead = wrapped(&obfuscator, NOON + EPOCH, b"half an hour ahead");
        assert!(opens(&obfuscator, NOON + EPOCH / 2, &ahead).is_some());
        assert!(opens(&obfuscator, 0, &wrapped(&obfuscator, 0, b"the beginning")).is_some());
        let end = wrapped(&obfuscator, u64::MAX, b"the end");
        assert!(opens(&obfuscator, u64::MAX, &end).is_some());
    }

    // spec-test: PRV-20
    #[test]
    fn one_bit_of_the_datagram_changes_all_of_the_wire() {
        let obfuscator = Obfuscator::new(&ObfuscationKey::from_bytes([2; 32]));
        let first = wrapped(&obfuscator, NOON, &[0; 4000]);
        let mut datagram = [0; 4000];
        datagram[3999] = 1;
        let second = wrapped(&obfuscator, NOON, &datagram);
        let same = first.iter().zip(&second).filter(|(a, b)| a == b).count();
        // About 4016 / 256 bytes are equal by chance.
        assert!(same < 50, "{same}");
    }
}
