//! Acknowledgements of one packet number space: what has arrived, and when to say so.
//!
//! Three rules decide when: so many ack-eliciting packets, so much time, or something that the
//! sender should know at once (a gap, a late packet, a congestion mark). For streams of many
//! packets the first two widen by themselves to about eight acknowledgements in a round trip,
//! unless the peer has asked for something else with ACK_FREQUENCY.

mod arrivals;
mod received;
mod ride;
mod times;
mod told;

use core::time::Duration;

use jsp_wire::frame::{self, AckFrequency, EcnCounts, kind};
use jsp_wire::{CloseCode, Frame, Instant, PathId, Shape, limits};

use crate::batch::Ecn;
use crate::error::TransportError;
use crate::fec::RecoveredMarks;
use crate::pack::packed;
use crate::packet::PacketBuilder;
use crate::token::{Fate, Token};
use arrivals::Arrivals;
pub(crate) use received::ReceivedRanges;
use ride::Ride;
use times::{ArrivalLog, SECTION_LEN_MAX};
pub(crate) use told::Arrived;

/// Ranges that one ACK names, from the highest down: older gaps were named by many ACKs before.
const RANGES_WRITTEN_MAX: usize = 64;

/// Ack-eliciting packets that may go unacknowledged by default: every second one is acknowledged
/// (RFC 9000, section 13.2.2).
const THRESHOLD_DEFAULT: u64 = 1;

/// The same while acknowledgements ride along in packets that leave regularly, and few are missing.
const THRESHOLD_RIDE: u64 = 4;

/// Ack-eliciting packets before the adaptive rule takes hold: the sender's first rounds need every
/// acknowledgement.
const ADAPTIVE_AFTER: u64 = 100;

/// Acknowledgements that the adaptive rule leaves in a round trip (HyStart++ needs eight samples).
const ACKS_PER_RTT: u32 = 8;

/// The adaptive rule waits at least this long: timers are no finer.
const DELAY_MIN: Duration = Duration::from_millis(1);

/// A wish for a longer delay than this is a fault, in microseconds: parameters end here too.
const WISH_DELAY_LIMIT_US: u64 = 1 << 24;

/// ACKs sent since one was known to have arrived, after which a PING goes along if they drag many
/// ranges: the peer acknowledges it, and what it then knows can be forgotten here.
const PING_AFTER: u32 = 8;

/// The same where they drag none: each stays in the ledger until the peer has acknowledged a later packet, and the
/// ledger takes only so many.
const PING_AFTER_QUIET: u32 = 2048;

/// Ranges that ACKs may name without a PING: a gap that is left on purpose (ACK-4) is not worth one.
const RANGES_QUIET: usize = 2;

/// What so many ACKs have told, the peer knows; were it wrong, it would send a little again.
const TOLD_ENOUGH: u32 = 64;

/// Room for an ACK of another path, in bytes: its numbers, its sections, and what is before it.
const ABOUT_ROOM_MIN: usize = 80 + SECTION_LEN_MAX + RECOVERED_LEN_MAX;

/// Bytes of the recovered numbers in an ACK: gaps are below 2^14.
const RECOVERED_LEN_MAX: usize = 2 * limits::RECOVERED_NUMBERS_MAX;

/// How often to acknowledge.
#[derive(Clone, Copy, Debug)]
struct Frequency {
    /// Ack-eliciting packets that may go unacknowledged.
    threshold: u64,
    /// How long one may.
    delay: Duration,
    /// Gap in packet numbers that is told at once; 0 for never.
    reordering: u64,
    /// More packets may go by in a fast stream.
    adapts: bool,
}
packed!(Frequency { threshold, delay, reordering, adapts });

/// What a space has received and when it says so.
#[derive(Clone, Debug)]
pub(crate) struct AckPolicy {
    /// Whose packets these are.
    path: PathId,
    ranges: ReceivedRanges,
    counts: EcnCounts,
    frequency: Frequency,
    /// The longest delay that we promised the peer.
    delay_max: Duration,
    /// Sequence number of the peer's request that holds, if there was one.
    requested: Option<u64>,
    arrivals: Arrivals,
    ride: Ride,
    /// None waits for a later packet: the peer watches for silence, and has another path to go by.
    is_prompt: bool,
    /// What is told of receive times, once both sides have said that they know them.
    times: Option<Box<ArrivalLog>>,
    /// The highest number received, and when: what the reported delay counts from.
    largest: Option<(u64, Instant)>,
    /// Ack-eliciting packets since the last ACK.
    unacked: u64,
    deadline: Option<Instant>,
    at_once: bool,
    /// The lowest missing number above what was reported as the largest.
    missing: Option<u64>,
    /// Something arrived that no ACK has named yet.
    has_news: bool,
    /// It has all been told by another path, as this one may not carry it.
    told_elsewhere: bool,
    /// ACKs sent since one was known to have arrived.
    unconfirmed: u32,
    told: Told,
    /// Which of the latest packets were recovered by forward error correction.
    recovered: Option<Box<RecoveredMarks>>,
}
packed!(AckPolicy {
    path, ranges, counts, frequency, delay_max, requested, arrivals, ride, is_prompt, largest,
    unacked, deadline, at_once, missing, has_news, told_elsewhere, unconfirmed, told; times,
    recovered
});

/// What is not packed of it.
pub(crate) struct ReceivedApart {
    times: Option<Box<ArrivalLog>>,
    recovered: Option<Box<RecoveredMarks>>,
}

/// What ACKs have told again and again.
#[derive(Clone, Copy, Debug, Default)]
struct Told {
    /// All of these named everything that had arrived up to this number.
    through: u64,
    acks: u32,
}
packed!(Told { through, acks });

impl AckPolicy {
    /// `delay_max` is what our parameters promise; zero, as for the packets of the handshake,
    /// stands for an acknowledgement of each packet at once.
    // spec: ACK-6
    pub(crate) fn new(delay_max: Duration) -> Self {
        let threshold = if delay_max.is_zero() { 0 } else { THRESHOLD_DEFAULT };
        let frequency =
            Frequency { threshold, delay: delay_max, reordering: 1, adapts: threshold > 0 };
        Self {
            path: PathId::FIRST,
            ranges: ReceivedRanges::default(),
            counts: EcnCounts::default(),
            frequency,
            delay_max,
            requested: None,
            arrivals: Arrivals::new(),
            ride: Ride::default(),
            is_prompt: false,
            times: None,
            largest: None,
            unacked: 0,
            deadline: None,
            at_once: false,
            missing: None,
            has_news: false,
            told_elsewhere: false,
            unconfirmed: 0,
            told: Told::default(),
            recovered: None,
        }
    }

    /// Takes out what is not packed.
    pub(crate) fn take_apart(&mut self) -> ReceivedApart {
        ReceivedApart { times: self.times.take(), recovered: self.recovered.take() }
    }

    /// Puts it back.
    pub(crate) fn put_back(&mut self, apart: ReceivedApart) {
        ReceivedApart { times: self.times, recovered: self.recovered } = apart;
    }

    /// Takes an authentic packet that is no duplicate.
    // spec: ACK-1, ACK-7, ACK-8
    pub(crate) fn on_packet(
        &mut self,
        now: Instant,
        pn: u64,
        ack_eliciting: bool,
        ecn: Option<Ecn>,
    ) {
        self.ranges.insert(pn);
        self.has_news = true;
        self.count(ecn);
        let before = self.largest.map(|(largest, _)| largest);
        if before.is_none_or(|largest| pn > largest) {
            self.largest = Some((pn, now));
        }
        let disorder = self.note_order(before, pn);
        let expected = before.map_or(pn, |largest| largest.saturating_add(1));
        self.ride.on_packet(pn.saturating_sub(expected));
        if !ack_eliciting {
            return;
        }
        self.unacked = self.unacked.saturating_add(1);
        self.told_elsewhere = false;
        self.arrivals.on_packet(now);
        if let Some(times) = &mut self.times {
            times.on_packet(now, pn);
        }
        self.at_once |= disorder || ecn == Some(Ecn::Ce);
        if self.deadline.is_none() {
            self.deadline = Some(now + self.delay());
        }
    }

    /// Both sides know receive times: from here on ACKs tell them.
    pub(crate) fn tell_times(&mut self) {
        self.times = Some(Box::default());
    }

    /// The packet, which [`AckPolicy::on_packet`] took, was put together from repair symbols.
    // spec: FEC-7
    pub(crate) fn on_recovered(&mut self, pn: u64) {
        self.recovered.get_or_insert_default().set(pn);
    }

    /// The packet was recovered, and has not come since.
    pub(crate) fn is_recovered(&self, pn: u64) -> bool {
        self.recovered.as_ref().is_some_and(|marks| marks.has(pn))
    }

    /// A packet that was recovered has come after all.
    // spec: FEC-7
    pub(crate) fn on_late(&mut self, pn: u64, ecn: Option<Ecn>) {
        // It counts as received from now on, and so does its mark.
        self.count(ecn);
        if let Some(marks) = &mut self.recovered {
            marks.clear(pn);
        }
    }

    /// The peer asks for an acknowledgement of everything so far, now.
    pub(crate) fn ask_now(&mut self) {
        self.at_once = true;
    }

    fn count(&mut self, ecn: Option<Ecn>) {
        let counter = match ecn {
            Some(Ecn::Ect0) => &mut self.counts.ect0,
            Some(Ecn::Ect1) => &mut self.counts.ect1,
            Some(Ecn::Ce) => &mut self.counts.ce,
            None => return,
        };
        *counter = counter.saturating_add(1);
    }

    /// True when the place of `pn` is something that the sender should know at once.
    fn note_order(&mut self, before: Option<u64>, pn: u64) -> bool {
        let reordering = self.frequency.reordering;
        let expected = before.map_or(pn, |largest| largest.saturating_add(1));
        if pn < expected {
            // Late: the sender may hold it lost already.
            if self.missing == Some(pn) {
                self.missing = None;
            }
            return reordering > 0;
        }
        if pn > expected && self.missing.is_none() {
            self.missing = Some(expected);
        }
        let distance = self.missing.map_or(0, |missing| pn.saturating_sub(missing));
        reordering > 0 && distance >= reordering
    }

    /// True when an ACK should go out even if nothing else does.
    pub(crate) fn wants_ack_now(&self, now: Instant) -> bool {
        self.unacked > 0
            && (self.at_once
                || self.unacked > self.threshold().max(self.ride_threshold(now))
                || self.deadline.is_some_and(|at| at <= now))
    }

    /// True when an ACK would say something new: it may ride along in a packet that leaves anyway.
    pub(crate) fn has_news(&self) -> bool {
        self.has_news && self.unacked > 0
    }

    /// A packet with data leaves: true when an ACK should ride along, because it says something new and
    /// no later packet is expected in time.
    // spec: ACK-17
    pub(crate) fn rides(&mut self, now: Instant) -> bool {
        self.ride.on_leaving(now);
        if !self.has_news() {
            return false;
        }
        let waits = self.ride_threshold(now) > self.unacked
            && self.ride.next(now).is_some_and(|next| self.deadline.is_some_and(|at| at >= next));
        !waits
    }

    /// Packets that may go unacknowledged while acknowledgements ride along in packets that leave
    /// regularly.
    // spec: ACK-17
    fn ride_threshold(&self, now: Instant) -> u64 {
        let may_wait = self.frequency.adapts
            && !self.is_prompt
            && self.arrivals.total >= ADAPTIVE_AFTER
            && self.ride.next(now).is_some();
        if may_wait { THRESHOLD_RIDE } else { 0 }
    }

    /// When [`AckPolicy::wants_ack_now`] becomes true by itself.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        if self.unacked == 0 { None } else { self.deadline }
    }

    /// Writes an ACK if it would say something new, as shape ack when `alone` says that nothing
    /// else will be in the packet. False when nothing was written.
    // spec: ACK-9, ACK-10
    pub(crate) fn write(
        &mut self,
        now: Instant,
        packet: &mut PacketBuilder<'_>,
        alone: bool,
    ) -> bool {
        let Some((largest, received_at)) = self.largest.filter(|_| self.has_news) else {
            return false;
        };
        let delay = now.since(received_at).as_micros() / 8;
        let delay = u64::try_from(delay).unwrap_or(u64::MAX);
        let counts = (self.counts != EcnCounts::default()).then_some(self.counts);
        let wants_ping = alone && self.wants_ping();
        let mut room = [0; SECTION_LEN_MAX];
        let log = self.times.as_deref();
        let len = log.map_or(0, |log| log.section(now, (largest, received_at), &mut room));
        let times = room.get(..len).unwrap_or_default();
        let mut room = [0; RECOVERED_LEN_MAX];
        let recovered = match &self.recovered {
            Some(marks) => marks.section(largest, &mut room),
            None => &[],
        };
        let bare = counts.is_none() && times.is_empty() && recovered.is_empty();
        let as_shape = alone && !wants_ping && bare && packet.may_shape();
        let ranges = self.ranges.iter().take(RANGES_WRITTEN_MAX);
        let writer = packet.writer();
        if frame::write_ack(writer, !as_shape, delay, ranges, counts, times, recovered).is_err() {
            return false;
        }
        packet.begin_content();
        let told = !times.is_empty();
        if let Some(log) = &mut self.times {
            log.on_written(now, told);
        }
        let has_ping = wants_ping && packet.writer().varint(kind::PING).is_ok();
        if as_shape {
            packet.set_shape(Shape::Ack);
        }
        packet.push_quiet(Token::Ack { path: self.path, largest });
        if has_ping {
            packet.elicit_ack();
        }
        self.on_written(largest);
        true
    }

    /// The peer should acknowledge one of our ACKs: they drag gaps along, or have filled the ledger for long.
    fn wants_ping(&self) -> bool {
        let after = if self.ranges.len() > RANGES_QUIET { PING_AFTER } else { PING_AFTER_QUIET };
        self.unconfirmed >= after && self.unconfirmed.is_multiple_of(after)
    }

    /// Everything has been said.
    fn on_written(&mut self, largest: u64) {
        self.unacked = 0;
        self.deadline = None;
        self.at_once = false;
        self.missing = None;
        self.has_news = false;
        self.unconfirmed = self.unconfirmed.saturating_add(1);
        self.told.acks = self.told.acks.saturating_add(1);
        if self.told.acks > TOLD_ENOUGH {
            self.forget_told(self.told.through);
            self.told = Told { through: largest, acks: 0 };
        }
    }

    /// Forgets what the peer knows, up to `through`. The range at the top stays whole, so that the
    /// next ACK has something to stand on.
    fn forget_told(&mut self, through: u64) {
        let top = self.ranges.iter().next().map_or(0, |(low, _)| low);
        self.ranges.forget_through(through.min(top.saturating_sub(1)));
    }

    /// Whether acknowledgements may wait for a later packet than the next.
    pub(crate) fn set_prompt(&mut self, is_prompt: bool) {
        self.is_prompt = is_prompt;
    }

    /// Receive times are told.
    pub(crate) fn tells_times(&self) -> bool {
        self.times.is_some()
    }

    /// The same for the packets of a further path.
    pub(crate) fn of(mut self, path: PathId) -> Self {
        self.path = path;
        self
    }

    /// True when an ACK is due that another path has not told yet.
    pub(crate) fn wants_ack_elsewhere(&self, now: Instant) -> bool {
        !self.told_elsewhere && self.wants_ack_now(now)
    }

    /// Writes an ACK into a packet of another path, with the name of its own before it. By its own path it is
    /// still due: whichever of the two arrives.
    // spec: PTH-9, PTH-19
    pub(crate) fn write_elsewhere(&mut self, now: Instant, packet: &mut PacketBuilder<'_>) {
        let has_room = !packet.is_closed() && packet.remaining() >= ABOUT_ROOM_MIN;
        if has_room && self.has_news && Frame::AboutPath(self.path).write(packet.writer()).is_ok() {
            let due = (self.unacked, self.deadline, self.at_once, self.missing);
            let written = self.write(now, packet, false);
            debug_assert!(written, "there is room, and something to tell");
            (self.unacked, self.deadline, self.at_once, self.missing) = due;
            (self.has_news, self.told_elsewhere) = (true, true);
        }
    }

    /// What became of an ACK that named everything up to `largest`: what the peer has heard need
    /// not be told again; a lost ACK is made good by the next.
    // spec: ACK-11
    pub(crate) fn on_fate(&mut self, largest: u64, fate: Fate) {
        if fate == Fate::Lost {
            return;
        }
        self.unconfirmed = 0;
        self.forget_told(largest);
    }

    /// Takes the peer's wish for other rules, unless a newer one holds already.
    ///
    /// # Errors
    /// `PROTOCOL_VIOLATION` for a delay that no parameter could promise.
    // spec: ACK-12
    pub(crate) fn set_frequency(&mut self, wish: &AckFrequency) -> Result<(), TransportError> {
        if wish.delay_max_us >= WISH_DELAY_LIMIT_US {
            let reason = "ACK_FREQUENCY asks for a delay beyond 2^24 microseconds";
            return Err(TransportError::new(CloseCode::PROTOCOL_VIOLATION, reason));
        }
        if self.requested.is_some_and(|sequence| wish.sequence <= sequence) {
            return Ok(());
        }
        self.requested = Some(wish.sequence);
        self.frequency = Frequency {
            threshold: wish.threshold,
            delay: Duration::from_micros(wish.delay_max_us).clamp(DELAY_MIN, self.delay_cap()),
            reordering: wish.reordering,
            adapts: wish.threshold == THRESHOLD_DEFAULT && wish.reordering == 1,
        };
        Ok(())
    }

    /// Ack-eliciting packets so far.
    pub(crate) fn received(&self) -> u64 {
        self.arrivals.total
    }

    /// The round-trip time of the path, for the adaptive rule.
    pub(crate) fn set_rtt(&mut self, rtt: Duration) {
        self.arrivals.interval =
            rtt.checked_div(ACKS_PER_RTT).unwrap_or_default().clamp(DELAY_MIN, self.delay_cap());
    }

    fn delay_cap(&self) -> Duration {
        self.delay_max.max(DELAY_MIN)
    }

    // spec: ACK-13
    fn threshold(&self) -> u64 {
        if !self.frequency.adapts {
            return self.frequency.threshold;
        }
        self.arrivals.threshold().max(self.frequency.threshold)
    }

    fn delay(&self) -> Duration {
        if self.threshold() > self.frequency.threshold {
            return self.arrivals.interval.min(self.frequency.delay);
        }
        self.frequency.delay
    }
}

#[cfg(test)]
mod tests;
