//! Which kinds of evidence the forecaster listens to.

use super::AlarmCause;
use crate::pack::{Pack, Packer, Unpacker};

/// A set of signals.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct Signals(u8);

impl Pack for Signals {
    fn pack(&self, to: &mut Packer) {
        self.0.pack(to);
    }

    fn unpack(from: &mut Unpacker<'_>) -> Self {
        Self(u8::unpack(from))
    }
}

impl Signals {
    /// Each of them.
    pub const ALL: Self = Self(u8::MAX);

    /// The same set without the signal that alarms by this cause.
    pub const fn without(self, cause: AlarmCause) -> Self {
        Self(self.0 & !Self::bit(cause))
    }

    /// True when the set has the signal that alarms by this cause.
    pub const fn has(self, cause: AlarmCause) -> bool {
        self.0 & Self::bit(cause) != 0
    }

    const fn bit(cause: AlarmCause) -> u8 {
        1 << cause as u8
    }
}

impl Default for Signals {
    fn default() -> Self {
        Self::ALL
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_that_is_left_out_is_the_only_one() {
        let set = Signals::ALL.without(AlarmCause::CongestionMarks);
        assert!(!set.has(AlarmCause::CongestionMarks));
        assert!(set.has(AlarmCause::AckSilence) && set.has(AlarmCause::Hint));
        assert!(Signals::default().has(AlarmCause::CongestionMarks));
    }
}
