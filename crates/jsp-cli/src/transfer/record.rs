//! What travels on a stream of files: records of a kind, a length and a content.

use std::collections::VecDeque;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use jsp::RecvStream;
use minicbor::{Decode, Encode};

use crate::exit::Failure;
use crate::protocol::{CONTROL_MAX, decode, encode, malformed};

/// Kind and length.
pub(crate) const HEADER_LEN: usize = 5;
/// Longest content of a DATA record, in bytes.
pub(crate) const DATA_MAX: usize = 128 << 10;
/// Bytes taken from the stream at once.
const READ_MAX: usize = 256 << 10;
/// Length of a BLAKE3 hash.
pub(crate) const HASH_LEN: usize = 32;
/// Length of the name by which a sender finds an unfinished file again.
pub(crate) const TOKEN_LEN: usize = 16;
/// Files of this many bytes are worth a round trip to learn what of them is there already.
pub(crate) const RESUME_MIN: u64 = 1 << 20;

/// Kinds of records. The receiver refuses kinds that it does not know.
pub(crate) mod kind {
    pub(crate) const OFFER: u8 = 1;
    pub(crate) const FILE: u8 = 2;
    pub(crate) const DATA: u8 = 3;
    pub(crate) const END: u8 = 4;
    pub(crate) const SKIP: u8 = 5;
    pub(crate) const FOLDER: u8 = 6;
    pub(crate) const FINISH: u8 = 7;
    pub(crate) const FROM: u8 = 8;
    pub(crate) const STORED: u8 = 16;
    pub(crate) const REFUSED: u8 = 17;
    pub(crate) const COMPLETE: u8 = 18;
    pub(crate) const HAVE: u8 = 19;
}

/// The first record: what is to come, for progress only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Offer {
    #[n(0)]
    pub(crate) files: u64,
    #[n(1)]
    pub(crate) bytes: u64,
}

/// Names one version of one file of one sender. Who knows it may go on with the file: it cannot be
/// printed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
#[cbor(transparent)]
pub(crate) struct Token(#[cbor(n(0), with = "minicbor::bytes")] pub(crate) [u8; TOKEN_LEN]);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(..)")
    }
}

/// A file begins. Its data follows, then END or SKIP.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct FileHead {
    #[n(0)]
    pub(crate) path: String,
    /// As the sender's file system says; the data may be longer or shorter.
    #[n(1)]
    pub(crate) size: u64,
    #[n(2)]
    pub(crate) executable: bool,
    /// Seconds since 1970.
    #[n(3)]
    pub(crate) modified: Option<u64>,
    /// Names this version of the file at this receiver, and is known to the sender alone: who knows
    /// it may go on where an earlier transfer broke off.
    #[n(4)]
    pub(crate) token: Option<Token>,
}

impl FileHead {
    /// Where the receiver is to say first what it has.
    pub(crate) fn resumable(&self) -> Option<Token> {
        self.token.filter(|_| self.size >= RESUME_MIN)
    }
}

/// What the receiver has of a file that the sender may have begun before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Have {
    #[n(0)]
    pub(crate) item: u64,
    /// Bytes from the start of the file.
    #[n(1)]
    pub(crate) bytes: u64,
    /// Their hash.
    #[n(2)]
    #[cbor(with = "minicbor::bytes")]
    pub(crate) hash: [u8; HASH_LEN],
}

/// Where in the file the data go on: at what the receiver has, or at 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct From {
    #[n(0)]
    pub(crate) offset: u64,
}

/// A folder, which may be empty.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct FolderHead {
    #[n(0)]
    pub(crate) path: String,
}

/// The receiver has stored an item and checked its hash.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Stored {
    /// Files and folders are counted together from 0.
    #[n(0)]
    pub(crate) item: u64,
    /// What the receiver has hashed; `None` for folders.
    #[n(1)]
    #[cbor(with = "minicbor::bytes")]
    pub(crate) hash: Option<[u8; HASH_LEN]>,
    /// Where it is, when not under its own name.
    #[n(2)]
    pub(crate) renamed: Option<String>,
}

/// The receiver has not stored an item.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Refused {
    #[n(0)]
    pub(crate) item: u64,
    /// A sentence.
    #[n(1)]
    pub(crate) why: String,
}

/// The receiver's last word: everything is on its disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Complete {
    #[n(0)]
    pub(crate) stored: u64,
    #[n(1)]
    pub(crate) refused: u64,
}

/// Appends a record with a control structure.
pub(crate) fn put_control(out: &mut BytesMut, kind: u8, value: &impl Encode<()>) {
    put_record(out, kind, &encode(value));
}

/// Appends a record. `content` is at most [`DATA_MAX`] long.
pub(crate) fn put_record(out: &mut BytesMut, kind: u8, content: &[u8]) {
    out.reserve(HEADER_LEN + content.len());
    out.put_slice(&header(kind, content.len()));
    out.put_slice(content);
}

/// The head of a record with `len` bytes of content.
pub(crate) fn header(kind: u8, len: usize) -> [u8; HEADER_LEN] {
    let [a, b, c, d] = u32::try_from(len).unwrap_or(u32::MAX).to_be_bytes();
    [kind, a, b, c, d]
}

/// A record as it arrives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Record {
    /// A control structure, or the hash of END.
    Control(u8, Vec<u8>),
    /// Content of a file, in pieces as the network brought them; a record may come in several.
    Data(Vec<Bytes>),
}

impl Record {
    /// The control structure of a record of this kind.
    pub(crate) fn expect<T: for<'b> Decode<'b, ()>>(&self, wanted: u8) -> Result<T, Failure> {
        match self {
            Self::Control(kind, content) if *kind == wanted => decode(content),
            _ => Err(malformed("a record at the wrong place")),
        }
    }
}

/// Takes records out of a stream of bytes. Holds one control structure at most, and what one read
/// has brought.
#[derive(Debug, Default)]
pub(crate) struct Parser {
    chunks: VecDeque<Bytes>,
    len: usize,
    /// Bytes of the DATA record that are still to come.
    data_left: usize,
}

impl Parser {
    /// What the network brought.
    pub(crate) fn push(&mut self, chunk: Bytes) {
        self.len += chunk.len();
        if !chunk.is_empty() {
            self.chunks.push_back(chunk);
        }
    }

    /// True when nothing of an unfinished record is left.
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0 && self.data_left == 0
    }

    /// The next record, if enough of it is there.
    pub(crate) fn next(&mut self) -> Result<Option<Record>, Failure> {
        loop {
            if self.data_left > 0 {
                if self.len == 0 {
                    return Ok(None);
                }
                let take = self.data_left.min(self.len);
                self.data_left -= take;
                return Ok(Some(Record::Data(self.take(take))));
            }
            let Some((kind, len)) = self.peek_header() else { return Ok(None) };
            if kind == kind::DATA {
                if len > DATA_MAX {
                    return Err(malformed("a piece of a file that is too long"));
                }
                self.take(HEADER_LEN);
                self.data_left = len;
                continue;
            }
            if len > CONTROL_MAX {
                return Err(malformed("a record that is too long"));
            }
            if self.len < HEADER_LEN + len {
                return Ok(None);
            }
            self.take(HEADER_LEN);
            let mut content = Vec::with_capacity(len);
            self.take(len).iter().for_each(|piece| content.extend_from_slice(piece));
            return Ok(Some(Record::Control(kind, content)));
        }
    }

    fn peek_header(&self) -> Option<(u8, usize)> {
        let mut bytes = self.chunks.iter().flat_map(|chunk| chunk.iter().copied());
        let kind = bytes.next()?;
        let mut len = [0; 4];
        for byte in &mut len {
            *byte = bytes.next()?;
        }
        Some((kind, usize::try_from(u32::from_be_bytes(len)).unwrap_or(usize::MAX)))
    }

    /// The first `count` bytes; the caller has seen that they are there.
    fn take(&mut self, count: usize) -> Vec<Bytes> {
        let mut taken = Vec::new();
        let mut left = count.min(self.len);
        self.len -= left;
        while left > 0 {
            let Some(front) = self.chunks.front_mut() else { break };
            let piece = front.split_to(left.min(front.len()));
            left -= piece.len();
            if !front.has_remaining() {
                self.chunks.pop_front();
            }
            taken.push(piece);
        }
        taken
    }
}

/// Records of a receiving stream.
#[derive(Debug)]
pub(crate) struct RecordReader {
    stream: RecvStream,
    parser: Parser,
    chunks: Vec<Bytes>,
}

impl RecordReader {
    pub(crate) fn new(stream: RecvStream) -> Self {
        Self { stream, parser: Parser::default(), chunks: Vec::new() }
    }

    /// The next record; `None` at the end of the stream. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Result<Option<Record>, Failure> {
        loop {
            if let Some(record) = self.parser.next()? {
                return Ok(Some(record));
            }
            if self.stream.read_chunks(&mut self.chunks, READ_MAX).await? == 0 {
                if self.parser.is_empty() {
                    return Ok(None);
                }
                return Err(malformed("a stream that ends inside a record"));
            }
            self.chunks.drain(..).for_each(|chunk| self.parser.push(chunk));
        }
    }

    /// Wants no more.
    pub(crate) fn stop(&self, code: u64) {
        self.stream.stop(code);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head() -> FileHead {
        FileHead {
            path: "a/b".into(),
            size: 3,
            executable: true,
            modified: Some(1),
            token: Some(Token([9; TOKEN_LEN])),
        }
    }

    fn sample() -> BytesMut {
        let mut out = BytesMut::new();
        put_control(&mut out, kind::OFFER, &Offer { files: 1, bytes: 3 });
        put_control(&mut out, kind::FILE, &head());
        put_record(&mut out, kind::DATA, b"abc");
        put_record(&mut out, kind::DATA, b"");
        put_record(&mut out, kind::END, &[7; HASH_LEN]);
        out
    }

    fn parse(bytes: &[u8], piece: usize) -> Result<(Vec<Record>, bool), Failure> {
        let mut parser = Parser::default();
        let mut records = Vec::new();
        for chunk in bytes.chunks(piece) {
            parser.push(Bytes::copy_from_slice(chunk));
            while let Some(record) = parser.next()? {
                records.push(record);
            }
        }
        Ok((records, parser.is_empty()))
    }

    #[test]
    fn records_round_trip_however_they_are_cut() {
        let bytes = sample();
        for piece in 1..=bytes.len() {
            let (records, ended) = parse(&bytes, piece).unwrap();
            assert!(ended);
            assert_eq!(records[0].expect::<Offer>(kind::OFFER), Ok(Offer { files: 1, bytes: 3 }));
            assert_eq!(records[1].expect::<FileHead>(kind::FILE), Ok(head()));
            let mut data = Vec::new();
            for record in &records {
                if let Record::Data(pieces) = record {
                    pieces.iter().for_each(|piece| data.extend_from_slice(piece));
                }
            }
            assert_eq!(data, b"abc");
            assert_eq!(records.last(), Some(&Record::Control(kind::END, vec![7; HASH_LEN])));
        }
    }

    #[test]
    fn every_truncation_is_seen() {
        let bytes = sample();
        let ends: Vec<usize> =
            (0..bytes.len()).filter(|len| parse(&bytes[..*len], 7).unwrap().1).collect();
        // Only between records.
        assert_eq!(ends.len(), 5, "{ends:?}");
    }

    #[test]
    fn lengths_of_a_hostile_peer_allocate_nothing() {
        let data = [kind::DATA, 0xff, 0xff, 0xff, 0xff];
        assert!(parse(&data, 5).is_err());
        let control = [kind::FILE, 0, 1, 0, 0];
        assert!(parse(&control, 5).is_err());
    }

    #[test]
    fn every_bit_flip_of_a_structure_is_refused_or_harmless() {
        let good = encode(&head());
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            // Must not panic; what still decodes is checked by its user.
            let _ = decode::<FileHead>(&bad);
            let _ = decode::<Stored>(&bad);
            let _ = decode::<Have>(&bad);
        }
        for len in 0..good.len() {
            assert!(decode::<FileHead>(&good[..len]).is_err());
        }
        // A text that claims 2^63 bytes.
        assert!(decode::<FolderHead>(&[0x81, 0x7b, 0x80, 0, 0, 0, 0, 0, 0, 0]).is_err());
        assert!(decode::<Complete>(&vec![0; CONTROL_MAX + 1]).is_err());
    }

    #[test]
    fn heads_of_older_senders_have_no_token() {
        let old = [0x84, 0x63, b'a', b'/', b'b', 0x1a, 0, 0x10, 0, 0, 0xf4, 0xf6];
        let head: FileHead = decode(&old).unwrap();
        assert_eq!((head.size, head.token, head.resumable()), (RESUME_MIN, None, None));
        let head = FileHead { token: Some(Token([1; TOKEN_LEN])), ..head };
        assert_eq!(head.resumable(), head.token);
        assert_eq!(FileHead { size: RESUME_MIN - 1, ..head }.resumable(), None);
    }

    #[test]
    fn a_record_at_the_wrong_place_is_an_error() {
        let record = Record::Control(kind::OFFER, encode(&head()));
        assert!(record.expect::<FileHead>(kind::FILE).is_err());
        assert!(Record::Data(Vec::new()).expect::<FileHead>(kind::FILE).is_err());
    }
}
