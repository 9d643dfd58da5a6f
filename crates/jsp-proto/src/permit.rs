//! Door 3: may we send, where, and how much? The only place that consults congestion, pacing, the
//! budget of an unproved address, and the path's MTU.

use core::time::Duration;

use jsp_wire::Instant;
use jsp_wire::frame::PathUse;

use crate::path::plural::{PATHS_MAX, PathList, Paths};
use crate::path::{Duty, Path};

/// Smallest datagram worth building: a header, an ACK and a tag, in bytes.
const DATAGRAM_LEN_MIN: usize = 64;

/// What may be put into the next datagram.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Permit {
    /// Bytes that the datagram may have.
    pub(crate) room: usize,
    /// Whether it may hold what counts against congestion.
    pub(crate) allowance: Allowance,
    /// It goes beyond what a window with its excess has room for.
    pub(crate) trickles: bool,
    /// What is not urgent waits because the path is on alarm.
    pub(crate) is_held: bool,
}

/// How far congestion control and pacing let us go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Allowance {
    /// Anything.
    Anything,
    /// One datagram beyond the window, or while all else is held, because urgent data wait: they go first.
    Urgent,
    /// A probe: anything, although the window is full.
    Probe,
    /// Only what needs no acknowledgement: the window is full or the pacer waits.
    AckOnly,
}

impl Allowance {
    pub(crate) const fn allows_data(self) -> bool {
        matches!(self, Self::Anything | Self::Urgent | Self::Probe)
    }
}

/// A path that loses a packet costs about what it takes to send it again: so much beside a round trip.
const LOSS_COST: Duration = Duration::from_millis(50);

/// Where? Decides what each path carries, and answers them in the order in which they are asked: the one on
/// which messages arrive soonest comes first, and what it has no room for goes by the next. A standby
/// carries everything once no available path works.
// spec: PTH-11, PTH-13
pub(crate) fn plan(paths: &mut Paths) -> PathList {
    let usable = |path: &Path, usage| !path.is_failing() && path.usage.effective() == usage;
    let has = |usage| paths.iter().any(|path| usable(path, usage));
    let carriers = [PathUse::Available, PathUse::Standby].into_iter().find(|usage| has(*usage));
    let preferred = paths.preferred;
    let mut ranks = [None; PATHS_MAX];
    for (path, rank) in paths.iter_mut().zip(&mut ranks) {
        let usage = path.usage.effective();
        path.duty = match carriers {
            Some(carriers) if usable(path, carriers) => Duty::All,
            Some(_) if usable(path, usage) => Duty::Copies,
            Some(_) => Duty::Own,
            // Nothing works: all that might is tried.
            None if path.is_validated && usage != PathUse::Down => Duty::All,
            None => Duty::Own,
        };
        // Another path must be clearly better to be preferred.
        let cost = cost(path).mul_f64(if path.id == preferred { 0.9 } else { 1.0 });
        *rank = Some((core::cmp::Reverse(path.duty), cost, path.id));
    }
    ranks.sort_unstable();
    let order: PathList = ranks.into_iter().flatten().map(|(_, _, id)| id).collect();
    paths.preferred = order.first().unwrap_or(preferred);
    order
}

/// How long a message takes by this path, or twice that: a round trip, and what losses cost on the average.
fn cost(path: &Path) -> Duration {
    let rtt = path.rtt.smoothed();
    let again = rtt.saturating_add(LOSS_COST).mul_f64(2.0 * path.forecast.loss());
    rtt.saturating_add(again)
}

/// Asks all who have a say; `None` when nothing at all may be sent on this path.
pub(crate) fn permit(
    now: Instant,
    path: &mut Path,
    in_flight: u64,
    probe: bool,
    urgent: bool,
) -> Option<Permit> {
    let room = path.datagram_len_max();
    if room < DATAGRAM_LEN_MIN {
        return None;
    }
    // A reliable carrier has a congestion control of its own: what it takes may go.
    // spec: CAR-10, CAR-12
    if path.route.is_reliable() {
        let allowance = Allowance::Anything;
        return Some(Permit { room, allowance, trickles: false, is_held: false });
    }
    if urgent {
        path.hold.on_urgent(now);
    }
    let holds = path.hold.until(now, &path.forecast).is_some();
    let mut trickles = false;
    let allowance = if probe {
        Allowance::Probe
    } else if is_full(path, in_flight, urgent) {
        let next = path.trickle.next(path.rtt.smoothed());
        trickles = urgent && next.is_some_and(|at| at <= now);
        if trickles { Allowance::Urgent } else { Allowance::AckOnly }
    } else {
        if !is_released(now, path, room, urgent) {
            Allowance::AckOnly
        } else if !holds {
            Allowance::Anything
        } else if urgent {
            Allowance::Urgent
        } else {
            Allowance::AckOnly
        }
    };
    Some(Permit { room, allowance, trickles, is_held: holds && !urgent && !probe })
}

/// The pacer lets a datagram of `room` bytes go. A batch leaves in one instant, in which nothing is gained: the pace
/// is worked out for its first datagram only.
// spec: CC-10
fn is_released(now: Instant, path: &mut Path, room: usize, urgent: bool) -> bool {
    if !path.pacer.is_behind(now) {
        return path.pacer.available(room) > 0;
    }
    let pace = path.pace(now, urgent);
    path.pacer.permit(now, pace, room) > 0
}

/// The window has no room for another datagram. Urgent data may exceed it a little: it is thin,
/// and must not wait for what bulk has under way.
// spec: CC-21
pub(crate) fn is_full(path: &Path, in_flight: u64, urgent: bool) -> bool {
    let room = path.datagram_len_max() as u64;
    let window = path.congestion.window();
    let wanted = in_flight.saturating_add(room);
    if !urgent {
        return wanted > window;
    }
    let packets = path.congestion.urgent_packets();
    let beyond = (window / 2).min(room.saturating_mul(packets));
    // spec: CC-51
    let start = path.urgent_start(urgent).map_or(0, |start| start.window);
    wanted > window.saturating_add(beyond).max(start)
}

/// A window of no more packets than this is small: a receiver may let as many go by before it acknowledges one.
const SMALL_WINDOW: u64 = 8;

/// A small window has room for one more datagram, and not for a second one. The window of a reliable carrier holds
/// nothing back.
pub(crate) fn is_last(path: &Path, in_flight: u64) -> bool {
    let room = path.datagram_len_max() as u64;
    let window = path.congestion.window();
    let is_small = window <= room.saturating_mul(SMALL_WINDOW);
    let is_held = is_small && !path.route.is_reliable();
    is_held && in_flight.saturating_add(room.saturating_mul(2)) > window
}

/// Until when what is not urgent waits because the path is on alarm, repairs with it; probes do not.
pub(crate) fn held_until(now: Instant, path: &Path, urgent: bool) -> Option<Instant> {
    path.hold.until(now, &path.forecast).filter(|_| !urgent)
}

/// When the window or the pacer lets the next datagram go by itself.
pub(crate) fn paced_until(
    now: Instant,
    path: &mut Path,
    in_flight: u64,
    urgent: bool,
) -> Option<Instant> {
    if path.route.is_reliable() {
        return None;
    }
    if is_full(path, in_flight, urgent) {
        return path.trickle.next(path.rtt.smoothed()).filter(|_| urgent);
    }
    let pace = path.pace(now, urgent);
    path.pacer.next_release(now, pace, path.mtud.current())
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use jsp_wire::Route;

    use super::*;
    use crate::config::{CongestionControl, TransportConfig};
    use crate::congestion::Congestion;
    use crate::forecast::NetworkHint;
    use crate::path::Budget;

    #[test]
    /// spec-test: CAR-10, CAR-12, CAR-14
    fn a_reliable_carrier_holds_nothing_back_but_by_its_room() {
        let config = TransportConfig::default();
        let budget = Budget::for_received(1);
        let mut path = Path::new(Route::Tunnel { id: 1 }, budget, &config);
        let now = Instant::ZERO;
        assert_eq!(permit(now, &mut path, 0, true, true), None, "nothing is told of it");
        path.mtud.limit(65_507);
        path.carrier_room = 1451;
        assert_eq!(permit(now, &mut path, 0, true, true), None, "no room for a whole datagram");
        path.carrier_room = 20_000;
        for in_flight in [0, 1 << 40] {
            let permit = permit(now, &mut path, in_flight, false, false);
            let anything = Allowance::Anything;
            let (trickles, is_held) = (false, false);
            let whole = Permit { room: 1452, allowance: anything, trickles, is_held };
            assert_eq!(permit, Some(whole));
            path.pacer.on_sent(1 << 30);
            assert_eq!(paced_until(now, &mut path, in_flight, false), None);
        }
    }

    #[test]
    /// spec-test: CC-21
    fn urgent_data_passes_a_full_window_but_not_by_much() {
        let route = Route::udp("192.0.2.1:1".parse().unwrap());
        let path = Path::new(route, Budget::Unlimited, &TransportConfig::default());
        let (window, room) = (path.congestion.window(), path.datagram_len_max() as u64);
        assert!(!is_full(&path, window - room, false));
        assert!(is_full(&path, window - room + 1, false));
        assert!(!is_full(&path, window + 3 * room, true));
        assert!(is_full(&path, window + 3 * room + 1, true));
        let config = TransportConfig {
            congestion: CongestionControl::RealTime,
            ..TransportConfig::default()
        };
        let path = Path::new(route, Budget::Unlimited, &config);
        assert!(!is_full(&path, window, true));
        assert!(is_full(&path, window + 1, true));
    }

    #[test]
    /// spec-test: ACK-18
    fn the_last_packet_of_a_small_window_is_known() {
        let route = Route::udp("192.0.2.1:1".parse().unwrap());
        let mut path = Path::new(route, Budget::Unlimited, &TransportConfig::default());
        let room = path.datagram_len_max();
        assert!(!is_last(&path, path.congestion.window()), "it is no small one");
        path.congestion = Congestion::new(CongestionControl::Cubic, room);
        path.congestion.on_persistent_congestion(Instant::ZERO);
        assert!(!is_last(&path, 0), "two fit");
        assert!(is_last(&path, 1));
        path.route = Route::Tunnel { id: 1 };
        path.carrier_room = 1 << 20;
        assert_eq!(path.datagram_len_max(), room);
        assert!(!is_last(&path, 1), "no window holds anything back");
    }

    #[test]
    /// spec-test: CC-51
    fn urgent_data_find_an_unknown_long_way_at_the_rate_of_a_short_one() {
        let route = Route::udp("192.0.2.1:1".parse().unwrap());
        let config = TransportConfig::default();
        let mut path = Path::new(route, Budget::Unlimited, &config);
        let window = path.congestion.window();
        assert_eq!(path.urgent_start(true), None);
        path.rtt.update(Instant::ZERO, Duration::from_millis(300), Duration::ZERO);
        let start = path.urgent_start(true).unwrap();
        assert!(start.window.abs_diff(6 * window) < 6 && start.rate == 20 * window, "{start:?}");
        assert_eq!(path.urgent_start(false), None);
        let room = path.datagram_len_max() as u64;
        assert!(!is_full(&path, 5 * window - room, true));
        assert!(is_full(&path, 6 * window - room + 6, true) && is_full(&path, window, false));
        assert_eq!(path.pace(Instant::ZERO, true).rate, start.rate);
        // On a way that fails it is of no use.
        path.forecast.on_hint(Instant::ZERO, NetworkHint::InterfaceDown);
        path.look(Instant::ZERO, Duration::ZERO);
        assert_eq!(path.urgent_start(true), None);
        let config = TransportConfig { congestion: CongestionControl::RealTime, ..config };
        let mut path = Path::new(route, Budget::Unlimited, &config);
        path.rtt.update(Instant::ZERO, Duration::from_millis(300), Duration::ZERO);
        assert_eq!(path.urgent_start(true), None);
    }
}
