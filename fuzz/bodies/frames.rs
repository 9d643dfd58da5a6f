//! Frames of every kind, from values that are likely to mean something.

use arbitrary::{Result, Unstructured};
use jsp_wire::frame::{
    AckFrequency, Attributes, BytesFrame, Close, EcnCounts, Fragment, HandshakeFragment, Kind,
    MessageFrame, MessageNumber, NewConnectionId, ResetStream, Skip, StreamLimit, write_ack,
};
use jsp_wire::stream::{Class, Delivery, Framing, Open, Profile};
use jsp_wire::{CloseCode, ConnectionId, Frame, Shape, StreamId, Writer, varint};

/// Longest payload that is made.
const PAYLOAD_LEN_MAX: usize = 1100;

/// Who speaks, and how.
pub struct Speech<'n> {
    /// Numbers that mean something to the receiver: packet numbers, offsets, limits.
    pub near: &'n [u64],
    /// Packets that the receiver has sent.
    pub heard: u64,
    /// The server speaks.
    pub by_server: bool,
    /// Mostly what a peer may say, so that the connection lives to hear more.
    pub tame: bool,
}

/// A payload and its shape: mostly frames, at times exactly what a shape names.
pub fn payload(u: &mut Unstructured<'_>, s: &Speech<'_>) -> Result<(Shape, Vec<u8>)> {
    let mut buffer = vec![0; PAYLOAD_LEN_MAX];
    let mut writer = Writer::new(&mut buffer);
    let first = if s.tame { 2 } else { 0 };
    let shape = match u.int_in_range(first..=15u8)? {
        0 => shaped(u, s, &mut writer)?,
        1 => {
            // Not from frames at all.
            let _full = writer.bytes(tail(u, 255)?);
            Shape::Frames
        }
        _ => {
            for _ in 0..u.int_in_range(1..=6)? {
                write(u, s, &mut writer)?;
            }
            Shape::Frames
        }
    };
    let len = writer.len();
    buffer.truncate(len);
    Ok((shape, buffer))
}

/// What a shape other than frames holds.
fn shaped(u: &mut Unstructured<'_>, s: &Speech<'_>, writer: &mut Writer<'_>) -> Result<Shape> {
    let shapes =
        [Shape::Message, Shape::Bytes, Shape::OneShot, Shape::Fragment, Shape::Repair, Shape::Ack];
    let shape = *u.choose(&shapes)?;
    let list = [];
    let open = Open { profile: profile(u)?, params: &list };
    match shape {
        Shape::Repair => {
            let _full = writer.bytes(tail(u, 255)?);
        }
        Shape::Ack => {
            let ranges = ranges(u, s)?;
            let _full = write_ack(writer, false, 0, ranges.into_iter(), None, &[], &[]);
        }
        Shape::Bytes => {
            let frame = BytesFrame { open: None, ..bytes(u, s, open)? };
            let _full = frame.write_shape_head(writer).and_then(|()| writer.bytes(frame.data));
        }
        _ => {
            let frame = message(u, s, open)?;
            let _full = frame.write_shape_head(writer).and_then(|()| writer.bytes(frame.data));
        }
    }
    Ok(shape)
}

/// Some bytes of the input themselves.
fn tail<'a>(u: &mut Unstructured<'a>, max: usize) -> Result<&'a [u8]> {
    let len = u.int_in_range(0..=max)?.min(u.len());
    u.bytes(len)
}

/// A number: small, near one that means something, at a boundary, or anything.
fn number(u: &mut Unstructured<'_>, s: &Speech<'_>) -> Result<u64> {
    let last = if s.tame { 2 } else { 7 };
    let value = match u.int_in_range(0..=last)? {
        0..=2 => u64::from(u.int_in_range(0..=20u8)?),
        3 | 4 if !s.near.is_empty() => {
            let base = *u.choose(s.near)?;
            base.wrapping_add_signed(i64::from(u.int_in_range(-4..=4i8)?))
        }
        5 => u64::from(u.arbitrary::<u16>()?),
        6 => (1u64 << u.int_in_range(0..=62u32)?).wrapping_add_signed(u.int_in_range(-1..=1i64)?),
        _ => u.arbitrary()?,
    };
    Ok(value & varint::MAX)
}

fn small(u: &mut Unstructured<'_>) -> Result<u64> {
    Ok(u64::from(u.int_in_range(0..=12u8)?))
}

/// Mostly one of the few streams that exist.
fn stream(u: &mut Unstructured<'_>, s: &Speech<'_>) -> Result<StreamId> {
    let value = u.int_in_range(0..=31u8)?;
    if s.tame {
        return Ok(StreamId::new(u64::from(value % 4), s.by_server));
    }
    if value < 24 { Ok(StreamId(u64::from(value % 12))) } else { Ok(StreamId(number(u, s)?)) }
}

/// Whether a frame says how its stream opens: those of a tame speaker always do, and the same each time.
fn opening<'b>(
    u: &mut Unstructured<'_>,
    s: &Speech<'_>,
    id: StreamId,
    open: Open<'b>,
) -> Result<Option<Open<'b>>> {
    if !s.tame {
        return Ok(u.arbitrary::<bool>()?.then_some(open));
    }
    let profile = profile_of(id, open.profile.framing);
    Ok(Some(Open { profile, params: &[] }))
}

/// How a tame speaker opens a stream: the lower half are bytes, the upper half messages.
fn profile_of(id: StreamId, framing: Framing) -> Profile {
    let index = id.index();
    let delivery = [Delivery::Reliable, Delivery::Partial, Delivery::Unreliable];
    let is_bytes = framing == Framing::Bytes;
    Profile {
        framing,
        delivery: if is_bytes { Delivery::Reliable } else { delivery[index as usize % 3] },
        ordered: is_bytes || index & 1 == 0,
        class: Class::ALL[index as usize % 4],
        unidirectional: index & 2 != 0,
    }
}

pub fn profile(u: &mut Unstructured<'_>) -> Result<Profile> {
    let bits: u8 = u.arbitrary()?;
    let messages = bits & 1 != 0;
    let delivery = [Delivery::Reliable, Delivery::Partial, Delivery::Unreliable];
    Ok(Profile {
        framing: if messages { Framing::Messages } else { Framing::Bytes },
        delivery: delivery[if messages { usize::from(bits >> 1 & 3) % 3 } else { 0 }],
        ordered: !messages || bits & 8 != 0,
        class: Class::ALL[usize::from(bits >> 4 & 3)],
        unidirectional: bits & 0x40 != 0,
    })
}

fn limit(u: &mut Unstructured<'_>, s: &Speech<'_>) -> Result<StreamLimit> {
    Ok(StreamLimit { stream: stream(u, s)?, value: number(u, s)? })
}

fn ranges(u: &mut Unstructured<'_>, s: &Speech<'_>) -> Result<Vec<(u64, u64)>> {
    let mut high = if s.tame { s.heard.saturating_sub(small(u)? + 2) } else { number(u, s)? };
    let mut ranges = Vec::new();
    for _ in 0..u.int_in_range(1..=8)? {
        let low = high.saturating_sub(small(u)?);
        ranges.push((low, high));
        let gap = small(u)?;
        let Some(next) = low.checked_sub(2).and_then(|high| high.checked_sub(gap)) else { break };
        high = next;
    }
    Ok(ranges)
}

fn bytes<'a: 'b, 'b>(
    u: &mut Unstructured<'a>,
    s: &Speech<'_>,
    open: Open<'b>,
) -> Result<BytesFrame<'b>> {
    let flags: u8 = u.arbitrary()?;
    let mut stream = stream(u, s)?;
    if s.tame {
        stream.0 |= 8;
    }
    let open = Open { profile: Profile { framing: Framing::Bytes, ..open.profile }, ..open };
    Ok(BytesFrame {
        stream,
        open: opening(u, s, stream, open)?,
        offset: number(u, s)?.min(varint::MAX - 255),
        fin: flags & if s.tame { 62 } else { 14 } == 0,
        to_end: !s.tame && flags & 0x80 != 0,
        data: tail(u, 255)?,
    })
}

fn message<'a: 'b, 'b>(
    u: &mut Unstructured<'a>,
    s: &Speech<'_>,
    open: Open<'b>,
) -> Result<MessageFrame<'b>> {
    let flags: u8 = u.arbitrary()?;
    let (mut stream, number_full) = (stream(u, s)?, number(u, s)?);
    if s.tame {
        stream.0 |= 16;
    }
    let open = Open { profile: Profile { framing: Framing::Messages, ..open.profile }, ..open };
    let attributes = Attributes {
        text: flags & 1 != 0,
        kind: [Kind::Data, Kind::Metadata, Kind::Signalling][usize::from(flags >> 1 & 3) % 3],
        timestamp_ms: if flags & 8 != 0 { Some(number(u, s)?) } else { None },
    };
    let data = tail(u, 255)?;
    let fragment = fragment(u, s, data)?;
    Ok(MessageFrame {
        stream,
        open: opening(u, s, stream, open)?,
        number: MessageNumber::Full(number_full),
        fragment,
        attributes,
        fin: flags & if s.tame { 0x7f } else { 0x60 } == 0,
        to_end: !s.tame && flags & 0x80 != 0,
        data,
    })
}

/// Which part of a message the data are. A tame speaker's messages are all of the same length.
fn fragment(u: &mut Unstructured<'_>, s: &Speech<'_>, data: &[u8]) -> Result<Option<Fragment>> {
    let len = data.len() as u64;
    if s.tame {
        let offset = (u64::from(u.arbitrary::<u8>()?) * 2).min(600 - len);
        return Ok((len > 0).then_some(Fragment { offset, total: 600 }));
    }
    let offset = number(u, s)?.min(varint::MAX - 600);
    let more = u64::from(u.arbitrary::<u8>()?);
    let is_part = more & 1 != 0 && len > 0;
    Ok(is_part.then_some(Fragment { offset, total: offset + len + more }))
}

/// Writes one frame of any kind; nothing when there is no room for it.
fn write(u: &mut Unstructured<'_>, s: &Speech<'_>, writer: &mut Writer<'_>) -> Result<()> {
    let list = [1, 1, 32];
    let params = if u.ratio(1u8, 4)? { &list[..] } else { &[] };
    let open = Open { profile: profile(u)?, params };
    let frame = match u.int_in_range(0..=34u8)? {
        16..=20 | 22 | 24 | 26 if s.tame => return Ok(()),
        0 => Frame::Padding(u.int_in_range(1..=40)?),
        1 => Frame::Ping,
        2..=5 => return write_some_ack(u, s, writer),
        6..=10 => Frame::Bytes(bytes(u, s, open)?),
        11..=15 => Frame::Message(message(u, s, open)?),
        16 => Frame::Open { stream: stream(u, s)?, open },
        17 => Frame::Finish(limit(u, s)?),
        18 => Frame::ResetStream(ResetStream {
            stream: stream(u, s)?,
            code: number(u, s)?,
            final_bytes: number(u, s)?,
        }),
        19 => Frame::StopSending(limit(u, s)?),
        20 => Frame::Skip(Skip {
            stream: stream(u, s)?,
            floor: number(u, s)?,
            credit_below: number(u, s)?,
        }),
        21 => Frame::MaxData(number(u, s)?),
        22 => Frame::MaxStreamData(limit(u, s)?),
        23 => Frame::MaxStreams(number(u, s)? >> 1),
        24 => Frame::Consumed(limit(u, s)?),
        25 => Frame::DataBlocked(number(u, s)?),
        26 => Frame::StreamDataBlocked(limit(u, s)?),
        _ => connection_control(u, s)?,
    };
    let _full = frame.write(writer);
    Ok(())
}

fn connection_control<'a>(u: &mut Unstructured<'a>, s: &Speech<'_>) -> Result<Frame<'a>> {
    Ok(match u.int_in_range(if s.tame { 2..=5 } else { 0..=13u8 })? {
        0 => {
            let sequence = number(u, s)?;
            let len = u.int_in_range(1..=20usize)?;
            let id: [u8; 20] = u.arbitrary()?;
            Frame::NewConnectionId(NewConnectionId {
                sequence,
                retire_prior_to: number(u, s)?.min(sequence),
                id: ConnectionId::new(&id[..len]).expect("at most 20 bytes"),
                reset_token: u.arbitrary()?,
            })
        }
        1 => Frame::RetireConnectionId(number(u, s)?),
        2 => Frame::PathChallenge(u.arbitrary()?),
        3 => Frame::PathResponse(u.arbitrary()?),
        4 => Frame::AckFrequency(AckFrequency {
            sequence: number(u, s)?,
            threshold: number(u, s)?,
            delay_max_us: number(u, s)?,
            reordering: number(u, s)?,
        }),
        5 => Frame::ImmediateAck,
        6 => Frame::HandshakeDone,
        7 => Frame::Ticket(tail(u, 200)?),
        8 => Frame::Exchange(tail(u, 200)?),
        9 | 10 => Frame::Repair(tail(u, 200)?),
        11 => Frame::StreamsBlocked(number(u, s)? >> 1),
        12 => Frame::Close(Close {
            by_application: u.arbitrary()?,
            code: CloseCode(number(u, s)?),
            reason: tail(u, 100)?,
        }),
        _ => {
            let data = tail(u, 200)?;
            let data = if data.is_empty() { &[7] } else { data };
            let offset = u.int_in_range(0..=2000u16)?;
            let total = offset + data.len() as u16 + u.int_in_range(0..=100)?;
            Frame::Handshake(HandshakeFragment { id: u.arbitrary()?, offset, total, data })
        }
    })
}

fn write_some_ack(u: &mut Unstructured<'_>, s: &Speech<'_>, writer: &mut Writer<'_>) -> Result<()> {
    let flags: u8 = u.arbitrary()?;
    let counts = EcnCounts { ect0: number(u, s)?, ect1: number(u, s)?, ce: number(u, s)? };
    let ecn = (flags & 1 != 0).then_some(counts);
    let times = if !s.tame && flags & 6 == 6 { tail(u, 40)? } else { &[] };
    let recovered = if !s.tame && flags & 24 == 24 { tail(u, 40)? } else { &[] };
    let (delay, ranges) = (number(u, s)?, ranges(u, s)?);
    let _full = write_ack(writer, true, delay, ranges.into_iter(), ecn, times, recovered);
    Ok(())
}
