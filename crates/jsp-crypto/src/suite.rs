//! Cipher suites.

use crate::primitives::HashAlg;
use alloc::vec::Vec;

/// An AEAD with the hash of its key schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Suite {
    /// ChaCha20-Poly1305 with SHA-256 (RFC 8439). Mandatory; also protects Initial packets.
    ChaCha20Poly1305 = 1,
    /// AES-128-GCM with SHA-256.
    Aes128Gcm = 2,
    /// AES-256-GCM with SHA-384.
    Aes256Gcm = 3,
    /// AES-256-GCM-SIV with SHA-384 (RFC 8452). Tickets; for data only where configured.
    Aes256GcmSiv = 4,
}

impl Suite {
    /// Every suite, by identifier.
    pub const ALL: [Suite; 4] =
        [Self::ChaCha20Poly1305, Self::Aes128Gcm, Self::Aes256Gcm, Self::Aes256GcmSiv];

    /// The identifier on the wire.
    pub const fn id(self) -> u8 {
        match self {
            Self::ChaCha20Poly1305 => 1,
            Self::Aes128Gcm => 2,
            Self::Aes256Gcm => 3,
            Self::Aes256GcmSiv => 4,
        }
    }

    /// The suite of a wire identifier, if this version knows it.
    pub const fn from_id(id: u8) -> Option<Self> {
        match id {
            1 => Some(Self::ChaCha20Poly1305),
            2 => Some(Self::Aes128Gcm),
            3 => Some(Self::Aes256Gcm),
            4 => Some(Self::Aes256GcmSiv),
            _ => None,
        }
    }

    /// The default order for this machine: AES first where the processor has
    /// AES instructions, ChaCha20 first where it has not (there, AES in
    /// software is slow and may leak through the cache).
    pub fn preferred() -> Vec<Suite> {
        if has_hardware_aes() {
            alloc::vec![Self::Aes128Gcm, Self::ChaCha20Poly1305, Self::Aes256Gcm]
        } else {
            alloc::vec![Self::ChaCha20Poly1305, Self::Aes128Gcm, Self::Aes256Gcm]
        }
    }

    /// AEAD key length in bytes; the header key has the same length.
    pub const fn key_len(self) -> usize {
        match self {
            Self::Aes128Gcm => 16,
            _ => 32,
        }
    }

    pub(crate) const fn hash(self) -> HashAlg {
        match self {
            Self::ChaCha20Poly1305 | Self::Aes128Gcm => HashAlg::Sha256,
            Self::Aes256Gcm | Self::Aes256GcmSiv => HashAlg::Sha384,
        }
    }

    /// How many packets one key may seal (RFC 9001, section 6.6 and appendix B:
    /// 2^23 for AES-GCM; ChaCha20-Poly1305 is bounded by packet numbers alone).
    pub const fn confidentiality_limit(self) -> u64 {
        match self {
            Self::ChaCha20Poly1305 => 1 << 62,
            _ => 1 << 23,
        }
    }

    /// How many forgeries one key may see before it must be given up
    /// (RFC 9001, section 6.6: 2^36 for ChaCha20-Poly1305, 2^52 for AES-GCM).
    pub const fn integrity_limit(self) -> u64 {
        match self {
            Self::ChaCha20Poly1305 => 1 << 36,
            _ => 1 << 52,
        }
    }
}

/// Whether AES and carry-less multiplication run in hardware.
fn has_hardware_aes() -> bool {
    #[cfg(all(feature = "std", any(target_arch = "x86", target_arch = "x86_64")))]
    {
        std::arch::is_x86_feature_detected!("aes")
            && std::arch::is_x86_feature_detected!("pclmulqdq")
    }
    #[cfg(all(feature = "std", target_arch = "aarch64"))]
    {
        std::arch::is_aarch64_feature_detected!("aes")
            && std::arch::is_aarch64_feature_detected!("pmull")
    }
    #[cfg(not(all(
        feature = "std",
        any(target_arch = "x86", target_arch = "x86_64", target_arch = "aarch64")
    )))]
    {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suites_have_the_numbers_lengths_and_limits_of_the_specification() {
        let all = Suite::ALL.map(|suite| {
            let limits = (suite.confidentiality_limit(), suite.integrity_limit());
            (suite.id(), suite.key_len(), suite.hash().len(), limits)
        });
        let (chacha, gcm) = ((1u64 << 62, 1u64 << 36), (1 << 23, 1 << 52));
        let expected = [(1, 32, 32, chacha), (2, 16, 32, gcm), (3, 32, 48, gcm), (4, 32, 48, gcm)];
        assert_eq!(all, expected);
        assert_eq!(chacha, (4_611_686_018_427_387_904, 68_719_476_736));
        assert_eq!(gcm, (8_388_608, 4_503_599_627_370_496));
    }

    #[test]
    fn every_suite_is_known_by_its_number_and_no_other_is() {
        for suite in Suite::ALL {
            assert_eq!(Suite::from_id(suite.id()), Some(suite));
        }
        assert_eq!((0..=u8::MAX).filter(|id| Suite::from_id(*id).is_some()).count(), 4);
    }

    #[test]
    fn the_default_order_follows_the_machine_and_leaves_siv_out() {
        let preferred = Suite::preferred();
        assert_eq!(preferred.len(), 3);
        assert!(!preferred.contains(&Suite::Aes256GcmSiv));
        let first = if has_hardware_aes() { Suite::Aes128Gcm } else { Suite::ChaCha20Poly1305 };
        assert_eq!(preferred[0], first);
        #[cfg(target_arch = "x86_64")]
        assert_eq!(has_hardware_aes(), std::arch::is_x86_feature_detected!("aes"));
    }
}
