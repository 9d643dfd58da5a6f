//! Connections that do nothing, in few bytes: they are whole again when something happens. Some wait for their
//! client's flight, others rest.

use jsp_wire::Instant;

use super::names::HelloNames;
use super::source::Prefix;
use super::{ByHandle, ConnectionHandle, Endpoint, Slot};
use crate::connection::{HalfOpen, Resting};

/// A connection that was laid aside.
pub(super) enum Aside {
    HalfOpen(Box<HalfOpen>),
    /// And the network in whose share it is.
    Resting(Box<(Resting, Option<Prefix>)>),
}

/// Room in the table of connections that is given back once it is four times what they need.
const ROOM_KEPT: usize = 64;

/// Bytes of packets that came before their keys, for all connections that wait: two dozen datagrams that have
/// overtaken a client's flight. Those that find no room will be sent again.
const EARLY_LEN_MAX: usize = 32 * 1024;

/// Connections that were laid aside.
#[derive(Default)]
pub(super) struct WaitingRoom {
    by_handle: ByHandle<Aside>,
    /// Bytes of packets that came before their keys.
    early_len: usize,
}

impl WaitingRoom {
    pub(super) fn len(&self) -> usize {
        self.by_handle.len()
    }

    pub(super) fn get(&self, handle: ConnectionHandle) -> Option<&Aside> {
        self.by_handle.get(&handle)
    }

    // spec: CON-101
    fn insert(&mut self, handle: ConnectionHandle, mut aside: Aside) {
        if let Aside::HalfOpen(connection) = &mut aside {
            let len = self.early_len.saturating_add(connection.early_len());
            if len > EARLY_LEN_MAX {
                connection.forget_early();
            } else {
                self.early_len = len;
            }
        }
        self.by_handle.insert(handle, aside);
    }

    fn remove(&mut self, handle: ConnectionHandle) -> Option<Aside> {
        let aside = self.by_handle.remove(&handle)?;
        if let Aside::HalfOpen(connection) = &aside {
            self.early_len = self.early_len.saturating_sub(connection.early_len());
        }
        Some(aside)
    }
}

impl Endpoint {
    /// The connection has nothing to do. If all that it does is wait for its client's flight, or nothing, it does so
    /// in few bytes.
    pub(super) fn lay_aside(&mut self, now: Instant, handle: ConnectionHandle) {
        let Some(slot) = self.connections.get(&handle).filter(|slot| !slot.forgotten) else {
            return;
        };
        let waits = slot.hello.is_some() && slot.connection.is_half_open();
        let is_plain = slot.hello.is_none() && slot.routes.is_empty() && !slot.is_unproved;
        let rests = is_plain && slot.connection.can_be_laid_aside();
        if !waits && !rests {
            return;
        }
        let Some(slot) = self.connections.remove(&handle) else { return };
        let aside = if waits {
            Aside::HalfOpen(Box::new(slot.connection.into_half_open(now)))
        } else {
            Aside::Resting(Box::new((slot.connection.into_resting(), slot.network)))
        };
        self.waiting.insert(handle, aside);
        if self.connections.capacity() / 4 > self.connections.len().max(ROOM_KEPT) {
            self.connections.shrink_to_fit();
        }
    }

    /// Something happens to the connection: it is whole from here on.
    pub(super) fn take_up(&mut self, handle: ConnectionHandle) {
        // Who is whole and busy asks with each datagram and call; those who rest may be very many, or none.
        if self.waiting.len() == 0 || self.connections.contains_key(&handle) {
            return;
        }
        let Some(aside) = self.waiting.remove(handle) else { return };
        let slot = match aside {
            Aside::HalfOpen(half_open) => {
                let connection = Box::new(half_open.into_connection());
                let hello = HelloNames::of(&connection);
                // Its client was not heard again, so that it is where it was.
                let network = Some(Prefix::of(&connection.route()));
                Slot { hello, is_unproved: true, network, ..Slot::new(connection) }
            }
            Aside::Resting(resting) => {
                let (resting, network) = *resting;
                Slot { network, ..Slot::new(Box::new(resting.into_connection())) }
            }
        };
        self.connections.insert(handle, slot);
    }

    /// True for a connection that waits for its client's flight in few bytes.
    pub(super) fn is_half_open(&self, handle: ConnectionHandle) -> bool {
        matches!(self.waiting.get(handle), Some(Aside::HalfOpen(_)))
    }

    #[cfg(test)]
    pub(crate) fn is_laid_aside(&self, handle: ConnectionHandle) -> bool {
        self.waiting.get(handle).is_some()
    }

    /// The connection itself, which the endpoint has no more.
    #[cfg(test)]
    pub(crate) fn take(&mut self, handle: ConnectionHandle) -> Option<crate::Connection> {
        self.take_up(handle);
        self.connections.remove(&handle).map(|slot| *slot.connection)
    }
}
