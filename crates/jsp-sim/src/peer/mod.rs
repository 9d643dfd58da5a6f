//! What else can live in a world: other transports, as peers to be measured against and as
//! competitors for a link, and what is asked of any of them.

use std::time::Duration;

use jsp_crypto::Fingerprint;
use jsp_proto::{NetworkHint, PathMemory};
use jsp_wire::Instant;

use crate::flow::{End, Pair, Side};
use crate::link::Datagram;
use crate::node::{Node, Surroundings};
use crate::observation::Observation;
use crate::topology::{Client, Second};

pub mod quinn;

/// What a transport knows about the packets of one end of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Packets sent.
    pub packets_sent: u64,
    /// Packets held lost, rightly or not.
    pub packets_lost: u64,
    /// Probe timeouts after the handshake; peers do not tell.
    pub probe_timeouts: u64,
    /// Smoothed round-trip time.
    pub rtt: Duration,
    /// Bytes that may be in flight.
    pub congestion_window: u64,
    /// What a later connection should know of the path; peers do not tell.
    pub path_memory: Option<PathMemory>,
}

/// One side of a world at work, whatever it speaks.
pub(crate) enum Station {
    /// JetStreamProto: a client, or the server of all clients.
    Jsp(Box<Node>),
    /// QUIC: one end of one connection.
    Quinn(Box<quinn::Node>),
}

impl Station {
    /// Whether the other side is no longer there for anybody.
    pub(crate) fn is_gone(&self) -> bool {
        match self {
            Self::Jsp(node) => node.is_gone,
            Self::Quinn(_) => false,
        }
    }

    /// Starts a client's connection.
    pub(crate) fn connect(&mut self, now: Instant, client: &Client, server: Fingerprint) {
        match self {
            Self::Jsp(node) => node.connect(now, client, server),
            Self::Quinn(node) => node.connect(now),
        }
    }

    /// Takes a datagram from the network.
    pub(crate) fn receive(&mut self, now: Instant, datagram: Datagram) {
        match self {
            Self::Jsp(node) => node.receive(now, datagram),
            Self::Quinn(node) => node.receive(now, datagram),
        }
    }

    /// Acts on deadlines.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        match self {
            Self::Jsp(node) => node.handle_timeout(now),
            Self::Quinn(node) => node.handle_timeout(now),
        }
    }

    /// When it has something to do by itself.
    pub(crate) fn wake(&mut self) -> Option<Instant> {
        match self {
            Self::Jsp(node) => node.wake(),
            Self::Quinn(node) => node.wake(),
        }
    }

    /// Lets applications and transport work until nothing moves.
    pub(crate) fn pump(&mut self, around: &mut Surroundings<'_>) {
        match self {
            Self::Jsp(node) => node.pump(around),
            Self::Quinn(node) => node.pump(around),
        }
    }

    /// Closes all connections; a peer is no part of the trial and stays.
    pub(crate) fn close(
        &mut self,
        now: Instant,
        code: u64,
        reason: &str,
        log: &mut dyn FnMut(Observation<'_>),
    ) {
        if let Self::Jsp(node) = self {
            node.close(now, code, reason, log);
        }
    }

    /// Disappears without a word, and answers which ends did.
    pub(crate) fn vanish(&mut self) -> Vec<End> {
        let Self::Jsp(node) = self else { return Vec::new() };
        node.is_gone = true;
        node.ends().collect()
    }

    /// Whether all applications have done what they were to do, or cannot any more.
    pub(crate) fn is_finished(&self) -> bool {
        match self {
            Self::Jsp(node) => node.is_finished(),
            Self::Quinn(node) => node.is_finished(),
        }
    }

    /// What the applications still have to do.
    pub(crate) fn unfinished(&self) -> Vec<String> {
        match self {
            Self::Jsp(node) => node.unfinished(),
            Self::Quinn(_) => Vec::new(),
        }
    }

    /// Whether nothing is left to do, now or later.
    pub(crate) fn is_at_rest(&mut self) -> bool {
        match self {
            Self::Jsp(node) => node.is_at_rest(),
            Self::Quinn(_) => true,
        }
    }

    /// The applications tell what they know of the network; peers have no ear for it.
    pub(crate) fn hint(&mut self, now: Instant, hint: NetworkHint) {
        if let Self::Jsp(node) = self {
            node.hint(now, hint);
        }
    }

    /// A client opens a path over its second interface; false when it cannot yet. Peers have one path.
    pub(crate) fn open_second(&mut self, now: Instant, second: &Second) -> bool {
        match self {
            Self::Jsp(node) => node.open_second(now, second),
            Self::Quinn(_) => true,
        }
    }

    /// A client gives it up.
    pub(crate) fn end_second(&mut self, now: Instant) {
        if let Self::Jsp(node) = self {
            node.end_second(now);
        }
    }

    /// A client gives the path over its first interface up.
    pub(crate) fn end_first(&mut self, now: Instant) {
        if let Self::Jsp(node) = self {
            node.end_first(now);
        }
    }

    /// Its application tells what it knows of the first interface.
    pub(crate) fn hint_first(&mut self, now: Instant, hint: NetworkHint) {
        if let Self::Jsp(node) = self {
            node.hint_first(now, hint);
        }
    }

    /// What the transport counted for an end that lives here.
    pub(crate) fn counters(&mut self, pair: Pair, side: Side) -> Option<Counters> {
        match self {
            Self::Jsp(node) => node.counters(End { pair, side }),
            Self::Quinn(node) => node.counters(End { pair, side }),
        }
    }
}
