//! What must hold of a server that gets any datagrams at any time: no panic, nothing without bound,
//! and no more than three times the bytes back to an address that has proved nothing.

use std::time::Duration;

use jsp_crypto::{Fingerprint, Role, initial_keys};
use jsp_proto::{Event, RetryPolicy};
use jsp_wire::{ConnectionId, LongType, VERSION_1};

use super::host::{self, BEGIN, CONNECTIONS_MAX, Host};
use super::packet::sealed;
use super::parties::parties;

/// Bytes of a server's largest datagram.
const DATAGRAM_LEN_MAX: usize = 1500;

struct World {
    host: Host,
    opened: usize,
}

/// The input is a list of steps: `kind 1 | length 1 | bytes`.
///
/// Kind 0 is a datagram, 1 the payload of an Initial packet that is sealed as a client would, 2 the
/// same from a client without the pin, 3 a datagram padded to 1200 bytes, 4 lets time pass. Bits 4
/// and 5 of the kind name the sender. Answers how many connections came about.
pub fn datagrams(data: &[u8]) -> usize {
    let retry = match data.first().map(|first| first & 1) {
        Some(1) => RetryPolicy::Always,
        _ => RetryPolicy::Never,
    };
    let endpoint = host::endpoint(Some(host::setup(retry)), 5, 1_800_000_000);
    let mut world = World { host: Host::new(endpoint, BEGIN), opened: 0 };
    let mut rest = data.get(1..).unwrap_or_default();
    while let [kind, len, tail @ ..] = rest {
        let (bytes, next) = tail.split_at(usize::from(*len).min(tail.len()));
        world.step(*kind, bytes);
        rest = next;
    }
    world.end();
    world.opened
}

impl World {
    fn step(&mut self, kind: u8, bytes: &[u8]) {
        let from = host::address(kind >> 4);
        let pin = parties().server.fingerprint();
        match kind & 7 {
            0 => self.host.deliver(from, bytes),
            1 => self.host.deliver(from, &initial(kind, bytes, Some(&pin))),
            2 => self.host.deliver(from, &initial(kind, bytes, None)),
            3 => {
                let mut padded = bytes.to_vec();
                padded.resize(1200, 0);
                self.host.deliver(from, &padded);
            }
            _ => {
                let ticks = bytes.iter().fold(1u64, |sum, byte| sum + u64::from(*byte));
                self.host.now = self.host.now + Duration::from_millis(ticks);
                self.host.endpoint.handle_timeout(self.host.now);
            }
        }
        self.flush();
        assert!(self.host.endpoint.connection_count() <= CONNECTIONS_MAX);
    }

    fn flush(&mut self) {
        self.read_events();
        for (_, datagram) in self.host.drain() {
            assert!(datagram.len() <= DATAGRAM_LEN_MAX);
        }
        self.read_events();
    }

    /// Forgets connections that are over, as an application does.
    fn read_events(&mut self) {
        while let Some((handle, event)) = self.host.endpoint.poll_event() {
            if event == Event::Drained {
                self.opened += 1;
                self.host.endpoint.forget(self.host.now, handle);
            }
        }
    }

    /// With time, everything that strangers began is forgotten.
    fn end(&mut self) {
        for _ in 0..10_000 {
            if !self.host.next_timer(None) {
                break;
            }
            self.flush();
        }
        // What was forgotten last goes with the next look at it.
        self.flush();
        self.host.check_over();
    }
}

/// An Initial packet with this payload, sealed by the sender that `kind` names, in a full datagram.
fn initial(kind: u8, payload: &[u8], pin: Option<&Fingerprint>) -> Vec<u8> {
    let dcid = ConnectionId::new(&[kind >> 4; 8]).expect("a short id");
    let keys = initial_keys(Role::Client, VERSION_1, dcid.as_bytes(), pin);
    let pn = payload.iter().fold(0u64, |sum, byte| (sum * 31 + u64::from(*byte)) % 100);
    let mut packet = sealed(LongType::Initial, dcid, (pn, 1), payload, &keys.local);
    packet.resize(1200, 0);
    packet
}
