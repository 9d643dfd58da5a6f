//! What the streams tell the application.

use std::collections::VecDeque;

use jsp_wire::StreamId;

use super::config::MessageFate;

/// Something that the application should hear.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum StreamEvent {
    /// The peer opened a stream; `accept` names it.
    Opened(StreamId),
    /// There is something to read, or the end of the stream.
    Readable(StreamId),
    /// A stream whose buffer was full takes data again.
    Writable(StreamId),
    /// The peer allows more streams after `open` was refused.
    StreamsAvailable,
    /// What became of a message whose fate was asked for.
    Fate { stream: StreamId, number: u64, fate: MessageFate },
    /// The peer wants no more of a stream.
    SendStopped { stream: StreamId, code: u64 },
    /// The peer has everything that was sent on a finished stream.
    SendFinished(StreamId),
    /// The peer's application has taken all messages below this number.
    Consumed { stream: StreamId, below: u64 },
    /// A stream that was watched is over on both sides: nothing more is told of it.
    Forgotten(StreamId),
}

/// Events that wait to be polled.
pub(super) type Events = VecDeque<StreamEvent>;
