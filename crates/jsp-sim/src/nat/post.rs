//! What the ends of a meeting send and get: datagrams of the network, or of a carrier that passes
//! where UDP does not.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use jsp_wire::Instant;

use super::network::{HostId, Network, Packet};

/// Travelling time of the carrier, one way: that of the network.
const CARRIER_DELAY: Duration = Duration::from_millis(25);

/// Who a datagram of a carrier is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Towards {
    /// The coordinator, from this host.
    Coordinator(HostId),
    /// This host, from the coordinator.
    Host(HostId),
}

/// What has arrived.
#[derive(Debug)]
pub(super) enum Mail {
    /// A datagram of the network, at a host.
    Plain(HostId, Packet),
    /// A datagram of a carrier.
    Carried(Towards, Vec<u8>),
}

/// The network, and carriers beside it that neither lose nor reorder.
pub(super) struct Post {
    pub(super) network: Network,
    carried: VecDeque<(Instant, Towards, Vec<u8>)>,
}

impl Post {
    pub(super) fn new(network: Network) -> Self {
        Self { network, carried: VecDeque::new() }
    }

    pub(super) fn send(
        &mut self,
        now: Instant,
        host: HostId,
        port: u16,
        to: SocketAddr,
        payload: Vec<u8>,
    ) {
        self.network.send(now, host, port, to, payload);
    }

    pub(super) fn carry(&mut self, now: Instant, towards: Towards, payload: Vec<u8>) {
        self.carried.push_back((now + CARRIER_DELAY, towards, payload));
    }

    pub(super) fn next_event(&self) -> Option<Instant> {
        let carried = self.carried.front().map(|(at, ..)| *at);
        [carried, self.network.next_event()].into_iter().flatten().min()
    }

    pub(super) fn poll(&mut self, now: Instant) -> Option<Mail> {
        if self.carried.front().is_some_and(|(at, ..)| *at <= now) {
            let (_, towards, payload) = self.carried.pop_front()?;
            return Some(Mail::Carried(towards, payload));
        }
        let arrival = self.network.poll(now)?;
        Some(Mail::Plain(arrival.host, arrival.packet))
    }
}
