//! What one worker process does: an exercise and its sizes, handed from the runner to
//! both sides as JSON.

use serde::{Deserialize, Serialize};

/// What client and server do together. A workload is one or more exercises over paths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Exercise {
    /// Bytes on some streams, each confirmed at its end.
    Transfer,
    /// Framed messages on one stream, a call per message.
    Messages,
    /// A stream per message.
    MessagePerStream,
    /// Unreliable datagrams, as fast as the subject takes them.
    Datagrams,
    /// One message there and back, again and again.
    Pingpong,
    /// One connection after another.
    Connect,
    /// Connections made by many tasks at once.
    ConnectMany,
    /// One connection and then silence, for counting its bytes.
    Hello,
    /// Messages one interval apart, for counting their bytes.
    Paced,
    /// Many connections that do nothing.
    Idle,
    /// Bytes on a stream of each of many connections at once, for a time.
    Crowd,
    /// Connections under a flood of hellos.
    Flood,
}

/// The sizes of an exercise; those it does not use are 0.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Plan {
    /// Bytes to transfer, over all streams.
    pub(crate) bytes: u64,
    /// Streams at once, connecting tasks at once, or connections that send at once.
    pub(crate) streams: u32,
    /// Bytes of a message or datagram.
    pub(crate) message_bytes: usize,
    /// Messages, round trips or connections.
    pub(crate) count: u64,
    /// How long a timed exercise takes, idle connections are watched, or how long a transfer may take; milliseconds.
    pub(crate) millis: u64,
    /// Gather messages in 16 KiB writes, as an application might.
    pub(crate) gathered: bool,
    /// Packets as large as the path carries, where the subject finds that out.
    pub(crate) large: bool,
    /// Unreliable delivery, where the exercise leaves the choice.
    pub(crate) unreliable: bool,
}
