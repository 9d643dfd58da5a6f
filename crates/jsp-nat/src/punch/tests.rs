use std::net::SocketAddr;

use super::*;
use crate::candidate::tests::OF_NO_USE;

const HALF_TRIP: Duration = Duration::from_millis(25);

fn open(at: SocketAddr) -> Event {
    Event::Open(at.into())
}

fn lost(at: SocketAddr) -> Event {
    Event::Lost(at.into())
}

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
                while let Some((way, punch)) = self.peers[n].poll_transmit(self.now, &mut entropy) {
                    assert_eq!((way.leg, punch.len()), (Leg::Socket, PUNCH_LEN));
                    let to = way.remote;
                    self.sent.push((self.now, n, to));
                    if to == self.homes[1 - n] && passes(n, to) {
                        let at = self.now + HALF_TRIP;
                        self.flying.push((at, 1 - n, self.homes[n], punch));
                    }
                }
            }
            let timeouts = self.peers.iter().filter_map(Puncher::poll_timeout);
            let next = timeouts.chain(self.flying.iter().map(|f| f.0)).min();
            let Some(next) = next.filter(|at| *at <= until) else { break };
            self.now = self.now.max(next);
            let (due, later) =
                std::mem::take(&mut self.flying).into_iter().partition(|(at, ..)| *at <= self.now);
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
    assert_eq!(one, [open(table.homes[1])]);
    assert_eq!(two, [open(table.homes[0])]);
}

#[test]
fn a_way_that_opens_late_is_found_and_one_that_does_not_is_given_up() {
    let mut table = Table::new(&[]);
    table.run(at(2000), |_, _| false);
    table.run(at(4000), |_, _| true);
    assert_eq!(table.events(0), [open(table.homes[1])]);
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
    assert_eq!(table.events(0), [lost(table.homes[1])]);
    table.run(at(16_000), |_, _| true);
    assert_eq!(table.events(0), [open(table.homes[1])]);
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
// spec-test: RDV-33, RDV-37
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
    let answers = |table: &Table| table.sent.iter().filter(|sent| sent.2 == thief).count();
    assert_eq!(answers(&table), 1);
    // That is all, and what is nobody's address gets none.
    let own_host = addr("127.0.0.1:22");
    assert!(table.peers[0].handle_datagram(at(0), own_host, &copy, &mut entropy));
    table.run(at(11_000), |_, _| false);
    assert_eq!(answers(&table), 1);
    assert!(table.sent.iter().all(|sent| sent.2 != own_host));
    assert_eq!(table.events(0), [Event::Failed]);
}

#[test]
// spec-test: RDV-37
fn addresses_of_no_use_are_not_tried() {
    let own = offer(11, &[addr("198.51.100.1:1"), addr("[2001:db8::1]:1")]);
    let named = OF_NO_USE.into_iter().chain(["192.0.2.1:9"]).map(addr).collect::<Vec<_>>();
    let tried = |own: &Offer| {
        let peer = Offer::decode(&offer(22, &named).encode()).unwrap();
        let pace = Duration::from_millis(20);
        let mut entropy = entropy(5);
        let both = (own, &peer);
        let mut puncher =
            Puncher::new(at(0), Role::Controlling, both, sealer(), pace, &mut entropy);
        let mut tried = std::collections::BTreeSet::new();
        while let Some(now) = puncher.poll_timeout() {
            tried.extend(puncher.poll_transmit(now, &mut entropy).map(|(way, _)| way.remote));
        }
        tried.into_iter().collect::<Vec<_>>()
    };
    assert_eq!(tried(&own), [addr("192.0.2.1:9")]);
    // Two on one host may meet there.
    let own = offer(11, &[addr("127.0.0.1:1")]);
    assert_eq!(tried(&own), ["127.0.0.1:9", "127.5.0.1:9", "192.0.2.1:9"].map(addr));
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

#[test]
fn an_address_that_the_peer_has_not_told_is_taken_once_it_answers_whoever_else_pours_in() {
    let mut table = Table::new(&[]);
    // The peer's box gives it another address than the one that was told.
    table.homes[1] = addr("203.0.113.1:777");
    let mut entropy = entropy(5);
    for n in 0..100u16 {
        let from = SocketAddr::from(([192, 0, 2, 1], n + 1));
        let copy = sealer().seal(Punch { asks: true, token: 11, number: 1, echo: 0 });
        table.peers[0].handle_datagram(at(0), from, &copy, &mut entropy);
    }
    table.run(at(1000), |_, _| true);
    assert_eq!(table.events(0), [open(table.homes[1])]);
    assert_eq!(table.events(1), [open(table.homes[0])]);
}

#[test]
// spec-test: RDV-190
fn what_looks_like_traffic_keeps_a_dead_way_for_half_a_minute_at_most() {
    let mut table = Table::new(&[]);
    table.run(at(3000), |_, _| true);
    assert_eq!(table.events(0), [open(table.homes[1])]);
    let home = table.homes[1];
    for step in (3000..120_000).step_by(200) {
        table.run(at(step), |_, _| true);
        table.peers[0].on_traffic(at(step), home);
    }
    // While the peer is there, it is asked every 15 s, and answers.
    assert_eq!(table.events(0), []);
    let asked = table.sent.iter().filter(|sent| sent.1 == 0 && sent.0 > at(10_000)).count();
    assert!((6..=40).contains(&asked), "{asked}");
    // Then somebody else sends, copies of its last answer too.
    let echo = table.peers[0].pairs[0].number;
    let copy = sealer().seal(Punch { asks: false, token: 11, number: 9, echo });
    for step in (120_000..151_000).step_by(200) {
        table.run(at(step), |_, _| false);
        table.peers[0].on_traffic(at(step), home);
        table.peers[0].handle_datagram(at(step), home, &copy, &mut entropy(3));
    }
    assert_eq!(table.events(0).first(), Some(&lost(home)));
}

#[test]
// spec-test: RDV-36
fn a_way_that_carries_nothing_is_left_until_candidates_change() {
    let mut table = Table::new(&[]);
    table.run(at(3000), |_, _| true);
    assert_eq!(table.events(0), [open(table.homes[1])]);
    // Those from before are nothing, and however many come between acknowledgements.
    for (n, in_a_row) in (0..).zip([7, 8, 10].into_iter().chain([0, 1, 3].repeat(9))) {
        table.peers[0].on_timeouts(at(3000 + n * 100), in_a_row);
    }
    assert_eq!(table.events(0), []);
    let now = at(50_000);
    for n in 0..5u32 {
        table.peers[0].on_timeouts(now + Duration::from_millis(500) * n, n);
    }
    table.now = now + Duration::from_secs(3);
    assert_eq!(table.events(0), [lost(table.homes[1])]);
    // Punches still come by it; it is not taken again.
    table.run(at(100_000), |_, _| true);
    assert_eq!(table.events(0), [Event::Failed]);
    // Elsewhere it may be another thing.
    let moved = offer(11, &[addr("198.51.100.9:1")]).candidates;
    table.homes[0] = moved[0].address;
    table.peers[0].set_own(at(100_000), &moved, &mut entropy(3));
    table.run(at(102_000), |_, _| true);
    assert_eq!(table.events(0), [open(table.homes[1])]);
    assert!(table.events(1).contains(&open(table.homes[0])));
}

#[test]
// spec-test: RDV-36
fn a_search_that_found_nothing_begins_anew_with_new_candidates() {
    let mut table = Table::new(&[]);
    table.run(at(60_000), |_, _| false);
    assert_eq!([table.events(0), table.events(1)], [[Event::Failed], [Event::Failed]]);
    // The called one is elsewhere: it tries, and the other is told.
    let moved = offer(22, &[addr("203.0.113.77:7")]);
    table.homes[1] = moved.candidates[0].address;
    table.peers[1].set_own(at(60_000), &moved.candidates, &mut entropy(3));
    table.run(at(60_100), |from, _| from == 0);
    assert_eq!(table.events(0), []);
    table.peers[0].set_peer(at(60_100), moved, &mut entropy(4));
    table.run(at(62_000), |_, _| true);
    assert_eq!(table.events(0), [open(table.homes[1])]);
    assert_eq!(table.events(1), [open(table.homes[0])]);
}

#[test]
// spec-test: RDV-36
fn who_tells_again_and_again_makes_nobody_send_without_end() {
    let mut table = Table::new(&[]);
    table.run(at(20_000), |_, _| false);
    table.sent.clear();
    for n in 0..600u64 {
        let told = offer(22, &[SocketAddr::from(([192, 0, 2, n as u8], 9))]);
        table.peers[0].set_peer(table.now, told, &mut entropy(n));
        table.run(table.now + Duration::from_millis(100), |_, _| false);
    }
    let tried: std::collections::BTreeSet<_> = table.sent.iter().map(|sent| sent.2).collect();
    assert!((4..=5).contains(&tried.len()), "{tried:?}");
}

/// A peer that has a candidate of each kind that is given, and the ways that it tries to one that has told these.
fn tried_from(own: &[(Kind, &str)], peers: &[(Kind, &str)]) -> Vec<Way> {
    let offer = |token, told: &[(Kind, &str)]| {
        let told = told.iter().zip(0..);
        let candidates = told.map(|((kind, at), place)| Candidate::new(*kind, addr(at), place));
        Offer { token, candidates: candidates.collect() }
    };
    let (own, peer) = (offer(11, own), offer(22, peers));
    let (both, pace) = ((&own, &peer), Duration::from_millis(20));
    let mut entropy = entropy(5);
    let mut puncher = Puncher::new(at(0), Role::Controlling, both, sealer(), pace, &mut entropy);
    let mut tried: Vec<Way> = Vec::new();
    while let Some(now) = puncher.poll_timeout() {
        let way = puncher.poll_transmit(now, &mut entropy).map(|(way, _)| way);
        tried.extend(way.filter(|way| !tried.contains(way)));
    }
    tried
}

#[test]
// spec-test: RDV-40
fn who_may_use_a_turn_server_alone_punches_by_it_alone() {
    let lent = (Kind::Relayed, "203.0.113.9:1");
    let peers = [
        (Kind::Host, "192.168.0.7:1"),
        (Kind::ServerReflexive, "198.51.100.7:1"),
        (Kind::Relayed, "198.51.100.99:1"),
    ];
    // What the peer has behind its box is not reached from there.
    let by_turn = [peers[1], peers[2]].map(|(_, at)| Way::turn(addr(at)));
    assert_eq!(tried_from(&[lent], &peers), by_turn);
    // With addresses of its own, what leads through no server comes first.
    let own = [(Kind::Host, "192.168.0.2:1"), lent];
    let plain = peers.map(|(_, at)| Way::from(addr(at)));
    let tried = tried_from(&own, &peers);
    assert_eq!(tried[..2], plain[..2]);
    assert_eq!(tried.len(), plain.len() + by_turn.len());
    assert!(plain.iter().chain(&by_turn).all(|way| tried.contains(way)));
}

#[test]
// spec-test: RDV-40
fn a_punch_past_the_turn_server_is_not_answered_where_that_alone_may_be_used() {
    let lent = Candidate::new(Kind::Relayed, addr("203.0.113.9:1"), 0);
    let (own, peer) = (Offer { token: 11, candidates: vec![lent] }, offer(22, &[]));
    let (both, pace) = ((&own, &peer), Duration::from_millis(20));
    let mut entropy = entropy(5);
    let mut puncher = Puncher::new(at(0), Role::Controlled, both, sealer(), pace, &mut entropy);
    let from = addr("198.51.100.7:1");
    let punch = sealer().seal(Punch { asks: true, token: 11, number: 1, echo: 0 });
    assert!(!puncher.handle_datagram(at(0), from, &punch, &mut entropy));
    assert_eq!(puncher.poll_transmit(at(0), &mut entropy), None);
    assert!(puncher.handle_datagram(at(0), Way::turn(from), &punch, &mut entropy));
    let answer = puncher.poll_transmit(at(0), &mut entropy).map(|(way, _)| way);
    assert_eq!(answer, Some(Way::turn(from)));
    // What was lent is gone, and with it the way.
    puncher.set_own(at(0), &[], &mut entropy);
    assert_eq!(puncher.pairs.len(), 0);
}
