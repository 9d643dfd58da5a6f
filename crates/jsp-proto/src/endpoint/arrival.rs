//! What has arrived: who it is for, and who has to wait.

use bytes::BytesMut;
use jsp_wire::{Header, Instant, LongType, Route, limits};

use super::hello::Stranger;
use super::{ConnectionHandle, Endpoint, Slot};
use crate::batch::Ecn;

/// A datagram that has arrived.
#[derive(Clone, Debug)]
pub struct Datagram {
    /// How it came.
    pub route: Route,
    /// Its mark.
    pub ecn: Option<Ecn>,
    /// Its bytes; opened in place.
    pub payload: BytesMut,
}

/// A datagram that has to wait for those of connections: see [`Endpoint::handle_or_defer`].
#[derive(Debug)]
pub struct Deferred(Datagram);

impl Endpoint {
    /// Takes a datagram: opened in place, its data is handed up without a copy.
    pub fn handle_datagram(&mut self, now: Instant, datagram: Datagram) {
        let Datagram { route, ecn, payload } = datagram;
        if let Some(payload) = self.unwrap(now, payload) {
            self.hand_on(now, Datagram { route, ecn, payload });
        }
    }

    /// As [`Endpoint::handle_datagram`], but gives back what is not of a connection whose client has proved itself:
    /// hellos, early data, and whatever belongs to nobody. It may wait until datagrams of connections are done with,
    /// for [`Endpoint::handle_deferred`], and where too many wait, it may be dropped.
    // spec: CON-80
    pub fn handle_or_defer(&mut self, now: Instant, datagram: Datagram) -> Option<Deferred> {
        let Datagram { route, ecn, payload } = datagram;
        // What does not unwrap does not wait, either.
        let payload = self.unwrap(now, payload)?;
        let owner = self.owner_of(&route, &payload);
        let datagram = Datagram { route, ecn, payload };
        match owner {
            Some(owner) if !(is_first(&datagram.payload) && self.is_unproved(owner)) => {
                self.give(now, owner, datagram);
                None
            }
            _ => Some(Deferred(datagram)),
        }
    }

    /// Takes a datagram that had to wait.
    pub fn handle_deferred(&mut self, now: Instant, deferred: Deferred) {
        self.hand_on(now, deferred.0);
    }

    fn hand_on(&mut self, now: Instant, datagram: Datagram) {
        match self.owner_of(&datagram.route, &datagram.payload) {
            Some(owner) => self.give(now, owner, datagram),
            None => self.handle_stray(now, datagram.route, datagram.payload),
        }
    }

    fn give(&mut self, now: Instant, owner: ConnectionHandle, datagram: Datagram) {
        let Datagram { route, ecn, payload } = datagram;
        self.take_up(owner);
        if let Some(slot) = self.connections.get_mut(&owner) {
            slot.connection.handle_datagram(now, route, ecn, payload);
            slot.note_proof(&mut self.half_open);
            self.schedule.touch(owner);
        }
    }

    /// True for a connection whose client has not proved that it is there.
    fn is_unproved(&self, handle: ConnectionHandle) -> bool {
        let is_unproved = |slot: &Slot| slot.is_unproved;
        self.is_half_open(handle) || self.connections.get(&handle).is_some_and(is_unproved)
    }

    /// A datagram that no connection knows: a new client, a lost peer, or noise.
    fn handle_stray(&mut self, now: Instant, route: Route, mut payload: BytesMut) {
        match Header::parse(&payload) {
            Ok(Header::Long(header)) if header.kind == LongType::Initial => {
                let stranger = Stranger { route, dcid: header.dcid, scid: header.scid };
                let token = header.token.to_vec();
                self.handle_hello(now, stranger, &token, &mut payload);
            }
            Ok(Header::OtherVersion { dcid, scid, .. })
                if self.answers_versions() && payload.len() >= limits::MTU_BASE =>
            {
                // spec: WIRE-39
                self.answer_version_negotiation(route, scid, dcid);
            }
            Ok(Header::Short) if !self.is_silent() => self.answer_reset(now, route, &payload),
            _ => {}
        }
    }

    fn answers_versions(&self) -> bool {
        self.accepting && self.config.server.as_ref().is_some_and(|setup| !setup.silent)
    }
}

/// True for what a client may send before it has heard of an id of ours: its hello and early data.
fn is_first(datagram: &[u8]) -> bool {
    matches!(Header::parse(datagram), Ok(Header::Long(header)) if header.kind != LongType::Handshake)
}
