//! The code itself: three syllable words that one side reads out and the other types.

use std::fmt;
use std::str::FromStr;

use jsp::Identity;
use jsp_crypto::{Rng, SystemRng};

use crate::exit::{Exit, Failure};

/// Bits of the public part, which says where the two meet, of the secret, and of the sum that finds typing
/// errors before they cost the code.
const PLACE_BITS: u32 = 20;
const SECRET_BITS: u32 = 24;
const CHECK_BITS: u32 = 4;
/// A prime below 2^4.
const CHECK_MODULUS: u64 = 13;

/// A word holds 16 bits: consonants of four, vowels of two, one after the other (as in proquints,
/// arXiv:0901.4016), chosen so that no two sound alike.
const CONSONANTS: &[u8; 16] = b"bdfghjklmnprstvz";
const VOWELS: &[u8; 4] = b"aiou";
const WORD_BITS: u32 = 16;
const WORDS: u32 = (PLACE_BITS + SECRET_BITS + CHECK_BITS) / WORD_BITS;
/// Bits of each letter of a word, the last letter first.
const LETTERS: [u32; 5] = [4, 2, 4, 2, 4];

/// A code for one transfer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Code {
    place: u32,
    secret: u32,
}

impl Code {
    /// A code that nobody has yet, in all likelihood.
    pub(crate) fn random() -> Self {
        let mut bytes = [0; 8];
        SystemRng.fill(&mut bytes);
        let [a, b, c, d, e, f, g, h] = bytes;
        Self {
            place: u32::from_be_bytes([a, b, c, d]) >> (u32::BITS - PLACE_BITS),
            secret: u32::from_be_bytes([e, f, g, h]) >> (u32::BITS - SECRET_BITS),
        }
    }

    fn value(self) -> u64 {
        let value = (u64::from(self.place) << SECRET_BITS) | u64::from(self.secret);
        (value << CHECK_BITS) | (value % CHECK_MODULUS)
    }

    /// The identity under which the side that waits is found at the coordinator. Whoever knows the public part of the
    /// code can have it: it is an address, and proves nothing.
    pub(crate) fn place(self) -> Result<Identity, Failure> {
        let context = "JetStreamProto tools 2026 place where two with a code meet";
        let seed = blake3::derive_key(context, &self.place.to_be_bytes());
        Identity::from_seed(&seed)
            .ok_or_else(|| Failure::new(Exit::Keys, "this code leads nowhere; make another"))
    }

    /// The password of the exchange that proves both sides to each other.
    pub(crate) fn password(self) -> [u8; 8] {
        self.value().to_be_bytes()
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.value();
        for word in (0..WORDS).rev() {
            let mut rest = (value >> (word * WORD_BITS)) & 0xffff;
            let mut letters = [0; LETTERS.len()];
            for (letter, bits) in letters.iter_mut().rev().zip(LETTERS) {
                let alphabet: &[u8] = if bits == 4 { CONSONANTS } else { VOWELS };
                let index = (rest & ((1 << bits) - 1)) as usize;
                *letter = alphabet.get(index).copied().unwrap_or_default();
                rest >>= bits;
            }
            f.write_str(&String::from_utf8_lossy(&letters))?;
            if word > 0 {
                f.write_str("-")?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Code(..)")
    }
}

impl FromStr for Code {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let no_code = || {
            format!(
                "{text:?} is no code; codes look like {}",
                Self { place: 0x7_a3c1, secret: 0x91_e44b }
            )
        };
        let mut value = 0_u64;
        let mut count = 0;
        for letter in text.bytes().filter(|byte| !matches!(byte, b'-' | b' ')) {
            let bits = *LETTERS.get(count % LETTERS.len()).ok_or_else(no_code)?;
            let alphabet: &[u8] = if bits == 4 { CONSONANTS } else { VOWELS };
            let letter = letter.to_ascii_lowercase();
            let index = alphabet.iter().position(|known| *known == letter).ok_or_else(no_code)?;
            value = (value << bits) | index as u64;
            count += 1;
            if count > LETTERS.len() * WORDS as usize {
                return Err(no_code());
            }
        }
        if count != LETTERS.len() * WORDS as usize {
            return Err(no_code());
        }
        let secret = (value >> CHECK_BITS) & ((1 << SECRET_BITS) - 1);
        let place = value >> (CHECK_BITS + SECRET_BITS);
        let code = Self { place: place as u32, secret: secret as u32 };
        if code.value() != value {
            return Err(format!("{text:?} has a letter wrong; compare it with what was printed"));
        }
        Ok(code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_reads_as_it_was_written() {
        for _ in 0..1000 {
            let code = Code::random();
            let text = code.to_string();
            assert_eq!(text.len(), 17, "{text}");
            assert_eq!(text.parse(), Ok(code));
            assert_eq!(text.to_uppercase().replace('-', " ").parse(), Ok(code));
            assert_eq!(text.replace('-', "").parse(), Ok(code));
        }
        assert!(!format!("{:?}", Code::random()).contains('-'), "codes are not logged");
    }

    #[test]
    fn what_is_no_code_is_told_apart() {
        let text = Code { place: 1, secret: 2 }.to_string();
        for bad in ["", "a.iso", "babab", &text[1..], &format!("{text}b"), &format!("{text}-babab")]
        {
            assert!(bad.parse::<Code>().unwrap_err().contains("no code"), "{bad}");
        }
    }

    #[test]
    fn nearly_every_wrong_letter_is_noticed() {
        let (mut tried, mut taken) = (0, 0);
        for code in std::iter::repeat_with(Code::random).take(100) {
            let text = code.to_string();
            for at in (0..text.len()).filter(|at| text.as_bytes()[*at] != b'-') {
                let is_vowel = VOWELS.contains(&text.as_bytes()[at]);
                let alphabet: &[u8] = if is_vowel { VOWELS } else { CONSONANTS };
                for letter in alphabet.iter().filter(|letter| **letter != text.as_bytes()[at]) {
                    let mut changed = text.clone().into_bytes();
                    changed[at] = *letter;
                    let changed = String::from_utf8(changed).unwrap();
                    tried += 1;
                    taken += u32::from(changed.parse::<Code>().is_ok());
                }
            }
        }
        assert!(taken * 30 < tried, "{taken} of {tried}");
    }

    #[test]
    fn the_place_is_in_the_public_part_alone() {
        let fingerprint = |place, secret| Code { place, secret }.place().unwrap().fingerprint();
        assert_eq!(fingerprint(5, 1), fingerprint(5, 2));
        assert_ne!(fingerprint(5, 1), fingerprint(6, 1));
        assert_ne!(
            Code { place: 5, secret: 1 }.password(),
            Code { place: 5, secret: 2 }.password()
        );
    }
}
