//! What a TURN server knows its users by: the long-term credentials of STUN (RFC 8489, section 9.2), which are MD5
//! and HMAC-SHA-1. They keep strangers from a server's bandwidth, and protect nothing of ours: what goes through
//! it is sealed.

use hmac::{Hmac, KeyInit, Mac};
use md5::{Digest, Md5};
use sha1::Sha1;
use zeroize::Zeroizing;

/// Bytes of a tag.
pub const TAG_LEN: usize = 20;

/// Makes MESSAGE-INTEGRITY (RFC 8489, section 14.5) for a user in a realm: the tag over a message up to there.
///
/// User, realm and password are taken as they are: who has other letters than those of ASCII brings them into
/// the form of RFC 8265 first.
pub fn message_integrity(
    user: &str,
    realm: &[u8],
    password: &str,
    message: &[u8],
) -> [u8; TAG_LEN] {
    let mut hash = Md5::new();
    for part in [user.as_bytes(), b":", realm, b":", password.as_bytes()] {
        hash.update(part);
    }
    let key = Zeroizing::new(<[u8; 16]>::from(hash.finalize()));
    // HMAC takes keys of any length.
    let Ok(mac) = Hmac::<Sha1>::new_from_slice(&key[..]) else { return [0; TAG_LEN] };
    mac.chain_update(message).finalize().into_bytes().into()
}

/// The tag that TURN servers with a shared secret take for a user's password, in base64, up to the time in the user's
/// name (the `use-auth-secret` of coturn; draft-uberti-behave-turn-rest).
pub fn secret_tag(secret: &[u8], user: &str) -> [u8; TAG_LEN] {
    // HMAC takes keys of any length.
    let Ok(mac) = Hmac::<Sha1>::new_from_slice(secret) else { return [0; TAG_LEN] };
    mac.chain_update(user.as_bytes()).finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 2202, test case 2.
    #[test]
    fn the_published_tag_of_a_secret() {
        let tag = secret_tag(b"Jefe", "what do ya want for nothing?");
        let told: String = tag.iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(told, "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79");
    }

    /// RFC 5769, section 2.4: a request with long-term credentials, up to its tag.
    #[test]
    fn the_published_request_has_its_tag() {
        let hex = "000100602112a44278ad3433c6ad72c029da412e00060012e3839ee38388e383aae38383e382af\
                   e382b900000015001c662f2f3439396b39353464364f4c33346f4c394653547679363473410014\
                   000b6578616d706c652e6f726700";
        let digits: Vec<u8> =
            hex.chars().filter_map(|c| c.to_digit(16)).map(|digit| digit as u8).collect();
        let message: Vec<u8> = digits.chunks(2).map(|two| two[0] << 4 | two[1]).collect();
        let user = "\u{30de}\u{30c8}\u{30ea}\u{30c3}\u{30af}\u{30b9}";
        let tag = message_integrity(user, b"example.org", "TheMatrIX", &message);
        let expected = "f67024656dd64a3e02b8e0712e85c9a28ca89666";
        let told: String = tag.iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(told, expected);
    }
}
