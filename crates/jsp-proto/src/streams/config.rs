//! What the application says about a stream and about a single message.

use core::time::Duration;

use bytes::Bytes;
use jsp_wire::frame::{Attributes, Kind};
use jsp_wire::stream::{Class, Framing, Profile};

pub use super::doubles::Duplicate;

/// How hard the transport tries to deliver.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Delivery {
    /// Until it arrives or the stream is reset.
    Reliable,
    /// Until either bound is reached; without any bound this is the same as reliable.
    Partial {
        /// How often a lost piece is sent again at most.
        retransmits: Option<u32>,
        /// How long after the call to `send` a message is worth sending.
        lifetime: Option<Duration>,
    },
    /// Each piece is sent once; forward error correction alone brings it back when it is lost.
    Unreliable,
}

/// Whether the transport protects a stream's messages with forward error correction, where the peer
/// can receive it. Only streams of class real time are protected.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum FecPolicy {
    /// As the network asks for it: nothing while nothing is lost, and nothing where sending again is
    /// soon enough. Messages that are not sent again (unreliable ones) and have no lifetime are repaired for
    /// 60 ms after they left; on ordered unreliable streams, whose next message takes their place, never.
    #[default]
    Auto,
    /// Never.
    Off,
    /// Always, with this many repairs for each hundred packets; at most 100.
    Fixed(u8),
    /// Large messages of a partially reliable stream of any class, from about 100 packets on, go as symbols of a
    /// fountain code (RaptorQ): any packets of a message bring it, as soon as two more have come than it fills, and
    /// this many of each hundred go in advance. What is lost is made up for by further symbols. Needs the cargo feature
    /// `raptorq` on both sides; without it, and for other messages, the same as [`FecPolicy::Auto`].
    Fountain(u8),
}

/// How a stream behaves. Start from a preset and change what differs.
///
/// Both directions of a bidirectional stream have the same framing, delivery, order and class, and the accepting side
/// begins with its opener's weight, rate cap, lifetime, retransmissions and forward error correction for what it
/// sends; class and weight may be changed ([`Connection::set_priority`](crate::Connection::set_priority)). `duplicate` and
/// `send_buffer` are the opener's alone: the accepting side may have 1 MiB wait.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StreamConfig {
    /// Bytes or messages. Byte streams are always reliable and ordered.
    pub framing: Framing,
    /// How hard to try.
    pub delivery: Delivery,
    /// Deliver in the order of sending. For unreliable messages: drop what is older than delivered.
    pub ordered: bool,
    /// Priority class.
    pub class: Class,
    /// Share inside the class, 1 to 255.
    pub weight: u8,
    /// Most bytes per second that the stream may send; `None` for no cap.
    pub rate_cap: Option<u64>,
    /// Only the opener sends.
    pub unidirectional: bool,
    /// What the stream is for; told to the accepting side. At most 255 bytes of UTF-8.
    pub label: String,
    /// Media type of the content, told to the accepting side. At most 255 bytes of UTF-8.
    pub content_type: Option<String>,
    /// Forward error correction.
    pub fec: FecPolicy,
    /// Send by two paths at once. Concerns what we send, and is not told.
    pub duplicate: Duplicate,
    /// What is sent may be early data, which go with the first packet of a resumed connection. They
    /// are delivered once at most, but whoever can hold packets back can make them come late, or come
    /// to a server that the rest of the connection never reaches: mark what does no harm then, such as
    /// a request that only reads.
    pub replay_safe: bool,
    /// Bytes that may wait in the opener's send buffer before `send` and `write` have no room. Is not told: the
    /// accepting side's holds 1 MiB.
    pub send_buffer: usize,
}

impl StreamConfig {
    /// A reliable stream of bytes.
    pub fn bytes() -> Self {
        Self {
            framing: Framing::Bytes,
            delivery: Delivery::Reliable,
            ordered: true,
            class: Class::Interactive,
            weight: 16,
            rate_cap: None,
            unidirectional: false,
            label: String::new(),
            content_type: None,
            fec: FecPolicy::Auto,
            duplicate: Duplicate::Auto,
            replay_safe: false,
            send_buffer: 1 << 20,
        }
    }

    /// Reliable ordered messages.
    pub fn messages() -> Self {
        Self { framing: Framing::Messages, ..Self::bytes() }
    }

    /// Voice: unreliable messages, before all but signalling. What is lost by chance is repaired for 60 ms, so
    /// that messages may come out of order: a playout buffer sorts them by [`Received::number`]. State of
    /// which only the newest counts wants `ordered: true`, and gets no repair by choice of the network.
    pub fn voice() -> Self {
        Self {
            delivery: Delivery::Unreliable,
            ordered: false,
            class: Class::RealTime,
            weight: 64,
            send_buffer: 64 << 10,
            ..Self::messages()
        }
    }

    /// Video: unordered messages that are worth sending for 150 ms.
    pub fn video() -> Self {
        Self {
            delivery: Delivery::Partial {
                retransmits: None,
                lifetime: Some(Duration::from_millis(150)),
            },
            ordered: false,
            class: Class::RealTime,
            weight: 16,
            send_buffer: 4 << 20,
            ..Self::messages()
        }
    }

    /// Chat: reliable ordered messages.
    pub fn chat() -> Self {
        Self::messages()
    }

    /// Telemetry: unordered messages, sent again at most once and for two seconds.
    pub fn telemetry() -> Self {
        Self {
            delivery: Delivery::Partial {
                retransmits: Some(1),
                lifetime: Some(Duration::from_secs(2)),
            },
            ordered: false,
            weight: 8,
            send_buffer: 256 << 10,
            ..Self::messages()
        }
    }

    /// A file: a reliable stream of bytes that takes what the others leave.
    pub fn file() -> Self {
        Self { class: Class::Scavenger, fec: FecPolicy::Off, ..Self::bytes() }
    }

    /// The same stream under another label.
    pub fn labelled(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    /// The same stream, whose data may be early data: see [`StreamConfig::replay_safe`].
    pub fn replay_safe(mut self) -> Self {
        self.replay_safe = true;
        self
    }

    /// What the receiver must know, as the wire carries it.
    pub fn profile(&self) -> Profile {
        Profile {
            framing: self.framing,
            delivery: match self.delivery {
                Delivery::Reliable => jsp_wire::Delivery::Reliable,
                Delivery::Partial { .. } => jsp_wire::Delivery::Partial,
                Delivery::Unreliable => jsp_wire::Delivery::Unreliable,
            },
            ordered: self.ordered,
            class: self.class,
            unidirectional: self.unidirectional,
        }
    }
}

/// A message to be sent.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Message {
    /// The content.
    pub payload: Bytes,
    /// What the message says about itself.
    pub attributes: Attributes,
    /// Worth sending for this long, instead of what the stream says. On a reliable stream ignored.
    pub lifetime: Option<Duration>,
    /// Sent again at most this often, instead of what the stream says. Counts on partially reliable streams alone:
    /// on reliable and unreliable ones ignored.
    pub retransmits: Option<u32>,
    /// A newer message with the same key makes an older one that has not arrived worthless.
    pub supersede_key: Option<u64>,
    /// Report the message's fate as an event.
    pub want_fate: bool,
}

impl Message {
    /// Bytes.
    pub fn binary(payload: impl Into<Bytes>) -> Self {
        Self { payload: payload.into(), ..Self::default() }
    }

    /// Text.
    pub fn text(text: impl Into<String>) -> Self {
        let mut message = Self::binary(text.into().into_bytes());
        message.attributes.text = true;
        message
    }

    /// The same message as metadata or signalling.
    pub fn with_kind(mut self, kind: Kind) -> Self {
        self.attributes.kind = kind;
        self
    }

    /// The same message, of which lost pieces are sent again at most so often.
    pub fn with_retransmits(mut self, retransmits: u32) -> Self {
        self.retransmits = Some(retransmits);
        self
    }

    /// The same message, which takes the place of an older one of its stream with the same key that
    /// has not arrived: that one is not sent any more, nor sent again.
    pub fn superseding(mut self, key: u64) -> Self {
        self.supersede_key = Some(key);
        self
    }

    /// The same message, whose fate is to be told.
    pub fn with_fate(mut self) -> Self {
        self.want_fate = true;
        self
    }

    /// The same message, worth sending for `lifetime`.
    pub fn with_lifetime(mut self, lifetime: Duration) -> Self {
        self.lifetime = Some(lifetime);
        self
    }
}

impl From<&str> for Message {
    fn from(text: &str) -> Self {
        Self::text(text)
    }
}

impl From<String> for Message {
    fn from(text: String) -> Self {
        Self::text(text)
    }
}

impl From<Bytes> for Message {
    fn from(payload: Bytes) -> Self {
        Self::binary(payload)
    }
}

impl From<Vec<u8>> for Message {
    fn from(payload: Vec<u8>) -> Self {
        Self::binary(payload)
    }
}

impl From<&[u8]> for Message {
    fn from(payload: &[u8]) -> Self {
        Self::binary(Bytes::copy_from_slice(payload))
    }
}

impl<const N: usize> From<&[u8; N]> for Message {
    fn from(payload: &[u8; N]) -> Self {
        Self::binary(Bytes::copy_from_slice(payload))
    }
}

/// A message that has arrived.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Received {
    /// Its number in the stream, counting from 0.
    pub number: u64,
    /// The content.
    pub payload: Bytes,
    /// What the message says about itself.
    pub attributes: Attributes,
}

impl Received {
    /// The content, where the sender said that it is text and it is valid UTF-8.
    pub fn text(&self) -> Option<&str> {
        if self.attributes.text { core::str::from_utf8(&self.payload).ok() } else { None }
    }
}

/// What became of a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum MessageFate {
    /// The peer's transport has all of it.
    Acknowledged,
    /// Its lifetime ended first.
    Expired,
    /// A newer message with its key took its place.
    Superseded,
    /// The network lost it and its retransmissions are used up.
    Lost,
    /// The stream was reset or stopped, or the connection ended, first.
    Abandoned,
}

/// What a stream said about itself when it opened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StreamInfo {
    /// Framing, delivery, order, class and direction.
    pub profile: Profile,
    /// What the stream is for.
    pub label: String,
    /// Media type of the content.
    pub content_type: Option<String>,
    /// What its opener sends may be early data.
    pub replay_safe: bool,
}

/// What the streams of a connection may take. Each value is clamped to what the protocol allows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct StreamLimits {
    /// Credit of all the peer's streams together at the start, in bytes.
    pub(crate) data_window: u64,
    /// What that credit may grow to, in bytes.
    pub(crate) data_window_max: u64,
    /// Credit of each stream of the peer at the start, in bytes.
    pub(crate) stream_window: u64,
    /// What that credit may grow to, in bytes.
    pub(crate) stream_window_max: u64,
    /// Streams that the peer may have open at once; at most 2^20.
    pub(crate) streams_max: u64,
    /// Largest message that is accepted, in bytes; at least 65,536 and at most 2^30.
    pub(crate) message_len_max: u64,
    /// Unread bytes that are kept of one unreliable stream; older messages are dropped first.
    pub(crate) unreliable_buffer: u64,
    /// Bytes that may wait in the send buffer of a stream that the peer opened.
    pub(crate) send_buffer: usize,
    /// Large messages may go as symbols, and come so.
    pub(crate) objects: bool,
    /// A random number, so that no peer can choose stream ids that collide in our table.
    pub(crate) hash_key: u64,
}

impl Default for StreamLimits {
    fn default() -> Self {
        Self {
            data_window: 1536 << 10,
            data_window_max: 48 << 20,
            stream_window: 1 << 20,
            stream_window_max: 32 << 20,
            streams_max: 1024,
            message_len_max: 16 << 20,
            unreliable_buffer: 1 << 20,
            send_buffer: 1 << 20,
            objects: true,
            hash_key: 0,
        }
    }
}
