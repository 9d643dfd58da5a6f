//! The ways to the peer, each with what is measured on it.

pub(crate) mod memory;
pub(crate) mod mtud;
pub(crate) mod owd;
pub(crate) mod plural;
pub(crate) mod refuge;
pub(crate) mod rest;
pub(crate) mod silence;
pub(crate) mod usage;
pub(crate) mod validation;

use core::time::Duration;

use jsp_wire::frame::PathUse;
use jsp_wire::{Instant, PathId, Route, limits};

use crate::ack::AckPolicy;
use crate::ack_request::AckRequest;
use crate::capacity::{CapacityMeter, Senses};
use crate::config::TransportConfig;
use crate::congestion::{Congestion, MarkSample, UrgentStart};
use crate::fec::PathFec;
use crate::forecast::{Alarm, AlarmLevel, Forecast, Outlook, Scene};
use crate::hold::Hold;
use crate::pacer::{Pace, Pacer};
use crate::pack::{packed, packed_enum};
use crate::path::memory::{PastPaths, PathMemory, RateMemory};
use crate::path::mtud::Mtud;
use crate::path::owd::Owd;
use crate::path::refuge::Refuge;
use crate::path::silence::Silence;
use crate::path::usage::Usage;
use crate::path::validation::Candidate;
use crate::probes::Probes;
use crate::recovery::{DeliveryRate, EcnValidation, Rtt};
use crate::spaces::NumberSpace;
use crate::trickle::Trickle;

/// One way to the peer.
pub(crate) struct Path {
    pub(crate) id: PathId,
    pub(crate) route: Route,
    /// The peer is known to be at the other end of `route`.
    pub(crate) is_validated: bool,
    /// This end, a server, was told that its own address may have changed.
    pub(crate) may_have_moved: bool,
    /// An address on trial: the path's own at its start, later another one that the peer may have moved to.
    pub(crate) candidate: Option<Box<Candidate>>,
    /// Where the path may go back to, once it has moved.
    pub(crate) refuge: Option<Box<Refuge>>,
    pub(crate) usage: Usage,
    /// What it carries, by the latest plan.
    pub(crate) duty: Duty,
    /// Packets owed because nothing was heard in time.
    pub(crate) probes: Probes,
    /// A path that is to stay warm owes a sign of life.
    pub(crate) warmth: Warmth,
    /// What another path needs to know of this one, while there is another.
    pub(crate) rhythm: Option<Box<Rhythm>>,
    pub(crate) rtt: Rtt,
    pub(crate) congestion: Congestion,
    pub(crate) pacer: Pacer,
    pub(crate) trickle: Trickle,
    pub(crate) hold: Hold,
    pub(crate) delivery: DeliveryRate,
    pub(crate) mtud: Mtud,
    pub(crate) budget: Budget,
    /// Bytes that each datagram grows by on its way out: they count against the budget.
    pub(crate) wrapping: usize,
    /// Bytes that the carrier takes at once, where the route is one that is reliable.
    pub(crate) carrier_room: usize,
    pub(crate) ecn: EcnValidation,
    pub(crate) owd: Owd,
    pub(crate) forecast: Forecast,
    pub(crate) meter: CapacityMeter,
    pub(crate) rates: RateMemory,
    /// Present where somebody wants to know.
    pub(crate) silence: Option<Silence>,
    /// Present once a path was left.
    past: Option<Box<PastPaths>>,
    pub(crate) ack_request: AckRequest,
    /// Numbers of the 1-RTT packets that travel this way.
    pub(crate) numbers: NumberSpace,
    /// Forward error correction, once something asks for it.
    pub(crate) fec: Option<Box<PathFec>>,
}
packed!(Path {
    id, is_validated, may_have_moved, usage, duty, probes, warmth, rtt, congestion, pacer, trickle, hold,
    delivery, mtud, budget, wrapping, carrier_room, ecn, owd, forecast, meter, rates, silence,
    ack_request, numbers; candidate, refuge, rhythm, past, fec, route = Route::Tunnel { id: 0 }
});

impl Path {
    pub(crate) fn new(route: Route, budget: Budget, config: &TransportConfig) -> Self {
        let mut path = Self {
            id: PathId::FIRST,
            route,
            is_validated: true,
            may_have_moved: false,
            candidate: None,
            refuge: None,
            usage: Usage::default(),
            duty: Duty::All,
            probes: Probes::default(),
            warmth: Warmth::default(),
            rhythm: None,
            rtt: Rtt::new(config.rtt_initial),
            congestion: Congestion::new(config.congestion, limits::MTU_BASE),
            pacer: Pacer::new(),
            trickle: Trickle::default(),
            hold: Hold::default(),
            delivery: DeliveryRate::default(),
            mtud: Mtud::of(&route, config.mtu_ceiling),
            budget: budget.on(&route),
            wrapping: 0,
            carrier_room: 0,
            ecn: EcnValidation::new(config.ecn_mark()),
            owd: Owd::default(),
            forecast: Forecast::new(config.signals),
            meter: CapacityMeter::default(),
            rates: RateMemory::default(),
            silence: None,
            past: None,
            ack_request: AckRequest::default(),
            numbers: NumberSpace::new(config.ack_delay_max),
            fec: None,
        };
        if let Some(memory) = config.initial_path_memory {
            path.resume_from(memory);
        }
        path
    }

    /// A further path, whose route is on trial by the challenge.
    // spec: PTH-7
    pub(crate) fn further(id: PathId, trial: Candidate, config: &TransportConfig) -> Self {
        let route = trial.route;
        let config = &TransportConfig { initial_path_memory: None, ..config.clone() };
        let mut path = Self::new(route, trial.budget, config);
        path.id = id;
        path.is_validated = false;
        path.candidate = Some(Box::new(trial));
        let acks = AckPolicy::new(config.ack_delay_max);
        path.numbers.acks = acks.of(id);
        path
    }

    /// True when the route is the path's own, and the peer known to be there.
    pub(crate) fn is_settled_at(&self, route: &Route) -> bool {
        self.is_validated && self.route.same_ends(route)
    }

    /// How long after a packet left its acknowledgement is overdue, when some are, or none will come.
    /// `eager` listens to the silence of the peer's own packets too.
    pub(crate) fn overdue_after(
        &self,
        now: Instant,
        ack_delay_max: Duration,
        eager: bool,
    ) -> Option<Duration> {
        if self.usage.effective() == PathUse::Down {
            return Some(Duration::ZERO);
        }
        let oldest = self.numbers.recovery.oldest_eliciting()?;
        if eager && self.silent_at(oldest).is_some_and(|at| now >= at) {
            // What left before the silence is most likely there: a few copies too many.
            return Some(Duration::ZERO);
        }
        let after = self.ack_due_after(ack_delay_max)?;
        (now >= oldest + after).then_some(after)
    }

    /// When the oldest packet that waits for an acknowledgement is overdue, once that can be told.
    pub(crate) fn overdue_at(&self, ack_delay_max: Duration) -> Option<Instant> {
        let oldest = self.numbers.recovery.oldest_eliciting()?;
        let due = self.ack_due_after(ack_delay_max).map(|after| oldest + after);
        [due, self.silent_at(oldest)].into_iter().flatten().min()
    }

    /// When the silence of the peer is unusual, while this packet of ours is under way.
    fn silent_at(&self, oldest: Instant) -> Option<Instant> {
        self.rhythm.as_ref()?.arrivals.silent_at(oldest)
    }

    /// Where a second path is at hand: later than acknowledgements came of late.
    fn ack_due_after(&self, ack_delay_max: Duration) -> Option<Duration> {
        let usual = self.forecast.ack_due_after(&self.rtt, ack_delay_max)?;
        let slowest = self.rhythm.as_ref().and_then(|rhythm| rhythm.waits.slowest());
        let margin = self.rtt.var().max(WAIT_MARGIN);
        Some(slowest.map_or(usual, |slowest| usual.min(slowest.saturating_add(margin))))
    }

    /// True when nothing that is sent here can be relied on.
    // spec: PTH-13
    pub(crate) fn is_failing(&self) -> bool {
        let is_silent = self.forecast.alarm().level >= AlarmLevel::Degraded
            || self.numbers.recovery.pto_count() > 0;
        !self.is_validated || self.usage.effective() == PathUse::Down || is_silent
    }

    /// The path was known before: what it carried then is tried with care. To be called before data is
    /// sent.
    // spec: CC-43
    pub(crate) fn resume_from(&mut self, memory: PathMemory) {
        self.congestion.resume_from(memory);
    }

    /// What a later connection over this path should know of it.
    pub(crate) fn path_memory(&self) -> Option<PathMemory> {
        self.rtt.has_sample().then(|| self.rates.memory(self.rtt.min())).flatten()
    }

    /// Largest datagram that may be sent now, in bytes of UDP payload.
    // spec: CAR-12
    pub(crate) fn datagram_len_max(&self) -> usize {
        if self.route.is_reliable() && self.carrier_room < self.mtud.current() {
            return 0;
        }
        self.mtud.current().min(self.budget.remaining().saturating_sub(self.wrapping))
    }

    /// What the forecaster looks at. `ack_delay_max` is what the peer promised.
    pub(crate) fn scene(&self, now: Instant, ack_delay_max: Duration) -> Scene<'_> {
        let oldest = self.numbers.recovery.oldest_eliciting();
        Scene { now, oldest, owd: &self.owd, rtt: &self.rtt, ack_delay_max }
    }

    /// How fast packets may leave now: beside urgent data, the queue that they will meet has a say.
    // spec: CC-50
    pub(crate) fn pace(&self, now: Instant, urgent: bool) -> Pace {
        let beside = self.hold.is_beside(now);
        let ahead = self.rtt.smoothed() / 2;
        let queue = if beside { self.owd.queue_in(now, ahead) } else { Duration::ZERO };
        let pace = self.congestion.pace(&self.rtt, queue);
        self.urgent_start(urgent).map_or(pace, |start| pace.at_least(start.rate))
    }

    /// What urgent data may do while the path is unknown and does not fail.
    // spec: CC-51
    pub(crate) fn urgent_start(&self, urgent: bool) -> Option<UrgentStart> {
        if !urgent || self.forecast.alarm().level == AlarmLevel::Degraded {
            return None;
        }
        self.congestion.urgent_start(&self.rtt)
    }

    /// What the meter of its capacity needs to know besides rates.
    pub(crate) fn senses(&self) -> Senses {
        // Without receive times the round trip tells of queues both ways.
        let queue_delay = if self.owd.is_known() {
            self.owd.queue()
        } else {
            self.rtt.smoothed().saturating_sub(self.rtt.min())
        };
        Senses {
            queue_delay,
            loss: self.forecast.loss(),
            alarm: self.forecast.alarm(),
            advice: self.congestion.media_rate(&self.rtt),
        }
    }

    /// How a packet that leaves now would fare, and what comes next.
    pub(crate) fn outlook(&self, now: Instant, ack_delay_max: Duration) -> Outlook {
        self.forecast.outlook(&self.scene(now, ack_delay_max))
    }

    /// Looks at the path anew; answers the alarm when its level has changed.
    pub(crate) fn look(&mut self, now: Instant, ack_delay_max: Duration) -> Option<Alarm> {
        let oldest = self.numbers.recovery.oldest_eliciting();
        let (owd, rtt) = (&self.owd, &self.rtt);
        let scene = Scene { now, oldest, owd, rtt, ack_delay_max };
        self.forecast.look(&scene)
    }

    /// The network marked packets. With ECT(1) marks are the rule and no alarm, as long as they come from queues
    /// that are made for it.
    // spec: ECN-2, ECN-4
    pub(crate) fn on_marks(&mut self, now: Instant, marks: MarkSample) {
        let is_scalable = self.ecn.is_scalable();
        self.congestion.on_ecn_ce(now, &marks, is_scalable);
        if !is_scalable {
            self.forecast.on_marks(now, self.rtt.smoothed());
        } else if self.congestion.doubts_scalable_marks() {
            self.ecn.become_classic();
        }
    }

    /// Time after which silence is worth a probe, without back-off.
    pub(crate) fn pto(&self, ack_delay_max: Duration) -> Duration {
        self.rtt.pto_base(ack_delay_max)
    }

    /// The path leads elsewhere now: what was measured on it is forgotten, unless only the port
    /// has changed, which is the same network behind another mapping. `ceiling` is the largest
    /// datagram that the peer receives.
    // spec: CON-13
    pub(crate) fn move_to(
        &mut self,
        now: Instant,
        route: Route,
        config: &TransportConfig,
        ceiling: usize,
    ) {
        let hosts = (self.route.remote().map(|at| at.ip()), route.remote().map(|at| at.ip()));
        let same_host = hosts.0.is_some() && hosts.0 == hosts.1;
        if let (false, Some(old), Some(memory)) = (same_host, hosts.0, self.path_memory()) {
            self.past.get_or_insert_default().leave(now, old, memory);
        }
        self.route = route;
        self.silence = self.silence.map(|_| Silence::new(now));
        self.budget = Budget::Unlimited;
        // What went to the old address was not lost to congestion: ask again soon.
        self.numbers.recovery.reset_backoff();
        if !same_host {
            self.numbers.recovery.on_moved(now);
            self.rtt = Rtt::new(config.rtt_initial);
            self.congestion = Congestion::new(config.congestion, limits::MTU_BASE);
            self.pacer = Pacer::new();
            self.delivery = DeliveryRate::default();
            self.mtud = self.mtud.anew(&self.route, config.mtu_ceiling.min(ceiling));
            self.ecn = self.ecn.anew(config.ecn_mark());
            self.owd = Owd::default();
            self.forecast = Forecast::new(config.signals);
            self.meter = CapacityMeter::default();
            self.rates = RateMemory::default();
            self.fec = None;
            // spec: CC-46
            if let Some(memory) = hosts.1.and_then(|new| self.past.as_ref()?.recall(now, new)) {
                self.resume_from(memory);
            }
        }
    }
}

/// How many bytes may go to an address that is not validated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Budget {
    /// The address is proved.
    Unlimited,
    /// Bytes that may still be sent: three times what came.
    Bytes(u64),
}
packed_enum!(Budget { Unlimited, Bytes(bytes) = 1 });

impl Budget {
    /// The budget that `received` bytes buy.
    // spec: CON-10
    pub(crate) const fn for_received(received: usize) -> Self {
        Self::Bytes((received as u64).saturating_mul(limits::AMPLIFICATION_FACTOR))
    }

    /// The same on this route: who has a reliable carrier to us receives what is sent there.
    // spec: CAR-14
    pub(crate) const fn on(self, route: &Route) -> Self {
        if route.is_reliable() { Self::Unlimited } else { self }
    }

    pub(crate) fn on_received(&mut self, bytes: usize) {
        if let Self::Bytes(left) = self {
            let more = (bytes as u64).saturating_mul(limits::AMPLIFICATION_FACTOR);
            *left = left.saturating_add(more);
        }
    }

    pub(crate) fn on_sent(&mut self, bytes: usize) {
        if let Self::Bytes(left) = self {
            *left = left.saturating_sub(bytes as u64);
        }
    }

    pub(crate) const fn remaining(&self) -> usize {
        match self {
            Self::Unlimited => usize::MAX,
            Self::Bytes(left) => *left as usize,
        }
    }
}

/// What is later than the slowest acknowledgement by so much is overdue: timers are no finer.
const WAIT_MARGIN: Duration = Duration::from_millis(2);

/// The slowest acknowledgement is remembered for one to two of these.
const WAITS_SPAN: Duration = Duration::from_millis(500);

/// How regularly packets come and are acknowledged.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rhythm {
    /// How long packets have waited for their acknowledgements.
    pub(crate) waits: Waits,
    /// When packets of the peer come.
    pub(crate) arrivals: Arrivals,
}

/// How long packets waited for their acknowledgements: the slowest of the last half second, or second.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Waits {
    since: Instant,
    current: Duration,
    before: Duration,
    count: u32,
}

/// Acknowledgements before their times mean anything.
const WAITS_MIN: u32 = 8;

impl Waits {
    /// The oldest packet that was under way is acknowledged, so long after it left.
    pub(crate) fn note(&mut self, now: Instant, waited: Duration) {
        if now >= self.since + WAITS_SPAN {
            let is_recent = now < self.since + WAITS_SPAN * 2;
            self.before = if is_recent { self.current } else { Duration::ZERO };
            (self.since, self.current) = (now, Duration::ZERO);
        }
        self.current = self.current.max(waited);
        self.count = self.count.saturating_add(1);
    }

    fn slowest(&self) -> Option<Duration> {
        (self.count >= WAITS_MIN).then_some(self.current.max(self.before))
    }
}

/// When packets of the peer come: what comes regularly, and stops, tells of an outage sooner than
/// acknowledgements do.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Arrivals {
    last: Instant,
    gaps: Waits,
}

/// Packets that come at longer gaps than this do not come regularly.
const REGULAR_GAP_MAX: Duration = Duration::from_millis(40);

/// A gap is unusual when it is longer than the longest of late by a quarter and so much.
const GAP_MARGIN: Duration = Duration::from_millis(4);

impl Arrivals {
    /// A packet came.
    pub(crate) fn note(&mut self, now: Instant) {
        let gap = now.since(self.last);
        self.last = now;
        self.gaps.note(now, gap);
    }

    /// When the silence of the peer is unusual, if packets came regularly while this one of ours left.
    fn silent_at(&self, oldest: Instant) -> Option<Instant> {
        let longest = self.gaps.slowest().filter(|gap| *gap <= REGULAR_GAP_MAX)?;
        let silent_at = self.last + longest + longest / 4 + GAP_MARGIN;
        (oldest < silent_at).then_some(silent_at)
    }
}

/// What a path carries.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Duty {
    /// What is its own: acknowledgements, probes, challenges.
    Own,
    /// That, and messages that go once more.
    Copies,
    /// Everything.
    All,
}
packed_enum!(Duty { Own, Copies = 1, All = 2 });

/// When a path that carries nothing was last heard to work.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Warmth {
    /// When an ack-eliciting packet left last.
    sent_at: Instant,
    /// A PING is owed.
    pub(crate) is_owed: bool,
}
packed!(Warmth { sent_at, is_owed });

impl Warmth {
    /// An ack-eliciting packet left.
    pub(crate) fn on_sent(&mut self, now: Instant) {
        *self = Self { sent_at: now, is_owed: false };
    }

    /// A sign of life is due.
    pub(crate) fn owe(&mut self) {
        self.is_owed = true;
    }

    /// When the path has carried nothing for this long.
    pub(crate) fn cools_at(&self, interval: Duration) -> Option<Instant> {
        (!self.is_owed).then_some(self.sent_at + interval)
    }
}
