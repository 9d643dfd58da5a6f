//! Two honest machines and wires between them that do what an attacker wants.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use jsp_proto::{ConnectionHandle, Instant};

use crate::victim::{CLIENT, SERVER, Victim, addr};

/// One way between the two, unless the attacker says otherwise.
pub const DELAY: Duration = Duration::from_millis(10);

/// Who receives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum To {
    /// The client.
    Client,
    /// The server.
    Server,
}

/// Decides about a datagram: its copies, each with its delay.
pub type Weather<'a> = Box<dyn FnMut(To, Vec<u8>) -> Vec<(Duration, Vec<u8>)> + 'a>;

/// A client, a server, and what is under way.
pub struct Wires<'a> {
    /// The client's machine.
    pub client: Victim,
    /// The server's.
    pub server: Victim,
    /// What becomes of datagrams.
    pub weather: Weather<'a>,
    /// Bytes that the server got from and gave to each address.
    pub account: BTreeMap<SocketAddr, (u64, u64)>,
    /// Datagrams that the client sent.
    pub sent_by_client: u64,
    flying: BTreeMap<(Instant, u64), (To, SocketAddr, Vec<u8>)>,
    count: u64,
}

impl<'a> Wires<'a> {
    /// Wires that do no harm.
    pub fn new(client: Victim, server: Victim) -> Self {
        Self {
            client,
            server,
            weather: Box::new(|_, bytes| vec![(DELAY, bytes)]),
            account: BTreeMap::new(),
            sent_by_client: 0,
            flying: BTreeMap::new(),
            count: 0,
        }
    }

    /// The time, the same for both.
    pub fn now(&self) -> Instant {
        self.client.now
    }

    /// Puts a datagram on the wire that arrives after `delay`.
    pub fn launch(&mut self, to: To, from: SocketAddr, delay: Duration, bytes: Vec<u8>) {
        self.count += 1;
        self.flying.insert((self.now() + delay, self.count), (to, from, bytes));
    }

    fn flush(&mut self) {
        for (_, bytes) in self.client.take() {
            self.sent_by_client += 1;
            for (delay, copy) in (self.weather)(To::Server, bytes) {
                self.launch(To::Server, addr(CLIENT), delay, copy);
            }
        }
        for (to, bytes) in self.server.take() {
            self.account.entry(to).or_default().1 += bytes.len() as u64;
            if to != addr(CLIENT) {
                continue;
            }
            for (delay, copy) in (self.weather)(To::Client, bytes) {
                self.launch(To::Client, addr(SERVER), delay, copy);
            }
        }
    }

    /// Runs until the condition holds or the time is over; whether it held.
    pub fn run(&mut self, time: Duration, mut done: impl FnMut(&mut Self) -> bool) -> bool {
        let end = self.now() + time;
        loop {
            self.flush();
            if done(self) {
                return true;
            }
            let arrival = self.flying.keys().next().map(|(at, _)| *at);
            let timers = [self.client.deadline(), self.server.deadline()];
            let next = timers.into_iter().flatten().chain(arrival).min();
            let Some(next) = next.filter(|next| *next <= end) else {
                self.set(end);
                self.flush();
                return done(self);
            };
            self.set(self.now().max(next));
            while let Some(entry) = self.flying.first_entry().filter(|e| e.key().0 <= next) {
                let (to, from, bytes) = entry.remove();
                match to {
                    To::Client => self.client.give(from, &bytes),
                    To::Server => {
                        self.account.entry(from).or_default().0 += bytes.len() as u64;
                        self.server.give(from, &bytes);
                    }
                }
            }
            let now = self.now();
            self.client.endpoint.handle_timeout(now);
            self.server.endpoint.handle_timeout(now);
        }
    }

    fn set(&mut self, now: Instant) {
        self.client.now = now;
        self.server.now = now;
    }

    /// Runs until the client is connected; how long it took.
    pub fn until_connected(
        &mut self,
        handle: ConnectionHandle,
        limit: Duration,
    ) -> Option<Duration> {
        let start = self.now();
        let connected = self.run(limit, |wires| wires.client.connection(handle).is_established());
        connected.then(|| self.now().since(start))
    }
}
