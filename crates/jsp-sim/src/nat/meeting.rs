//! Two peers at two sites who talk: over the relay at once, directly as soon as they can.

use std::net::SocketAddr;
use std::time::Duration;

use jsp_crypto::Fingerprint;
use jsp_nat::candidate::Policy;
use jsp_wire::{Instant, Route};

use super::behaviour::Site;
use super::hub::{self, Hub};
use super::network::{HostId, Network};
use super::peer::{Peer, Place};
use super::post::{Mail, Post, Towards};

/// When one calls the other; both are registered long before.
const CALL_AT: Instant = Instant::from_nanos(1_000_000_000);
/// How long they talk at first, and how long they have for what they said.
const TALK: Duration = Duration::from_secs(4);
const REST: Duration = Duration::from_secs(1);
/// Travelling time between two public addresses, one way.
pub const DELAY: Duration = Duration::from_millis(25);
/// Things that may be due in one instant; more is a loop without progress.
const SAME_INSTANT_MAX: u32 = 20_000;

/// What came of a meeting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// From the call to the first message at the one who was called; `None` when none came.
    pub first: Option<Duration>,
    /// From the call until both ends were past the relay; `None` when they never were.
    pub direct: Option<Duration>,
    /// All that was said came, once and in order.
    pub is_complete: bool,
    /// Datagrams that the relay forwarded.
    pub relayed: u64,
}

/// A meeting under way.
pub struct Meeting {
    now: Instant,
    same_instant: u32,
    post: Post,
    hub: Hub,
    hub_fingerprint: Fingerprint,
    peers: [Peer; 2],
    hosts: [HostId; 2],
    fingerprints: [Fingerprint; 2],
}

impl Meeting {
    /// Two peers at their sites, and a coordinator in the public network.
    ///
    /// # Panics
    /// Never: all hosts are in the network.
    pub fn new(seed: u64, sites: [Site; 2], policies: [Policy; 2]) -> Self {
        let mut network = Network::new(seed, DELAY);
        let coordinator = network.add_host(0);
        let hosts = sites.map(|site| network.settle(site));
        let ip = |host| network.ip(host).expect("the host is in the network");
        let address = SocketAddr::new(ip(coordinator), hub::PORT);
        let (hub, hub_fingerprint) = Hub::new(seed, coordinator);
        let [one, two] = [0, 1].map(|n: usize| {
            let carried = sites[n] == Site::UdpBlocked;
            let (host, policy) = (hosts[n], policies[n]);
            Peer::new(seed, Place { host, ip: ip(host), hub: address, carried, policy })
        });
        let fingerprints = [one.1, two.1];
        let peers = [one.0, two.0];
        Self {
            now: Instant::ZERO,
            same_instant: 0,
            post: Post::new(network),
            hub,
            hub_fingerprint,
            peers,
            hosts,
            fingerprints,
        }
    }

    /// Both register, one calls, and they talk.
    pub fn talk(&mut self) -> Outcome {
        for peer in &mut self.peers {
            peer.register(self.now, self.hub_fingerprint, &mut self.post);
        }
        self.run_until(CALL_AT);
        let until = CALL_AT + TALK;
        for peer in &mut self.peers {
            peer.talk_until(self.now, until);
        }
        let [caller, _] = &mut self.peers;
        caller.call(self.now, self.fingerprints[1], &mut self.post);
        self.run_until(until + REST);
        self.outcome()
    }

    /// They are silent for a while, and then talk again. Answers whether all came.
    pub fn talk_again(&mut self, after: Duration) -> Outcome {
        self.run_until(self.now + after);
        let until = self.now + TALK;
        for peer in &mut self.peers {
            peer.talk_until(self.now, until);
        }
        self.run_until(until + REST);
        self.outcome()
    }

    /// Every box forgets what it knows, as after a power cut.
    pub fn restart_boxes(&mut self) {
        for index in 0.. {
            match self.post.network.gateway(index) {
                Some(gateway) => gateway.restart(),
                None => return,
            }
        }
    }

    /// What came of it so far.
    pub fn outcome(&mut self) -> Outcome {
        let [caller, called] = &self.peers;
        let since = |at: Option<Instant>| Some(at? - caller.seen.called?);
        let direct = caller.seen.direct.zip(called.seen.direct).map(|(one, two)| one.max(two));
        let complete = |from: &Peer, to: &Peer| {
            !to.seen.broken && from.said() > 0 && to.seen.heard == from.said()
        };
        Outcome {
            first: since(called.seen.first),
            direct: since(direct),
            is_complete: complete(caller, called) && complete(called, caller),
            relayed: self.hub.forwarded(),
        }
    }

    /// Whether both ends are past the relay at present.
    pub fn is_direct(&mut self) -> bool {
        self.peers.iter_mut().all(Peer::is_direct)
    }

    fn run_until(&mut self, end: Instant) {
        loop {
            let wakes = self.peers.iter_mut().filter_map(Peer::wake);
            let next = wakes.chain(self.post.next_event()).min();
            let next = [next, self.hub.wake()].into_iter().flatten().min();
            let Some(at) = next.filter(|at| *at <= end) else { break };
            self.same_instant = if at > self.now { 0 } else { self.same_instant + 1 };
            assert!(self.same_instant < SAME_INSTANT_MAX, "something is due again and again");
            self.now = self.now.max(at);
            self.step();
        }
        self.now = end;
    }

    fn step(&mut self) {
        let now = self.now;
        while let Some(mail) = self.post.poll(now) {
            self.deliver(mail);
        }
        self.hub.handle_timeout(now, &mut self.post);
        for peer in &mut self.peers {
            peer.handle_timeout(now, &mut self.post);
        }
    }

    fn deliver(&mut self, mail: Mail) {
        let now = self.now;
        let (host, from, payload) = match mail {
            Mail::Plain(host, packet) => (host, Some(packet.from), packet.payload),
            Mail::Carried(Towards::Host(host), payload) => (host, None, payload),
            Mail::Carried(Towards::Coordinator(host), payload) => {
                let route = Route::Tunnel { id: host as u64 };
                return self.hub.receive(now, route, &payload, &mut self.post);
            }
        };
        match self.hosts.iter().position(|known| *known == host) {
            Some(index) => self.peers[index].receive(now, from, &payload, &mut self.post),
            None => {
                let Some(from) = from else { return };
                self.hub.receive(now, Route::udp(from), &payload, &mut self.post);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANY: [Policy; 2] = [Policy::Any; 2];

    #[test]
    fn two_homes_talk_at_once_and_then_directly() {
        let mut meeting = Meeting::new(1, [Site::PortRestricted; 2], ANY);
        let outcome = meeting.talk();
        assert!(outcome.is_complete, "{outcome:?}");
        assert!(outcome.first.unwrap() <= DELAY * 8, "{outcome:?}");
        assert!(outcome.direct.unwrap() <= Duration::from_secs(1), "{outcome:?}");
        // Nothing of what follows goes through the relay.
        let before = meeting.outcome().relayed;
        let outcome = meeting.talk_again(Duration::from_secs(1));
        assert!(outcome.is_complete);
        assert_eq!(outcome.relayed, before);
    }

    #[test]
    fn who_may_use_the_relay_alone_tells_and_gets_no_address() {
        for policies in [[Policy::RelayOnly, Policy::Any], [Policy::Any, Policy::RelayOnly]] {
            let mut meeting = Meeting::new(1, [Site::EndpointIndependent; 2], policies);
            let outcome = meeting.talk();
            assert!(outcome.is_complete && outcome.direct.is_none(), "{outcome:?}");
        }
    }

    #[test]
    fn a_short_memory_is_kept_awake() {
        let mut meeting = Meeting::new(1, [Site::ShortLifetime; 2], ANY);
        meeting.talk();
        let outcome = meeting.talk_again(Duration::from_secs(90));
        assert!(outcome.is_complete && meeting.is_direct(), "{outcome:?}");
    }

    #[test]
    fn boxes_that_forget_cost_the_direct_way_for_a_moment_and_no_byte() {
        let mut meeting = Meeting::new(1, [Site::PortRestricted; 2], ANY);
        meeting.talk();
        meeting.restart_boxes();
        let outcome = meeting.talk_again(Duration::ZERO);
        assert!(!outcome.is_complete || meeting.is_direct());
        let outcome = meeting.talk_again(Duration::from_secs(20));
        assert!(outcome.is_complete && meeting.is_direct(), "{outcome:?}");
    }

    #[test]
    fn worlds_repeat() {
        let run = || Meeting::new(5, [Site::Symmetric, Site::AddressRestricted], ANY).talk();
        assert_eq!(run(), run());
    }
}
