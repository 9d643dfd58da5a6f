//! What the network in front of a peer does, asked from the peer's own port.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use jsp_nat::behaviour::{Discovery, Report};
use jsp_nat::filtering::{Filtering, FilteringTest};
use jsp_nat::lifetime::{LifetimeSearch, Port};
use jsp_wire::Instant;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;

use super::{Peer, link, random};

/// Answers that wait to be looked at.
const ANSWERS_MAX: usize = 16;
/// The longest answer that is looked at.
pub(super) const ANSWER_LEN_MAX: usize = 600;

impl Peer {
    /// Finds out what the box in front of this host does, by asking two servers that answer STUN:
    /// coordinators, or any other. They must have different addresses. Takes a round trip and a
    /// second for the hairpin; half a minute when a server does not answer.
    ///
    /// Cancel-safe.
    ///
    /// # Errors
    /// When the endpoint's link is gone, this host has no way to the first server, or the policy forbids UDP.
    pub async fn discover(&self, servers: [SocketAddr; 2]) -> io::Result<Report> {
        self.may_ask()?;
        let port = self.endpoint.local_addr()?.port();
        let [first, _] = servers;
        let ip = link::own_ip(first).ok_or(io::ErrorKind::NetworkUnreachable)?;
        let clock = self.endpoint.shard.clock;
        let mut answers = self.listen_to_stun();
        let own = SocketAddr::new(ip, port);
        let mut discovery = Discovery::new(clock.now(), own, servers, &mut random);
        loop {
            while let Some(out) = discovery.poll_transmit(clock.now()) {
                self.shared.switch.send(out.to.into(), &out.payload);
            }
            if let Some(report) = discovery.report() {
                return Ok(report);
            }
            let until = discovery.poll_timeout().unwrap_or(Instant::ZERO);
            let answer = tokio::time::timeout_at(clock.to_runtime(until), answers.recv()).await;
            if let Ok(Some(answer)) = answer {
                discovery.handle_datagram(&answer, &mut random);
            }
        }
    }

    /// How often something must be sent for the box in front of this host not to forget: what
    /// [`TransportConfig::keep_alive`](crate::TransportConfig::keep_alive) may be. A [`Registration`](super::Registration)
    /// finds out by itself what it needs to know of this. Takes minutes, for it
    /// waits until a port of its own is forgotten; the peer's port is never put at risk. The server must
    /// know RESPONSE-PORT (RFC 5780), as coordinators do.
    ///
    /// Cancel-safe.
    ///
    /// # Errors
    /// When no further port can be had, or the policy forbids UDP.
    pub async fn keep_alive_interval(&self, server: SocketAddr) -> io::Result<Duration> {
        self.may_ask()?;
        let any = link::any_for(server);
        let spare = UdpSocket::bind(any).await?;
        let clock = self.endpoint.shard.clock;
        let mut search = LifetimeSearch::new(clock.now(), server, &mut random);
        let mut buffer = [0; ANSWER_LEN_MAX];
        while !search.is_over() {
            while let Some((port, out)) = search.poll_transmit(clock.now(), &mut random) {
                match port {
                    Port::Main => self.shared.switch.send(out.to.into(), &out.payload),
                    // One that cannot be sent is lost, as any datagram may be: it is sent again.
                    Port::Spare => drop(spare.send_to(&out.payload, out.to).await),
                }
            }
            let Some(until) = search.poll_timeout() else { break };
            let until = clock.to_runtime(until);
            let received = tokio::time::timeout_at(until, spare.recv_from(&mut buffer)).await;
            if let Ok(Ok((len, _))) = received {
                let answer = buffer.get(..len).unwrap_or_default();
                search.handle_datagram(clock.now(), Port::Spare, answer, &mut random);
            }
        }
        Ok(search.interval())
    }

    /// Finds out whom the box in front of this host lets in, or a firewall on the host itself: `None`
    /// when the servers do not help. They must have different addresses, and the second must know
    /// RESPONSE-PORT (RFC 5780), as coordinators do. Ask from a peer that is made for it: nothing may
    /// have been sent to the second server before, and some boxes map a port anew to whoever has
    /// written to it unasked. Takes two round trips, or two seconds besides; half a minute when a
    /// server does not answer.
    ///
    /// Cancel-safe.
    ///
    /// # Errors
    /// When no further port can be had, or the policy forbids UDP.
    pub async fn filtering(&self, servers: [SocketAddr; 2]) -> io::Result<Option<Filtering>> {
        self.may_ask()?;
        let [_, second] = servers;
        let spare = UdpSocket::bind(link::any_for(second)).await?;
        let clock = self.endpoint.shard.clock;
        let mut answers = self.listen_to_stun();
        let mut test = FilteringTest::new(clock.now(), servers, &mut random);
        let mut buffer = [0; ANSWER_LEN_MAX];
        loop {
            while let Some((port, out)) = test.poll_transmit(clock.now(), &mut random) {
                match port {
                    Port::Main => self.shared.switch.send(out.to.into(), &out.payload),
                    // One that cannot be sent is lost, as any datagram may be: it is sent again.
                    Port::Spare => drop(spare.send_to(&out.payload, out.to).await),
                }
            }
            if let Some(filtering) = test.outcome() {
                return Ok(filtering);
            }
            let until = clock.to_runtime(test.poll_timeout().unwrap_or(Instant::ZERO));
            tokio::select! {
                Some(answer) = answers.recv() => {
                    test.handle_datagram(clock.now(), Port::Main, &answer, &mut random);
                }
                received = spare.recv_from(&mut buffer) => if let Ok((len, _)) = received {
                    let answer = buffer.get(..len).unwrap_or_default();
                    test.handle_datagram(clock.now(), Port::Spare, answer, &mut random);
                },
                () = tokio::time::sleep_until(until) => {}
            }
        }
    }

    // spec: RDV-30
    fn may_ask(&self) -> io::Result<()> {
        match self.shared.policy.allows_udp() {
            true => Ok(()),
            false => Err(io::Error::other("a peer that may use a proxy alone asks no STUN server")),
        }
    }

    fn listen_to_stun(&self) -> mpsc::Receiver<Vec<u8>> {
        let (to, answers) = mpsc::channel(ANSWERS_MAX);
        self.shared.switch.expect_stun(to);
        answers
    }
}
