//! What the streams whose messages a packet holds ask for.

use core::time::Duration;

use jsp_wire::{Class, Instant};

use crate::streams::config::FecPolicy;

/// A message that goes once and has no lifetime should be repaired so long after it was sent at most: what a
/// playout buffer holds, and voice can bear beside the way itself.
pub(crate) const USE_WITHOUT_LIFETIME: Duration = Duration::from_millis(60);

/// How a packet is to be protected: as the most demanding of its messages asks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Protection {
    /// Repair in percent that was asked for.
    pub(crate) percent: u8,
    /// The network is to decide, beyond that.
    pub(crate) auto: bool,
    /// When the first of all messages in the packet is of no more use.
    pub(crate) expires: Instant,
    /// The shortest life of one of them.
    pub(crate) soonest: Instant,
    /// One of them is not sent again when it is lost.
    pub(crate) once: bool,
}

impl Protection {
    /// Of what never expires.
    pub(crate) const ENDLESS: Self = Self {
        percent: 0,
        auto: true,
        expires: Instant::FAR_FUTURE,
        soonest: Instant::FAR_FUTURE,
        once: false,
    };

    /// What one message asks for; nothing for most.
    // spec: FEC-9
    pub(crate) fn of(policy: FecPolicy, class: Class, expires: Instant) -> Option<Self> {
        if class != Class::RealTime {
            return None;
        }
        let (percent, auto) = match policy {
            FecPolicy::Auto | FecPolicy::Fountain(_) => (0, true),
            FecPolicy::Fixed(percent) if percent > 0 => (percent.min(100), false),
            FecPolicy::Fixed(_) | FecPolicy::Off => return None,
        };
        Some(Self { percent, auto, expires, soonest: expires, once: false })
    }

    /// The same for a message that is sent again when it is lost, or is not.
    pub(crate) fn going(self, once: bool) -> Self {
        Self { once, ..self }
    }

    /// What two messages in one packet ask for together.
    pub(crate) fn join(self, other: Self) -> Self {
        Self {
            percent: self.percent.max(other.percent),
            auto: self.auto || other.auto,
            expires: self.expires.min(other.expires),
            soonest: self.soonest.min(other.soonest),
            once: self.once || other.once,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    /// spec-test: FEC-9
    fn only_real_time_messages_are_protected_and_only_if_their_stream_allows() {
        let of = |policy, class| Protection::of(policy, class, Instant::FAR_FUTURE);
        assert_eq!(of(FecPolicy::Auto, Class::Interactive), None);
        assert_eq!(of(FecPolicy::Fixed(50), Class::Scavenger), None);
        assert_eq!(of(FecPolicy::Off, Class::RealTime), None);
        assert_eq!(of(FecPolicy::Fixed(0), Class::RealTime), None);
        let fixed = of(FecPolicy::Fixed(200), Class::RealTime).unwrap();
        assert_eq!((fixed.percent, fixed.auto), (100, false));
        let auto = of(FecPolicy::Auto, Class::RealTime).unwrap();
        let both = auto.join(fixed);
        assert_eq!((both.percent, both.auto), (100, true));
    }

    #[test]
    fn a_packet_is_worth_repair_until_its_first_message_expires() {
        let at = Instant::from_nanos;
        let one = Protection::of(FecPolicy::Auto, Class::RealTime, at(5)).unwrap();
        let other = Protection::of(FecPolicy::Auto, Class::RealTime, at(9)).unwrap();
        let both = one.join(other);
        assert_eq!((both.soonest, both.expires), (at(5), at(5)));
    }
}
