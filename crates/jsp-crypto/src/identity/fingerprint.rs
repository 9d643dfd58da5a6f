//! Fingerprints: what is pinned, written down and compared.

use super::{SignatureScheme, base32};
use crate::primitives::HashAlg;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::str::FromStr;

/// The text every fingerprint starts with.
const PREFIX: &str = "jsp1";
/// Checksum bytes in the text form: a mistyped letter passes once in 65536.
const CHECKSUM_LEN: usize = 2;

/// SHA-256 of an identity's key set.
///
/// The text form is `jsp1` and 55 letters or digits: base32 of the 32 bytes
/// and a two-byte checksum.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// A fingerprint as its 32 bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// A key set is a count and, for each key, its algorithm, its length and itself.
    pub(super) fn of_key_set(scheme: SignatureScheme, key: &[u8]) -> Self {
        // spec: HS-60
        let [high, low] = u16::try_from(key.len()).unwrap_or(u16::MAX).to_be_bytes();
        Self(sha256(&[b"jsp1 identity", &[1, scheme.id(), high, low], key]))
    }

    /// Twelve letters in groups of four (60 bits) for logs and lists. Not
    /// enough to pin: compare whole fingerprints.
    pub fn short(&self) -> String {
        let text = base32::encode(&self.0);
        let mut out = String::with_capacity(14);
        for (index, letter) in text.chars().take(12).enumerate() {
            if index == 4 || index == 8 {
                out.push('-');
            }
            out.push(letter);
        }
        out
    }
}

fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    HashAlg::Sha256.hash(parts).prefix()
}

fn checksum(bytes: &[u8; 32]) -> [u8; CHECKSUM_LEN] {
    let [first, second, ..] = sha256(&[b"jsp1 fingerprint", bytes]);
    [first, second]
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = Vec::with_capacity(34);
        bytes.extend_from_slice(&self.0);
        bytes.extend_from_slice(&checksum(&self.0));
        write!(f, "{PREFIX}{}", base32::encode(&bytes))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({})", self.short())
    }
}

/// Why a text is no fingerprint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FingerprintError {
    /// It does not start with `jsp1`.
    Prefix,
    /// It is not 59 letters a-z and digits 2-7 long.
    Form,
    /// A letter is wrong: the checksum does not match.
    Checksum,
}

impl fmt::Display for FingerprintError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Prefix => "a fingerprint starts with jsp1",
            Self::Form => "a fingerprint is jsp1 and 55 letters a-z or digits 2-7",
            Self::Checksum => "the fingerprint has a typing error: its checksum does not match",
        })
    }
}

impl core::error::Error for FingerprintError {}

impl FromStr for Fingerprint {
    type Err = FingerprintError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (prefix, body) = text.split_at_checked(PREFIX.len()).ok_or(FingerprintError::Prefix)?;
        if !prefix.eq_ignore_ascii_case(PREFIX) {
            return Err(FingerprintError::Prefix);
        }
        let bytes = base32::decode(body).ok_or(FingerprintError::Form)?;
        let (bytes, sum) = bytes.split_first_chunk::<32>().ok_or(FingerprintError::Form)?;
        let sum = <[u8; CHECKSUM_LEN]>::try_from(sum).map_err(|_| FingerprintError::Form)?;
        // spec: HS-61
        if sum != checksum(bytes) {
            return Err(FingerprintError::Checksum);
        }
        Ok(Self(*bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn the_short_form_is_twelve_letters_in_groups() {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(b"foobar\0\0");
        assert_eq!(Fingerprint::from_bytes(bytes).short(), "mzxw-6ytb-oiaa");
    }

    // spec-test: HS-61
    #[test]
    fn text_form_round_trips_and_catches_typing_errors() {
        let fingerprint = Fingerprint::from_bytes([0xa5; 32]);
        let text = fingerprint.to_string();
        assert_eq!(text.len(), 59);
        assert_eq!(text.parse(), Ok(fingerprint));
        assert_eq!(text.to_uppercase().parse(), Ok(fingerprint));
        for index in PREFIX.len()..text.len() {
            for letter in ['a', 'b', '7'] {
                let mut wrong: Vec<char> = text.chars().collect();
                if wrong[index] == letter {
                    continue;
                }
                wrong[index] = letter;
                let wrong: String = wrong.into_iter().collect();
                assert!(wrong.parse::<Fingerprint>().is_err(), "{wrong}");
            }
        }
        assert_eq!("".parse::<Fingerprint>(), Err(FingerprintError::Prefix));
        assert_eq!("jsp1".parse::<Fingerprint>(), Err(FingerprintError::Form));
        assert_eq!("jsp2aaaa".parse::<Fingerprint>(), Err(FingerprintError::Prefix));
        assert_eq!("jsp1é".parse::<Fingerprint>(), Err(FingerprintError::Form));
    }

    // spec-test: HS-60
    #[test]
    fn the_fingerprint_hashes_the_key_set() {
        let mut set = b"jsp1 identity\x01\x01\x00\x20".to_vec();
        set.extend_from_slice(&[9; 32]);
        let expected = Fingerprint::from_bytes(sha256(&[&set]));
        assert_eq!(Fingerprint::of_key_set(SignatureScheme::Ed25519, &[9; 32]), expected);
        let mut set = b"jsp1 identity\x01\x02\x07\xa0".to_vec();
        set.extend_from_slice(&[9; 1952]);
        let expected = Fingerprint::from_bytes(sha256(&[&set]));
        assert_eq!(Fingerprint::of_key_set(SignatureScheme::MlDsa65, &[9; 1952]), expected);
    }

    #[test]
    fn the_short_form_is_the_start_of_the_long_one() {
        let fingerprint = Fingerprint::from_bytes([0x3c; 32]);
        let short: String = fingerprint.short().replace('-', "");
        assert!(fingerprint.to_string()[4..].starts_with(&short));
    }
}
