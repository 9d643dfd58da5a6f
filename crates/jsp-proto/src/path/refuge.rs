//! The address that a path has left when its peer seemed to be elsewhere: should that other one fall silent, or never
//! have been the peer's, the path goes back.

use jsp_wire::Route;

use crate::path::Path;

/// Probe time-outs in a row, after which the address before is asked: with the back-off, three times the first.
const SILENT_PTOS: u32 = 2;

/// An address at which the peer has answered before.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Refuge {
    pub(crate) route: Route,
    /// The path goes back whenever the peer answers there, not only when it is silent where the path leads now.
    pub(crate) is_home: bool,
    /// The path has left its home because it was led away.
    was_led: bool,
    /// It was asked in vain.
    is_deserted: bool,
}

impl Path {
    /// The path has left `before`, which it keeps in mind. `was_led` says that it was led away by what anybody on
    /// the way could have done. Between carriers and datagrams others decide.
    // spec: CON-82, CON-83
    pub(crate) fn leave(&mut self, before: Route, was_led: bool) {
        let here = self.route;
        let kept = self.refuge.take();
        let was_here = |refuge: &Refuge| refuge.route.same_peer(&here);
        let is_between = matches!((before, here), (Route::Udp { .. }, Route::Udp { .. }));
        if !is_between || before.same_peer(&here) {
            self.refuge = kept.filter(|refuge| !was_here(refuge));
            return;
        }
        let (is_home, was_led) = match &kept {
            Some(refuge) if was_here(refuge) => (!refuge.is_home, refuge.was_led),
            // Who leads the path astray twice must not have it forget where it was at home.
            Some(refuge) if refuge.is_home && !refuge.is_deserted => {
                self.refuge = kept;
                return;
            }
            _ => (was_led, was_led),
        };
        self.refuge =
            Some(Box::new(Refuge { route: before, is_home, was_led, is_deserted: false }));
    }

    /// True of the address on trial, and of the one to go back to.
    pub(crate) fn may_go_to(&self, route: &Route) -> bool {
        let is_tried = self.candidate.as_ref().is_some_and(|c| c.route.same_ends(route));
        is_tried || self.refuge.as_ref().is_some_and(|refuge| refuge.route.same_ends(route))
    }

    /// Nobody has answered by this route.
    pub(crate) fn found_nobody(&mut self, route: &Route) {
        if let Some(refuge) = self.refuge.as_mut().filter(|refuge| refuge.route.same_peer(route)) {
            refuge.is_deserted = true;
        }
    }

    /// True of a path that was led away while the peer was at home: it does not leave again because of a word.
    pub(crate) fn is_wary(&self) -> bool {
        self.refuge.as_ref().is_some_and(|refuge| refuge.was_led && !refuge.is_home)
    }

    /// True while nothing that was sent for a while is acknowledged.
    pub(crate) fn is_silent(&self) -> bool {
        self.numbers.recovery.pto_count() >= SILENT_PTOS
    }

    /// The address to go back to, when there is time to ask there.
    pub(crate) fn refuge_to_ask(&self) -> Option<&Refuge> {
        let may_ask = self.is_validated && self.candidate.is_none() && !self.route.is_reliable();
        self.refuge.as_deref().filter(|_| may_ask)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::TransportConfig;
    use crate::path::Budget;

    fn udp(n: u8) -> Route {
        Route::udp(([192, 0, 2, n], 1).into())
    }

    /// A path that has gone to these addresses, each time led there or not.
    fn led(moves: &[(Route, bool)]) -> Path {
        let mut path = Path::new(udp(0), Budget::Unlimited, &TransportConfig::default());
        for (to, was_led) in moves {
            let before = core::mem::replace(&mut path.route, *to);
            path.leave(before, *was_led);
        }
        path
    }

    fn refuge(path: &Path) -> Option<(Route, bool)> {
        path.refuge.as_ref().map(|refuge| (refuge.route, refuge.is_home))
    }

    #[test]
    // spec-test: CON-82, CON-83
    fn a_path_keeps_the_address_that_it_has_left() {
        assert_eq!(refuge(&led(&[(udp(1), false)])), Some((udp(0), false)));
        assert_eq!(refuge(&led(&[(udp(1), true)])), Some((udp(0), true)));
        // Back again, and there again: the one that it was meant to be at stays that one.
        assert_eq!(refuge(&led(&[(udp(1), true), (udp(0), false)])), Some((udp(1), false)));
        assert_eq!(refuge(&led(&[(udp(1), false), (udp(0), false)])), Some((udp(1), true)));
        let to_and_fro = [(udp(1), true), (udp(0), false), (udp(1), false)];
        assert_eq!(refuge(&led(&to_and_fro)), Some((udp(0), true)));
    }

    #[test]
    // spec-test: CON-83
    fn home_is_kept_until_nobody_answers_there() {
        let mut path = led(&[(udp(1), true), (udp(2), true)]);
        assert_eq!(refuge(&path), Some((udp(0), true)));
        path.found_nobody(&udp(0));
        path.route = udp(3);
        path.leave(udp(2), true);
        assert_eq!(refuge(&path), Some((udp(2), true)));
    }

    #[test]
    fn carriers_are_no_refuge_and_leave_it_as_it_is() {
        let carrier = Route::Tunnel { id: 1 };
        let path = led(&[(udp(1), true), (carrier, false)]);
        assert!(refuge(&path).is_some() && path.refuge_to_ask().is_none());
        assert_eq!(refuge(&led(&[(udp(1), true), (carrier, false), (udp(0), false)])), None);
    }
}
