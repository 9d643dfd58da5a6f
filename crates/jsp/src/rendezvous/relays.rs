//! The coordinators whose relays a peer listens to: while it is registered there, and no longer.

use std::net::SocketAddr;
use std::sync::{Arc, Weak};

use jsp_wire::Route;

use super::link::Switch;

/// Where coordinators are, by registration.
#[derive(Default)]
pub(super) struct Relays {
    known: Vec<Known>,
    next: u64,
}

struct Known {
    registration: u64,
    /// What stands for the coordinator, of which there may be several registrations.
    relay: SocketAddr,
    at: Route,
}

impl Relays {
    pub(super) fn add(&mut self, relay: SocketAddr, at: Route) -> u64 {
        let registration = self.next;
        self.next = self.next.wrapping_add(1);
        self.known.push(Known { registration, relay, at: unbound(at) });
        registration
    }

    fn moved(&mut self, registration: u64, at: Route) {
        let known = self.known.iter_mut().find(|known| known.registration == registration);
        if let Some(known) = known {
            known.at = unbound(at);
        }
    }

    fn remove(&mut self, registration: u64) {
        self.known.retain(|known| known.registration != registration);
    }

    /// What stands for the coordinator that something came from.
    pub(super) fn named(&self, route: &Route) -> Option<SocketAddr> {
        let at = unbound(*route);
        self.known.iter().find(|known| known.at == at).map(|known| known.relay)
    }

    /// Where the coordinator is that this stands for, as the last to register there knows.
    pub(super) fn find(&self, relay: SocketAddr) -> Option<Route> {
        self.known.iter().rev().find(|known| known.relay == relay).map(|known| known.at)
    }
}

/// What a coordinator relays is taken while this lives.
#[derive(Debug)]
pub(super) struct Trusted {
    switch: Weak<Switch>,
    registration: u64,
}

impl Trusted {
    /// Takes what a coordinator relays, which this address stands for, from where it is now, and sends it there.
    // spec: RDV-126
    pub(super) fn new(switch: &Arc<Switch>, relay: SocketAddr, at: Route) -> Self {
        let registration = switch.relays(|relays| relays.add(relay, at));
        Self { switch: Arc::downgrade(switch), registration }
    }

    /// The coordinator is there now.
    // spec: RDV-126
    pub(super) fn moved(&self, at: Route) {
        if let Some(switch) = self.switch.upgrade() {
            switch.relays(|relays| relays.moved(self.registration, at));
        }
    }
}

impl Drop for Trusted {
    fn drop(&mut self) {
        if let Some(switch) = self.switch.upgrade() {
            switch.relays(|relays| relays.remove(self.registration));
        }
    }
}

/// A route without the address of this host in it.
fn unbound(route: Route) -> Route {
    match route {
        Route::Udp { remote, .. } => Route::udp(remote),
        other => other,
    }
}
