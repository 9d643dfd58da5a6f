//! Measuring throughput: what both sides share.

pub(crate) mod client;
mod flow;
pub(crate) mod server;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use clap::ValueEnum;
use jsp::{Delivery, Framing, Stream, StreamConfig};
use minicbor::{Decode, Encode};
use tokio::sync::Notify;

use crate::protocol::label;

/// Longest measurement.
const TIME_MAX: Duration = Duration::from_secs(3600);
/// Most streams at once.
const STREAMS_MAX: u32 = 256;
/// Largest message or piece of a byte stream, in bytes.
const SIZE_MAX: u32 = 1 << 20;

/// How the data is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Encode, Decode)]
#[cbor(index_only)]
pub(crate) enum Mode {
    /// A reliable stream of bytes
    #[n(0)]
    Bytes,
    /// Reliable ordered messages
    #[n(1)]
    Messages,
    /// Messages that are sent once
    #[n(2)]
    Unreliable,
    /// Messages that are sent again for 150 ms
    #[n(3)]
    Partial,
}

impl Mode {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Bytes => "bytes",
            Self::Messages => "messages",
            Self::Unreliable => "unreliable",
            Self::Partial => "partial",
        }
    }

    fn stream(self) -> StreamConfig {
        let lifetime = Some(Duration::from_millis(150));
        let base = StreamConfig { unidirectional: true, ..StreamConfig::messages() };
        let config = match self {
            Self::Bytes => StreamConfig { framing: Framing::Bytes, ..base },
            Self::Messages => base,
            Self::Unreliable => {
                StreamConfig { delivery: Delivery::Unreliable, ordered: false, ..base }
            }
            Self::Partial => StreamConfig {
                delivery: Delivery::Partial { retransmits: None, lifetime },
                ordered: false,
                ..base
            },
        };
        config.labelled(label::PERF_DATA)
    }
}

/// What the client wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Request {
    /// The client sends.
    #[n(0)]
    pub(crate) up: bool,
    /// The server sends.
    #[n(1)]
    pub(crate) down: bool,
    #[n(2)]
    pub(crate) mode: Mode,
    /// Streams in each direction.
    #[n(3)]
    pub(crate) streams: u32,
    /// Bytes of a message, or of a piece of a byte stream.
    #[n(4)]
    pub(crate) size: u32,
    #[n(5)]
    pub(crate) milliseconds: u64,
}

impl Request {
    /// Whether a server does this.
    fn is_acceptable(&self) -> bool {
        (self.up || self.down)
            && (1..=STREAMS_MAX).contains(&self.streams)
            && (1..=SIZE_MAX).contains(&self.size)
            && (1..=TIME_MAX.as_millis() as u64).contains(&self.milliseconds)
    }

    fn time(&self) -> Duration {
        Duration::from_millis(self.milliseconds)
    }
}

/// What is said on the control stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) enum Word {
    #[n(0)]
    Request(#[n(0)] Request),
    #[n(1)]
    Accept,
    /// The request is over a limit.
    #[n(2)]
    Refuse,
    /// What has arrived so far.
    #[n(3)]
    Arrived(#[n(0)] Count),
    /// All that was sent.
    #[n(4)]
    Sent(#[n(0)] Count),
    /// All that has arrived; the last word of the receiver.
    #[n(5)]
    Total(#[n(0)] Count),
}

/// An amount of data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Count {
    #[n(0)]
    pub(crate) bytes: u64,
    #[n(1)]
    pub(crate) messages: u64,
}

/// Counts what arrives on data streams.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    bytes: AtomicU64,
    messages: AtomicU64,
    ended: AtomicU64,
    changed: Notify,
}

impl Meter {
    /// Counts a stream to its end.
    pub(crate) async fn count(&self, stream: Stream) {
        let (_, recv) = stream.split();
        let note = |bytes: u64, messages: u64| {
            self.bytes.fetch_add(bytes, Ordering::Relaxed);
            self.messages.fetch_add(messages, Ordering::Relaxed);
        };
        if recv.info().profile.framing == Framing::Bytes {
            let mut chunks = Vec::new();
            while let Ok(len @ 1..) = recv.read_chunks(&mut chunks, 256 << 10).await {
                note(len as u64, 0);
                chunks.clear();
            }
        } else {
            let mut messages = Vec::new();
            while let Ok(count @ 1..) = recv.recv_many(&mut messages, 256).await {
                note(messages.iter().map(|m| m.payload.len() as u64).sum(), count as u64);
                messages.clear();
            }
        }
        self.ended.fetch_add(1, Ordering::Relaxed);
        self.changed.notify_waiters();
    }

    pub(crate) fn read(&self) -> Count {
        let bytes = self.bytes.load(Ordering::Relaxed);
        Count { bytes, messages: self.messages.load(Ordering::Relaxed) }
    }

    /// Begins a new measurement.
    fn reset(&self) {
        for counter in [&self.bytes, &self.messages, &self.ended] {
            counter.store(0, Ordering::Relaxed);
        }
    }

    /// Returns when so many streams have ended.
    async fn all_ended(&self, streams: u32) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if self.ended.load(Ordering::Relaxed) >= u64::from(streams) {
                return;
            }
            changed.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{decode, encode};

    fn request() -> Request {
        let mode = Mode::Bytes;
        Request { up: true, down: false, mode, streams: 1, size: 1, milliseconds: 1 }
    }

    #[test]
    fn words_round_trip() {
        let count = Count { bytes: u64::MAX, messages: 7 };
        for word in [
            Word::Request(Request { mode: Mode::Partial, ..request() }),
            Word::Accept,
            Word::Refuse,
            Word::Arrived(count),
            Word::Sent(count),
            Word::Total(count),
        ] {
            assert_eq!(decode::<Word>(&encode(&word)), Ok(word));
        }
        assert!(decode::<Word>(&[]).is_err());
        assert!(decode::<Word>(&[0x82, 0x18, 0xff, 0x80]).is_err());
    }

    #[test]
    fn requests_over_a_limit_are_refused() {
        assert!(request().is_acceptable());
        for bad in [
            Request { up: false, ..request() },
            Request { streams: 0, ..request() },
            Request { streams: STREAMS_MAX + 1, ..request() },
            Request { size: 0, ..request() },
            Request { size: SIZE_MAX + 1, ..request() },
            Request { milliseconds: 0, ..request() },
            Request { milliseconds: u64::MAX, ..request() },
        ] {
            assert!(!bad.is_acceptable(), "{bad:?}");
        }
    }
}
