//! A world in virtual time: what happens next, happens; nothing else does.
//!
//! The agenda holds what is due; what is due at the same instant happens in the order in which it
//! was put down. There is no clock, no thread and no unordered collection, so that a world is a
//! function of its topology.

mod interfaces;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use jsp_crypto::{Fingerprint, OBFUSCATION_LEN, ObfuscationKey, Obfuscator};
use jsp_proto::NetworkHint;
use jsp_wire::{Instant, StreamId};

use crate::app::{PlanTable, StreamPlan};
use crate::checkers::{Checkers, Violation};
use crate::flow::{End, Pair, Side};
use crate::link::{Datagram, Link, Tally};
use crate::node::{Node, Surroundings, UNIX_SECONDS_AT_ZERO};
use crate::observation::Observation;
use crate::peer::{self, Counters, Station};
use crate::random::{Random, mix};
use crate::resumption::Resumes;
use crate::topology::{Protocol, Topology, pair_of};

/// Things that may be due in one instant; more is a loop without progress. A link at 1 Gbit/s with
/// everything released at once stays below.
const SAME_INSTANT_MAX: u32 = 200_000;

/// How much later a client moves that is not connected yet.
const REBIND_LATER: Duration = Duration::from_millis(200);

/// Something to be done at an instant.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Task {
    /// A client connects.
    Connect(usize),
    /// A client's address changes.
    Rebind(usize),
    /// A client opens its second path.
    OpenSecond(usize),
    /// A client gives its second path up.
    EndSecond(usize),
    /// A client gives its first path up.
    EndFirst(usize),
    /// A client's first interface goes down, or comes up again.
    FirstIsDown(usize, bool),
    /// The faults of all links are over.
    EndFaults,
    /// A link has something to deliver.
    Link(usize),
    /// A node has something to do.
    Node(usize),
}

/// A place on the agenda: what is earlier, or was put down earlier, comes first.
type Due = Reverse<(Instant, u64, Task)>;

/// A world under way. Node 0 is the server; client n is node n + 1; servers of clients that speak
/// something else come after them.
pub struct World {
    topology: Topology,
    now: Instant,
    agenda: BinaryHeap<Due>,
    put_down: u64,
    same_instant: u32,
    nodes: Vec<Station>,
    /// The node of each client's server.
    servers: Vec<usize>,
    node_wakes: Vec<Option<Instant>>,
    /// Up and down link of each path, in turn.
    links: Vec<Link>,
    link_wakes: Vec<Option<Instant>>,
    /// Datagrams of each link that came to an address where nobody is any more.
    astray: Vec<u64>,
    /// How often each client's address changed.
    changes: Vec<usize>,
    server_fingerprint: Fingerprint,
    tables: Vec<PlanTable>,
    server_scripts: Vec<Vec<StreamPlan>>,
    checkers: Checkers,
    trace: Trace,
    out: Vec<Datagram>,
    /// What looks into wrapped datagrams for the checkers.
    obfuscator: Option<Obfuscator>,
}

/// A digest of everything that was sent, and when; and its story for people.
struct Trace {
    digest: u64,
    is_told: bool,
}

impl Trace {
    fn take_down(&mut self, now: Instant, seen: &Observation<'_>) {
        self.add(now.as_nanos());
        if let Observation::DatagramSent { from, payload, .. } = seen {
            self.add(u64::from(from.pair) << 1 | u64::from(from.side == Side::Server));
            for chunk in payload.chunks(8) {
                let mut word = [0; 8];
                word[..chunk.len()].copy_from_slice(chunk);
                self.add(u64::from_le_bytes(word));
            }
        }
        if self.is_told {
            eprintln!("{:>12.6}  {seen}", now.as_nanos() as f64 / 1e9);
        }
    }

    fn add(&mut self, word: u64) {
        self.digest = mix(self.digest.rotate_left(5) ^ word);
    }
}

impl World {
    /// The world of a topology, before its first event.
    pub fn new(topology: Topology) -> Self {
        let seed = topology.seed;
        let (server, server_fingerprint) = Node::server(seed, &topology.server);
        let key = topology.obfuscation;
        let mut server = server.obfuscated(key);
        let mut nodes = Vec::new();
        let (mut servers, mut further) = (Vec::new(), Vec::new());
        let mut tables = Vec::new();
        let mut server_scripts = Vec::new();
        for (client, pair) in topology.clients.iter().zip(0..) {
            match client.protocol {
                Protocol::Jsp => {
                    servers.push(0);
                    let mut node = Node::client(seed, pair, client).obfuscated(key);
                    if client.resumes != Resumes::No {
                        server.meet(seed, &mut node, client, (server_fingerprint, key));
                    }
                    nodes.push(Station::Jsp(Box::new(node)));
                }
                Protocol::Quinn(control) => {
                    let (near, far) = peer::quinn::Node::both(seed, pair, client, control);
                    servers.push(topology.clients.len() + 1 + further.len());
                    nodes.push(Station::Quinn(Box::new(near)));
                    further.push(Station::Quinn(Box::new(far)));
                }
            }
            server_scripts.push(client.script.server.clone());
            let signalling = client.script.signalling.iter().cloned().map(std::rc::Rc::new);
            tables.push(signalling.map(|plan| (StreamId::SIGNALLING, plan)).collect());
        }
        nodes.insert(0, Station::Jsp(Box::new(server)));
        nodes.extend(further);
        let ways = topology.paths.iter().flat_map(|path| [&path.up, &path.down]);
        let links: Vec<_> = ways
            .zip(0..)
            .map(|(config, index)| Link::new(config.clone(), Random::part(seed, "link", index)))
            .collect();
        let mut world = Self {
            now: Instant::ZERO,
            agenda: BinaryHeap::new(),
            put_down: 0,
            same_instant: 0,
            node_wakes: vec![None; nodes.len()],
            nodes,
            servers,
            link_wakes: vec![None; links.len()],
            astray: vec![0; links.len()],
            links,
            changes: vec![0; topology.clients.len()],
            server_fingerprint,
            tables,
            server_scripts,
            checkers: Checkers::new(),
            trace: Trace { digest: seed, is_told: false },
            out: Vec::new(),
            obfuscator: key.map(|key| Obfuscator::new(&ObfuscationKey::from_bytes(key))),
            topology,
        };
        world.put_down_the_known();
        world
    }

    /// The same world, which tells on standard error what happens in it.
    pub fn told(mut self) -> Self {
        self.trace.is_told = true;
        self
    }

    /// The time in the world.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// What the world is made of.
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// What happened so far.
    pub fn checkers(&self) -> &Checkers {
        &self.checkers
    }

    /// What must not have happened.
    pub fn violations(&self) -> &[Violation] {
        self.checkers.violations()
    }

    /// The same for two runs in which the same was sent at the same times.
    pub fn digest(&self) -> u64 {
        self.trace.digest
    }

    /// What the links did: up and down of each path in turn.
    pub fn tallies(&self) -> impl Iterator<Item = Tally> {
        self.links.iter().map(Link::tally)
    }

    /// What the transport of an end counted so far; `None` before it exists.
    pub fn counters(&mut self, end: End) -> Option<Counters> {
        let node = match end.side {
            Side::Client => end.pair as usize + 1,
            Side::Server => *self.servers.get(end.pair as usize)?,
        };
        self.nodes.get_mut(node)?.counters(end.pair, end.side)
    }

    /// Datagrams that came to an address where nobody was any more: up and down of each path in turn.
    pub fn astray(&self) -> &[u64] {
        &self.astray
    }

    /// Up and down link of each path in turn.
    pub fn links(&self) -> &[Link] {
        &self.links
    }

    /// Lets everything happen that is due by `end`, unless a checker objects.
    pub fn run_until(&mut self, end: Instant) {
        self.run_until_true(end, |_| false);
    }

    /// Lets everything happen that is due by `end`, or until the condition holds, or a checker
    /// objects; true when the condition held.
    pub fn run_until_true(
        &mut self,
        end: Instant,
        mut holds: impl FnMut(&mut Self) -> bool,
    ) -> bool {
        while self.violations().is_empty() {
            if holds(self) {
                return true;
            }
            if !self.step(end) {
                return false;
            }
        }
        false
    }

    /// Tells the checkers something, in the name of the world.
    pub(crate) fn note(&mut self, seen: &Observation<'_>) {
        self.trace.take_down(self.now, seen);
        self.checkers.observe(self.now, seen);
    }

    /// Tells the checkers that nothing more will happen.
    pub(crate) fn finish(&mut self) {
        self.checkers.finish(self.now);
    }

    /// The applications of one side close all connections.
    pub(crate) fn close(&mut self, side: Side, code: u64, reason: &str) {
        for index in self.nodes_of(side) {
            let now = self.now;
            let (trace, checkers) = (&mut self.trace, &mut self.checkers);
            let mut log = |seen: Observation<'_>| {
                trace.take_down(now, &seen);
                checkers.observe(now, &seen);
            };
            self.nodes[index].close(now, code, reason, &mut log);
            self.pump(index);
        }
    }

    /// One side disappears.
    pub(crate) fn vanish(&mut self, side: Side) {
        for index in self.nodes_of(side) {
            for end in self.nodes[index].vanish() {
                self.note(&Observation::Vanished(end));
            }
        }
    }

    /// Whether all applications have done what they were to do.
    pub(crate) fn is_finished(&self) -> bool {
        let is_connecting = self.agenda.iter().any(|due| matches!(due.0.2, Task::Connect(_)));
        !is_connecting && self.nodes.iter().all(Station::is_finished)
    }

    /// What the applications still have to do.
    pub(crate) fn unfinished(&self) -> Vec<String> {
        self.nodes.iter().flat_map(Station::unfinished).collect()
    }

    /// Sides that are still busy with connections that should be over.
    pub(crate) fn restless(&mut self) -> Vec<String> {
        let mut out = Vec::new();
        for (index, node) in self.nodes.iter_mut().enumerate() {
            if !node.is_gone() && !node.is_at_rest() {
                out.push(format!("node {index} (0 is the server) still has work or a deadline"));
            }
        }
        out
    }

    fn nodes_of(&self, side: Side) -> std::ops::Range<usize> {
        match side {
            Side::Server => 0..1,
            Side::Client => 1..self.topology.clients.len() + 1,
        }
    }

    fn put_down_the_known(&mut self) {
        let mut known = vec![(self.topology.faults_end, Task::EndFaults)];
        for (index, client) in self.topology.clients.iter().enumerate() {
            known.push((client.connect_at, Task::Connect(index)));
            known.extend(client.rebinds.iter().map(|at| (*at, Task::Rebind(index))));
            let Some(second) = &client.second else { continue };
            known.push((second.opens_at, Task::OpenSecond(index)));
            known.extend(second.ends_at.map(|at| (at, Task::EndSecond(index))));
            known.extend(second.first_ends_at.map(|at| (at, Task::EndFirst(index))));
            for (from, to) in &second.downs {
                known.push((*from, Task::FirstIsDown(index, true)));
                known.push((*to, Task::FirstIsDown(index, false)));
            }
        }
        for (at, task) in known {
            self.put_down(at, task);
        }
    }

    fn put_down(&mut self, at: Instant, task: Task) {
        self.put_down += 1;
        self.agenda.push(Reverse((at.max(self.now), self.put_down, task)));
    }

    /// Does the next thing due by `end`; false when there is none, and the time is `end`.
    fn step(&mut self, end: Instant) -> bool {
        let Some(Reverse((at, _, task))) = self.agenda.peek().copied().filter(|due| due.0.0 <= end)
        else {
            self.now = self.now.max(end);
            return false;
        };
        self.agenda.pop();
        self.same_instant = if at > self.now { 0 } else { self.same_instant + 1 };
        self.now = at;
        if self.same_instant > SAME_INSTANT_MAX {
            let what = format!("{task:?} is due again and again");
            self.note(&Observation::Spinning { what: &what });
        }
        match task {
            Task::Connect(client) => {
                let spec = &self.topology.clients[client];
                self.nodes[client + 1].connect(at, spec, self.server_fingerprint);
                self.pump(client + 1);
            }
            Task::Rebind(client) => self.rebind(client),
            Task::OpenSecond(client) => self.open_second(client),
            Task::EndSecond(client) => {
                self.nodes[client + 1].end_second(at);
                self.pump(client + 1);
            }
            Task::EndFirst(client) => {
                self.nodes[client + 1].end_first(at);
                self.pump(client + 1);
            }
            Task::FirstIsDown(client, is_down) => {
                let hint =
                    if is_down { NetworkHint::InterfaceDown } else { NetworkHint::InterfaceUp };
                self.nodes[client + 1].hint_first(at, hint);
                self.pump(client + 1);
            }
            Task::EndFaults => self.note(&Observation::FaultsEnded),
            Task::Link(index) if self.link_wakes[index] == Some(at) => {
                self.link_wakes[index] = None;
                self.deliver(index);
            }
            Task::Node(index) if self.node_wakes[index] == Some(at) => {
                self.node_wakes[index] = None;
                self.nodes[index].handle_timeout(at);
                self.pump(index);
            }
            // Put down before something earlier came up, and done with it.
            Task::Link(_) | Task::Node(_) => {}
        }
        true
    }

    /// Moves a client; during the handshake it stays, as no protocol of this kind survives that.
    fn rebind(&mut self, client: usize) {
        let ledger = self.checkers.ledger();
        let pair = client as Pair;
        if ledger.is_established(pair) {
            self.changes[client] += 1;
            if self.topology.clients[client].hints {
                self.nodes[client + 1].hint(self.now, NetworkHint::InterfaceUp);
                self.pump(client + 1);
            }
        } else if !ledger.is_over(pair) && self.now < self.topology.faults_end {
            self.put_down(self.now + REBIND_LATER, Task::Rebind(client));
        }
    }

    /// Hands out what has arrived on a link.
    fn deliver(&mut self, link: usize) {
        while let Some(datagram) = self.links[link].poll(self.now) {
            let Some(node) = self.receiver_of(&datagram) else {
                self.astray[link] += 1;
                continue;
            };
            let (side, pair) = match pair_of(datagram.to) {
                Some(pair) => (Side::Client, pair),
                None => (Side::Server, pair_of(datagram.from).unwrap_or_default()),
            };
            // What peers send is their own affair.
            if matches!(self.nodes[node], Station::Jsp(_)) {
                let inside = self.unwrap(&datagram.payload);
                self.note(&Observation::DatagramArrived {
                    at: End { pair, side },
                    from: datagram.from,
                    payload: &datagram.payload,
                    unwrapped: inside.as_deref().unwrap_or(&datagram.payload),
                    transit: self.now.since(datagram.sent),
                    intact: datagram.intact,
                });
            }
            self.nodes[node].receive(self.now, datagram);
            self.pump(node);
        }
        self.arm_link(link);
    }

    /// What a wrapped datagram holds; `None` in a world that does not wrap.
    fn unwrap(&self, payload: &[u8]) -> Option<Vec<u8>> {
        let obfuscator = self.obfuscator.as_ref()?;
        let time = UNIX_SECONDS_AT_ZERO + self.now.as_nanos() / 1_000_000_000;
        let mut datagram = payload.to_vec();
        if obfuscator.unwrap(time, &mut datagram).is_none() {
            return Some(Vec::new());
        }
        let content = datagram.into_iter().skip(OBFUSCATION_LEN);
        Some(content.skip_while(|byte| *byte == 0).collect())
    }

    /// Lets a node work, and takes what it sends to the links.
    fn pump(&mut self, index: usize) {
        if self.nodes[index].is_gone() {
            return;
        }
        let now = self.now;
        let (trace, checkers) = (&mut self.trace, &mut self.checkers);
        let mut log = |seen: Observation<'_>| {
            trace.take_down(now, &seen);
            checkers.observe(now, &seen);
        };
        let mut out = std::mem::take(&mut self.out);
        self.nodes[index].pump(&mut Surroundings {
            now,
            tables: &mut self.tables,
            server_scripts: &mut self.server_scripts,
            log: &mut log,
            out: &mut out,
        });
        for datagram in out.drain(..) {
            self.send(index, datagram);
        }
        self.out = out;
        self.arm_node(index);
    }

    fn arm_link(&mut self, index: usize) {
        let Some(at) = self.links[index].next_event() else { return };
        if self.link_wakes[index].is_none_or(|armed| at < armed) {
            self.link_wakes[index] = Some(at);
            self.put_down(at, Task::Link(index));
        }
    }

    fn arm_node(&mut self, index: usize) {
        let Some(at) = self.nodes[index].wake() else {
            self.node_wakes[index] = None;
            return;
        };
        let at = at.max(self.now);
        if self.node_wakes[index] != Some(at) {
            self.node_wakes[index] = Some(at);
            self.put_down(at, Task::Node(index));
        }
    }
}
