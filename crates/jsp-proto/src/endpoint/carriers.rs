//! How much each reliable carrier takes at once: its driver tells, and those that wait are looked at
//! again.

use std::collections::HashMap;

use jsp_wire::Route;

use super::{ConnectionHandle, Endpoint};
use crate::batch::Batch;

/// The carriers that the driver has told of, by their numbers.
#[derive(Default)]
pub(super) struct Carriers {
    by_id: HashMap<u64, Carrier>,
}

#[derive(Default)]
struct Carrier {
    /// Bytes that it takes at once.
    room: usize,
    /// Connections that have asked since it last told: almost always one.
    users: Vec<ConnectionHandle>,
}

impl Carriers {
    /// What `user` may send by this route now: nothing by a carrier that is not known, or not any
    /// more.
    pub(super) fn room(&mut self, route: &Route, user: ConnectionHandle) -> usize {
        let Route::Tunnel { id } = route else { return 0 };
        let Some(carrier) = self.by_id.get_mut(id) else { return 0 };
        if !carrier.users.contains(&user) {
            carrier.users.push(user);
        }
        carrier.room
    }

    /// The batch leaves.
    pub(super) fn on_sent(&mut self, batch: &Batch) {
        if let Some(Route::Tunnel { id }) = batch.route()
            && let Some(carrier) = self.by_id.get_mut(&id)
        {
            carrier.room = carrier.room.saturating_sub(batch.contents().len());
        }
    }
}

impl Endpoint {
    /// The carrier behind [`Route::Tunnel`] number `id` takes `room` bytes now. To be told when it
    /// is opened, before datagrams that came through it, and whenever it has passed some on. Through
    /// a carrier that nothing was told of, nothing is sent.
    pub fn carrier_has_room(&mut self, id: u64, room: usize) {
        let carrier = self.carriers.by_id.entry(id).or_default();
        carrier.room = room;
        for user in carrier.users.drain(..) {
            self.schedule.touch(user);
        }
    }

    /// The carrier is gone. Connections that used it wait for another way to their peer.
    pub fn carrier_closed(&mut self, id: u64) {
        self.carriers.by_id.remove(&id);
    }
}
