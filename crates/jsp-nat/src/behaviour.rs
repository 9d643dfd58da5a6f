//! What the box in front of a host does (RFC 5780, in the part that two ordinary servers allow): how
//! it maps is seen by asking both from one port; whether it hairpins, by writing to the own outer
//! address. How it filters is the matter of [`crate::filtering`].

use std::net::SocketAddr;
use std::time::Duration;

use jsp_wire::Instant;

use crate::stun::{Binding, Outcome, Request};
use crate::{Entropy, Outgoing};

/// How long the own datagram may take through the box and back.
const HAIRPIN_WAIT: Duration = Duration::from_secs(1);

/// How inner addresses are mapped to outer ones (RFC 4787, section 4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mapping {
    /// Not at all: the host's own address is seen.
    None,
    /// One outer address for all ends.
    EndpointIndependent,
    /// Another for each end: direct paths are harder to find.
    Dependent,
}

/// What was found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Report {
    /// What each server saw; `None` for one that does not answer.
    pub seen: [Option<SocketAddr>; 2],
    /// How the box maps; `None` when fewer than two servers answered and an outer address is used.
    pub mapping: Option<Mapping>,
    /// Whether the box leads its own outer addresses back; `None` without a box, or when it did not
    /// come so far.
    pub hairpin: Option<bool>,
}

/// Finding out, over one socket.
#[derive(Debug)]
pub struct Discovery {
    own: SocketAddr,
    bindings: [Binding; 2],
    loopback: Option<Loopback>,
}

/// A datagram to the own outer address.
#[derive(Debug)]
struct Loopback {
    to: SocketAddr,
    request: Request,
    sent_at: Option<Instant>,
    came_back: Option<bool>,
}

impl Discovery {
    /// Asks two servers, which must have different addresses. `own` is the socket's address.
    pub fn new(
        now: Instant,
        own: SocketAddr,
        servers: [SocketAddr; 2],
        entropy: &mut dyn Entropy,
    ) -> Self {
        let bindings = servers.map(|server| Binding::new(now, server, entropy));
        Self { own, bindings, loopback: None }
    }

    /// Takes a datagram; true when it was an answer that was waited for.
    pub fn handle_datagram(&mut self, datagram: &[u8], entropy: &mut dyn Entropy) -> bool {
        if let Some(loopback) = &mut self.loopback
            && Request::decode(datagram) == Some(loopback.request)
        {
            loopback.came_back = Some(true);
            return true;
        }
        let taken = self.bindings.iter_mut().any(|binding| binding.handle_datagram(datagram));
        let first = self.seen().into_iter().flatten().next();
        if let Some(to) = first.filter(|to| *to != self.own && self.loopback.is_none()) {
            let transaction = crate::stun::transaction(entropy);
            let request = Request { transaction, response_port: None };
            self.loopback = Some(Loopback { to, request, sent_at: None, came_back: None });
        }
        taken
    }

    /// The next datagram that is due.
    pub fn poll_transmit(&mut self, now: Instant) -> Option<Outgoing> {
        if let Some(loopback) = &mut self.loopback {
            let Some(sent_at) = loopback.sent_at else {
                loopback.sent_at = Some(now);
                return Some(Outgoing { to: loopback.to, payload: loopback.request.encode() });
            };
            if now.since(sent_at) >= HAIRPIN_WAIT {
                loopback.came_back.get_or_insert(false);
            }
        }
        self.bindings.iter_mut().find_map(|binding| binding.poll_transmit(now))
    }

    /// When something is due next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let hairpin = self.loopback.as_ref().filter(|loopback| loopback.came_back.is_none());
        let hairpin = hairpin.map(|l| l.sent_at.map_or(Instant::ZERO, |at| at + HAIRPIN_WAIT));
        self.bindings.iter().filter_map(Binding::poll_timeout).chain(hairpin).min()
    }

    /// What was found out, once it is; `None` before.
    pub fn report(&self) -> Option<Report> {
        if self.bindings.iter().any(|binding| binding.outcome().is_none()) {
            return None;
        }
        let hairpin = match &self.loopback {
            Some(loopback) => Some(loopback.came_back?),
            None => None,
        };
        let seen = self.seen();
        let mapping = match seen {
            [Some(one), Some(two)] if one == two => {
                Some(if one == self.own { Mapping::None } else { Mapping::EndpointIndependent })
            }
            [Some(_), Some(_)] => Some(Mapping::Dependent),
            [Some(only), None] | [None, Some(only)] if only == self.own => Some(Mapping::None),
            _ => None,
        };
        Some(Report { seen, mapping, hairpin })
    }

    fn seen(&self) -> [Option<SocketAddr>; 2] {
        [0, 1].map(|index: usize| match self.bindings.get(index)?.outcome()? {
            Outcome::Mapped(response) => Some(response.mapped),
            Outcome::TimedOut => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stun;

    fn addr(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    const OWN: &str = "192.168.0.2:5000";

    /// What is found when the servers see these addresses, and the box hairpins or not.
    fn find(seen: [Option<&str>; 2], hairpin: bool) -> Report {
        let servers = [addr("203.0.113.1:3478"), addr("203.0.113.2:3478")];
        let mut number = 0;
        let mut entropy = || {
            number += 1;
            number
        };
        let mut discovery = Discovery::new(Instant::ZERO, addr(OWN), servers, &mut entropy);
        let mut now = Instant::ZERO;
        loop {
            while let Some(out) = discovery.poll_transmit(now) {
                match servers.iter().position(|server| *server == out.to) {
                    Some(index) => {
                        let Some(seen) = seen[index] else { continue };
                        let answer = stun::answer(addr(seen), &out.payload, None).unwrap();
                        assert!(discovery.handle_datagram(&answer.payload, &mut entropy));
                    }
                    None if hairpin => {
                        assert!(discovery.handle_datagram(&out.payload, &mut entropy));
                    }
                    None => {}
                }
            }
            if let Some(report) = discovery.report() {
                return report;
            }
            now = now.max(discovery.poll_timeout().unwrap());
        }
    }

    #[test]
    fn mappings_are_told_apart() {
        let outer = Some("198.51.100.1:5000");
        let report = find([outer, outer], false);
        assert_eq!(report.mapping, Some(Mapping::EndpointIndependent));
        assert_eq!(report.hairpin, Some(false));
        assert_eq!(find([outer, outer], true).hairpin, Some(true));
        let report = find([outer, Some("198.51.100.1:5001")], false);
        assert_eq!(report.mapping, Some(Mapping::Dependent));
        let report = find([Some(OWN), Some(OWN)], false);
        assert_eq!((report.mapping, report.hairpin), (Some(Mapping::None), None));
        assert_eq!(find([outer, None], false).mapping, None);
        assert_eq!(find([None, None], false), Report::default());
    }
}
