//! A client that has another way to its server: when the present one falls silent, and how the other is
//! tried.

use core::net::{IpAddr, SocketAddr};
use core::time::Duration;

use jsp_crypto::Role;
use jsp_wire::{Instant, PathId, Route};

use super::Connection;
use crate::event::Event;
use crate::keys::SpaceId;
use crate::path::silence::Silence;
use crate::path::validation::Candidate;

/// How long the carrier of a path may bring no acknowledgement while another path works.
const CARRIER_SILENCE: Duration = Duration::from_secs(5);

impl Connection {
    /// Tells [`Event::PathSilent`] from here on: the peer has acknowledged nothing of what was sent to
    /// it for 500 ms, or two round trips where these are longer. Who has sent nothing hears of nothing.
    pub fn watch_silence(&mut self, now: Instant) {
        for path in self.paths.iter_mut() {
            path.silence = Some(Silence::new(now));
        }
    }

    /// True while a silence that was told lasts, on the path that is used first.
    pub fn is_silent(&self) -> bool {
        self.paths.active.silence.is_some_and(|silence| silence.is_told())
    }

    /// When a silence of the path at hand is to be told: unless another one works. A reliable carrier
    /// says by itself when it is gone.
    pub(super) fn silence_at(&self) -> Option<Instant> {
        let path = &self.paths.active;
        let silence = path.silence.as_ref().filter(|_| !path.route.is_reliable())?;
        if self.paths.others.iter().any(|path| !path.is_failing()) {
            return None;
        }
        let oldest = path.numbers.recovery.oldest_eliciting();
        self.lifecycle.is_established().then(|| silence.due(oldest, path.rtt.smoothed())).flatten()
    }

    /// When what is under way on the path at hand is to go by others because its carrier brings nothing, and
    /// another path works: no probe time-out says that a carrier is gone, and what it has taken would wait for
    /// ever.
    // spec: CAR-34
    pub(super) fn carrier_over_at(&self) -> Option<Instant> {
        let path = &self.paths.active;
        let is_carrier = path.route.is_reliable();
        let since = path.numbers.recovery.silent_since().filter(|_| is_carrier)?;
        let has_other = self.paths.others.iter().any(|path| !path.is_failing());
        has_other.then(|| since + CARRIER_SILENCE)
    }

    // spec: CAR-30
    pub(super) fn tell_silence(&mut self) {
        if let Some(silence) = &mut self.paths.active.silence {
            silence.on_told();
            self.events.push_back(Event::PathSilent);
        }
    }

    /// Asks the server by `route`; when it answers there, the path goes that way. False when there is
    /// nothing to ask: the path is there already, or the handshake is not complete.
    // spec: CAR-31, CON-73
    pub(crate) fn try_route(&mut self, now: Instant, route: Route) -> bool {
        let may = self.role == Role::Client && self.lifecycle.is_established();
        if !may || self.paths.iter().any(|path| path.route.same_peer(&route)) {
            return false;
        }
        // The server has proved itself, and nobody has asked us to write there.
        let candidate = Candidate::trusted(now, route, self.rng.array());
        self.put_on_trial(candidate);
        true
    }

    /// The address of ours that a path leaves from is gone: from here on the system picks one. To be said before
    /// [`NetworkHint::InterfaceUp`](crate::NetworkHint::InterfaceUp); where the address is there again, it stays.
    pub fn release_local(&mut self, path: PathId) {
        if let Some(Route::Udp { local, .. }) = self.paths.get_mut(path).map(|path| &mut path.route)
        {
            *local = None;
        }
    }

    /// The address of this side may be another: a server asks the client from there, and goes on from there once it
    /// is answered. A client needs no more than to send something.
    pub(super) fn announce_move(&mut self, now: Instant) {
        let path = &self.paths.active;
        let is_udp = matches!(path.route, Route::Udp { .. });
        if is_udp && self.role == Role::Server && path.is_validated && self.is_confirmed() {
            // Nobody but a client that has proved itself is written to.
            let candidate = Candidate::trusted(now, path.route, self.rng.array());
            self.paths.active.may_have_moved = true;
            self.put_on_trial(candidate);
        }
    }

    /// A challenge came by this route: from an address of the server that this side does not know, it may have moved.
    /// Answers whether the challenge is to be answered: where the client does not go, an answer would have the server
    /// believe that the path leads there.
    // spec: CON-74, CON-263
    pub(super) fn consider_move(&mut self, now: Instant, route: Route, received: usize) -> bool {
        let path = &self.paths.active;
        let is_tried = path.candidate.as_ref().is_some_and(|c| c.route.same_peer(&route));
        let is_known = is_tried || path.route.same_peer(&route);
        let is_kept = path.refuge.as_ref().is_some_and(|refuge| refuge.route.same_peer(&route));
        let (Route::Udp { remote: there, .. }, Route::Udp { remote: here, .. }) =
            (route, self.paths.active.route)
        else {
            return true;
        };
        if is_known || self.role == Role::Server {
            return true;
        }
        let may_follow = self.config.follow_server
            && self.is_confirmed()
            && !self.local_ids.first().is_empty()
            && may_lead(here.ip(), there.ip())
            && self.paths.active.is_validated;
        if !may_follow {
            return is_kept;
        }
        if self.paths.active.is_wary() && !self.paths.active.is_silent() {
            // It finds out whether the server is still heard where the path leads.
            // spec: CON-83
            self.paths.active.probes.owe(SpaceId::Data, 1);
            return is_kept;
        }
        let mut candidate = Candidate::new(now, route, self.rng.array(), received);
        candidate.is_led = true;
        self.put_on_trial(candidate);
        true
    }

    /// Where the server would rather be reached, once for each connection, when it is time to go there.
    // spec: CON-70
    pub(crate) fn take_preferred(&mut self) -> Option<Route> {
        if self.role != Role::Client || !self.is_confirmed() {
            return None;
        }
        let preferred = self.exchange.peer.as_mut()?.preferred.take()?;
        let here = match self.paths.get(PathId::FIRST)?.route {
            Route::Udp { remote, .. } => remote,
            Route::Relayed { .. } | Route::Tunnel { .. } => return None,
        };
        let there = match here {
            SocketAddr::V4(_) => preferred.v4.map(SocketAddr::V4),
            SocketAddr::V6(_) => preferred.v6.map(SocketAddr::V6),
        };
        there.filter(|there| may_lead(here.ip(), there.ip())).map(Route::udp)
    }
}

/// How far an address reaches.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Reach {
    /// This host.
    Host,
    /// This link.
    Link,
    /// A network that has addresses of its own.
    Site,
    /// Everywhere.
    World,
}

/// Whether a server at one address may send its clients to another one: nowhere that it could not reach itself.
// spec: CON-71
fn may_lead(from: IpAddr, to: IpAddr) -> bool {
    let is_one_host = match to.to_canonical() {
        // 0.0.0.0/8 is this host to some systems, 240.0.0.0/4 nobody.
        IpAddr::V4(v4) => !matches!(v4.octets(), [0 | 240.., ..]) && !v4.is_multicast(),
        IpAddr::V6(v6) => !v6.is_unspecified() && !v6.is_multicast(),
    };
    let (from, to) = (reach(from), reach(to));
    is_one_host && (to == Reach::World || to == from)
}

fn reach(ip: IpAddr) -> Reach {
    match ip.to_canonical() {
        ip if ip.is_loopback() => Reach::Host,
        IpAddr::V4(v4) if v4.is_link_local() => Reach::Link,
        IpAddr::V6(v6) if v6.is_unicast_link_local() => Reach::Link,
        IpAddr::V4(v4) if v4.is_private() => Reach::Site,
        // Behind a provider's translator (RFC 6598).
        IpAddr::V4(v4) if matches!(v4.octets(), [100, 64..=127, ..]) => Reach::Site,
        IpAddr::V6(v6) if v6.is_unique_local() => Reach::Site,
        _ => Reach::World,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    // spec-test: CON-71
    fn a_server_sends_nobody_where_it_could_not_go() {
        let may = |from: &str, to: &str| may_lead(from.parse().unwrap(), to.parse().unwrap());
        for (from, to) in [
            ("192.0.2.1", "198.51.100.1"),
            ("10.0.0.1", "192.168.7.7"),
            ("10.0.0.1", "192.0.2.1"),
            ("127.0.0.1", "127.0.0.2"),
            ("2001:db8::1", "2001:db8::2"),
            ("fd00::1", "fd01::1"),
            ("fe80::1", "fe80::2"),
        ] {
            assert!(may(from, to), "{from} {to}");
        }
        for (from, to) in [
            ("192.0.2.1", "10.0.0.1"),
            ("192.0.2.1", "172.16.0.1"),
            ("192.0.2.1", "127.0.0.1"),
            ("10.0.0.1", "127.0.0.1"),
            ("192.0.2.1", "169.254.169.254"),
            ("10.0.0.1", "169.254.169.254"),
            ("192.0.2.1", "255.255.255.255"),
            ("192.0.2.1", "224.0.0.1"),
            ("192.0.2.1", "0.0.0.0"),
            ("2001:db8::1", "::1"),
            ("2001:db8::1", "fe80::1"),
            ("2001:db8::1", "fd00::1"),
            ("2001:db8::1", "::ffff:10.0.0.1"),
            ("2001:db8::1", "ff02::1"),
            ("2001:db8::1", "::"),
        ] {
            assert!(!may(from, to), "{from} {to}");
        }
    }
}
