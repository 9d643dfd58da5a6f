//! Client hellos on their way to becoming connections: cookies checked, fragments joined, in memory
//! that has a bound.

use core::time::Duration;
use std::collections::VecDeque;

use bytes::BytesMut;
use jsp_crypto::{Keys, Role};
use jsp_wire::{
    CloseCode, ConnectionId, Frame, FrameIter, Header, Instant, LongType, Route, limits,
};

use super::Endpoint;
use crate::config::{RetryPolicy, ServerSetup};
use crate::connection::{Connection, Incoming};
use crate::exchange::HandshakeIds;
use crate::handshake::Joiner;
use crate::path::Budget;
use crate::seal;

/// Hellos that may be incomplete at once; the oldest give way.
const HELLOS_MAX: usize = 1024;

/// How long a hello may take to become complete: longer than two probe time-outs of a client that
/// has measured nothing yet.
const HELLO_LIFE: Duration = Duration::from_secs(5);

/// Packets that may bring one hello: each of its pieces three times.
const PACKETS_MAX: usize = 3 * limits::HELLO_FRAGMENTS_MAX;

/// Different messages under one client's address and id that are kept apart: the true one, and one
/// by somebody who has seen its start.
const MESSAGES_MAX: usize = 2;

/// A hello that is not complete yet.
struct Hello {
    route: Route,
    dcid: ConnectionId,
    scid: ConnectionId,
    keys: Keys,
    joiner: Joiner,
    /// The hello, when it is whole.
    message: Option<Vec<u8>>,
    packets: Vec<u64>,
    received: usize,
    expires: Instant,
    proof: Option<Proof>,
}

/// A cookie that was valid: the client is where it says it is.
#[derive(Clone, Copy)]
struct Proof {
    original_destination: ConnectionId,
}

/// All incomplete hellos, oldest first.
#[derive(Default)]
pub(super) struct Hellos {
    waiting: VecDeque<Hello>,
}

impl Hellos {
    pub(super) fn expire(&mut self, now: Instant) {
        while self.waiting.front().is_some_and(|hello| hello.expires <= now) {
            self.waiting.pop_front();
        }
    }

    fn take(&mut self, route: &Route, dcid: &ConnectionId) -> Option<Hello> {
        let same = |hello: &Hello| hello.dcid == *dcid && hello.route.same_peer(route);
        let place = self.waiting.iter().position(same)?;
        self.waiting.remove(place)
    }

    fn keep(&mut self, hello: Hello) {
        if self.waiting.len() >= HELLOS_MAX {
            self.waiting.pop_front();
        }
        self.waiting.push_back(hello);
    }
}

impl Endpoint {
    /// An Initial packet of a client that has no connection yet.
    pub(super) fn handle_hello(
        &mut self,
        now: Instant,
        route: Route,
        dcid: ConnectionId,
        scid: ConnectionId,
        token: &[u8],
        datagram: &mut BytesMut,
    ) {
        let Some(setup) = self.config.server.clone() else { return };
        // spec: CON-1
        let too_small =
            datagram.len() < limits::MTU_BASE || dcid.len() < limits::CONNECTION_ID_LEN_INITIAL;
        if !self.accepting || too_small {
            return;
        }
        self.hellos.expire(now);
        let proof = match self.check_cookie(now, &route, &dcid, token) {
            Some(proof) => Some(proof),
            None if !token.is_empty() => {
                return self.answer_invalid_token(now, &route, &dcid, &scid, datagram);
            }
            None if self.retry_is_due(&setup) => return self.answer_retry(now, route, dcid, scid),
            None => None,
        };
        let mut hello = match self.hellos.take(&route, &dcid) {
            Some(hello) => hello,
            None => {
                let Some(keys) = opening_keys(&setup, &dcid, datagram) else {
                    let packet = first_packet(datagram).unwrap_or_default();
                    return self.answer_not_this_server(now, &route, &dcid, &scid, packet);
                };
                let expires = now + HELLO_LIFE;
                Hello {
                    route,
                    dcid,
                    scid,
                    keys,
                    joiner: Joiner::new(MESSAGES_MAX),
                    message: None,
                    packets: Vec::new(),
                    received: 0,
                    expires,
                    proof,
                }
            }
        };
        hello.received = hello.received.saturating_add(datagram.len());
        hello.take_datagram(datagram);
        if let Some(message) = hello.message.take() {
            self.accept_hello(now, &setup, hello, message);
        } else if hello.packets.len() < PACKETS_MAX {
            self.hellos.keep(hello);
        }
    }

    fn retry_is_due(&self, setup: &ServerSetup) -> bool {
        match setup.retry {
            RetryPolicy::Never => false,
            RetryPolicy::Always => true,
            RetryPolicy::WhenHalfOpen(most) => {
                self.half_open.len().saturating_add(self.hellos.waiting.len()) > most
            }
        }
    }

    // spec: CON-2
    fn check_cookie(
        &self,
        now: Instant,
        route: &Route,
        dcid: &ConnectionId,
        token: &[u8],
    ) -> Option<Proof> {
        // A cookie serves for the one id that came with it: one connection at a time.
        if token.is_empty() || *dcid != self.retry_id(token) {
            return None;
        }
        let time = self.unix_seconds(now);
        let original = self.cookies.verify(token, &route.to_cookie_bytes(), None, time).ok()?;
        Some(Proof { original_destination: ConnectionId::new(&original)? })
    }

    pub(super) fn unix_seconds(&self, now: Instant) -> u64 {
        self.config.unix_seconds_at_zero.saturating_add(now.as_nanos() / 1_000_000_000)
    }

    fn accept_hello(&mut self, now: Instant, setup: &ServerSetup, hello: Hello, message: Vec<u8>) {
        if self.open >= setup.connections_max {
            let (route, keys) = (&hello.route, &hello.keys);
            let code = CloseCode::REFUSED;
            return self.answer_close(route, &hello.dcid, &hello.scid, keys, code, &[]);
        }
        let local_id = self.fresh_local_id();
        let ids = HandshakeIds {
            original_destination: hello.proof.map_or(hello.dcid, |p| p.original_destination),
            retry_source: hello.proof.map(|_| hello.dcid),
        };
        let budget = match hello.proof {
            Some(_) => Budget::Unlimited,
            None => Budget::for_received(hello.received),
        };
        let incoming = Incoming {
            route: hello.route,
            crypto: setup.crypto.clone(),
            transport: self.config.transport.clone(),
            ids,
            local_id,
            reset_token: self.reset_token(&local_id),
            peer_id: hello.scid,
            initial_keys: hello.keys,
            hello: message,
            received: hello.packets,
            budget,
            unix_seconds_at_zero: self.config.unix_seconds_at_zero,
        };
        let rng = self.rng.fork();
        let connection = Connection::answer(now, incoming, rng);
        let handle = self.insert(connection);
        self.half_open.insert(handle);
    }
}

impl Hello {
    /// Opens the datagram's Initial packets and keeps what they bring of the hello.
    fn take_datagram(&mut self, datagram: &mut [u8]) {
        let mut rest = datagram;
        while let Ok(Header::Long(header)) = Header::parse(rest) {
            if header.kind != LongType::Initial || header.dcid != self.dcid {
                return;
            }
            let (pn_offset, packet_len) = (header.pn_offset, header.packet_len);
            let Some((packet, tail)) = rest.split_at_mut_checked(packet_len) else { return };
            let opened = seal::open_long(packet, pn_offset, 0, &self.keys.remote);
            if let Some((pn, range)) = opened {
                self.take_payload(pn, packet.get(range).unwrap_or_default());
            }
            rest = tail;
        }
    }

    fn take_payload(&mut self, pn: u64, payload: &[u8]) {
        for frame in FrameIter::new(payload) {
            match frame {
                Ok(Frame::Handshake(fragment)) => {
                    // Who contradicts himself is not listened to; the true client may follow.
                    let Ok(joined) = self.joiner.on_fragment(&fragment) else { return };
                    if let Some(joined) = joined {
                        self.message = Some(joined.message);
                    }
                }
                Ok(Frame::Padding(_) | Frame::Ping | Frame::Ack(_)) => {}
                Ok(_) | Err(_) => return,
            }
        }
        if !self.packets.contains(&pn) {
            self.packets.push(pn);
        }
    }
}

/// The packet with a long header that the datagram starts with.
fn first_packet(datagram: &[u8]) -> Option<&[u8]> {
    let Ok(Header::Long(header)) = Header::parse(datagram) else { return None };
    datagram.get(..header.packet_len)
}

/// The keys that open this datagram: those of a client that knows our identity, or of one that does
/// not.
pub(super) fn opening_keys(
    setup: &ServerSetup,
    dcid: &ConnectionId,
    datagram: &[u8],
) -> Option<Keys> {
    let pin = setup.crypto.fingerprint();
    [Some(&pin), None].into_iter().find_map(|pin| {
        let version = jsp_wire::VERSION_1;
        let keys = jsp_crypto::initial_keys(Role::Server, version, dcid.as_bytes(), pin);
        let Ok(Header::Long(header)) = Header::parse(datagram) else { return None };
        let mut trial = datagram.get(..header.packet_len)?.to_vec();
        seal::open_long(&mut trial, header.pn_offset, 0, &keys.remote)?;
        Some(keys)
    })
}
