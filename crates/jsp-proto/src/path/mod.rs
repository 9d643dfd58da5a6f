//! The ways to the peer, each with what is measured on it.

pub(crate) mod memory;
pub(crate) mod mtud;
pub(crate) mod owd;
pub(crate) mod silence;
pub(crate) mod validation;

use core::time::Duration;

use jsp_wire::{Instant, Route, limits};

use crate::ack_request::AckRequest;
use crate::capacity::{CapacityMeter, Senses};
use crate::config::TransportConfig;
use crate::congestion::{Congestion, MarkSample, UrgentStart};
use crate::fec::PathFec;
use crate::forecast::{Alarm, AlarmLevel, Forecast, Outlook, Scene};
use crate::hold::Hold;
use crate::pacer::{Pace, Pacer};
use crate::padding::Padder;
use crate::path::memory::{PastPaths, PathMemory, RateMemory};
use crate::path::mtud::Mtud;
use crate::path::owd::Owd;
use crate::path::silence::Silence;
use crate::path::validation::{Candidate, Responses};
use crate::recovery::{DeliveryRate, EcnValidation, Rtt};
use crate::spaces::NumberSpace;
use crate::trickle::Trickle;

/// One way to the peer.
pub(crate) struct Path {
    pub(crate) route: Route,
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
    past: PastPaths,
    pub(crate) ack_request: AckRequest,
    /// Numbers of the 1-RTT packets that travel this way.
    pub(crate) numbers: NumberSpace,
    /// Forward error correction, once something asks for it.
    pub(crate) fec: Option<Box<PathFec>>,
}

impl Path {
    pub(crate) fn new(route: Route, budget: Budget, config: &TransportConfig) -> Self {
        let mut path = Self {
            route,
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
            past: PastPaths::default(),
            ack_request: AckRequest::default(),
            numbers: NumberSpace::new(config.ack_delay_max),
            fec: None,
        };
        if let Some(memory) = config.initial_path_memory {
            path.resume_from(memory);
        }
        path
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
        let fails = self.forecast.alarm().level == AlarmLevel::Degraded;
        self.congestion.urgent_start(&self.rtt).filter(|_| urgent && !fails)
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
            self.past.leave(now, old, memory);
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
            self.ecn = EcnValidation::new(config.ecn_mark());
            self.owd = Owd::default();
            self.forecast = Forecast::new(config.signals);
            self.meter = CapacityMeter::default();
            self.rates = RateMemory::default();
            self.fec = None;
            // spec: CC-46
            if let Some(memory) = hosts.1.and_then(|new| self.past.recall(now, new)) {
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

/// All paths of a connection: the one in use, one on trial, and answers owed to challenges.
pub(crate) struct Paths {
    pub(crate) active: Path,
    pub(crate) candidate: Option<Box<Candidate>>,
    pub(crate) responses: Responses,
    pub(crate) padder: Padder,
}

impl Paths {
    pub(crate) fn new(mut active: Path, padder: Padder) -> Self {
        active.wrapping = padder.wrapping();
        active.mtud.restrict(padder.declared(), padder.wrapping());
        Self { active, candidate: None, responses: Responses::default(), padder }
    }

    /// Bytes came by this route, as they were on the wire: they buy budget there.
    pub(crate) fn on_received(&mut self, route: &Route, bytes: usize) {
        if self.active.route.same_peer(route) {
            self.active.budget.on_received(bytes);
        } else if let Some(candidate) = &mut self.candidate
            && candidate.route.same_peer(route)
        {
            candidate.budget.on_received(bytes);
        }
    }
}
