//! What must hold of everything that helps peers to meet: what reads is written again and reads the
//! same; machines that hear anything stay bounded, and rest when nothing is due.

use std::net::SocketAddr;
use std::time::Duration;

use arbitrary::{Arbitrary, Result, Unstructured};
use jsp_nat::candidate::{Candidate, Kind, Offer};
use jsp_nat::coordinator::{Coordinator, Limits};
use jsp_nat::punch::{self, Puncher, Role, Sealer};
use jsp_nat::rendezvous::{FromClient, FromCoordinator};
use jsp_nat::stun::{self, Request, Response};
use jsp_nat::{Entropy, relay, turn};
use jsp_wire::{Instant, Route};

/// Steps of one input.
const STEPS_MAX: usize = 200;
/// Datagrams that one machine may send in one instant.
const BURST_MAX: usize = 64;

struct Seeded(u64);

impl Entropy for Seeded {
    fn next_u64(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

/// Any message of any kind.
pub fn messages(data: &[u8]) {
    let from: SocketAddr = ([192, 0, 2, 1], 7).into();
    if let Some(request) = Request::decode(data) {
        assert_eq!(Request::decode(&request.encode()), Some(request));
        let answer = stun::answer(from, data, Some(from)).expect("a request is answered");
        assert_eq!(answer.to.ip(), from.ip());
        assert!(answer.payload.len() <= 3 * data.len());
    }
    if let Some(response) = Response::decode(data) {
        assert_eq!(Response::decode(&response.encode()), Some(response));
    }
    turn_messages(data);
    if let Ok(offer) = Offer::decode(data) {
        assert_eq!(Offer::decode(&offer.encode()), Ok(offer));
    }
    if let Ok(Some(message)) = FromClient::decode(data) {
        assert_eq!(FromClient::decode(&message.encode()), Ok(Some(message)));
    }
    if let Ok(Some(message)) = FromCoordinator::decode(data) {
        assert_eq!(FromCoordinator::decode(&message.encode()), Ok(Some(message)));
    }
    if let Some((channel, sealed)) = relay::parse(data) {
        assert_eq!([&relay::header(channel)[..], sealed].concat(), data);
    }
    let is_punch = punch::token_of(data).is_some();
    assert!(!is_punch || relay::classify(data) == relay::Class::Punch);
}

/// What a TURN server says, or brings.
fn turn_messages(data: &[u8]) {
    if let Some(answer) = turn::Answer::decode(data) {
        assert!(matches!(relay::classify(data), relay::Class::Stun), "{answer:?}");
    }
    match turn::Frame::decode(data) {
        Some(turn::Frame::Channel(channel, within)) => {
            assert!((0x4000..0x5000).contains(&channel));
            assert!(!within.is_empty() && data.get(within).is_some());
        }
        Some(turn::Frame::Data(_, within)) => {
            assert!(!within.is_empty() && data.get(within).is_some());
        }
        None => {}
    }
}

/// Steps for the coordinator, for a puncher or for a client of TURN, by the first byte. Answers how many were done.
pub fn machines(data: &[u8]) -> usize {
    let mut u = Unstructured::new(data);
    let steps = match u8::arbitrary(&mut u) {
        Ok(first) if first % 4 == 2 => turn_client(&mut u),
        Ok(first) if first % 2 == 0 => coordinator(&mut u),
        _ => puncher(&mut u),
    };
    steps.unwrap_or(0)
}

/// An answer to a request that a client has sent, as its server would give it, or an error of one.
fn answer_to(request: &[u8], login: bool, u: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    let kind: u16 = match u8::arbitrary(u)? % 8 {
        0 => {
            let code = u8::arbitrary(u)? % 40;
            body.extend([0, 9, 0, 4, 0, 0, 4, code, 0, 0x14, 0, 1, b'r', 0, 0, 0]);
            body.extend([0, 0x15, 0, 1, u8::arbitrary(u)? | 1, 0, 0, 0]);
            0x0110
        }
        _ => {
            body.extend([0, 0x16, 0, 8, 0, 1, u8::arbitrary(u)?, 1, 225, 18, 164, 66]);
            body.extend([0, 0x0d, 0, 4, 0, 0, u8::arbitrary(u)? % 8, 88]);
            0x0100
        }
    };
    if login {
        body.extend([0, 8, 0, 20]);
        body.extend([5; turn::TAG_LEN]);
    }
    let method = u16::from(request.get(1).copied().unwrap_or(0));
    let mut out = (kind | method).to_be_bytes().to_vec();
    out.extend((body.len() as u16).to_be_bytes());
    out.extend(request.get(4..20).unwrap_or(&[0; 16]));
    out.extend(body);
    Ok(out)
}

fn turn_client(u: &mut Unstructured<'_>) -> Result<usize> {
    let login = turn::Login::new("user".to_owned(), |_, _| [5; turn::TAG_LEN]);
    let server = SocketAddr::from(([203, 0, 113, 1], 3478));
    let mut entropy = Seeded(7);
    let mut now = Instant::ZERO;
    let mut client = turn::Client::new(now, server, login);
    let mut asked: Vec<Vec<u8>> = Vec::new();
    let mut steps = 0;
    while !u.is_empty() && steps < STEPS_MAX {
        steps += 1;
        let peer = SocketAddr::from(([198, 51, 100, u8::arbitrary(u)? % 80], 9));
        match u8::arbitrary(u)? % 8 {
            0 => drop(client.handle_message(now, <&[u8]>::arbitrary(u)?, &mut entropy)),
            1 | 2 => {
                let which = usize::from(u8::arbitrary(u)?) % asked.len().max(1);
                if let Some(request) = asked.get(which) {
                    let answer = answer_to(request, bool::arbitrary(u)?, u)?;
                    client.handle_message(now, &answer, &mut entropy);
                }
            }
            3 => client.expect(peer),
            4 => {
                let mut out = Vec::new();
                let is_sent = client.wrap(peer, &[7; 100], &mut entropy, &mut out);
                assert!(is_sent != out.is_empty() && out.len() <= 160);
                assert!(!is_sent || client.relayed().is_some());
            }
            5 => {
                let datagram = <&[u8]>::arbitrary(u)?;
                if let Some((from, number, data)) = client.unwrap(datagram) {
                    assert_eq!(client.address_of(number), Some(from));
                    assert!(datagram.get(data).is_some());
                }
            }
            6 => now = now + Duration::from_secs(u8::arbitrary(u)?.into()),
            _ => now = now + Duration::from_millis(u16::arbitrary(u)?.into()),
        }
        let mut burst = 0;
        while let Some(out) = client.poll_transmit(now, &mut entropy) {
            assert_eq!(out.to, server);
            asked.push(out.payload);
            burst += 1;
            // One request for each address, and one for what is lent.
            assert!(burst <= BURST_MAX + 1, "there is always more to send");
        }
        let kept = asked.len().saturating_sub(8);
        asked.drain(..kept);
        assert!(
            client.poll_timeout().is_none_or(|at| at > now),
            "something is due again and again"
        );
    }
    Ok(steps)
}

fn route(number: u8) -> Route {
    match number % 8 {
        7 => Route::Tunnel { id: number.into() },
        low => Route::udp(([192, 0, 2, low], 7).into()),
    }
}

fn coordinator(u: &mut Unstructured<'_>) -> Result<usize> {
    let limits = Limits { clients_max: 6, channels_max: 3, relay_rate: 1000, ..Limits::default() };
    let mut coordinator = Coordinator::new(limits, None);
    let mut entropy = Seeded(7);
    let mut now = Instant::ZERO;
    let mut steps = 0;
    while !u.is_empty() && steps < STEPS_MAX {
        steps += 1;
        let id = u64::from(u8::arbitrary(u)? % 8);
        match u8::arbitrary(u)? % 7 {
            0 => drop(coordinator.join(id, [id as u8 % 5; 32], route(u8::arbitrary(u)?))),
            1 => coordinator.leave(id),
            2 => coordinator.moved(id, route(u8::arbitrary(u)?)),
            3 => {
                let message = <&[u8]>::arbitrary(u)?;
                coordinator.handle_message(now, id, message, &mut entropy);
            }
            4 => {
                let (peer, channel) = ([u8::arbitrary(u)? % 5; 32], u64::from(u8::arbitrary(u)?));
                let message = FromClient::Connect { peer, channel }.encode();
                coordinator.handle_message(now, id, &message, &mut entropy);
            }
            5 => {
                let channel = relay::header(u8::arbitrary(u)?.into());
                let datagram = [&channel[..], <&[u8]>::arbitrary(u)?].concat();
                let from = route(u8::arbitrary(u)?);
                if let Some(forward) = coordinator.forward(now, &from, &datagram) {
                    assert_eq!(forward.sealed, &datagram[relay::HEADER_LEN..]);
                }
            }
            _ => now = now + Duration::from_millis(u16::arbitrary(u)?.into()),
        }
        assert!(coordinator.clients() <= 6 && coordinator.channels() <= 18);
        while coordinator.poll_message().is_some() {}
        while coordinator.poll_released().is_some() {}
    }
    Ok(steps)
}

fn puncher(u: &mut Unstructured<'_>) -> Result<usize> {
    let offer = |token, count: u8| {
        let address = |n: u8| SocketAddr::from(([198, 51, 100, n], 9));
        let candidates = (0..count % 16).map(|n| Candidate::new(Kind::Host, address(n), n.into()));
        Offer { token, candidates: candidates.collect() }
    };
    let role = if bool::arbitrary(u)? { Role::Controlling } else { Role::Controlled };
    let (own, peer) = (offer(1, u8::arbitrary(u)?), offer(2, u8::arbitrary(u)?));
    let mut entropy = Seeded(7);
    let mut now = Instant::ZERO;
    let sealer = Sealer::new(|_| [5; punch::TAG_LEN]);
    let both = (&own, &peer);
    let mut puncher = Puncher::new(now, role, both, sealer, Duration::ZERO, &mut entropy);
    let mut last: Option<Vec<u8>> = None;
    let mut steps = 0;
    while !u.is_empty() && steps < STEPS_MAX {
        steps += 1;
        let from = SocketAddr::from(([198, 51, 100, u8::arbitrary(u)? % 32], 9));
        match u8::arbitrary(u)? % 8 {
            4 => puncher.set_own(now, &offer(1, u8::arbitrary(u)?).candidates, &mut entropy),
            5 => puncher.set_peer(now, offer(2, u8::arbitrary(u)?), &mut entropy),
            6 => puncher.on_timeouts(now, u8::arbitrary(u)?.into()),
            0 => {
                puncher.handle_datagram(now, from, <&[u8]>::arbitrary(u)?, &mut entropy);
            }
            // An answer as a peer would give it, to what went out last.
            1 => {
                let number = last.as_ref().and_then(|punch| punch.get(10..18)).unwrap_or(&[1; 8]);
                let head = [relay::MARK_PUNCH, u8::arbitrary(u)? % 2];
                let punch = [&head[..], &1u64.to_be_bytes(), &[3; 8], number, &[5; 8]].concat();
                puncher.handle_datagram(now, from, &punch, &mut entropy);
            }
            2 => puncher.on_traffic(now, from),
            _ => now = now + Duration::from_millis(u16::arbitrary(u)?.into()),
        }
        let mut burst = 0;
        while let Some((_, punch)) = puncher.poll_transmit(now, &mut entropy) {
            assert_eq!(punch.len(), punch::PUNCH_LEN);
            last = Some(punch);
            burst += 1;
            assert!(burst <= BURST_MAX, "there is always more to send");
        }
        while puncher.poll_event().is_some() {}
        assert!(
            puncher.poll_timeout().is_none_or(|at| at > now),
            "something is due again and again"
        );
    }
    Ok(steps)
}
