//! Encoder and decoder without a connection around them.

use jsp_wire::frame::Repair;
use jsp_wire::{Instant, Shape, Writer, limits};

use super::Protection;
use super::decoder::Decoder;
use super::encoder::Encoder;

/// Both halves of forward error correction by themselves: for the fuzzer and for measurements. No part
/// of the interface of this crate.
#[doc(hidden)]
#[derive(Debug)]
pub struct BareFec {
    encoder: Encoder,
    decoder: Decoder,
}

impl BareFec {
    /// A receiver that keeps packets from number 0 on.
    #[allow(clippy::new_without_default, reason = "there is nothing default about it")]
    pub fn new() -> Self {
        Self { encoder: Encoder::new(), decoder: Decoder::new(0) }
    }

    /// A packet leaves; it earns a repair that leaves by itself.
    pub fn send(&mut self, pn: u64, packet: &[u8]) {
        let source = (pn, Shape::Frames, packet);
        self.encoder.keep(Instant::ZERO, source, (100, 0), &Protection::ENDLESS);
    }

    /// The content of a repair in the packet `pn`, if one was earned; `room` is as long as a packet.
    pub fn repair<'a>(&mut self, pn: u64, room: &'a mut [u8]) -> Option<&'a [u8]> {
        let now = Instant::from_nanos(1_000_000_000);
        let mut writer = Writer::new(room);
        let len = self.encoder.write(now, pn, |_, _| true, &mut writer).then_some(writer.len())?;
        room.get(..len)
    }

    /// A packet arrives.
    pub fn arrive(&mut self, pn: u64, packet: &[u8]) {
        self.decoder.keep(pn, Shape::Frames, packet);
    }

    /// The packet `pn` arrives, and holds this repair. Answers whether it can be read.
    pub fn arrive_repair(&mut self, pn: u64, content: &[u8]) -> bool {
        let repair = Repair::read(content);
        if let Ok(repair) = &repair {
            self.decoder.on_repair(pn.min(limits::PN_MAX), repair);
        }
        repair.is_ok()
    }

    /// A packet that was put together: its number and its bytes.
    pub fn recovered(&mut self) -> Option<(u64, Vec<u8>)> {
        self.decoder.pop().map(|recovered| (recovered.pn, recovered.content))
    }

    /// Bytes of packets and repairs that the receiver keeps.
    pub fn kept(&self) -> usize {
        self.decoder.kept()
    }
}
