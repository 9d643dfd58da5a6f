//! What `jsp` programs say to each other: `docs/TOOLS.md` describes it.

use jsp::{Message, StreamConfig};

use crate::exit::{Exit, Failure};

/// Named in the handshake by both sides; another name is another protocol.
pub(crate) const APPLICATION_PROTOCOL: &[u8] = b"jsp-tools/1";

/// Labels of streams: which service a stream is for.
pub(crate) mod label {
    pub(crate) const FILE: &str = "file";
    pub(crate) const CHAT: &str = "chat";
    pub(crate) const CODE: &str = "code";
    pub(crate) const PING: &str = "ping";
    pub(crate) const PERF: &str = "perf";
    pub(crate) const PERF_DATA: &str = "perf-data";
}

/// All is well.
pub(crate) const DONE: u64 = 0;
/// The user pressed Ctrl-C.
pub(crate) const INTERRUPTED: u64 = 1;
/// The service is not offered here, or not to this client.
pub(crate) const REFUSED: u64 = 2;
/// A record or message makes no sense.
pub(crate) const MALFORMED: u64 = 3;
/// A limit of the protocol or of the server was passed.
pub(crate) const OVER_LIMIT: u64 = 4;
/// The two sides have different codes.
pub(crate) const WRONG_CODE: u64 = 5;

/// How this side leaves when the peer closed or stopped with `code`.
pub(crate) fn exit_of(code: u64) -> Exit {
    match code {
        INTERRUPTED | DONE => Exit::PeerVanished,
        WRONG_CODE => Exit::WrongIdentity,
        _ => Exit::Refused,
    }
}

/// What `code` says.
pub(crate) fn sentence_of(code: u64) -> String {
    match code {
        DONE => "the peer wants no more of the stream; it has ended its work".into(),
        INTERRUPTED => "the peer was interrupted; try again when it runs".into(),
        REFUSED => "the peer does not offer this service; ask who runs it".into(),
        MALFORMED => "the peer did not understand; both sides need the same version of jsp".into(),
        OVER_LIMIT => "a limit of the peer was passed; ask for less".into(),
        WRONG_CODE => "the peer has another code; make a new one".into(),
        code => format!("the peer stopped with code {code}, which this version does not know"),
    }
}

/// The peer said something that makes no sense.
pub(crate) fn malformed(what: &str) -> Failure {
    Failure::new(
        Exit::Refused,
        format!("the peer sent {what}; both sides need the same version of jsp"),
    )
}

/// A stream of files: bytes that take what the other streams leave.
pub(crate) fn file_stream() -> StreamConfig {
    StreamConfig::file().labelled(label::FILE)
}

/// Lines of text.
pub(crate) fn chat_stream() -> StreamConfig {
    StreamConfig::chat().labelled(label::CHAT)
}

/// The proof that both sides know the same code.
pub(crate) fn code_stream() -> StreamConfig {
    StreamConfig::messages().labelled(label::CODE)
}

/// Unreliable messages that come back.
pub(crate) fn ping_stream() -> StreamConfig {
    let config = StreamConfig { ordered: false, ..StreamConfig::voice() };
    config.labelled(label::PING)
}

/// The control stream of a measurement.
pub(crate) fn perf_stream() -> StreamConfig {
    StreamConfig::messages().labelled(label::PERF)
}

/// Longest control structure, in bytes: a path and some numbers.
pub(crate) const CONTROL_MAX: usize = 16 << 10;

/// A control structure as a message.
pub(crate) fn message_of(value: &impl minicbor::Encode<()>) -> Message {
    Message::binary(encode(value))
}

/// A control structure as bytes.
pub(crate) fn encode(value: &impl minicbor::Encode<()>) -> Vec<u8> {
    let mut out = Vec::new();
    // Writing into a vector cannot fail; an error would leave the structure empty, which the peer
    // refuses.
    let _ = minicbor::encode(value, &mut out);
    out
}

/// A control structure from the peer.
pub(crate) fn decode<'b, T: minicbor::Decode<'b, ()>>(bytes: &'b [u8]) -> Result<T, Failure> {
    if bytes.len() > CONTROL_MAX {
        return Err(malformed("a control structure that is too long"));
    }
    minicbor::decode(bytes).map_err(|_| malformed("a control structure that cannot be read"))
}
