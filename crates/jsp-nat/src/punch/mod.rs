//! Opening the boxes between two peers from both sides (RFC 8445's checks in outline, RFC 5128).
//!
//! Both send small datagrams to the other's candidates at the same time: what leaves opens the own
//! box for what comes. A punch carries the token of the other's offer, a number of its own, and the
//! last number that came from there; who gets his own number back knows that the way is open both
//! ways. That only says where a path *may* be: the transport challenges it before it moves.
//!
//! Where the peer's box gives every other end another port, punches come from an address that nobody
//! has told; it becomes a candidate (peer-reflexive) when the token is right.

mod message;
mod pair;

use std::collections::VecDeque;
use std::time::Duration;

use jsp_wire::Instant;

use crate::candidate::{Candidate, Kind, Offer, are_local, is_of_use};
use crate::{Entropy, Leg, Way};
use message::Punch;
pub use message::{PUNCH_LEN, Sealer, TAG_LEN, token_of};
use pair::{Chosen, Pair, is_worth_it, pair_priority};

/// The label under which both peers take the key of their punches from their connection.
pub const KEY_LABEL: &str = "jsp punch";

/// Pairs that are tried at most.
const PAIRS_MAX: usize = 40;
/// Answers that wait to be sent; the latest win.
const ANSWERS_MAX: usize = 8;
/// How long better pairs than the one that is open are tried.
const IMPROVE_FOR: Duration = Duration::from_secs(2);
/// Without an answer for so long there is no direct way.
const GIVE_UP: Duration = Duration::from_secs(10);
/// Probe timeouts of the connection in a row, after which the way that is open is of no use: who lets
/// punches through need not let packets through.
const TIMEOUTS_MAX: u32 = 4;
/// Between two times that the peer's candidates are taken anew: it must not make us send to whom it
/// names without end.
const OFFER_EVERY: Duration = Duration::from_secs(15);

/// Time between two punches (RFC 8445, section 14.2: not below 5 ms).
pub const PACE_RANGE: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(5)..=Duration::from_millis(50);

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
    Open(Way),
    /// The way that was open is so no more.
    Lost(Way),
    /// No way was found. One may be yet: when the peer's punches come, or candidates change.
    Failed,
}

/// Punching, for one connection.
#[derive(Debug)]
pub struct Puncher {
    role: Role,
    sealer: Sealer,
    pace: Duration,
    own_token: u64,
    peer_token: u64,
    /// What both have told last.
    own: Vec<Candidate>,
    peer: Vec<Candidate>,
    /// What the peer has told since, and from when on it is taken.
    told: Option<Offer>,
    told_from: Instant,
    pairs: Vec<Pair>,
    started: Instant,
    /// No punch leaves earlier.
    paced_until: Instant,
    chosen: Option<Chosen>,
    answers: VecDeque<(Way, u64)>,
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
            own: own.candidates.clone(),
            peer: peer.candidates.clone(),
            told: None,
            told_from: now,
            pairs: Vec::new(),
            started: now,
            paced_until: now,
            chosen: None,
            answers: VecDeque::new(),
            events: VecDeque::new(),
            has_ended: false,
        };
        out.pair_up(now, entropy);
        out
    }

    /// Where this peer may be reached has changed: the search begins anew. The peer is to be told.
    // spec: RDV-36
    pub fn set_own(&mut self, now: Instant, own: &[Candidate], entropy: &mut dyn Entropy) {
        self.own = own.to_vec();
        self.pair_up(now, entropy);
        // This peer may have left the way that was open.
        if let Some(chosen) = &mut self.chosen {
            chosen.ask_now(now);
        }
    }

    /// The peer has told anew where it may be reached: the search begins anew, a little later when it
    /// tells so often.
    // spec: RDV-36
    pub fn set_peer(&mut self, now: Instant, peer: Offer, entropy: &mut dyn Entropy) {
        self.told = Some(peer);
        self.take_told(now, entropy);
    }

    fn take_told(&mut self, now: Instant, entropy: &mut dyn Entropy) {
        if now >= self.told_from
            && let Some(told) = self.told.take()
        {
            self.told_from = now + OFFER_EVERY;
            (self.peer_token, self.peer) = (told.token, told.candidates);
            self.pair_up(now, entropy);
        }
    }

    /// Pairs of what is known of both now; all but the one that is open are tried again.
    // spec: RDV-37
    fn pair_up(&mut self, now: Instant, entropy: &mut dyn Entropy) {
        let is_local = are_local(self.own.iter().map(|own| &own.address));
        let mut peer = self.peer.clone();
        peer.retain(|candidate| is_of_use(&candidate.address, is_local));
        let open = self.chosen.take().and_then(|chosen| {
            let way = self.pairs.get(chosen.pair)?.way;
            Some((way, chosen))
        });
        // What is lent no more is of no use, also where it was open.
        let open_at = open.as_ref().map(|(way, _)| *way).filter(|way| self.own_at(way).is_some());
        let mut pairs = std::mem::take(&mut self.pairs);
        pairs.retain(|pair| {
            let is_told = peer.iter().any(|known| known.address == pair.way.remote);
            Some(pair.way) == open_at || (is_told && self.own_at(&pair.way).is_some())
        });
        self.pairs = pairs;
        for leg in [Leg::Socket, Leg::Turn] {
            for candidate in &peer {
                let way = Way { leg, remote: candidate.address };
                if is_worth_it(leg, candidate)
                    && let Some(own) = self.own_at(&way)
                {
                    self.add(now, (own, candidate.priority), way, true, entropy);
                }
            }
        }
        self.pairs.sort_by_key(|pair| std::cmp::Reverse(pair.priority));
        for pair in &mut self.pairs {
            (pair.is_useless, pair.sent, pair.next_at) = (false, 0, now);
            pair.is_known = true;
            pair.is_open &= Some(pair.way) == open_at;
        }
        let was_open = open.as_ref().map(|(way, _)| *way);
        self.chosen = open.and_then(|(way, mut chosen)| {
            chosen.pair = self.pairs.iter().position(|pair| pair.way == way)?;
            Some(chosen)
        });
        if let Some(way) = was_open.filter(|_| self.chosen.is_none()) {
            self.events.push_back(Event::Lost(way));
        }
        (self.started, self.has_ended) = (now, self.own.is_empty());
        if self.has_ended && self.chosen.is_none() {
            self.events.push_back(Event::Failed);
        }
    }

    /// The priority of what this peer has at its end of a way; `None` where it has nothing there.
    fn own_at(&self, way: &Way) -> Option<u32> {
        let is_there = |own: &&Candidate| {
            let leg = if own.kind == Kind::Relayed { Leg::Turn } else { Leg::Socket };
            leg == way.leg && own.address.is_ipv6() == way.remote.is_ipv6()
        };
        self.own.iter().filter(is_there).map(|own| own.priority).max()
    }

    /// A further way to the peer.
    fn add(
        &mut self,
        now: Instant,
        (own, peers): (u32, u32),
        way: Way,
        is_known: bool,
        entropy: &mut dyn Entropy,
    ) -> Option<usize> {
        if self.pairs.iter().any(|pair| pair.way == way) {
            return None;
        }
        let (controlling, controlled) = match self.role {
            Role::Controlling => (own, peers),
            Role::Controlled => (peers, own),
        };
        let pair = Pair {
            way,
            priority: pair_priority(controlling, controlled),
            number: number(entropy),
            heard: 0,
            is_known,
            is_open: false,
            is_useless: false,
            sent: 0,
            next_at: now,
        };
        if self.pairs.len() < PAIRS_MAX {
            self.pairs.push(pair);
            return Some(self.pairs.len() - 1);
        }
        if is_known {
            return None;
        }
        // One of those that may be nobody's gives way, at random: who makes them up does not keep the peer out.
        let unknown: Vec<usize> =
            (0..).zip(&self.pairs).filter(|(_, p)| !p.is_known).map(|(n, _)| n).collect();
        let place = entropy.next_u64() % (unknown.len().max(1) as u64);
        let index = *unknown.get(place as usize)?;
        *self.pairs.get_mut(index)? = pair;
        Some(index)
    }

    /// A way by which the peer's punch has come from where it has told nothing. Who sends a copy names such ways,
    /// too: it is answered, which asks for the own number, and not tried before that has come back.
    // spec: RDV-37
    fn add_seen(&mut self, now: Instant, from: Way, entropy: &mut dyn Entropy) -> Option<usize> {
        if !is_of_use(&from.remote, are_local(self.own.iter().map(|own| &own.address))) {
            return None;
        }
        let seen = Candidate::new(Kind::PeerReflexive, from.remote, 0).priority;
        let own = self.own_at(&from).unwrap_or(seen);
        self.add(now, (own, seen), from, false, entropy)
    }

    /// Takes a datagram that has come by a way; true when it was a punch for this connection.
    // spec: RDV-33, RDV-40
    pub fn handle_datagram(
        &mut self,
        now: Instant,
        from: impl Into<Way>,
        datagram: &[u8],
        entropy: &mut dyn Entropy,
    ) -> bool {
        let from = from.into();
        // Without the token there is no work to be done.
        if token_of(datagram) != Some(self.own_token) {
            return false;
        }
        // Nor where nothing may be sent. One whose own search has ended still answers: the peer's may
        // have begun anew.
        let may_send = self.has_leg(from.leg);
        let Some(punch) = self.sealer.open(datagram).filter(|_| may_send) else {
            return false;
        };
        let known = self.pairs.iter().position(|pair| pair.way == from);
        let index = known.or_else(|| self.add_seen(now, from, entropy));
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
            (pair.is_known, pair.is_open) = (true, !pair.is_useless);
            self.on_open(now, index.unwrap_or_default());
        }
        true
    }

    /// Whether this peer may send by a leg: it has told something of it.
    fn has_leg(&self, leg: Leg) -> bool {
        self.own.iter().any(|own| (own.kind == Kind::Relayed) == (leg == Leg::Turn))
    }

    /// Something came by this way that may be of the connection: a sign of life, for a while.
    pub fn on_traffic(&mut self, now: Instant, from: impl Into<Way>) {
        let from = from.into();
        if let Some(chosen) = &mut self.chosen
            && self.pairs.get(chosen.pair).is_some_and(|pair| pair.way == from)
        {
            chosen.on_traffic(now);
        }
    }

    /// The connection has had so many probe timeouts since something was acknowledged. When several come while a way is
    /// open, what goes by it does not arrive: it is left, and not taken again until candidates change. However many come
    /// between acknowledgements, they are of packets that are late, or lost as any may be.
    // spec: RDV-36
    pub fn on_timeouts(&mut self, now: Instant, in_a_row: u32) {
        let Some(chosen) = &mut self.chosen else { return };
        let before = chosen.timeouts_before.get_or_insert(in_a_row);
        *before = in_a_row.min(*before);
        if in_a_row - *before >= TIMEOUTS_MAX
            && let Some(pair) = self.pairs.get_mut(chosen.pair)
        {
            pair.is_useless = true;
            self.events.push_back(Event::Lost(pair.way));
            self.begin_again(now);
        }
    }

    fn on_open(&mut self, now: Instant, index: usize) {
        let pair = self.pairs.get(index).filter(|pair| !pair.is_useless);
        let Some(way) = pair.map(|pair| pair.way) else { return };
        let is_better = match &mut self.chosen {
            Some(chosen) if chosen.pair == index => return chosen.on_answer(now),
            // Ways are in the order of their priority, but for those that were found later.
            Some(chosen) => {
                let priority = |index: usize| self.pairs.get(index).map(|pair| pair.priority);
                priority(index) > priority(chosen.pair)
            }
            None => true,
        };
        if is_better {
            self.chosen = Some(Chosen::new(now, index));
            self.events.push_back(Event::Open(way));
        }
    }

    /// Whether a way leads through a TURN server, this peer's or the other's.
    pub fn is_relayed(&self, way: &Way) -> bool {
        let is_lent =
            |known: &Candidate| known.kind == Kind::Relayed && known.address == way.remote;
        way.leg == Leg::Turn || self.peer.iter().any(is_lent)
    }

    /// The next punch that is due, and the way it goes.
    pub fn poll_transmit(
        &mut self,
        now: Instant,
        entropy: &mut dyn Entropy,
    ) -> Option<(Way, Vec<u8>)> {
        self.take_told(now, entropy);
        self.give_up(now);
        while let Some((to, echo)) = self.answers.pop_front() {
            let Some(pair) = self.pairs.iter_mut().find(|pair| pair.way == to) else { continue };
            let asks = !pair.is_open && !pair.is_useless;
            if asks {
                pair.on_tried(now);
            }
            let punch = Punch { asks, token: self.peer_token, number: pair.number, echo };
            return Some((to, self.sealer.seal(punch)));
        }
        self.ask_for_consent(now, entropy).or_else(|| self.try_next(now))
    }

    /// The chosen way has been silent, or unproved for long: is the peer there?
    fn ask_for_consent(
        &mut self,
        now: Instant,
        entropy: &mut dyn Entropy,
    ) -> Option<(Way, Vec<u8>)> {
        let chosen = self.chosen.as_mut()?;
        let is_first = chosen.poll_question(now)?;
        let pair = self.pairs.get_mut(chosen.pair)?;
        if is_first {
            pair.number = number(entropy);
        }
        let (token, number, echo) = (self.peer_token, pair.number, pair.heard);
        let punch = Punch { asks: true, token, number, echo };
        Some((pair.way, self.sealer.seal(punch)))
    }

    /// The most wanted pair whose turn has come.
    // spec: RDV-34
    fn try_next(&mut self, now: Instant) -> Option<(Way, Vec<u8>)> {
        let due = self.due()?;
        if due > now {
            return None;
        }
        let floor = self.floor();
        let wanted = self.pairs.iter_mut().filter(|pair| pair.is_wanted(floor));
        let pairs = wanted.filter(|pair| pair.next_at <= now);
        let pair = pairs.min_by_key(|pair| (pair.sent, std::cmp::Reverse(pair.priority)))?;
        pair.on_tried(now);
        self.paced_until = now + self.pace;
        let (token, number, echo) = (self.peer_token, pair.number, pair.heard);
        let punch = Punch { asks: true, token, number, echo };
        Some((pair.way, self.sealer.seal(punch)))
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
        let wanted = self.pairs.iter().filter(|pair| pair.is_wanted(floor));
        wanted.map(|pair| pair.next_at).min().map(|at| at.max(self.paced_until))
    }

    fn give_up(&mut self, now: Instant) {
        if let Some(chosen) = &self.chosen
            && chosen.is_lost(now)
            && let Some(pair) = self.pairs.get_mut(chosen.pair)
        {
            pair.is_open = false;
            self.events.push_back(Event::Lost(pair.way));
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
        let consent = self.chosen.as_ref().map(Chosen::due);
        let limit = if self.chosen.is_some() { IMPROVE_FOR } else { GIVE_UP };
        let end = (!self.has_ended).then_some(self.started + limit);
        let told = self.told.as_ref().map(|_| self.told_from);
        [answer, consent, end, told, self.due()].into_iter().flatten().min()
    }

    /// What came of it, one after another.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }
}

/// A number that is never 0, which stands for none.
fn number(entropy: &mut dyn Entropy) -> u64 {
    entropy.next_u64().max(1)
}

#[cfg(test)]
mod tests;
