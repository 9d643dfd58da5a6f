//! Frames of every kind, made from bytes.

use jsp_wire::frame::{
    AckFrequency, Attributes, BytesFrame, Close, EcnCounts, Fragment, HandshakeFragment, Kind,
    MessageFrame, MessageNumber, NewConnectionId, PathAbandon, PathId, PathStatus, PathUse,
    ResetStream, Skip, StreamLimit, Symbol, write_ack,
};
use jsp_wire::stream::{Class, Delivery, Framing, Open, Profile};
use jsp_wire::{
    CloseCode, ConnectionId, Frame, Reader, StreamId, limits, route::Route, tlv, varint,
};

use super::encode;

/// Values drawn from bytes; zeros once they are used up.
pub(super) struct Source<'a> {
    pub(super) rest: &'a [u8],
}

impl<'a> Source<'a> {
    fn u8(&mut self) -> u8 {
        let (first, rest) = self.rest.split_first().unwrap_or((&0, &[]));
        self.rest = rest;
        *first
    }

    /// A varint of any length, whatever the first byte says.
    fn varint(&mut self) -> u64 {
        let len = [0, 1, 2, 4, 8][usize::from(self.u8() % 5)];
        (0..len).fold(0, |value, _| value << 8 | u64::from(self.u8())) & varint::MAX
    }

    fn bytes(&mut self, max: usize) -> &'a [u8] {
        let len = usize::from(self.u8()).min(max).min(self.rest.len());
        let (head, rest) = self.rest.split_at(len);
        self.rest = rest;
        head
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        core::array::from_fn(|_| self.u8())
    }

    fn stream(&mut self) -> StreamId {
        StreamId(self.varint())
    }

    fn profile(&mut self) -> Profile {
        let bits = self.u8();
        let messages = bits & 1 != 0;
        let delivery = [Delivery::Reliable, Delivery::Partial, Delivery::Unreliable];
        Profile {
            framing: if messages { Framing::Messages } else { Framing::Bytes },
            delivery: delivery[if messages { usize::from(bits >> 1 & 3) % 3 } else { 0 }],
            ordered: !messages || bits & 8 != 0,
            class: Class::ALL[usize::from(bits >> 4 & 3)],
            unidirectional: bits & 0x40 != 0,
        }
    }

    fn limit(&mut self) -> StreamLimit {
        StreamLimit { stream: self.stream(), value: self.varint() }
    }

    pub(super) fn route(&mut self) -> Route {
        let remote = (self.array::<16>(), u16::from_be_bytes(self.array())).into();
        match self.u8() % 4 {
            0 => Route::udp(remote),
            1 => Route::udp((self.array::<4>(), 1).into()),
            2 => Route::Relayed { via: remote, peer: self.varint() },
            _ => Route::Tunnel { id: self.varint() },
        }
    }

    fn ranges(&mut self) -> Vec<(u64, u64)> {
        let mut high = self.varint();
        let mut ranges = Vec::new();
        for _ in 0..self.u8() {
            let low = high.saturating_sub(self.varint());
            ranges.push((low, high));
            let Some(next) = low.checked_sub(2).and_then(|h| h.checked_sub(self.varint())) else {
                break;
            };
            high = next;
        }
        if ranges.is_empty() { vec![(high, high)] } else { ranges }
    }

    /// An opening with the list in `list`, which is valid by construction.
    fn list(&mut self) -> Vec<u8> {
        let count = u64::from(self.u8() % 4);
        encode(|w| (0..count).try_for_each(|n| tlv::write(w, 2 * n + 1, self.bytes(20))))
    }
}

/// Makes one frame of any kind.
pub(super) fn with_frame(source: &mut Source<'_>, check: impl FnOnce(&Frame<'_>)) {
    let list = source.list();
    let open = Open { profile: source.profile(), params: &list };
    match source.u8() % 29 {
        0 => check(&Frame::Padding(1 + usize::from(source.u8()))),
        1 => check(&Frame::Ping),
        2 => check(&handshake(source)),
        3 => check(&Frame::Close(Close {
            by_application: source.u8() & 1 != 0,
            code: CloseCode(source.varint()),
            reason: source.bytes(limits::CLOSE_REASON_LEN_MAX),
        })),
        4 => check(&Frame::MaxData(source.varint())),
        5 => check(&Frame::MaxStreamData(source.limit())),
        6 => check(&Frame::MaxStreams(source.varint() >> 1)),
        7 => {
            let stream = source.stream();
            let (floor, credit_below) = (source.varint(), source.varint());
            check(&Frame::Skip(Skip { stream, floor, credit_below }));
        }
        8..=11 => with_ack(source, check),
        12 => check(&Frame::Bytes(bytes_frame(source, open))),
        13..=15 => check(&Frame::Message(message(source, open))),
        16 => check(&Frame::ResetStream(ResetStream {
            stream: source.stream(),
            code: source.varint(),
            final_bytes: source.varint(),
        })),
        17 => check(&Frame::StopSending(source.limit())),
        18 => check(&Frame::DataBlocked(source.varint())),
        19 => check(&Frame::StreamDataBlocked(source.limit())),
        20 => check(&Frame::StreamsBlocked(source.varint() >> 1)),
        21 => check(&new_connection_id(source)),
        22 => check(&Frame::RetireConnectionId(source.varint())),
        23 => check(&Frame::PathChallenge(source.array())),
        24 => check(&Frame::PathResponse(source.array())),
        25 => check(&Frame::AckFrequency(AckFrequency {
            sequence: source.varint(),
            threshold: source.varint(),
            delay_max_us: source.varint(),
            reordering: source.varint(),
        })),
        26 => check(&Frame::Open { stream: source.stream(), open }),
        27 => check(&Frame::Finish(source.limit())),
        _ => check(&rare(source, &mut [0; limits::OBJECT_SYMBOL_LEN_MAX])),
    }
}

fn rare<'a: 'b, 'b>(source: &mut Source<'a>, room: &'b mut [u8]) -> Frame<'b> {
    match source.u8() % 10 {
        0 => Frame::ImmediateAck,
        1 => Frame::HandshakeDone,
        2 => Frame::Consumed(source.limit()),
        3 => Frame::Ticket(source.bytes(255)),
        4 => Frame::Exchange(source.bytes(255)),
        5 => Frame::Repair(source.bytes(255)),
        6 => Frame::AboutPath(path(source)),
        7 => Frame::PathAbandon(PathAbandon { path: path(source), code: source.varint() }),
        8 => {
            let (path, sequence) = (path(source), source.varint());
            let usage = [PathUse::Standby, PathUse::Down][usize::from(source.u8() & 1)];
            Frame::PathStatus(PathStatus { path, sequence, usage })
        }
        _ => symbol(source, room),
    }
}

fn path(source: &mut Source<'_>) -> PathId {
    PathId(u32::from_be_bytes(source.array()))
}

/// A symbol has many bytes: they follow from one.
fn symbol<'a>(source: &mut Source<'_>, room: &'a mut [u8]) -> Frame<'a> {
    let most = (limits::OBJECT_SYMBOL_LEN_MAX - limits::OBJECT_SYMBOL_LEN_MIN) / 8 + 1;
    let len = limits::OBJECT_SYMBOL_LEN_MIN + usize::from(source.u8()) % most * 8;
    let sources = limits::OBJECT_SYMBOLS_MIN
        + source.varint() % (limits::OBJECT_SYMBOLS_MAX - limits::OBJECT_SYMBOLS_MIN + 1);
    let filling = source.varint() % len as u64;
    let beyond = source.varint() % (sources + limits::OBJECT_SYMBOLS_BEYOND);
    let data = &mut room[..len];
    data.fill(source.u8());
    Frame::Symbol(Symbol {
        stream: source.stream(),
        number: source.varint(),
        total: sources * len as u64 - filling,
        id: (sources + beyond) as u32,
        data,
    })
}

fn handshake<'a>(source: &mut Source<'a>) -> Frame<'a> {
    let id = source.array();
    let given = source.bytes(255);
    let data = if given.is_empty() { &[7] } else { given };
    let room = limits::HANDSHAKE_MESSAGE_LEN_MAX - data.len();
    let offset = usize::from(u16::from_be_bytes(source.array())) % (room + 1);
    let more = usize::from(source.u8()).min(room - offset);
    let total = (offset + data.len() + more) as u16;
    Frame::Handshake(HandshakeFragment { id, offset: offset as u16, total, data })
}

fn new_connection_id(source: &mut Source<'_>) -> Frame<'static> {
    let sequence = source.varint();
    let len = 1 + usize::from(source.u8()) % limits::CONNECTION_ID_LEN_MAX;
    let bytes: [u8; limits::CONNECTION_ID_LEN_MAX] = source.array();
    Frame::NewConnectionId(NewConnectionId {
        sequence,
        retire_prior_to: source.varint().min(sequence),
        id: ConnectionId::new(&bytes[..len]).expect("at most 20 bytes"),
        reset_token: source.array(),
    })
}

/// An ACK exists only as bytes, so it is made by writing and reading.
fn with_ack(source: &mut Source<'_>, check: impl FnOnce(&Frame<'_>)) {
    let flags = source.u8();
    let counts = EcnCounts { ect0: source.varint(), ect1: source.varint(), ce: source.varint() };
    let ecn = (flags & 1 != 0).then_some(counts);
    let times = source.bytes(if flags & 2 != 0 { 255 } else { 0 });
    let recovered = source.bytes(if flags & 4 != 0 { 255 } else { 0 });
    let (delay, ranges) = (source.varint(), source.ranges());
    let bytes =
        encode(|w| write_ack(w, true, delay, ranges.iter().copied(), ecn, times, recovered));
    let Ok(Frame::Ack(ack)) = Frame::read(&mut Reader::new(&bytes)) else {
        panic!("an ACK that was written does not read");
    };
    assert!(ack.ranges().eq(ranges.into_iter().take(limits::ACK_RANGES_MAX)));
    assert_eq!((ack.delay_8us, ack.ecn), (delay, ecn));
    assert_eq!((ack.times, ack.recovered), (times, recovered));
    check(&Frame::Ack(ack));
}

fn bytes_frame<'a: 'b, 'b>(source: &mut Source<'a>, open: Open<'b>) -> BytesFrame<'b> {
    let (flags, stream, offset) = (source.u8(), source.stream(), source.varint());
    BytesFrame {
        stream,
        open: (flags & 1 != 0).then_some(open),
        offset: offset.min(varint::MAX - 255),
        fin: flags & 2 != 0,
        to_end: flags & 4 != 0,
        data: source.bytes(255),
    }
}

fn message<'a: 'b, 'b>(source: &mut Source<'a>, open: Open<'b>) -> MessageFrame<'b> {
    let (flags, stream, number) = (source.u8(), source.stream(), source.varint());
    let attributes = Attributes {
        text: flags & 1 != 0,
        kind: [Kind::Data, Kind::Metadata, Kind::Signalling][usize::from(flags >> 1 & 3) % 3],
        timestamp_ms: (flags & 8 != 0).then(|| source.varint()),
    };
    let (more, offset) = (source.u8(), source.varint().min(varint::MAX - 600));
    let data = source.bytes(255);
    let total = offset + data.len() as u64 + u64::from(more);
    let fragment = (more & 1 != 0 && !data.is_empty()).then_some(Fragment { offset, total });
    MessageFrame {
        stream,
        open: (flags & 16 != 0).then_some(open),
        number: MessageNumber::Full(number),
        fragment,
        attributes,
        fin: flags & 32 != 0,
        to_end: flags & 64 != 0,
        data,
    }
}
