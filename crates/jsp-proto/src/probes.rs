//! Packets owed because nothing was heard in time.

use crate::keys::SpaceId;
use crate::pack::packed;

/// How many probes each space owes.
#[derive(Default, Debug)]
pub(crate) struct Probes {
    initial: u8,
    handshake: u8,
    data: u8,
}
packed!(Probes { initial, handshake, data });

impl Probes {
    /// Owes `count` packets in this space.
    pub(crate) fn owe(&mut self, space: SpaceId, count: u8) {
        let slot = self.slot(space);
        *slot = (*slot).max(count);
    }

    pub(crate) fn owes(&self, space: SpaceId) -> bool {
        match space {
            SpaceId::Initial => self.initial > 0,
            SpaceId::Handshake => self.handshake > 0,
            SpaceId::Data => self.data > 0,
        }
    }

    pub(crate) fn any(&self) -> bool {
        SpaceId::ALL.into_iter().any(|space| self.owes(space))
    }

    /// One was sent.
    pub(crate) fn on_sent(&mut self, space: SpaceId) {
        let slot = self.slot(space);
        *slot = slot.saturating_sub(1);
    }

    /// The space is gone.
    pub(crate) fn forgive(&mut self, space: SpaceId) {
        *self.slot(space) = 0;
    }

    fn slot(&mut self, space: SpaceId) -> &mut u8 {
        match space {
            SpaceId::Initial => &mut self.initial,
            SpaceId::Handshake => &mut self.handshake,
            SpaceId::Data => &mut self.data,
        }
    }
}
