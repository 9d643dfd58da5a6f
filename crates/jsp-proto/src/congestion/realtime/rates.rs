//! How fast packets leave, and what media should make.

use super::super::{media_share, rate_of};
use super::RealTime;
use crate::pacer::Pace;
use crate::recovery::Rtt;

impl RealTime {
    /// How fast packets may leave.
    // spec: CC-10, CC-49
    pub(in crate::congestion) fn pace(&self, rtt: &Rtt) -> Pace {
        let rate = |gain, of| rate_of(self.window(), rtt.smoothed(), gain, of);
        if self.scalable.is_active() {
            return Pace::smooth(rate(21, 20));
        }
        Pace::media(if self.reference.is_none() { rate(2, 1) } else { rate(5, 4) })
    }

    /// Bytes a second that an encoder should aim at.
    // spec: CC-36, CC-49
    pub(in crate::congestion) fn media_rate(&self, rtt: &Rtt) -> u64 {
        let base = self.queue.base().unwrap_or(rtt.smoothed());
        let trip = base.saturating_add(self.queue.delay()).max(rtt.smoothed());
        let rate = rate_of(self.window.max(self.floor()), trip, 1, 1);
        let rate = rate.min(self.ceiling.unwrap_or(u64::MAX));
        // Beside others a frame waits in any case, and what is left free is theirs.
        if self.rivals.present() {
            rate
        } else if self.scalable.is_active() {
            // The window makes no queue, and packets leave but little faster than it says.
            rate / 10 * 9
        } else {
            media_share(rate)
        }
    }
}
