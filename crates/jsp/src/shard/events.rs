//! What the transport tells, turned into woken tasks and remembered state.

use std::sync::Arc;

use jsp_proto::{ConnectionHandle, Event, RecvError};
use jsp_wire::{Instant, Route, StreamId};

use super::{ConnectionState, Core, Key, LastWords, Phase, Rest, SendEnd, StreamState};
use crate::carrier::table::News;
use crate::error::ConnectionError;
use crate::security::Security;

impl Core {
    /// Takes what a carrier tells.
    // spec: CAR-1
    pub(super) fn hear(&mut self, now: Instant, news: News) {
        match news {
            News::Arrived(datagram) => self.endpoint.handle_datagram(now, datagram),
            News::Drained(id) => self.endpoint.carrier_has_room(id, self.tunnels.room(id)),
            News::Closed(id) => {
                self.endpoint.carrier_closed(id);
                if !self.hears_carriers {
                    return;
                }
                let route = self.tunnels.forget(id);
                if let Some((key, route)) = self.by_carrier.remove(&id).zip(route) {
                    self.on_carrier_closed(key, route, now);
                }
            }
        }
    }

    /// A carrier that this side had opened is gone.
    fn on_carrier_closed(&mut self, key: Key, route: Route, now: Instant) {
        let Some(state) = self.connections.get_mut(&key) else { return };
        state.carriers.retain(|held| held.route != route);
        state.path_waiters.wake(&mut self.wakes);
        if state.route == route && matches!(state.phase, Phase::Handshake) {
            self.end_connection(key, ConnectionError::CarrierClosed, now);
        }
    }

    /// Handles all events that wait.
    pub(super) fn dispatch_events(&mut self, now: Instant) {
        // Events of a connection come in rows; its key is never another's.
        let mut latest: Option<(ConnectionHandle, Key)> = None;
        while let Some((handle, event)) = self.endpoint.poll_event() {
            let known = latest.filter(|(of, _)| *of == handle).map(|(_, key)| key);
            match known.or_else(|| self.by_handle.get(&handle).copied()) {
                Some(key) => {
                    latest = Some((handle, key));
                    self.dispatch(key, handle, event, now);
                }
                None => match event {
                    Event::Connected => self.take_incoming(handle, now),
                    // A handshake that failed, or a connection that is forgotten already.
                    Event::Closed { .. } => self.endpoint.forget(now, handle),
                    _ => {}
                },
            }
        }
        if self.closed {
            self.draining.wake(&mut self.wakes);
        }
    }

    fn take_incoming(&mut self, handle: ConnectionHandle, now: Instant) {
        let Some(connection) = self.endpoint.connection(handle) else { return };
        let refusal: Option<&[u8]> = if self.closed {
            Some(b"the endpoint is closed")
        } else if !self.tunnels.admit(&connection.route()) {
            Some(b"the server has as many connections by streams as it takes")
        } else {
            None
        };
        if let Some(reason) = refusal {
            connection.close(now, 0, reason);
            return self.endpoint.forget(now, handle);
        }
        let mut state = ConnectionState::new(handle, Phase::Open, connection.route());
        state.security = Security::of(connection).map(Arc::new);
        state.note_carrier(&connection.route());
        state.is_incoming = true;
        let key = self.insert(handle, state);
        if let Some(followed) = &mut self.followed {
            followed.add(key);
        }
        self.add_incoming(key);
    }

    fn dispatch(&mut self, key: Key, handle: ConnectionHandle, event: Event, now: Instant) {
        match event {
            Event::Closed { reason } => return self.on_closed(key, reason.into(), now),
            Event::Connected | Event::HandshakeConfirmed => return self.on_connected(key, handle),
            Event::TicketReceived => return self.keep_tickets(key, handle),
            Event::PathChanged { .. } | Event::PathOpened { .. } | Event::PathClosed { .. } => {
                return self.on_path(key, handle, &event);
            }
            _ => {}
        }
        let Some(state) = self.connections.get_mut(&key) else { return };
        let (wakes, mut is_delivered) = (&mut self.wakes, false);
        match event {
            Event::StreamOpened { .. } => state.accepting.wake(wakes),
            Event::Readable { stream } => {
                if let Some(stream) = state.streams.get_mut(&stream) {
                    stream.readable.wake(wakes);
                }
            }
            Event::Writable { stream } => {
                if let Some(stream) = state.streams.get_mut(&stream) {
                    stream.writable.wake(wakes);
                }
            }
            Event::StreamsAvailable => state.opening.wake(wakes),
            Event::Fate { stream, number, fate } => {
                state.set_fate((stream, number), fate, wakes);
                is_delivered = state.is_delivered();
            }
            Event::SendStopped { stream, code } => {
                // It may come before the application has accepted the stream.
                let stopped = || StreamState { end: SendEnd::Stopped(code), ..Default::default() };
                state.streams.entry(stream).or_insert_with(stopped);
                state.end_sending(stream, SendEnd::Stopped(code), wakes);
                is_delivered = state.is_delivered();
            }
            Event::SendFinished { stream } => {
                state.end_sending(stream, SendEnd::Finished, wakes);
                is_delivered = state.is_delivered();
            }
            Event::Consumed { stream, below } => {
                if let Some(stream) = state.streams.get_mut(&stream) {
                    stream.consumed_below = stream.consumed_below.max(below);
                    stream.ended.wake(wakes);
                }
            }
            Event::StreamForgotten { stream } => state.wake_ended(stream, wakes),
            Event::PathSilent => state.path_waiters.wake(wakes),
            Event::CapacityChanged(capacity) => {
                state.capacity.changes += 1;
                **state.capacity.latest.get_or_insert_default() = capacity;
                state.capacity_waiters.wake(wakes);
            }
            Event::PathsAvailable => state.paths.wake(wakes),
            Event::Alarm(_)
            | Event::Connected
            | Event::HandshakeConfirmed
            | Event::TicketReceived
            | Event::PathChanged { .. }
            | Event::PathOpened { .. }
            | Event::PathClosed { .. }
            | Event::Closed { .. }
            | Event::Drained => {}
        }
        if is_delivered {
            self.close_if_delivered(key, now);
        }
    }

    /// A path has begun, has ended or goes another way.
    fn on_path(&mut self, key: Key, handle: ConnectionHandle, event: &Event) {
        if let Some(followed) = &mut self.followed {
            followed.on_path(key);
        }
        let Some(state) = self.connections.get_mut(&key) else { return };
        let Some(connection) = self.endpoint.connection(handle) else { return };
        state.route = connection.route();
        state.paths.wake(&mut self.wakes);
        state.path_waiters.wake(&mut self.wakes);
        match event {
            Event::PathChanged { route, .. } => {
                self.tunnels.admit(route);
                state.note_carrier(route);
            }
            Event::PathClosed { path, .. } => {
                state.sockets.retain(|(used_by, _)| used_by != path);
            }
            _ => {}
        }
        state.used_carriers.retain(|id| {
            let carrier = Route::Tunnel { id: *id };
            let is_used = connection.paths().any(|path| path.route == carrier);
            if !is_used {
                self.tunnels.leave(&carrier);
            }
            is_used
        });
    }

    fn on_connected(&mut self, key: Key, handle: ConnectionHandle) {
        let connection = self.endpoint.connection(handle);
        let is_confirmed = connection.as_ref().is_some_and(|connection| connection.is_confirmed());
        let security = connection.and_then(|c| Security::of(c)).map(Arc::new);
        let Some(state) = self.connections.get_mut(&key) else { return };
        state.security = security;
        if matches!(state.phase, Phase::Handshake) {
            state.phase = Phase::Open;
            state.path_waiters.wake(&mut self.wakes);
            if let Some(followed) = &mut self.followed {
                followed.add(key);
            }
        }
        if is_confirmed {
            state.connected.wake_for_good(&mut self.wakes);
        } else {
            // Some wait until it is.
            state.connected.wake(&mut self.wakes);
        }
    }

    /// Hands the tickets that have come to the store; without one nobody needs them.
    fn keep_tickets(&mut self, key: Key, handle: ConnectionHandle) {
        let kept = self.connections.get(&key).and_then(|state| state.tickets.as_ref());
        let Some(connection) = self.endpoint.connection(handle) else { return };
        while let Some(ticket) = connection.take_ticket() {
            if let Some((store, server)) = kept {
                store.put(server, ticket);
            }
        }
    }

    fn on_closed(&mut self, key: Key, error: ConnectionError, now: Instant) {
        self.salvage(key, now);
        self.end_connection(key, error, now);
    }

    /// Takes over what has arrived and is not yet read: the transport forgets a closed connection
    /// long before a slow reader is through.
    pub(super) fn salvage(&mut self, key: Key, now: Instant) {
        let Some(state) = self.connections.get_mut(&key) else { return };
        if state.orphan || state.error().is_some() {
            return;
        }
        let Some(connection) = state.handle.and_then(|handle| self.endpoint.connection(handle))
        else {
            return;
        };
        let (stats, memory) = (connection.stats(), connection.path_memory());
        state.last = Some(Box::new(LastWords { stats, memory, qlog: connection.take_qlog() }));
        state.security = Security::of(connection).map(Arc::new);
        while let Some(id) = connection.accept() {
            if let Some(info) = connection.stream_info(id) {
                state.unaccepted.push_back((id, info));
                // It may be known already: by what the peer has said of the half that sends.
                state.streams.entry(id).or_default().recv_held = true;
            }
        }
        state.streams.entry(StreamId::SIGNALLING).or_default().recv_held = true;
        for (id, stream) in state.streams.iter_mut().filter(|(_, stream)| stream.recv_held) {
            loop {
                match connection.recv(now, *id) {
                    Ok(Some(message)) => stream.rest.push_back(Rest::Message(message)),
                    Ok(None) => break,
                    Err(RecvError::WrongFraming) => {
                        salvage_bytes(connection, now, *id, stream);
                        break;
                    }
                    Err(error) => {
                        stream.rest.push_back(Rest::End(reset_code(error)));
                        break;
                    }
                }
            }
        }
    }
}

fn salvage_bytes(
    connection: &mut jsp_proto::Connection,
    now: Instant,
    id: StreamId,
    stream: &mut StreamState,
) {
    loop {
        match connection.read(now, id, usize::MAX) {
            Ok(Some(bytes)) => stream.rest.push_back(Rest::Bytes(bytes)),
            Ok(None) => return,
            Err(error) => {
                stream.rest.push_back(Rest::End(reset_code(error)));
                return;
            }
        }
    }
}

fn reset_code(error: RecvError) -> Option<u64> {
    match error {
        RecvError::Reset(code) => Some(code),
        RecvError::Closed | RecvError::WrongFraming => None,
    }
}
