//! A repair that leaves in a packet which leaves anyway: that saves a header, a tag and a datagram.

use jsp_wire::{Instant, Writer};

use super::PathFec;
use crate::recovery::Recovery;

/// What a packet needs to take a repair along.
pub(crate) struct Rider<'a> {
    fec: &'a mut PathFec,
    recovery: &'a Recovery,
    /// The number of that packet.
    pn: u64,
    /// Bytes of the frame that was written.
    written: usize,
}

impl<'a> Rider<'a> {
    /// One for the packet `pn`, when a repair waits for it.
    pub(crate) fn new(
        fec: Option<&'a mut PathFec>,
        recovery: &'a Recovery,
        pn: u64,
    ) -> Option<Self> {
        let fec = fec.filter(|fec| fec.rides())?;
        Some(Self { fec, recovery, pn, written: 0 })
    }

    /// Writes it, if there is room and something to repair; answers whether that was so.
    pub(crate) fn write(&mut self, now: Instant, writer: &mut Writer<'_>) -> bool {
        let recovery = self.recovery;
        let written = self.fec.ride(now, self.pn, recovery.wants_repair(), writer);
        self.written = written.unwrap_or(0);
        self.written > 0
    }

    /// Bytes of the frame that was written; 0 when none was.
    pub(crate) fn written(&self) -> usize {
        self.written
    }
}
