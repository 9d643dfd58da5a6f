//! How much a peer may ask for that brings nothing: frames that cost us work and it hardly any.

use core::time::Duration;

use jsp_wire::{CloseCode, Frame, Instant};

use crate::error::TransportError;
use crate::pack::packed;

/// Frames in a round trip that neither bring data nor move a limit that one needs that often. An
/// honest peer sends a few.
const IDLE_FRAMES_MAX: u32 = 1000;

/// A round trip counts as this long at least: what comes in bursts is not a flood yet.
const ROUND_MIN: Duration = Duration::from_millis(10);

/// Streams that may be reset in [`RESETS_SPAN`], as a multiple of those that may be open at once:
/// opening and resetting costs the peer nothing (the rapid reset of HTTP/2, CVE-2023-44487).
const RESETS_PER_STREAM: u64 = 10;

/// The time in which resets are counted.
const RESETS_SPAN: Duration = Duration::from_secs(10);

/// Bytes of large messages, and of tables of numbers, that may be worked through in vain in [`TRIES_SPAN`]: of an honest
/// sender's messages it is one in a hundred, so that this is what comes at 5 Gbit/s; of numbers that were skipped, 16
/// million.
const TRIED_MAX: u64 = 64 << 20;

/// The time in which they are counted.
const TRIES_SPAN: Duration = Duration::from_secs(10);

/// What a peer has asked for of late.
#[derive(Default)]
pub(crate) struct Restraint {
    idle: Count,
    resets: Count,
    tried: Count,
}
packed!(Restraint { idle, resets, tried });

/// Events since a time.
#[derive(Default)]
struct Count {
    since: Instant,
    events: u64,
}
packed!(Count { since, events });

impl Count {
    fn add(&mut self, now: Instant, span: Duration, events: u64) -> u64 {
        if now >= self.since + span {
            *self = Self { since: now, events: 0 };
        }
        self.events = self.events.saturating_add(events);
        self.events
    }
}

impl Restraint {
    /// Counts a frame. `streams_max` is how many streams the peer may have open.
    ///
    /// # Errors
    /// There were too many.
    // spec: CON-64
    pub(crate) fn note(
        &mut self,
        now: Instant,
        frame: &Frame<'_>,
        rtt: Duration,
        streams_max: u64,
    ) -> Result<(), TransportError> {
        let is_too_much = match frame {
            // spec: CON-65
            Frame::ResetStream(_) => {
                let most = streams_max.saturating_mul(RESETS_PER_STREAM);
                self.resets.add(now, RESETS_SPAN, 1) > most
            }
            frame if is_idle(frame) => {
                self.idle.add(now, rtt.max(ROUND_MIN), 1) > u64::from(IDLE_FRAMES_MAX)
            }
            _ => false,
        };
        if is_too_much {
            let reason = "too many frames that bring nothing";
            return Err(TransportError::new(CloseCode::EXCESSIVE_LOAD, reason));
        }
        Ok(())
    }

    /// Counts bytes of messages that could not be put together from their symbols, and of tables of numbers that ran far
    /// ahead.
    ///
    /// # Errors
    /// There were too many.
    // spec: FEC-24, STR-46
    pub(crate) fn note_tried(&mut self, now: Instant, bytes: u64) -> Result<(), TransportError> {
        if bytes > 0 && self.tried.add(now, TRIES_SPAN, bytes) > TRIED_MAX {
            let reason = "too many symbols that do not suffice, or numbers that are skipped";
            return Err(TransportError::new(CloseCode::EXCESSIVE_LOAD, reason));
        }
        Ok(())
    }
}

fn is_idle(frame: &Frame<'_>) -> bool {
    match frame {
        Frame::Bytes(bytes) => bytes.data.is_empty() && !bytes.fin,
        Frame::Ping
        | Frame::MaxData(_)
        | Frame::MaxStreams(_)
        | Frame::DataBlocked(_)
        | Frame::StreamDataBlocked(_)
        | Frame::StreamsBlocked(_)
        | Frame::AckFrequency(_)
        | Frame::HandshakeDone
        | Frame::NewConnectionId(_)
        | Frame::RetireConnectionId(_)
        | Frame::PathAbandon(_)
        | Frame::PathStatus(_) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use jsp_wire::StreamId;
    use jsp_wire::frame::ResetStream;

    use super::*;

    #[test]
    // spec-test: CON-64, CON-65
    fn a_thousand_in_a_round_trip_and_not_one_more() {
        let rtt = Duration::from_millis(50);
        let mut restraint = Restraint::default();
        let mut count =
            |now, frame| (0..3000).filter(|_| restraint.note(now, &frame, rtt, 64).is_ok()).count();
        let now = Instant::from_nanos(7_000_000_000);
        assert_eq!(count(now, Frame::Ping), 1000);
        assert_eq!(count(now + Duration::from_millis(49), Frame::DataBlocked(1)), 0);
        assert_eq!(count(now + Duration::from_millis(50), Frame::MaxData(1)), 1000);
        assert_eq!(count(now, Frame::PathChallenge([0; 8])), 3000);
        assert_eq!(count(now, Frame::ImmediateAck), 3000);
        let reset = ResetStream { stream: StreamId(2), code: 0, final_bytes: 0 };
        assert_eq!(count(now, Frame::ResetStream(reset)), 640);
        assert_eq!(count(now + RESETS_SPAN, Frame::ResetStream(reset)), 640);
    }

    #[test]
    // spec-test: FEC-24, STR-46
    fn symbols_that_do_not_suffice_are_bounded() {
        let mut restraint = Restraint::default();
        let now = Instant::from_nanos(70_000_000_000);
        let mut tries =
            |now| (0..100).filter(|_| restraint.note_tried(now, 2 << 20).is_ok()).count();
        assert_eq!(tries(now), 32);
        assert_eq!(tries(now + Duration::from_secs(9)), 0);
        assert_eq!(tries(now + TRIES_SPAN), 32);
    }
}
