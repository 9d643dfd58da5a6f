//! What bulk does while the path is on alarm: it waits, where real-time data use the path too. What stalls
//! delivers in a lump what was sent into it, and all that bulk adds stands before the next packet that is urgent.

use core::time::Duration;

use jsp_wire::Instant;

use crate::forecast::{AlarmCause, Forecast};
use crate::pack::packed;

/// Urgent data that left in this time are still being sent.
const BESIDE: Duration = Duration::from_secs(1);

/// When urgent data last asked for the path.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Hold {
    urgent_at: Option<Instant>,
}
packed!(Hold { urgent_at });

impl Hold {
    /// Urgent data wait to be sent.
    pub(crate) fn on_urgent(&mut self, now: Instant) {
        self.urgent_at = Some(now);
    }

    /// Urgent data use the path too.
    pub(crate) fn is_beside(self, now: Instant) -> bool {
        self.urgent_at.is_some_and(|at| now < at + BESIDE)
    }

    /// Until when bulk waits, if the alarm does not end before; `None` when it does not wait. Marks of the
    /// network are the business of congestion control.
    // spec: SEN-12
    pub(crate) fn until(self, now: Instant, forecast: &Forecast) -> Option<Instant> {
        let until = self.urgent_at? + BESIDE;
        let fails = forecast.speaking().is_some_and(|cause| cause != AlarmCause::CongestionMarks);
        (fails && now < until).then_some(until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forecast::{NetworkHint, Scene, Signals};
    use crate::path::owd::Owd;
    use crate::recovery::Rtt;

    fn at(ms: u64) -> Instant {
        Instant::from_nanos(ms * 1_000_000)
    }

    fn looked(forecast: &mut Forecast, ms: u64) -> &Forecast {
        let (owd, rtt) = (Owd::default(), Rtt::new(Duration::from_millis(60)));
        let ack_delay_max = Duration::from_millis(25);
        forecast.look(&Scene { now: at(ms), oldest: None, owd: &owd, rtt: &rtt, ack_delay_max });
        forecast
    }

    #[test]
    /// spec-test: SEN-12
    fn bulk_waits_for_a_path_that_fails_only_beside_urgent_data_and_while_a_signal_speaks() {
        let mut forecast = Forecast::new(Signals::ALL);
        let mut hold = Hold::default();
        hold.on_urgent(at(1000));
        assert_eq!(hold.until(at(1000), looked(&mut forecast, 1000)), None);
        assert!(hold.is_beside(at(1999)) && !hold.is_beside(at(2000)));
        forecast.on_hint(at(1000), NetworkHint::RadioChanged);
        let alarmed = looked(&mut forecast, 1000).clone();
        assert_eq!(hold.until(at(1001), &alarmed), Some(at(2000)));
        assert_eq!(hold.until(at(2000), &alarmed), None);
        assert_eq!(Hold::default().until(at(1001), &alarmed), None);
        // The alarm goes on, but nothing speaks any more.
        let over = looked(&mut forecast, 1501);
        assert_eq!((over.alarm().cause, over.speaking()), (Some(AlarmCause::Hint), None));
        assert_eq!(hold.until(at(1501), over), None);
        forecast.on_marks(at(1600), Duration::from_millis(60));
        let marked = looked(&mut forecast, 1601);
        assert_eq!(marked.speaking(), Some(AlarmCause::CongestionMarks));
        assert_eq!(hold.until(at(1601), marked), None);
    }
}
