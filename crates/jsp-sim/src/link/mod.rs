//! One direction of a network path, itself a machine without I/O or clock.
//!
//! The journey of a datagram: too large for the MTU? refused by the queue? -> waits for its turn,
//! leaves at the link's rate -> lost? damaged? doubled? -> travels for the delay, the jitter and
//! perhaps a detour -> arrives. All chance comes from one seeded generator.

mod dual;
mod loss;
mod rate;
pub mod trace;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::BytesMut;
use jsp_proto::Ecn;
use jsp_wire::Instant;

pub use loss::Loss;
pub use rate::{Queue, Rate};

use crate::random::Random;
use dual::{Lanes, Turn};
use loss::LossState;
use rate::{Admission, Gate, Outlet};

/// Bytes of IPv4 and UDP header that each datagram takes on the wire besides its payload.
pub const HEADER_BYTES: u64 = 28;

/// A datagram between two addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// Whom it comes from, as its receiver sees it.
    pub from: SocketAddr,
    /// Whom it goes to.
    pub to: SocketAddr,
    /// Congestion mark.
    pub ecn: Option<Ecn>,
    /// Content.
    pub payload: BytesMut,
    /// Given to the link; from here its age counts.
    pub sent: Instant,
    /// Travelling time besides the link's own, between its ends and the sender and the receiver.
    pub beyond: Duration,
    /// As it was sent: no bit has been flipped.
    pub intact: bool,
}

/// How the travelling time varies from packet to packet, evenly between zero and the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Jitter {
    /// Not at all.
    #[default]
    None,
    /// Packets stay in order, as behind a busy router.
    InOrder(Duration),
    /// Packets overtake each other.
    Reordering(Duration),
}

/// What a link does while it is out of service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutageKind {
    /// What is sent is lost, and so is what waits to leave.
    Drop,
    /// What is sent waits, and leaves in a burst at the end.
    Hold,
}

/// A time out of service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outage {
    /// When it begins.
    pub start: Instant,
    /// How long it lasts.
    pub length: Duration,
    /// What becomes of the packets.
    pub kind: OutageKind,
}

impl Outage {
    fn covers(&self, now: Instant) -> bool {
        self.start <= now && now < self.end()
    }

    fn end(&self) -> Instant {
        self.start + self.length
    }
}

/// A time of longer ways and more loss, as when a satellite hands over to the next.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spell {
    /// When it begins.
    pub start: Instant,
    /// How long it lasts.
    pub length: Duration,
    /// Travelling time beyond the ordinary; packets stay in order.
    pub delay: Duration,
    /// Probability of loss beyond the ordinary.
    pub loss: f64,
}

/// What goes wrong on a link.
#[derive(Clone, Debug, PartialEq)]
pub struct Faults {
    /// Loss on the wire.
    pub loss: Loss,
    /// Probability that a packet arrives with flipped bits.
    pub corruption: f64,
    /// Probability that a packet arrives twice.
    pub duplication: f64,
    /// Probability that a packet takes a detour.
    pub detour: f64,
    /// The longest detour; the copies of doubled packets come as late.
    pub detour_max: Duration,
    /// Times out of service, sorted by instant.
    pub outages: Vec<Outage>,
    /// Times of longer ways, sorted by instant.
    pub spells: Vec<Spell>,
    /// From here on nothing of the above happens.
    pub until: Instant,
}

impl Default for Faults {
    /// None.
    fn default() -> Self {
        Self {
            loss: Loss::None,
            corruption: 0.0,
            duplication: 0.0,
            detour: 0.0,
            detour_max: Duration::ZERO,
            outages: Vec::new(),
            spells: Vec::new(),
            until: Instant::FAR_FUTURE,
        }
    }
}

/// What one direction of a path is like.
#[derive(Clone, Debug, PartialEq)]
pub struct LinkConfig {
    /// Travelling time of every packet.
    pub delay: Duration,
    /// Travelling time beyond it.
    pub jitter: Jitter,
    /// How fast packets leave.
    pub rate: Rate,
    /// What happens to packets that must wait.
    pub queue: Queue,
    /// Largest UDP payload that passes, in bytes; larger ones vanish silently.
    pub mtu: usize,
    /// What goes wrong.
    pub faults: Faults,
    /// Keep the queueing delay of each packet, for [`Link::waits`], and when it refused one.
    pub measure_queue: bool,
}

impl Default for LinkConfig {
    /// A perfect link of Ethernet's MTU.
    fn default() -> Self {
        Self {
            delay: Duration::ZERO,
            jitter: Jitter::None,
            rate: Rate::Unlimited,
            queue: Queue::default(),
            mtu: 1472,
            faults: Faults::default(),
            measure_queue: false,
        }
    }
}

impl LinkConfig {
    /// A link with this delay and nothing else.
    pub fn delayed(delay: Duration) -> Self {
        Self { delay, ..Self::default() }
    }

    /// The longest time a packet travels without faults, once it has left.
    pub fn travel_max(&self) -> Duration {
        let jitter = match self.jitter {
            Jitter::None => Duration::ZERO,
            Jitter::InOrder(most) | Jitter::Reordering(most) => most,
        };
        self.delay + jitter
    }
}

/// What a link did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Datagrams given to the link.
    pub packets: u64,
    /// Their bytes, without headers.
    pub bytes: u64,
    /// Datagrams given to the link with ECT(1).
    pub ect1: u64,
    /// Datagrams that arrived, copies included.
    pub delivered: u64,
    /// Lost on the wire or in an outage.
    pub lost: u64,
    /// Refused by a full queue or a policer.
    pub queue_dropped: u64,
    /// Larger than the MTU.
    pub too_large: u64,
    /// Arrived with flipped bits.
    pub corrupted: u64,
    /// Arrived twice.
    pub doubled: u64,
    /// Longest time from giving to arriving.
    pub transit_max: Duration,
}

struct Arrival {
    at: Instant,
    sequence: u64,
    datagram: Datagram,
}

impl PartialEq for Arrival {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.sequence) == (other.at, other.sequence)
    }
}

impl Eq for Arrival {}

impl PartialOrd for Arrival {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Arrival {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.sequence).cmp(&(other.at, other.sequence))
    }
}

/// One direction of a path at work.
pub struct Link {
    config: LinkConfig,
    gate: Gate,
    loss: LossState,
    random: Random,
    waiting: Lanes,
    backlog: u64,
    /// What is being sent, and when it will have left.
    head: Option<(Instant, Datagram)>,
    arrivals: BinaryHeap<Reverse<Arrival>>,
    arrivals_made: u64,
    last_in_order: Instant,
    tally: Tally,
    waits: Vec<(Instant, Duration)>,
    refusals: Vec<Instant>,
    outlet: Outlet,
}

impl Link {
    /// An idle link with its own source of chance.
    pub fn new(config: LinkConfig, random: Random) -> Self {
        Self {
            gate: Gate::new(config.queue.clone()),
            loss: LossState::new(config.faults.loss.clone()),
            outlet: Outlet::new(config.rate.clone()),
            waiting: Lanes::new(&config.queue),
            config,
            random,
            backlog: 0,
            head: None,
            arrivals: BinaryHeap::new(),
            arrivals_made: 0,
            last_in_order: Instant::ZERO,
            tally: Tally::default(),
            waits: Vec::new(),
            refusals: Vec::new(),
        }
    }

    /// Takes a datagram that is sent at `now`.
    pub fn push(&mut self, now: Instant, mut datagram: Datagram) {
        self.advance(now);
        self.tally.packets += 1;
        self.tally.bytes += datagram.payload.len() as u64;
        self.tally.ect1 += u64::from(datagram.ecn == Some(Ecn::Ect1));
        if datagram.payload.len() > self.config.mtu {
            self.tally.too_large += 1;
            return;
        }
        let size = datagram.payload.len() as u64 + HEADER_BYTES;
        let waiting = self.waiting.len() + usize::from(self.head.is_some());
        match self.gate.admit(now, waiting, self.backlog, size) {
            Admission::Drop => return self.refuse(now),
            Admission::WaitMarked if datagram.ecn.is_some() => datagram.ecn = Some(Ecn::Ce),
            Admission::WaitMarked | Admission::Wait => {}
        }
        datagram.sent = now;
        self.backlog += size;
        self.waiting.push(datagram);
        if self.head.is_none() {
            self.start_head(now);
        }
        self.advance(now);
    }

    fn refuse(&mut self, now: Instant) {
        self.tally.queue_dropped += 1;
        if self.config.measure_queue {
            self.refusals.push(now);
        }
    }

    /// The next datagram that has arrived by `now`.
    pub fn poll(&mut self, now: Instant) -> Option<Datagram> {
        self.advance(now);
        if self.arrivals.peek()?.0.at > now {
            return None;
        }
        let arrival = self.arrivals.pop()?.0;
        self.tally.delivered += 1;
        self.tally.transit_max =
            self.tally.transit_max.max(arrival.at.since(arrival.datagram.sent));
        Some(arrival.datagram)
    }

    /// When something will happen next: call [`Link::poll`] then.
    pub fn next_event(&self) -> Option<Instant> {
        let arrival = self.arrivals.peek().map(|arrival| arrival.0.at);
        [arrival, self.head.as_ref().map(|head| head.0)].into_iter().flatten().min()
    }

    /// What the link did so far.
    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// How the link is made.
    pub fn config(&self) -> &LinkConfig {
        &self.config
    }

    /// How long each packet that left had waited for its turn, its own sending time not counted, and
    /// when its turn came.
    pub fn waits(&self) -> &[(Instant, Duration)] {
        &self.waits
    }

    /// When the queue or the policer refused a packet.
    pub fn refusals(&self) -> &[Instant] {
        &self.refusals
    }

    /// Lets packets leave whose time has come.
    fn advance(&mut self, now: Instant) {
        while let Some((leaves, datagram)) = self.head.take_if(|head| head.0 <= now) {
            self.backlog -= datagram.payload.len() as u64 + HEADER_BYTES;
            self.launch(leaves, datagram);
            self.start_head(leaves);
        }
    }

    fn start_head(&mut self, now: Instant) {
        let mut next = self.waiting.pop(now, &mut self.random);
        while let Some(Turn::Dropped(datagram)) = next {
            self.backlog -= datagram.payload.len() as u64 + HEADER_BYTES;
            self.refuse(now);
            next = self.waiting.pop(now, &mut self.random);
        }
        let Some(Turn::Sent(head)) = next else { return };
        let start = self.outage(now, OutageKind::Hold).map_or(now, |outage| outage.end());
        let sent = head.sent;
        let size = head.payload.len() as u64 + HEADER_BYTES;
        let leaves = self.outlet.end_of(start, size);
        if self.config.measure_queue {
            // Behind a trace the wait for an opportunity is all there is; the sending takes no time.
            let turn = if matches!(self.config.rate, Rate::Trace { .. }) { leaves } else { start };
            self.waits.push((turn, turn.since(sent)));
        }
        self.head = Some((leaves, head));
    }

    fn outage(&self, now: Instant, kind: OutageKind) -> Option<&Outage> {
        let faults = &self.config.faults;
        faults
            .outages
            .iter()
            .filter(|_| now < faults.until)
            .find(|o| o.kind == kind && o.covers(now))
    }

    fn spell(&self, now: Instant) -> Option<Spell> {
        let covers = |spell: &&Spell| spell.start <= now && now < spell.start + spell.length;
        self.config.faults.spells.iter().find(covers).copied()
    }

    /// Sends a packet on its way that left the queue at `now`.
    fn launch(&mut self, now: Instant, mut datagram: Datagram) {
        let is_out = self.outage(now, OutageKind::Drop).is_some();
        if now >= self.config.faults.until {
            self.arrive(now, Duration::ZERO, datagram);
            return;
        }
        let spell_loss = self.spell(now).map_or(0.0, |spell| spell.loss);
        let is_hit = spell_loss > 0.0 && self.random.chance(spell_loss);
        if self.loss.strikes(now, &mut self.random) || is_out || is_hit {
            self.tally.lost += 1;
            return;
        }
        let faults = &self.config.faults;
        let (corruption, duplication) = (faults.corruption, faults.duplication);
        let (detour, detour_max) = (faults.detour, faults.detour_max);
        if self.random.chance(duplication) {
            self.tally.doubled += 1;
            let late = self.random.duration_to(detour_max);
            self.arrive(now, late, datagram.clone());
        }
        if self.random.chance(corruption) {
            self.tally.corrupted += 1;
            datagram.intact = false;
            flip_bits(&mut datagram.payload, &mut self.random);
        }
        let late = if self.random.chance(detour) {
            self.random.duration_to(detour_max)
        } else {
            Duration::ZERO
        };
        self.arrive(now, late, datagram);
    }

    fn arrive(&mut self, now: Instant, late: Duration, datagram: Datagram) {
        let base = now + self.config.delay + datagram.beyond + late;
        let at = match self.config.jitter {
            Jitter::None if !self.config.faults.spells.is_empty() => {
                let longer = self.spell(now).map_or(Duration::ZERO, |spell| spell.delay);
                self.last_in_order = (base + longer).max(self.last_in_order);
                self.last_in_order
            }
            Jitter::None => base,
            Jitter::Reordering(most) => base + self.random.duration_to(most),
            Jitter::InOrder(most) => {
                let at = (base + self.random.duration_to(most)).max(self.last_in_order);
                if late.is_zero() {
                    self.last_in_order = at;
                }
                at
            }
        };
        self.arrivals_made += 1;
        self.arrivals.push(Reverse(Arrival { at, sequence: self.arrivals_made, datagram }));
    }
}

/// Flips one to eight bits.
fn flip_bits(payload: &mut [u8], random: &mut Random) {
    for _ in 0..random.between(1, 8) {
        let bit = random.below(payload.len() as u64 * 8);
        if let Some(byte) = payload.get_mut((bit / 8) as usize) {
            *byte ^= 1 << (bit % 8);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::from_nanos(ms * 1_000_000)
    }

    fn datagram(len: usize, mark: u64) -> Datagram {
        let mut payload = BytesMut::zeroed(len);
        payload[..8].copy_from_slice(&mark.to_le_bytes());
        let address = "10.0.0.1:1".parse().unwrap();
        Datagram {
            from: address,
            to: address,
            ecn: None,
            payload,
            sent: Instant::ZERO,
            beyond: Duration::ZERO,
            intact: true,
        }
    }

    /// Sends `count` packets of 972 bytes every `gap`, and answers when each arrived.
    fn run(config: LinkConfig, count: u64, gap: Duration) -> (Vec<(u64, Instant)>, Link) {
        let mut link = Link::new(config, Random::new(5));
        let mut arrived = Vec::new();
        let mut now = Instant::ZERO;
        let mut pushed = 0;
        loop {
            let send =
                (pushed < count).then(|| Instant::ZERO + gap * u32::try_from(pushed).unwrap());
            let Some(next) = [send, link.next_event()].into_iter().flatten().min() else { break };
            now = now.max(next);
            if send.is_some_and(|send| send <= now) {
                link.push(now, datagram(972, pushed));
                pushed += 1;
            }
            while let Some(got) = link.poll(now) {
                arrived.push((u64::from_le_bytes(got.payload[..8].try_into().unwrap()), now));
            }
        }
        (arrived, link)
    }

    #[test]
    fn a_plain_link_delays_and_keeps_everything() {
        let (arrived, link) =
            run(LinkConfig::delayed(Duration::from_millis(30)), 100, Duration::from_millis(1));
        assert_eq!(arrived.len(), 100);
        assert!(arrived.iter().all(|(mark, when)| *when == at(30 + mark)));
        assert_eq!(link.tally().transit_max, Duration::from_millis(30));
    }

    #[test]
    fn rate_and_queue_make_packets_wait_and_drop_the_tail() {
        // 1000 bytes with headers take 1 ms; four may wait.
        let config = LinkConfig {
            rate: Rate::Constant(8_000_000),
            queue: Queue::DropTail { bytes: 4_000 },
            measure_queue: true,
            ..LinkConfig::default()
        };
        let (arrived, link) = run(config, 10, Duration::ZERO);
        let times: Vec<_> = arrived.iter().map(|(_, when)| *when).collect();
        assert_eq!(times, [at(1), at(2), at(3), at(4)]);
        assert_eq!(link.tally().queue_dropped, 6);
        assert_eq!(link.waits().last(), Some(&(at(3), Duration::from_millis(3))));
        assert_eq!(link.refusals(), [at(0); 6]);
    }

    #[test]
    fn faults_have_their_rates_and_end() {
        let faults = Faults {
            loss: Loss::Random(0.2),
            corruption: 0.1,
            duplication: 0.1,
            detour: 0.1,
            detour_max: Duration::from_millis(20),
            until: at(20_000),
            ..Faults::default()
        };
        let config = LinkConfig { faults, ..LinkConfig::delayed(Duration::from_millis(10)) };
        let (arrived, link) = run(config, 40_000, Duration::from_millis(1));
        let tally = link.tally();
        // 20 000 packets under faults: four standard deviations each.
        assert!((tally.lost as f64 - 4_000.0).abs() < 230.0, "{tally:?}");
        assert!((tally.corrupted as f64 - 1_600.0).abs() < 160.0, "{tally:?}");
        assert!((tally.doubled as f64 - 1_600.0).abs() < 160.0, "{tally:?}");
        let after: Vec<_> = arrived.iter().filter(|(_, when)| *when > at(20_040)).collect();
        assert!(after.windows(2).all(|pair| pair[0].0 + 1 == pair[1].0), "clean after the faults");
        assert!(arrived.windows(2).any(|pair| pair[0].0 > pair[1].0), "reordered before");
    }

    #[test]
    fn jitter_keeps_order_or_does_not() {
        let disorder = |jitter| {
            let config = LinkConfig { jitter, ..LinkConfig::delayed(Duration::from_millis(10)) };
            let (arrived, _) = run(config, 2_000, Duration::from_millis(1));
            assert_eq!(arrived.len(), 2_000);
            arrived.windows(2).filter(|pair| pair[0].0 > pair[1].0).count()
        };
        assert_eq!(disorder(Jitter::InOrder(Duration::from_millis(10))), 0);
        assert!(disorder(Jitter::Reordering(Duration::from_millis(10))) > 500);
    }

    #[test]
    fn outages_drop_or_hold() {
        let outage = |kind| Outage { start: at(10), length: Duration::from_millis(10), kind };
        let with = |kind| {
            let faults = Faults { outages: vec![outage(kind)], ..Faults::default() };
            let config = LinkConfig { faults, ..LinkConfig::delayed(Duration::from_millis(5)) };
            run(config, 30, Duration::from_millis(1)).0
        };
        assert_eq!(with(OutageKind::Drop).len(), 20);
        let held = with(OutageKind::Hold);
        assert_eq!(held.len(), 30);
        assert_eq!(held.iter().filter(|(_, when)| *when == at(25)).count(), 11);
    }

    #[test]
    fn a_spell_makes_the_way_longer_and_keeps_the_order() {
        let spell = |loss| Spell {
            start: at(10),
            length: Duration::from_millis(10),
            delay: Duration::from_millis(50),
            loss,
        };
        let with = |loss| {
            let faults = Faults { spells: vec![spell(loss)], ..Faults::default() };
            let config = LinkConfig { faults, ..LinkConfig::delayed(Duration::from_millis(5)) };
            run(config, 100, Duration::from_millis(1)).0
        };
        let arrived = with(0.0);
        assert_eq!(arrived[9], (9, at(14)));
        assert_eq!(arrived[10], (10, at(65)));
        assert_eq!(arrived[40], (40, at(74)), "behind what travels the longer way");
        assert_eq!(arrived[80], (80, at(85)));
        assert!(arrived.is_sorted_by_key(|(mark, _)| *mark));
        assert_eq!(with(1.0).len(), 90);
    }

    #[test]
    fn some_packets_come_from_farther_away() {
        let mut link = Link::new(LinkConfig::delayed(Duration::from_millis(10)), Random::new(1));
        let far = Datagram { beyond: Duration::from_millis(90), ..datagram(100, 1) };
        link.push(at(0), far);
        link.push(at(0), datagram(100, 2));
        assert!(link.poll(at(10)).is_some() && link.poll(at(99)).is_none());
        assert!(link.poll(at(100)).is_some());
    }

    #[test]
    fn packets_over_the_mtu_vanish() {
        let mut link = Link::new(LinkConfig { mtu: 1200, ..LinkConfig::default() }, Random::new(1));
        link.push(at(0), datagram(1201, 0));
        link.push(at(0), datagram(1200, 1));
        assert!(link.poll(at(0)).is_some() && link.poll(at(0)).is_none());
        assert_eq!(link.tally().too_large, 1);
    }
}
