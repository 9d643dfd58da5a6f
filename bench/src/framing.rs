//! Messages in a stream of bytes: what a program on TCP or a QUIC stream has to add for
//! itself. A length of seven bits a byte, low bits first, then the message.

use anyhow::{Result, bail};
use bytes::{Buf, Bytes, BytesMut};

/// The longest message the decoder accepts.
const MAX_MESSAGE_BYTES: usize = 1 << 20;

/// Lays messages out for writing, one at a time or gathered.
#[derive(Debug, Default)]
pub(crate) struct Encoder {
    buffer: Vec<u8>,
    /// Bytes gathered before a write is due; 0 for a write per message.
    gather: usize,
}

impl Encoder {
    /// An encoder that asks for a write once `gather` bytes wait.
    pub(crate) fn new(gather: usize) -> Self {
        Self { buffer: Vec::with_capacity(gather + 128), gather }
    }

    /// Adds a message; the bytes to write now, if a write is due. Call `clear` once they are
    /// written.
    pub(crate) fn push(&mut self, message: &[u8]) -> Option<&[u8]> {
        let mut rest = message.len();
        while rest >= 0x80 {
            self.buffer.push((rest & 0x7f) as u8 | 0x80);
            rest >>= 7;
        }
        self.buffer.push(rest as u8);
        self.buffer.extend_from_slice(message);
        (self.buffer.len() >= self.gather).then_some(&self.buffer)
    }

    /// What waits to be written.
    pub(crate) fn waiting(&self) -> &[u8] {
        &self.buffer
    }

    /// Forgets what has been written.
    pub(crate) fn clear(&mut self) {
        self.buffer.clear();
    }
}

/// Takes messages out of the bytes that arrive.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    buffer: Bytes,
}

impl Decoder {
    /// Adds bytes as they arrived; without a copy when no part of a message waits.
    pub(crate) fn feed(&mut self, piece: Bytes) {
        if self.buffer.is_empty() {
            self.buffer = piece;
        } else {
            let mut joined = BytesMut::with_capacity(self.buffer.len() + piece.len());
            joined.extend_from_slice(&self.buffer);
            joined.extend_from_slice(&piece);
            self.buffer = joined.freeze();
        }
    }

    /// The next whole message; `None` when more bytes are needed.
    pub(crate) fn next(&mut self) -> Result<Option<Bytes>> {
        let (mut length, mut shift) = (0_usize, 0);
        for (index, byte) in self.buffer.iter().enumerate() {
            length |= usize::from(byte & 0x7f) << shift;
            shift += 7;
            if length > MAX_MESSAGE_BYTES || shift > 28 {
                bail!("a message of {length} bytes or more is over the bench's limit");
            }
            if byte & 0x80 == 0 {
                let head = index + 1;
                if self.buffer.len() < head + length {
                    return Ok(None);
                }
                self.buffer.advance(head);
                return Ok(Some(self.buffer.split_to(length)));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_survive_any_cut() {
        let messages: Vec<Vec<u8>> =
            [0, 1, 64, 127, 128, 300, 20_000].iter().map(|&n| vec![n as u8; n]).collect();
        let mut encoder = Encoder { gather: usize::MAX, ..Encoder::default() };
        for message in &messages {
            assert!(encoder.push(message).is_none());
        }
        let wire = Bytes::copy_from_slice(encoder.waiting());
        for cut in [1, 2, 63, 65, 1000, wire.len()] {
            let (mut decoder, mut got) = (Decoder::default(), Vec::new());
            for piece in wire.chunks(cut) {
                decoder.feed(Bytes::copy_from_slice(piece));
                while let Some(message) = decoder.next().unwrap() {
                    got.push(message.to_vec());
                }
            }
            assert_eq!(got, messages, "pieces of {cut}");
        }
    }

    #[test]
    fn a_write_is_due_per_message_or_when_enough_wait() {
        let mut single = Encoder::new(0);
        assert_eq!(single.push(b"ab").map(<[u8]>::len), Some(3));
        let mut gathered = Encoder::new(6);
        assert_eq!(gathered.push(b"ab"), None);
        assert_eq!(gathered.push(b"cd").map(<[u8]>::len), Some(6));
        gathered.clear();
        assert!(gathered.waiting().is_empty());
    }

    #[test]
    fn an_endless_length_is_refused() {
        let mut decoder = Decoder::default();
        decoder.feed(Bytes::from_static(&[0xff; 16]));
        assert!(decoder.next().is_err());
    }
}
