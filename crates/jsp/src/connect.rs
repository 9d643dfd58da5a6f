//! Establishing a connection: names, several addresses, trust.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use jsp_wire::{CloseCode, Route};
use tokio::time::Sleep;

use crate::connection::{Connection, Waiting};
use crate::endpoint::Endpoint;
use crate::error::{ConnectError, ConnectionError};
use crate::identity::{Outcome, Trust, Verification};
use crate::remote::Remote;
use crate::shard::{ConnectionState, Phase, Place};

/// Time between attempts at a name's several addresses (RFC 8305, section 5).
const STAGGER: Duration = Duration::from_millis(250);

/// Silence after which a client that has pinned its server asks who lives there: a server does not
/// answer a hello made for somebody else.
const INQUIRY_AFTER: Duration = Duration::from_secs(2);

/// What may come of one attempt.
type Attempted = Result<Connection, (SocketAddr, ConnectionError)>;

/// An attempt at one address.
struct Attempt {
    remote: SocketAddr,
    connection: Connection,
    outcome: Outcome,
    /// Only to learn who answers.
    is_inquiry: bool,
}

pub(crate) async fn connect(
    endpoint: &Endpoint,
    remote: Remote,
    trust: Trust,
) -> Result<Connection, ConnectError> {
    let name = remote.name();
    let addrs = remote
        .resolve()
        .await
        .map_err(|source| ConnectError::NameNotResolved { name: name.clone(), source })?;
    let first = Verification::new(&trust, &name)?;
    let mut race = Race {
        endpoint,
        trust,
        name,
        waiting: addrs.into_iter().rev().collect(),
        attempts: Vec::new(),
        failure: None,
        next: Box::pin(tokio::time::sleep(STAGGER)),
        inquire_at: Box::pin(tokio::time::sleep(INQUIRY_AFTER)),
        inquired: false,
        renewed: false,
    };
    let Some(addr) = race.waiting.pop() else { return Err(ConnectError::EndpointClosed) };
    race.begin(addr, first, false)?;
    let (connection, outcome) = std::future::poll_fn(|cx| race.poll(cx)).await?;
    outcome.remember(connection.security().floor())?;
    Ok(connection)
}

/// Starts one attempt, and hands the connection out before it is made.
pub(crate) async fn connect_early(
    endpoint: &Endpoint,
    remote: Remote,
    trust: Trust,
) -> Result<Connection, ConnectError> {
    let name = remote.name();
    let addrs = remote
        .resolve()
        .await
        .map_err(|source| ConnectError::NameNotResolved { name: name.clone(), source })?;
    let verification = Verification::new(&trust, &name)?;
    let Some(addr) = addrs.into_iter().next() else { return Err(ConnectError::EndpointClosed) };
    let start = Start { remote: addr, server: Some(trust.ticket_name(&name)), early: true };
    let (connection, outcome) = begin(endpoint, &start, verification)?;
    connection.inner.with_state(|state| state.unremembered = Some(outcome));
    Ok(connection)
}

/// One attempt, before it is begun.
struct Start {
    remote: SocketAddr,
    /// What the server's tickets are kept under, where they may be used.
    server: Option<String>,
    /// Early data may follow at once.
    early: bool,
}

fn begin(
    endpoint: &Endpoint,
    start: &Start,
    verification: Verification,
) -> Result<(Connection, Outcome), ConnectError> {
    let Start { remote, server, early } = start;
    let offers = &endpoint.offers;
    let (mut crypto, outcome) = verification.split();
    crypto.credential = offers.credential.clone();
    crypto.application_protocols = offers.application_protocols.clone();
    crypto.require_pq = offers.require_pq;
    crypto.require_pin = offers.require_pin;
    let tickets = offers.tickets.clone().zip(server.clone());
    let ticket = tickets.as_ref().and_then(|(store, server)| store.take(server));
    let shard = &endpoint.shard;
    let now = shard.clock.now();
    let route = Route::udp(*remote);
    let mut core = shard.lock();
    if core.closed || core.is_gone() {
        return Err(ConnectError::EndpointClosed);
    }
    let (crypto, transport) = (Arc::new(crypto), Arc::clone(&offers.transport));
    let handle = match ticket {
        Some(ticket) => core.endpoint.resume(now, route, crypto, transport, ticket, *early),
        None => core.endpoint.connect(now, route, crypto, transport),
    };
    let handle = handle.map_err(|error| connect_error(*remote, error))?;
    let mut state = ConnectionState::new(handle, Phase::Handshake, route);
    state.tickets = tickets;
    let key = core.insert(handle, state);
    if *early {
        // What the application sends before it waits for the first time goes along.
        core.want_driver();
    } else {
        shard.flush(&mut core, now);
    }
    drop(core);
    Ok((Connection::new(Arc::clone(shard), key), outcome))
}

/// Attempts at all addresses of a name, one after the other but not in turn: the first to succeed
/// wins.
struct Race<'a> {
    endpoint: &'a Endpoint,
    trust: Trust,
    name: String,
    /// Addresses not yet tried, the next one last.
    waiting: Vec<SocketAddr>,
    attempts: Vec<Attempt>,
    failure: Option<ConnectError>,
    next: Pin<Box<Sleep>>,
    inquire_at: Pin<Box<Sleep>>,
    inquired: bool,
    /// An attempt was begun anew because its cookie had become useless.
    renewed: bool,
}

impl Race<'_> {
    fn begin(
        &mut self,
        remote: SocketAddr,
        verification: Verification,
        is_inquiry: bool,
    ) -> Result<(), ConnectError> {
        // Who only asks for an identity has no use for tickets.
        let server = (!is_inquiry).then(|| self.trust.ticket_name(&self.name));
        let start = Start { remote, server, early: false };
        let (connection, outcome) = begin(self.endpoint, &start, verification)?;
        self.attempts.push(Attempt { remote, connection, outcome, is_inquiry });
        Ok(())
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(Connection, Outcome), ConnectError>> {
        loop {
            let mut index = 0;
            while let Some(attempt) = self.attempts.get(index) {
                match attempt.poll(cx) {
                    Poll::Pending => index += 1,
                    Poll::Ready(Ok(connection)) => {
                        let outcome = attempt.outcome.clone();
                        return Poll::Ready(Ok((connection, outcome)));
                    }
                    Poll::Ready(Err((remote, error))) => {
                        let attempt = self.attempts.remove(index);
                        if let Some(fatal) = self.judge(&attempt, remote, error) {
                            return Poll::Ready(Err(fatal));
                        }
                    }
                }
            }
            let others = self.attempts.iter().any(|attempt| !attempt.is_inquiry);
            let due = !self.waiting.is_empty() && self.next.as_mut().poll(cx).is_ready();
            if (due || !others)
                && let Some(addr) = self.waiting.pop()
            {
                self.begin_next(addr);
                continue;
            }
            if !others && !self.awaits_inquiry() {
                let failure = self.failure.take().unwrap_or(ConnectError::EndpointClosed);
                return Poll::Ready(Err(failure));
            }
            let may_inquire = !self.inquired && matches!(self.trust, Trust::Pinned(_));
            if may_inquire && self.inquire_at.as_mut().poll(cx).is_ready() {
                let addrs: Vec<_> = self.attempts.iter().map(|attempt| attempt.remote).collect();
                addrs.into_iter().for_each(|addr| self.inquire(addr));
                continue;
            }
            return Poll::Pending;
        }
    }

    fn begin_next(&mut self, addr: SocketAddr) {
        let begun = Verification::new(&self.trust, &self.name)
            .and_then(|verification| self.begin(addr, verification, false));
        if let Err(error) = begun {
            self.failure = Some(error);
        }
        self.next.as_mut().reset(tokio::time::Instant::now() + STAGGER);
    }

    fn inquire(&mut self, addr: SocketAddr) {
        self.inquired = true;
        // An inquiry that cannot be made leaves the failure without a name.
        let _ = self.begin(addr, Verification::inquiry(), true);
    }

    /// Another server than the pinned one answers, and who it is will be known soon.
    fn awaits_inquiry(&self) -> bool {
        let nameless = matches!(self.failure, Some(ConnectError::Identity { got: None, .. }));
        nameless && !self.attempts.is_empty()
    }

    /// What a failed attempt means: an error that ends the race, or one to remember.
    fn judge(
        &mut self,
        attempt: &Attempt,
        remote: SocketAddr,
        error: ConnectionError,
    ) -> Option<ConnectError> {
        if attempt.is_inquiry {
            let (Trust::Pinned(expected), Some(got)) = (&self.trust, attempt.outcome.shown())
            else {
                return None;
            };
            let expected = *expected;
            // The pinned server itself answers the inquiry: its answer to the real hello was lost.
            return (got != expected).then_some(ConnectError::Identity {
                remote,
                expected,
                got: Some(got),
            });
        }
        if let Some((expected, got)) = attempt.outcome.mismatch() {
            return Some(ConnectError::Identity { remote, expected, got: Some(got) });
        }
        if let (Trust::Pinned(expected), ConnectionError::NotThePinnedServer) =
            (&self.trust, &error)
        {
            self.failure = Some(ConnectError::Identity { remote, expected: *expected, got: None });
            if !self.inquired {
                self.inquire(remote);
            }
            return None;
        }
        // The address changed, or too much time passed, between the server's question for a proof of
        // address and the answer.
        if matches!(error, ConnectionError::PeerError { code: CloseCode::INVALID_TOKEN, .. })
            && !core::mem::replace(&mut self.renewed, true)
        {
            self.waiting.push(remote);
        }
        self.failure = Some(ConnectError::new(remote, error));
        None
    }
}

impl Attempt {
    fn poll(&self, cx: &mut Context<'_>) -> Poll<Attempted> {
        let remote = self.remote;
        let mut waiting = Waiting::shared(&self.connection.inner, Place::Connected);
        let result = waiting.poll(cx, |core, inner, _| match core.state(inner.key) {
            Some(state) => match &state.phase {
                Phase::Handshake => Poll::Pending,
                Phase::Open => Poll::Ready(Ok(self.connection.clone())),
                Phase::Closed(error) => Poll::Ready(Err((remote, error.clone()))),
            },
            None => Poll::Ready(Err((remote, ConnectionError::EndpointClosed))),
        });
        waiting.keep();
        result
    }
}

fn connect_error(remote: SocketAddr, error: jsp_proto::ConnectError) -> ConnectError {
    match error {
        jsp_proto::ConnectError::Handshake(error) => ConnectError::Handshake { remote, error },
        jsp_proto::ConnectError::Closed => ConnectError::EndpointClosed,
    }
}
