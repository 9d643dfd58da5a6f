//! The life of a world: until everything was said and heard, and both ends rest.

use std::time::Duration;

use jsp_app::session::{Session, Side};
use jsp_wire::Instant;

use super::client::Client;
use super::disk::Disk;
use super::net::{CLIENT, Happening, Net, SERVER};
use super::plan::Plan;
use super::server::{self, Server};
use super::story::Story;
use crate::checkers::Violation;

/// Everything is done this long after the last fault: an idle time-out, the longest pause between
/// attempts, handshakes, and slow readers.
const DONE_AFTER: Duration = Duration::from_secs(120);
/// Both ends rest this long after the client has left.
const REST_WITHIN: Duration = Duration::from_secs(120);
/// Connections that an end may have state of at once: those of races and of before.
const CONNECTIONS_MAX: usize = 40;
/// Streams that an end may have open at once.
const STREAMS_MAX: usize = 16;
/// Bytes that may wait for a stream.
const UNSENT_MAX: usize = (128 << 10) + 2_000;
/// Things that may happen in one instant.
const SAME_INSTANT_MAX: u32 = 200_000;

/// What came of a world.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// What must not have happened.
    pub violations: Vec<Violation>,
    /// How long it lasted, in virtual time.
    pub lasted: Duration,
    /// When the last item was received.
    pub done: Option<Instant>,
    /// Items that were received by applications.
    pub items: u64,
    /// Items that came again, to who had not confirmed them before its process ended.
    pub again: u64,
    /// Messages of calls that were heard.
    pub heard: u64,
    /// When the session ran, each time.
    pub ran: Vec<Instant>,
    /// Times at which the connection changed between datagrams and streams: true for streams.
    pub switches: Vec<(Instant, bool)>,
    /// How often a path went to another address of the server.
    pub led: u64,
    /// Bytes of messages that the client gave to connections, and of those of its channels.
    pub said: u64,
    /// Datagrams that were sent by links.
    pub datagrams: u64,
}

/// Something that the plan does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Turn {
    ClientStarts,
    ClientDies,
    ServerDies,
    ServerStarts,
    Rebind,
    ServerMoves,
    Reset,
    SecondOpens,
    SecondEnds,
}

/// A world under way.
pub struct World {
    plan: Plan,
    now: Instant,
    turns: Vec<(Instant, Turn)>,
    net: Net,
    client: Option<Client>,
    server: Server,
    /// Its process is there.
    is_served: bool,
    /// Those of client and server.
    disks: [Disk; 2],
    story: Story,
    lives: u64,
    violations: Vec<Violation>,
    outcome: Outcome,
}

/// Lives a world through.
pub fn run(plan: Plan) -> Outcome {
    let mut world = World::new(plan);
    let until = world.plan.faults_end + DONE_AFTER;
    world.run_until(until, World::is_done);
    world.finish()
}

impl World {
    /// Before the first event.
    pub fn new(plan: Plan) -> Self {
        let mut turns = vec![(Instant::ZERO, Turn::ClientStarts)];
        for crash in &plan.client_crashes {
            turns.push((crash.at, Turn::ClientDies));
            turns.push((crash.at + crash.lasts, Turn::ClientStarts));
        }
        for crash in &plan.server_crashes {
            turns.push((crash.at, Turn::ServerDies));
            turns.push((crash.at + crash.lasts, Turn::ServerStarts));
        }
        turns.extend(plan.rebinds.iter().map(|at| (*at, Turn::Rebind)));
        turns.extend(plan.whereabouts.moves.iter().map(|at| (*at, Turn::ServerMoves)));
        turns.extend(plan.resets.iter().map(|at| (*at, Turn::Reset)));
        if let Some(second) = &plan.second {
            turns.push((second.opens_at, Turn::SecondOpens));
            turns.extend(second.ends_at.map(|at| (at, Turn::SecondEnds)));
        }
        // The last comes first; what is due at one instant has an order of its own.
        turns.sort_by(|a, b| b.cmp(a));
        Self {
            now: Instant::ZERO,
            turns,
            net: Net::new(&plan),
            client: None,
            server: Server::new(&plan, 0, Instant::ZERO, &mut Disk::default()),
            is_served: true,
            disks: Default::default(),
            story: Story::new(&plan),
            lives: 0,
            violations: Vec::new(),
            outcome: Outcome::default(),
            plan,
        }
    }

    /// Everything was said, heard and confirmed.
    fn is_done(&mut self) -> bool {
        let is_over = |session: &Session| session.channels().next().is_none();
        self.turns.is_empty()
            && self.story.is_done()
            && self.client.as_ref().is_some_and(|client| is_over(&client.session))
            && self.server.session.as_ref().is_some_and(is_over)
    }

    fn run_until(&mut self, until: Instant, holds: impl Fn(&mut Self) -> bool) -> bool {
        let mut same_instant = 0;
        while self.violations.is_empty() {
            if holds(self) {
                return true;
            }
            let Some(at) = self.next_event().filter(|at| *at <= until) else {
                self.now = until;
                return false;
            };
            same_instant = if at > self.now { 0 } else { same_instant + 1 };
            if same_instant > SAME_INSTANT_MAX {
                self.object("progress", "time stands still".to_owned());
            }
            self.now = self.now.max(at);
            self.step();
            self.check();
        }
        false
    }

    fn next_event(&mut self) -> Option<Instant> {
        let turn = self.turns.last().map(|(at, _)| *at);
        let net = self.net.next_event();
        let (now, story, [near, far]) = (self.now, &self.story, &self.disks);
        let server = self.is_served.then(|| self.server.wake(now, story, far)).flatten();
        let client = self.client.as_mut().and_then(|client| client.wake(now, story, near));
        [turn, net, server, client].into_iter().flatten().min()
    }

    fn step(&mut self) {
        let now = self.now;
        while let Some((_, turn)) = self.turns.pop_if(|(at, _)| *at <= now) {
            self.turn(turn);
        }
        while let Some(happening) = self.net.poll(now) {
            self.happen(happening);
        }
        if self.is_served {
            self.server.handle_timeout(now);
        }
        if let Some(client) = &mut self.client {
            client.handle_timeout(now);
        }
        self.pump();
    }

    fn pump(&mut self) {
        let (now, story, net) = (self.now, &mut self.story, &mut self.net);
        let [near, far] = &mut self.disks;
        if self.is_served {
            self.server.pump(now, story, far, net);
        }
        if let Some(client) = &mut self.client {
            client.pump(now, story, near, net);
        }
    }

    fn turn(&mut self, turn: Turn) {
        let now = self.now;
        match (turn, &mut self.client) {
            (Turn::ClientStarts, _) => {
                self.lives += 1;
                let server = server::fingerprint(&self.plan);
                let mut client = Client::new(&self.plan, self.lives, now, server, &self.disks[0]);
                let opened = self.plan.second.as_ref().is_some_and(|second| {
                    second.opens_at <= now && second.ends_at.is_none_or(|end| end > now)
                });
                client.use_second(now, opened);
                self.client = Some(client);
            }
            (Turn::ClientDies, _) => {
                if let Some(client) = self.client.take() {
                    self.keep(client);
                }
                self.net.close_all(now, CLIENT);
                // Another process has another port.
                self.net.changes += 1;
                self.crash(Side::Client);
            }
            (Turn::ServerDies, _) => {
                self.is_served = false;
                self.net.close_all(now, SERVER);
                self.crash(Side::Server);
            }
            (Turn::ServerStarts, _) => {
                self.lives += 1;
                let heard = self.server.heard;
                self.server = Server::new(&self.plan, self.lives, now, &mut self.disks[1]);
                (self.server.heard, self.is_served) = (heard, true);
            }
            (Turn::Rebind, client) => {
                self.net.rebind();
                if let Some(client) = client.as_mut().filter(|_| self.plan.hints) {
                    client.hint(now);
                }
            }
            (Turn::ServerMoves, _) => {
                self.net.forget_streams();
                if self.is_served && self.plan.whereabouts.hints {
                    self.server.hint(now);
                }
            }
            (Turn::Reset, _) => self.net.reset(now),
            (Turn::SecondOpens, Some(client)) => client.use_second(now, true),
            (Turn::SecondEnds, Some(client)) => client.use_second(now, false),
            (Turn::SecondOpens | Turn::SecondEnds, None) => {}
        }
    }

    /// What a side finds that is started again.
    fn crash(&mut self, side: Side) {
        let disk = &mut self.disks[usize::from(side == Side::Server)];
        let mut saved = std::mem::take(disk).saved;
        if side == Side::Server && saved.granted.is_none() {
            // Nobody was told of it.
            saved = Default::default();
        }
        self.story.crashed(side, &saved);
        *disk = Disk::with(saved);
    }

    fn happen(&mut self, happening: Happening) {
        let now = self.now;
        let is_lost = !self.is_served
            && matches!(
                happening,
                Happening::Datagram(SERVER, _)
                    | Happening::Came(_, SERVER, _)
                    | Happening::Room(_, SERVER)
                    | Happening::Closed(_, SERVER)
            );
        if is_lost {
            return;
        }
        if let (Happening::Opened(id), false) = (&happening, self.is_served) {
            // Nobody listens: the attempt is refused.
            self.net.close(now, *id, SERVER);
            self.net.close(now, *id, CLIENT);
            if let Some(client) = &mut self.client {
                client.on_refused(now, *id);
            }
            return;
        }
        match (happening, &mut self.client) {
            (Happening::Datagram(SERVER, datagram), _) => self.server.receive(now, datagram),
            (Happening::Datagram(_, datagram), Some(client)) => client.receive(now, datagram),
            (Happening::Opened(id), Some(client)) => {
                self.server.on_opened(now, id, &self.net);
                client.on_opened(now, id, &mut self.net);
            }
            // Nobody is there any more who has asked for it.
            (Happening::Opened(id), None) => {
                self.server.on_opened(now, id, &self.net);
                self.net.close(now, id, CLIENT);
            }
            (Happening::Refused(id), Some(client)) => client.on_refused(now, id),
            (Happening::Came(id, SERVER, payload), _) => self.server.on_came(now, id, payload),
            (Happening::Came(id, _, payload), Some(client)) => client.on_came(now, id, payload),
            (Happening::Room(id, SERVER), _) => self.server.on_room(id, &self.net),
            (Happening::Room(id, _), Some(client)) => client.on_room(id, &self.net),
            (Happening::Closed(id, SERVER), _) => self.server.on_closed(id),
            (Happening::Closed(id, _), Some(client)) => client.on_closed(now, id),
            (_, None) => {}
        }
        // One at a time: what follows from it comes before the next.
        self.pump();
    }

    fn object(&mut self, checker: &'static str, what: String) {
        self.violations.push(Violation { checker, at: self.now, what });
    }

    /// What must hold at every moment.
    fn check(&mut self) {
        self.violations.append(&mut self.story.violations);
        let client = self.client.as_mut().map(|client| std::mem::take(&mut client.broken));
        let broken = client.into_iter().flatten().chain(std::mem::take(&mut self.server.broken));
        for what in broken.collect::<Vec<_>>() {
            self.object("protocol", what);
        }
        for end in [CLIENT, SERVER] {
            if self.net.unsent(end) > UNSENT_MAX {
                self.object("memory", format!("{} B wait for a stream", self.net.unsent(end)));
            }
            if self.net.held(end) > STREAMS_MAX {
                self.object("memory", format!("{} streams are open", self.net.held(end)));
            }
        }
        let clients = self.client.as_ref().map_or(0, Client::connections);
        for count in [clients, self.server.connections()] {
            if count > CONNECTIONS_MAX {
                self.object("memory", format!("{count} connections have state"));
            }
        }
        let window = |plan: &Plan| {
            let (client, server) = (&plan.client, &plan.server);
            let most = |config: &jsp_proto::TransportConfig| {
                config.connection_window_max
                    + config.message_len_max
                    + config.unreliable_buffer as u64
            };
            // Each end keeps what the other's windows let it send, beside what it may receive.
            most(client) + most(server)
        };
        let buffered = self.server.buffered();
        if buffered > window(&self.plan) {
            self.object("memory", format!("{buffered} B in a connection"));
        }
        let sessions = self.client.iter().map(|client| &client.session);
        let over: Vec<String> = sessions.chain(&self.server.session).filter_map(excess).collect();
        for what in over {
            self.object("memory", what);
        }
    }

    /// What of a client is for the figures.
    fn keep(&mut self, client: Client) {
        self.outcome.said += client.said;
        self.outcome.led += client.led;
        self.outcome.ran.extend(client.ran);
        self.outcome.switches.extend(client.switches);
    }

    /// The client leaves, and both ends come to rest.
    fn finish(mut self) -> Outcome {
        if self.violations.is_empty() && !self.is_done() {
            let missing = self.story.missing();
            let held = [
                &self.client.as_ref().map(|c| c.session.channels().count()),
                &self.server.session.as_ref().map(|session| session.channels().count()),
            ];
            let at = self.client.as_mut().map(|client| client.story(&self.net));
            let there = self.server.story();
            let what =
                format!("not done: {missing:?}; channels left: {held:?}; {at:?}; server {there}");
            self.object("liveness", what);
        }
        if self.violations.is_empty() {
            let now = self.now;
            if let Some(client) = &mut self.client {
                client.leave(now);
            }
            self.pump();
            let rests = |world: &mut Self| {
                world.client.as_mut().is_none_or(Client::is_at_rest)
                    && world.server.is_at_rest()
                    && world.net.held(CLIENT) + world.net.held(SERVER) == 0
            };
            if !self.run_until(now + REST_WITHIN, rests) && self.violations.is_empty() {
                let streams = [self.net.held(CLIENT), self.net.held(SERVER)];
                let connections = [
                    self.client.as_ref().map_or(0, Client::connections),
                    self.server.connections(),
                ];
                let what = format!("no rest: connections {connections:?}, streams {streams:?}");
                self.object("liveness", what);
            }
        }
        if let Some(client) = self.client.take() {
            self.keep(client);
        }
        Outcome {
            violations: self.violations,
            lasted: self.now.since(Instant::ZERO),
            done: (self.story.items > 0).then_some(self.story.last),
            items: self.story.items,
            again: self.story.again(),
            heard: self.server.heard,
            datagrams: self.net.datagrams,
            ..self.outcome
        }
    }
}

/// A session that holds more than its limits say.
fn excess(session: &Session) -> Option<String> {
    let limits = session.limits();
    session.channels().find_map(|(id, _)| {
        let kept = session.unconfirmed(id);
        let bytes: usize = kept
            .iter()
            .map(|(_, item)| match item {
                jsp_app::session::Item::Message(payload) => payload.len(),
                jsp_app::session::Item::End => 0,
            })
            .sum();
        // The end needs no room.
        let is_over =
            kept.len() > limits.unconfirmed_messages + 1 || bytes > limits.unconfirmed_bytes;
        is_over.then(|| format!("{id:?} keeps {} items, {bytes} B", kept.len()))
    })
}
