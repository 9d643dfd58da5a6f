//! Links only when the compiler can show that no parser has a path to a panic, whatever the input.

use std::hint::black_box;
use std::io::Read;

use jsp_wire::frame::{RecoveredNumbers, Repair};
use jsp_wire::header::Protected;
use jsp_wire::{
    Frame, FrameIter, Header, Payload, Reader, Shape, TransportParams, pn, tlv, varint,
};
use no_panic::no_panic;

#[no_panic]
fn header(data: &[u8]) -> bool {
    Header::parse(data).is_ok()
}

#[no_panic]
fn frames(data: &[u8]) -> u64 {
    FrameIter::new(data).fold(0, |sum, frame| sum ^ u64::from(frame.is_ok()))
}

#[no_panic]
fn ack_ranges(data: &[u8]) -> u64 {
    match Frame::read(&mut Reader::new(data)) {
        Ok(Frame::Ack(ack)) => ack.ranges().fold(0, |sum, (low, high)| sum ^ low ^ high),
        _ => 0,
    }
}

#[no_panic]
fn payload(shape: Shape, data: &[u8]) -> u64 {
    match Payload::read(shape, data) {
        Ok(frames) => frames.fold(0, |sum, frame| sum ^ u64::from(frame.is_ok())),
        Err(_) => 0,
    }
}

#[no_panic]
fn params(data: &[u8]) -> bool {
    TransportParams::read(data).is_ok()
}

#[no_panic]
fn list(data: &[u8]) -> bool {
    tlv::check_unique(data).is_ok()
}

#[no_panic]
fn integer(data: &[u8]) -> u64 {
    varint::read(&mut Reader::new(data)).unwrap_or(0)
}

#[no_panic]
fn number(low: u32, len: usize, expected: u64) -> u64 {
    pn::expand(low, len, expected) ^ pn::len(expected, Some(u64::from(low))) as u64
}

#[no_panic]
fn sample(data: &[u8], offset: usize) -> bool {
    Protected::sample(data, offset).is_ok()
}

#[no_panic]
fn unmask(data: &mut [u8], offset: usize, mask: [u8; 5]) -> bool {
    Protected::unmask_short(data, offset, mask).is_ok()
        ^ Protected::unmask_long(data, offset, mask).is_ok()
}

#[no_panic]
fn repair(data: &[u8]) -> bool {
    Repair::read(data).is_ok() ^ RecoveredNumbers::read(data, 1 << 40).is_ok()
}

#[cfg(feature = "mutant")]
#[no_panic]
fn mutant(data: &[u8]) -> u8 {
    data[2]
}

/// Reads a packet from standard input, so that nothing is known of it when this is compiled.
fn main() -> std::io::Result<()> {
    let mut data = Vec::new();
    std::io::stdin().read_to_end(&mut data)?;
    let offset = data.len() / 2;
    black_box((header(&data), frames(&data), ack_ranges(&data), params(&data), list(&data)));
    for shape in [
        Shape::Frames,
        Shape::Message,
        Shape::Bytes,
        Shape::OneShot,
        Shape::Fragment,
        Shape::Repair,
        Shape::Ack,
    ] {
        black_box(payload(black_box(shape), &data));
    }
    black_box((integer(&data), number(offset as u32, offset, offset as u64), repair(&data)));
    black_box((sample(&data, offset), unmask(&mut data, offset, [offset as u8; 5])));
    #[cfg(feature = "mutant")]
    black_box(mutant(&data));
    Ok(())
}
