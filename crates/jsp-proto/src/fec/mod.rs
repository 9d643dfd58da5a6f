//! Forward error correction of one path (doors 7 and 9 out and 4 in): repair symbols over what packets hold.
//!
//! | file | concept |
//! |------|---------|
//! | `gf256` | the field, and sums of multiples of symbols |
//! | `symbol` | what a packet held, in the form that is added up |
//! | `encoder` | packets under way, and repairs made of them |
//! | `decoder` | packets as they arrived, and equations about the others |
//! | `marks` | what ACKs say of recovered packets |
//! | `protection` | what the streams in a packet ask for |
//! | `rider` | a repair in a packet that leaves anyway |
//! | `history` | how the path loses packets |
//! | `controller` | how much repair pays |
//! | `bare` | both halves without a connection |
//!
//! The normative text is `docs/spec/08-fec.md`; code cites its sentences as `spec: FEC-n`.

mod bare;
pub(crate) mod controller;
mod decoder;
mod encoder;
mod gf256;
mod history;
mod marks;
mod protection;
mod rider;
mod symbol;
#[cfg(test)]
mod tests;

use core::time::Duration;

use jsp_wire::frame::{Repair, protected_part};
use jsp_wire::{DecodeError, Instant, Shape, Writer, limits};

use self::controller::{Controller, Network};
use self::decoder::Decoder;
use self::encoder::Encoder;
use self::history::History;

pub use self::bare::BareFec;
pub(crate) use self::decoder::Recovered;
pub(crate) use self::marks::RecoveredMarks;
pub(crate) use self::protection::Protection;
pub(crate) use self::rider::Rider;

/// Longest contents of the size classes, in bytes: in one window none is much longer than others, so that
/// a repair costs what a packet costs.
const CLASS_LEN_MAX: [usize; CLASSES] = [280, 640, limits::PROTECTED_LEN_MAX];
const CLASSES: usize = 3;

/// The size class of a content of `len` bytes; none for one that is too long to be protected.
fn class_of(len: usize) -> Option<usize> {
    CLASS_LEN_MAX.iter().position(|max| len <= *max)
}

/// A receiver that has seen no repair for this many packets stops to keep packets.
const QUIET_PACKETS_MAX: u32 = 4096;

/// What forward error correction knows of a path; made when a packet asks for protection or a repair
/// arrives.
#[derive(Debug)]
pub(crate) struct PathFec {
    controller: Controller,
    history: History,
    /// Present while packets are protected.
    encoder: Option<Encoder>,
    /// Present from the first repair on.
    decoder: Option<Decoder>,
    /// Packets since the last repair.
    quiet: u32,
    /// The packet that held it.
    repaired_by: Option<u64>,
}

impl PathFec {
    /// Nothing protected, nothing kept.
    pub(crate) fn new() -> Self {
        Self {
            controller: Controller::new(),
            history: History::new(),
            encoder: None,
            decoder: None,
            quiet: 0,
            repaired_by: None,
        }
    }

    /// Longest packet that can be protected; see [`Encoder::source_len_max`].
    pub(crate) fn source_len_max(mtu: usize) -> usize {
        Encoder::source_len_max(mtu)
    }

    /// Door 7: a packet of `len` bytes leaves that asks for protection, in a datagram that may have `mtu`
    /// bytes. Its number, shape and content are kept if it is protected and not too long.
    // spec: FEC-9, FEC-12
    pub(crate) fn on_sent(
        &mut self,
        now: Instant,
        source: (u64, Shape, &[u8]),
        protection: &Protection,
        (len, mtu): (usize, usize),
    ) {
        self.history.on_sent(now, protection);
        let auto = if protection.auto { self.controller.percent() } else { 0 };
        let percent = u32::from(auto.max(protection.percent));
        if percent == 0 {
            if !self.history.has_fixed(now) {
                self.encoder = None;
            }
            return;
        }
        let encoder = self.encoder.get_or_insert_with(Encoder::new);
        if len <= Encoder::source_len_max(mtu) {
            let (_, _, content) = source;
            let room = mtu.saturating_sub(len.saturating_sub(content.len()));
            encoder.keep(now, source, (percent, room), protection);
        }
    }

    /// True while packets are protected: they leave room for what a repair adds.
    pub(crate) fn is_protecting(&self) -> bool {
        self.encoder.is_some()
    }

    /// A probe is to leave; see [`Encoder::on_probe`].
    pub(crate) fn on_probe(&mut self, now: Instant) {
        if let Some(encoder) = &mut self.encoder {
            encoder.on_probe(now);
        }
    }

    /// When the next repair should leave by itself.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.encoder.as_ref()?.due()
    }

    /// Writes the repair that is due; see [`Encoder::write`].
    pub(crate) fn write(
        &mut self,
        now: Instant,
        pn: u64,
        is_wanted: impl Fn(u64, bool) -> bool,
        writer: &mut Writer<'_>,
    ) -> bool {
        let encoder = self.encoder.as_mut();
        encoder.is_some_and(|encoder| encoder.write(now, pn, is_wanted, writer))
    }

    /// True when a repair would leave with the next packet.
    pub(crate) fn rides(&self) -> bool {
        self.encoder.as_ref().is_some_and(|encoder| encoder.rides())
    }

    /// Adds a repair to a packet that leaves anyway; see [`Encoder::ride`].
    pub(crate) fn ride(
        &mut self,
        now: Instant,
        pn: u64,
        is_wanted: impl Fn(u64, bool) -> bool,
        writer: &mut Writer<'_>,
    ) -> Option<usize> {
        self.encoder.as_mut()?.ride(now, pn, is_wanted, writer)
    }

    /// Door 4: an authentic packet has come, with this payload.
    pub(crate) fn keep(&mut self, pn: u64, shape: Shape, payload: &[u8]) {
        self.quiet = self.quiet.saturating_add(1);
        if self.quiet > QUIET_PACKETS_MAX {
            self.decoder = None;
        }
        let Some(decoder) = &mut self.decoder else { return };
        let content = match shape {
            Shape::Frames => protected_part(payload).unwrap_or_default(),
            _ => payload,
        };
        decoder.keep(pn, shape, content);
    }

    /// A packet held a repair. The first one only says that packets are to be kept. A packet holds one at
    /// most: what a packet costs stays bounded.
    // spec: FEC-18
    pub(crate) fn on_repair(&mut self, pn: u64, content: &[u8]) -> Result<(), DecodeError> {
        let repair = Repair::read(content)?;
        if self.repaired_by.replace(pn) == Some(pn) {
            return Err(DecodeError::Invalid);
        }
        self.quiet = 0;
        match &mut self.decoder {
            Some(decoder) => decoder.on_repair(pn, &repair),
            None => self.decoder = Some(Decoder::new(pn.saturating_add(1))),
        }
        Ok(())
    }

    /// The next packet that was put together again.
    pub(crate) fn recovered(&mut self) -> Option<Recovered> {
        self.decoder.as_mut()?.pop()
    }

    /// Bursts of losses that have ended, each with the packets that arrived before it.
    pub(crate) fn on_runs(&mut self, now: Instant, runs: impl Iterator<Item = LossRun>) {
        for run in runs {
            self.history.on_run(now, run);
        }
    }

    /// Looks at the path again, if it is time for that.
    // spec: FEC-12
    pub(crate) fn adapt(&mut self, now: Instant, network: &Network, is_alarmed: bool) {
        self.controller.adapt(now, &mut self.history, network, is_alarmed);
        if self.controller.percent() == 0 && !self.history.has_fixed(now) {
            self.encoder = None;
        }
    }
}

/// Packets lost in a row, and what came before them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct LossRun {
    /// Packets that arrived since the run before.
    pub(crate) arrived: u32,
    /// Packets lost in a row; 0 for a stretch without loss.
    pub(crate) lost: u32,
    /// How long the latest round trip was above the shortest when the run was found.
    pub(crate) queued: Duration,
}
