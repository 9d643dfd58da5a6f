//! The task that keeps a registration within reach.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use jsp_nat::keep_alive::{KeepAlive, Step};
use jsp_nat::lifetime::Port;
use jsp_nat::rendezvous::FromClient;
use tokio::net::UdpSocket;

use super::control::State;
use super::measure::ANSWER_LEN_MAX;
use super::{Shared, link, locked, random};
use crate::clock::Clock;
use crate::stream::SendStream;

/// Silence after which a coordinator gives a client up, where the client's own idle time-out is not shorter.
const IDLE: Duration = Duration::from_secs(30);

/// Asks again and again which address the coordinator sees: so often that the box in front of this peer does not
/// forget it. How often that is, is found out on the way, by a second port.
pub(super) struct Awake {
    send: Weak<SendStream>,
    state: Arc<Mutex<State>>,
    shared: Weak<Shared>,
    clock: Clock,
    coordinator: SocketAddr,
    keeps: KeepAlive,
    /// The second port, while it is needed.
    spare: Option<UdpSocket>,
}

impl Awake {
    /// For a connection that is over after `idle` (zero for never) without a sign of life.
    pub(super) fn new(
        send: &Arc<SendStream>,
        state: &Arc<Mutex<State>>,
        shared: &Arc<Shared>,
        coordinator: SocketAddr,
        (clock, idle): (Clock, Duration),
    ) -> Self {
        let idle = if idle.is_zero() { IDLE } else { idle.min(IDLE) };
        let keeps = KeepAlive::new(clock.now(), idle.saturating_mul(2) / 3);
        let (send, shared) = (Arc::downgrade(send), Arc::downgrade(shared));
        Self { send, state: Arc::clone(state), shared, clock, coordinator, keeps, spare: None }
    }

    /// Goes on until the registration ends.
    pub(super) async fn run(mut self) {
        let mut buffer = [0; ANSWER_LEN_MAX];
        while self.send_what_is_due().await.is_some() {
            let until = self.clock.to_runtime(self.keeps.poll_timeout());
            let Some(spare) = &self.spare else {
                tokio::time::sleep_until(until).await;
                continue;
            };
            let received = tokio::time::timeout_at(until, spare.recv_from(&mut buffer)).await;
            if let Ok(Ok((len, _))) = received {
                let answer = buffer.get(..len).unwrap_or_default();
                self.keeps.handle_datagram(self.clock.now(), answer, &mut random);
            }
        }
    }

    /// `None` when there is nobody any more.
    async fn send_what_is_due(&mut self) -> Option<()> {
        let (send, shared) = (self.send.upgrade()?, self.shared.upgrade()?);
        let now = self.clock.now();
        let seen = locked(&self.state).observed;
        // A stream of TCP is remembered for long, and on another link this host's ports say nothing.
        if let Some(seen) = seen.filter(|_| shared.has_own_socket) {
            self.keeps.on_seen(now, seen.ip(), self.coordinator, &mut random);
        }
        if !self.keeps.is_searching() {
            self.spare = None;
        } else if self.spare.is_none() {
            // Without one nothing is learned.
            self.spare = UdpSocket::bind(link::any_for(self.coordinator)).await.ok();
        }
        while let Some(step) = self.keeps.poll(now, &mut random) {
            match (step, &self.spare) {
                (Step::Ping, _) => drop(send.send(FromClient::Ping.encode()).await.ok()?),
                (Step::Send(Port::Main, out), _) => shared.switch.send(out.to.into(), &out.payload),
                // One that cannot be sent is lost, as any datagram may be: it is sent again.
                (Step::Send(Port::Spare, out), Some(spare)) => {
                    let _ = spare.send_to(&out.payload, out.to).await;
                }
                (Step::Send(Port::Spare, _), None) => {}
            }
        }
        Some(())
    }
}
