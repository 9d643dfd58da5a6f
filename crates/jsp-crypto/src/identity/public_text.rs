//! Public keys as text, to be carried to where an identity key is kept.

use super::{PublicIdentity, base32};
use crate::primitives::{Backend, HashAlg};
use alloc::vec::Vec;
use core::fmt;
use core::str::FromStr;

/// The text every public key starts with.
const PREFIX: &str = "jsp1key-";
/// Checksum bytes in the text form.
const CHECKSUM_LEN: usize = 2;

/// Why a text is no public key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PublicTextError {
    /// It does not start with `jsp1key-`; a fingerprint is no key.
    Prefix,
    /// It is not 63 characters long, or has others than a-z and 2-7.
    Form,
    /// A letter is wrong: the checksum does not match.
    Checksum,
}

impl fmt::Display for PublicTextError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Prefix => "a public key starts with jsp1key- (a fingerprint is not enough)",
            Self::Form => "a public key is jsp1key- and 55 letters a-z or digits 2-7",
            Self::Checksum => "the public key has a typing error: its checksum does not match",
        })
    }
}

impl core::error::Error for PublicTextError {}

fn checksum(key: &[u8; 32]) -> [u8; CHECKSUM_LEN] {
    let primitives = Backend::preferred().primitives();
    primitives.hash(HashAlg::Sha256, &[b"jsp1 public key", key]).prefix()
}

/// `jsp1key-` and 55 letters or digits: base32 of the 32 bytes and a two-byte checksum.
impl fmt::Display for PublicIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = Vec::with_capacity(34);
        bytes.extend_from_slice(&self.0);
        bytes.extend_from_slice(&checksum(&self.0));
        write!(f, "{PREFIX}{}", base32::encode(&bytes))
    }
}

impl FromStr for PublicIdentity {
    type Err = PublicTextError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let body = text.strip_prefix(PREFIX).ok_or(PublicTextError::Prefix)?;
        let bytes = base32::decode(body).ok_or(PublicTextError::Form)?;
        let (key, sum) = bytes.split_first_chunk::<32>().ok_or(PublicTextError::Form)?;
        let sum = <[u8; CHECKSUM_LEN]>::try_from(sum).map_err(|_| PublicTextError::Form)?;
        // spec: HS-61
        if sum != checksum(key) {
            return Err(PublicTextError::Checksum);
        }
        Ok(Self(*key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Identity;
    use alloc::string::{String, ToString};

    // spec-test: HS-61
    #[test]
    fn the_text_round_trips_and_typing_errors_are_found() {
        let identity = Identity::from_seed(&[3; 32]).unwrap();
        let text = identity.public().to_string();
        assert_eq!(text.len(), 63);
        assert_eq!(text.parse(), Ok(identity.public()));
        for at in 0..text.len() {
            let mut typed = text.clone().into_bytes();
            typed[at] = if typed[at] == b'c' { b'd' } else { b'c' };
            let typed = String::from_utf8(typed).unwrap();
            assert!(typed.parse::<PublicIdentity>().is_err(), "letter {at}");
            assert!(text[..at].parse::<PublicIdentity>().is_err(), "cut at {at}");
        }
        let fingerprint = identity.fingerprint().to_string();
        assert_eq!(fingerprint.parse::<PublicIdentity>(), Err(PublicTextError::Prefix));
    }
}
