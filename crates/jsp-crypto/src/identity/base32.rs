//! Base32 in lower case without padding (RFC 4648, section 6), for short texts
//! that people compare and type.

use alloc::string::String;
use alloc::vec::Vec;

const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

pub(super) fn encode(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len().saturating_mul(2));
    let mut push = |value: u32| {
        let index = usize::try_from(value & 31).unwrap_or(0);
        out.push(char::from(ALPHABET.get(index).copied().unwrap_or(b'a')));
    };
    let mut bits = 0u32;
    let mut held = 0u32;
    for byte in bytes {
        bits = ((bits & 0xff) << 8) | u32::from(*byte);
        held = held.saturating_add(8);
        while held >= 5 {
            held = held.saturating_sub(5);
            push(bits >> held);
        }
    }
    if held > 0 {
        push(bits << 5u32.saturating_sub(held));
    }
    out
}

/// `None` for another character, or for leftover bits that are not zero.
/// Upper and lower case are read alike.
pub(super) fn decode(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut bits = 0u32;
    let mut held = 0u32;
    for byte in text.bytes() {
        let byte = byte.to_ascii_lowercase();
        let value = ALPHABET.iter().position(|letter| *letter == byte)?;
        bits = ((bits & 0xff) << 5) | u32::try_from(value).ok()?;
        held = held.saturating_add(5);
        if held >= 8 {
            held = held.saturating_sub(8);
            out.push(u8::try_from((bits >> held) & 0xff).ok()?);
        }
    }
    let leftover = bits & (1u32.checked_shl(held)?.saturating_sub(1));
    (held < 5 && leftover == 0).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc_4648_vectors() {
        for (plain, text) in [
            ("", ""),
            ("f", "my"),
            ("fo", "mzxq"),
            ("foo", "mzxw6"),
            ("foob", "mzxw6yq"),
            ("fooba", "mzxw6ytb"),
            ("foobar", "mzxw6ytboi"),
        ] {
            assert_eq!(encode(plain.as_bytes()), text);
            assert_eq!(decode(text).unwrap(), plain.as_bytes());
        }
        assert_eq!(decode("mz1q"), None);
        assert_eq!(decode("mb"), None, "leftover bits");
        assert_eq!(decode("m"), None, "a lone letter holds no byte");
        assert_eq!(decode("a"), None, "nor does one that stands for zeros");
    }

    #[test]
    fn every_byte_survives() {
        let all: Vec<u8> = (0..=255).collect();
        for len in 0..all.len() {
            assert_eq!(decode(&encode(&all[..len])).unwrap(), &all[..len]);
        }
    }
}
