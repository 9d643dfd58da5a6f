//! An endpoint: the local end of any number of connections.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

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
use crate::monitor::{Arrivals, Followed};
use crate::register::RegisterStore;
use crate::remote::Remote;
use crate::shard::{Core, Shard, Waiters};

/// The local end of any number of connections: a server, a client, or both on one socket. Cheap to
/// clone; all clones are the same endpoint.
///
/// When the last clone is dropped, no more connections are accepted; those that are held go on.
pub struct Endpoint {
    /// The first, which has the connections that this side makes.
    pub(crate) shard: Arc<Shard>,
    others: Arc<[Arc<Shard>]>,
    /// Which shard is asked first for the next connection.
    turn: Arc<AtomicUsize>,
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
    pub(crate) fn new(shards: &[Arc<Shard>], offers: Offers) -> Result<Self, BindError> {
        let (first, others) =
            shards.split_first().ok_or(BindError::Config("an endpoint has 1 to 64 shards"))?;
        for shard in shards {
            shard.lock().endpoint_handles += 1;
        }
        let (shard, others, offers) = (Arc::clone(first), others.into(), Arc::new(offers));
        Ok(Self { shard, others, turn: Arc::default(), offers })
    }

    /// All its shards, the first before the others.
    pub(crate) fn shards(&self) -> impl Iterator<Item = &Arc<Shard>> {
        std::iter::once(&self.shard).chain(&*self.others)
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

    /// Connects as [`Endpoint::connect`], but does not wait for the server, so that early data may go: with a ticket
    /// of the server, streams that are [`replay_safe`](crate::StreamConfig::replay_safe) can be opened
    /// and used now, and what they send leaves with the first datagram. Everything else, and all of it
    /// where there is no ticket or the server takes no early data, goes when the connection is made, in
    /// the usual order and once. [`Connection::connected`] waits for that. Messages of more than 65,536 bytes
    /// wait for it, too: what the server takes is not known before.
    ///
    /// There is no race: of a name's several addresses, and of the ways that
    /// [`Builder::carriers`](crate::Builder::carriers) allows, the first alone is tried, so that with UDP blocked
    /// the attempt fails. A name is resolved first; where the way goes through a proxy or by a
    /// carrier of streams, that is opened first, which takes up to 10 s.
    ///
    /// Cancel-safe: dropping the call gives the attempt up.
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
    /// A connection that has ended before is handed out too, with what had arrived: of those, the latest 256 of each
    /// shard are kept.
    ///
    /// Cancel-safe: no connection is lost. An endpoint without identity waits until it is closed.
    pub async fn accept(&self) -> Option<Connection> {
        let mut waiting: Vec<_> = self.shards().map(Waiting::to_accept).collect();
        // A busy shard must not hide the others.
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % waiting.len();
        waiting.rotate_left(turn);
        let (shard, key) = std::future::poll_fn(|cx| {
            let mut open = false;
            for waiting in &mut waiting {
                match waiting.poll(cx, Core::next_incoming) {
                    Poll::Ready(Some(key)) => return Poll::Ready(Some((waiting.shard, key))),
                    Poll::Ready(None) => {}
                    Poll::Pending => open = true,
                }
            }
            if open { Poll::Pending } else { Poll::Ready(None) }
        })
        .await?;
        Some(Connection::new(Arc::clone(shard), key))
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

    /// Tells of addresses that come to this machine from now on, as the endpoint's monitor sees them
    /// ([`monitor`](crate::monitor)): connections hear of them by themselves, and who has none learns when it is worth
    /// while to try again. Never tells where the endpoint has no monitor.
    pub fn network_arrivals(&self) -> Arrivals {
        self.shard.lock().followed.as_ref().map(Followed::arrivals).unwrap_or_default()
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
        let crypto = Arc::new(crypto);
        let mut served = false;
        for shard in self.shards() {
            served |= shard.lock().endpoint.renew_server(Arc::clone(&crypto));
        }
        let mut shown = offers.credential.lock().unwrap_or_else(PoisonError::into_inner);
        let is_shown =
            shown.as_ref().is_some_and(|shown| shown.fingerprint() == identity.fingerprint());
        if is_shown {
            *shown = Some(identity.credential());
        }
        if served || is_shown { Ok(()) } else { Err(RenewError(identity.fingerprint())) }
    }

    /// Closes the endpoint and all its connections at once; what is under way is lost. Peers see
    /// `code`, cut to 2^62 - 1, and at most 255 bytes of `reason`.
    pub fn close(&self, code: u64, reason: &[u8]) {
        let now = self.shard.clock.now();
        for shard in self.shards() {
            let mut core = shard.lock();
            core.stop_accepting();
            for key in core.keys() {
                core.close(key, now, code, reason);
            }
            core.drop_incoming();
        }
        self.keep_register(now);
    }

    /// No more early data are taken; which were is kept for the server after this one.
    fn keep_register(&self, now: Instant) {
        let Some(store) = &self.offers.register else { return };
        // What one shard knows all know. Nobody waits for the store with the lock.
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
        for shard in self.shards() {
            let mut core = shard.lock();
            core.stop_accepting();
            for key in core.keys() {
                core.close_when_delivered(key, now, 0);
            }
            core.drop_incoming();
        }
        self.keep_register(now);
        for shard in self.shards() {
            let mut waiting = Waiting { shard, place: |core| &mut core.draining, key: None };
            let attempt = |core: &mut Core| {
                let over = core.is_gone() || (core.endpoint.is_idle() && core.all_over());
                if over { Poll::Ready(()) } else { Poll::Pending }
            };
            std::future::poll_fn(|cx| waiting.poll(cx, attempt)).await;
        }
    }
}

/// A task's place among those that wait for a shard.
struct Waiting<'a> {
    shard: &'a Arc<Shard>,
    place: fn(&mut Core) -> &mut Waiters,
    key: Option<u64>,
}

impl<'a> Waiting<'a> {
    fn to_accept(shard: &'a Arc<Shard>) -> Self {
        Self { shard, place: |core| &mut core.accepting, key: None }
    }

    /// One attempt; when it is not ready, the task is noted under the same lock.
    fn poll<R>(&mut self, cx: &Context<'_>, attempt: impl FnOnce(&mut Core) -> Poll<R>) -> Poll<R> {
        let mut core = self.shard.lock();
        let result = attempt(&mut core);
        if result.is_pending() {
            (self.place)(&mut core).register(&mut self.key, cx.waker());
        } else if let Some(key) = self.key.take() {
            (self.place)(&mut core).remove(key);
        }
        result
    }
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
        for shard in self.shards() {
            shard.lock().endpoint_handles += 1;
        }
        let (shard, others) = (Arc::clone(&self.shard), Arc::clone(&self.others));
        let (turn, offers) = (Arc::clone(&self.turn), Arc::clone(&self.offers));
        Self { shard, others, turn, offers }
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        let now = self.shard.clock.now();
        let mut was_last = false;
        for shard in self.shards() {
            let mut core = shard.lock();
            core.endpoint_handles -= 1;
            if core.endpoint_handles == 0 {
                was_last = true;
                core.stop_accepting();
                let unaccepted: Vec<_> = core.incoming.iter().copied().collect();
                for key in unaccepted {
                    core.close(key, now, 0, b"the endpoint is closed");
                }
                core.drop_incoming();
            }
        }
        if was_last {
            self.keep_register(now);
        }
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint").field("link", &self.shard.link).finish_non_exhaustive()
    }
}
