//! The server's process: an endpoint, and the sessions of its clients.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use jsp_app::session::{Arrival, CHANNEL_LABEL, CONTROL_LABEL, Client, Registry, Session, Side};
use jsp_crypto::Fingerprint;
use jsp_proto::{
    Batch, ConnectionHandle, Datagram, Endpoint, EndpointConfig, Event, NetworkHint, RetryPolicy,
};
use jsp_wire::{Instant, Route, StreamId};

use super::bearer::Bearer;
use super::call;
use super::disk::Disk;
use super::net::{Net, SERVER};
use super::plan::{GRACE, Plan, Whereabouts};
use super::story::Story;
use crate::link;
use crate::node::{UNIX_SECONDS_AT_ZERO, setup};
use crate::random::Random;
use crate::topology::SERVER_OTHER;

/// A stream that no connection uses is closed after so long.
const UNUSED_MAX: Duration = Duration::from_secs(10);
/// How long a client may take to greet.
const GREETING: Duration = Duration::from_secs(10);

/// A connection of a client.
struct Attendance {
    /// Until the greeting has come.
    control: Option<StreamId>,
    greet_by: Instant,
    bearer: Option<Bearer>,
    /// Streams that wait until the session is known.
    early: Vec<StreamId>,
    calls: Vec<StreamId>,
}

pub(super) struct Server {
    endpoint: Endpoint,
    batch: Batch,
    attended: BTreeMap<ConnectionHandle, Attendance>,
    registry: Registry<()>,
    pub(super) session: Option<Session>,
    /// The connection that the session runs on.
    current: Option<ConnectionHandle>,
    /// Streams, and since when no connection uses them.
    streams: BTreeMap<u64, Option<Instant>>,
    random: Random,
    store_lag: Duration,
    whereabouts: Whereabouts,
    /// Messages of calls that were heard.
    pub(super) heard: u64,
    pub(super) broken: Vec<String>,
}

/// The server of a world, as its clients know it.
pub(super) fn fingerprint(plan: &Plan) -> Fingerprint {
    let mut random = Random::part(plan.seed, "roaming server", 0);
    setup(&mut random, RetryPolicy::Never).crypto.fingerprint()
}

impl Server {
    /// A process that starts, and goes on with what the disk has.
    pub(super) fn new(plan: &Plan, life: u64, now: Instant, disk: &mut Disk) -> Self {
        let mut identity = Random::part(plan.seed, "roaming server", 0);
        let mut random = Random::part(plan.seed, "roaming server's life", life);
        let endpoint = Endpoint::new(EndpointConfig {
            server: Some(setup(&mut identity, RetryPolicy::Never)),
            transport: Arc::new(plan.server.clone()),
            seed: random.seed_bytes(),
            unix_seconds_at_zero: UNIX_SECONDS_AT_ZERO,
        });
        let mut registry = Registry::new(8, GRACE);
        let is_known = registry.adopt(now.since(Instant::ZERO), &disk.saved, ());
        if !is_known {
            // Nobody was told of it.
            *disk = Disk::default();
        }
        let saved = disk.saved.clone();
        let session = is_known.then(|| Session::restore(Side::Server, plan.limits, saved));
        Self {
            endpoint,
            batch: Batch::new(0, 64),
            attended: BTreeMap::new(),
            registry,
            session,
            store_lag: plan.store_lag,
            whereabouts: plan.whereabouts.clone(),
            current: None,
            streams: BTreeMap::new(),
            random,
            heard: 0,
            broken: Vec::new(),
        }
    }

    pub(super) fn receive(&mut self, now: Instant, datagram: link::Datagram) {
        let local = self.whereabouts.preferred.is_some().then(|| datagram.to.ip());
        let route = Route::Udp { local, remote: datagram.from };
        let (ecn, payload) = (datagram.ecn, datagram.payload);
        self.endpoint.handle_datagram(now, Datagram { route, ecn, payload });
    }

    /// The system tells that the server's own address is another.
    pub(super) fn hint(&mut self, now: Instant) {
        for handle in self.attended.keys() {
            let Some(connection) = self.endpoint.connection(*handle) else { continue };
            let paths: Vec<_> = connection.paths().map(|path| (path.id, path.route)).collect();
            for (path, route) in paths {
                let Route::Udp { local, .. } = route else { continue };
                // What it prefers stays.
                if local != Some((*SERVER_OTHER.ip()).into()) {
                    connection.release_local(path);
                    // The path is there.
                    let _ = connection.hint_path(now, path, NetworkHint::InterfaceUp);
                }
            }
        }
    }

    pub(super) fn on_opened(&mut self, now: Instant, id: u64, net: &Net) {
        self.streams.insert(id, Some(now));
        self.endpoint.carrier_has_room(id, net.room(id, SERVER));
    }

    pub(super) fn on_came(&mut self, now: Instant, id: u64, payload: BytesMut) {
        let route = Route::Tunnel { id };
        self.endpoint.handle_datagram(now, Datagram { route, ecn: None, payload });
    }

    pub(super) fn on_room(&mut self, id: u64, net: &Net) {
        self.endpoint.carrier_has_room(id, net.room(id, SERVER));
    }

    pub(super) fn on_closed(&mut self, id: u64) {
        self.streams.remove(&id);
        self.endpoint.carrier_closed(id);
    }

    pub(super) fn wake(&mut self, now: Instant, story: &Story, disk: &Disk) -> Option<Instant> {
        let transport = self.endpoint.poll_timeout().map(|(at, _)| at);
        let unused = self.streams.values().flatten().map(|since| *since + UNUSED_MAX).min();
        let told = story.wake(now, Side::Server).filter(|_| self.session.is_some());
        let greets = self.attended.values().filter(|known| known.bearer.is_none());
        let greets = greets.map(|known| known.greet_by).min();
        let late = self.current.and_then(|handle| self.attended.get(&handle)?.bearer.as_ref());
        let late = late.zip(self.session.as_ref()).and_then(|(bearer, s)| bearer.wake(s));
        let expiry = self.registry.next_expiry().map(|at| Instant::ZERO + at);
        [transport, unused, told, greets, late, expiry, disk.wake()].into_iter().flatten().min()
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if self.endpoint.poll_timeout().is_some_and(|(at, _)| at <= now) {
            self.endpoint.handle_timeout(now);
        }
    }

    /// Does everything that can be done now.
    pub(super) fn pump(&mut self, now: Instant, story: &mut Story, disk: &mut Disk, net: &mut Net) {
        for _ in 0..ROUNDS_MAX {
            let steps = story.steps;
            self.on_events(now);
            self.attend_all(now, story, disk);
            self.run_session(now);
            if let Some(session) = &mut self.session {
                story.run(now, Side::Server, session);
                disk.store(now, self.store_lag, session);
            }
            // What was read makes room, and what was said is to leave.
            self.run_session(now);
            self.part_with_streams(now, net);
            let expired = self.registry.expire(now.since(Instant::ZERO));
            if !expired.is_empty()
                && let Some(session) = &mut self.session
            {
                session.forget();
            }
            if !self.transmit(now, net) && story.steps == steps {
                return;
            }
        }
        self.broken.push("the server never rests".to_owned());
    }

    fn on_events(&mut self, now: Instant) {
        while let Some((handle, event)) = self.endpoint.poll_event() {
            match event {
                Event::Connected => {
                    let attendance = Attendance {
                        control: None,
                        greet_by: now + GREETING,
                        bearer: None,
                        early: Vec::new(),
                        calls: Vec::new(),
                    };
                    self.attended.insert(handle, attendance);
                }
                Event::Closed { .. } => self.on_lost(now, handle),
                Event::Drained => self.endpoint.forget(now, handle),
                _ => {}
            }
        }
    }

    fn on_lost(&mut self, now: Instant, handle: ConnectionHandle) {
        self.attended.remove(&handle);
        if self.current == Some(handle) {
            self.current = None;
            if let Some(session) = &mut self.session {
                session.detach();
                self.registry.park(now.since(Instant::ZERO), &session.id());
            }
        }
    }

    /// Takes the streams of all connections, and greetings.
    fn attend_all(&mut self, now: Instant, story: &mut Story, disk: &mut Disk) {
        let handles: Vec<_> = self.attended.keys().copied().collect();
        for handle in handles {
            let Some(connection) = self.endpoint.connection(handle) else { continue };
            let Some(attendance) = self.attended.get_mut(&handle) else { continue };
            if attendance.bearer.is_none() && now >= attendance.greet_by {
                connection.close(now, 2, b"a session begins with a greeting");
                continue;
            }
            while let Some(stream) = connection.accept() {
                match connection.stream_info(stream).map(|info| info.label) {
                    Some(label) if label == CONTROL_LABEL => attendance.control = Some(stream),
                    Some(label) if label == CHANNEL_LABEL => attendance.early.push(stream),
                    Some(label) if label == call::LABEL => attendance.calls.push(stream),
                    _ => self.broken.push("a stream that nobody knows".to_owned()),
                }
            }
            for stream in &attendance.calls {
                while let Ok(Some(_)) = connection.recv(now, *stream) {
                    self.heard += 1;
                }
            }
            if let Some(bearer) = &mut attendance.bearer {
                attendance.early.drain(..).for_each(|stream| bearer.take(stream));
                continue;
            }
            let Some(control) = attendance.control else { continue };
            if let Ok(Some(record)) = connection.recv(now, control) {
                self.greet(now, handle, control, &record.payload, (story, disk));
            }
        }
    }

    fn greet(
        &mut self,
        now: Instant,
        handle: ConnectionHandle,
        control: StreamId,
        record: &Bytes,
        (story, disk): (&mut Story, &mut Disk),
    ) {
        let Some(connection) = self.endpoint.connection(handle) else { return };
        let fresh = self.random.seed_bytes();
        let grant = match self.registry.greet(record, Client::default(), fresh) {
            Ok(Arrival::New(grant)) => {
                // A client that died before it had stored a grant begins anew.
                if let Some(before) = &self.session {
                    self.registry.remove(&before.id());
                }
                story.server_began_anew();
                *disk = Disk::default();
                self.session = Some(Session::server(story.limits, true));
                self.registry.insert(&grant, Client::default(), ());
                grant
            }
            Ok(Arrival::Back((), grant)) => grant,
            Ok(Arrival::Unknown(_) | Arrival::Full) => {
                self.broken.push("a session was forgotten before its time".to_owned());
                return connection.close(now, 2, b"unknown");
            }
            Err(error) => {
                self.broken.push(error.to_string());
                return connection.close(now, 1, b"broken");
            }
        };
        if let Some(attendance) = self.attended.get_mut(&handle) {
            attendance.bearer = Some(Bearer::on(control));
        }
        let before = self.current.replace(handle).filter(|before| *before != handle);
        if let Some(before) = before
            && let Some(connection) = self.endpoint.connection(before)
        {
            connection.close(now, 0, b"the session goes on over another connection");
        }
        let granted = self.session.as_mut().map(|session| session.grant(&grant));
        if let Some(Err(error)) = granted {
            self.broken.push(format!("at the server: {error}"));
        }
    }

    fn run_session(&mut self, now: Instant) {
        let Some((handle, session)) = self.current.zip(self.session.as_mut()) else { return };
        let Some(connection) = self.endpoint.connection(handle) else { return };
        let Some(attendance) = self.attended.get_mut(&handle) else { return };
        if connection.is_closed() {
            return;
        }
        let Some(bearer) = &mut attendance.bearer else { return };
        if let Err(error) = bearer.pump(now, connection, session) {
            self.broken.push(format!("at the server: {error}"));
            connection.close(now, 1, b"broken");
        }
        if session.poll_kept() {
            self.registry.on_kept(&session.id());
        }
        while session.poll_event().is_some() {}
    }

    /// Closes streams that no connection uses.
    fn part_with_streams(&mut self, now: Instant, net: &mut Net) {
        let mut used = Vec::new();
        for handle in self.attended.keys() {
            let Some(connection) = self.endpoint.connection(*handle) else { continue };
            used.extend(connection.paths().map(|path| path.route));
        }
        for (id, unused) in &mut self.streams {
            match used.contains(&Route::Tunnel { id: *id }) {
                true => *unused = None,
                false => *unused = Some(unused.unwrap_or(now)),
            }
        }
        let is_over = |unused: &Option<Instant>| unused.is_some_and(|at| now >= at + UNUSED_MAX);
        let over: Vec<u64> =
            self.streams.iter().filter(|(_, since)| is_over(since)).map(|(id, _)| *id).collect();
        for id in over {
            net.close(now, id, SERVER);
            self.on_closed(id);
        }
    }

    fn transmit(&mut self, now: Instant, net: &mut Net) -> bool {
        let mut any = false;
        while self.endpoint.poll_transmit(now, &mut self.batch) {
            any = true;
            let Some(route) = self.batch.route() else { continue };
            for payload in self.batch.contents().chunks(self.batch.segment_len().max(1)) {
                let payload = BytesMut::from(payload);
                match (route, route.remote()) {
                    (Route::Tunnel { id }, _) => net.write(now, id, SERVER, payload),
                    (Route::Udp { local, .. }, Some(to)) => {
                        let ecn = self.batch.ecn();
                        let here = self.whereabouts.address(now);
                        let from = local.map_or(here, |ip| (ip, here.port()).into());
                        net.send(now, SERVER, datagram(from, to, ecn, payload, now));
                    }
                    _ => {}
                }
            }
            self.batch.clear();
        }
        any
    }

    /// What it is at, for people.
    pub(super) fn story(&mut self) -> String {
        let connection = self.current.and_then(|handle| self.endpoint.connection(handle));
        let told = connection.map(|connection| {
            let paths: Vec<_> = connection.paths().collect();
            (paths, connection.is_closed(), connection.stats())
        });
        format!("{told:?}")
    }

    /// Connections that it has state of.
    pub(super) fn connections(&self) -> usize {
        self.endpoint.connection_count()
    }

    /// Bytes of application data in the buffers of the present connection.
    pub(super) fn buffered(&mut self) -> u64 {
        let connection = self.current.and_then(|handle| self.endpoint.connection(handle));
        connection.map_or(0, |connection| connection.stats().buffered)
    }

    /// Nothing is left to do.
    pub(super) fn is_at_rest(&mut self) -> bool {
        self.endpoint.is_at_rest()
    }
}

/// Rounds in one instant; more is a loop without progress.
pub(super) const ROUNDS_MAX: usize = 5_000;

/// A datagram for the links.
pub(super) fn datagram(
    from: SocketAddr,
    to: SocketAddr,
    ecn: Option<jsp_proto::Ecn>,
    payload: BytesMut,
    now: Instant,
) -> link::Datagram {
    let beyond = Duration::ZERO;
    link::Datagram { from, to, ecn, payload, sent: now, beyond, intact: true }
}
