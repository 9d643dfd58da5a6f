//! How often the peer should acknowledge: what we ask of it with ACK_FREQUENCY.
//!
//! By itself a receiver does what suits most senders: every second packet, or about eight
//! acknowledgements in a round trip for a fast stream. One sender wants more: that of a thin real-time
//! stream over a path that loses packets, for whom each acknowledgement tells what to send again. Where
//! the peer sends as much itself, its acknowledgements ride along as often as that.

use core::time::Duration;

use jsp_wire::frame::AckFrequency;
use jsp_wire::{Frame, Instant};

use crate::pack::packed;
use crate::packet::PacketBuilder;
use crate::token::{Fate, Token};

/// Share of losses from which every packet is to be acknowledged, and below which the peer may go back
/// to its own rule.
const LOSSY: f64 = 0.01;
const CLEAN: f64 = 0.003;

/// Over this time the packets of the two sides are compared.
const COMPARE_FOR: Duration = Duration::from_secs(1);

/// More packets a second than this are acknowledged often enough without being asked for.
const THIN_PACKETS: u32 = 400;

/// What the peer is asked for, and what we have asked.
#[derive(Clone, Debug, Default)]
pub(crate) struct AckRequest {
    every: bool,
    owed: bool,
    sequence: u64,
    since: Instant,
    /// Packets of ours that were acknowledged since then, and packets of the peer before.
    acked: u32,
    received: u64,
    /// What the peer promised.
    delay_max: Duration,
    /// The peer sends so little that few acknowledgements ride along.
    quiet_peer: bool,
}
packed!(AckRequest { every, owed, sequence, since, acked, received, delay_max, quiet_peer });

/// What decides.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Traffic {
    /// Packets that the ACK at hand settled.
    pub(crate) acked: u32,
    /// Ack-eliciting packets of the peer so far.
    pub(crate) received: u64,
    /// Share of our packets that are lost, 0 to 1.
    pub(crate) loss: f64,
    /// How long the peer may hold an acknowledgement back.
    pub(crate) delay_max: Duration,
    /// Real-time messages are on their way.
    pub(crate) realtime: bool,
}

impl AckRequest {
    /// An ACK came.
    // spec: ACK-16
    pub(crate) fn on_ack(&mut self, now: Instant, traffic: Traffic) {
        self.delay_max = traffic.delay_max;
        self.acked = self.acked.saturating_add(traffic.acked);
        if now.since(self.since) >= COMPARE_FOR {
            let received = traffic.received.saturating_sub(self.received);
            let is_thin = self.acked < THIN_PACKETS;
            self.quiet_peer = is_thin && received.saturating_mul(2) < u64::from(self.acked);
            (self.since, self.acked, self.received) = (now, 0, traffic.received);
        }
        let lossy = traffic.loss >= if self.every { CLEAN } else { LOSSY };
        let every = lossy && traffic.realtime && self.quiet_peer;
        if every != self.every {
            self.every = every;
            self.owed = true;
            self.sequence = self.sequence.saturating_add(1);
        }
    }

    pub(crate) fn wants(&self) -> bool {
        self.owed
    }

    pub(crate) fn write(&mut self, packet: &mut PacketBuilder<'_>) {
        if !self.owed {
            return;
        }
        let wish = AckFrequency {
            sequence: self.sequence,
            // 1 and 1 stand for the peer's own rule.
            threshold: u64::from(!self.every),
            delay_max_us: u64::try_from(self.delay_max.as_micros()).unwrap_or(u64::MAX),
            reordering: 1,
        };
        if Frame::AckFrequency(wish).write(packet.writer()).is_ok() {
            self.owed = false;
            packet.push(Token::AckFrequency { sequence: self.sequence });
        }
    }

    pub(crate) fn on_fate(&mut self, sequence: u64, fate: Fate) {
        self.owed |= fate == Fate::Lost && sequence == self.sequence;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::from_nanos(ms * 1_000_000)
    }

    fn run(request: &mut AckRequest, from: u64, loss: f64, received_each: u64) {
        for n in 0..200 {
            let received = (from + n) * received_each;
            let delay_max = Duration::from_millis(25);
            let traffic = Traffic { acked: 1, received, loss, delay_max, realtime: true };
            request.on_ack(at((from + n) * 10), traffic);
        }
    }

    fn written(request: &mut AckRequest) -> Option<AckFrequency> {
        let (mut room, mut tokens) = ([0; 100], Vec::new());
        let mut packet = PacketBuilder::new(&mut room, &mut tokens, false);
        request.write(&mut packet);
        let len = packet.finish().len;
        match jsp_wire::FrameIter::new(&room[..len]).next() {
            Some(Ok(Frame::AckFrequency(wish))) => Some(wish),
            _ => None,
        }
    }

    #[test]
    // spec-test: ACK-16
    fn every_packet_is_asked_for_where_it_helps_and_only_there() {
        let mut request = AckRequest::default();
        run(&mut request, 0, 0.0, 0);
        assert!(!request.wants(), "a clean path");
        run(&mut request, 200, 0.05, 1);
        assert!(!request.wants(), "acknowledgements ride along");
        run(&mut request, 400, 0.05, 0);
        assert!(request.wants());
        let wish = written(&mut request).unwrap();
        assert_eq!((wish.sequence, wish.threshold, wish.reordering), (1, 0, 1));
        assert_eq!(written(&mut request), None);
        request.on_fate(1, Fate::Lost);
        assert_eq!(written(&mut request), Some(wish));
        run(&mut request, 600, 0.005, 0);
        assert!(!request.wants(), "still lossy");
        run(&mut request, 800, 0.001, 0);
        let wish = written(&mut request).unwrap();
        assert_eq!((wish.sequence, wish.threshold, wish.reordering), (2, 1, 1));
        request.on_fate(1, Fate::Lost);
        assert!(!request.wants(), "an older one does not matter");
    }
}
