//! A stream of TCP's kind: everything arrives, in order, behind what is late; or the stream breaks.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::BytesMut;
use jsp_wire::Instant;

use super::plan::{Streams, Weather};
use crate::random::Random;

/// Bytes that wait for a stream before the transport is told to wait.
pub(super) const QUEUE: usize = 16 << 10;
/// What is written beyond that is lost at this many bytes.
const QUEUE_MAX: usize = 128 << 10;
/// Bytes before each datagram.
const LENGTH_LEN: usize = 2;

/// What a stream has for one of its ends.
#[derive(Debug)]
pub(super) enum Out {
    /// A datagram has come to the other end.
    Arrived(BytesMut),
    /// This end may write more.
    Room,
}

/// One direction.
#[derive(Debug, Default)]
struct Way {
    /// What has not left, and when the first of it does.
    unsent: VecDeque<BytesMut>,
    unsent_bytes: usize,
    leaves: Option<Instant>,
    flight: VecDeque<(Instant, BytesMut)>,
    last_arrival: Instant,
}

/// A stream. End 0 has opened it.
#[derive(Debug)]
pub(super) struct Pipe {
    ways: [Way; 2],
    random: Random,
    /// The middle has forgotten it: nothing arrives any more, and nobody is told.
    pub(super) is_forgotten: bool,
}

impl Pipe {
    pub(super) fn new(random: Random) -> Self {
        Self { ways: Default::default(), random, is_forgotten: false }
    }

    /// Bytes that an end may write.
    pub(super) fn room(&self, end: usize) -> usize {
        QUEUE.saturating_sub(self.ways[end].unsent_bytes)
    }

    /// Bytes that wait.
    pub(super) fn unsent(&self, end: usize) -> usize {
        self.ways[end].unsent_bytes
    }

    pub(super) fn push(
        &mut self,
        now: Instant,
        end: usize,
        datagram: BytesMut,
        kind: &Streams,
        weather: &Weather,
    ) {
        let way = &mut self.ways[end];
        if way.unsent_bytes >= QUEUE_MAX {
            return;
        }
        way.unsent_bytes += datagram.len() + LENGTH_LEN;
        let first = way.leaves.is_none();
        if first {
            way.leaves = Some(leave(now, datagram.len(), kind, weather));
        }
        way.unsent.push_back(datagram);
    }

    pub(super) fn next_event(&self) -> Option<Instant> {
        let events = self.ways.iter().flat_map(|way| {
            let arrival = way.flight.front().map(|(at, _)| *at);
            [way.leaves, arrival.filter(|_| !self.is_forgotten)]
        });
        events.flatten().min()
    }

    /// What happens next by `now`: at which end, and what.
    pub(super) fn poll(
        &mut self,
        now: Instant,
        kind: &Streams,
        weather: &Weather,
    ) -> Option<(usize, Out)> {
        for end in 0..2 {
            let way = &mut self.ways[end];
            if let Some((at, _)) = way.flight.front()
                && *at <= now
                && !self.is_forgotten
                && let Some((_, datagram)) = way.flight.pop_front()
            {
                return Some((end, Out::Arrived(datagram)));
            }
            if let Some(at) = way.leaves.filter(|at| *at <= now)
                && let Some(datagram) = way.unsent.pop_front()
            {
                way.unsent_bytes -= datagram.len() + LENGTH_LEN;
                let next = way.unsent.front();
                way.leaves = next.map(|next| leave(at, next.len(), kind, weather));
                // What was lost goes again after a time-out, and everything behind it waits.
                let late = match self.random.chance(kind.stall) {
                    true => self.random.duration_between(STALL.0, STALL.1),
                    false => Duration::ZERO,
                };
                let arrival = weather.streams_pass_at(at + kind.delay + late);
                way.last_arrival = way.last_arrival.max(arrival);
                way.flight.push_back((way.last_arrival, datagram));
                return Some((end, Out::Room));
            }
        }
        None
    }
}

/// What a lost segment costs.
const STALL: (Duration, Duration) = (Duration::from_millis(60), Duration::from_millis(800));

fn leave(now: Instant, len: usize, kind: &Streams, weather: &Weather) -> Instant {
    let bits = (len + LENGTH_LEN) as u64 * 8;
    let takes = Duration::from_nanos(bits * 1_000_000_000 / kind.bps.max(1));
    weather.streams_pass_at(now) + takes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_comes_in_order_and_the_writer_has_to_wait() {
        let kind = Streams { bps: 1_000_000, stall: 0.2, ..Streams::default() };
        let weather = Weather::default();
        let mut pipe = Pipe::new(Random::new(1));
        for n in 0..40u8 {
            pipe.push(Instant::ZERO, 0, BytesMut::from(&[n; 1000][..]), &kind, &weather);
        }
        assert_eq!(pipe.room(0), 0);
        let (mut heard, mut last) = (Vec::new(), Instant::ZERO);
        while let Some(at) = pipe.next_event() {
            assert!(at >= last);
            last = at;
            while let Some((end, out)) = pipe.poll(at, &kind, &weather) {
                assert_eq!(end, 0);
                if let Out::Arrived(datagram) = out {
                    heard.push(datagram[0]);
                }
            }
        }
        assert_eq!(heard, (0..40).collect::<Vec<_>>());
        assert!(last.since(Instant::ZERO) >= Duration::from_millis(320));
        assert_eq!(pipe.room(0), QUEUE);
    }
}
