//! How often a client of a coordinator says something, so that the box in front of it does not forget it: as often as is
//! safe where nothing is known, and then as the box wants it.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use jsp_wire::Instant;

use crate::lifetime::{LifetimeSearch, Port};
use crate::{Entropy, Outgoing};

/// While nothing is known of the box (RFC 8445, section 11).
const UNKNOWN: Duration = Duration::from_secs(15);

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Ask the coordinator which address it sees.
    Ping,
    /// Send this by a port.
    Send(Port, Outgoing),
}

/// Keeps a client's place at its coordinator alive.
#[derive(Debug)]
pub struct KeepAlive {
    longest: Duration,
    /// The host that the coordinator has seen when the search began.
    seen: Option<IpAddr>,
    search: Option<LifetimeSearch>,
    learned: Option<Duration>,
    ping_from: Instant,
}

impl KeepAlive {
    /// Begins; whatever is learned, the client is never silent for more than `longest`.
    pub fn new(now: Instant, longest: Duration) -> Self {
        Self { longest, seen: None, search: None, learned: None, ping_from: now }
    }

    /// The coordinator sees this client there. Behind another host there may be another box: it is looked how
    /// long that remembers, with a second port of the client's. Other ports of the same host are nothing new: a box that
    /// has forgotten gives one.
    pub fn on_seen(
        &mut self,
        now: Instant,
        seen: IpAddr,
        coordinator: SocketAddr,
        entropy: &mut dyn Entropy,
    ) {
        // A search that is under way comes to its end.
        if self.search.is_none() && self.seen != Some(seen) {
            (self.seen, self.learned) = (Some(seen), None);
            self.search = Some(LifetimeSearch::new(now, coordinator, entropy));
        }
    }

    /// Whether the second port is needed.
    pub fn is_searching(&self) -> bool {
        self.search.is_some()
    }

    /// The longest silence at present.
    // spec: RDV-191
    pub fn interval(&self) -> Duration {
        let so_far = self.search.as_ref().and_then(LifetimeSearch::learned);
        // What a search has found so far may be too long yet, when this host has moved meanwhile.
        let so_far = so_far.map(|interval| interval.min(UNKNOWN));
        self.learned.or(so_far).unwrap_or(UNKNOWN).min(self.longest)
    }

    /// Takes a datagram that has come to the second port.
    pub fn handle_datagram(&mut self, now: Instant, datagram: &[u8], entropy: &mut dyn Entropy) {
        if let Some(search) = &mut self.search {
            search.handle_datagram(now, Port::Spare, datagram, entropy);
        }
    }

    /// What is due; to be asked again until there is nothing.
    pub fn poll(&mut self, now: Instant, entropy: &mut dyn Entropy) -> Option<Step> {
        if let Some(search) = &mut self.search {
            if let Some((port, out)) = search.poll_transmit(now, entropy) {
                return Some(Step::Send(port, out));
            }
            // More than is made use of need not be known.
            let learned = search.learned();
            if search.is_over() || search.interval() >= self.longest {
                (self.learned, self.search) = (learned, None);
            }
        }
        if now < self.ping_from + self.interval() {
            return None;
        }
        self.ping_from = now;
        Some(Step::Ping)
    }

    /// When [`KeepAlive::poll`] is to be called next by itself.
    pub fn poll_timeout(&self) -> Instant {
        let ping = self.ping_from + self.interval();
        let search = self.search.as_ref().and_then(LifetimeSearch::poll_timeout);
        search.map_or(ping, |at| at.min(ping))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stun;

    const SERVER: &str = "203.0.113.1:3478";

    fn at(seconds: u64) -> Instant {
        Instant::ZERO + Duration::from_secs(seconds)
    }

    /// A client behind a box that forgets a port so long after it has sent last.
    struct Behind {
        lifetime: Duration,
        host: IpAddr,
        keeps: KeepAlive,
        now: Instant,
        number: u64,
        /// When each port has sent last.
        sent: [Instant; 2],
        pings: u32,
        others: u32,
        /// How long nobody could reach the client's port.
        deaf: Duration,
    }

    impl Behind {
        fn new(lifetime: u64) -> Self {
            Self {
                lifetime: Duration::from_secs(lifetime),
                host: "198.51.100.1".parse().unwrap(),
                keeps: KeepAlive::new(Instant::ZERO, Duration::from_secs(20)),
                now: Instant::ZERO,
                number: 0,
                sent: [Instant::ZERO; 2],
                pings: 0,
                others: 0,
                deaf: Duration::ZERO,
            }
        }

        fn main_sends(&mut self) {
            self.deaf += self.now.since(self.sent[0]).saturating_sub(self.lifetime);
            self.sent[0] = self.now;
        }

        fn run(&mut self, until: Instant) -> (u32, Duration) {
            (self.pings, self.deaf) = (0, Duration::ZERO);
            let server: SocketAddr = SERVER.parse().unwrap();
            while self.now <= until {
                let mut number = self.number;
                let mut entropy = || {
                    number += 1;
                    number
                };
                while let Some(step) = self.keeps.poll(self.now, &mut entropy) {
                    let (port, out) = match step {
                        Step::Ping => {
                            self.pings += 1;
                            self.main_sends();
                            self.keeps.on_seen(self.now, self.host, server, &mut entropy);
                            continue;
                        }
                        Step::Send(port, out) => (port, out),
                    };
                    self.others += 1;
                    match port {
                        Port::Main => self.main_sends(),
                        Port::Spare => self.sent[1] = self.now,
                    }
                    let from = SocketAddr::new(self.host, 777);
                    let answer = stun::answer(from, &out.payload, None).unwrap();
                    if self.now.since(self.sent[1]) < self.lifetime {
                        self.keeps.handle_datagram(self.now, &answer.payload, &mut entropy);
                    }
                }
                self.number = number;
                self.now = self.now.max(self.keeps.poll_timeout());
            }
            (self.pings, self.deaf)
        }
    }

    #[test]
    // spec-test: RDV-191
    fn a_client_is_heard_behind_a_box_that_forgets_soon_and_says_less_behind_others() {
        for lifetime in [11, 14, 18, 25, 40, 120, 600] {
            let mut client = Behind::new(lifetime);
            client.run(at(120));
            let asked = client.others;
            let (pings, deaf) = client.run(at(720));
            assert_eq!(deaf, Duration::ZERO, "{lifetime}");
            // Once every 15 s where nothing is known are 40.
            let expected = if lifetime < 30 { 39..=61 } else { 29..=31 };
            assert!(expected.contains(&pings), "{lifetime}: {pings}");
            // It is asked once.
            assert!(asked <= 12 && client.others == asked, "{lifetime}: {asked}");
        }
    }

    #[test]
    // spec-test: RDV-191
    fn another_host_may_be_another_box() {
        let mut client = Behind::new(120);
        client.run(at(120));
        assert_eq!(client.keeps.interval(), Duration::from_secs(20));
        (client.lifetime, client.host) = (Duration::from_secs(12), "192.0.2.7".parse().unwrap());
        client.run(at(300));
        assert_eq!(client.run(at(600)).1, Duration::ZERO);
        assert_eq!(client.keeps.interval(), Duration::from_secs(10));
    }

    #[test]
    fn a_server_that_says_nothing_of_it_changes_nothing() {
        let mut keeps = KeepAlive::new(Instant::ZERO, Duration::from_secs(20));
        let mut entropy = || 7;
        keeps.on_seen(
            at(1),
            "198.51.100.1".parse().unwrap(),
            SERVER.parse().unwrap(),
            &mut entropy,
        );
        let mut now = at(1);
        let mut pings = 0;
        while now < at(600) {
            while let Some(step) = keeps.poll(now, &mut entropy) {
                pings += u32::from(step == Step::Ping);
            }
            now = now.max(keeps.poll_timeout());
        }
        assert!((39..=40).contains(&pings) && !keeps.is_searching(), "{pings}");
    }
}
