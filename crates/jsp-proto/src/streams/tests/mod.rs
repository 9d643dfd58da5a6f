//! Two sides joined back to back: what is written is parsed again, lost, delayed and reordered by a
//! seeded generator.

mod credit;
mod delivery;
mod hostile;
mod lifecycle;
mod messages;
#[cfg(feature = "raptorq")]
mod objects;
mod overdue;
mod priority;
mod reassembly;
mod runs;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::atomic::{AtomicU64, Ordering};

use core::time::Duration;

use bytes::Bytes;
use jsp_wire::{Frame, Instant, Payload, Shape, StreamId, TransportParams};

use super::config::{Message, MessageFate, Received, StreamConfig, StreamLimits};
use super::{Side, StreamEvent, Streams};
use crate::error::{RecvError, SendError, TransportError};
use crate::packet::{Lane, PacketBuilder};
use crate::token::{Fate, Token};

/// SplitMix64: Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014.
pub(super) struct Rng(pub(super) u64);

impl Rng {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }

    pub(super) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

pub(super) fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// The bytes that message or stream `seed` consists of.
pub(super) fn pattern(seed: u64, len: usize) -> Bytes {
    let mut rng = Rng(seed);
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        bytes.extend_from_slice(&rng.next().to_le_bytes());
    }
    bytes.truncate(len);
    Bytes::from(bytes)
}

/// One packet as it was built.
#[derive(Clone, Debug)]
pub(super) struct Sent {
    pub(super) pn: u64,
    pub(super) shape: Shape,
    pub(super) payload: Bytes,
    pub(super) tokens: Vec<Token>,
}

/// Builds one packet of `room` bytes; `None` when there is nothing to put into it.
pub(super) fn build(streams: &mut Streams, now: Instant, room: usize) -> Option<Sent> {
    build_in(streams, now, room, true)
}

pub(super) fn build_in(
    streams: &mut Streams,
    now: Instant,
    room: usize,
    shapes: bool,
) -> Option<Sent> {
    build_by(room, shapes, |packet| streams.write(now, packet))
}

/// The same of a packet that takes this way.
pub(super) fn build_along(
    streams: &mut Streams,
    now: Instant,
    room: usize,
    lane: Lane,
) -> Option<Sent> {
    build_packet(room, true, lane, |packet| streams.write(now, packet))
}

/// The same of a packet that leaves only because urgent data wait.
pub(super) fn build_urgent(streams: &mut Streams, now: Instant, room: usize) -> Option<Sent> {
    build_by(room, true, |packet| streams.write_urgent_first(now, packet))
}

fn build_by(room: usize, shapes: bool, write: impl FnOnce(&mut PacketBuilder<'_>)) -> Option<Sent> {
    build_packet(room, shapes, Lane::default(), write)
}

fn build_packet(
    room: usize,
    shapes: bool,
    lane: Lane,
    write: impl FnOnce(&mut PacketBuilder<'_>),
) -> Option<Sent> {
    let mut buf = vec![0u8; room];
    let mut tokens = Vec::new();
    let mut packet = PacketBuilder::new(&mut buf, &mut tokens, shapes).by(lane);
    write(&mut packet);
    let built = packet.finish();
    buf.truncate(built.len);
    let pn = NEXT_PN.fetch_add(1, Ordering::Relaxed);
    (built.len > 0).then(|| Sent { pn, shape: built.shape, payload: Bytes::from(buf), tokens })
}

/// Packet numbers rise over all packets that a test builds.
static NEXT_PN: AtomicU64 = AtomicU64::new(0);

/// Takes every frame of a packet in.
pub(super) fn take(streams: &mut Streams, now: Instant, sent: &Sent) -> Result<(), TransportError> {
    for frame in Payload::read(sent.shape, &sent.payload)? {
        hand_on(streams, now, sent.pn, &frame?, &sent.payload)?;
    }
    streams.end_of_packet(now)
}

/// Takes in a packet of one frame.
pub(super) fn take_frame(
    streams: &mut Streams,
    now: Instant,
    pn: u64,
    frame: &Frame<'_>,
    payload: &Bytes,
) -> Result<(), TransportError> {
    hand_on(streams, now, pn, frame, payload)?;
    streams.end_of_packet(now)
}

fn hand_on(
    streams: &mut Streams,
    now: Instant,
    pn: u64,
    frame: &Frame<'_>,
    payload: &Bytes,
) -> Result<(), TransportError> {
    match frame {
        Frame::Bytes(f) => streams.on_bytes(now, f, payload.slice_ref(f.data)),
        Frame::Message(f) => streams.on_message(now, pn, f, payload.slice_ref(f.data)),
        Frame::Symbol(f) => streams.on_symbol(now, f),
        Frame::Open { stream, open } => streams.on_open(now, *stream, open),
        Frame::Finish(f) => streams.on_finish(now, f),
        Frame::ResetStream(f) => streams.on_reset(now, f),
        Frame::StopSending(f) => streams.on_stop(now, f),
        Frame::Skip(f) => streams.on_skip(now, f),
        Frame::MaxData(limit) => {
            streams.on_max_data(*limit);
            Ok(())
        }
        Frame::MaxStreamData(f) => streams.on_max_stream_data(now, f),
        Frame::MaxStreams(limit) => streams.on_max_streams(now, *limit),
        Frame::Consumed(f) => streams.on_consumed(now, f),
        _ => Ok(()),
    }
}

/// Tells the writer what became of a packet.
pub(super) fn settle(streams: &mut Streams, now: Instant, sent: &Sent, fate: Fate) {
    for token in &sent.tokens {
        match token {
            Token::Stream(token) => streams.on_fate(now, *token, fate),
            Token::Credit(token) => streams.on_credit_fate(*token, fate),
            other => panic!("not a token of streams: {other:?}"),
        }
    }
}

/// All events that wait.
pub(super) fn events(streams: &mut Streams) -> Vec<StreamEvent> {
    std::iter::from_fn(|| streams.poll_event()).collect()
}

#[derive(Debug)]
enum Happening {
    Arrives(Sent),
    Settles(Sent, Fate),
}

/// The two sides and the way between them.
pub(super) struct Pipe {
    pub(super) sides: [Streams; 2],
    pub(super) now: Instant,
    pub(super) rng: Rng,
    /// Percent of packets that vanish, whose acknowledgement vanishes, that are held up.
    pub(super) loss: u64,
    pub(super) ack_loss: u64,
    pub(super) late: u64,
    pub(super) room: usize,
    /// Packets that each side may have on the way.
    pub(super) in_flight_max: usize,
    /// Time between two packets of a side.
    pub(super) gap: Duration,
    in_flight: [usize; 2],
    free_at: [Instant; 2],
    ahead: BinaryHeap<Reverse<(Instant, u64, usize)>>,
    happenings: Vec<Option<(usize, Happening)>>,
    pub(super) packets: u64,
    pub(super) events: [Vec<StreamEvent>; 2],
}

/// Half a round trip.
pub(super) const ONE_WAY: Duration = Duration::from_millis(10);

impl Pipe {
    pub(super) fn new(seed: u64, loss: u64) -> Self {
        Self::with_limits(seed, loss, &StreamLimits::default())
    }

    pub(super) fn with_limits(seed: u64, loss: u64, limits: &StreamLimits) -> Self {
        let mut sides = [Streams::new(Side::Client, limits), Streams::new(Side::Server, limits)];
        let now = Instant::from_nanos(1_000_000_000);
        for at in 0..2 {
            let mut params = TransportParams::default();
            sides[1 - at].advertise(&mut params);
            sides[at].set_peer_params(now, &params);
            sides[at].on_rtt(ONE_WAY * 2);
        }
        Self {
            sides,
            now,
            rng: Rng(seed),
            loss,
            ack_loss: loss / 4,
            late: 5,
            room: 1200,
            in_flight_max: 200,
            gap: Duration::from_micros(50),
            in_flight: [0; 2],
            free_at: [now; 2],
            ahead: BinaryHeap::new(),
            happenings: Vec::new(),
            packets: 0,
            events: [Vec::new(), Vec::new()],
        }
    }

    pub(super) fn a(&mut self) -> &mut Streams {
        &mut self.sides[0]
    }

    pub(super) fn b(&mut self) -> &mut Streams {
        &mut self.sides[1]
    }

    fn later(&mut self, at: Instant, side: usize, what: Happening) {
        self.ahead.push(Reverse((at, self.happenings.len() as u64, self.happenings.len())));
        self.happenings.push(Some((side, what)));
    }

    fn transmit(&mut self) -> bool {
        let mut any = false;
        for side in 0..2 {
            while self.in_flight[side] < self.in_flight_max
                && self.free_at[side] <= self.now
                && self.sides[side].wants(self.now)
            {
                let Some(sent) = build(&mut self.sides[side], self.now, self.room) else { break };
                any = true;
                self.packets += 1;
                self.in_flight[side] += 1;
                self.free_at[side] = self.now.max(self.free_at[side]) + self.gap;
                let delay = if self.rng.chance(self.late) { ONE_WAY * 2 } else { ONE_WAY };
                let back = self.now + delay + ONE_WAY;
                if self.rng.chance(self.loss) {
                    self.later(back + ONE_WAY, side, Happening::Settles(sent, Fate::Lost));
                } else {
                    self.later(self.now + delay, 1 - side, Happening::Arrives(sent.clone()));
                    let fate =
                        if self.rng.chance(self.ack_loss) { Fate::Lost } else { Fate::Acked };
                    self.later(back, side, Happening::Settles(sent, fate));
                }
            }
        }
        any
    }

    /// Lets time go on to the next thing that happens; false when nothing will.
    pub(super) fn step(&mut self) -> bool {
        if self.transmit() {
            self.gather();
            return true;
        }
        let mut next = self.ahead.peek().map(|Reverse((at, ..))| *at);
        for side in 0..2 {
            let blocked = self.sides[side].wants(self.now)
                && self.in_flight[side] < self.in_flight_max
                && self.free_at[side] > self.now;
            let pace = blocked.then_some(self.free_at[side]);
            next = [next, pace, self.sides[side].poll_timeout()].into_iter().flatten().min();
        }
        let Some(next) = next else { return false };
        self.now = self.now.max(next);
        while let Some(Reverse((at, _, index))) = self.ahead.peek().copied() {
            if at > self.now {
                break;
            }
            self.ahead.pop();
            let Some((side, what)) = self.happenings[index].take() else { continue };
            match what {
                Happening::Arrives(sent) => {
                    take(&mut self.sides[side], self.now, &sent).unwrap();
                }
                Happening::Settles(sent, fate) => {
                    self.in_flight[side] -= 1;
                    settle(&mut self.sides[side], self.now, &sent, fate);
                }
            }
        }
        for streams in &mut self.sides {
            if streams.poll_timeout().is_some_and(|at| at <= self.now) {
                streams.handle_timeout(self.now);
            }
        }
        self.gather();
        true
    }

    fn gather(&mut self) {
        for side in 0..2 {
            let news = events(&mut self.sides[side]);
            self.events[side].extend(news);
        }
    }

    /// Runs until nothing happens any more.
    pub(super) fn run(&mut self) {
        self.run_with(|_| ());
    }

    /// Runs until nothing happens any more, calling `act` after each step.
    pub(super) fn run_with(&mut self, mut act: impl FnMut(&mut Self)) {
        for _ in 0..3_000_000u64 {
            if !self.step() {
                act(self);
                if !self.step() {
                    return;
                }
            }
            act(self);
        }
        panic!("the pipe never comes to rest");
    }

    pub(super) fn run_for(&mut self, time: Duration, mut act: impl FnMut(&mut Self)) {
        let end = self.now + time;
        while self.now < end && self.step() {
            act(self);
        }
        self.now = self.now.max(end);
    }

    /// Sends a message from the client, letting the pipe run while it must wait.
    pub(super) fn send(&mut self, stream: StreamId, message: Message) -> u64 {
        loop {
            match self.sides[0].send(self.now, stream, message.clone()) {
                Ok(number) => return number,
                Err(SendError::WouldBlock) => assert!(self.step(), "nothing lets the sender go on"),
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// What the server can read of a stream now.
    pub(super) fn received(&mut self, stream: StreamId) -> Vec<Received> {
        let now = self.now;
        std::iter::from_fn(|| self.sides[1].recv(now, stream).unwrap_or(None)).collect()
    }

    pub(super) fn fates(&self, side: usize) -> Vec<(u64, MessageFate)> {
        let fate = |event: &StreamEvent| match event {
            StreamEvent::Fate { number, fate, .. } => Some((*number, *fate)),
            _ => None,
        };
        self.events[side].iter().filter_map(fate).collect()
    }
}

/// Reads a byte stream as far as it goes; the bytes, and whether it ended.
pub(super) fn drain(streams: &mut Streams, now: Instant, id: StreamId, out: &mut Vec<u8>) -> bool {
    loop {
        match streams.read(now, id, 100_000) {
            Ok(Some(data)) => out.extend_from_slice(&data),
            Ok(None) => return false,
            Err(RecvError::Closed) => return true,
            Err(error) => panic!("{error}"),
        }
    }
}

/// Two sides that know each other, without a pipe.
pub(super) fn pair(limits: &StreamLimits) -> (Streams, Streams, Instant) {
    let pipe = Pipe::with_limits(1, 0, limits);
    let [a, b] = pipe.sides;
    (a, b, pipe.now)
}

pub(super) fn one_way(config: StreamConfig) -> StreamConfig {
    StreamConfig { unidirectional: true, ..config }
}
