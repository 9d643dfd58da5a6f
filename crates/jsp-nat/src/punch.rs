//! Opening the boxes between two peers from both sides (RFC 8445's checks in outline, RFC 5128).
//!
//! Both send small datagrams to the other's candidates at the same time: what leaves opens the own
//! box for what comes. A punch carries the token of the other's offer, a number of its own, and the
//! last number that came from there; who gets his own number back knows that the way is open both
//! ways. That only says where a path *may* be: the transport challenges it before it moves.
//!
//! Where the peer's box gives every other end another port, punches come from an address that nobody
//! has told; it becomes a candidate (peer-reflexive) when the token is right.

use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use jsp_wire::{Instant, Reader};

use crate::candidate::{Candidate, Kind, Offer};
use crate::relay::MARK_PUNCH;
use crate::{Entropy, Outgoing};

/// Bytes of a punch, its tag included.
pub const PUNCH_LEN: usize = 26 + TAG_LEN;
/// Bytes of the tag at the end of a punch.
pub const TAG_LEN: usize = 8;
/// The label under which both peers take the key of their punches from their connection.
pub const KEY_LABEL: &str = "jsp punch";
/// Asks for an answer.
const FLAG_ASKS: u8 = 1;

/// Pairs that are tried at most.
const PAIRS_MAX: usize = 24;
/// Answers that wait to be sent; the latest win.
const ANSWERS_MAX: usize = 8;
/// Time between two first punches to one pair, and how it grows.
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_LAST: Duration = Duration::from_secs(1);
/// How long better pairs than the one that is open are tried.
const IMPROVE_FOR: Duration = Duration::from_secs(2);
/// Without an answer for so long there is no direct way.
const GIVE_UP: Duration = Duration::from_secs(10);
/// Silence on the open way after which it is asked for a sign of life (RFC 7675 asks every 5 s).
const CONSENT_EVERY: Duration = Duration::from_secs(5);
/// Time between such questions once one was not answered, and how long until the way is lost.
const CONSENT_RETRY: Duration = Duration::from_millis(300);
const CONSENT_LOST: Duration = Duration::from_millis(1500);

/// Time between two punches (RFC 8445, section 14.2: not below 5 ms).
pub const PACE_RANGE: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(5)..=Duration::from_millis(50);

/// Makes the tag of a punch under a key that the two peers alone have: whoever reads the network may
/// repeat a punch, and cannot make one.
pub struct Sealer(Box<Mac>);

/// A keyed hash: what it is made of is the caller's.
type Mac = dyn Fn(&[u8]) -> [u8; TAG_LEN] + Send;

impl Sealer {
    /// Seals with a keyed function of what stands before the tag.
    pub fn new(tag: impl Fn(&[u8]) -> [u8; TAG_LEN] + Send + 'static) -> Self {
        Self(Box::new(tag))
    }

    fn seal(&self, punch: Punch) -> Vec<u8> {
        let mut out = punch.encode();
        let tag = (self.0)(&out);
        out.extend(tag);
        out
    }

    /// Reads a punch whose tag is right.
    fn open(&self, datagram: &[u8]) -> Option<Punch> {
        let (body, tag) = datagram.split_last_chunk::<TAG_LEN>()?;
        let punch = Punch::decode(body)?;
        let right = (self.0)(body);
        let difference = right.iter().zip(tag).fold(0, |all, (one, two)| all | (one ^ two));
        (difference == 0).then_some(punch)
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealer")
    }
}

/// Who chooses the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// This peer: the one that called.
    Controlling,
    /// The other.
    Controlled,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// This way is open, and better than any before.
    Open(SocketAddr),
    /// The way that was open is so no more.
    Lost(SocketAddr),
    /// No way was found.
    Failed,
}

#[derive(Debug)]
struct Pair {
    remote: SocketAddr,
    priority: u64,
    /// What we expect back.
    number: u64,
    /// What came from there last; 0 for nothing.
    heard: u64,
    is_open: bool,
    sent: u32,
    next_at: Instant,
}

impl Pair {
    fn on_tried(&mut self, now: Instant) {
        let factor = 1u32 << self.sent.min(4);
        self.next_at = now + RETRY_FIRST.saturating_mul(factor).min(RETRY_LAST);
        self.sent = self.sent.saturating_add(1);
    }
}

/// The way that is open.
#[derive(Debug)]
struct Chosen {
    pair: usize,
    heard_at: Instant,
    /// Since when a question is unanswered.
    asked_at: Option<Instant>,
    next_at: Instant,
}

/// Punching, for one connection.
#[derive(Debug)]
pub struct Puncher {
    role: Role,
    sealer: Sealer,
    pace: Duration,
    own_token: u64,
    peer_token: u64,
    pairs: Vec<Pair>,
    started: Instant,
    /// No punch leaves earlier.
    paced_until: Instant,
    chosen: Option<Chosen>,
    answers: VecDeque<(SocketAddr, u64)>,
    events: VecDeque<Event>,
    has_ended: bool,
}

impl Puncher {
    /// Begins with what each side has told. `pace` is the time between two punches, brought into
    /// [`PACE_RANGE`].
    pub fn new(
        now: Instant,
        role: Role,
        (own, peer): (&Offer, &Offer),
        sealer: Sealer,
        pace: Duration,
        entropy: &mut dyn Entropy,
    ) -> Self {
        let mut out = Self {
            role,
            sealer,
            pace: pace.clamp(*PACE_RANGE.start(), *PACE_RANGE.end()),
            own_token: own.token,
            peer_token: peer.token,
            pairs: Vec::new(),
            started: now,
            paced_until: now,
            chosen: None,
            answers: VecDeque::new(),
            events: VecDeque::new(),
            has_ended: own.candidates.is_empty(),
        };
        for candidate in peer.candidates.iter().filter(|_| !own.candidates.is_empty()) {
            let family = candidate.address.is_ipv6();
            let own = own.candidates.iter().filter(|own| own.address.is_ipv6() == family);
            if let Some(own) = own.map(|own| own.priority).max() {
                out.add(now, own, candidate, entropy);
            }
        }
        out.pairs.sort_by_key(|pair| std::cmp::Reverse(pair.priority));
        if out.has_ended {
            out.events.push_back(Event::Failed);
        }
        out
    }

    /// What is known of the peer's addresses now: the new ones are tried, too.
    fn add(
        &mut self,
        now: Instant,
        own: u32,
        candidate: &Candidate,
        entropy: &mut dyn Entropy,
    ) -> Option<usize> {
        let remote = candidate.address;
        if self.pairs.len() >= PAIRS_MAX || self.pairs.iter().any(|pair| pair.remote == remote) {
            return None;
        }
        let (controlling, controlled) = match self.role {
            Role::Controlling => (own, candidate.priority),
            Role::Controlled => (candidate.priority, own),
        };
        self.pairs.push(Pair {
            remote,
            priority: pair_priority(controlling, controlled),
            number: number(entropy),
            heard: 0,
            is_open: false,
            sent: 0,
            next_at: now,
        });
        Some(self.pairs.len() - 1)
    }

    /// Takes a datagram from an address; true when it was a punch for this connection.
    // spec: RDV-33
    pub fn handle_datagram(
        &mut self,
        now: Instant,
        from: SocketAddr,
        datagram: &[u8],
        entropy: &mut dyn Entropy,
    ) -> bool {
        // Without the token there is no work to be done.
        if token_of(datagram) != Some(self.own_token) {
            return false;
        }
        let Some(punch) = self.sealer.open(datagram) else { return false };
        if self.has_ended && self.chosen.is_none() {
            return false;
        }
        let known = self.pairs.iter().position(|pair| pair.remote == from);
        let index = known.or_else(|| {
            let seen = Candidate::new(Kind::PeerReflexive, from, 0);
            self.add(now, seen.priority, &seen, entropy)
        });
        let Some(pair) = index.and_then(|index| self.pairs.get_mut(index)) else { return true };
        pair.heard = punch.number;
        let is_answer = punch.echo == pair.number;
        if punch.asks {
            self.answers.retain(|(to, _)| *to != from);
            if self.answers.len() >= ANSWERS_MAX {
                self.answers.pop_front();
            }
            self.answers.push_back((from, punch.number));
        }
        if is_answer {
            pair.is_open = true;
            self.on_open(now, index.unwrap_or_default());
        }
        true
    }

    /// Something of the connection came by this way: a sign of life.
    pub fn on_traffic(&mut self, now: Instant, from: SocketAddr) {
        if let Some(chosen) = &mut self.chosen
            && self.pairs.get(chosen.pair).is_some_and(|pair| pair.remote == from)
        {
            chosen.heard_at = now;
            chosen.asked_at = None;
            chosen.next_at = now + CONSENT_EVERY;
        }
    }

    fn on_open(&mut self, now: Instant, index: usize) {
        let Some(remote) = self.pairs.get(index).map(|pair| pair.remote) else { return };
        let is_better = match &self.chosen {
            Some(chosen) if chosen.pair == index => return self.on_traffic(now, remote),
            // Ways are in the order of their priority, but for those that were found later.
            Some(chosen) => {
                let priority = |index: usize| self.pairs.get(index).map(|pair| pair.priority);
                priority(index) > priority(chosen.pair)
            }
            None => true,
        };
        if is_better {
            self.chosen = Some(Chosen {
                pair: index,
                heard_at: now,
                asked_at: None,
                next_at: now + CONSENT_EVERY,
            });
            self.events.push_back(Event::Open(remote));
        }
    }

    /// The next punch that is due.
    pub fn poll_transmit(&mut self, now: Instant, entropy: &mut dyn Entropy) -> Option<Outgoing> {
        self.give_up(now);
        if let Some((to, echo)) = self.answers.pop_front() {
            let pair = self.pairs.iter_mut().find(|pair| pair.remote == to)?;
            let asks = !pair.is_open;
            if asks {
                pair.on_tried(now);
            }
            let punch = Punch { asks, token: self.peer_token, number: pair.number, echo };
            return Some(Outgoing { to, payload: self.sealer.seal(punch) });
        }
        self.ask_for_consent(now, entropy).or_else(|| self.try_next(now))
    }

    /// The chosen way has been silent: is anybody there?
    fn ask_for_consent(&mut self, now: Instant, entropy: &mut dyn Entropy) -> Option<Outgoing> {
        let chosen = self.chosen.as_mut().filter(|chosen| now >= chosen.next_at)?;
        let pair = self.pairs.get_mut(chosen.pair)?;
        if chosen.asked_at.is_none() {
            pair.number = number(entropy);
            chosen.asked_at = Some(now);
        }
        chosen.next_at = now + CONSENT_RETRY;
        let (token, number, echo) = (self.peer_token, pair.number, pair.heard);
        let punch = Punch { asks: true, token, number, echo };
        Some(Outgoing { to: pair.remote, payload: self.sealer.seal(punch) })
    }

    /// The most wanted pair whose turn has come.
    // spec: RDV-34
    fn try_next(&mut self, now: Instant) -> Option<Outgoing> {
        let due = self.due()?;
        if due > now {
            return None;
        }
        let floor = self.floor();
        let wanted = |pair: &&mut Pair| pair.priority > floor && !pair.is_open;
        let pairs = self.pairs.iter_mut().filter(wanted).filter(|pair| pair.next_at <= now);
        let pair = pairs.min_by_key(|pair| (pair.sent, std::cmp::Reverse(pair.priority)))?;
        pair.on_tried(now);
        self.paced_until = now + self.pace;
        let (token, number, echo) = (self.peer_token, pair.number, pair.heard);
        let punch = Punch { asks: true, token, number, echo };
        Some(Outgoing { to: pair.remote, payload: self.sealer.seal(punch) })
    }

    /// Pairs up to this priority are of no interest any more.
    fn floor(&self) -> u64 {
        let chosen = self.chosen.as_ref().and_then(|chosen| self.pairs.get(chosen.pair));
        chosen.map_or(0, |pair| pair.priority)
    }

    /// When the next pair is to be tried; `None` when none is.
    fn due(&self) -> Option<Instant> {
        if self.has_ended {
            return None;
        }
        let floor = self.floor();
        let wanted = self.pairs.iter().filter(|pair| pair.priority > floor && !pair.is_open);
        wanted.map(|pair| pair.next_at).min().map(|at| at.max(self.paced_until))
    }

    fn give_up(&mut self, now: Instant) {
        if let Some(chosen) = &self.chosen
            && chosen.asked_at.is_some_and(|asked| now.since(asked) >= CONSENT_LOST)
            && let Some(pair) = self.pairs.get_mut(chosen.pair)
        {
            pair.is_open = false;
            self.events.push_back(Event::Lost(pair.remote));
            self.begin_again(now);
        }
        let limit = if self.chosen.is_some() { IMPROVE_FOR } else { GIVE_UP };
        if !self.has_ended && now.since(self.started) >= limit {
            self.has_ended = true;
            if self.chosen.is_none() {
                self.events.push_back(Event::Failed);
            }
        }
    }

    fn begin_again(&mut self, now: Instant) {
        self.chosen = None;
        self.has_ended = false;
        self.started = now;
        for pair in &mut self.pairs {
            (pair.is_open, pair.sent, pair.next_at) = (false, 0, now);
        }
    }

    /// When [`Puncher::poll_transmit`] is to be called next by itself.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let answer = (!self.answers.is_empty()).then_some(Instant::ZERO);
        let consent = self.chosen.as_ref().map(|chosen| {
            let lost = chosen.asked_at.map(|asked| asked + CONSENT_LOST);
            lost.map_or(chosen.next_at, |lost| lost.min(chosen.next_at))
        });
        let limit = if self.chosen.is_some() { IMPROVE_FOR } else { GIVE_UP };
        let end = (!self.has_ended).then_some(self.started + limit);
        [answer, consent, end, self.due()].into_iter().flatten().min()
    }

    /// What came of it, one after another.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Who chooses the way.
    pub fn role(&self) -> Role {
        self.role
    }

    /// What the peer's punches carry.
    pub fn token(&self) -> u64 {
        self.own_token
    }
}

/// The token of a punch, by which its connection is found; `None` when it is none.
pub fn token_of(datagram: &[u8]) -> Option<u64> {
    let (body, _) = datagram.split_last_chunk::<TAG_LEN>()?;
    Punch::decode(body).map(|punch| punch.token)
}

/// RFC 8445, section 6.1.2.3.
fn pair_priority(controlling: u32, controlled: u32) -> u64 {
    let (low, high) = (controlling.min(controlled), controlling.max(controlled));
    (u64::from(low) << 32)
        .saturating_add(u64::from(high).saturating_mul(2))
        .saturating_add(u64::from(controlling > controlled))
}

/// A number that is never 0, which stands for none.
fn number(entropy: &mut dyn Entropy) -> u64 {
    entropy.next_u64().max(1)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Punch {
    asks: bool,
    token: u64,
    number: u64,
    echo: u64,
}

impl Punch {
    fn encode(self) -> Vec<u8> {
        let mut out = vec![MARK_PUNCH, u8::from(self.asks) * FLAG_ASKS];
        for word in [self.token, self.number, self.echo] {
            out.extend(word.to_be_bytes());
        }
        out
    }

    fn decode(datagram: &[u8]) -> Option<Self> {
        if datagram.len() != PUNCH_LEN - TAG_LEN {
            return None;
        }
        let mut reader = Reader::new(datagram);
        let [mark, flags] = reader.array().ok()?;
        let mut word = || reader.array().ok().map(u64::from_be_bytes);
        let (token, number, echo) = (word()?, word()?, word()?);
        let is_sound = mark == MARK_PUNCH && flags <= FLAG_ASKS && number != 0;
        is_sound.then_some(Self { asks: flags == FLAG_ASKS, token, number, echo })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HALF_TRIP: Duration = Duration::from_millis(25);

    fn addr(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn entropy(mut state: u64) -> impl FnMut() -> u64 {
        move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            state
        }
    }

    /// A tag that is right for what it stands behind, as far as these tests go.
    fn sealer() -> Sealer {
        Sealer::new(|body| {
            let sum = body.iter().fold(7u64, |sum, b| sum.wrapping_mul(31) + u64::from(*b));
            sum.to_be_bytes()
        })
    }

    fn offer(token: u64, addresses: &[SocketAddr]) -> Offer {
        let seen = addresses.iter().zip(0..);
        let candidates = seen.map(|(a, place)| Candidate::new(Kind::ServerReflexive, *a, place));
        Offer { token, candidates: candidates.collect() }
    }

    /// Two peers and a net that lets through what `passes` says: from, to, and when.
    struct Table {
        now: Instant,
        peers: [Puncher; 2],
        homes: [SocketAddr; 2],
        flying: Vec<(Instant, usize, SocketAddr, Vec<u8>)>,
        sent: Vec<(Instant, usize, SocketAddr)>,
    }

    impl Table {
        fn new(extra: &[SocketAddr]) -> Self {
            let homes = [addr("198.51.100.1:1"), addr("203.0.113.1:2")];
            let mut known = extra.to_vec();
            known.push(homes[1]);
            let offers = [offer(11, &homes[..1]), offer(22, &known)];
            let roles = [Role::Controlling, Role::Controlled];
            let peers = [0, 1].map(|n: usize| {
                let mut entropy = entropy(n as u64);
                let pace = Duration::from_millis(20);
                let both = (&offers[n], &offers[1 - n]);
                Puncher::new(Instant::ZERO, roles[n], both, sealer(), pace, &mut entropy)
            });
            Self { now: Instant::ZERO, peers, homes, flying: vec![], sent: vec![] }
        }

        fn run(&mut self, until: Instant, mut passes: impl FnMut(usize, SocketAddr) -> bool) {
            loop {
                for n in 0..2 {
                    let mut entropy = entropy(self.now.as_nanos() + n as u64);
                    while let Some(out) = self.peers[n].poll_transmit(self.now, &mut entropy) {
                        assert_eq!(out.payload.len(), PUNCH_LEN);
                        self.sent.push((self.now, n, out.to));
                        if out.to == self.homes[1 - n] && passes(n, out.to) {
                            let at = self.now + HALF_TRIP;
                            self.flying.push((at, 1 - n, self.homes[n], out.payload));
                        }
                    }
                }
                let timeouts = self.peers.iter().filter_map(Puncher::poll_timeout);
                let next = timeouts.chain(self.flying.iter().map(|f| f.0)).min();
                let Some(next) = next.filter(|at| *at <= until) else { break };
                self.now = self.now.max(next);
                let (due, later) = std::mem::take(&mut self.flying)
                    .into_iter()
                    .partition(|(at, ..)| *at <= self.now);
                self.flying = later;
                let due: Vec<(Instant, usize, SocketAddr, Vec<u8>)> = due;
                for (_, to, from, payload) in due {
                    let mut entropy = entropy(self.now.as_nanos());
                    self.peers[to].handle_datagram(self.now, from, &payload, &mut entropy);
                }
            }
            self.now = until;
        }

        fn events(&mut self, peer: usize) -> Vec<Event> {
            std::iter::from_fn(|| self.peers[peer].poll_event()).collect()
        }
    }

    fn at(millis: u64) -> Instant {
        Instant::ZERO + Duration::from_millis(millis)
    }

    #[test]
    // spec-test: RDV-33
    fn both_learn_of_an_open_way_within_a_round_trip() {
        let mut table = Table::new(&[]);
        table.run(at(50), |_, _| true);
        let [one, two] = [0, 1].map(|n| table.events(n));
        assert_eq!(one, [Event::Open(table.homes[1])]);
        assert_eq!(two, [Event::Open(table.homes[0])]);
    }

    #[test]
    fn a_way_that_opens_late_is_found_and_one_that_does_not_is_given_up() {
        let mut table = Table::new(&[]);
        table.run(at(2000), |_, _| false);
        table.run(at(4000), |_, _| true);
        assert_eq!(table.events(0), [Event::Open(table.homes[1])]);
        let mut table = Table::new(&[]);
        table.run(at(60_000), |_, _| false);
        assert_eq!(table.events(0), [Event::Failed]);
        assert_eq!(table.peers[0].poll_timeout(), None);
        assert!(table.sent.len() < 40);
    }

    #[test]
    fn a_way_one_way_is_none() {
        let mut table = Table::new(&[]);
        table.run(at(60_000), |from, _| from == 0);
        assert_eq!(table.events(0), [Event::Failed]);
        assert_eq!(table.events(1), [Event::Failed]);
    }

    #[test]
    fn a_way_that_dies_is_noticed_and_found_again() {
        let mut table = Table::new(&[]);
        table.run(at(3000), |_, _| true);
        table.events(0);
        table.run(at(12_000), |_, _| false);
        assert_eq!(table.events(0), [Event::Lost(table.homes[1])]);
        table.run(at(16_000), |_, _| true);
        assert_eq!(table.events(0), [Event::Open(table.homes[1])]);
    }

    #[test]
    // spec-test: RDV-34
    fn punches_are_paced() {
        let dead: Vec<_> = (1..10).map(|n| addr(&format!("192.0.2.{n}:1"))).collect();
        let mut table = Table::new(&dead);
        table.run(at(5000), |_, _| false);
        let times: Vec<_> = table.sent.iter().filter(|s| s.1 == 0).map(|s| s.0).collect();
        assert!(times.windows(2).all(|pair| pair[1] - pair[0] >= Duration::from_millis(20)));
        // Each is tried once before any is tried again.
        let first: std::collections::BTreeSet<_> =
            table.sent.iter().filter(|s| s.1 == 0).take(10).map(|s| s.2).collect();
        assert_eq!(first.len(), 10);
    }

    #[test]
    // spec-test: RDV-33
    fn what_has_not_the_token_is_not_heard() {
        let mut table = Table::new(&[]);
        let thief = addr("192.0.2.66:6");
        let mut entropy = entropy(5);
        let forged = sealer().seal(Punch { asks: true, token: 99, number: 1, echo: 0 });
        assert!(!table.peers[0].handle_datagram(at(0), thief, &forged, &mut entropy));
        let mut forged = sealer().seal(Punch { asks: true, token: 11, number: 1, echo: 0 });
        *forged.last_mut().unwrap() ^= 1;
        assert!(!table.peers[0].handle_datagram(at(0), thief, &forged, &mut entropy));
        // Who repeats a punch may make a peer answer, one small datagram for another.
        let copy = sealer().seal(Punch { asks: true, token: 11, number: 1, echo: 0 });
        assert!(table.peers[0].handle_datagram(at(0), thief, &copy, &mut entropy));
        table.run(at(0), |_, _| false);
        let answers = table.sent.iter().filter(|sent| sent.2 == thief).count();
        assert_eq!(answers, 1);
        assert_eq!(table.events(0), []);
    }

    #[test]
    fn addresses_that_pour_in_are_bounded() {
        let mut table = Table::new(&[]);
        let mut entropy = entropy(5);
        for n in 0..5000u16 {
            let from = SocketAddr::from(([192, 0, 2, 1], n));
            let punch = sealer().seal(Punch { asks: true, token: 11, number: 1, echo: 0 });
            table.peers[0].handle_datagram(at(0), from, &punch, &mut entropy);
        }
        assert!(table.peers[0].pairs.len() <= PAIRS_MAX);
        assert!(table.peers[0].answers.len() <= ANSWERS_MAX);
    }
}
