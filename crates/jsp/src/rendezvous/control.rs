//! The stream between a peer and its coordinator.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use jsp_crypto::Fingerprint;
use jsp_nat::rendezvous::{CONTENT_TYPE, FromClient, FromCoordinator, Refusal, TurnGrant};
use jsp_proto::StreamConfig;
use tokio::sync::oneshot;

use super::Shared;
use super::awake::Awake;
use super::error::RegisterError;
use super::relays::Trusted;
use crate::connection::Connection;
use crate::error::SendError;
use crate::stream::{RecvStream, SendStream};

/// How long a coordinator may take to answer.
const ANSWER_WAIT: Duration = Duration::from_secs(10);

/// What the two ends of the stream have in common.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) observed: Option<SocketAddr>,
    /// Who waits for the coordinator's word on a channel.
    asked: HashMap<u64, oneshot::Sender<Refusal>>,
    /// Who waits for its word on a TURN server.
    turn: Vec<oneshot::Sender<Option<TurnGrant>>>,
}

/// The stream, while the registration lives.
#[derive(Debug)]
pub(super) struct Control {
    connection: Connection,
    send: Arc<SendStream>,
    state: Arc<Mutex<State>>,
    /// Another server that answers STUN.
    stun: Option<SocketAddr>,
}

impl Control {
    /// Opens the stream and registers.
    pub(super) async fn start(
        connection: Connection,
        shared: Arc<Shared>,
        (coordinator, relay): (SocketAddr, Trusted),
        idle_timeout: Duration,
    ) -> Result<Self, RegisterError> {
        let config = StreamConfig {
            content_type: Some(CONTENT_TYPE.to_owned()),
            ..StreamConfig::messages()
        };
        let (send, recv) = connection.open(config).await?.split();
        let registered = async {
            send.send(FromClient::Register.encode()).await.ok()?;
            while let Ok(Some(message)) = recv.recv().await {
                let message = FromCoordinator::decode(&message.payload).ok()?;
                if let Some(FromCoordinator::Registered { observed, stun }) = message {
                    return Some((observed, stun));
                }
            }
            None
        };
        let Ok(Some((observed, stun))) = tokio::time::timeout(ANSWER_WAIT, registered).await else {
            return Err(match connection.error() {
                Some(error) => RegisterError::Closed(error),
                None => RegisterError::NoCoordinator,
            });
        };
        let state = Arc::new(Mutex::new(State::default()));
        let send = Arc::new(send);
        note_observed(&state, &shared, coordinator, observed);
        shared.learn_coordinator(coordinator, Arc::downgrade(&send));
        let times = (connection.inner.shard.clock, idle_timeout);
        let awake = Awake::new(&send, &state, &shared, coordinator, times);
        tokio::spawn(follow(connection.clone(), relay));
        tokio::spawn(listen(recv, Arc::clone(&state), shared, coordinator));
        tokio::spawn(awake.run());
        Ok(Self { connection, send, state, stun })
    }

    /// Asks for a way to a peer. What comes back is a refusal, if any does.
    pub(super) async fn ask(
        &self,
        peer: Fingerprint,
        channel: u64,
    ) -> Result<oneshot::Receiver<Refusal>, SendError> {
        let (refuse, refused) = oneshot::channel();
        {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            // Who does not wait any more needs no answer.
            state.asked.retain(|_, waits| !waits.is_closed());
            state.asked.insert(channel, refuse);
        }
        let message = FromClient::Connect { peer: *peer.as_bytes(), channel };
        self.send.send(message.encode()).await?;
        Ok(refused)
    }

    /// Asks which TURN server this peer may use.
    #[cfg(feature = "turn")]
    pub(super) async fn ask_turn(&self) -> Option<TurnGrant> {
        let (tell, told) = oneshot::channel();
        self.state.lock().unwrap_or_else(PoisonError::into_inner).turn.push(tell);
        self.send.send(FromClient::AskTurn.encode()).await.ok()?;
        // One that knows nothing of TURN says nothing.
        tokio::time::timeout(ANSWER_WAIT, told).await.ok()?.ok()?
    }

    /// The way that was asked for.
    pub(super) fn way(&self, channel: u64) -> Channel {
        Channel { coordinator: Arc::downgrade(&self.send), channel }
    }

    pub(super) fn observed(&self) -> Option<SocketAddr> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).observed
    }

    pub(super) fn stun(&self) -> Option<SocketAddr> {
        self.stun
    }

    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.connection.close(0, b"");
    }
}

/// A way through a coordinator: it is closed there when this is dropped.
#[derive(Debug)]
pub(super) struct Channel {
    pub(super) coordinator: Weak<SendStream>,
    pub(super) channel: u64,
}

impl Drop for Channel {
    // spec: RDV-14
    fn drop(&mut self) {
        if let Some(coordinator) = self.coordinator.upgrade() {
            // One that takes no more closes ways that nobody uses by itself.
            let _ = coordinator.try_send(FromClient::Close { channel: self.channel }.encode());
        }
    }
}

fn note_observed(
    state: &Mutex<State>,
    shared: &Shared,
    coordinator: SocketAddr,
    observed: Option<SocketAddr>,
) {
    let before = {
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        let before = state.observed;
        state.observed = observed.or(before);
        before
    };
    shared.learn_addresses(coordinator, before, observed);
}

/// Has what is relayed come and go where the coordinator is, until the connection to it ends.
// spec: RDV-126
async fn follow(connection: Connection, relay: Trusted) {
    let mut at = Some(connection.route());
    while let Some(route) = at {
        relay.moved(route);
        at = connection.route_changed(route).await;
    }
}

/// Takes what the coordinator says, until it says no more.
async fn listen(
    recv: RecvStream,
    state: Arc<Mutex<State>>,
    shared: Arc<Shared>,
    coordinator: SocketAddr,
) {
    while let Ok(Some(message)) = recv.recv().await {
        match FromCoordinator::decode(&message.payload) {
            Ok(Some(FromCoordinator::Refused { channel, reason })) => {
                let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(waits) = state.asked.remove(&channel) {
                    // Nobody may wait any more.
                    let _ = waits.send(reason);
                }
            }
            Ok(Some(FromCoordinator::Pong { observed })) => {
                note_observed(&state, &shared, coordinator, observed);
            }
            Ok(Some(FromCoordinator::Turn(grant))) => {
                let waits =
                    std::mem::take(&mut state.lock().unwrap_or_else(PoisonError::into_inner).turn);
                for waits in waits {
                    // Nobody may wait any more.
                    let _ = waits.send(grant.clone());
                }
            }
            // Who calls shows it by calling.
            Ok(_) => {}
            Err(_) => return,
        }
    }
}
