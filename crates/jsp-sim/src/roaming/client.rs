//! The client's process: it connects by what passes first, keeps connected, and moves between ways.

mod ways;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use jsp_app::session::{Session, Side};
use jsp_crypto::Fingerprint;
use jsp_nat::switch::Switch;
use jsp_proto::{
    Batch, Connection, ConnectionHandle, Datagram, Endpoint, EndpointConfig, Event, NetworkHint,
};
use jsp_wire::{Instant, Route};

use super::bearer::Bearer;
use super::call::Call;
use super::disk::Disk;
use super::net::{CLIENT, Net};
use super::plan::Plan;
use super::server::ROUNDS_MAX;
use super::story::Story;
use crate::link;
use crate::node::{UNIX_SECONDS_AT_ZERO, client_crypto};
use crate::random::Random;
use crate::topology::second_address;

/// Time between attempts by different ways (RFC 8305, section 5).
const STAGGER: Duration = Duration::from_millis(250);
/// Pauses between attempts to connect: the first, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// A connection that has carried the session for so long is followed by the next without a pause.
const STEADY: Duration = Duration::from_secs(1);
/// How long the server may take to answer the greeting.
const GREETING: Duration = Duration::from_secs(10);
/// How long a stream stays open that is not used any more, for last words.
const LINGER: Duration = Duration::from_secs(1);

/// Attempts to reach the server.
#[derive(Default)]
struct Race {
    attempts: Vec<ConnectionHandle>,
    /// When a stream is to be tried besides; how many were.
    stream_at: Option<Instant>,
    streams: usize,
    dialing: Option<u64>,
}

/// The connection that is there.
struct Live {
    handle: ConnectionHandle,
    /// Where the server was found.
    server_at: SocketAddr,
    /// Where datagrams went last.
    leads_to: SocketAddr,
    since: Instant,
    bearer: Bearer,
    call: Option<Call>,
    switch: Switch,
    has_run: bool,
}

pub(super) struct Client {
    endpoint: Endpoint,
    batch: Batch,
    server: Fingerprint,
    plan: Plan,
    pub(super) session: Session,
    race: Option<Race>,
    live: Option<Live>,
    /// A stream that the switch has asked for.
    dialing: Option<u64>,
    /// Streams that are open, and when those go that are not needed any more.
    streams: Vec<(u64, Option<Instant>)>,
    retry_at: Instant,
    pause: Duration,
    opens_second: bool,
    /// Calls of connections that are over but not gone, with their fates to come.
    ending: Vec<(ConnectionHandle, Call)>,
    pub(super) broken: Vec<String>,
    /// It is to do nothing more.
    pub(super) is_leaving: bool,
    /// Times at which the connection changed between datagrams and streams: true for streams.
    pub(super) switches: Vec<(Instant, bool)>,
    /// How often a path went to another address of the server.
    pub(super) led: u64,
    /// When the session ran, each time.
    pub(super) ran: Vec<Instant>,
    /// Bytes of messages that were given to connections.
    pub(super) said: u64,
}

impl Client {
    pub(super) fn new(
        plan: &Plan,
        life: u64,
        now: Instant,
        server: Fingerprint,
        disk: &Disk,
    ) -> Self {
        let mut random = Random::part(plan.seed, "roaming client's life", life);
        let endpoint = Endpoint::new(EndpointConfig {
            server: None,
            transport: Arc::new(plan.client.clone()),
            seed: random.seed_bytes(),
            unix_seconds_at_zero: UNIX_SECONDS_AT_ZERO,
        });
        Self {
            endpoint,
            batch: Batch::new(0, 64),
            server,
            plan: plan.clone(),
            session: Session::restore(Side::Client, plan.limits, disk.saved.clone()),
            race: None,
            live: None,
            dialing: None,
            streams: Vec::new(),
            retry_at: now,
            pause: PAUSES.0,
            opens_second: false,
            ending: Vec::new(),
            broken: Vec::new(),
            is_leaving: false,
            switches: Vec::new(),
            led: 0,
            ran: Vec::new(),
            said: 0,
        }
    }

    pub(super) fn receive(&mut self, now: Instant, datagram: link::Datagram) {
        let local = self.plan.second.is_some().then(|| datagram.to.ip());
        let route = Route::Udp { local, remote: datagram.from };
        let (ecn, payload) = (datagram.ecn, datagram.payload);
        self.endpoint.handle_datagram(now, Datagram { route, ecn, payload });
    }

    pub(super) fn on_came(&mut self, now: Instant, id: u64, payload: BytesMut) {
        let route = Route::Tunnel { id };
        self.endpoint.handle_datagram(now, Datagram { route, ecn: None, payload });
    }

    pub(super) fn on_room(&mut self, id: u64, net: &Net) {
        self.endpoint.carrier_has_room(id, net.room(id, CLIENT));
    }

    /// A stream is open that was asked for, by somebody who may be gone.
    pub(super) fn on_opened(&mut self, now: Instant, id: u64, net: &mut Net) {
        self.streams.push((id, None));
        self.endpoint.carrier_has_room(id, net.room(id, CLIENT));
        let route = Route::Tunnel { id };
        if let Some(race) = self.race.as_mut().filter(|race| race.dialing == Some(id)) {
            race.dialing = None;
            self.attempt(now, route);
        } else if self.dialing == Some(id) {
            self.dialing = None;
            if let Some(live) = &mut self.live {
                live.switch.on_opened(Some(route));
            }
        }
    }

    pub(super) fn on_refused(&mut self, now: Instant, id: u64) {
        if let Some(race) = self.race.as_mut().filter(|race| race.dialing == Some(id)) {
            race.dialing = None;
            race.stream_at = Some(now);
        } else if self.dialing == Some(id) {
            self.dialing = None;
            if let Some(live) = &mut self.live {
                live.switch.on_opened(None);
            }
        }
    }

    pub(super) fn on_closed(&mut self, now: Instant, id: u64) {
        self.streams.retain(|(known, _)| *known != id);
        self.endpoint.carrier_closed(id);
        // An attempt by that stream is over.
        let Some(race) = &mut self.race else { return };
        for handle in &race.attempts {
            if let Some(connection) = self.endpoint.connection(*handle)
                && connection.route() == (Route::Tunnel { id })
            {
                connection.close(now, 0, b"the stream has ended");
            }
        }
    }

    /// The system tells that the first interface has another address.
    pub(super) fn hint(&mut self, now: Instant) {
        if let Some(live) = &self.live
            && let Some(connection) = self.endpoint.connection(live.handle)
        {
            connection.hint(now, NetworkHint::InterfaceUp);
        }
    }

    /// A path over the second interface is to be there, or not any more.
    pub(super) fn use_second(&mut self, now: Instant, is_used: bool) {
        self.opens_second = is_used;
        let Some(live) = &self.live else { return };
        if is_used {
            return self.open_second(now);
        }
        let Some(connection) = self.endpoint.connection(live.handle) else { return };
        let local = Some(second_address(0).ip());
        let is_second = |route| matches!(route, Route::Udp { local: own, .. } if own == local);
        let path = connection.paths().find(|path| is_second(path.route)).map(|path| path.id);
        if let Some(path) = path {
            // The last path stays.
            let _ = connection.abandon_path(now, path);
        }
    }

    fn open_second(&mut self, now: Instant) {
        let (Some(live), Some(second)) = (&self.live, &self.plan.second) else { return };
        let connection = self.endpoint.connection(live.handle);
        let remote = connection.and_then(|connection| connection.route().remote());
        let remote = remote.unwrap_or(live.server_at);
        let route = Route::Udp { local: Some(second_address(0).ip()), remote };
        // Later, when paths are available, if not now.
        if let Ok(path) = self.endpoint.open_path(now, live.handle, route)
            && let Some(connection) = self.endpoint.connection(live.handle)
        {
            let _ = connection.set_path_use(path, second.usage);
        }
    }

    /// Leaves: everything is closed.
    pub(super) fn leave(&mut self, now: Instant) {
        self.is_leaving = true;
        let attempts = self.race.take().map(|race| race.attempts).unwrap_or_default();
        for handle in attempts.into_iter().chain(self.live.as_ref().map(|live| live.handle)) {
            if let Some(connection) = self.endpoint.connection(handle) {
                connection.close(now, 0, b"done");
            }
        }
    }

    pub(super) fn wake(&mut self, now: Instant, story: &Story, disk: &Disk) -> Option<Instant> {
        let transport = self.endpoint.poll_timeout().map(|(at, _)| at);
        let stored = disk.wake();
        let idle = self.live.is_none() && self.race.is_none() && !self.is_leaving;
        let retry = idle.then_some(self.retry_at);
        let stream = self.race.as_ref().and_then(|race| race.stream_at);
        let closing = self.streams.iter().filter_map(|(_, at)| *at).min();
        let live = self.live.as_ref().map(|live| {
            let call = live.call.as_ref().map(|call| call.next_at);
            let greeting = (!live.has_run).then_some(live.since + GREETING);
            let late = live.bearer.wake(&self.session);
            [call, greeting, late, live.switch.poll_timeout()].into_iter().flatten().min()
        });
        let told = story.wake(now, Side::Client);
        [transport, stored, retry, stream, closing, live.flatten(), told]
            .into_iter()
            .flatten()
            .min()
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
            self.connect(now, net);
            self.run_live(now);
            if !self.is_leaving {
                story.run(now, Side::Client, &mut self.session);
            }
            disk.store(now, self.plan.store_lag, &mut self.session);
            // What was read makes room, and what is stored may leave.
            self.run_live(now);
            disk.store(now, self.plan.store_lag, &mut self.session);
            self.switch(now, net);
            self.part_with_streams(now, net);
            if !self.transmit(now, net) && story.steps == steps {
                return;
            }
        }
        self.broken.push("the client never rests".to_owned());
    }

    fn on_events(&mut self, now: Instant) {
        while let Some((handle, event)) = self.endpoint.poll_event() {
            let is_live = self.live.as_ref().is_some_and(|live| live.handle == handle);
            match event {
                Event::Connected => self.on_connected(now, handle),
                Event::Closed { .. } if is_live => self.on_lost(now),
                Event::Closed { .. } => {
                    if let Some(race) = &mut self.race {
                        race.attempts.retain(|known| *known != handle);
                    }
                }
                Event::Drained => {
                    self.endpoint.forget(now, handle);
                    self.ending.retain(|(known, call)| {
                        if *known == handle && call.unfinished() > 0 {
                            let what = format!("{} messages had no fate", call.unfinished());
                            self.broken.push(what);
                        }
                        *known != handle
                    });
                }
                Event::Fate { stream, number, fate } => {
                    let ended = self.ending.iter_mut().find(|(known, _)| *known == handle);
                    let call = match ended {
                        Some((_, call)) => Some(call),
                        None => self.live.as_mut().and_then(|live| live.call.as_mut()),
                    };
                    if !call.is_none_or(|call| call.on_fate(stream, number, fate)) {
                        self.broken.push(format!("message {number} had a fate twice: {fate:?}"));
                    }
                }
                Event::PathsAvailable if is_live && self.opens_second => self.open_second(now),
                Event::PathChanged { route, .. } if is_live => {
                    let is_stream = route.is_reliable();
                    if let (Some(live), Route::Udp { remote, .. }) = (&mut self.live, route) {
                        self.led += u64::from(live.leads_to != remote);
                        live.leads_to = remote;
                    }
                    if self.switches.last().is_some_and(|(_, last)| *last) != is_stream {
                        self.switches.push((now, is_stream));
                    }
                }
                _ => {}
            }
        }
    }

    fn on_connected(&mut self, now: Instant, handle: ConnectionHandle) {
        let Some(race) = self.race.take_if(|race| race.attempts.contains(&handle)) else { return };
        for other in race.attempts.into_iter().filter(|other| *other != handle) {
            if let Some(connection) = self.endpoint.connection(other) {
                connection.close(now, 0, b"another way was faster");
            }
        }
        let Some(connection) = self.endpoint.connection(handle) else { return };
        let Some(bearer) = Bearer::open(now, connection) else { return };
        connection.watch_silence(now);
        let call = self.plan.call.and_then(|every| Call::begin(now, connection, every));
        if connection.route().is_reliable() {
            self.switches.push((now, true));
        }
        self.session.attach();
        let server_at = self.plan.whereabouts.address(now);
        let switch = Switch::new(self.plan.streams.carriers);
        let since = now;
        let leads_to = server_at;
        self.live =
            Some(Live { handle, server_at, leads_to, since, bearer, call, switch, has_run: false });
        if self.opens_second {
            self.open_second(now);
        }
    }

    fn on_lost(&mut self, now: Instant) {
        let Some(live) = self.live.take() else { return };
        self.ending.extend(live.call.map(|call| (live.handle, call)));
        self.session.detach();
        self.dialing = None;
        if live.has_run {
            self.pause = PAUSES.0;
            let is_steady = now.since(live.since) >= STEADY;
            self.retry_at = if is_steady { now } else { now + self.pause };
        } else {
            self.rest(now);
        }
    }

    fn rest(&mut self, now: Instant) {
        self.retry_at = now + self.pause;
        self.pause = PAUSES.1.min(self.pause * 2);
    }

    fn attempt(&mut self, now: Instant, route: Route) {
        let transport = Arc::new(self.plan.client.clone());
        let handle = self.endpoint.connect(now, route, client_crypto(self.server), transport);
        let handle = handle.expect("a fresh hello can be made");
        if let Some(race) = &mut self.race {
            race.attempts.push(handle);
        }
    }

    /// Begins a race, or goes on with one.
    fn connect(&mut self, now: Instant, net: &mut Net) {
        if self.live.is_none() && self.race.is_none() && !self.is_leaving && now >= self.retry_at {
            let stream_at = Some(now + STAGGER);
            self.race = Some(Race { stream_at, ..Race::default() });
            self.attempt(now, Route::udp(net.whereabouts.address(now)));
        }
        let Some(race) = &mut self.race else { return };
        if race.stream_at.is_some_and(|at| at <= now) {
            race.stream_at = None;
            if race.streams < self.plan.streams.carriers {
                race.streams += 1;
                race.dialing = Some(net.dial(now));
            }
        }
        if race.attempts.is_empty() && race.dialing.is_none() && race.stream_at.is_none() {
            self.race = None;
            self.rest(now);
        }
    }

    fn run_live(&mut self, now: Instant) {
        let Some(live) = &mut self.live else { return };
        let Some(connection) = self.endpoint.connection(live.handle) else { return };
        if connection.is_closed() {
            return;
        }
        if let Some(call) = &mut live.call {
            call.speak(now, connection);
        }
        take_strangers(connection, &mut live.bearer);
        let result = live.bearer.pump(now, connection, &mut self.session);
        self.said += std::mem::take(&mut live.bearer.said);
        if let Err(error) = result {
            self.broken.push(format!("at the client: {error}"));
            connection.close(now, 1, b"broken");
        }
        if self.session.is_running() && !std::mem::replace(&mut live.has_run, true) {
            self.ran.push(now);
        }
        if !live.has_run && now >= live.since + GREETING {
            connection.close(now, 0, b"no answer to the greeting");
        }
        while self.session.poll_event().is_some() {}
    }

    /// What it is at, for people.
    pub(super) fn story(&mut self, net: &Net) -> String {
        let race = self.race.as_ref().map(|race| (race.attempts.len(), race.dialing));
        let running = self.session.is_running();
        let Some(live) = &self.live else {
            return format!("no connection, race {race:?}, again at {:?}", self.retry_at);
        };
        let connection = self.endpoint.connection(live.handle);
        let told = connection.map(|connection| {
            let ways: Vec<_> = connection.paths().collect();
            let closed = connection.is_closed();
            (connection.route(), ways, connection.is_silent(), closed, connection.stats())
        });
        let rooms: Vec<_> =
            self.streams.iter().map(|(id, _)| (id, net.room(*id, CLIENT))).collect();
        format!("running {running}, {told:?}, {:?}, streams {rooms:?}", live.switch)
    }

    /// Connections that it has state of.
    pub(super) fn connections(&self) -> usize {
        self.endpoint.connection_count()
    }

    /// Nothing is left to do.
    pub(super) fn is_at_rest(&mut self) -> bool {
        self.endpoint.is_at_rest()
    }
}

/// Streams that the server has opened: channels of its own.
fn take_strangers(connection: &mut Connection, bearer: &mut Bearer) {
    while let Some(stream) = connection.accept() {
        bearer.take(stream);
    }
}
