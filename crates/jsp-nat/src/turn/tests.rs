use super::message::{ERROR_CODE, LIFETIME, MESSAGE_INTEGRITY, NONCE, REALM, XOR_RELAYED_ADDRESS};
use super::*;
use crate::stun::{Attributes, HEADER_LEN, address, attribute, begin, open_any, set_len};

const SERVER: &str = "203.0.113.1:3478";
const LENT: &str = "203.0.113.1:50000";
const PEER: &str = "198.51.100.7:9";

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
fn tag(realm: &[u8], message: &[u8]) -> [u8; TAG_LEN] {
    let all = realm.iter().chain(message);
    let sum = all.fold(7u64, |sum, b| sum.wrapping_mul(31) + u64::from(*b));
    let mut out = [1; TAG_LEN];
    out[..8].copy_from_slice(&sum.to_be_bytes());
    out
}

fn at(seconds: u64) -> Instant {
    Instant::ZERO + Duration::from_secs(seconds)
}

/// How a server answers.
#[derive(Clone, Copy)]
struct Server {
    nonce: &'static [u8],
    lifetime: u32,
    /// It does it for those who prove themselves with its nonce; else this error.
    error: Option<u16>,
    /// The requests that get the error; all when there is none.
    refuses: Option<u16>,
    tags: fn(&[u8], &[u8]) -> [u8; TAG_LEN],
}

const PLAIN: Server =
    Server { nonce: b"one", lifetime: 600, error: None, refuses: None, tags: tag };

impl Server {
    fn answer(&self, request: &[u8]) -> Vec<u8> {
        let (kind, transaction, attributes) = open_any(request).unwrap();
        let attributes: Vec<_> = Attributes(jsp_wire::Reader::new(attributes)).collect();
        let nonce = attributes.iter().find(|(kind, _)| *kind == NONCE).map(|(_, value)| *value);
        let error = match nonce {
            None => Some(401),
            Some(nonce) if nonce != self.nonce => Some(438),
            Some(_) if self.refuses.is_some_and(|refused| refused != kind) => None,
            Some(_) => self.error,
        };
        let mut out = begin(kind | if error.is_some() { 0x0110 } else { 0x0100 }, &transaction);
        match error {
            Some(code) => {
                attribute(&mut out, ERROR_CODE, &[0, 0, (code / 100) as u8, (code % 100) as u8]);
                attribute(&mut out, REALM, b"realm");
                attribute(&mut out, NONCE, self.nonce);
            }
            None => {
                let lent = address(addr(LENT), Some(&transaction));
                attribute(&mut out, XOR_RELAYED_ADDRESS, &lent);
                attribute(&mut out, LIFETIME, &self.lifetime.to_be_bytes());
            }
        }
        if nonce.is_some() {
            set_len(&mut out, 24);
            let tag = (self.tags)(b"realm", &out);
            attribute(&mut out, MESSAGE_INTEGRITY, &tag);
        }
        set_len(&mut out, 0);
        out
    }
}

struct Table {
    client: Client,
    now: Instant,
    /// Methods of the requests that went out.
    asked: Vec<u16>,
}

impl Table {
    fn new() -> Self {
        let client = Client::new(Instant::ZERO, addr(SERVER), Login::new("ann".to_owned(), tag));
        Self { client, now: Instant::ZERO, asked: Vec::new() }
    }

    /// The server answers at once all that goes out, until then.
    fn run(&mut self, until: Instant, server: Server) {
        loop {
            let mut entropy = entropy(self.asked.len() as u64);
            while let Some(out) = self.client.poll_transmit(self.now, &mut entropy) {
                self.asked.push(u16::from_be_bytes([out.payload[0], out.payload[1]]));
                assert!(self.asked.len() < 1000, "there is no end");
                let answer = server.answer(&out.payload);
                self.client.handle_message(self.now, &answer, &mut entropy);
            }
            match self.client.poll_timeout().filter(|at| *at <= until) {
                Some(at) => self.now = self.now.max(at),
                None => break,
            }
        }
        self.now = until;
    }

    /// Nothing arrives at the server until then.
    fn run_unheard(&mut self, until: Instant) {
        while let Some(at) = self.client.poll_timeout().filter(|at| *at <= until) {
            self.now = self.now.max(at);
            let seed = at.as_nanos();
            while self.client.poll_transmit(self.now, &mut entropy(seed)).is_some() {}
        }
        self.now = until;
    }

    fn send(&mut self) -> Vec<u8> {
        self.send_to(addr(PEER))
    }

    fn send_to(&mut self, to: SocketAddr) -> Vec<u8> {
        let mut out = Vec::new();
        self.client.wrap(to, b"data", &mut entropy(3), &mut out);
        out
    }
}

#[test]
fn an_address_is_lent_to_who_proves_itself_and_kept() {
    let mut table = Table::new();
    table.run(at(0), PLAIN);
    assert_eq!(table.client.relayed(), Some(addr(LENT)));
    assert_eq!(table.asked, [3, 3]);
    // It is asked to live on, and goes on with another nonce.
    table.run(at(100), Server { nonce: b"two", ..PLAIN });
    assert_eq!(table.asked[2..], [4, 4, 4, 4, 4]);
    assert_eq!(table.client.relayed(), Some(addr(LENT)));
    // One that lives shortly is asked more often.
    table.asked.clear();
    table.run(at(200), Server { nonce: b"two", lifetime: 10, ..PLAIN });
    assert!((15..=17).contains(&table.asked.len()), "{:?}", table.asked);
    let last = table.client.release(&mut entropy(1)).unwrap();
    assert_eq!(last.payload[..2], [0, 4]);
    assert_eq!((table.client.relayed(), table.client.poll_timeout()), (None, None));
    assert_eq!(table.client.release(&mut entropy(1)), None);
}

#[test]
// spec-test: RDV-43
fn a_host_is_let_in_before_data_go_and_a_channel_makes_them_shorter() {
    let mut table = Table::new();
    table.run(at(0), PLAIN);
    assert_eq!(table.send(), []);
    table.run(at(0), PLAIN);
    assert_eq!(table.asked.split_off(2), [8]);
    let first = table.send();
    assert_eq!(first[..2], [0, 0x16]);
    table.client.expect(addr(PEER));
    table.run(at(0), PLAIN);
    assert_eq!(table.asked.split_off(2), [9]);
    // While it is asked for, too, the peer is known by the same number.
    let other = addr("198.51.100.9:9");
    table.send_to(other);
    table.run(at(0), PLAIN);
    let number = table.client.channel_to(other).unwrap();
    table.client.expect(other);
    let out = table.client.poll_transmit(at(0), &mut entropy(9)).unwrap();
    assert_eq!(table.client.poll_transmit(at(0), &mut entropy(9)), None);
    assert_eq!(table.client.address_of(number), Some(other));
    table.client.handle_message(at(0), &PLAIN.answer(&out.payload), &mut entropy(9));
    assert_eq!(table.send_to(other)[..2], number.to_be_bytes());
    assert_eq!(table.asked.split_off(2), [8]);
    assert_eq!(table.send(), [&[0x40, 0, 0, 4], &b"data"[..]].concat());
    // What comes by it is known by the same number; what comes from elsewhere is not taken.
    let number = table.client.channel_to(addr(PEER)).unwrap();
    assert_eq!(table.client.address_of(number), Some(addr(PEER)));
    let came = table.client.unwrap(&[0x40, 0, 0, 2, 7, 7, 0, 0]);
    assert_eq!(came, Some((addr(PEER), number, 4..6)));
    assert_eq!(table.client.unwrap(&[0x40, 2, 0, 2, 7, 7]), None);
    let indication = |from: &str| {
        let mut out = begin(0x0017, &[1; 12]);
        attribute(&mut out, 0x0012, &address(addr(from), Some(&[1; 12])));
        attribute(&mut out, 0x0013, b"data");
        set_len(&mut out, 0);
        out
    };
    let (from, _, data) = table.client.unwrap(&indication("198.51.100.7:77")).unwrap();
    assert_eq!(
        (from, &indication("198.51.100.7:77")[data]),
        (addr("198.51.100.7:77"), &b"data"[..])
    );
    assert_eq!(table.client.unwrap(&indication("198.51.100.8:9")), None);
    // Renewed while it is used, and forgotten when not.
    for minutes in 1..20 {
        table.send();
        table.run(at(minutes * 60), PLAIN);
    }
    assert!(table.asked.iter().filter(|method| **method == 9).count() >= 4);
    table.run(at(3600), PLAIN);
    assert_eq!(table.client.address_of(number), None);
}

#[test]
// spec-test: RDV-42
fn a_server_that_wants_ever_new_proofs_is_left() {
    let mut table = Table::new();
    let mut entropy = entropy(1);
    let nonces: [&[u8]; 2] = [b"one", b"two"];
    for n in 0..1000 {
        let Some(out) = table.client.poll_transmit(at(0), &mut entropy) else { break };
        table.asked.push(3);
        let answer = Server { nonce: nonces[n % 2], ..PLAIN }.answer(&out.payload);
        table.client.handle_message(at(0), &answer, &mut entropy);
    }
    assert_eq!(table.asked.len() as u32, CHALLENGES_MAX + 1);
    assert_eq!(table.client.failure(), Some(Failure::Refused(438)));
    // A wrong password is tried once, and no more.
    let mut table = Table::new();
    table.run(at(3600), Server { error: Some(401), ..PLAIN });
    assert_eq!(table.asked, [3, 3]);
    assert_eq!(table.client.failure(), Some(Failure::Unauthorized));
}

#[test]
// spec-test: RDV-42
fn answers_that_the_server_has_not_made_are_not_taken() {
    let mut table = Table::new();
    let mut entropy = entropy(1);
    let first = table.client.poll_transmit(at(0), &mut entropy).unwrap();
    let challenge = PLAIN.answer(&first.payload);
    assert!(table.client.handle_message(at(0), &challenge, &mut entropy));
    let second = table.client.poll_transmit(at(0), &mut entropy).unwrap();
    let forged = Server { tags: |_, _| [0; TAG_LEN], ..PLAIN }.answer(&second.payload);
    assert!(!table.client.handle_message(at(0), &forged, &mut entropy));
    let refusal = Server { error: Some(486), tags: |_, _| [0; TAG_LEN], ..PLAIN };
    assert!(!table.client.handle_message(at(0), &refusal.answer(&second.payload), &mut entropy));
    let other = PLAIN.answer(&first.payload);
    assert!(!table.client.handle_message(at(0), &other, &mut entropy));
    let right = PLAIN.answer(&second.payload);
    assert!((0..right.len()).all(|len| !table.client.handle_message(
        at(0),
        &right[..len],
        &mut entropy
    )));
    assert!(table.client.handle_message(at(0), &right, &mut entropy));
    assert_eq!(table.client.relayed(), Some(addr(LENT)));
}

#[test]
fn what_is_lost_or_refused_is_asked_for_again() {
    let mut table = Table::new();
    table.run(at(0), PLAIN);
    table.send();
    table.run(at(0), PLAIN);
    assert!(!table.send().is_empty());
    // The server knows this host's address no more: it has moved.
    table.run(at(30), Server { error: Some(437), ..PLAIN });
    assert_eq!(
        (table.client.relayed(), table.client.failure()),
        (None, Some(Failure::Refused(437)))
    );
    assert_eq!(table.send(), []);
    table.run(at(30 + 61), PLAIN);
    assert_eq!(table.client.relayed(), Some(addr(LENT)));
    // And lets the same host in anew.
    assert!(!table.send().is_empty());
}

#[test]
// spec-test: RDV-124
fn an_allocation_that_the_server_still_knows_is_given_back_and_had_anew_at_once() {
    let mut table = Table::new();
    table.run(at(0), PLAIN);
    table.run_unheard(at(60));
    assert_eq!(table.client.relayed(), None);
    table.asked.clear();
    // The server refuses, without a proof, until what it knows is given back.
    let knows_one =
        Server { error: Some(437), refuses: Some(3), tags: |_, _| [0; TAG_LEN], ..PLAIN };
    let mut asked = Vec::new();
    while asked.len() < 3 {
        table.now = table.now.max(table.client.poll_timeout().unwrap());
        let Some(out) = table.client.poll_transmit(table.now, &mut entropy(7)) else { continue };
        let server = if asked.is_empty() { knows_one } else { PLAIN };
        asked.push(u16::from_be_bytes([out.payload[0], out.payload[1]]));
        let lifetime = Attributes(jsp_wire::Reader::new(&out.payload[HEADER_LEN..]))
            .find_map(|(kind, value)| (kind == LIFETIME).then_some(value));
        assert!(asked.len() != 2 || lifetime == Some(&[0; 4]));
        let mut entropy = entropy(asked.len() as u64);
        assert!(table.client.handle_message(table.now, &server.answer(&out.payload), &mut entropy));
    }
    assert_eq!(asked, [3, 4, 3]);
    assert_eq!(table.client.relayed(), Some(addr(LENT)));
    assert!(table.now < at(100));
    // A server that goes on refusing is asked once more a time, and then left for a while.
    let mut table = Table::new();
    let knows_one = Server { tags: tag, ..knows_one };
    table.run(at(60), knows_one);
    assert_eq!(table.asked, [3, 3, 4, 3]);
    assert_eq!(table.client.failure(), Some(Failure::Refused(437)));
    table.run(at(66), knows_one);
    assert_eq!(table.asked[4..], [3, 4, 3]);
}

#[test]
// spec-test: RDV-125
fn who_could_not_be_asked_for_is_asked_for_again() {
    let mut table = Table::new();
    table.run(at(0), PLAIN);
    table.send();
    // No request about the peer arrives, though the allocation lives.
    table.run_unheard(at(40));
    table.send();
    table.asked.clear();
    table.run(at(40), PLAIN);
    assert_eq!(table.asked, [8]);
    assert!(!table.send().is_empty());
    // Whom the server refuses is asked for once a minute, where it is written to.
    let mut table = Table::new();
    let refusing = Server { error: Some(403), refuses: Some(8), ..PLAIN };
    for seconds in 0..150 {
        table.send();
        table.run(at(seconds), refusing);
    }
    assert_eq!(table.asked.iter().filter(|method| **method == 8).count(), 3);
    // Once more for what was written since, and then no more.
    table.run(at(1000), refusing);
    assert_eq!(table.asked.iter().filter(|method| **method == 8).count(), 4);
}

#[test]
// spec-test: RDV-125
fn without_a_channel_it_goes_on() {
    let mut table = Table::new();
    let refusing = Server { error: Some(508), refuses: Some(9), ..PLAIN };
    table.run(at(0), refusing);
    for n in 0..500u64 {
        table.client.expect(addr(PEER));
        table.run(Instant::ZERO + Duration::from_millis(n * 100), refusing);
        assert!(n == 0 || table.send()[..2] == [0, 0x16]);
    }
    let binds = |table: &Table| table.asked.iter().filter(|method| **method == 9).count();
    assert_eq!((binds(&table), table.asked.contains(&8)), (1, true));
    table.client.expect(addr(PEER));
    table.run(at(70), PLAIN);
    assert_eq!(binds(&table), 2);
    assert_eq!(table.send()[..1], [0x40]);
}

#[test]
fn a_server_that_is_silent_is_given_up_for_a_while() {
    let mut table = Table::new();
    let mut entropy = entropy(1);
    let mut sent = Vec::new();
    while let Some(at) = table.client.poll_timeout().filter(|at| *at < self::at(40)) {
        let out = table.client.poll_transmit(at, &mut entropy);
        sent.extend(out.map(|_| at.as_nanos() / 1_000_000));
    }
    assert_eq!(sent, [0, 500, 1500, 3500, 7500, 15_500]);
    assert_eq!(table.client.failure(), Some(Failure::NoAnswer));
    assert_eq!(table.client.poll_timeout(), Some(at(31) + Duration::from_millis(500) + RETRY));
}

#[test]
// spec-test: RDV-43
fn peers_that_pour_in_are_bounded_and_one_host_leaves_room_for_others() {
    let mut table = Table::new();
    table.run(at(0), PLAIN);
    for n in 0..5000u16 {
        table.send_to(SocketAddr::from(([192, 0, 2, 1], n)));
    }
    table.run(at(1), PLAIN);
    assert_eq!(table.asked.len(), 2 + peers::PORTS_MAX);
    table.send();
    table.run(at(1), PLAIN);
    assert!(!table.send().is_empty());
    for n in 0..5000u16 {
        let [high, low] = n.to_be_bytes();
        table.send_to(SocketAddr::from(([192, 0, high, low], 1)));
    }
    table.run(at(2), PLAIN);
    assert!(table.asked.len() <= 2 + peers::PORTS_MAX + peers::PEERS_MAX);
}

/// A user whose tags differ from those of [`tag`].
fn other_tag(realm: &[u8], message: &[u8]) -> [u8; TAG_LEN] {
    tag(realm, message).map(|byte| byte ^ 1)
}

fn bob() -> Login {
    Login::new("bob".to_owned(), other_tag)
}

#[test]
fn another_login_takes_over_when_the_first_is_refused_and_the_address_stays() {
    for refusal in [401, 403] {
        let mut table = Table::new();
        table.run(at(10), PLAIN);
        let asked = table.asked.len();
        table.client.use_login(table.now, bob());
        // Nothing is asked for that was not due; then the first login is refused.
        table.run(at(20), PLAIN);
        assert_eq!(table.asked.len(), asked);
        table.now = at(30);
        let mut entropy = entropy(1);
        let out = table.client.poll_transmit(table.now, &mut entropy).unwrap();
        let refusing = Server { error: Some(refusal), ..PLAIN };
        table.client.handle_message(table.now, &refusing.answer(&out.payload), &mut entropy);
        assert_eq!(table.client.relayed(), Some(addr(LENT)));
        table.run(at(31), Server { tags: other_tag, ..PLAIN });
        let Allocation::Here { refreshing, .. } = &table.client.allocation else { panic!("lost") };
        assert!(refreshing.is_none(), "the other login is not taken");
    }
}

#[test]
fn another_login_is_used_at_once_where_nothing_is_lent() {
    let mut table = Table::new();
    let refusing = Server { error: Some(401), ..PLAIN };
    table.run(at(200), refusing);
    assert_eq!(table.client.failure(), Some(Failure::Unauthorized));
    table.client.use_login(table.now, bob());
    assert_eq!(table.client.failure(), None);
    table.run(at(201), Server { tags: other_tag, ..PLAIN });
    assert_eq!(table.client.relayed(), Some(addr(LENT)));
}
