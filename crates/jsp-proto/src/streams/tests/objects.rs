//! Large messages as symbols: whatever is lost, and however pieces are cut, both sides agree on what is enough.

use jsp_wire::params::feature;

use super::*;
use crate::streams::config::{Delivery, FecPolicy};

/// What a packet holds, and bytes of a symbol then.
const ROOM: usize = 1_200;
const SYMBOL: usize = 1_136;

/// How many messages are sent, and how: their bound and their lifetime.
struct Talk {
    sides: [Streams; 2],
    now: Instant,
    stream: StreamId,
    /// What the sides told.
    fates: Vec<(u64, MessageFate)>,
    got: Vec<Received>,
    /// Symbols that were written.
    symbols: usize,
}

impl Talk {
    fn new(percent: u8, retransmits: Option<u32>) -> Self {
        let limits = StreamLimits {
            stream_window: 4 << 20,
            data_window: 8 << 20,
            ..StreamLimits::default()
        };
        let mut sides = [Streams::new(Side::Client, &limits), Streams::new(Side::Server, &limits)];
        let now = Instant::from_nanos(1_000_000_000);
        for at in 0..2 {
            let mut params =
                TransportParams { features: feature::OBJECTS, ..TransportParams::default() };
            sides[1 - at].advertise(&mut params);
            sides[at].set_peer_params(now, &params);
        }
        let config = StreamConfig {
            delivery: Delivery::Partial { retransmits, lifetime: None },
            fec: FecPolicy::Fountain(percent),
            ordered: false,
            send_buffer: 4 << 20,
            ..StreamConfig::messages()
        };
        let stream = sides[0].open(now, config).unwrap();
        Self { sides, now, stream, fates: Vec::new(), got: Vec::new(), symbols: 0 }
    }

    fn send(&mut self, seed: u64, len: usize) {
        let message = Message { want_fate: true, ..Message::binary(pattern(seed, len)) };
        self.sides[0].send(self.now, self.stream, message).unwrap();
    }

    fn supersede(&mut self, seed: u64, len: usize) {
        let payload = pattern(seed, len);
        let (want_fate, supersede_key) = (true, Some(7));
        let message = Message { want_fate, supersede_key, ..Message::binary(payload) };
        self.sides[0].send(self.now, self.stream, message).unwrap();
    }

    /// The next packet of the sender.
    fn build(&mut self, room: usize) -> Option<Sent> {
        let sent = build(&mut self.sides[0], self.now, room)?;
        self.symbols += symbols_in(&sent);
        Some(sent)
    }

    /// All packets that may go now, in packets of this size.
    fn flight(&mut self, room: usize) -> Vec<Sent> {
        std::iter::from_fn(|| self.build(room)).collect()
    }

    fn arrives(&mut self, sent: &Sent) {
        take(&mut self.sides[1], self.now, sent).unwrap();
        settle(&mut self.sides[0], self.now, sent, Fate::Acked);
        self.read();
    }

    fn vanishes(&mut self, sent: &Sent) {
        settle(&mut self.sides[0], self.now, sent, Fate::Lost);
        self.read();
    }

    fn read(&mut self) {
        while self.sides[1].accept().is_some() {}
        while let Ok(Some(got)) = self.sides[1].recv(self.now, self.stream) {
            self.got.push(got);
        }
        for event in events(&mut self.sides[0]) {
            if let StreamEvent::Fate { number, fate, .. } = event {
                self.fates.push((number, fate));
            }
        }
        // What the receiver has to say always arrives.
        while let Some(sent) = build(&mut self.sides[1], self.now, ROOM) {
            take(&mut self.sides[0], self.now, &sent).unwrap();
            settle(&mut self.sides[1], self.now, &sent, Fate::Acked);
        }
    }

    /// Sends until nothing is left to send; packets that `loses` names are lost.
    fn finish(&mut self, room: usize, mut loses: impl FnMut(&Sent) -> bool) {
        for _ in 0..100 {
            let flight = self.flight(room);
            if flight.is_empty() {
                return;
            }
            for sent in flight {
                if loses(&sent) { self.vanishes(&sent) } else { self.arrives(&sent) }
            }
        }
        panic!("there is no end to it");
    }

    /// Every message has come as it was sent, and both sides know.
    fn assert_done(&mut self, lens: &[(u64, usize)]) {
        self.got.sort_by_key(|got| got.number);
        assert_eq!(self.got.len(), lens.len(), "{:?}", self.fates);
        for (got, (seed, len)) in self.got.iter().zip(lens) {
            assert!(got.payload == pattern(*seed, *len), "{}", got.number);
        }
        self.fates.sort_by_key(|fate| fate.0);
        let acked = |number| (number, MessageFate::Acknowledged);
        assert_eq!(self.fates, (0..lens.len() as u64).map(acked).collect::<Vec<_>>());
        self.assert_at_rest();
    }

    /// Nothing is kept any more.
    fn assert_at_rest(&mut self) {
        assert_eq!((self.sides[0].buffered(), self.sides[1].buffered()), (0, 0));
        assert!(!self.sides[0].wants(self.now));
        let (_, stream) = self.sides[0].table.find(self.stream).unwrap();
        assert!(stream.is_settled(), "what has its fate is forgotten");
    }
}

fn symbols_in(sent: &Sent) -> usize {
    let frames = Payload::read(sent.shape, &sent.payload).unwrap();
    frames.flatten().filter(|frame| matches!(frame, Frame::Symbol(_))).count()
}

#[test]
/// spec-test: FEC-26, FEC-27
fn a_message_has_not_arrived_before_one_piece_has() {
    for percent in [0, 10, 100] {
        let mut talk = Talk::new(percent, None);
        talk.send(1, 100 * SYMBOL);
        // An outage takes all pieces; what is sent in their place arrives.
        let pieces = talk.flight(ROOM);
        assert!(pieces.len() >= 100);
        for sent in &pieces {
            talk.vanishes(sent);
        }
        talk.finish(ROOM, |_| false);
        talk.assert_done(&[(1, 100 * SYMBOL)]);
    }
}

#[test]
/// spec-test: FEC-27
fn the_piece_that_tells_the_attributes_goes_until_it_arrives() {
    let mut talk = Talk::new(0, None);
    talk.send(1, 100 * SYMBOL);
    let mut left = 130;
    // Packets without symbols are lost for a long time.
    talk.finish(ROOM, |sent| {
        let is_lost = symbols_in(sent) == 0 && left > 0;
        left -= i32::from(is_lost);
        is_lost
    });
    talk.assert_done(&[(1, 100 * SYMBOL)]);
}

#[test]
/// spec-test: FEC-22, FEC-23, FEC-26
fn symbols_count_however_pieces_were_cut() {
    for seed in 0..20 {
        let mut rng = Rng(seed);
        let mut talk = Talk::new(if seed % 2 == 0 { 0 } else { 20 }, None);
        // The message begins behind others, and its pieces share packets with small messages.
        let mut lens = Vec::new();
        for n in 0..4 {
            lens.push((n, 300));
            lens.push((100 + n, 150 * SYMBOL + 17 * n as usize));
        }
        for (seed, len) in &lens {
            talk.send(*seed, *len);
        }
        let loss = 3 + rng.below(20);
        let mut burst = 0;
        talk.finish(ROOM, |_| {
            // Single packets, and now and then a quarter of a message.
            if rng.chance(1) {
                burst = rng.below(60);
            }
            burst = burst.saturating_sub(1);
            burst > 0 || rng.chance(loss)
        });
        talk.assert_done(&lens);
    }
}

#[test]
/// spec-test: FEC-22, FEC-23
fn pieces_that_were_cut_in_packets_of_any_size_are_enough() {
    for seed in 0..10 {
        let mut rng = Rng(seed);
        let mut talk = Talk::new(0, None);
        talk.send(1, 120 * SYMBOL);
        let mut flight = vec![talk.build(ROOM).unwrap()];
        while let Some(sent) = talk.build(400 + rng.below(801) as usize) {
            flight.push(sent);
        }
        for sent in flight {
            if rng.chance(15) { talk.vanishes(&sent) } else { talk.arrives(&sent) }
        }
        talk.finish(ROOM, |_| rng.chance(10));
        talk.assert_done(&[(1, 120 * SYMBOL)]);
    }
}

#[test]
/// spec-test: FEC-20, FEC-27
fn when_symbols_are_used_up_pieces_go_again() {
    let mut talk = Talk::new(100, None);
    talk.send(1, 100 * SYMBOL);
    let (mut pieces, mut symbols) = (0, 0);
    // No symbol ever arrives, and half of the pieces do only when they go again.
    talk.finish(ROOM, |sent| {
        let is_symbol = symbols_in(sent) > 0;
        symbols += usize::from(is_symbol);
        pieces += usize::from(!is_symbol);
        is_symbol || (pieces <= 100 && pieces % 2 == 0)
    });
    assert_eq!(symbols, 100 + 64, "as many as there are ids");
    talk.assert_done(&[(1, 100 * SYMBOL)]);
}

#[test]
/// spec-test: FEC-23, STR-33
fn no_symbol_goes_for_a_message_that_is_superseded() {
    // Symbols in advance wait when the newer message comes.
    let mut talk = Talk::new(100, None);
    talk.supersede(1, 100 * SYMBOL);
    let mut pieces = Vec::new();
    while talk.symbols == 0 {
        pieces.push(talk.build(ROOM).unwrap());
    }
    talk.supersede(2, 500);
    let first = std::mem::take(&mut talk.symbols);
    talk.finish(ROOM, |_| false);
    assert_eq!((first, talk.symbols), (1, 0));
    talk.read();
    assert_eq!(talk.fates, [(0, MessageFate::Superseded), (1, MessageFate::Acknowledged)]);
    talk.assert_at_rest();
    // All of it is on its way: it may arrive. What is lost is not made up for.
    for lost in [0, 1] {
        let mut talk = Talk::new(0, None);
        talk.supersede(1, 100 * SYMBOL);
        let pieces = talk.flight(ROOM);
        talk.supersede(2, 500);
        for (n, sent) in pieces.iter().enumerate() {
            if n < lost { talk.vanishes(sent) } else { talk.arrives(sent) }
        }
        talk.finish(ROOM, |_| false);
        let fate = if lost == 0 { MessageFate::Acknowledged } else { MessageFate::Superseded };
        talk.fates.sort_by_key(|fate| fate.0);
        assert_eq!(talk.fates, [(0, fate), (1, MessageFate::Acknowledged)]);
        assert_eq!(talk.symbols, 0);
        talk.assert_at_rest();
    }
}

#[test]
/// spec-test: FEC-23, STR-31
fn symbols_in_advance_make_up_for_what_may_not_go_again() {
    let run = |retransmits, lost: usize, lost_symbols: usize| {
        let mut talk = Talk::new(20, Some(retransmits));
        talk.send(1, 100 * SYMBOL);
        let (mut pieces, mut symbols) = (0, 0);
        talk.finish(ROOM, |sent| {
            if symbols_in(sent) > 0 {
                symbols += 1;
                return symbols <= lost_symbols;
            }
            pieces += 1;
            pieces <= lost
        });
        talk.assert_at_rest();
        assert_eq!(talk.got.len(), usize::from(talk.fates[0].1 == MessageFate::Acknowledged));
        (talk.fates[0].1, talk.symbols)
    };
    assert_eq!(run(0, 17, 0), (MessageFate::Acknowledged, 20));
    assert_eq!(run(0, 10, 7), (MessageFate::Acknowledged, 20));
    assert_eq!(run(0, 21, 0).0, MessageFate::Lost);
    assert_eq!(run(0, 10, 11).0, MessageFate::Lost);
    // Each that was lost may be made up for once.
    let (fate, symbols) = run(1, 40, 0);
    assert_eq!(fate, MessageFate::Acknowledged);
    assert!((42..=60).contains(&symbols), "{symbols}");
    assert_eq!(run(1, 30, 51).0, MessageFate::Lost);
}

#[test]
/// spec-test: STR-31
fn a_probe_of_one_piece_leaves_the_others_their_bound() {
    let mut talk = Talk::new(0, Some(1));
    // Too small for symbols.
    talk.send(1, 5_000);
    let pieces = talk.flight(ROOM);
    assert!(pieces.len() >= 4);
    for token in &pieces[0].tokens {
        if let Token::Stream(token) = token {
            talk.sides[0].on_doubt(talk.now, *token);
        }
    }
    let copy = talk.flight(ROOM);
    assert_eq!(copy.len(), 1, "the probe repeats it");
    talk.arrives(&copy[0]);
    talk.vanishes(&pieces[1]);
    for sent in &pieces[2..] {
        talk.arrives(sent);
    }
    talk.finish(ROOM, |_| false);
    talk.vanishes(&pieces[0]);
    talk.assert_done(&[(1, 5_000)]);
}

#[test]
/// spec-test: FEC-27
fn where_symbols_do_not_fit_pieces_go() {
    let mut talk = Talk::new(20, None);
    talk.send(1, 100 * SYMBOL);
    talk.send(2, 700);
    // The path takes less than it did, in the midst of the symbols.
    let mut flight = Vec::new();
    while talk.symbols < 3 {
        flight.push(talk.build(ROOM).unwrap());
    }
    for (n, sent) in flight.iter().enumerate() {
        if n % 4 == 0 { talk.vanishes(sent) } else { talk.arrives(sent) }
    }
    talk.finish(ROOM - 200, |_| false);
    assert_eq!(talk.symbols, 3);
    talk.assert_done(&[(1, 100 * SYMBOL), (2, 700)]);
}

#[test]
/// spec-test: FEC-23
fn a_symbol_that_does_not_fit_lets_others_have_the_packet() {
    let mut talk = Talk::new(20, None);
    talk.send(1, 100 * SYMBOL);
    let mut flight = Vec::new();
    while talk.symbols < 2 {
        flight.push(talk.build(ROOM).unwrap());
    }
    // A stream that goes first leaves no room for a symbol, but for the one behind.
    let open = |talk: &mut Talk, class, seed, len| {
        let config = StreamConfig { class, ..StreamConfig::messages() };
        let stream = talk.sides[0].open(talk.now, config).unwrap();
        talk.sides[0].send(talk.now, stream, Message::binary(pattern(seed, len))).unwrap();
        stream
    };
    open(&mut talk, jsp_wire::Class::RealTime, 3, 400);
    let behind = open(&mut talk, jsp_wire::Class::Scavenger, 4, 200);
    let sent = talk.build(ROOM).unwrap();
    let mut frames = Payload::read(sent.shape, &sent.payload).unwrap();
    let is_behind = |frame| matches!(frame, Ok(Frame::Message(f)) if f.stream == behind);
    assert!(frames.any(is_behind), "{sent:?}");
    assert_eq!(talk.symbols, 2);
    flight.push(sent);
    flight.extend(talk.flight(ROOM));
    assert_eq!(talk.symbols, 20, "symbols go on");
    for sent in &flight {
        talk.arrives(sent);
    }
    assert_eq!(talk.fates, [(0, MessageFate::Acknowledged)]);
}

#[test]
/// spec-test: FEC-25
fn what_was_divided_goes_in_pieces_when_the_peer_takes_no_symbols_any_more() {
    let mut talk = Talk::new(20, None);
    talk.send(1, 100 * SYMBOL);
    let flight = talk.flight(ROOM);
    let early = std::mem::take(&mut talk.symbols);
    assert_eq!(early, 20);
    let mut params = TransportParams::default();
    talk.sides[1].advertise(&mut params);
    let (pieces, symbols): (Vec<_>, Vec<_>) = flight.iter().partition(|sent| symbols_in(sent) == 0);
    talk.vanishes(pieces[0]);
    talk.sides[0].set_peer_params(talk.now, &params);
    for sent in &pieces[1..] {
        talk.vanishes(sent);
    }
    for sent in symbols {
        talk.vanishes(sent);
    }
    talk.finish(ROOM, |_| false);
    assert_eq!(talk.symbols, 0);
    talk.assert_done(&[(1, 100 * SYMBOL)]);
}

#[test]
/// spec-test: STR-40
fn symbols_have_their_share_beside_a_stream_that_fills_every_packet() {
    let mut talk = Talk::new(100, None);
    talk.send(1, 100 * SYMBOL);
    let mut flight = Vec::new();
    while talk.symbols < 2 {
        flight.push(talk.build(ROOM).unwrap());
    }
    let bytes = StreamConfig { class: jsp_wire::Class::Interactive, ..StreamConfig::bytes() };
    let other = talk.sides[0].open(talk.now, bytes).unwrap();
    talk.sides[0].write_bytes(talk.now, other, pattern(2, 400_000)).unwrap();
    for _ in 0..100 {
        flight.push(talk.build(ROOM).unwrap());
        assert!(flight.last().unwrap().payload.len() > ROOM - 50, "no packet is left half empty");
    }
    assert!((30..=60).contains(&talk.symbols), "{}", talk.symbols);
}

/// Packets that are on their way, in any order and size, are lost, are held lost and come late, or are asked after.
fn weather(seed: u64, percent: u8, retransmits: Option<u32>) -> (usize, usize) {
    let mut rng = Rng(seed);
    let mut talk = Talk::new(percent, retransmits);
    for n in 0..6 {
        let len = if rng.chance(30) { 400 } else { (100 + rng.below(100) as usize) * SYMBOL + 9 };
        if rng.chance(30) { talk.supersede(n, len) } else { talk.send(n, len) }
    }
    let (mut flying, mut late) = (Vec::new(), Vec::new());
    let mut loss = rng.below(30);
    for _ in 0..1_000_000 {
        let room = if rng.chance(5) { 300 + rng.below(900) as usize } else { ROOM };
        let is_full = flying.len() > 150 + rng.below(100) as usize;
        if let Some(sent) = Some(room).filter(|_| !is_full).and_then(|room| talk.build(room)) {
            flying.push(sent);
            continue;
        }
        if flying.is_empty() {
            break;
        }
        // Almost in order.
        let sent = flying.remove(rng.below(3.min(flying.len() as u64)) as usize);
        if rng.chance(2) {
            loss = if rng.chance(30) { 100 } else { rng.below(30) };
        }
        if rng.chance(3) {
            for token in &sent.tokens {
                if let Token::Stream(token) = token {
                    talk.sides[0].on_doubt(talk.now, *token);
                }
            }
        }
        if !rng.chance(loss) {
            talk.arrives(&sent);
        } else if rng.chance(10) {
            // It arrives, but its acknowledgement does not, or later.
            take(&mut talk.sides[1], talk.now, &sent).unwrap();
            talk.vanishes(&sent);
            late.push(sent);
        } else {
            talk.vanishes(&sent);
        }
        if rng.chance(5)
            && let Some(sent) = late.pop()
        {
            settle(&mut talk.sides[0], talk.now, &sent, Fate::Late);
        }
    }
    talk.read();
    assert_eq!(talk.fates.len(), 6, "{seed}: {:?}", talk.fates);
    talk.assert_at_rest();
    let is_acked = |fate: &&(u64, MessageFate)| fate.1 == MessageFate::Acknowledged;
    for (number, _) in talk.fates.iter().filter(is_acked) {
        let got = talk.got.iter().filter(|got| got.number == *number);
        let seeds: Vec<bool> =
            got.map(|got| got.payload == pattern(*number, got.payload.len())).collect();
        assert_eq!(seeds, [true], "{seed}: {number}");
    }
    (talk.fates.iter().filter(is_acked).count(), talk.symbols)
}

#[test]
/// spec-test: FEC-26, FEC-27
fn whatever_happens_messages_have_their_fate_and_what_is_acknowledged_has_come() {
    let (mut acked, mut symbols) = (0, 0);
    for seed in 0..60 {
        let percent = [0, 10, 100][seed as usize % 3];
        let retransmits = [None, None, Some(0), Some(2)][seed as usize / 3 % 4];
        let counts = weather(seed, percent, retransmits);
        (acked, symbols) = (acked + counts.0, symbols + counts.1);
    }
    assert!(acked > 180 && symbols > 5_000, "{acked} {symbols}");
}
