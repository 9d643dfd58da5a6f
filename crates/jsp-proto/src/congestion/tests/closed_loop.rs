//! Recovery, CUBIC, the pacer and the acknowledgement policy together over a bottleneck, in
//! virtual time.

use std::collections::VecDeque;

use jsp_wire::frame::Ack;
use jsp_wire::{Frame, Payload};

use super::super::*;
use crate::ack::AckPolicy;
use crate::error::TransportError;
use crate::pacer::Pacer;
use crate::packet::PacketBuilder;
use crate::recovery::{DeliveryRate, LossOutcome, Recovery, SentInfo};

const MTU: u64 = 1200;
const DELAY_MAX: Duration = Duration::from_millis(25);

/// A link with a queue that drops at its end, and losses at random besides.
struct Link {
    rate: u64,
    one_way: Duration,
    queue_max: u64,
    /// Of a million packets, this many are lost.
    loss_ppm: u64,
    /// Every so many packets one is late by this much.
    late: Option<(u64, Duration)>,
    free_at: Instant,
    random: u64,
}

impl Link {
    fn carry(&mut self, now: Instant, pn: u64) -> Option<Instant> {
        let queued = self.free_at.since(now).as_nanos() as u64 * self.rate / 1_000_000_000;
        if queued + MTU > self.queue_max {
            return None;
        }
        let start = self.free_at.max(now);
        self.free_at = start + Duration::from_nanos(MTU * 1_000_000_000 / self.rate);
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        if (self.random >> 33) % 1_000_000 < self.loss_ppm {
            return None;
        }
        let late = self
            .late
            .filter(|(every, _)| pn.is_multiple_of(*every))
            .map_or(Duration::ZERO, |l| l.1);
        Some(self.free_at + self.one_way + late)
    }
}

#[derive(Default, Debug)]
struct Totals {
    sent: u64,
    arrived: u64,
    lost: u64,
    spurious: u64,
    acks: u64,
}

struct Loop {
    recovery: Recovery,
    rtt: Rtt,
    delivery: DeliveryRate,
    congestion: Congestion,
    pacer: Pacer,
    acks: AckPolicy,
    next_pn: u64,
    totals: Totals,
}

impl Loop {
    fn new() -> Self {
        Self {
            recovery: Recovery::new(),
            rtt: Rtt::new(Duration::from_millis(333)),
            delivery: DeliveryRate::default(),
            congestion: Congestion::cubic(MTU as usize),
            pacer: Pacer::new(),
            acks: AckPolicy::new(DELAY_MAX),
            next_pn: 0,
            totals: Totals::default(),
        }
    }

    /// Sends what is allowed; answers when the pacer allows more, if it is the limit.
    fn send(
        &mut self,
        now: Instant,
        link: &mut Link,
        wire: &mut VecDeque<(Instant, u64)>,
        probes: u8,
    ) -> Option<Instant> {
        let mut probes = probes;
        loop {
            let rate = self.congestion.pacing_rate(&self.rtt);
            if probes == 0 {
                if self.recovery.bytes_in_flight() + MTU > self.congestion.window() {
                    return None;
                }
                if let Some(at) = self.pacer.next_release(now, rate, MTU as usize) {
                    return Some(at);
                }
            }
            probes = probes.saturating_sub(1);
            let info = SentInfo {
                pn: self.next_pn,
                size: MTU as u16,
                ack_eliciting: true,
                in_flight: true,
                ..SentInfo::default()
            };
            self.next_pn += 1;
            self.recovery.on_sent(now, info, &[], false, &mut self.delivery).expect("load");
            self.congestion.on_sent(now, MTU, self.recovery.bytes_in_flight());
            self.pacer.on_sent(MTU as usize);
            self.totals.sent += 1;
            if let Some(at) = link.carry(now, info.pn) {
                let place = wire.partition_point(|(other, _)| *other <= at);
                wire.insert(place, (at, info.pn));
            }
        }
    }

    fn on_ack(&mut self, now: Instant, ack: &Ack<'_>) -> Result<(), TransportError> {
        let mut fates = Vec::new();
        let prior = self.recovery.bytes_in_flight();
        let Self { recovery, rtt, delivery, .. } = self;
        let outcome = recovery.on_ack(now, ack, DELAY_MAX, rtt, delivery, &mut fates)?;
        self.totals.spurious += u64::from(outcome.spurious);
        if outcome.spurious > 0 {
            self.congestion.on_spurious_loss(now, outcome.spurious);
        }
        self.on_lost(now, &outcome.lost, prior);
        if let (true, Some(sent_at)) =
            (outcome.bytes_acked > 0, outcome.largest_newly_acked_sent_at)
        {
            let sample = AckSample {
                bytes_acked: outcome.bytes_acked,
                in_flight: self.recovery.bytes_in_flight(),
                largest_sent_at: sent_at,
                has_losses: outcome.lost.packets > 0,
                has_rtt_sample: outcome.rtt_sample.is_some(),
                app_limited: outcome.app_limited,
            };
            self.congestion.on_ack(now, &sample, &self.rtt);
        }
        if outcome.rtt_sample.is_some() {
            self.acks.set_rtt(self.rtt.smoothed());
        }
        Ok(())
    }

    fn on_lost(&mut self, now: Instant, lost: &LossOutcome, prior_in_flight: u64) {
        self.totals.lost += u64::from(lost.packets);
        let Some(sent_at) = lost.largest_lost_sent_at else { return };
        let sample = LossSample {
            bytes_lost: lost.bytes_lost,
            packets: lost.packets,
            largest_lost_sent_at: sent_at,
            prior_in_flight,
        };
        self.congestion.on_loss(now, &sample);
        if lost.persistent_congestion {
            self.congestion.on_persistent_congestion(now);
        }
    }

    /// The receiver's ACK, if one is due; answers its bytes.
    fn ack(&mut self, now: Instant) -> Option<(Vec<u8>, jsp_wire::Shape)> {
        if !self.acks.wants_ack_now(now) {
            return None;
        }
        let mut room = [0u8; MTU as usize];
        let mut tokens = Vec::new();
        let mut packet = PacketBuilder::new(&mut room, &mut tokens, true);
        self.acks.write(now, &mut packet, true);
        let built = packet.finish();
        self.totals.acks += 1;
        Some((room[..built.len].to_vec(), built.shape))
    }
}

/// Sends all it can for `seconds`.
fn run(mut link: Link, seconds: u64) -> (Loop, f64) {
    let mut side = Loop::new();
    let end = Instant::from_nanos(seconds * 1_000_000_000);
    let mut wire: VecDeque<(Instant, u64)> = VecDeque::new();
    let mut back: VecDeque<(Instant, Vec<u8>, jsp_wire::Shape)> = VecDeque::new();
    let mut now = Instant::ZERO;
    let mut probes = 0;
    while now < end {
        let paced = side.send(now, &mut link, &mut wire, probes);
        probes = 0;
        let timer = side.recovery.poll_timeout(&side.rtt, DELAY_MAX, true);
        let next = [
            paced,
            wire.front().map(|entry| entry.0),
            back.front().map(|entry| entry.0),
            timer.map(|(at, _)| at),
            side.acks.poll_timeout(),
        ];
        now = next.into_iter().flatten().min().expect("something is always to come").max(now);
        while let Some((_, pn)) = wire.pop_front_if(|entry| entry.0 <= now) {
            side.totals.arrived += 1;
            side.acks.on_packet(now, pn, true, None);
        }
        if let Some((bytes, shape)) = side.ack(now) {
            back.push_back((now + link.one_way, bytes, shape));
        }
        while let Some((_, bytes, shape)) = back.pop_front_if(|entry| entry.0 <= now) {
            for frame in Payload::read(shape, &bytes).expect("readable") {
                if let Frame::Ack(ack) = frame.expect("readable") {
                    side.on_ack(now, &ack).expect("a true ACK");
                    // The peer of the ACK's sender has it: as its echo would tell.
                    side.acks.on_fate(ack.largest, crate::token::Fate::Acked);
                }
            }
        }
        if timer.is_some_and(|(at, _)| at <= now) {
            let prior = side.recovery.bytes_in_flight();
            let outcome =
                side.recovery.on_timeout(now, &side.rtt, DELAY_MAX, true, &mut Vec::new());
            side.on_lost(now, &outcome.lost, prior);
            probes = outcome.probes;
        }
    }
    let utilisation = (side.totals.arrived * MTU) as f64 / (link.rate * seconds) as f64;
    (side, utilisation)
}

fn link(mbit: u64, rtt_ms: u64, queue_bdp_percent: u64) -> Link {
    let rate = mbit * 125_000;
    Link {
        rate,
        one_way: Duration::from_millis(rtt_ms) / 2,
        queue_max: (rate * rtt_ms / 1000 * queue_bdp_percent / 100).max(10 * MTU),
        loss_ppm: 0,
        late: None,
        free_at: Instant::ZERO,
        random: 1,
    }
}

#[test]
fn clean_links_are_filled() {
    for (mbit, rtt_ms) in [(10, 10), (10, 60), (100, 60), (100, 200)] {
        let (side, utilisation) = run(link(mbit, rtt_ms, 100), 20);
        let lost = side.totals.lost as f64 / side.totals.sent as f64;
        assert!(utilisation > 0.9, "{mbit} Mbit/s {rtt_ms} ms: {utilisation} {:?}", side.totals);
        // Nearly all of it is the end of slow start: five rounds of conservative growth are more
        // than a queue of one bandwidth-delay product holds.
        assert!(lost < 0.02, "{mbit} Mbit/s {rtt_ms} ms: {:?}", side.totals);
        assert_eq!(side.totals.spurious, 0);
    }
}

#[test]
fn a_shallow_queue_does_not_starve_the_link() {
    let (side, utilisation) = run(link(10, 60, 25), 20);
    assert!(utilisation > 0.8, "{utilisation} {:?}", side.totals);
}

#[test]
fn acknowledgements_of_bulk_are_few() {
    let (side, _) = run(link(100, 60, 100), 10);
    // About eight in a round trip: one for 60 packets and more would be, 44 is the limit.
    assert!(side.totals.acks * 20 < side.totals.arrived, "{:?}", side.totals);
}

#[test]
fn late_packets_are_understood_soon() {
    // One packet in 100 is 10 ms late at a round trip of 60 ms.
    let jittery = Link { late: Some((100, Duration::from_millis(10))), ..link(10, 60, 100) };
    let (side, utilisation) = run(jittery, 20);
    assert!(utilisation > 0.9, "{utilisation} {:?}", side.totals);
    assert!(side.totals.spurious * 100 <= side.totals.sent, "{:?}", side.totals);
    assert!(side.totals.spurious <= 10, "{:?}", side.totals);
}

#[test]
fn random_loss_is_survived() {
    for ppm in [10_000, 50_000, 300_000] {
        let lossy = Link { loss_ppm: ppm, ..link(10, 60, 100) };
        let (side, utilisation) = run(lossy, 30);
        // What CUBIC gets from such losses is little; that it goes on is what counts here.
        assert!(utilisation > 0.005, "{ppm}: {utilisation} {:?}", side.totals);
        let found = side.totals.lost + side.recovery.bytes_in_flight() / MTU;
        assert!(found >= side.totals.sent - side.totals.arrived, "{ppm}: {:?}", side.totals);
    }
}
