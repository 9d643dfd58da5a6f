//! Packet protection: AEAD in place, and the header mask.

use crate::primitives::Backend;
use crate::suite::Suite;
use alloc::boxed::Box;
use core::fmt;
use zeroize::Zeroizing;

/// Length of the authentication tag of every suite, in bytes.
pub const TAG_LEN: usize = 16;
/// Length of a nonce and of the secret IV, in bytes.
pub(crate) const NONCE_LEN: usize = 12;
/// The first packet number that does not exist: numbers have 62 bits.
const PACKET_NUMBER_END: u64 = 1 << 62;

/// Why a packet was not sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SealError {
    /// The packet number needs more than 62 bits. Close the connection: a
    /// nonce must never repeat.
    PacketNumber,
    /// The buffer has no room for the tag.
    BufferTooShort,
    /// The packet is longer than the cipher allows (about 64 GiB).
    TooLong,
}

impl fmt::Display for SealError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PacketNumber => "packet numbers are used up; close the connection",
            Self::BufferTooShort => "the buffer has no 16 spare bytes for the tag",
            Self::TooLong => "the packet is too long for the cipher",
        })
    }
}

impl core::error::Error for SealError {}

/// The packet is not authentic under this key (or is shorter than a tag).
/// Count it against [`PacketKey::integrity_limit`] and drop it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenError;

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the packet is not authentic; drop it")
    }
}

impl core::error::Error for OpenError {}

#[cfg(feature = "portable")]
type Portable128 = aes_gcm::Aes128Gcm;
#[cfg(feature = "portable")]
type Portable256 = aes_gcm::Aes256Gcm;
#[cfg(feature = "portable")]
type PortableChaCha = chacha20poly1305::ChaCha20Poly1305;
type Siv = aes_gcm_siv::Aes256GcmSiv;

/// One AEAD with its key. `ring` keys live inline; the others are boxed to
/// keep the enum small, and wipe themselves on drop.
enum Aead {
    #[cfg(feature = "native")]
    Ring(ring::aead::LessSafeKey),
    #[cfg(feature = "portable")]
    ChaCha(Box<PortableChaCha>),
    #[cfg(feature = "portable")]
    Aes128(Box<Portable128>),
    #[cfg(feature = "portable")]
    Aes256(Box<Portable256>),
    Siv(Box<Siv>),
}

/// The AEAD key and IV of one direction and one key phase.
///
/// The nonce is the IV xor the packet number, so one key must never seal two
/// packets with the same number; the caller's packet number space sees to that.
pub struct PacketKey {
    aead: Aead,
    iv: Zeroizing<[u8; NONCE_LEN]>,
    suite: Suite,
}

impl PacketKey {
    /// `key` has the suite's key length.
    pub(crate) fn new(backend: Backend, suite: Suite, key: &[u8], iv: [u8; NONCE_LEN]) -> Self {
        Self { aead: Aead::new(backend, suite, key), iv: Zeroizing::new(iv), suite }
    }

    /// Seals `buf`, which is the plaintext followed by [`TAG_LEN`] spare bytes,
    /// in place. `header` is authenticated with it.
    pub fn seal_in_place(&self, pn: u64, header: &[u8], buf: &mut [u8]) -> Result<(), SealError> {
        // spec: HS-40
        let nonce = self.nonce(pn).ok_or(SealError::PacketNumber)?;
        let Some((text, tag)) = buf.split_last_chunk_mut::<TAG_LEN>() else {
            return Err(SealError::BufferTooShort);
        };
        *tag = self.aead.seal(nonce, header, text).ok_or(SealError::TooLong)?;
        Ok(())
    }

    /// Opens `buf`, which is a ciphertext with its tag, in place. On success
    /// the plaintext is `buf[..len]` for the length returned; on failure the
    /// contents of `buf` are unspecified and must not be used.
    pub fn open_in_place(
        &self,
        pn: u64,
        header: &[u8],
        buf: &mut [u8],
    ) -> Result<usize, OpenError> {
        let nonce = self.nonce(pn).ok_or(OpenError)?;
        self.aead.open(nonce, header, buf).ok_or(OpenError)
    }

    /// How many packets this key may seal before it must be updated.
    pub fn confidentiality_limit(&self) -> u64 {
        self.suite.confidentiality_limit()
    }

    /// How many packets may fail to open before the connection must be closed.
    pub fn integrity_limit(&self) -> u64 {
        self.suite.integrity_limit()
    }

    /// The suite of this key.
    pub fn suite(&self) -> Suite {
        self.suite
    }

    /// IV xor packet number, or `None` for a number past 62 bits.
    fn nonce(&self, pn: u64) -> Option<[u8; NONCE_LEN]> {
        if pn >= PACKET_NUMBER_END {
            return None;
        }
        let mut nonce = *self.iv;
        for (byte, number) in nonce.iter_mut().skip(4).zip(pn.to_be_bytes()) {
            *byte ^= number;
        }
        Some(nonce)
    }
}

impl Aead {
    fn new(backend: Backend, suite: Suite, key: &[u8]) -> Self {
        match (backend, suite) {
            (_, Suite::Aes256GcmSiv) => {
                use aes_gcm_siv::KeyInit;
                Self::Siv(Box::new(Siv::new(&exact::<32>(key).into())))
            }
            #[cfg(feature = "native")]
            (Backend::Native, _) => Self::Ring(ring_key(suite, key)),
            #[cfg(feature = "portable")]
            (Backend::Portable, Suite::Aes128Gcm) => {
                use aes_gcm::KeyInit;
                Self::Aes128(Box::new(Portable128::new(&exact::<16>(key).into())))
            }
            #[cfg(feature = "portable")]
            (Backend::Portable, Suite::Aes256Gcm) => {
                use aes_gcm::KeyInit;
                Self::Aes256(Box::new(Portable256::new(&exact::<32>(key).into())))
            }
            #[cfg(feature = "portable")]
            (Backend::Portable, Suite::ChaCha20Poly1305) => {
                use chacha20poly1305::KeyInit;
                Self::ChaCha(Box::new(PortableChaCha::new(&exact::<32>(key).into())))
            }
        }
    }

    #[inline]
    fn seal(&self, nonce: [u8; NONCE_LEN], aad: &[u8], text: &mut [u8]) -> Option<[u8; TAG_LEN]> {
        match self {
            #[cfg(feature = "native")]
            Self::Ring(key) => {
                let nonce = ring::aead::Nonce::assume_unique_for_key(nonce);
                let aad = ring::aead::Aad::from(aad);
                let tag = key.seal_in_place_separate_tag(nonce, aad, text).ok()?;
                tag.as_ref().try_into().ok()
            }
            #[cfg(feature = "portable")]
            Self::ChaCha(key) => seal_with(key.as_ref(), nonce, aad, text),
            #[cfg(feature = "portable")]
            Self::Aes128(key) => seal_with(key.as_ref(), nonce, aad, text),
            #[cfg(feature = "portable")]
            Self::Aes256(key) => seal_with(key.as_ref(), nonce, aad, text),
            Self::Siv(key) => seal_with(key.as_ref(), nonce, aad, text),
        }
    }

    #[inline]
    fn open(&self, nonce: [u8; NONCE_LEN], aad: &[u8], buf: &mut [u8]) -> Option<usize> {
        match self {
            #[cfg(feature = "native")]
            Self::Ring(key) => {
                let nonce = ring::aead::Nonce::assume_unique_for_key(nonce);
                let aad = ring::aead::Aad::from(aad);
                key.open_in_place(nonce, aad, buf).ok().map(|text| text.len())
            }
            #[cfg(feature = "portable")]
            Self::ChaCha(key) => open_with(key.as_ref(), nonce, aad, buf),
            #[cfg(feature = "portable")]
            Self::Aes128(key) => open_with(key.as_ref(), nonce, aad, buf),
            #[cfg(feature = "portable")]
            Self::Aes256(key) => open_with(key.as_ref(), nonce, aad, buf),
            Self::Siv(key) => open_with(key.as_ref(), nonce, aad, buf),
        }
    }
}

/// The first `N` bytes of a key; callers pass keys of the suite's length.
fn exact<const N: usize>(key: &[u8]) -> [u8; N] {
    debug_assert!(key.len() == N, "a key of {} bytes where {N} are due", key.len());
    let mut out = [0; N];
    for (to, from) in out.iter_mut().zip(key) {
        *to = *from;
    }
    out
}

#[cfg(feature = "native")]
fn ring_key(suite: Suite, key: &[u8]) -> ring::aead::LessSafeKey {
    use ring::aead::{AES_128_GCM, AES_256_GCM, CHACHA20_POLY1305, LessSafeKey, UnboundKey};
    let algorithm = match suite {
        Suite::ChaCha20Poly1305 => &CHACHA20_POLY1305,
        Suite::Aes128Gcm => &AES_128_GCM,
        Suite::Aes256Gcm | Suite::Aes256GcmSiv => &AES_256_GCM,
    };
    match UnboundKey::new(algorithm, key) {
        Ok(key) => LessSafeKey::new(key),
        // The only error is a wrong key length, and lengths come from `Suite::key_len`.
        Err(_) => unreachable!("a key of {} bytes for {suite:?}", key.len()),
    }
}

/// Every RustCrypto AEAD in use has 12-byte nonces and 16-byte tags.
fn seal_with<A>(
    key: &A,
    nonce: [u8; NONCE_LEN],
    aad: &[u8],
    text: &mut [u8],
) -> Option<[u8; TAG_LEN]>
where
    A: aes_gcm_siv::aead::AeadInOut,
{
    use aes_gcm_siv::aead::{Nonce, inout::InOutBuf};
    let nonce = Nonce::<A>::try_from(nonce.as_slice()).ok()?;
    let tag = key.encrypt_inout_detached(&nonce, aad, InOutBuf::from(text)).ok()?;
    tag.as_slice().try_into().ok()
}

fn open_with<A>(key: &A, nonce: [u8; NONCE_LEN], aad: &[u8], buf: &mut [u8]) -> Option<usize>
where
    A: aes_gcm_siv::aead::AeadInOut,
{
    use aes_gcm_siv::aead::{Nonce, Tag, inout::InOutBuf};
    let (text, tag) = buf.split_last_chunk_mut::<TAG_LEN>()?;
    let nonce = Nonce::<A>::try_from(nonce.as_slice()).ok()?;
    let tag = Tag::<A>::try_from(tag.as_slice()).ok()?;
    let len = text.len();
    key.decrypt_inout_detached(&nonce, aad, InOutBuf::from(text), &tag).ok()?;
    Some(len)
}

enum Mask {
    #[cfg(feature = "native")]
    Ring(ring::aead::quic::HeaderProtectionKey),
    #[cfg(feature = "portable")]
    ChaCha(Zeroizing<[u8; 32]>),
    #[cfg(feature = "portable")]
    Aes128(Box<aes::Aes128>),
    #[cfg(feature = "portable")]
    Aes256(Box<aes::Aes256>),
}

/// The key that masks the packet number and the low bits of the first byte.
/// It stays the same over key updates.
pub struct HeaderKey(Mask);

impl HeaderKey {
    /// `key` has the suite's key length.
    pub(crate) fn new(backend: Backend, suite: Suite, key: &[u8]) -> Self {
        match backend {
            #[cfg(feature = "native")]
            Backend::Native => Self(Mask::Ring(ring_mask(suite, key))),
            #[cfg(feature = "portable")]
            Backend::Portable => {
                use aes::cipher::KeyInit;
                Self(match suite {
                    Suite::ChaCha20Poly1305 => Mask::ChaCha(Zeroizing::new(exact(key))),
                    Suite::Aes128Gcm => {
                        Mask::Aes128(Box::new(aes::Aes128::new(&exact::<16>(key).into())))
                    }
                    Suite::Aes256Gcm | Suite::Aes256GcmSiv => {
                        Mask::Aes256(Box::new(aes::Aes256::new(&exact::<32>(key).into())))
                    }
                })
            }
        }
    }

    /// The mask for a 16-byte sample of ciphertext: byte 0 for the first byte
    /// of the packet, bytes 1 to 4 for the packet number. The same construction
    /// as RFC 9001, section 5.4.
    #[inline]
    pub fn mask(&self, sample: &[u8; 16]) -> [u8; 5] {
        // spec: HS-41
        match &self.0 {
            #[cfg(feature = "native")]
            Mask::Ring(key) => match key.new_mask(sample) {
                Ok(mask) => mask,
                // The only error is a sample of another length than 16.
                Err(_) => unreachable!("a 16-byte sample was refused"),
            },
            #[cfg(feature = "portable")]
            Mask::ChaCha(key) => chacha_mask(key, sample),
            #[cfg(feature = "portable")]
            Mask::Aes128(key) => aes_mask(key.as_ref(), sample),
            #[cfg(feature = "portable")]
            Mask::Aes256(key) => aes_mask(key.as_ref(), sample),
        }
    }
}

#[cfg(feature = "native")]
fn ring_mask(suite: Suite, key: &[u8]) -> ring::aead::quic::HeaderProtectionKey {
    use ring::aead::quic::{AES_128, AES_256, CHACHA20, HeaderProtectionKey};
    let algorithm = match suite {
        Suite::ChaCha20Poly1305 => &CHACHA20,
        Suite::Aes128Gcm => &AES_128,
        Suite::Aes256Gcm | Suite::Aes256GcmSiv => &AES_256,
    };
    match HeaderProtectionKey::new(algorithm, key) {
        Ok(key) => key,
        // The only error is a wrong key length, and lengths come from `Suite::key_len`.
        Err(_) => unreachable!("a header key of {} bytes for {suite:?}", key.len()),
    }
}

#[cfg(feature = "portable")]
fn aes_mask<C: aes::cipher::BlockCipherEncrypt>(key: &C, sample: &[u8; 16]) -> [u8; 5] {
    let Ok(mut block) = aes::cipher::Block::<C>::try_from(sample.as_slice()) else {
        return [0; 5];
    };
    key.encrypt_block(&mut block);
    block.first_chunk().copied().unwrap_or_default()
}

/// ChaCha20 with the block counter in the first four bytes of the sample and
/// the nonce in the rest. The block function is used below the stream cipher,
/// which would refuse the last counter value.
#[cfg(feature = "portable")]
fn chacha_mask(key: &[u8; 32], sample: &[u8; 16]) -> [u8; 5] {
    use chacha20::cipher::{KeyIvInit, StreamCipherCore};
    let Some((counter, nonce)) = sample.split_first_chunk::<4>() else { return [0; 5] };
    let nonce = exact::<12>(nonce);
    let mut core = chacha20::ChaChaCore::<chacha20::R20, chacha20::variants::Ietf>::new(
        &(*key).into(),
        &nonce.into(),
    );
    core.set_block_pos(u32::from_le_bytes(*counter));
    let mut block = Default::default();
    core.write_keystream_block(&mut block);
    block.first_chunk().copied().unwrap_or_default()
}

/// The keys of one direction.
pub struct DirectionKeys {
    /// Seals or opens packets.
    pub packet: PacketKey,
    /// Masks or unmasks their headers.
    pub header: HeaderKey,
}

/// The keys of one encryption level.
pub struct Keys {
    /// For packets that this side sends.
    pub local: DirectionKeys,
    /// For packets that the peer sends.
    pub remote: DirectionKeys,
}
