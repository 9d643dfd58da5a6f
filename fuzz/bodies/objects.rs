//! What must hold of a receiver of symbols of large messages, whatever its peer says: bounded memory, and no message
//! that is not as long as was told.

use bytes::Bytes;
use jsp_proto::{BareStreams, Instant, Side, StreamId, TransportConfig};
use jsp_wire::frame::{Attributes, Fragment, MessageFrame, MessageNumber, Symbol};
use jsp_wire::stream::{Class, Delivery, Framing, Open, Profile};
use jsp_wire::{Frame, Shape, Writer, limits};

/// Packets of one input: two of the largest messages hold fewer.
const PACKETS_MAX: usize = 4500;
/// What may wait to be read, or to be put together: the credit of the stream, however much was read, in pieces and once
/// more in symbols, of which each of the four messages may have nine that its length does not say.
const BUFFERED_MAX: u64 = 2 * (1 << 20) + 4 * 9 * 1400;
/// Lengths of symbols, and how many of them the messages fill.
const SYMBOL_LENS: [usize; 4] = [256, 264, 1232, 1400];
const SOURCES: [u64; 4] = [100, 101, 400, 800];

/// The stream, as its sender opens it.
const STREAM: StreamId = StreamId(4);
const PROFILE: Profile = Profile {
    framing: Framing::Messages,
    delivery: Delivery::Partial,
    ordered: false,
    class: Class::Interactive,
    unidirectional: true,
};

/// A message: what it is told to be, and whether all that came of it was zero. Of such a message all symbols are zero
/// too, whatever their ids, so that symbols that fit are made without the code.
#[derive(Clone, Copy)]
struct Told {
    symbol_len: usize,
    total: u64,
    is_zero: bool,
}

/// The receiver, and its peer.
struct Play {
    streams: BareStreams,
    packets: usize,
    told: [Option<Told>; 4],
    delivered: usize,
}

/// The input is a list of steps: `kind 1 | message 1 | place 2 | count 1 | fill 1`. A step sends so many pieces (bit 0 of
/// the kind clear) or symbols one after another, from the first id again behind the last, full of this byte; with bit 1 they pretend to be of another length, with
/// bit 2 of another total. Answers how many messages were delivered.
pub fn symbols(mut input: &[u8]) -> usize {
    let now = Instant::from_nanos(1_000_000_000);
    let streams = BareStreams::new(now, Side::Server, &TransportConfig::default());
    let mut play = Play { streams, packets: 0, told: [None; 4], delivered: 0 };
    let open = Open { profile: PROFILE, params: &[] };
    play.take(now, &Frame::Open { stream: STREAM, open }).expect("a stream may be opened");
    while let Some((step, rest)) = input.split_first_chunk() {
        input = rest;
        if play.step(now, *step).is_none() {
            break;
        }
        play.read(now);
    }
    play.delivered
}

impl Play {
    /// `None` when the connection is over.
    fn step(&mut self, now: Instant, step: [u8; 6]) -> Option<()> {
        let [kind, message, high, low, count, fill] = step;
        let number = message & 3;
        let told = self.told[usize::from(number)].get_or_insert_with(|| {
            let symbol_len = SYMBOL_LENS[usize::from(message >> 2 & 3)];
            let total = SOURCES[usize::from(message >> 4 & 3)] * symbol_len as u64;
            Told { symbol_len, total: total - u64::from(message >> 6), is_zero: true }
        });
        told.is_zero &= fill == 0;
        let total = if kind & 4 != 0 { told.total + 1 } else { told.total };
        let len = if kind & 2 != 0 { told.symbol_len + 8 } else { told.symbol_len };
        let data = vec![fill; len];
        let first = u64::from(u16::from_be_bytes([high, low]));
        for place in first..first + u64::from(count) {
            let frame = if kind & 1 == 0 {
                piece(number, total, place, &data)
            } else {
                let sources = total.div_ceil(len as u64);
                let beyond = place % (sources + limits::OBJECT_SYMBOLS_BEYOND);
                let id = u32::try_from(sources + beyond).ok()?;
                let number = u64::from(number);
                Some(Frame::Symbol(Symbol { stream: STREAM, number, total, id, data: &data }))
            };
            self.take(now, &frame?)?;
        }
        Some(())
    }

    fn take(&mut self, now: Instant, frame: &Frame<'_>) -> Option<()> {
        self.packets += 1;
        let mut buffer = [0; 1500];
        let mut writer = Writer::new(&mut buffer);
        frame.write(&mut writer).ok().filter(|()| self.packets <= PACKETS_MAX)?;
        let payload = Bytes::copy_from_slice(writer.written());
        let taken = self.streams.take(now, self.packets as u64, Shape::Frames, &payload);
        taken.ok()?;
        assert!(self.streams.buffered() <= BUFFERED_MAX, "{}", self.streams.buffered());
        Some(())
    }

    fn read(&mut self, now: Instant) {
        while self.streams.accept().is_some() {}
        while let Ok(Some(message)) = self.streams.recv(now, STREAM) {
            let told = self.told[message.number as usize].expect("something came of it");
            // Whether it pretended at first to be longer by one.
            let len = message.payload.len() as u64;
            assert!(len == told.total || len == told.total + 1, "{len}");
            assert!(!told.is_zero || message.payload.iter().all(|byte| *byte == 0));
            self.delivered += 1;
        }
    }
}

/// The piece of a message at this place; none behind its end.
fn piece(number: u8, total: u64, place: u64, data: &[u8]) -> Option<Frame<'_>> {
    let offset = place * data.len() as u64;
    let len = total.checked_sub(offset).filter(|left| *left > 0)?.min(data.len() as u64);
    Some(Frame::Message(MessageFrame {
        stream: STREAM,
        open: Some(Open { profile: PROFILE, params: &[] }),
        number: MessageNumber::Full(u64::from(number)),
        fragment: Some(Fragment { offset, total }),
        attributes: Attributes::default(),
        fin: false,
        to_end: false,
        data: &data[..len as usize],
    }))
}
