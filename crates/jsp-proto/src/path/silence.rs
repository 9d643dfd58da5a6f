//! Whether a path has fallen silent, for whoever has another one at hand.

use core::time::Duration;

use jsp_wire::Instant;

use crate::pack::packed;

/// Acknowledgements that stay away for so long, or for two round trips where these are longer, are a silence: many lost
/// packets in a row, a scheduler's pause or a change of cell are over by then more often than not.
// spec: CAR-30
const SILENT_AFTER: Duration = Duration::from_millis(500);

/// What is known of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Silence {
    /// When the peer last acknowledged something.
    heard_at: Instant,
    /// This silence is told.
    told: bool,
}
packed!(Silence { heard_at, told });

impl Silence {
    pub(crate) fn new(now: Instant) -> Self {
        Self { heard_at: now, told: false }
    }

    /// The peer acknowledges something that was not acknowledged before.
    pub(crate) fn on_acked(&mut self, now: Instant) {
        *self = Self::new(now);
    }

    /// When it is to be told, if nothing is heard: `oldest` is when the oldest packet left that waits
    /// for its acknowledgement.
    pub(crate) fn due(&self, oldest: Option<Instant>, rtt: Duration) -> Option<Instant> {
        let since = oldest?.max(self.heard_at);
        let after = SILENT_AFTER.max(rtt.saturating_mul(2));
        (!self.told).then(|| since + after)
    }

    pub(crate) fn on_told(&mut self) {
        self.told = true;
    }

    pub(crate) fn is_told(&self) -> bool {
        self.told
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::from_nanos(ms * 1_000_000)
    }

    #[test]
    /// spec-test: CAR-30
    fn a_silence_counts_from_what_is_waited_for_and_is_told_once() {
        let ms = Duration::from_millis;
        let mut silence = Silence::new(at(100));
        assert_eq!(silence.due(None, ms(50)), None, "nothing is waited for");
        assert_eq!(silence.due(Some(at(40)), ms(50)), Some(at(600)));
        assert_eq!(silence.due(Some(at(5000)), ms(400)), Some(at(5800)));
        silence.on_told();
        assert_eq!(silence.due(Some(at(40)), ms(50)), None);
        assert!(silence.is_told());
        silence.on_acked(at(900));
        assert_eq!(silence.due(Some(at(800)), ms(50)), Some(at(1400)));
    }
}
