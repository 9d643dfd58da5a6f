//! The rate of a source that adapts, as an encoder does: by the advice of its connection.

use jsp_proto::Capacity;

use super::plan::MediaPlan;

/// An encoder changes its rate by steps: each frame goes this part of the way up; down at once.
const STEP_UP: f64 = 0.1;

/// The rate of a source under way, in bits per second.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct MediaRate(f64);

impl MediaRate {
    /// Bits per second of the frame that is made now.
    pub(super) fn next(&mut self, plan: &MediaPlan, capacity: &Capacity) -> u64 {
        let advised = capacity.media_rate as f64 * 8.0;
        self.0 = if advised > self.0 { self.0 + (advised - self.0) * STEP_UP } else { advised };
        self.0 = self.0.clamp(plan.floor_bps as f64, plan.ceiling_bps as f64);
        self.0 as u64
    }
}
