//! Public keys as text, to be carried to where an identity key is kept.

use super::{PublicIdentity, SignatureScheme, base32};
use crate::primitives::HashAlg;
use alloc::vec::Vec;
use core::fmt;
use core::str::FromStr;

/// The texts that public keys start with.
const PREFIXES: [(SignatureScheme, &str); 2] =
    [(SignatureScheme::Ed25519, "jsp1key-"), (SignatureScheme::MlDsa65, "jsp1mldsa65key-")];
/// Checksum bytes in the text form.
const CHECKSUM_LEN: usize = 2;

/// Why a text is no public key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PublicTextError {
    /// It does not start with `jsp1key-` or `jsp1mldsa65key-`; a fingerprint is no key.
    Prefix,
    /// It is too short or too long, or has other characters than a-z and 2-7.
    Form,
    /// A letter is wrong: the checksum does not match.
    Checksum,
}

impl fmt::Display for PublicTextError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Prefix => "a public key starts with jsp1key- (a fingerprint is not enough)",
            Self::Form => {
                "a public key is jsp1key- and 55, or jsp1mldsa65key- and 3127, letters a-z or digits 2-7"
            }
            Self::Checksum => "the public key has a typing error: its checksum does not match",
        })
    }
}

impl core::error::Error for PublicTextError {}

fn checksum(key: &[u8]) -> [u8; CHECKSUM_LEN] {
    HashAlg::Sha256.hash(&[b"jsp1 public key", key]).prefix()
}

/// `jsp1key-` and 55 letters or digits, or `jsp1mldsa65key-` and 3127: base32 of the key and a
/// two-byte checksum.
impl fmt::Display for PublicIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = Vec::with_capacity(self.key().len().saturating_add(CHECKSUM_LEN));
        bytes.extend_from_slice(self.key());
        bytes.extend_from_slice(&checksum(self.key()));
        let prefix = PREFIXES.iter().find(|(scheme, _)| *scheme == self.scheme());
        write!(f, "{}{}", prefix.map_or("", |(_, prefix)| prefix), base32::encode(&bytes))
    }
}

impl FromStr for PublicIdentity {
    type Err = PublicTextError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (scheme, body) = PREFIXES
            .iter()
            .find_map(|(scheme, prefix)| Some((*scheme, text.strip_prefix(prefix)?)))
            .ok_or(PublicTextError::Prefix)?;
        let bytes = base32::decode(body).ok_or(PublicTextError::Form)?;
        let (key, sum) = bytes.split_last_chunk::<CHECKSUM_LEN>().ok_or(PublicTextError::Form)?;
        let public = Self::from_key(scheme, key).ok_or(PublicTextError::Form)?;
        // spec: HS-61
        if *sum != checksum(key) {
            return Err(PublicTextError::Checksum);
        }
        Ok(public)
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
