//! Two ends and a registry over connections that break at any moment, and a client that is killed.

use std::collections::{BTreeMap, VecDeque};

use proptest::prelude::*;

use super::*;

const GRACE: Duration = Duration::from_secs(60);

fn of(owner: Option<[u8; 32]>) -> Client {
    Client { owner, host: None }
}

/// A connection: what is on its way in each direction. When it breaks, that is lost.
#[derive(Default)]
struct Wire {
    /// The server has had the client's first record.
    greeted: bool,
    records: [VecDeque<Bytes>; 2],
    /// Streams of channels: who opened them, and what goes to the client and to the server.
    streams: Vec<Stream>,
}

struct Stream {
    channel: ChannelId,
    opener: usize,
    bind: Option<Bytes>,
    items: [VecDeque<Item>; 2],
}

/// One end: the machine, what it has sent and received.
struct End {
    session: Session,
    sent: BTreeMap<ChannelId, Vec<Item>>,
    received: BTreeMap<ChannelId, Vec<Item>>,
}

struct World {
    ends: [End; 2],
    registry: Registry<()>,
    wire: Option<Wire>,
    /// What the client and the server have stored.
    saved: [Saved; 2],
    fresh: u8,
}

impl World {
    fn new() -> Self {
        let limits = Limits {
            unconfirmed_bytes: 100,
            unconfirmed_messages: 6,
            waiting_bytes: 40,
            ..Limits::default()
        };
        let end = |session| End { session, sent: BTreeMap::new(), received: BTreeMap::new() };
        Self {
            ends: [end(Session::client(limits, true)), end(Session::server(limits, true))],
            registry: Registry::new(4, GRACE),
            wire: None,
            saved: Default::default(),
            fresh: 0,
        }
    }

    fn connect(&mut self) {
        self.cut();
        self.ends[0].session.attach();
        self.wire = Some(Wire::default());
    }

    fn cut(&mut self) {
        if self.wire.take().is_some() {
            self.ends[0].session.detach();
            // The server may notice later, or only when the client is back: as here.
        }
    }

    /// A process dies and starts again with what is stored.
    fn kill(&mut self, side: usize) {
        self.cut();
        let (end, saved) = (&mut self.ends[side], &mut self.saved[side]);
        let limits = end.session.limits;
        if side == 1 {
            self.registry = Registry::new(4, GRACE);
            if !self.registry.adopt(Duration::ZERO, saved, ()) {
                // Nobody was told of it.
                *saved = Saved::default();
            }
        }
        let sides = [Side::Client, Side::Server];
        end.session = Session::restore(sides[side], limits, saved.clone());
        // What the application had not confirmed it gets again; it tells by the number.
        for (id, received) in &mut end.received {
            if let Some(saved) = saved.channels.iter().find(|saved| saved.id == *id) {
                received.truncate(usize::try_from(saved.taken).unwrap());
            }
        }
        // What was not stored was never promised.
        for (id, sent) in &mut end.sent {
            let saved = saved.channels.iter().find(|saved| saved.id == *id);
            if let Some(saved) = saved {
                let known = usize::try_from(saved.first).unwrap() + saved.unconfirmed.len();
                sent.truncate(known);
            }
        }
        // Channels that were not stored are of a session that is no more.
        let next = saved.next_channels;
        end.sent.retain(|id, _| id.0 < next[usize::from(id.0 % 2 == 1)]);
        end.received.retain(|id, _| id.0 < next[usize::from(id.0 % 2 == 1)]);
    }

    fn store(&mut self, side: usize) {
        while let Some(change) = self.ends[side].session.poll_change() {
            self.saved[side].apply(&change);
            self.ends[side].session.on_stored(&change);
        }
    }

    /// Takes what the machines have to say, to the wire.
    fn pump(&mut self) {
        let Some(wire) = &mut self.wire else { return };
        for side in 0..if wire.greeted { 2 } else { 1 } {
            let session = &mut self.ends[side].session;
            session.confirm_taken(true);
            while let Some(record) = session.poll_record() {
                wire.records[side].push_back(record);
            }
            while let Some((channel, bind)) = session.poll_bind() {
                let (bind, items) = (Some(bind), Default::default());
                wire.streams.push(Stream { channel, opener: side, bind, items });
            }
            for stream in &mut wire.streams {
                if side != stream.opener && stream.bind.is_some() {
                    continue;
                }
                while let Some(item) = session.poll_item(stream.channel) {
                    stream.items[side].push_back(item);
                }
            }
        }
    }

    /// One thing arrives, chosen by `pick`.
    fn deliver(&mut self, pick: usize) {
        let Some(wire) = &mut self.wire else { return };
        let from = pick % 2;
        if pick.is_multiple_of(3)
            && let Some(record) = wire.records[from].pop_front()
        {
            return self.record(from, &record);
        }
        if wire.streams.is_empty() {
            return;
        }
        let at = (pick / 6) % wire.streams.len();
        let stream = &mut wire.streams[at];
        let to = &mut self.ends[1 - from].session;
        if from == stream.opener
            && let Some(bind) = &stream.bind
        {
            match to.handle_bind(bind).unwrap() {
                Binding::Bound(id) => {
                    assert_eq!(id, stream.channel);
                    stream.bind = None;
                }
                Binding::Early => {}
                Binding::Over => drop(wire.streams.remove(at)),
            }
            return;
        }
        if (from != stream.opener || stream.bind.is_none())
            && to.wants(stream.channel)
            && let Some(item) = stream.items[from].pop_front()
        {
            to.handle_item(stream.channel, item).unwrap();
        }
    }

    fn record(&mut self, from: usize, record: &[u8]) {
        let wire = self.wire.as_mut().unwrap();
        if from == 1 || wire.greeted {
            return self.ends[1 - from].session.handle_record(record).unwrap();
        }
        wire.greeted = true;
        self.fresh = self.fresh.wrapping_add(1);
        let owner = Some([7; 32]);
        let server = &mut self.ends[1];
        match self.registry.greet(record, of(owner), [self.fresh; 32]).unwrap() {
            Arrival::New(grant) => {
                // A client that died before it had stored a grant begins anew.
                server.session = Session::server(server.session.limits, true);
                self.saved[1] = Saved::default();
                server.sent.clear();
                server.received.clear();
                self.registry = Registry::new(4, GRACE);
                self.registry.insert(&grant, of(owner), ());
                server.session.grant(&grant).unwrap();
            }
            Arrival::Back((), grant) => server.session.grant(&grant).unwrap(),
            Arrival::Unknown(_) | Arrival::Full => panic!("the session is there"),
        }
    }

    fn open(&mut self, side: usize) {
        if let Ok(id) = self.ends[side].session.open("label") {
            self.ends[side].sent.insert(id, Vec::new());
        }
    }

    fn send(&mut self, side: usize, pick: usize, item: Item) {
        let end = &mut self.ends[side];
        let channels: Vec<ChannelId> = end.session.channels().map(|(id, _)| id).collect();
        let Some(id) = channels.get(pick % channels.len().max(1)).copied() else { return };
        let result = match &item {
            Item::Message(payload) => end.session.send(id, payload.clone()).map(drop),
            Item::End => end.session.finish(id),
        };
        match result {
            Ok(()) => end.sent.entry(id).or_default().push(item),
            Err(SendError::Full) => {
                let kept = end.session.unconfirmed(id);
                let bytes: usize = kept.iter().map(|(_, item)| item.len()).sum();
                assert!(kept.len() >= 6 || bytes + item.len() > 100);
            }
            Err(SendError::Ended) => {
                assert_eq!(end.sent[&id].last(), Some(&Item::End));
            }
            Err(error) => panic!("{error}"),
        }
    }

    fn recv(&mut self, side: usize) {
        let end = &mut self.ends[side];
        let channels: Vec<ChannelId> = end.session.channels().map(|(id, _)| id).collect();
        for id in channels {
            if let Some((number, item)) = end.session.recv(id) {
                let received = end.received.entry(id).or_default();
                assert_eq!(number, received.len() as u64);
                received.push(item);
            }
        }
    }

    /// What an end has received is the start of what the other has sent.
    fn check(&self, is_all: bool) {
        for side in 0..2 {
            for (id, received) in &self.ends[side].received {
                let sent = self.ends[1 - side].sent.get(id).map_or(&[][..], Vec::as_slice);
                assert!(sent.starts_with(received), "{sent:?} {received:?}");
            }
            for (id, sent) in &self.ends[1 - side].sent {
                let received = self.ends[side].received.get(id).map_or(0, Vec::len);
                assert!(!is_all || sent.len() == received, "{id:?}");
            }
        }
    }

    fn act(&mut self, op: u8, pick: usize) {
        let side = pick % 2;
        match op {
            0 => self.connect(),
            1 => self.cut(),
            2 => self.kill(side),
            3 => self.open(side),
            4 => self.send(side, pick / 2, Item::End),
            5..=9 => self.store(side),
            10..=14 => self.recv(side),
            15..=20 => self.send(side, pick / 2, Item::Message(vec![pick as u8; pick % 60].into())),
            21..=27 => self.pump(),
            _ => self.deliver(pick),
        }
        self.check(false);
    }

    /// Nothing breaks any more: everything arrives.
    fn settle(&mut self) {
        self.connect();
        for round in 0..4000 {
            self.store(0);
            self.store(1);
            self.pump();
            self.deliver(round);
            self.deliver(round / 2);
            self.recv(0);
            self.recv(1);
        }
        self.store(0);
        self.store(1);
        self.check(true);
        for end in &self.ends {
            for (id, _) in end.session.channels() {
                assert!(end.session.is_confirmed(id), "{id:?}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    // spec-test: SES-5, SES-6, SES-7, SES-8, SES-9, SES-12, SES-13
    #[test]
    fn nothing_is_lost_or_doubled(ops in prop::collection::vec((0u8..48, 0usize..10_000), 0..400)) {
        let mut world = World::new();
        world.connect();
        for (op, pick) in ops {
            world.act(op, pick);
        }
        world.settle();
    }

    // spec-test: SES-3
    #[test]
    fn what_a_peer_sends_is_refused_or_harmless(
        bytes in prop::collection::vec(any::<u8>(), 0..64),
        is_bind in any::<bool>(),
    ) {
        let mut world = World::new();
        world.open(0);
        world.settle();
        let session = &mut world.ends[1].session;
        let _ = if is_bind { session.handle_bind(&bytes).map(drop) } else { session.handle_record(&bytes) };
        let _ = world.registry.greet(&bytes, of(None), [1; 32]);
    }
}

fn running() -> World {
    let mut world = World::new();
    world.open(0);
    world.settle();
    world
}

fn speak(session: &mut Session, record: &record::Record) -> Result<(), ProtocolError> {
    session.handle_record(&record::encode(record))
}

#[test]
// spec-test: SES-1, SES-2
fn a_session_begins_with_a_grant_and_is_kept() {
    let mut world = World::new();
    world.connect();
    world.pump();
    assert!(!world.ends[0].session.is_running());
    let talk = |world: &mut World| {
        for _ in 0..4 {
            world.deliver(0);
            world.pump();
            world.deliver(3);
        }
    };
    talk(&mut world);
    // The server answers when it has stored what the client is to show.
    assert!(!world.ends[1].session.is_running());
    world.store(1);
    world.pump();
    talk(&mut world);
    // Nothing runs before the credentials are in the store.
    assert!(world.ends[1].session.is_running() && !world.ends[0].session.is_running());
    world.store(0);
    assert!(world.ends[0].session.is_running());
    assert_eq!(world.ends[0].session.id(), world.ends[1].session.id());
    assert_eq!(world.ends[0].session.grace(), GRACE);
    world.pump();
    world.deliver(0);
    while world.ends[1].session.poll_change().is_some() {}
    assert!(world.ends[1].session.poll_kept());
    // Said once more it is no news, and nothing to store.
    world.ends[1].session.handle_record(&record::encode(&record::Record::Kept)).unwrap();
    assert!(!world.ends[1].session.poll_kept());
    assert!(world.ends[1].session.poll_change().is_none());
}

#[test]
// spec-test: SES-15
fn the_last_quarter_of_the_room_is_for_networks_that_have_little() {
    let mut registry = Registry::new(100, GRACE);
    let open = record::encode(&record::Record::Open);
    let mut taken = |network: u16, most: u8| {
        let before = registry.len();
        for number in 0..most {
            // Another host of the network each time.
            let host = [0x2001, 0xdb8, 0, network, 0, 0, 0, number.into()];
            let client = Client { owner: None, host: Some(core::net::IpAddr::from(host)) };
            let name = [network as u8, number];
            let mut fresh = [0; 32];
            fresh[..2].copy_from_slice(&name);
            match registry.greet(&open, client, fresh).unwrap() {
                Arrival::New(grant) => registry.insert(&grant, client, name),
                other => assert!(matches!(other, Arrival::Full)),
            }
        }
        registry.len() - before
    };
    assert_eq!([taken(1, 100), taken(1, 100), taken(2, 20), taken(3, 20)], [75, 0, 20, 5]);
    for number in 0..60 {
        let mut name = [0; GRANT_LEN];
        name[..2].copy_from_slice(&[1, number]);
        assert!(registry.remove(&name).is_some());
    }
    assert_eq!(registry.len(), 40);
}

#[test]
// spec-test: SES-4
fn a_stream_names_its_channel() {
    let mut world = running();
    let server = &mut world.ends[1].session;
    let bind = |channel| record::encode(&record::Bind { channel });
    // Not yet opened; the server's own; bound already.
    assert_eq!(server.handle_bind(&bind(2)), Ok(Binding::Early));
    assert!(server.handle_bind(&bind(1)).is_err());
    assert!(server.handle_bind(&bind(0)).is_err());
}

#[test]
// spec-test: SES-7, SES-8
fn accounts_that_cannot_be_true_are_refused() {
    let mut world = running();
    let server = &mut world.ends[1].session;
    assert!(speak(server, &record::Record::Taken(0, 1)).is_err());
    assert!(speak(server, &record::Record::Taken(4, 0)).is_err());
    assert!(speak(server, &record::Record::Opened(4, "gap".into())).is_err());
    assert!(speak(server, &record::Record::Opened(1, "not yours".into())).is_err());
    assert!(speak(server, &record::Record::Opened(2, "x".repeat(LABEL_MAX + 1))).is_err());
    assert!(speak(server, &record::Record::Open).is_err());
    for channel in 1..CHANNELS_MAX as u64 {
        speak(server, &record::Record::Opened(channel * 2, String::new())).unwrap();
    }
    let next = CHANNELS_MAX as u64 * 2;
    assert!(speak(server, &record::Record::Opened(next, String::new())).is_err());
}

#[test]
// spec-test: SES-12
fn what_a_server_opens_before_it_has_answered_is_told_behind_the_answer() {
    let mut registry = Registry::<()>::new(1, GRACE);
    let mut client = Session::client(Limits::default(), false);
    let mut server = Session::server(Limits::default(), false);
    let early = server.open("early").unwrap();
    client.attach();
    let greeting = client.poll_record().unwrap();
    let Ok(Arrival::New(grant)) = registry.greet(&greeting, of(None), [1; 32]) else { panic!() };
    server.grant(&grant).unwrap();
    while let Some(record) = server.poll_record() {
        client.handle_record(&record).unwrap();
    }
    let known: Vec<_> = client.channels().collect();
    assert_eq!(known, [(early, "early")]);
}

#[test]
// spec-test: SES-13
fn sessions_that_a_store_brings_back_are_bounded_and_wait_for_a_time() {
    let mut registry = Registry::new(1, GRACE);
    let saved = |id| Saved { granted: Some(([id; 16], Token([id; 16]))), ..Saved::default() };
    assert!(!registry.adopt(GRACE, &Saved::default(), 'a'));
    assert!(registry.adopt(GRACE, &saved(1), 'b'));
    assert!(!registry.adopt(GRACE, &saved(2), 'c'));
    assert_eq!(registry.next_expiry(), Some(GRACE * 2));
    assert_eq!(registry.expire(GRACE * 2), ['b']);
}

#[test]
// spec-test: SES-10
fn only_who_shows_the_token_and_the_identity_comes_back() {
    let mut registry = Registry::new(2, GRACE);
    let open = record::encode(&record::Record::Open);
    let owner = Some([1; 32]);
    let Ok(Arrival::New(grant)) = registry.greet(&open, of(owner), [5; 32]) else { panic!() };
    registry.insert(&grant, of(owner), 'a');
    let resume = |credentials| record::encode(&record::Record::Resume(credentials, Vec::new()));
    let first = grant.credentials;
    let mut wrong = first;
    wrong.token.0[3] ^= 1;
    for (shown, who) in [(wrong, owner), (first, None), (first, Some([2; 32]))] {
        let judged = registry.greet(&resume(shown), of(who), [6; 32]);
        assert!(matches!(judged, Ok(Arrival::Unknown(_))));
    }
    // Good until the next ones are kept, however often it is shown.
    let mut next = first;
    for fresh in [7, 8] {
        let Ok(Arrival::Back('a', grant)) = registry.greet(&resume(first), of(owner), [fresh; 32])
        else {
            panic!()
        };
        next = grant.credentials;
    }
    registry.on_kept(&next.id);
    assert!(matches!(registry.greet(&resume(first), of(owner), [9; 32]), Ok(Arrival::Unknown(_))));
    assert!(matches!(registry.greet(&resume(next), of(owner), [9; 32]), Ok(Arrival::Back('a', _))));
}

#[test]
// spec-test: SES-11
fn sessions_wait_for_a_time_and_their_number_is_bounded() {
    let mut registry = Registry::new(2, GRACE);
    let open = record::encode(&record::Record::Open);
    for name in [1, 2] {
        let Ok(Arrival::New(grant)) = registry.greet(&open, of(None), [name; 32]) else { panic!() };
        registry.insert(&grant, of(None), name);
    }
    assert!(matches!(registry.greet(&open, of(None), [3; 32]), Ok(Arrival::Full)));
    let start = Duration::from_secs(1000);
    registry.park(start, &[1; GRANT_LEN]);
    assert_eq!(registry.next_expiry(), Some(start + GRACE));
    assert!(registry.expire(start + GRACE - Duration::from_millis(1)).is_empty());
    assert_eq!(registry.expire(start + GRACE), [1]);
    assert_eq!((registry.len(), registry.is_empty()), (1, false));
    assert!(matches!(registry.greet(&open, of(None), [3; 32]), Ok(Arrival::New(_))));
    assert_eq!(registry.remove(&[2; GRANT_LEN]), Some(2));
    assert!(registry.is_empty());
    assert_eq!(registry.next_expiry(), None);
}

#[test]
fn tokens_are_not_printed() {
    let granted = Change::Granted {
        id: [1; GRANT_LEN],
        token: Token([77; GRANT_LEN]),
        grace: GRACE,
        before: None,
        owner: None,
    };
    let saved =
        Saved { granted: Some(([1; GRANT_LEN], Token([77; GRANT_LEN]))), ..Saved::default() };
    for text in [format!("{granted:?}"), format!("{saved:?}")] {
        assert!(text.contains("Token(..)") && !text.contains("77"), "{text}");
    }
}

#[test]
fn a_session_ends_for_both() {
    let mut world = running();
    world.ends[0].session.end_with(42);
    world.pump();
    world.deliver(0);
    for end in &mut world.ends {
        assert_eq!(end.session.end(), Some(&Event::Ended(42)));
        assert_eq!(end.session.open("x"), Err(OpenError::Over));
        assert_eq!(end.session.send(ChannelId(0), Bytes::new()), Err(SendError::Over));
    }
    world.store(0);
    assert_eq!(world.saved[0], Saved::default());
}

#[test]
fn what_was_not_confirmed_can_be_had_when_the_server_has_forgotten() {
    let mut world = running();
    world.cut();
    let client = &mut world.ends[0].session;
    client.send(ChannelId(0), Bytes::from_static(b"m")).unwrap();
    client.attach();
    speak(client, &record::Record::Unknown).unwrap();
    assert_eq!(client.end(), Some(&Event::Forgotten));
    let lost = client.unconfirmed(ChannelId(0));
    assert_eq!(lost, [(0, Item::Message(Bytes::from_static(b"m")))]);
}

#[test]
fn limits_hold() {
    let mut world = running();
    let client = &mut world.ends[0].session;
    let too_long = vec![0; 101].into();
    assert_eq!(client.send(ChannelId(0), too_long), Err(SendError::TooLong));
    assert_eq!(client.open(&"x".repeat(LABEL_MAX + 1)), Err(OpenError::LabelTooLong));
    for _ in 1..CHANNELS_MAX {
        client.open("x").unwrap();
    }
    assert_eq!(client.open("x"), Err(OpenError::TooMany));
}

#[test]
// spec-test: SES-14
fn a_list_of_more_channels_than_there_can_be_is_refused() {
    use super::record::{self, Credentials, Entry, Record};
    let credentials = Credentials { id: [1; GRANT_LEN], token: Token([2; GRANT_LEN]) };
    let entry = |n| Entry { channel: n, label: String::new(), taken: 0, next: 0 };
    let read = |count: u64| {
        let entries = (0..count).map(entry).collect();
        record::decode::<Record>(&record::encode(&Record::Resume(credentials, entries)))
    };
    assert!(read(2 * CHANNELS_MAX as u64).is_ok());
    assert!(read(2 * CHANNELS_MAX as u64 + 1).is_err());
}
