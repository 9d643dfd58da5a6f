//! What must hold of the records of the command line, whatever the peer sends: they are the same however
//! the network cuts them, hold no more than the limits, and name no file outside of the folder.

use std::path::{Component, Path};

use bytes::{Bytes, BytesMut};
use minicbor::{Decode, Encode};

use super::path::SafePath;
use super::record::{
    Complete, DATA_MAX, FileHead, FolderHead, From, HEADER_LEN, Have, Offer, Parser, Record,
    Refused, Stored, kind, put_record,
};
use crate::protocol::{CONTROL_MAX, decode, encode};

/// The first byte says how the rest, a stream of records, is cut. Answers how many records it holds.
pub fn records(data: &[u8]) -> usize {
    let Some((cut, stream)) = data.split_first() else { return 0 };
    let (whole, whole_fails) = parse(stream, usize::MAX);
    let (cut, cut_fails) = parse(stream, usize::from(*cut).max(1));
    assert_eq!(whole, cut, "records depend on how the stream is cut");
    assert_eq!(whole_fails, cut_fails);
    // What was read is the start of the stream.
    assert!(stream.starts_with(&whole.bytes));
    for (kind, content) in &whole.controls {
        assert!(content.len() <= CONTROL_MAX);
        control(*kind, content);
    }
    whole.controls.len() + usize::from(whole.data_len > 0)
}

/// What a stream holds.
#[derive(Default, PartialEq, Eq, Debug)]
struct Heard {
    controls: Vec<(u8, Vec<u8>)>,
    data_len: usize,
    /// Control records as they would be sent, up to the first record of data.
    bytes: Vec<u8>,
}

/// The records of a stream that comes in pieces, and whether it makes sense to the end.
fn parse(stream: &[u8], piece: usize) -> (Heard, bool) {
    let (mut parser, mut heard) = (Parser::default(), Heard::default());
    for chunk in stream.chunks(piece) {
        parser.push(Bytes::copy_from_slice(chunk));
        loop {
            match parser.next() {
                Ok(Some(Record::Control(kind, content))) => {
                    if heard.data_len == 0 && !has_empty_data(stream, &heard.bytes) {
                        let mut out = BytesMut::new();
                        put_record(&mut out, kind, &content);
                        heard.bytes.extend_from_slice(&out);
                    }
                    heard.controls.push((kind, content));
                }
                Ok(Some(Record::Data(pieces))) => {
                    let len: usize = pieces.iter().map(Bytes::len).sum();
                    assert!((1..=DATA_MAX).contains(&len));
                    heard.data_len += len;
                }
                Ok(None) => break,
                Err(_) => return (heard, true),
            }
        }
    }
    (heard, false)
}

/// Data of no length are no record, but stand in the stream.
fn has_empty_data(stream: &[u8], known: &[u8]) -> bool {
    stream.get(known.len()..).is_some_and(|rest| rest.first() == Some(&kind::DATA))
}

/// A control structure that reads is written as it was understood, and what it names is safe.
fn control(kind: u8, content: &[u8]) {
    match kind {
        kind::OFFER => drop(again::<Offer>(content)),
        kind::FILE => {
            if let Some(head) = again::<FileHead>(content) {
                name(&head.path);
            }
        }
        kind::FOLDER => {
            if let Some(head) = again::<FolderHead>(content) {
                name(&head.path);
            }
        }
        kind::STORED => {
            if let Some(stored) = again::<Stored>(content) {
                stored.renamed.as_deref().map(name);
            }
        }
        kind::REFUSED => drop(again::<Refused>(content)),
        kind::COMPLETE => drop(again::<Complete>(content)),
        kind::HAVE => drop(again::<Have>(content)),
        kind::FROM => drop(again::<From>(content)),
        _ => {}
    }
    assert!(HEADER_LEN + content.len() <= HEADER_LEN + CONTROL_MAX);
}

fn again<T>(content: &[u8]) -> Option<T>
where
    T: for<'b> Decode<'b, ()> + Encode<()> + PartialEq + std::fmt::Debug,
{
    let read: T = decode(content).ok()?;
    let bytes = encode(&read);
    assert_eq!(decode::<T>(&bytes).as_ref(), Ok(&read));
    Some(read)
}

/// A name that is taken stays below the folder.
fn name(text: &str) {
    let Ok(path) = SafePath::parse(text) else { return };
    assert_eq!(path.as_str(), text);
    for path in [Ok(path.clone()), path.numbered(2)].into_iter().flatten() {
        let below = path.below(Path::new("folder"));
        let mut components = below.components();
        assert_eq!(components.next(), Some(Component::Normal("folder".as_ref())));
        let mut count = 0;
        for component in components {
            assert!(matches!(component, Component::Normal(_)), "{below:?}");
            count += 1;
        }
        assert_eq!(count, path.parts().count());
        assert!(!path.as_str().chars().any(char::is_control));
    }
}
