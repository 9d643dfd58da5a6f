//! How long a box remembers a mapping that nothing is sent through (RFC 5780, section 4.6).
//!
//! The mapping in use is never put at risk: a second port, the spare one, asks a server for its
//! address and is silent; then the first port asks for an answer at that address. When it comes to
//! the spare port the mapping lives. The time between is found by halving.

use std::net::SocketAddr;
use std::time::Duration;

use jsp_wire::Instant;

use crate::stun::{Binding, Outcome, Response};
use crate::{Entropy, Outgoing};

/// Shorter than this no box is taken to forget: keep-alive would not pay (RFC 8445, section 11).
pub const SHORTEST: Duration = Duration::from_secs(15);
/// Longer than this nothing is gained.
pub const LONGEST: Duration = Duration::from_secs(120);
/// How exactly the lifetime is found.
const EXACT_TO: Duration = Duration::from_secs(10);
/// An answer that is not here by then does not come.
const ANSWER_WAIT: Duration = Duration::from_secs(2);

/// Which of two ports sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Port {
    /// The one in use.
    Main,
    /// The one that is silent.
    Spare,
}

#[derive(Debug)]
enum Step {
    /// The spare port asks for its address.
    Opening(Binding),
    /// The spare port is silent.
    Silent {
        mapped: SocketAddr,
        until: Instant,
    },
    /// The main port asks for an answer at the spare port's address.
    Asking {
        binding: Binding,
        until: Instant,
    },
    Over,
}

/// The search.
#[derive(Debug)]
pub struct LifetimeSearch {
    server: SocketAddr,
    /// A silence that was survived, and one that was not.
    low: Duration,
    high: Duration,
    step: Step,
}

impl LifetimeSearch {
    /// Begins to ask a server, which must know RESPONSE-PORT.
    pub fn new(now: Instant, server: SocketAddr, entropy: &mut dyn Entropy) -> Self {
        let step = Step::Opening(Binding::new(now, server, entropy));
        Self { server, low: Duration::ZERO, high: LONGEST, step }
    }

    /// How often something is to be sent, by what is known so far: two thirds of the longest silence
    /// that was survived, and not below two thirds of [`SHORTEST`].
    pub fn interval(&self) -> Duration {
        self.low.max(SHORTEST).saturating_mul(2) / 3
    }

    /// The same, once a silence has been tried.
    pub fn learned(&self) -> Option<Duration> {
        (!self.low.is_zero() || self.high < LONGEST).then(|| self.interval())
    }

    /// True when the search is over.
    pub fn is_over(&self) -> bool {
        matches!(self.step, Step::Over)
    }

    /// Takes a datagram that came to one of the ports; true when it was waited for.
    pub fn handle_datagram(
        &mut self,
        now: Instant,
        port: Port,
        datagram: &[u8],
        entropy: &mut dyn Entropy,
    ) -> bool {
        if port != Port::Spare {
            return false;
        }
        match &mut self.step {
            Step::Opening(binding) => {
                let taken = binding.handle_datagram(datagram);
                if let Some(Outcome::Mapped(Response { mapped, .. })) = binding.outcome() {
                    let until = now + self.next();
                    self.step = Step::Silent { mapped, until };
                }
                taken
            }
            Step::Asking { binding, .. } => {
                let taken = binding.handle_datagram(datagram);
                if taken {
                    self.low = self.next();
                    self.again(now, entropy);
                }
                taken
            }
            Step::Silent { .. } | Step::Over => false,
        }
    }

    /// The next datagram that is due, and the port that sends it.
    pub fn poll_transmit(
        &mut self,
        now: Instant,
        entropy: &mut dyn Entropy,
    ) -> Option<(Port, Outgoing)> {
        match &mut self.step {
            Step::Opening(binding) => {
                let out = binding.poll_transmit(now);
                if binding.outcome() == Some(Outcome::TimedOut) {
                    self.step = Step::Over;
                }
                return out.map(|out| (Port::Spare, out));
            }
            Step::Silent { mapped, until } if now >= *until => {
                let port = mapped.port();
                let binding = Binding::answered_at(now, self.server, port, entropy);
                self.step = Step::Asking { binding, until: now + ANSWER_WAIT };
            }
            Step::Asking { until, .. } if now >= *until => {
                self.high = self.next();
                self.again(now, entropy);
            }
            _ => {}
        }
        match &mut self.step {
            Step::Asking { binding, .. } => binding.poll_transmit(now).map(|out| (Port::Main, out)),
            Step::Opening(binding) => binding.poll_transmit(now).map(|out| (Port::Spare, out)),
            Step::Silent { .. } | Step::Over => None,
        }
    }

    /// When something is due next; `None` when the search is over.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match &self.step {
            Step::Opening(binding) => binding.poll_timeout(),
            Step::Silent { until, .. } => Some(*until),
            Step::Asking { binding, until } => {
                Some(binding.poll_timeout().map_or(*until, |at| at.min(*until)))
            }
            Step::Over => None,
        }
    }

    /// The silence that is tried next. The first is a cautious one.
    fn next(&self) -> Duration {
        if self.low.is_zero() && self.high == LONGEST {
            return SHORTEST.saturating_mul(2);
        }
        (self.low.max(SHORTEST) + self.high) / 2
    }

    fn again(&mut self, now: Instant, entropy: &mut dyn Entropy) {
        let is_known = self.high.saturating_sub(self.low.max(SHORTEST)) <= EXACT_TO;
        self.step = if is_known {
            Step::Over
        } else {
            Step::Opening(Binding::new(now, self.server, entropy))
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stun;

    /// The interval found behind a box that forgets after so many seconds, and how long it took.
    fn search(lifetime: u64) -> (Duration, Duration) {
        let server: SocketAddr = "203.0.113.1:3478".parse().unwrap();
        let spare: SocketAddr = "198.51.100.1:777".parse().unwrap();
        let main: SocketAddr = "198.51.100.1:555".parse().unwrap();
        let mut number = 0;
        let mut entropy = || {
            number += 1;
            number
        };
        let mut search = LifetimeSearch::new(Instant::ZERO, server, &mut entropy);
        let mut opened = Instant::ZERO;
        let mut now = Instant::ZERO;
        while !search.is_over() {
            while let Some((port, out)) = search.poll_transmit(now, &mut entropy) {
                let from = if port == Port::Spare { spare } else { main };
                let answer = stun::answer(from, &out.payload, None).unwrap();
                if port == Port::Spare {
                    opened = now;
                }
                if answer.to == spare && now.since(opened) < Duration::from_secs(lifetime) {
                    search.handle_datagram(now, Port::Spare, &answer.payload, &mut entropy);
                }
            }
            let Some(at) = search.poll_timeout() else { break };
            now = now.max(at);
        }
        (search.interval(), now - Instant::ZERO)
    }

    #[test]
    fn the_interval_stays_below_the_lifetime() {
        for lifetime in [20, 30, 45, 60, 100, 300] {
            let (interval, took) = search(lifetime);
            assert!(interval < Duration::from_secs(lifetime), "{lifetime}: {interval:?}");
            assert!(interval >= Duration::from_secs(10));
            assert!(took < Duration::from_secs(600), "{took:?}");
        }
        assert!(search(300).0 >= Duration::from_secs(70));
        assert!(search(60).0 >= Duration::from_secs(30));
    }
}
