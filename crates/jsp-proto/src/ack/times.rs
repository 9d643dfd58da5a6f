//! When packets arrived, as far as the sender should hear of it.

use core::time::Duration;

use jsp_wire::frame::{RECEIVE_TIME_UNIT, write_receive_times};
use jsp_wire::{Instant, Writer};

/// Packets since the ACK before whose times are told one by one; of more, only the first and the
/// last say enough about how a train was stretched.
const BATCH_MAX: usize = 4;

/// Times are told at most this often: a queue that matters takes longer to build, and a thin stream
/// should not pay for them in every packet.
const INTERVAL: Duration = Duration::from_millis(20);

/// Room for a section: the stamp, and four pairs at their longest.
pub(super) const SECTION_LEN_MAX: usize = 2 + BATCH_MAX * (8 + 4);

/// Arrivals since the last ACK.
#[derive(Clone, Debug, Default)]
pub(super) struct ArrivalLog {
    /// The first ones, in the order of arrival.
    batch: [(u64, Instant); BATCH_MAX],
    count: usize,
    told_at: Option<Instant>,
}

impl ArrivalLog {
    /// An ack-eliciting packet arrived.
    pub(super) fn on_packet(&mut self, now: Instant, pn: u64) {
        if let Some(slot) = self.batch.get_mut(self.count) {
            *slot = (pn, now);
        }
        self.count = self.count.saturating_add(1);
    }

    /// The section for an ACK of which the largest number arrived at `largest.1`; answers its bytes,
    /// none when it is not time for one.
    // spec: ACK-14
    pub(super) fn section(
        &self,
        now: Instant,
        largest: (u64, Instant),
        room: &mut [u8; SECTION_LEN_MAX],
    ) -> usize {
        if self.told_at.is_some_and(|at| now.since(at) < INTERVAL) {
            return 0;
        }
        let mut others = self.batch;
        let count = if self.count > BATCH_MAX { 1 } else { self.count };
        let others = others.get_mut(..count).unwrap_or_default();
        others.sort_unstable_by_key(|(pn, _)| core::cmp::Reverse(*pn));
        let mut writer = Writer::new(room);
        let pairs = others.iter().map(|(pn, at)| (*pn, units(*at)));
        let written = write_receive_times(&mut writer, (largest.0, units(largest.1)), pairs);
        if written.is_ok() { writer.len() } else { 0 }
    }

    /// An ACK went out, with times or without.
    pub(super) fn on_written(&mut self, now: Instant, told: bool) {
        self.count = 0;
        if told {
            self.told_at = Some(now);
        }
    }
}

/// Units from the origin, which is that of all our instants.
fn units(at: Instant) -> u64 {
    at.as_nanos().checked_div(RECEIVE_TIME_UNIT.as_nanos() as u64).unwrap_or(0)
}
