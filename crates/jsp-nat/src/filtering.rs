//! Whom the box in front of a host lets in (RFC 4787, section 5), found out with two ordinary servers.
//!
//! RFC 5780 has servers answer from elsewhere, which takes one with two addresses. Here the main port
//! asks the first server for its outer address, and a spare port has the second server answer there, by
//! RESPONSE-PORT: a server to which the main port has never written. The spare port also has it answer
//! at its own outer address, to see that the server knows RESPONSE-PORT at all.

use std::net::SocketAddr;
use std::time::Duration;

use jsp_wire::Instant;

use crate::lifetime::Port;
use crate::stun::{Binding, Outcome};
use crate::{Entropy, Outgoing};

/// An answer that is not here by then does not come. Requests are sent three times until then.
const ANSWER_WAIT: Duration = Duration::from_secs(2);

/// Which datagrams from outside reach a host that has not asked their sender for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filtering {
    /// All that come to a mapped port.
    EndpointIndependent,
    /// Those from addresses, or addresses and ports, that were written to.
    Dependent,
}

#[derive(Debug)]
enum Step {
    /// Both ports ask for their outer addresses, each its own server.
    Opening([Binding; 2]),
    /// The spare port has the second server answer at the main port, and at itself.
    Asking {
        stranger: Binding,
        control: Binding,
        until: Instant,
    },
    Over(Option<Filtering>),
}

/// Finding out, over two sockets of one host.
#[derive(Debug)]
pub struct FilteringTest {
    second: SocketAddr,
    step: Step,
}

impl FilteringTest {
    /// Asks two servers at different addresses. The main port must not have written to the second one, nor may it
    /// until the test is over; the second must know RESPONSE-PORT (RFC 5780), as coordinators do.
    pub fn new(now: Instant, servers: [SocketAddr; 2], entropy: &mut dyn Entropy) -> Self {
        let [_, second] = servers;
        let bindings = servers.map(|server| Binding::new(now, server, entropy));
        Self { second, step: Step::Opening(bindings) }
    }

    /// Takes a datagram that came to one of the ports; true when it was waited for.
    pub fn handle_datagram(
        &mut self,
        now: Instant,
        port: Port,
        datagram: &[u8],
        entropy: &mut dyn Entropy,
    ) -> bool {
        match &mut self.step {
            Step::Opening([main, spare]) => {
                let taken = match port {
                    Port::Main => main.handle_datagram(datagram),
                    Port::Spare => spare.handle_datagram(datagram),
                };
                self.go_on(now, entropy);
                taken
            }
            Step::Asking { stranger, control, .. } => {
                if stranger.handle_datagram(datagram) {
                    // A server that answers where it was asked from does not know the attribute.
                    let is_open = port == Port::Main;
                    self.step = Step::Over(is_open.then_some(Filtering::EndpointIndependent));
                    return true;
                }
                port == Port::Spare && control.handle_datagram(datagram)
            }
            Step::Over(_) => false,
        }
    }

    /// Once both outer addresses are known, or one cannot be.
    fn go_on(&mut self, now: Instant, entropy: &mut dyn Entropy) {
        let Step::Opening([main, spare]) = &self.step else { return };
        match (main.outcome(), spare.outcome()) {
            (Some(Outcome::Mapped(main)), Some(Outcome::Mapped(spare))) => {
                // Answers go to the host that asks: a box with several addresses has others for others.
                if main.mapped.ip() != spare.mapped.ip() {
                    self.step = Step::Over(None);
                    return;
                }
                let [stranger, control] = [main, spare].map(|seen| {
                    Binding::answered_at(now, self.second, seen.mapped.port(), entropy)
                });
                self.step = Step::Asking { stranger, control, until: now + ANSWER_WAIT };
            }
            (Some(Outcome::TimedOut), _) | (_, Some(Outcome::TimedOut)) => {
                self.step = Step::Over(None);
            }
            _ => {}
        }
    }

    /// The next datagram that is due, and the port that sends it.
    pub fn poll_transmit(
        &mut self,
        now: Instant,
        entropy: &mut dyn Entropy,
    ) -> Option<(Port, Outgoing)> {
        match &mut self.step {
            Step::Opening([main, spare]) => {
                let out = main.poll_transmit(now).map(|out| (Port::Main, out));
                let out = out.or_else(|| spare.poll_transmit(now).map(|out| (Port::Spare, out)));
                if out.is_none() {
                    self.go_on(now, entropy);
                }
                out
            }
            Step::Asking { control, until, .. } if now >= *until => {
                let is_known = matches!(control.outcome(), Some(Outcome::Mapped(_)));
                self.step = Step::Over(is_known.then_some(Filtering::Dependent));
                None
            }
            Step::Asking { stranger, control, .. } => {
                let out = stranger.poll_transmit(now).or_else(|| control.poll_transmit(now));
                out.map(|out| (Port::Spare, out))
            }
            Step::Over(_) => None,
        }
    }

    /// When something is due next; `None` when the test is over.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match &self.step {
            Step::Opening(both) => both.iter().filter_map(Binding::poll_timeout).min(),
            Step::Asking { stranger, control, until } => [stranger, control]
                .into_iter()
                .filter_map(Binding::poll_timeout)
                .chain([*until])
                .min(),
            Step::Over(_) => None,
        }
    }

    /// What was found out, once the test is over: `Some(None)` when the servers did not help.
    pub fn outcome(&self) -> Option<Option<Filtering>> {
        match self.step {
            Step::Over(filtering) => Some(filtering),
            Step::Opening(_) | Step::Asking { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stun::{self, Request};

    /// How the second server takes RESPONSE-PORT.
    #[derive(Clone, Copy, PartialEq)]
    enum Server {
        Knows,
        Refuses,
        Ignores,
        IsSilent,
    }

    fn addr(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    /// What is found behind a box that lets strangers in or not, with the outer address of the spare port.
    fn find(lets_in: bool, second: Server, spare: &str) -> (Option<Filtering>, Duration) {
        let servers = [addr("203.0.113.1:3478"), addr("203.0.113.2:3478")];
        let outer = [addr("198.51.100.1:500"), addr(spare)];
        let mut number = 0;
        let mut entropy = || {
            number += 1;
            number
        };
        let mut test = FilteringTest::new(Instant::ZERO, servers, &mut entropy);
        let mut now = Instant::ZERO;
        loop {
            while let Some((port, out)) = test.poll_transmit(now, &mut entropy) {
                let from = outer[usize::from(port == Port::Spare)];
                let is_second = out.to == servers[1];
                assert!(!(port == Port::Main && is_second), "that would open the box for it");
                let asks_elsewhere = Request::decode(&out.payload).unwrap().response_port.is_some();
                let mut answer = stun::answer(from, &out.payload, None).unwrap();
                match second {
                    Server::IsSilent if is_second => continue,
                    Server::Refuses if asks_elsewhere => continue,
                    Server::Ignores => answer.to = from,
                    _ => {}
                }
                if answer.to == outer[1] {
                    test.handle_datagram(now, Port::Spare, &answer.payload, &mut entropy);
                } else if answer.to == outer[0] && (!is_second || lets_in) {
                    test.handle_datagram(now, Port::Main, &answer.payload, &mut entropy);
                }
            }
            if let Some(outcome) = test.outcome() {
                assert_eq!(test.poll_timeout(), None);
                return (outcome, now - Instant::ZERO);
            }
            now = now.max(test.poll_timeout().unwrap());
        }
    }

    #[test]
    fn who_is_let_in() {
        let spare = "198.51.100.1:501";
        let (found, took) = find(true, Server::Knows, spare);
        assert_eq!((found, took), (Some(Filtering::EndpointIndependent), Duration::ZERO));
        let (found, took) = find(false, Server::Knows, spare);
        assert_eq!((found, took), (Some(Filtering::Dependent), ANSWER_WAIT));
    }

    #[test]
    fn servers_that_do_not_help_leave_it_open() {
        let spare = "198.51.100.1:501";
        for lets_in in [true, false] {
            for second in [Server::Refuses, Server::Ignores, Server::IsSilent] {
                assert_eq!(find(lets_in, second, spare).0, None);
            }
            // A box with several outer addresses.
            assert_eq!(find(lets_in, Server::Knows, "198.51.100.2:501").0, None);
        }
    }
}
