//! What a host finds out about the box in front of it is what the box does.

use std::net::SocketAddr;

use jsp_nat::behaviour::{Discovery, Mapping};
use jsp_nat::filtering::{Filtering, FilteringTest};
use jsp_nat::lifetime::Port;
use jsp_nat::{Instant, Outgoing, stun};
use jsp_sim::nat::{Behaviour, Gateway, Scope};
use jsp_sim::random::Random;

const SERVERS: [&str; 2] = ["203.0.113.1:3478", "203.0.113.2:3478"];
/// The main port, and the spare one.
const PORTS: [&str; 2] = ["192.168.0.2:5000", "192.168.0.2:5001"];

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn gateway(behaviour: Behaviour) -> Gateway {
    Gateway::new(behaviour, "198.51.100.1".parse().unwrap(), Random::new(1))
}

/// What comes back through the box: to which port, and what it holds.
fn through(
    gateway: &mut Gateway,
    now: Instant,
    from: &str,
    out: &Outgoing,
) -> Option<(SocketAddr, Vec<u8>)> {
    let seen = gateway.outbound(now, addr(from), out.to)?;
    let server = SERVERS.map(addr).into_iter().find(|server| *server == out.to)?;
    let answer = stun::answer(seen, &out.payload, None)?;
    Some((gateway.inbound(now, server, answer.to)?, answer.payload))
}

fn mapping(behaviour: Behaviour) -> Option<Mapping> {
    let (mut gateway, mut random) = (gateway(behaviour), Random::new(2));
    let mut entropy = || random.next_u64();
    let mut now = Instant::ZERO;
    let mut discovery = Discovery::new(now, addr(PORTS[0]), SERVERS.map(addr), &mut entropy);
    loop {
        while let Some(out) = discovery.poll_transmit(now) {
            if let Some((_, answer)) = through(&mut gateway, now, PORTS[0], &out) {
                discovery.handle_datagram(&answer, &mut entropy);
            }
        }
        if let Some(report) = discovery.report() {
            return report.mapping;
        }
        now = now.max(discovery.poll_timeout().unwrap());
    }
}

fn filtering(behaviour: Behaviour) -> Option<Filtering> {
    let (mut gateway, mut random) = (gateway(behaviour), Random::new(3));
    let mut entropy = || random.next_u64();
    let mut now = Instant::ZERO;
    let mut test = FilteringTest::new(now, SERVERS.map(addr), &mut entropy);
    loop {
        while let Some((port, out)) = test.poll_transmit(now, &mut entropy) {
            let from = PORTS[usize::from(port == Port::Spare)];
            if let Some((to, answer)) = through(&mut gateway, now, from, &out) {
                let port = if to == addr(PORTS[0]) { Port::Main } else { Port::Spare };
                test.handle_datagram(now, port, &answer, &mut entropy);
            }
        }
        if let Some(outcome) = test.outcome() {
            return outcome;
        }
        now = now.max(test.poll_timeout().unwrap());
    }
}

#[test]
fn boxes_are_found_out() {
    let scopes = [Scope::Any, Scope::Address, Scope::AddressAndPort];
    for maps in scopes {
        for filters in scopes {
            for base in [Behaviour::ENDPOINT_INDEPENDENT, Behaviour::SYMMETRIC] {
                let behaviour = Behaviour { mapping: maps, filtering: filters, ..base };
                let expected = match maps {
                    Scope::Any => Mapping::EndpointIndependent,
                    Scope::Address | Scope::AddressAndPort => Mapping::Dependent,
                };
                assert_eq!(mapping(behaviour), Some(expected), "{behaviour:?}");
                let expected = match filters {
                    Scope::Any => Filtering::EndpointIndependent,
                    Scope::Address | Scope::AddressAndPort => Filtering::Dependent,
                };
                assert_eq!(filtering(behaviour), Some(expected), "{behaviour:?}");
            }
        }
    }
    assert_eq!(mapping(Behaviour::UDP_BLOCKED), None);
    assert_eq!(filtering(Behaviour::UDP_BLOCKED), None);
}
