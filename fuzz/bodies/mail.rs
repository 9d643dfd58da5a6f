//! What two applications have sent each other, and what came of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use arbitrary::{Result, Unstructured};
use jsp_crypto::Rng;
use jsp_proto::{
    Delivery, Event, Framing, Message, MessageFate, Received, RecvError, StreamConfig, StreamId,
};

use super::parties::Seeded;
use super::world::{CLIENT, SERVER, World};

/// Most bytes that are read at once.
const READ_MAX: usize = 7000;

/// One direction of a stream.
#[derive(Default, Debug)]
struct Direction {
    /// Bytes that the sender gave.
    written: u64,
    /// Lengths of the messages that the sender gave, and whether they are text.
    messages: Vec<(u64, bool)>,
    /// Every message must arrive.
    keeps_all: bool,
    finished: bool,
    /// Somebody has given the direction up.
    broken: bool,
    /// The transport says that all has arrived.
    acknowledged: bool,
    read: u64,
    heard: BTreeSet<u64>,
    last: Option<u64>,
    /// The end has been read.
    over: bool,
    fates: BTreeMap<u64, Option<MessageFate>>,
}

#[derive(Debug)]
struct Stream {
    is_bytes: bool,
    ordered: bool,
    /// By who sends.
    directions: [Direction; 2],
}

/// All streams of a connection.
#[derive(Default, Debug)]
pub struct Mail {
    streams: BTreeMap<StreamId, Stream>,
    pub delivered: usize,
}

/// Bytes of which every stream and every message holds a piece.
const CONTENT_LEN: usize = 1 << 19;
/// Pieces begin below this: what is left holds the longest stream.
const PIECES: u64 = 1 << 17;

/// A stream or a message between two places. It is made once for all, for that is what takes time.
fn bytes(end: usize, id: StreamId, number: u64, from: u64, to: u64) -> &'static [u8] {
    static CONTENT: OnceLock<Vec<u8>> = OnceLock::new();
    let content = CONTENT.get_or_init(|| {
        let mut content = vec![0; CONTENT_LEN];
        Seeded(0x9e37_79b9_7f4a_7c15).fill(&mut content);
        content
    });
    let start = (id.0 * 40_503 + number * 9_973 + end as u64 * 65_537) % PIECES;
    &content[(start + from) as usize..(start + to) as usize]
}

impl Mail {
    /// A stream that exists, or one that may not.
    pub fn pick(&mut self, u: &mut Unstructured<'_>) -> Result<StreamId> {
        let n = u.int_in_range(0..=31usize)?;
        let known = self.streams.keys().nth(n % (self.streams.len() + 1)).copied();
        Ok(known.unwrap_or(StreamId(n as u64 % 4)))
    }

    pub fn opened(&mut self, end: usize, id: StreamId, config: &StreamConfig) {
        let reliable = config.framing == Framing::Bytes || config.delivery == Delivery::Reliable;
        let mut directions = [Direction::default(), Direction::default()];
        for direction in &mut directions {
            direction.keeps_all = reliable;
        }
        // The other side has nothing to say on it.
        directions[1 - end].over = config.unidirectional;
        let is_bytes = config.framing == Framing::Bytes;
        let stream = Stream { is_bytes, ordered: config.ordered, directions };
        assert!(self.streams.insert(id, stream).is_none(), "{id:?} was opened twice");
    }

    /// The stream, also if it is the one that exists from the start.
    fn stream(&mut self, id: StreamId) -> &mut Stream {
        self.streams.entry(id).or_insert_with(|| {
            assert_eq!(id, StreamId::SIGNALLING, "nobody opened the stream");
            let direction = || Direction { keeps_all: true, ..Direction::default() };
            Stream { is_bytes: false, ordered: true, directions: [direction(), direction()] }
        })
    }

    fn direction(&mut self, from: usize, id: StreamId) -> &mut Direction {
        &mut self.stream(id).directions[from]
    }

    /// The bytes that come next on a byte stream.
    pub fn next_bytes(&self, end: usize, id: StreamId, len: u64) -> &'static [u8] {
        let written = self.streams.get(&id).map_or(0, |stream| stream.directions[end].written);
        bytes(end, id, 0, written, written + len)
    }

    pub fn wrote(&mut self, end: usize, id: StreamId, len: u64) {
        let direction = self.direction(end, id);
        assert!(!direction.finished, "bytes were taken after the end");
        direction.written += len;
    }

    /// The content of the next message of a stream.
    pub fn next_message(&self, end: usize, id: StreamId, len: u64) -> &'static [u8] {
        let stream = self.streams.get(&id);
        let number = stream.map_or(0, |stream| stream.directions[end].messages.len() as u64);
        bytes(end, id, number, 0, len)
    }

    pub fn sent(&mut self, end: usize, id: StreamId, number: u64, message: &Message) {
        let direction = self.direction(end, id);
        assert_eq!(number, direction.messages.len() as u64);
        assert!(!direction.finished, "a message was taken after the end");
        direction.messages.push((message.payload.len() as u64, message.attributes.text));
        direction.keeps_all &= message.supersede_key.is_none();
        if message.want_fate {
            direction.fates.insert(number, None);
        }
    }

    pub fn finished(&mut self, end: usize, id: StreamId) {
        self.direction(end, id).finished = true;
    }

    pub fn reset(&mut self, end: usize, id: StreamId) {
        if id != StreamId::SIGNALLING
            && let Some(stream) = self.streams.get_mut(&id)
        {
            stream.directions[end].broken = true;
        }
    }

    pub fn stopped(&mut self, end: usize, id: StreamId) {
        if id != StreamId::SIGNALLING
            && let Some(stream) = self.streams.get_mut(&id)
        {
            stream.directions[1 - end].broken = true;
        }
    }

    /// Takes everything that an end has to read.
    pub fn read_all(&mut self, world: &mut World, end: usize) {
        let now = world.now;
        let Some(connection) = world.connection(end) else { return };
        while let Some(id) = connection.accept() {
            assert!(self.streams.contains_key(&id), "{id:?} was never opened");
            assert_ne!(id.by_server(), end == SERVER, "a stream of our own");
        }
        let ids: Vec<StreamId> =
            self.streams.keys().copied().chain([StreamId::SIGNALLING]).collect();
        for id in ids {
            let is_bytes = self.streams.get(&id).is_some_and(|stream| stream.is_bytes);
            loop {
                let outcome = if is_bytes {
                    let read = connection.read(now, id, READ_MAX);
                    read.map(|data| data.map(|data| self.take_bytes(1 - end, id, &data)))
                } else {
                    let received = connection.recv(now, id);
                    received.map(|received| received.map(|one| self.take(1 - end, id, &one)))
                };
                match outcome {
                    Ok(Some(())) => self.delivered += 1,
                    Ok(None) => break,
                    Err(error) => {
                        self.take_end(1 - end, id, error);
                        break;
                    }
                }
            }
        }
    }

    fn take_bytes(&mut self, from: usize, id: StreamId, data: &[u8]) {
        let direction = self.direction(from, id);
        let to = direction.read + data.len() as u64;
        assert!(to <= direction.written, "more was delivered than was sent");
        assert!(data == bytes(from, id, 0, direction.read, to), "other bytes were delivered");
        assert!(!data.is_empty() && data.len() <= READ_MAX);
        direction.read = to;
    }

    fn take(&mut self, from: usize, id: StreamId, received: &Received) {
        let ordered = self.stream(id).ordered;
        let (direction, number) = (self.direction(from, id), received.number);
        let Some((len, text)) = direction.messages.get(number as usize) else {
            panic!("message {number} was never sent");
        };
        assert!(direction.heard.insert(number), "message {number} was delivered twice");
        assert!(received.payload == bytes(from, id, number, 0, *len), "another message");
        assert_eq!(received.attributes.text, *text);
        assert!(!ordered || direction.last.is_none_or(|last| number > last), "out of order");
        if ordered && direction.keeps_all {
            assert_eq!(number, direction.last.map_or(0, |last| last + 1), "a message is missing");
        }
        direction.last = direction.last.max(Some(number));
    }

    fn take_end(&mut self, from: usize, id: StreamId, error: RecvError) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        let (is_bytes, direction) = (stream.is_bytes, &mut stream.directions[from]);
        match error {
            RecvError::Reset(code) => {
                // Messages that may be given up take a stream with them of which nobody has heard.
                let given_up = code == 0 && direction.finished && !direction.keeps_all;
                assert!(direction.broken || given_up, "a reset that nobody made");
            }
            // A stream that the peer has not heard of, or a connection that is gone, ends as well.
            RecvError::Closed if direction.finished && direction.heard_all(is_bytes) => {
                direction.over = true;
            }
            _ => {}
        }
    }

    pub fn note_events(&mut self, world: &mut World) {
        while let Some((end, event)) = world.events.pop_front() {
            match event {
                Event::Fate { stream, number, fate } => {
                    let fates = &mut self.direction(end, stream).fates;
                    let known = fates.get_mut(&number).expect("nobody asked for the fate");
                    assert!(known.is_none(), "a message has two fates: {known:?}, {fate:?}");
                    *known = Some(fate);
                }
                Event::SendFinished { stream } => {
                    let direction = self.direction(end, stream);
                    assert!(direction.finished && !direction.acknowledged);
                    direction.acknowledged = true;
                }
                Event::SendStopped { stream, .. } => {
                    assert!(self.direction(end, stream).broken, "a stop that nobody asked for");
                }
                _ => {}
            }
        }
    }

    /// Whatever is reliable and was not given up has arrived.
    pub fn is_all_there(&self) -> bool {
        self.missing().is_none()
    }

    pub fn check_all_there(&self) {
        if let Some(id) = self.missing() {
            panic!("something of {id:?} never arrived: {:#?}", self.streams[&id]);
        }
    }

    fn missing(&self) -> Option<StreamId> {
        let is_missing = |stream: &Stream| {
            stream.directions.iter().any(|direction| {
                let all = direction.heard_all(stream.is_bytes);
                let ended = !direction.finished || (direction.over && direction.acknowledged);
                let told = direction.fates.values().all(|fate| fate.is_some());
                !direction.broken && direction.keeps_all && !(all && ended && told)
            })
        };
        self.streams.iter().find(|(_, stream)| is_missing(stream)).map(|(id, _)| *id)
    }

    /// Once the connection is over each message has its fate, and what was said to have arrived has.
    pub fn check_fates(&self) {
        for (id, stream) in &self.streams {
            for from in [CLIENT, SERVER] {
                let direction = &stream.directions[from];
                for (number, fate) in &direction.fates {
                    assert!(fate.is_some(), "message {number} of {id:?} has no fate");
                }
            }
        }
    }
}

impl Direction {
    fn heard_all(&self, is_bytes: bool) -> bool {
        if is_bytes {
            self.read == self.written
        } else {
            !self.keeps_all || self.heard.len() == self.messages.len()
        }
    }
}
