//! The integrity tag of Retry packets, and stateless reset tokens.

use crate::primitives::{HashAlg, MacKey};
use crate::secret::constant_time_eq;

/// Length of the tag at the end of a Retry packet, in bytes.
pub const RETRY_TAG_LEN: usize = 16;

/// The tag that ends a Retry packet.
///
/// `retry` is the packet without its tag, `odcid` the destination connection
/// id of the hello that it answers. The key is public: the tag proves only
/// that the sender saw the hello, and catches corruption.
pub fn retry_integrity_tag(version: u32, odcid: &[u8], retry: &[u8]) -> [u8; RETRY_TAG_LEN] {
    // spec: HS-53
    let key = HashAlg::Sha256.hash(&[b"JetStreamProto retry", &version.to_be_bytes()]);
    let odcid_len = u64::try_from(odcid.len()).unwrap_or(u64::MAX).to_be_bytes();
    MacKey::new(HashAlg::Sha256, key.as_bytes()).mac(&[&odcid_len, odcid, retry]).prefix()
}

/// Whether `packet`, a whole Retry packet, ends in its right tag.
pub fn verify_retry_integrity_tag(version: u32, odcid: &[u8], packet: &[u8]) -> bool {
    match packet.split_last_chunk::<RETRY_TAG_LEN>() {
        Some((retry, tag)) => constant_time_eq(&retry_integrity_tag(version, odcid, retry), tag),
        None => false,
    }
}

/// The stateless reset token of a connection id for a client at the IP address `host`, of 4 or 16 bytes, or none where
/// it has none: HMAC-SHA-256 under the server's static `key`, cut to 16 bytes.
pub fn reset_token(key: &[u8; 32], cid: &[u8], host: &[u8]) -> [u8; 16] {
    // spec: HS-54
    MacKey::new(HashAlg::Sha256, key).mac(&[b"jsp1 reset", cid, host]).prefix()
}

/// Compares two reset tokens in constant time.
pub fn reset_tokens_equal(a: &[u8; 16], b: &[u8; 16]) -> bool {
    constant_time_eq(a, b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reset_tokens_are_equal_when_every_bit_is() {
        let token = reset_token(&[1; 32], b"cid", b"host");
        assert!(reset_tokens_equal(&token, &reset_token(&[1; 32], b"cid", b"host")));
        for bit in 0..token.len() * 8 {
            let mut other = token;
            other[bit / 8] ^= 1 << (bit % 8);
            assert!(!reset_tokens_equal(&token, &other));
        }
    }

    // spec-test: HS-53
    #[test]
    fn retry_tag_covers_version_odcid_and_packet() {
        let tag = retry_integrity_tag(1, b"01234567", b"retry");
        let mut packet = b"retry".to_vec();
        packet.extend_from_slice(&tag);
        assert!(verify_retry_integrity_tag(1, b"01234567", &packet));
        assert!(!verify_retry_integrity_tag(2, b"01234567", &packet));
        assert!(!verify_retry_integrity_tag(1, b"0123456", &packet));
        for bit in 0..packet.len() * 8 {
            packet[bit / 8] ^= 1 << (bit % 8);
            assert!(!verify_retry_integrity_tag(1, b"01234567", &packet));
            packet[bit / 8] ^= 1 << (bit % 8);
        }
        assert!(!verify_retry_integrity_tag(1, b"01234567", &packet[..15]));
    }

    // spec-test: HS-54
    #[test]
    fn reset_tokens_depend_on_key_cid_and_host() {
        let token = reset_token(&[1; 32], b"a", b"host");
        assert_ne!(token, reset_token(&[1; 32], b"b", b"host"));
        assert_ne!(token, reset_token(&[2; 32], b"a", b"host"));
        assert_ne!(token, reset_token(&[1; 32], b"a", b"HOST"));
    }
}
