//! What an application will do, decided before the world starts.

use std::time::Duration;

use jsp_proto::StreamConfig;
use jsp_wire::frame::Attributes;
use jsp_wire::{Class, Instant};

/// What the two ends of one connection do.
#[derive(Clone, Debug, Default)]
pub struct Script {
    /// Streams that the client opens.
    pub client: Vec<StreamPlan>,
    /// Streams that the server opens.
    pub server: Vec<StreamPlan>,
    /// What happens on the stream that exists from the start; the client counts as its opener.
    pub signalling: Option<StreamPlan>,
}

/// What happens on one stream.
#[derive(Clone, Debug)]
pub struct StreamPlan {
    /// When it is opened, connection permitting.
    pub open_at: Instant,
    /// With what parameters.
    pub config: StreamConfig,
    /// What the opener sends.
    pub forth: SendPlan,
    /// What the other side sends; of no effect on a unidirectional stream.
    pub back: SendPlan,
    /// How the other side reads.
    pub forth_reader: ReadPlan,
    /// How the opener reads.
    pub back_reader: ReadPlan,
}

/// What is sent in one direction of a stream.
#[derive(Clone, Debug)]
pub struct SendPlan {
    /// The data.
    pub traffic: Traffic,
    /// What comes after it.
    pub ending: Ending,
    /// When the priority changes, and to what; sorted by instant.
    pub priorities: Vec<(Instant, Class, u8)>,
}

impl SendPlan {
    /// This traffic, and then the end of the stream.
    pub fn finishing(traffic: Traffic) -> Self {
        Self { traffic, ending: Ending::Finish, priorities: Vec::new() }
    }

    /// Nothing but the end of the stream.
    pub fn nothing() -> Self {
        Self::finishing(Traffic::Messages(Vec::new()))
    }
}

/// The data of one direction of a stream.
#[derive(Clone, Debug)]
pub enum Traffic {
    /// Messages, sorted by instant.
    Messages(Vec<MessagePlan>),
    /// Bytes as fast as they go.
    Bytes {
        /// When the first is written.
        start: Instant,
        /// How many there are.
        total: u64,
        /// How many are written at once, at least 1.
        chunk: usize,
    },
    /// Messages like the frames of a video whose rate follows what the connection can carry.
    Media(MediaPlan),
}

/// A source that adapts its rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MediaPlan {
    /// When the first frame is made.
    pub start: Instant,
    /// Nothing is made from here on.
    pub end: Instant,
    /// Time between frames.
    pub every: Duration,
    /// Least rate, in bits per second; also the first.
    pub floor_bps: u64,
    /// Largest rate, in bits per second.
    pub ceiling_bps: u64,
}

impl MediaPlan {
    /// When a frame is made, counted from 0; `None` when there is none.
    pub fn moment(&self, number: u64) -> Option<Instant> {
        let at = self.start + self.every * u32::try_from(number).ok()?;
        (at < self.end).then_some(at)
    }

    /// Bytes of a frame at a rate.
    pub fn frame_len(&self, bps: u64) -> usize {
        ((bps as f64 / 8.0 * self.every.as_secs_f64()) as usize).max(1)
    }
}

/// A message to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessagePlan {
    /// Not before.
    pub at: Instant,
    /// Bytes of its content.
    pub len: usize,
    /// What it says about itself.
    pub attributes: Attributes,
    /// Worth sending for this long, instead of what the stream says.
    pub lifetime: Option<Duration>,
    /// Sent again at most this often, instead of what the stream says.
    pub retransmits: Option<u32>,
    /// What it supersedes.
    pub supersede_key: Option<u64>,
    /// Ask for its fate.
    pub want_fate: bool,
}

impl MessagePlan {
    /// A message of `len` bytes at an instant, with nothing special about it.
    pub fn new(at: Instant, len: usize) -> Self {
        Self {
            at,
            len,
            attributes: Attributes::default(),
            lifetime: None,
            retransmits: None,
            supersede_key: None,
            want_fate: false,
        }
    }
}

/// How a direction of a stream ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// In order, after the last data.
    Finish,
    /// By a reset at this instant, whatever has been sent.
    Reset {
        /// When.
        at: Instant,
        /// The application's code.
        code: u64,
    },
    /// Not at all.
    StayOpen,
}

/// How a direction of a stream is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadPlan {
    /// At once and all.
    Prompt,
    /// A little now and then.
    Slow {
        /// Bytes at a time; a message counts as its bytes, and the last one may exceed this.
        bytes: usize,
        /// How often.
        every: Duration,
    },
    /// Promptly, and after this many bytes no more.
    Stop {
        /// Bytes read before.
        after: u64,
        /// The application's code.
        code: u64,
    },
}
