//! Connections that wait for their client's flight, in few bytes: they are whole again when something happens.

use jsp_wire::Instant;

use super::names::HelloNames;
use super::source::Prefix;
use super::{ConnectionHandle, Endpoint, Slot};
impl Endpoint {
    /// The connection has nothing to do. If all that it does is wait for its client's flight, it does so in few
    /// bytes.
    pub(super) fn lay_aside(&mut self, now: Instant, handle: ConnectionHandle) {
        let waits =
            |slot: &Slot| slot.hello.is_some() && !slot.forgotten && slot.connection.is_half_open();
        if !self.connections.get(&handle).is_some_and(waits) {
            return;
        }
        if let Some(slot) = self.connections.remove(&handle) {
            self.waiting.insert(handle, Box::new(slot.connection.into_half_open(now)));
        }
    }

    /// Something happens to the connection: it is whole from here on.
    pub(super) fn take_up(&mut self, handle: ConnectionHandle) {
        if let Some(half_open) = self.waiting.remove(&handle) {
            let connection = Box::new(half_open.into_connection());
            let hello = HelloNames::of(&connection);
            // Its client was not heard again, so that it is where it was.
            let network = Some(Prefix::of(&connection.route()));
            self.connections.insert(
                handle,
                Slot { hello, is_unproved: true, network, ..Slot::new(connection) },
            );
        }
    }
}
