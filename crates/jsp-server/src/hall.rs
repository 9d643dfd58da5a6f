//! Where the clients are: the machine that joins them, and how messages reach them.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant as SystemInstant;

use jsp::link::Route;
use jsp_crypto::{Rng, SystemRng};
use jsp_nat::coordinator::{ClientId, Coordinator, Counters};
use tokio::sync::mpsc;

/// Messages that wait for one client; who takes fewer is let go.
pub(crate) const MESSAGES_MAX: usize = 256;

/// The hall.
#[derive(Debug)]
pub(crate) struct Hall {
    start: SystemInstant,
    inside: Mutex<Inside>,
}

#[derive(Debug)]
struct Inside {
    coordinator: Coordinator,
    last: ClientId,
    doors: HashMap<ClientId, mpsc::Sender<Vec<u8>>>,
}

impl Hall {
    pub(crate) fn new(coordinator: Coordinator) -> Self {
        let doors = HashMap::new();
        let inside = Mutex::new(Inside { coordinator, last: 0, doors });
        Self { start: SystemInstant::now(), inside }
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The machine's time.
    fn now(&self) -> jsp_nat::Instant {
        let nanos = u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        jsp_nat::Instant::from_nanos(nanos)
    }

    /// A client comes in: its number, and the messages for it. `None` when there is no room.
    pub(crate) fn enter(
        &self,
        key: [u8; 32],
        (route, host): (Route, IpAddr),
    ) -> Option<(ClientId, mpsc::Receiver<Vec<u8>>)> {
        let mut inside = self.inside();
        inside.last += 1;
        let id = inside.last;
        if !inside.coordinator.join(id, key, route) {
            return None;
        }
        inside.coordinator.found_at(id, host);
        let (door, messages) = mpsc::channel(MESSAGES_MAX);
        inside.doors.insert(id, door);
        Some((id, messages))
    }

    /// A client goes.
    pub(crate) fn leave(&self, id: ClientId) {
        let mut inside = self.inside();
        inside.coordinator.leave(id);
        inside.doors.remove(&id);
        inside.deliver();
    }

    /// A client's connection is at this route, and comes from this host.
    pub(crate) fn locate(&self, id: ClientId, (route, host): (Route, IpAddr)) {
        let mut inside = self.inside();
        inside.coordinator.moved(id, route);
        inside.coordinator.found_at(id, host);
    }

    /// A client says something; false when it makes no sense. What was held back for its sake comes
    /// with the answer.
    pub(crate) fn hear(&self, id: ClientId, message: &[u8]) -> (bool, Vec<(Route, Vec<u8>)>) {
        let now = self.now();
        let mut inside = self.inside();
        let makes_sense = inside.coordinator.handle_message(now, id, message, &mut random);
        inside.deliver();
        let released = std::iter::from_fn(|| inside.coordinator.poll_released()).collect();
        (makes_sense, released)
    }

    /// Where a datagram with the relay's header goes, with which header and whether it is to be marked.
    pub(crate) fn forward(&self, from: &Route, datagram: &[u8]) -> Option<(Route, Vec<u8>, bool)> {
        let now = self.now();
        let mut inside = self.inside();
        inside.coordinator.forward(now, from, datagram).map(|forward| {
            let mut out = Vec::with_capacity(datagram.len());
            out.extend_from_slice(&forward.header);
            out.extend_from_slice(forward.sealed);
            (forward.to, out, forward.is_congested)
        })
    }

    /// What happened so far, clients that are there, ways that are open.
    pub(crate) fn status(&self) -> (Counters, usize, usize) {
        let inside = self.inside();
        let coordinator = &inside.coordinator;
        (coordinator.counters(), coordinator.clients(), coordinator.channels())
    }
}

impl Inside {
    fn deliver(&mut self) {
        while let Some((id, message)) = self.coordinator.poll_message() {
            let is_full =
                self.doors.get(&id).is_some_and(|door| door.try_send(message.encode()).is_err());
            if is_full {
                // Its task ends with its door.
                self.doors.remove(&id);
            }
        }
    }
}

fn random() -> u64 {
    let mut bytes = [0; 8];
    SystemRng.fill(&mut bytes);
    u64::from_be_bytes(bytes)
}
