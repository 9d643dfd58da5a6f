//! Flow control: what may still be sent, and what is granted to the peer.

use core::time::Duration;

use jsp_wire::params::feature;
use jsp_wire::{CloseCode, Instant, TransportParams};

use crate::error::TransportError;
use crate::pack::packed;

/// What a message costs in credit beside its bytes. It pays for the records that a receiver keeps,
/// so that a flood of empty messages is bounded by credit too.
pub(super) const MESSAGE_COST: u64 = 32;

/// How far message numbers may run ahead of the lowest one that is neither acknowledged nor
/// skipped, in messages: bounds the tables of both sides.
pub(super) const NUMBER_REACH: u64 = 1 << 17;

/// Messages up to this size, in bytes, are accepted by every endpoint, whatever its parameters say.
pub(super) const MESSAGE_LEN_ALWAYS: u64 = 1 << 16;

/// Ceiling of configured message sizes, in bytes: offsets and costs fit in 31 bits.
pub(super) const MESSAGE_LEN_CEILING: u64 = 1 << 30;

/// Smallest window, in bytes. Three quarters of it always hold [`START_MIN`].
pub(super) const WINDOW_MIN: u64 = 1 << 14;

/// A message is started with part of its bytes only when at least this many can go, in bytes.
pub(super) const START_MIN: u64 = 1024;

/// What the peer has told, and is asked for later.
#[derive(Clone, Copy, Debug)]
pub(super) struct Told {
    pub(super) stream_data_max: u64,
    pub(super) message_len_max: u64,
    pub(super) takes_symbols: bool,
}
packed!(Told { stream_data_max, message_len_max, takes_symbols });

impl From<&TransportParams> for Told {
    fn from(params: &TransportParams) -> Self {
        Self {
            stream_data_max: params.stream_data_max,
            message_len_max: params.message_len_max,
            takes_symbols: params.features & feature::OBJECTS != 0,
        }
    }
}

const _: () = assert!(WINDOW_MIN / 4 * 3 >= START_MIN + MESSAGE_COST);

/// The connection's credit as the sender spends it.
#[derive(Debug, Default)]
pub(super) struct SendCredit {
    limit: u64,
    used: u64,
    /// Bytes that messages in progress have yet to send.
    reserved: u64,
    /// Messages that are started and not yet sent in full.
    in_progress: u64,
    /// The limit at which the peer was last told that it is too small.
    told: Option<u64>,
}
packed!(SendCredit { limit, used, reserved, in_progress, told });

impl SendCredit {
    /// The peer grants more; says whether it did.
    pub(super) fn raise(&mut self, limit: u64) -> bool {
        let more = limit > self.limit;
        self.limit = self.limit.max(limit);
        more
    }

    /// The peer's limit is this and no more, whatever was remembered of it.
    pub(super) fn set_limit(&mut self, limit: u64) {
        self.limit = limit;
    }

    pub(super) fn limit(&self) -> u64 {
        self.limit
    }

    /// Bytes that anybody may send now.
    pub(super) fn available(&self) -> u64 {
        self.limit.saturating_sub(self.used).saturating_sub(self.reserved)
    }

    /// Bytes that a message in progress may send now.
    pub(super) fn left(&self) -> u64 {
        self.limit.saturating_sub(self.used)
    }

    /// True when a message of `len` bytes may start.
    // spec: STR-23
    pub(super) fn may_start(&self, len: u64) -> bool {
        let cost = len.saturating_add(MESSAGE_COST);
        self.available() >= cost
            || (self.in_progress == 0 && self.left() >= MESSAGE_COST + len.min(START_MIN))
    }

    pub(super) fn start(&mut self, len: u64) {
        self.used = self.used.saturating_add(MESSAGE_COST);
        self.reserved = self.reserved.saturating_add(len);
        self.in_progress += 1;
    }

    /// `n` bytes of a message in progress go out.
    pub(super) fn advance(&mut self, n: u64) {
        self.reserved = self.reserved.saturating_sub(n);
        self.used = self.used.saturating_add(n);
    }

    /// A message is sent in full, or given up with `unsent` bytes to go.
    pub(super) fn end(&mut self, unsent: u64) {
        self.reserved = self.reserved.saturating_sub(unsent);
        self.in_progress = self.in_progress.saturating_sub(1);
    }

    /// Bytes of a byte stream go out.
    pub(super) fn spend(&mut self, n: u64) {
        self.used = self.used.saturating_add(n);
    }

    /// True when streams that waited for the connection's credit may try again.
    pub(super) fn is_open(&self) -> bool {
        self.available() > MESSAGE_COST
            || (self.in_progress == 0 && self.left() >= MESSAGE_COST + START_MIN)
    }

    /// True once per limit: the peer should hear that it holds data back.
    pub(super) fn tell_blocked(&mut self) -> bool {
        let first = self.told != Some(self.limit);
        self.told = Some(self.limit);
        first
    }
}

/// A window of credit as the receiver grants it; grows while it is the bottleneck.
#[derive(Debug)]
pub(super) struct Window {
    announced: u64,
    size: u64,
    cap: u64,
    epoch_start: Instant,
    epoch_from: u64,
}
packed!(Window { announced, size, cap, epoch_start, epoch_from });

impl Window {
    pub(super) fn new(size: u64, cap: u64) -> Self {
        let size = size.max(WINDOW_MIN);
        let cap = cap.max(size);
        Self { announced: size, size, cap, epoch_start: Instant::ZERO, epoch_from: 0 }
    }

    /// A window of which more than its size was announced from the start.
    pub(super) fn announcing(self, announced: u64) -> Self {
        Self { announced, ..self }
    }

    pub(super) fn announced(&self) -> u64 {
        self.announced
    }

    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Makes the window at least this large, within its cap.
    pub(super) fn widen(&mut self, size: u64) {
        self.size = self.size.max(size.min(self.cap));
    }

    /// `consumed` bytes have left the buffer since the start. Doubles the window when all of it was
    /// consumed within two round trips; says whether it did.
    // spec: STR-24
    pub(super) fn note_consumed(&mut self, now: Instant, rtt: Duration, consumed: u64) -> bool {
        if consumed.saturating_sub(self.epoch_from) < self.size {
            if now.since(self.epoch_start) > rtt * 2 {
                self.epoch_start = now;
                self.epoch_from = consumed;
            }
            return false;
        }
        let fast = now.since(self.epoch_start) <= rtt * 2;
        self.epoch_start = now;
        self.epoch_from = consumed;
        let grown = self.size.saturating_mul(2).min(self.cap);
        let grows = fast && grown > self.size;
        if grows {
            self.size = grown;
        }
        grows
    }

    /// True when a new limit is worth a frame: a quarter of the window is to be granted.
    pub(super) fn wants(&self, consumed: u64, extra: u64) -> bool {
        self.limit(consumed, extra) >= self.announced.saturating_add(self.size / 4)
    }

    /// The limit to announce now; announced it is from then on.
    pub(super) fn announce(&mut self, consumed: u64, extra: u64) -> u64 {
        self.announced = self.announced.max(self.limit(consumed, extra));
        self.announced
    }

    fn limit(&self, consumed: u64, extra: u64) -> u64 {
        consumed.saturating_add(self.size).saturating_add(extra).min(jsp_wire::varint::MAX)
    }
}

/// What the records of messages may take together, over all streams of a connection.
#[derive(Debug)]
pub(super) struct Overhead {
    /// Numbers above the lowest open one of their streams.
    pub(super) numbers: u64,
    /// Pieces that arrived before what stands in front of them.
    pub(super) pieces: u64,
}

/// Numbers that all streams of a connection may keep: a second of a million messages per second.
const NUMBERS_MAX: u64 = 1 << 20;

/// Out-of-order pieces that all streams of a connection may keep.
const PIECES_MAX: u64 = 1 << 16;

impl Overhead {
    // spec: STR-17
    pub(super) fn check(&self) -> Result<(), TransportError> {
        if self.numbers > NUMBERS_MAX || self.pieces > PIECES_MAX {
            return Err(TransportError::new(
                CloseCode::EXCESSIVE_LOAD,
                "too many pieces arrived out of order",
            ));
        }
        Ok(())
    }
}
