//! When messages that wait expire: one alarm for each stream, of which those that were set anew stay behind for a
//! while.

use core::time::Duration;
use std::cmp::Reverse;

use jsp_wire::Instant;

use super::Streams;
use super::table::Key;

/// Alarms fire at most this often.
const EXPIRY_GRAIN: Duration = Duration::from_millis(1);

/// Alarms that are never too many.
pub(super) const ALARMS_ALWAYS: usize = 16;

impl Streams {
    /// Sets the alarm of a stream, unless an earlier one is set.
    pub(super) fn arm(&mut self, key: Key, expiry: Instant) {
        let Some(stream) = self.table.get_mut(key) else { return };
        let grain = EXPIRY_GRAIN.as_nanos() as u64;
        let rounded = expiry.as_nanos().div_ceil(grain).saturating_mul(grain);
        let at = Instant::from_nanos(rounded).max(expiry);
        if at < stream.armed {
            stream.armed = at;
            self.expiries.push(Reverse((at, key)));
            if self.expiries.len() > self.expiries_max {
                self.forget_old_alarms();
            }
        }
    }

    /// Keeps one alarm for each stream that has one set. As many again may be set before it is done once more.
    fn forget_old_alarms(&mut self) {
        let mut alarms = std::mem::take(&mut self.expiries).into_vec();
        alarms.retain(|Reverse((at, key))| {
            self.table.get(*key).is_some_and(|stream| stream.armed == *at)
        });
        alarms.sort_unstable();
        alarms.dedup();
        self.expiries_max = alarms.len().saturating_mul(2).max(ALARMS_ALWAYS);
        self.expiries = alarms.into();
    }
}
