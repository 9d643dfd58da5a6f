//! Recovery, a congestion controller, the pacer and the acknowledgement policy of any number of
//! flows over one bottleneck, in virtual time.

use std::collections::VecDeque;

use jsp_wire::frame::Ack;
use jsp_wire::{Frame, Payload, Shape};

use super::super::*;
use crate::ack::AckPolicy;
use crate::error::TransportError;
use crate::pacer::Pacer;
use crate::packet::PacketBuilder;
use crate::recovery::{DeliveryRate, LossOutcome, Recovery, SentInfo};
use crate::token::Token;

pub(super) const MTU: u64 = 1200;
const DELAY_MAX: Duration = Duration::from_millis(25);

/// Bytes of a packet with nothing but a voice message.
const VOICE_PACKET: u64 = 200;

/// A link with a queue that drops at its end, and losses at random besides.
#[derive(Clone)]
pub(super) struct Link {
    /// Bytes a second.
    pub(super) rate: u64,
    pub(super) one_way: Duration,
    pub(super) queue_max: u64,
    /// Of a million packets, this many are lost; and on the way back.
    pub(super) loss_ppm: u64,
    pub(super) loss_back_ppm: u64,
    /// Every so many packets one is late by this much.
    pub(super) late: Option<(u64, Duration)>,
    /// Each packet is late by up to this much, at random.
    pub(super) jitter: Duration,
    /// Each so often everything stands still for so long, and then comes at once, like on a radio
    /// that looks at other channels.
    pub(super) stalls: Option<(Duration, Duration)>,
    /// From then on the link has another rate.
    pub(super) steps: Vec<(Instant, u64)>,
    /// Times at which the link takes a packet, again and again, in place of its rate.
    pub(super) trace: Option<Trace>,
    /// Bytes a second, and bytes at once: what is above is dropped before the queue.
    pub(super) policer: Option<(u64, u64)>,
    pub(super) random: u64,
    pub(super) bucket: u64,
    pub(super) bucket_at: Instant,
    pub(super) free_at: Instant,
    /// How long each packet waited in the queue, and when.
    pub(super) waits: Vec<(Instant, Duration)>,
    /// Packets that found the queue full, or were policed.
    pub(super) dropped: u64,
}

/// A link that carries `OPPORTUNITY` bytes at each of its times, and nothing between.
#[derive(Clone)]
pub(super) struct Trace {
    /// Milliseconds, rising.
    pub(super) times: Vec<u64>,
    /// Where it has come to, and what is left of that opportunity.
    at: usize,
    left: u64,
    /// When what is queued leaves, and its bytes.
    queued: VecDeque<(Instant, u64)>,
}

/// Bytes of one line of a Mahimahi trace.
const OPPORTUNITY: u64 = 1500;

impl Trace {
    pub(super) fn new(times: Vec<u64>) -> Self {
        Self { times, at: 0, left: OPPORTUNITY, queued: VecDeque::new() }
    }

    fn time(&self, at: usize) -> Instant {
        let length = self.times.last().copied().unwrap_or(0) + 1;
        let (loops, place) = (at / self.times.len(), at % self.times.len());
        Instant::from_nanos((loops as u64 * length + self.times[place]) * 1_000_000)
    }

    fn take(&mut self, now: Instant, size: u64, queue_max: u64) -> Option<Instant> {
        while self.queued.pop_front_if(|entry| entry.0 <= now).is_some() {}
        if self.queued.iter().map(|entry| entry.1).sum::<u64>() + size > queue_max {
            return None;
        }
        while self.time(self.at) < now {
            (self.at, self.left) = (self.at + 1, OPPORTUNITY);
        }
        let mut rest = size;
        while rest > self.left {
            rest -= self.left;
            (self.at, self.left) = (self.at + 1, OPPORTUNITY);
        }
        self.left -= rest;
        let leaves = self.time(self.at);
        self.queued.push_back((leaves, size));
        Some(leaves)
    }

    /// Bytes that the link could carry in this time.
    pub(super) fn capacity(&self, time: Duration) -> u64 {
        let length = self.times.last().copied().unwrap_or(0) + 1;
        let ms = time.as_millis() as u64;
        let (loops, rest) = (ms / length, ms % length);
        let last = self.times.partition_point(|at| *at < rest) as u64;
        (loops * self.times.len() as u64 + last) * OPPORTUNITY
    }
}

impl Link {
    fn random(&mut self, below: u64) -> u64 {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.random >> 33) % below.max(1)
    }

    fn carry(&mut self, now: Instant, pn: u64, size: u64) -> Option<Instant> {
        while let Some((at, rate)) = self.steps.first().copied().filter(|step| step.0 <= now) {
            // What is queued is served at the new rate.
            let queued = self.free_at.since(at).as_nanos() as u64 * self.rate;
            self.free_at = self.free_at.min(at) + Duration::from_nanos(queued / rate);
            self.rate = rate;
            self.steps.remove(0);
        }
        if let Some((rate, depth)) = self.policer {
            let gained = now.since(self.bucket_at).as_nanos() as u64 * rate / 1_000_000_000;
            if gained > 0 {
                self.bucket = (self.bucket + gained).min(depth);
                self.bucket_at = now;
            }
            if self.bucket < size {
                self.dropped += 1;
                return None;
            }
            self.bucket -= size;
        }
        if let Some(trace) = &mut self.trace {
            let Some(leaves) = trace.take(now, size, self.queue_max) else {
                self.dropped += 1;
                return None;
            };
            self.waits.push((now, leaves.since(now)));
            return Some(leaves + self.one_way);
        }
        let wait = self.free_at.since(now);
        let queued = wait.as_nanos() as u64 * self.rate / 1_000_000_000;
        if queued + size > self.queue_max {
            self.dropped += 1;
            return None;
        }
        self.waits.push((now, wait));
        self.free_at =
            self.free_at.max(now) + Duration::from_nanos(size * 1_000_000_000 / self.rate);
        if self.random(1_000_000) < self.loss_ppm {
            return None;
        }
        let late = self.late.filter(|(every, _)| pn.is_multiple_of(*every));
        let jitter = Duration::from_nanos(self.random(self.jitter.as_nanos() as u64));
        let at = self.free_at + self.one_way + late.map_or(Duration::ZERO, |l| l.1) + jitter;
        let Some((every, length)) = self.stalls else { return Some(at) };
        let since = Duration::from_nanos(at.as_nanos() % every.as_nanos() as u64);
        Some(if since < length { at + (length - since) } else { at })
    }

    /// The wait that this share of the packets sent from `from` on did not exceed, in milliseconds.
    pub(super) fn wait_ms(&self, share: f64, from: Duration) -> f64 {
        let begin = Instant::ZERO + from;
        let late = self.waits.iter().filter(|(at, _)| *at >= begin);
        percentile(late.map(|(_, wait)| *wait).collect(), share)
    }
}

/// The value that this share of them do not exceed, in milliseconds.
pub(super) fn percentile(mut values: Vec<Duration>, share: f64) -> f64 {
    values.sort_unstable();
    let at = ((values.len() as f64 * share) as usize).min(values.len().saturating_sub(1));
    values.get(at).map_or(0.0, |value| value.as_secs_f64() * 1000.0)
}

#[derive(Default, Debug, Clone)]
pub(super) struct Totals {
    pub(super) sent: u64,
    pub(super) arrived: u64,
    pub(super) arrived_bytes: u64,
    pub(super) lost: u64,
    pub(super) spurious: u64,
    pub(super) acks: u64,
    pub(super) sent_bytes: u64,
    pub(super) probe_timeouts: u64,
}

/// What a flow has to send.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Load {
    pub(super) bulk: bool,
    /// A message of voice each 20 ms, before anything else.
    pub(super) voice: bool,
    /// Frames of what the controller advises, but of no more than this, in bytes a second.
    pub(super) media: Option<u64>,
    pub(super) begins: Duration,
    /// The second in which it ends.
    pub(super) ends: Option<u64>,
    /// Its controller, if it is not the one that all have.
    pub(super) control: Option<CongestionControl>,
    /// What is known of the path.
    pub(super) memory: Option<PathMemory>,
    /// What its way takes longer than that of others, in each direction.
    pub(super) farther: Duration,
}

const VOICE_EVERY: Duration = Duration::from_millis(20);

/// Time between frames, and the least that an encoder makes, in bytes a second.
const FRAME_EVERY: Duration = Duration::from_millis(20);
const MEDIA_MIN: u64 = 12_500;

/// One flow with both its ends.
pub(super) struct Loop {
    pub(super) recovery: Recovery,
    pub(super) rtt: Rtt,
    delivery: DeliveryRate,
    pub(super) congestion: Congestion,
    pacer: Pacer,
    acks: AckPolicy,
    next_pn: u64,
    pub(super) load: Load,
    voice_at: Instant,
    /// When each message of voice that waits was made.
    voice: VecDeque<Instant>,
    frame_at: Instant,
    /// Frames of media that wait, from when they were made, with what is left of each.
    frames: VecDeque<(Instant, u64)>,
    /// How long each message of voice, and each packet of media since its frame was made, was on its
    /// way.
    pub(super) latencies: Vec<Duration>,
    pub(super) totals: Totals,
    wire: VecDeque<(Instant, u64, u64, Vec<Instant>)>,
    back: VecDeque<(Instant, Vec<u8>, Shape)>,
    probes: u8,
    paced_until: Option<Instant>,
}

impl Loop {
    fn new(control: CongestionControl, load: Load) -> Self {
        let mut congestion = Congestion::new(load.control.unwrap_or(control), MTU as usize);
        if let Some(memory) = load.memory {
            congestion.resume_from(memory);
        }
        Self {
            recovery: Recovery::new(),
            rtt: Rtt::new(Duration::from_millis(333)),
            delivery: DeliveryRate::default(),
            congestion,
            pacer: Pacer::new(),
            acks: AckPolicy::new(DELAY_MAX),
            next_pn: 0,
            load,
            voice_at: Instant::ZERO + load.begins,
            voice: VecDeque::new(),
            frame_at: Instant::ZERO + load.begins,
            frames: VecDeque::new(),
            latencies: Vec::new(),
            totals: Totals::default(),
            wire: VecDeque::new(),
            back: VecDeque::new(),
            probes: 0,
            paced_until: None,
        }
    }

    fn speak(&mut self, now: Instant) {
        while self.load.voice && self.voice_at <= now {
            self.voice.push_back(self.voice_at);
            self.voice_at = self.voice_at + VOICE_EVERY;
        }
    }

    /// An encoder that takes the advice for each frame, and makes good what still waits.
    fn film(&mut self, now: Instant) {
        let Some(most) = self.load.media else { return };
        while self.frame_at <= now {
            let rate = self.congestion.media_rate(&self.rtt).unwrap_or(most).clamp(MEDIA_MIN, most);
            let waiting: u64 = self.frames.iter().map(|frame| frame.1).sum();
            let size = (rate * FRAME_EVERY.as_millis() as u64 / 1000).saturating_sub(waiting);
            if size > 0 {
                self.frames.push_back((self.frame_at, size));
            }
            self.frame_at = self.frame_at + FRAME_EVERY;
        }
    }

    /// Size and making of the next packet of media.
    fn next_of_frame(&mut self) -> Option<(u64, Instant)> {
        let (made, left) = self.frames.front_mut()?;
        let (size, made) = ((*left).min(MTU - 40) + 40, *made);
        *left = left.saturating_sub(MTU - 40);
        self.frames.pop_front_if(|frame| frame.1 == 0);
        Some((size, made))
    }

    /// Sends what is allowed, and notes when the pacer allows more, if it is the limit.
    fn send(&mut self, now: Instant, link: &mut Link) {
        self.paced_until = None;
        if now < Instant::ZERO + self.load.begins {
            return;
        }
        if self.load.ends.is_some_and(|end| now.as_nanos() >= end * 1_000_000_000) {
            return;
        }
        self.speak(now);
        self.film(now);
        loop {
            let pace = self.congestion.pace(&self.rtt, Duration::ZERO);
            let in_flight = self.recovery.bytes_in_flight();
            let wants = self.load.bulk || !self.voice.is_empty() || !self.frames.is_empty();
            if self.probes == 0 {
                // Urgent data may exceed the window, as in the real corridor.
                let window = self.congestion.window();
                let urgent = !self.voice.is_empty() || !self.frames.is_empty();
                let packets = self.congestion.urgent_packets();
                let beyond = if urgent { (window / 2).min(packets * MTU) } else { 0 };
                if in_flight + MTU > window + beyond {
                    return;
                }
                let paced = self.pacer.next_release(now, pace, MTU as usize);
                if !wants {
                    if paced.is_none() {
                        self.delivery.mark_app_limited(in_flight);
                    }
                    return;
                }
                if let Some(at) = paced {
                    self.paced_until = Some(at);
                    return;
                }
            }
            self.probes = self.probes.saturating_sub(1);
            let size = match self.next_of_frame() {
                Some((size, made)) => {
                    self.voice.push_back(made);
                    size
                }
                None if self.load.bulk => MTU,
                None => VOICE_PACKET,
            };
            self.send_packet(now, link, size);
        }
    }

    fn send_packet(&mut self, now: Instant, link: &mut Link, size: u64) {
        let info = SentInfo {
            pn: self.next_pn,
            size: size as u16,
            ack_eliciting: true,
            in_flight: true,
            ..SentInfo::default()
        };
        self.next_pn += 1;
        let limited = self.delivery.app_limited();
        // Something that would have to go again.
        let tokens = [Token::HandshakeDone];
        self.recovery.on_sent(now, info, &tokens, limited, &mut self.delivery).expect("load");
        self.congestion.on_sent(now, size, self.recovery.bytes_in_flight());
        self.pacer.on_sent(size as usize);
        self.totals.sent += 1;
        self.totals.sent_bytes += size;
        let voice: Vec<Instant> = self.voice.drain(..).collect();
        if let Some(at) = link.carry(now, info.pn, size) {
            let at = at + self.load.farther;
            let place = self.wire.partition_point(|(other, ..)| *other <= at);
            self.wire.insert(place, (at, info.pn, size, voice));
        }
    }

    fn on_ack(&mut self, now: Instant, ack: &Ack<'_>) -> Result<(), TransportError> {
        let mut fates = Vec::new();
        let prior = self.recovery.bytes_in_flight();
        let Self { recovery, rtt, delivery, .. } = self;
        let outcome = recovery.on_ack(now, ack, DELAY_MAX, rtt, delivery, &mut fates)?;
        self.totals.spurious += u64::from(outcome.spurious);
        self.on_lost(now, &outcome.lost, prior);
        if outcome.spurious > 0 {
            self.congestion.on_spurious_loss(now, outcome.spurious);
        }
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
                queue_delay: None,
                rate: outcome.rate_sample,
                packets_acked: outcome.packets_acked,
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

    /// The receiver's ACK, if one is due.
    fn ack(&mut self, now: Instant) -> Option<(Vec<u8>, Shape)> {
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

    fn next_event(&self, now: Instant) -> Option<Instant> {
        let timer = self.recovery.poll_timeout(&self.rtt, DELAY_MAX, true);
        let begins = Instant::ZERO + self.load.begins;
        let next = [
            self.paced_until,
            self.wire.front().map(|entry| entry.0),
            self.back.front().map(|entry| entry.0),
            timer.map(|(at, _)| at),
            self.acks.poll_timeout(),
            self.load.voice.then_some(self.voice_at),
            self.load.media.is_some().then_some(self.frame_at),
            (now < begins).then_some(begins),
        ];
        next.into_iter().flatten().min()
    }

    /// Everything that is due at both ends.
    fn act(&mut self, now: Instant, link: &mut Link) {
        let timer = self.recovery.poll_timeout(&self.rtt, DELAY_MAX, true);
        while let Some((_, pn, size, voice)) = self.wire.pop_front_if(|entry| entry.0 <= now) {
            self.totals.arrived += 1;
            self.totals.arrived_bytes += size;
            self.latencies.extend(voice.iter().map(|made| now.since(*made)));
            self.acks.on_packet(now, pn, true, None);
        }
        if let Some((bytes, shape)) = self.ack(now)
            && link.random(1_000_000) >= link.loss_back_ppm
        {
            self.back.push_back((now + link.one_way + self.load.farther, bytes, shape));
        }
        while let Some((_, bytes, shape)) = self.back.pop_front_if(|entry| entry.0 <= now) {
            for frame in Payload::read(shape, &bytes).expect("readable") {
                if let Frame::Ack(ack) = frame.expect("readable") {
                    self.on_ack(now, &ack).expect("a true ACK");
                    // The peer of the ACK's sender has it: as its echo would tell.
                    self.acks.on_fate(ack.largest, crate::token::Fate::Acked);
                }
            }
        }
        if timer.is_some_and(|(at, _)| at <= now) {
            let prior = self.recovery.bytes_in_flight();
            let outcome =
                self.recovery.on_timeout(now, &self.rtt, DELAY_MAX, true, &mut Vec::new());
            self.on_lost(now, &outcome.lost, prior);
            self.probes = outcome.probes;
            self.totals.probe_timeouts += u64::from(outcome.probes > 0);
        }
    }
}

/// Lets the flows use the link for `seconds`; `watch` sees them after each event.
pub(super) fn share_watched(
    control: CongestionControl,
    mut link: Link,
    loads: &[Load],
    seconds: u64,
    mut watch: impl FnMut(Instant, &[Loop], &Link),
) -> (Vec<Loop>, Link) {
    let mut flows: Vec<Loop> = loads.iter().map(|load| Loop::new(control, *load)).collect();
    let end = Instant::from_nanos(seconds * 1_000_000_000);
    let mut now = Instant::ZERO;
    while now < end {
        for flow in &mut flows {
            flow.send(now, &mut link);
        }
        let next = flows.iter().filter_map(|flow| flow.next_event(now)).min();
        now = next.expect("something is always to come").max(now);
        for flow in &mut flows {
            flow.act(now, &mut link);
        }
        watch(now, &flows, &link);
    }
    (flows, link)
}

pub(super) fn share(
    control: CongestionControl,
    link: Link,
    loads: &[Load],
    seconds: u64,
) -> (Vec<Loop>, Link) {
    share_watched(control, link, loads, seconds, |_, _, _| ())
}

pub(super) const BULK: Load = Load {
    bulk: true,
    voice: false,
    media: None,
    begins: Duration::ZERO,
    ends: None,
    control: None,
    memory: None,
    farther: Duration::ZERO,
};
pub(super) const VOICE: Load = Load { bulk: false, voice: true, ..BULK };
pub(super) const MEDIA: Load = Load { bulk: false, media: Some(u64::MAX), ..BULK };
pub(super) const BOTH: Load = Load { voice: true, ..BULK };

/// One flow sends all it can for `seconds`; answers it and its share of the link.
pub(super) fn run(control: CongestionControl, link: Link, seconds: u64) -> (Loop, Link, f64) {
    let rate = link.rate;
    let (mut flows, link) = share(control, link, &[BULK], seconds);
    let side = flows.remove(0);
    let utilisation = side.totals.arrived_bytes as f64 / (rate * seconds) as f64;
    (side, link, utilisation)
}

pub(super) fn link(mbit: u64, rtt_ms: u64, queue_bdp_percent: u64) -> Link {
    let rate = mbit * 125_000;
    Link {
        rate,
        one_way: Duration::from_millis(rtt_ms) / 2,
        queue_max: (rate * rtt_ms / 1000 * queue_bdp_percent / 100).max(10 * MTU),
        loss_ppm: 0,
        loss_back_ppm: 0,
        late: None,
        jitter: Duration::ZERO,
        stalls: None,
        steps: Vec::new(),
        trace: None,
        policer: None,
        random: 1,
        bucket: 0,
        bucket_at: Instant::ZERO,
        free_at: Instant::ZERO,
        waits: Vec::new(),
        dropped: 0,
    }
}
