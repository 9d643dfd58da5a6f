//! How the window grows while packets do not wait.

use core::time::Duration;

use super::RealTime;

/// Growth in a round trip near the reference, as a share of the window, besides one packet.
const GAIN_MIN: f64 = 0.05;

/// The same behind a queue that marks ECT(1): what growth makes, marks take away.
const GAIN_SCALABLE: f64 = 0.02;

/// Growth above the reference, for each share of it that the window is above; and at most.
const GAIN_ABOVE: f64 = 0.5;
const GAIN_ABOVE_MAX: f64 = 0.5;

/// Growth in a round trip makes no more queue than this before it is seen.
const QUEUE_BEFORE_SEEN: Duration = Duration::from_millis(15);

/// Packets by which the window grows in a round trip beside others who fill the queue: with what
/// losses leave of it, about as much as CUBIC comes to.
const RIVALS_PACKETS: f64 = 3.0;

/// Without a reference the window doubles until packets wait for this part of the target.
const FIRST_QUEUE_DIVISOR: u32 = 2;

impl RealTime {
    // spec: CC-33
    pub(super) fn grow(&mut self, acked: u64, delay: Duration, target: Duration) {
        if !self.is_used() && self.window >= self.first_window() {
            return;
        }
        if self.reference.is_none() && delay > target / FIRST_QUEUE_DIVISOR {
            self.reference = Some(self.window);
        }
        let window = self.window.max(1) as f64;
        let packet = self.mtu as f64 / window;
        let room = 1.0 - delay.as_secs_f64() / target.as_secs_f64().max(1e-9);
        let gain = if self.rivals.present() {
            RIVALS_PACKETS * packet
        } else {
            (self.gain(window) + packet) * room.max(0.0)
        };
        let grown = (acked as f64 * gain.min(1.0)) as u64;
        self.window = self.window.saturating_add(grown);
    }

    /// Share of the window by which it grows in a round trip.
    // spec: CC-49
    fn gain(&self, window: f64) -> f64 {
        let Some(reference) = self.reference else { return 1.0 };
        let distance = window / reference.max(1) as f64 - 1.0;
        let least = if self.scalable.is_active() { GAIN_SCALABLE } else { GAIN_MIN };
        if distance < 0.0 {
            return (-distance).max(least);
        }
        let base = self.queue.base().unwrap_or_default().as_secs_f64().max(0.001);
        // `clamp` would bring the formatting of floats into every program, for its panic.
        let most = (QUEUE_BEFORE_SEEN.as_secs_f64() / base).max(least).min(GAIN_ABOVE_MAX);
        (distance * GAIN_ABOVE).max(least).min(most)
    }
}
