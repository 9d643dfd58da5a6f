//! Content that says whose it is: every byte follows from the flow, the message and the place.

use bytes::{Bytes, BytesMut};

use crate::flow::{Flow, Side};
use crate::random::mix;

/// The content of one message, or of one direction of a byte stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pattern {
    key: u64,
    mask: u64,
}

/// Takes the top bit off each byte: what is left is UTF-8.
const ASCII: u64 = 0x7f7f_7f7f_7f7f_7f7f;

impl Pattern {
    /// The content of a direction of a byte stream.
    pub fn of_bytes(flow: Flow) -> Self {
        Self { key: flow_key(flow), mask: u64::MAX }
    }

    /// The content of a message; text is valid UTF-8.
    pub fn of_message(flow: Flow, number: u64, is_text: bool) -> Self {
        let key = mix(flow_key(flow) ^ mix(number.wrapping_add(1)));
        Self { key, mask: if is_text { ASCII } else { u64::MAX } }
    }

    /// `len` bytes from `offset` on.
    pub fn bytes(&self, offset: u64, len: usize) -> Bytes {
        let mut out = BytesMut::with_capacity(len + 16);
        let mut word = offset / 8;
        let skip = (offset % 8) as usize;
        while out.len() < len + skip {
            out.extend_from_slice(&self.word(word));
            word += 1;
        }
        out.freeze().slice(skip..skip + len)
    }

    /// The place, counted from the start of the content, of the first byte that is wrong in `data`,
    /// which stands at `offset`.
    pub fn first_difference(&self, offset: u64, data: &[u8]) -> Option<u64> {
        let mut at = offset;
        let mut rest = data;
        while !rest.is_empty() {
            let skip = (at % 8) as usize;
            let word = self.word(at / 8);
            let count = rest.len().min(8 - skip);
            let (piece, after) = rest.split_at(count);
            if let Some(wrong) = piece.iter().zip(&word[skip..]).position(|(a, b)| a != b) {
                return Some(at + wrong as u64);
            }
            at += count as u64;
            rest = after;
        }
        None
    }

    fn word(&self, index: u64) -> [u8; 8] {
        (mix(self.key.wrapping_add(index.wrapping_mul(0x9e37_79b9_7f4a_7c15))) & self.mask)
            .to_le_bytes()
    }
}

fn flow_key(flow: Flow) -> u64 {
    let side = match flow.from.side {
        Side::Client => 1,
        Side::Server => 2,
    };
    mix(mix(u64::from(flow.from.pair) << 2 | side) ^ flow.stream.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::End;
    use jsp_wire::StreamId;

    fn flow(stream: u64) -> Flow {
        Flow { from: End { pair: 0, side: Side::Client }, stream: StreamId(stream) }
    }

    #[test]
    fn any_cut_of_the_content_is_recognised() {
        let pattern = Pattern::of_bytes(flow(2));
        let whole = pattern.bytes(0, 100);
        for (from, to) in [(0, 100), (1, 2), (7, 9), (8, 16), (13, 99), (50, 50)] {
            assert_eq!(
                pattern.bytes(from, (to - from) as usize),
                whole[from as usize..to as usize]
            );
            assert_eq!(pattern.first_difference(from, &whole[from as usize..to as usize]), None);
        }
    }

    #[test]
    fn a_wrong_byte_or_a_wrong_place_shows() {
        let pattern = Pattern::of_message(flow(2), 4, false);
        let mut data = pattern.bytes(0, 64).to_vec();
        data[37] ^= 1;
        assert_eq!(pattern.first_difference(0, &data), Some(37));
        assert!(pattern.first_difference(8, &pattern.bytes(0, 8)).is_some());
        let other = Pattern::of_message(flow(2), 5, false);
        assert!(other.first_difference(0, &pattern.bytes(0, 64)).is_some());
        let elsewhere = Pattern::of_message(flow(4), 4, false);
        assert!(elsewhere.first_difference(0, &pattern.bytes(0, 64)).is_some());
    }

    #[test]
    fn text_is_utf8() {
        let text = Pattern::of_message(flow(0), 1, true).bytes(3, 1000);
        assert!(std::str::from_utf8(&text).is_ok());
    }
}
