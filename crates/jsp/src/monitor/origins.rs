//! From the addresses of before and after a change, and the paths in use, to hints. Nothing here asks the
//! system or a clock.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::net::{IpAddr, SocketAddr};

use jsp_proto::NetworkHint;

/// A path in use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Used<P> {
    /// Its name.
    pub(super) path: P,
    /// Its ends.
    pub(super) ends: Ends,
}

/// The ends of a path, as the socket knows them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Ends {
    /// The address that it leaves from; `None` when the system picks one for each datagram.
    pub(super) local: Option<IpAddr>,
    /// Its socket is bound to no certain address: where `local` is gone, it can leave from another.
    pub(super) is_loose: bool,
    /// Where its datagrams go.
    pub(super) remote: SocketAddr,
}

/// What the network looks like at one moment.
pub(super) struct Scene<'a, S> {
    /// The addresses that can be used.
    pub(super) addresses: &'a [IpAddr],
    /// Which of them the system would pick for a datagram to there.
    pub(super) source: S,
}

/// The address that a path leaves from, under which ends; `None` when it cannot leave.
type Origin = (Ends, Option<IpAddr>);

/// Where each path in use was seen to leave from.
pub(super) struct Origins<P> {
    known: HashMap<P, Origin>,
}

impl<P: Copy + Eq + Hash> Origins<P> {
    pub(super) fn new() -> Self {
        Self { known: HashMap::new() }
    }

    /// Whether this path has not been seen, or not under these ends.
    fn is_new(&self, used: &Used<P>) -> bool {
        self.known.get(&used.path).is_none_or(|(ends, _)| *ends != used.ends)
    }

    /// Takes up paths that have not been seen, as they leave at this moment, and no hint comes of it.
    pub(super) fn learn(
        &mut self,
        used: &[Used<P>],
        scene: &mut Scene<'_, impl FnMut(SocketAddr) -> Option<IpAddr>>,
    ) {
        for used in used {
            if self.is_new(used) {
                self.known.insert(used.path, (used.ends, scene.origin(used.ends)));
            }
        }
    }

    /// How many paths are known, those that are over among them.
    pub(super) fn len(&self) -> usize {
        self.known.len()
    }

    /// Forgets all other paths.
    pub(super) fn keep(&mut self, used: &[Used<P>]) {
        let paths: HashSet<P> = used.iter().map(|used| used.path).collect();
        self.known.retain(|path, _| paths.contains(path));
    }

    /// Something may have changed: the hints for those of the paths in use that leave from elsewhere
    /// now. Paths that are used no more are forgotten.
    pub(super) fn compare(
        &mut self,
        used: &[Used<P>],
        scene: &mut Scene<'_, impl FnMut(SocketAddr) -> Option<IpAddr>>,
    ) -> Vec<(P, NetworkHint)> {
        self.keep(used);
        // Many connections may go to one place.
        let mut asked = HashMap::new();
        let mut hints = Vec::new();
        for Used { path, ends } in used {
            let after = *asked.entry(*ends).or_insert_with(|| scene.origin(*ends));
            let before = self.known.insert(*path, (*ends, after));
            // A socket whose own address is another now has moved; a path to elsewhere is a new one.
            if let Some((known, before)) = before
                && known.remote == ends.remote
                && let Some(hint) = hint(before, after)
            {
                hints.push((*path, hint));
            }
        }
        hints
    }
}

impl<S: FnMut(SocketAddr) -> Option<IpAddr>> Scene<'_, S> {
    fn origin(&mut self, ends: Ends) -> Option<IpAddr> {
        let own = ends.local.filter(|own| !ends.is_loose || self.addresses.contains(own));
        let from = own.or_else(|| (self.source)(ends.remote))?;
        self.addresses.contains(&from).then_some(from)
    }
}

/// What is to be told of a path that left from `before`, and leaves from `after` now.
fn hint(before: Option<IpAddr>, after: Option<IpAddr>) -> Option<NetworkHint> {
    match (before, after) {
        (Some(_), None) => Some(NetworkHint::InterfaceDown),
        (before, Some(_)) if before != after => Some(NetworkHint::InterfaceUp),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use NetworkHint::{InterfaceDown, InterfaceUp};

    const WIFI: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 168, 1, 5));
    const CAFE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 7, 0, 9));
    const LTE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(100, 64, 0, 3));
    const BRIDGE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(172, 17, 0, 1));

    fn server() -> SocketAddr {
        SocketAddr::from(([203, 0, 113, 1], 4433))
    }

    fn used(path: u8, local: Option<IpAddr>) -> Used<u8> {
        Used { path, ends: Ends { local, is_loose: false, remote: server() } }
    }

    /// A machine with these addresses, of which the system picks `source`.
    fn scene(
        addresses: &[IpAddr],
        source: Option<IpAddr>,
    ) -> Scene<'_, impl FnMut(SocketAddr) -> Option<IpAddr>> {
        Scene { addresses, source: move |_| source }
    }

    #[test]
    fn a_wildcard_socket_moves_with_the_source_that_the_system_picks() {
        let all = [used(0, None)];
        let mut origins = Origins::new();
        origins.learn(&all, &mut scene(&[WIFI], Some(WIFI)));
        let mut look =
            |addresses: &[IpAddr], source| origins.compare(&all, &mut scene(addresses, source));
        assert_eq!(look(&[WIFI], Some(WIFI)), []);
        // Another interface comes, a container's bridge goes: the path leaves from where it did.
        assert_eq!(look(&[WIFI, LTE, BRIDGE], Some(WIFI)), []);
        assert_eq!(look(&[WIFI, LTE], Some(WIFI)), []);
        assert_eq!(look(&[LTE], Some(LTE)), [(0, InterfaceUp)]);
        assert_eq!(look(&[], None), [(0, InterfaceDown)]);
        assert_eq!(look(&[], None), [], "it is told once");
        assert_eq!(look(&[CAFE], None), [], "there is no route yet");
        assert_eq!(look(&[CAFE], Some(CAFE)), [(0, InterfaceUp)]);
    }

    #[test]
    fn an_interface_that_lost_its_carrier_keeps_its_address_and_is_down() {
        let all = [used(0, None), used(1, Some(WIFI))];
        let mut origins = Origins::new();
        origins.learn(&all, &mut scene(&[WIFI], Some(WIFI)));
        // The system still picks it, but nothing can leave there.
        let hints = origins.compare(&all, &mut scene(&[], Some(WIFI)));
        assert_eq!(hints, [(0, InterfaceDown), (1, InterfaceDown)]);
    }

    #[test]
    fn a_bound_path_goes_by_its_own_address_alone() {
        let all = [used(0, Some(WIFI)), used(1, Some(LTE))];
        let mut origins = Origins::new();
        origins.learn(&all, &mut scene(&[WIFI, LTE], Some(WIFI)));
        let mut look =
            |addresses: &[IpAddr], source| origins.compare(&all, &mut scene(addresses, source));
        assert_eq!(look(&[LTE], Some(LTE)), [(0, InterfaceDown)]);
        assert_eq!(look(&[LTE, CAFE], Some(CAFE)), []);
        assert_eq!(look(&[LTE, WIFI], Some(WIFI)), [(0, InterfaceUp)]);
        assert_eq!(look(&[WIFI], Some(WIFI)), [(1, InterfaceDown)]);
    }

    #[test]
    fn a_path_that_was_begun_at_one_address_leaves_from_another_when_that_is_gone() {
        let ends = Ends { local: Some(WIFI), is_loose: true, remote: server() };
        let all = [Used { path: 0, ends }];
        let mut origins = Origins::new();
        // The system would pick another, as long as both are there.
        origins.learn(&all, &mut scene(&[WIFI, LTE], Some(LTE)));
        let mut look =
            |addresses: &[IpAddr], source| origins.compare(&all, &mut scene(addresses, source));
        assert_eq!(look(&[WIFI], Some(WIFI)), []);
        assert_eq!(look(&[], None), [(0, InterfaceDown)]);
        assert_eq!(look(&[CAFE], Some(CAFE)), [(0, InterfaceUp)]);
        // What has moved leaves from wherever the system likes.
        let moved = [Used { path: 0, ends: Ends { local: None, ..ends } }];
        assert_eq!(origins.compare(&moved, &mut scene(&[CAFE], Some(CAFE))), []);
    }

    #[test]
    fn loopback_is_never_there_and_never_goes() {
        let home: IpAddr = [127, 0, 0, 1].into();
        let all = [used(0, Some(home)), used(1, None)];
        let mut origins = Origins::new();
        origins.learn(&all, &mut scene(&[WIFI], Some(home)));
        assert_eq!(origins.compare(&all, &mut scene(&[LTE], Some(home))), []);
        assert_eq!(origins.compare(&all, &mut scene(&[], Some(home))), []);
    }

    #[test]
    fn a_path_is_new_under_other_ends_and_forgotten_with_its_connection() {
        let (all, none) = ([used(0, None)], []);
        let mut origins = Origins::new();
        assert!(origins.is_new(&all[0]));
        // A change comes before the path was seen: there is nothing to compare it with.
        assert_eq!(origins.compare(&all, &mut scene(&[WIFI], Some(WIFI))), []);
        assert!(!origins.is_new(&all[0]));
        let remote = SocketAddr::from(([203, 0, 113, 2], 1));
        let moved = [Used { path: 0, ends: Ends { local: None, is_loose: false, remote } }];
        assert!(origins.is_new(&moved[0]));
        assert_eq!(origins.compare(&moved, &mut scene(&[LTE], Some(LTE))), []);
        // The socket itself is elsewhere now.
        let ends = Ends { local: Some(CAFE), is_loose: false, remote };
        let rebound = [Used { path: 0, ends }];
        assert_eq!(origins.compare(&rebound, &mut scene(&[CAFE], Some(CAFE))), [(0, InterfaceUp)]);
        assert_eq!(origins.compare(&none, &mut scene(&[], None)), []);
        assert!(origins.is_new(&rebound[0]));
    }
}
