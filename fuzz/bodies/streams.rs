//! What must hold of streams as they arrive: what is delivered is what was sent, once, in the promised
//! order, and all of it that has come.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use arbitrary::{Result, Unstructured};
use bytes::Bytes;
use jsp_proto::{BareStreams, Instant, RecvError, Side, StreamId, TransportConfig};
use jsp_wire::frame::{
    Attributes, BytesFrame, Fragment, MessageFrame, MessageNumber, ResetStream, Skip, StreamLimit,
};
use jsp_wire::stream::{Class, Delivery, Framing, Open, Profile};
use jsp_wire::{Frame, Shape, Writer};

/// Steps of one input.
const STEPS_MAX: usize = 400;
/// Streams of the peer.
const STREAMS: u64 = 8;
/// Messages of a stream of messages.
const MESSAGES_MAX: u64 = 24;
/// What a message costs in credit beside its bytes (STR-21).
const MESSAGE_COST: u64 = 32;
/// Bytes of everything, and what the records of pieces may add.
const BUFFERED_MAX: u64 = 1 << 20;

/// The byte that stream `id` holds at `place`; messages are told apart by `number`.
fn byte(id: u64, number: u64, place: u64) -> u8 {
    (id.wrapping_mul(89) ^ number.wrapping_mul(57) ^ place.wrapping_mul(31) ^ place >> 8) as u8
}

fn bytes(id: u64, number: u64, from: u64, to: u64) -> Vec<u8> {
    (from..to).map(|place| byte(id, number, place)).collect()
}

/// One stream as its sender knows it, and what came of it.
struct Sent {
    id: u64,
    profile: Profile,
    /// Bytes of the stream, or how many messages it has.
    total: u64,
    /// Which bytes of a byte stream were sent.
    pieces: Vec<bool>,
    /// Which bytes of each message were sent.
    messages: BTreeMap<u64, Vec<bool>>,
    /// Messages below are given up.
    floor: u64,
    /// The end was told.
    ended: bool,
    reset: bool,
    stopped: bool,
    opened: bool,
    /// What the application has: bytes, or numbers of messages.
    read: u64,
    heard: BTreeSet<u64>,
    /// Highest number heard.
    last: Option<u64>,
    over: bool,
}

impl Sent {
    fn new(u: &mut Unstructured<'_>, n: u64) -> Result<Self> {
        let is_bytes = n < 2;
        let profile = Profile {
            framing: if is_bytes { Framing::Bytes } else { Framing::Messages },
            delivery: match n {
                0..=3 => Delivery::Reliable,
                4 | 5 => Delivery::Partial,
                _ => Delivery::Unreliable,
            },
            ordered: is_bytes || n & 1 == 0,
            class: Class::Interactive,
            unidirectional: n == 1,
        };
        let total =
            if is_bytes { u.int_in_range(0..=9000)? } else { u.int_in_range(0..=MESSAGES_MAX)? };
        Ok(Self {
            // Index 0 of the client is stream 0.
            id: StreamId::new(n + 1, false).0,
            profile,
            total,
            pieces: vec![false; if is_bytes { total as usize } else { 0 }],
            messages: BTreeMap::new(),
            floor: 0,
            ended: false,
            reset: false,
            stopped: false,
            opened: false,
            read: 0,
            heard: BTreeSet::new(),
            last: None,
            over: false,
        })
    }

    /// How long message `number` is.
    fn len(&self, number: u64) -> u64 {
        match (number * 7 + self.id) % 5 {
            0 => 0,
            1 => 900 + number,
            2 => 5000,
            n => n * 40 + number,
        }
    }

    fn attributes(&self, number: u64) -> Attributes {
        Attributes { text: number % 3 == 1, ..Attributes::default() }
    }

    fn is_bytes(&self) -> bool {
        self.profile.framing == Framing::Bytes
    }

    /// All below was sent.
    fn contiguous(&self) -> u64 {
        self.pieces.iter().position(|sent| !sent).unwrap_or(self.pieces.len()) as u64
    }

    fn is_whole(&self, number: u64) -> bool {
        self.messages.get(&number).is_some_and(|sent| sent.iter().all(|sent| *sent))
    }

    /// Credit of all messages below `floor`.
    fn credit_below(&self, floor: u64) -> u64 {
        (0..floor).map(|number| self.len(number) + MESSAGE_COST).sum()
    }
}

/// The receiver, and what its peer has sent.
struct Play {
    streams: BareStreams,
    now: Instant,
    pn: u64,
    sent: Vec<Sent>,
    delivered: usize,
}

/// The input is a list of steps: pieces of eight streams come in any order and as often as they like,
/// ends, resets, messages that are given up. Answers how much was delivered.
pub fn reassemble(data: &[u8]) -> usize {
    let mut u = Unstructured::new(data);
    let Ok(sent) = (0..STREAMS).map(|n| Sent::new(&mut u, n)).collect::<Result<Vec<_>>>() else {
        return 0;
    };
    let now = Instant::from_nanos(1_000_000_000);
    let streams = BareStreams::new(now, Side::Server, &TransportConfig::default());
    let mut play = Play { streams, now, pn: 0, sent, delivered: 0 };
    for _ in 0..STEPS_MAX {
        if u.is_empty() || play.step(&mut u).is_err() {
            break;
        }
        assert!(play.streams.buffered() <= BUFFERED_MAX);
    }
    play.end();
    play.delivered
}

impl Play {
    fn step(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        let at = u.int_in_range(0..=self.sent.len() - 1)?;
        match u.int_in_range(0..=23u8)? {
            0..=14 if self.sent[at].is_bytes() => self.piece(u, at)?,
            0..=14 => self.message(u, at)?,
            15 => self.open(at),
            16 => self.finish(at),
            17 => self.skip(u, at)?,
            18 if u.ratio(1u8, 3)? => self.reset(at),
            19 if u.ratio(1u8, 3)? => self.stop(at),
            20 => {
                self.now = self.now + Duration::from_millis(u.int_in_range(0..=500)?);
                while self.streams.write(self.now, 1200).is_some() {}
            }
            _ => {
                let max = u.int_in_range(1..=3000usize)?;
                self.read(at, max, false);
            }
        }
        Ok(())
    }

    /// The receiver takes a frame of an honest sender, to which it has no objection.
    fn take(&mut self, frame: &Frame<'_>) {
        let mut buffer = vec![0; 16_384];
        let mut writer = Writer::new(&mut buffer);
        frame.write(&mut writer).expect("there is room");
        let payload = Bytes::copy_from_slice(writer.written());
        let taken = self.streams.take(self.now, self.pn, Shape::Frames, &payload);
        assert_eq!(taken, Ok(()), "{frame:?}");
        self.pn += 1;
    }

    fn open(&mut self, at: usize) {
        let sent = &mut self.sent[at];
        sent.opened = true;
        let open = Open { profile: sent.profile, params: &[] };
        let stream = StreamId(sent.id);
        self.take(&Frame::Open { stream, open });
    }

    fn piece(&mut self, u: &mut Unstructured<'_>, at: usize) -> Result<()> {
        let sent = &mut self.sent[at];
        let from = u.int_in_range(0..=sent.total)?;
        let to = (from + u.int_in_range(0..=1500)?).min(sent.total);
        let fin = to == sent.total && u.arbitrary()?;
        // Nothing goes after a reset, but what is under way may come.
        if sent.reset && !sent.pieces[from as usize..to as usize].iter().all(|sent| *sent) {
            return Ok(());
        }
        sent.pieces[from as usize..to as usize].fill(true);
        sent.ended |= fin;
        sent.opened = true;
        let data = bytes(sent.id, 0, from, to);
        let open = Some(Open { profile: sent.profile, params: &[] });
        let stream = StreamId(sent.id);
        let frame = BytesFrame { stream, open, offset: from, fin, data: &data, to_end: false };
        self.take(&Frame::Bytes(frame));
        Ok(())
    }

    fn message(&mut self, u: &mut Unstructured<'_>, at: usize) -> Result<()> {
        let sent = &mut self.sent[at];
        if sent.total == 0 {
            return Ok(());
        }
        let number = u.int_in_range(0..=sent.total - 1)?;
        let len = sent.len(number);
        let whole = len == 0 || u.arbitrary()?;
        let (from, to) = if whole {
            (0, len)
        } else {
            let from = u.int_in_range(0..=len - 1)?;
            (from, (from + 1 + u.int_in_range(0..=1500)?).min(len))
        };
        let flags = sent.messages.entry(number).or_insert_with(|| vec![false; len as usize]);
        let range = from as usize..to as usize;
        // What was given up is not sent any more, though it may still be under way.
        if sent.reset || (number < sent.floor && !flags[range.clone()].iter().all(|sent| *sent)) {
            return Ok(());
        }
        flags[range].fill(true);
        sent.opened = true;
        let fin = number + 1 == sent.total && u.arbitrary()?;
        sent.ended |= fin;
        let (data, attributes) = (bytes(sent.id, number, from, to), sent.attributes(number));
        let is_part = (from, to) != (0, len);
        let frame = MessageFrame {
            stream: StreamId(sent.id),
            open: Some(Open { profile: sent.profile, params: &[] }),
            number: MessageNumber::Full(number),
            fragment: is_part.then_some(Fragment { offset: from, total: len }),
            attributes,
            fin,
            to_end: false,
            data: &data,
        };
        self.take(&Frame::Message(frame));
        Ok(())
    }

    fn finish(&mut self, at: usize) {
        let sent = &mut self.sent[at];
        if !sent.opened || sent.reset {
            return;
        }
        sent.ended = true;
        let limit = StreamLimit { stream: StreamId(sent.id), value: sent.total };
        self.take(&Frame::Finish(limit));
    }

    /// Messages are given up: only those of streams that may.
    fn skip(&mut self, u: &mut Unstructured<'_>, at: usize) -> Result<()> {
        let sent = &mut self.sent[at];
        let floor = u.int_in_range(0..=sent.total)?;
        if sent.profile.delivery != Delivery::Partial || !sent.opened || sent.reset {
            return Ok(());
        }
        // The credit of what was never sent in full is what was sent of it; the model takes all.
        sent.floor = sent.floor.max(floor);
        let (stream, credit_below) = (StreamId(sent.id), sent.credit_below(floor));
        self.take(&Frame::Skip(Skip { stream, floor, credit_below }));
        Ok(())
    }

    fn reset(&mut self, at: usize) {
        let sent = &mut self.sent[at];
        let final_bytes = match (sent.is_bytes(), sent.profile.delivery) {
            (true, _) => sent.total,
            (_, Delivery::Unreliable) => 0,
            _ => sent.credit_below(sent.total),
        };
        sent.reset = true;
        sent.opened = true;
        let stream = StreamId(sent.id);
        self.take(&Frame::ResetStream(ResetStream { stream, code: 5, final_bytes }));
    }

    fn stop(&mut self, at: usize) {
        if self.sent[at].opened {
            self.sent[at].stopped = true;
            self.streams.stop(self.now, StreamId(self.sent[at].id), 6);
        }
    }

    /// Reads what there is, up to `max` bytes at a time; once, or to the end.
    fn read(&mut self, at: usize, max: usize, to_the_end: bool) {
        while self.streams.accept().is_some() {}
        let id = StreamId(self.sent[at].id);
        self.sent[at].over = false;
        loop {
            let outcome = if self.sent[at].is_bytes() {
                let read = self.streams.read(self.now, id, max);
                read.map(|data| data.map(|data| self.check_bytes(at, &data, max)))
            } else {
                let received = self.streams.recv(self.now, id);
                received.map(|message| message.map(|message| self.check_message(at, &message)))
            };
            match outcome {
                Ok(Some(())) if to_the_end => self.delivered += 1,
                Ok(Some(())) => return self.delivered += 1,
                Ok(None) => return,
                Err(error) => return self.check_end(at, error),
            }
        }
    }

    fn check_bytes(&mut self, at: usize, data: &[u8], max: usize) {
        let sent = &mut self.sent[at];
        assert!(!sent.stopped && !data.is_empty() && data.len() <= max);
        let to = sent.read + data.len() as u64;
        assert!(to <= sent.contiguous(), "bytes that never came were delivered");
        assert!(*data == bytes(sent.id, 0, sent.read, to), "other bytes were delivered");
        sent.read = to;
    }

    fn check_message(&mut self, at: usize, message: &jsp_proto::Received) {
        let sent = &mut self.sent[at];
        let number = message.number;
        assert!(!sent.stopped && sent.is_whole(number), "{number} never came");
        assert!(sent.heard.insert(number), "{number} was delivered twice");
        assert!(message.payload == bytes(sent.id, number, 0, sent.len(number)));
        assert_eq!(message.attributes, sent.attributes(number));
        assert!(!sent.profile.ordered || sent.last.is_none_or(|last| number > last), "{number}");
        if sent.profile.ordered && sent.profile.delivery != Delivery::Unreliable {
            let next = sent.last.map_or(0, |last| last + 1);
            assert!((next..number).all(|lower| lower < sent.floor), "{number} came before {next}");
        }
        sent.last = sent.last.max(Some(number));
    }

    fn check_end(&mut self, at: usize, error: RecvError) {
        let sent = &mut self.sent[at];
        sent.over = true;
        match error {
            RecvError::Reset(code) => assert!(sent.reset && code == 5),
            RecvError::Closed => {
                let all = match (sent.is_bytes(), sent.profile.delivery) {
                    (true, _) => sent.read == sent.total,
                    (_, Delivery::Unreliable) => true,
                    _ => (sent.floor..sent.total).all(|number| sent.heard.contains(&number)),
                };
                let ended = sent.ended && all;
                assert!(!sent.opened || sent.reset || sent.stopped || ended, "an early end");
            }
            error => panic!("{error}"),
        }
    }

    /// Whatever is complete can be read.
    fn end(&mut self) {
        for at in 0..self.sent.len() {
            self.read(at, 4000, true);
            let sent = &self.sent[at];
            if sent.reset || sent.stopped || sent.profile.delivery == Delivery::Unreliable {
                continue;
            }
            if sent.is_bytes() {
                assert_eq!(sent.read, sent.contiguous());
                assert_eq!(sent.over, !sent.opened || (sent.ended && sent.read == sent.total));
                continue;
            }
            let whole = |number: &u64| sent.heard.contains(number) || sent.is_whole(*number);
            let settled =
                (0..sent.total).take_while(|n| *n < sent.floor || whole(n)).count() as u64;
            for number in sent.floor..sent.total {
                let due = sent.is_whole(number) && (!sent.profile.ordered || number < settled);
                assert_eq!(due, sent.heard.contains(&number), "{number}");
            }
            let over = !sent.opened || (sent.ended && settled == sent.total);
            assert_eq!(sent.over, over);
        }
    }
}
