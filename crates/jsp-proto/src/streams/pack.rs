//! A piece of a message into what is left of a packet: whole or cut, as a frame or as a shape.

use jsp_wire::frame::{Attributes, Fragment, MessageFrame, MessageNumber};
use jsp_wire::{Full, Shape, Writer, varint};

use super::send_bytes::{Packed, Packing};

/// Shortest data that makes a shape of a message long enough to be sampled for header protection.
const SHAPE_DATA_MIN: usize = 1;

/// What is to be packed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Content<'a> {
    pub(super) number: u64,
    /// Place of the piece in its message.
    pub(super) offset: u32,
    /// Bytes of the whole message.
    pub(super) total: u32,
    pub(super) attributes: Attributes,
    /// The bytes of the piece.
    pub(super) data: &'a [u8],
    /// The end of the message is the end of the stream.
    pub(super) fins: bool,
    /// The low 8 bits tell the receiver the number.
    pub(super) in_reach: bool,
}

impl Content<'_> {
    fn is_whole(&self) -> bool {
        self.offset == 0 && self.data.len() == self.total as usize
    }

    /// True when `len` bytes of the piece end the stream.
    fn fin(&self, len: usize) -> bool {
        self.fins && self.offset as usize + len == self.total as usize
    }
}

/// Writes the piece, or its start; nothing when the room is not worth a frame.
// spec: STR-11
pub(super) fn pack(
    content: &Content<'_>,
    packing: &Packing<'_>,
    writer: &mut Writer<'_>,
) -> Option<Packed> {
    let mut frame = MessageFrame {
        stream: packing.stream,
        open: packing.open,
        number: MessageNumber::Full(content.number),
        fragment: None,
        attributes: content.attributes,
        fin: content.fin(content.data.len()),
        data: &[],
        to_end: true,
    };
    let room = writer.remaining();
    let wanted = content.data.len();
    let mut len = wanted;
    let head = head_len(&frame);
    let fits = head + wanted <= room
        || (packing.may_shape
            && frame.shape(content.in_reach).is_some()
            && shape_head_len(&frame) + wanted <= room);
    if !content.is_whole() || !fits {
        if content.is_whole() && packing.has_data && head + wanted <= packing.capacity {
            // The next packet holds it uncut.
            return None;
        }
        let (offset, total) = (content.offset.into(), content.total.into());
        frame.fragment = Some(Fragment { offset, total });
        len = wanted.min(room.checked_sub(head_len(&frame))?);
        if len == 0 || (len < wanted && len < super::FRAGMENT_MIN && packing.has_data) {
            return None;
        }
        frame.fin = content.fin(len);
    }
    match pack_shape(&frame, content, packing, writer) {
        None => pack_frame(frame, content, len, writer),
        packed => packed,
    }
}

fn pack_frame(
    mut frame: MessageFrame<'_>,
    content: &Content<'_>,
    mut len: usize,
    writer: &mut Writer<'_>,
) -> Option<Packed> {
    let (room, head) = (writer.remaining(), head_len(&frame));
    let mut padding = 0;
    if head + len < room {
        let over = (head + varint::len(len as u64) + len).saturating_sub(room);
        frame.to_end = over > 0 && frame.fragment.is_none();
        if frame.to_end {
            // The length does not fit: the frame ends the packet, with padding before it.
            padding = room - head - len;
        } else {
            len -= over;
            frame.fin = content.fin(len);
        }
    }
    let data = content.data.get(..len)?;
    let written = writer.whole(|writer| {
        writer.reserve(padding)?.fill(0);
        frame.write_head(writer, len)?;
        writer.bytes(data)?;
        Ok::<(), Full>(())
    });
    written.ok()?;
    Some(Packed { len, fin: frame.fin, shape: None })
}

/// Writes the piece as a shape when nothing else would go into the packet.
// spec: STR-12
fn pack_shape(
    frame: &MessageFrame<'_>,
    content: &Content<'_>,
    packing: &Packing<'_>,
    writer: &mut Writer<'_>,
) -> Option<Packed> {
    if !packing.may_shape {
        return None;
    }
    let shape = frame.shape(content.in_reach)?;
    let room = writer.remaining().checked_sub(shape_head_len(frame))?;
    let wanted = content.data.len();
    let fills = wanted + super::FRAGMENT_MIN > room;
    let is_cut = wanted > room;
    if !(fills || packing.alone) || wanted < SHAPE_DATA_MIN || (is_cut && shape != Shape::Fragment)
    {
        return None;
    }
    let data = content.data.get(..wanted.min(room))?;
    let written = writer.whole(|writer| {
        frame.write_shape_head(writer)?;
        writer.bytes(data)
    });
    written.ok()?;
    Some(Packed { len: data.len(), fin: frame.fin, shape: Some(shape) })
}

/// Bytes of a frame beside its data and the length of that.
pub(super) fn head_len(frame: &MessageFrame<'_>) -> usize {
    let number = match frame.number {
        MessageNumber::Full(number) => varint::len(number),
        MessageNumber::Low8(_) => 1,
    };
    let fragment =
        frame.fragment.map_or(0, |part| varint::len(part.offset) + varint::len(part.total));
    1 + varint::len(frame.stream.0)
        + frame.open.map_or(0, |open| open.len())
        + number
        + fragment
        + frame.attributes.len()
}

/// Bytes of a shape beside its data.
fn shape_head_len(frame: &MessageFrame<'_>) -> usize {
    let number = match (frame.open, frame.number, frame.fragment) {
        (Some(open), ..) => open.len(),
        (None, MessageNumber::Full(number), Some(part)) => {
            varint::len(number) + varint::len(part.offset) + varint::len(part.total)
        }
        (None, ..) => 1,
    };
    varint::len(frame.stream.0) + number
}
