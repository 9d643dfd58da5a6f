//! An endpoint: the local end of any number of connections.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;

use jsp_crypto::{Credential, Fingerprint, SignaturePolicy};
use jsp_proto::{TicketStore, TransportConfig};
use jsp_wire::Instant;

use crate::builder::{Builder, server_config};
use crate::carrier::dial::Dialer;
use crate::carrier::{CarrierKind, CarrierPolicy};
use crate::connect;
use crate::connection::Connection;
use crate::error::{BindError, ConnectError, RenewError};
use crate::identity::{ClientAuth, Identity, Trust};
use crate::register::RegisterStore;
use crate::remote::Remote;
use crate::shard::{Core, Shard, Waiters};

/// The local end of any number of connections: a server, a client, or both on one socket. Cheap to
/// clone; all clones are the same endpoint.
///
/// When the last clone is dropped, no more connections are accepted; those that are held go on.
pub struct Endpoint {
    pub(crate) shard: Arc<Shard>,
    pub(crate) offers: Arc<Offers>,
}

/// What the endpoint brings to its connections.
pub(crate) struct Offers {
    pub(crate) transport: Arc<TransportConfig>,
    pub(crate) fingerprint: Option<Fingerprint>,
    /// What is shown to servers that ask.
    pub(crate) credential: Mutex<Option<Credential>>,
    /// Which clients are accepted.
    pub(crate) client_auth: ClientAuth,
    pub(crate) application_protocols: Vec<Vec<u8>>,
    pub(crate) tickets: Option<Arc<dyn TicketStore>>,
    /// Where the register of early data goes in the end.
    pub(crate) register: Option<Arc<dyn RegisterStore>>,
    pub(crate) signatures: SignaturePolicy,
    pub(crate) require_pq: bool,
    pub(crate) require_pin: bool,
    /// Which carriers own connections use, and how they are opened.
    pub(crate) policy: CarrierPolicy,
    pub(crate) dialer: Dialer,
    /// Where carriers are accepted.
    pub(crate) carrier_addrs: Vec<(CarrierKind, SocketAddr)>,
}

impl Offers {
    pub(crate) fn credential(&self) -> Option<Credential> {
        self.credential.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Endpoint {
    pub(crate) fn new(shard: Arc<Shard>, offers: Offers) -> Self {
        shard.lock().endpoint_handles += 1;
        Self { shard, offers: Arc::new(offers) }
    }

    /// Starts an endpoint with other than the usual settings.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// An endpoint that accepts connections at `addr` (`"0.0.0.0:4433"`, a `SocketAddr`; port 0 for
    /// any free one) under `identity`, and may also connect. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// See [`BindError`].
    pub fn server(addr: impl ToString, identity: Identity) -> Result<Self, BindError> {
        Self::builder().bind(addr).identity(identity).build()
    }

    /// An endpoint on any free port that only connects. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// See [`BindError`].
    pub fn client() -> Result<Self, BindError> {
        Self::builder().build()
    }

    /// Connects to `remote`: a `SocketAddr`, or `"host:port"`. Of a name's several addresses the
    /// first to answer wins. Returns once the server has proved its identity, and has accepted this
    /// side's where it asked for one and one is configured.
    ///
    /// Cancel-safe: dropping the call gives the attempt up.
    ///
    /// # Errors
    /// See [`ConnectError`]. The time-out is
    /// [`TransportConfig::handshake_timeout`](crate::TransportConfig::handshake_timeout).
    pub async fn connect(
        &self,
        remote: impl Into<Remote>,
        trust: impl Into<Trust>,
    ) -> Result<Connection, ConnectError> {
        connect::connect(self, remote.into(), trust.into()).await
    }

    /// Connects as [`Endpoint::connect`], but returns at once, so that early data may go: with a ticket
    /// of the server, streams that are [`replay_safe`](crate::StreamConfig::replay_safe) can be opened
    /// and used now, and what they send leaves with the first datagram. Everything else, and all of it
    /// where there is no ticket or the server takes no early data, goes when the connection is made, in
    /// the usual order and once. [`Connection::connected`] waits for that.
    ///
    /// Of a name's several addresses the first is tried.
    ///
    /// # Errors
    /// See [`ConnectError`]; those of the handshake come from [`Connection::connected`].
    pub async fn connect_early(
        &self,
        remote: impl Into<Remote>,
        trust: impl Into<Trust>,
    ) -> Result<Connection, ConnectError> {
        connect::connect_early(self, remote.into(), trust.into()).await
    }

    /// The next connection that a client has established; `None` once the endpoint is closed.
    /// A client with early data need not be there yet: see [`Connection::handshake_confirmed`].
    ///
    /// Cancel-safe: no connection is lost. An endpoint without identity waits until it is closed.
    pub async fn accept(&self) -> Option<Connection> {
        let key = self
            .wait(
                |core| &mut core.accepting,
                |core| match core.incoming.pop_front() {
                    Some(key) => Poll::Ready(Some(key)),
                    None if core.closed => Poll::Ready(None),
                    None => Poll::Pending,
                },
            )
            .await?;
        Some(Connection::new(Arc::clone(&self.shard), key))
    }

    /// The address that peers reach this endpoint at; a wildcard address when it listens on all
    /// interfaces.
    ///
    /// # Errors
    /// When the link is gone.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.shard.link.local_addr()
    }

    /// Where the endpoint accepts carriers beside UDP, in the order in which they were given to the
    /// builder.
    pub fn carrier_addrs(&self) -> &[(CarrierKind, SocketAddr)] {
        &self.offers.carrier_addrs
    }

    /// The fingerprint that clients pin.
    ///
    /// # Panics
    /// When the endpoint has no identity: only a server has a fingerprint.
    pub fn fingerprint(&self) -> Fingerprint {
        match self.offers.fingerprint {
            Some(fingerprint) => fingerprint,
            None => panic!("a client endpoint has no fingerprint; build it with an identity"),
        }
    }

    /// Goes on under the same identity with another online key, or another delegation of it
    /// ([`Identity::delegated`]): to be called well before the last one ends. It holds for handshakes
    /// that begin from now on, on both sides; connections that are there are not touched.
    ///
    /// # Errors
    /// When the endpoint does not show the identity with this fingerprint to anybody.
    pub fn renew_identity(&self, identity: &Identity) -> Result<(), RenewError> {
        let offers = &self.offers;
        let crypto = server_config(identity, &offers.client_auth, &offers.application_protocols);
        let served = self.shard.lock().endpoint.renew_server(Arc::new(crypto));
        let mut shown = offers.credential.lock().unwrap_or_else(PoisonError::into_inner);
        let is_shown =
            shown.as_ref().is_some_and(|shown| shown.fingerprint() == identity.fingerprint());
        if is_shown {
            *shown = Some(identity.credential());
        }
        if served || is_shown { Ok(()) } else { Err(RenewError(identity.fingerprint())) }
    }

    /// Closes the endpoint and all its connections at once; what is under way is lost. Peers see
    /// `code` and at most 255 bytes of `reason`.
    pub fn close(&self, code: u64, reason: &[u8]) {
        let now = self.shard.clock.now();
        let mut core = self.shard.lock();
        core.stop_accepting();
        for key in core.keys() {
            core.close(key, now, code, reason);
        }
        core.drop_incoming();
        drop(core);
        self.keep_register(now);
    }

    /// No more early data are taken; which were is kept for the server after this one.
    fn keep_register(&self, now: Instant) {
        let Some(store) = &self.offers.register else { return };
        // Nobody waits for the store with the lock.
        let register = self.shard.lock().endpoint.keep_register(now);
        if let Some(register) = register {
            store.put(register);
        }
    }

    /// Ends in order: accepts no more, finishes every stream that this side still sends on, waits
    /// until the peers have all of it, closes all connections with code 0, and returns when the
    /// last is gone. Connections that nobody has accepted yet are closed too. Waits as long as a
    /// peer that lives does not read.
    ///
    /// Cancel-safe: once begun it goes on by itself.
    pub async fn shutdown(&self) {
        let now = self.shard.clock.now();
        {
            let mut core = self.shard.lock();
            core.stop_accepting();
            for key in core.keys() {
                core.close_when_delivered(key, now, 0);
            }
            core.drop_incoming();
        }
        self.keep_register(now);
        self.wait(
            |core| &mut core.draining,
            |core| {
                let over = core.is_gone() || (core.endpoint.is_idle() && core.all_over());
                if over { Poll::Ready(()) } else { Poll::Pending }
            },
        )
        .await;
    }

    async fn wait<R>(
        &self,
        place: fn(&mut Core) -> &mut Waiters,
        mut attempt: impl FnMut(&mut Core) -> Poll<R>,
    ) -> R {
        let mut waiting = Waiting { shard: &self.shard, place, key: None };
        std::future::poll_fn(|cx| {
            let mut core = waiting.shard.lock();
            let result = attempt(&mut core);
            if result.is_pending() {
                (waiting.place)(&mut core).register(&mut waiting.key, cx.waker());
            } else if let Some(key) = waiting.key.take() {
                (waiting.place)(&mut core).remove(key);
            }
            result
        })
        .await
    }
}

/// A task's place among those that wait for the endpoint.
struct Waiting<'a> {
    shard: &'a Shard,
    place: fn(&mut Core) -> &mut Waiters,
    key: Option<u64>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Some(key) = self.key.take() {
            (self.place)(&mut self.shard.lock()).remove(key);
        }
    }
}

impl Clone for Endpoint {
    fn clone(&self) -> Self {
        self.shard.lock().endpoint_handles += 1;
        Self { shard: Arc::clone(&self.shard), offers: Arc::clone(&self.offers) }
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        let now = self.shard.clock.now();
        let mut core = self.shard.lock();
        core.endpoint_handles -= 1;
        if core.endpoint_handles == 0 {
            core.stop_accepting();
            let unaccepted: Vec<_> = core.incoming.iter().copied().collect();
            for key in unaccepted {
                core.close(key, now, 0, b"the endpoint is closed");
            }
            core.drop_incoming();
            drop(core);
            self.keep_register(now);
        }
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint").field("link", &self.shard.link).finish_non_exhaustive()
    }
}
