//! Careful Resume (RFC 9959): a path that was known before need not be learned from nothing.
//!
//! What the controller believes is left alone: while the path is tried, the window and the rate are
//! *at least* what the memory allows, and the controller grows by what arrives, as ever. So when the
//! memory proves wrong there is nothing to take back but the permission, and to wait until what was
//! too much has left the path.

use core::time::Duration;

use jsp_wire::Instant;

use super::{AckSample, LossSample, bytes_in, rate_of};
use crate::pack::{packed, packed_enum};
use crate::path::memory::PathMemory;

/// Of what the path carried before, this part is tried: others may have come meanwhile (RFC 9959, half
/// of the saved window).
const JUMP_DIVISOR: u64 = 2;

/// The path is another one when its round-trip time is less than this part of what it was, or more than
/// so many times (RFC 9959).
const RTT_DIVISOR: u32 = 2;
const RTT_MULTIPLE: u32 = 10;

/// More than this share lost of what was tried, and so many packets, is too much even where the
/// controller takes losses for the path's own: nothing is known of it yet.
const LOSS_SHARE: f64 = 0.02;
const LOSS_PACKETS: u32 = 3;

/// After the trial was too much, what arrived of it, by this, is allowed until the rest has left the path.
const RETREAT_DIVISOR: u64 = 2;

/// What the memory does to window and rate at the moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Limit {
    /// Nothing.
    None,
    /// So many bytes may be in flight, at so many bytes a second, whatever the controller says.
    AtLeast { window: u64, rate: u64 },
    /// No more than this may be in flight.
    AtMost(u64),
}

/// What the controller is about.
#[derive(Clone, Copy, Debug)]
pub(super) struct View {
    pub(super) window: u64,
    pub(super) window_initial: u64,
    pub(super) is_starting: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// Whether this is the path that is remembered: so many bytes have arrived.
    Reconnaissance { acked: u64 },
    /// Trying what is remembered, since this time; so many bytes have arrived of what was in flight
    /// then and later.
    Unvalidated { began: Instant, jump: u64, rate: u64, pipe: u64 },
    /// No more than what is in flight, until what left by this time has arrived.
    Validating { until: Instant, flight: u64, rate: u64, pipe: u64 },
    /// It was too much: wait until what left by this time is gone.
    Retreat { until: Instant, pipe: u64 },
    /// The controller is on its own.
    Over,
}
packed_enum!(Phase {
   Over,
   Reconnaissance { acked } = 1,
   Unvalidated { began, jump, rate, pipe } = 2,
   Validating { until, flight, rate, pipe } = 3,
   Retreat { until, pipe } = 4
});

/// The use of a memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct CarefulResume {
    memory: PathMemory,
    phase: Phase,
    /// What was lost of the trial: bytes and packets.
    lost: (u64, u32),
}
packed!(CarefulResume { memory, phase, lost });

impl CarefulResume {
    pub(super) fn new(memory: PathMemory) -> Self {
        Self { memory, phase: Phase::Reconnaissance { acked: 0 }, lost: (0, 0) }
    }

    pub(super) fn is_over(&self) -> bool {
        self.phase == Phase::Over
    }

    /// What it does to window and rate.
    pub(super) fn limit(&self) -> Limit {
        match self.phase {
            Phase::Reconnaissance { .. } | Phase::Over => Limit::None,
            Phase::Unvalidated { jump, rate, .. } => Limit::AtLeast { window: jump, rate },
            Phase::Validating { flight, rate, .. } => Limit::AtLeast { window: flight, rate },
            Phase::Retreat { pipe, .. } => Limit::AtMost(pipe / RETREAT_DIVISOR),
        }
    }

    /// Bytes arrived, and the controller knows; `rtt_min` is the shortest round-trip time so far.
    // spec: CC-43, CC-44, CC-45
    pub(super) fn on_ack(
        &mut self,
        now: Instant,
        sample: &AckSample,
        rtt_min: Duration,
        view: &View,
    ) {
        let newly = sample.bytes_acked;
        self.phase = match self.phase {
            // Packets wait, or are lost: it found its limit without help, or the trial was one.
            Phase::Reconnaissance { .. } | Phase::Unvalidated { .. } | Phase::Validating { .. }
                if !view.is_starting =>
            {
                Phase::Over
            }
            Phase::Reconnaissance { acked } => {
                let acked = acked.saturating_add(newly);
                let flight = sample.in_flight.saturating_add(newly);
                // A jump that nobody needs would be over before anybody does.
                if acked >= view.window_initial && flight >= view.window / 2 {
                    self.jump(now, flight, rtt_min, view)
                } else {
                    Phase::Reconnaissance { acked }
                }
            }
            Phase::Unvalidated { began, jump, rate, pipe } => {
                let pipe = pipe.saturating_add(newly);
                if sample.largest_sent_at > began {
                    let flight = sample.in_flight.max(pipe);
                    Phase::Validating { until: now, flight, rate, pipe }
                } else {
                    Phase::Unvalidated { began, jump, rate, pipe }
                }
            }
            Phase::Validating { until, .. } | Phase::Retreat { until, .. }
                if sample.largest_sent_at >= until =>
            {
                Phase::Over
            }
            Phase::Validating { until, flight, rate, pipe } => {
                Phase::Validating { until, flight, rate, pipe: pipe.saturating_add(newly) }
            }
            Phase::Retreat { until, pipe } => {
                Phase::Retreat { until, pipe: pipe.saturating_add(newly) }
            }
            Phase::Over => Phase::Over,
        };
    }

    /// The first flight has arrived, and what is more is wanted: is it the same path?
    // spec: CC-43
    fn jump(&self, now: Instant, flight: u64, rtt_min: Duration, view: &View) -> Phase {
        let known = self.memory.rtt_min();
        if rtt_min < known / RTT_DIVISOR || rtt_min > known.saturating_mul(RTT_MULTIPLE) {
            return Phase::Over;
        }
        let jump = bytes_in(self.memory.delivery_rate(), known.min(rtt_min)) / JUMP_DIVISOR;
        if jump <= view.window {
            return Phase::Over;
        }
        Phase::Unvalidated { began: now, jump, rate: rate_of(jump, rtt_min, 1, 1), pipe: flight }
    }

    /// Packets are lost; `congested` says that the controller takes that for congestion.
    // spec: CC-45
    pub(super) fn on_loss(&mut self, now: Instant, sample: &LossSample, congested: bool) {
        let pipe = match self.phase {
            Phase::Reconnaissance { .. } if congested => {
                self.phase = Phase::Over;
                return;
            }
            Phase::Unvalidated { pipe, .. } | Phase::Validating { pipe, .. } => pipe,
            Phase::Reconnaissance { .. } | Phase::Retreat { .. } | Phase::Over => return,
        };
        let (bytes, packets) = self.lost;
        let (bytes, packets) =
            (bytes.saturating_add(sample.bytes_lost), packets.saturating_add(sample.packets));
        self.lost = (bytes, packets);
        let total = pipe.saturating_add(bytes).max(1) as f64;
        let many = packets >= LOSS_PACKETS && bytes as f64 > total * LOSS_SHARE;
        if congested || many {
            self.on_congestion(now);
        }
    }

    /// The trial was too much.
    // spec: CC-45
    pub(super) fn on_congestion(&mut self, now: Instant) {
        self.phase = match self.phase {
            Phase::Unvalidated { pipe, .. } => Phase::Retreat { until: now, pipe },
            Phase::Validating { until, pipe, .. } => Phase::Retreat { until, pipe },
            Phase::Reconnaissance { .. } | Phase::Over => Phase::Over,
            retreat @ Phase::Retreat { .. } => retreat,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const MTU: u64 = 1200;
    /// 10 Mbit/s and 100 ms: 122 KiB.
    const MEMORY: PathMemory = PathMemory { delivery_rate_kib: 1220, rtt_min_micros: 100_000 };
    const JUMP: u64 = 1220 * 1024 / 10 / 2;
    const FIRST: View = View { window: 12_000, window_initial: 12_000, is_starting: true };

    fn at(ms: u64) -> Instant {
        Instant::from_nanos(ms * 1_000_000)
    }

    fn ack(bytes_acked: u64, in_flight: u64, sent_ms: u64) -> AckSample {
        AckSample {
            bytes_acked,
            in_flight,
            largest_sent_at: at(sent_ms),
            has_losses: false,
            has_rtt_sample: true,
            app_limited: false,
            queue_delay: None,
            rate: None,
            packets_acked: 1,
        }
    }

    fn loss(packets: u32) -> LossSample {
        LossSample {
            bytes_lost: u64::from(packets) * MTU,
            packets,
            largest_lost_sent_at: at(150),
            prior_in_flight: JUMP,
        }
    }

    /// The first flight has arrived after 100 ms.
    fn resumed(rtt: Duration) -> CarefulResume {
        let mut resume = CarefulResume::new(MEMORY);
        resume.on_ack(at(100), &ack(6000, 6000, 0), rtt, &FIRST);
        assert_eq!(resume.limit(), Limit::None);
        resume.on_ack(at(101), &ack(6000, 12_000, 0), rtt, &FIRST);
        resume
    }

    /// The first packet of the jump has arrived, after 48000 bytes of before.
    fn validating() -> CarefulResume {
        let mut resume = resumed(100 * MS);
        resume.on_ack(at(150), &ack(48_000, 40_000, 90), 100 * MS, &FIRST);
        // The trial began with 18000 bytes in flight.
        resume.on_ack(at(201), &ack(MTU, JUMP, 102), 100 * MS, &FIRST);
        resume
    }

    #[test]
    /// spec-test: CC-43, CC-44
    fn half_of_what_was_known_is_tried_once_the_path_is_confirmed() {
        let rate = JUMP * 10;
        assert_eq!(resumed(100 * MS).limit(), Limit::AtLeast { window: JUMP, rate });
        // A longer way takes the same window at a lower rate; a shorter one less of it.
        let longer = resumed(200 * MS).limit();
        assert_eq!(longer, Limit::AtLeast { window: JUMP, rate: JUMP * 5 });
        let shorter = resumed(50 * MS).limit();
        assert_eq!(shorter, Limit::AtLeast { window: JUMP / 2, rate });
        for rtt in [49 * MS, 1001 * MS] {
            assert!(resumed(rtt).is_over(), "another path");
        }
    }

    #[test]
    /// spec-test: CC-43
    fn nothing_is_tried_where_nobody_asks_or_little_is_known_or_something_was_too_much() {
        let mut resume = CarefulResume::new(MEMORY);
        for _ in 0..20 {
            resume.on_ack(at(100), &ack(MTU, 0, 0), 100 * MS, &FIRST);
        }
        assert_eq!(resume.limit(), Limit::None, "one packet at a time");
        resume.on_ack(at(200), &ack(MTU, 6000, 100), 100 * MS, &FIRST);
        assert!(matches!(resume.limit(), Limit::AtLeast { .. }));
        let little = PathMemory { delivery_rate_kib: 100, ..MEMORY };
        let mut resume = CarefulResume::new(little);
        resume.on_ack(at(100), &ack(12_000, 12_000, 0), 100 * MS, &FIRST);
        assert!(resume.is_over());
        let mut resume = CarefulResume::new(MEMORY);
        resume.on_loss(at(100), &loss(1), true);
        assert!(resume.is_over());
        let mut resume = CarefulResume::new(MEMORY);
        let limited = View { is_starting: false, ..FIRST };
        resume.on_ack(at(100), &ack(12_000, 12_000, 0), 100 * MS, &limited);
        assert!(resume.is_over());
    }

    #[test]
    /// spec-test: CC-44
    fn the_trial_ends_when_what_was_in_flight_has_arrived() {
        let mut resume = validating();
        let arrived = 18_000 + 48_000 + MTU;
        assert!(matches!(resume.limit(), Limit::AtLeast { window, .. } if window == arrived));
        resume.on_ack(at(250), &ack(MTU, JUMP, 200), 100 * MS, &FIRST);
        assert!(!resume.is_over());
        resume.on_ack(at(302), &ack(MTU, JUMP, 201), 100 * MS, &FIRST);
        assert!(resume.is_over());
    }

    #[test]
    /// spec-test: CC-45
    fn losses_of_the_trial_bring_back_half_of_what_arrived() {
        let mut resume = validating();
        resume.on_loss(at(210), &loss(2), false);
        assert!(matches!(resume.limit(), Limit::AtLeast { .. }), "the path's own");
        resume.on_loss(at(210), &loss(1), false);
        // 18000 bytes were in flight at the jump, and then 49200 arrived.
        assert_eq!(resume.limit(), Limit::AtMost((18_000 + 49_200) / 2));
        resume.on_ack(at(220), &ack(2000, JUMP, 150), 100 * MS, &FIRST);
        assert_eq!(resume.limit(), Limit::AtMost((18_000 + 51_200) / 2));
        resume.on_ack(at(330), &ack(MTU, MTU, 202), 100 * MS, &FIRST);
        assert!(resume.is_over());
        for congest in [CarefulResume::on_congestion, |resume: &mut CarefulResume, now| {
            resume.on_loss(now, &loss(1), true);
        }] {
            let mut resume = resumed(100 * MS);
            congest(&mut resume, at(150));
            assert_eq!(resume.limit(), Limit::AtMost(9000));
        }
        let mut resume = validating();
        let limited = View { is_starting: false, ..FIRST };
        resume.on_ack(at(250), &ack(MTU, JUMP, 150), 100 * MS, &limited);
        assert!(resume.is_over(), "a queue is answered by the controller");
    }
}
