//! Connections and paths that this side begins.

use core::time::Duration;
use std::sync::Arc;

use jsp_crypto::{ClientConfig, ClientTicket, KeyShare};
use jsp_wire::{Instant, PathId, Route, limits};

use super::handle::ConnectionHandle;
use super::names::peer_key;
use super::{ConnectError, Endpoint};
use crate::config::TransportConfig;
use crate::connection::{Connection, Outgoing, Reason};
use crate::error::PathError;

/// How long keys wait that were made ahead of a hello. A program that connects again and again does so within it.
const KEY_SHARE_LIFE: Duration = Duration::from_secs(60);

impl Endpoint {
    /// Starts a connection to the server at `route`.
    ///
    /// # Errors
    /// See [`ConnectError`].
    pub fn connect(
        &mut self,
        now: Instant,
        route: Route,
        crypto: Arc<ClientConfig>,
        transport: Arc<TransportConfig>,
    ) -> Result<ConnectionHandle, ConnectError> {
        self.begin(now, route, crypto, transport, None)
    }

    /// Starts a connection to the server at `route`, whose ticket makes the hello shorter and the
    /// server known. With `early`, replay-safe streams may be opened and used at once; what they send
    /// goes with the hello. A ticket that is of no use any more costs nothing: the connection is made
    /// as without.
    ///
    /// # Errors
    /// See [`ConnectError`].
    pub fn resume(
        &mut self,
        now: Instant,
        route: Route,
        crypto: Arc<ClientConfig>,
        transport: Arc<TransportConfig>,
        ticket: ClientTicket,
        early: bool,
    ) -> Result<ConnectionHandle, ConnectError> {
        self.begin(now, route, crypto, transport, Some((ticket, early)))
    }

    fn begin(
        &mut self,
        now: Instant,
        route: Route,
        crypto: Arc<ClientConfig>,
        transport: Arc<TransportConfig>,
        ticket: Option<(ClientTicket, bool)>,
    ) -> Result<ConnectionHandle, ConnectError> {
        let key_share = if ticket.is_none() {
            self.wants_key_share = true;
            // spec: HS-107
            self.drop_stale_key_share(now);
            self.key_share.take().map(|(share, _)| share)
        } else {
            None
        };
        let destination = self.random_id(limits::CONNECTION_ID_LEN_INITIAL);
        let local_id =
            if transport.follow_server { self.fresh_local_id() } else { self.client_id(&route) };
        let outgoing = Outgoing {
            route,
            crypto,
            transport: TransportConfig::clamped_or_same(transport),
            destination,
            local_id,
            wrapping: self.wrapping(),
            unix_time: self.unix_time.clone(),
            ticket,
            key_share,
        };
        let rng = self.rng.fork();
        let connection = Connection::connect(now, outgoing, rng)?;
        if local_id.is_empty() {
            let handle = self.insert(connection);
            self.by_route.insert(peer_key(&route), handle);
            Ok(handle)
        } else {
            Ok(self.insert(connection))
        }
    }

    /// True when the next connection would be made sooner if there were keys for its hello: a driver that has
    /// nothing else to do may make some and give them to [`Endpoint::put_key_share`].
    pub fn wants_key_share(&self) -> bool {
        self.wants_key_share && self.key_share.is_none()
    }

    /// Keeps keys for one hello, for a minute; those that are kept already are wiped. `None` when none could be made:
    /// they are not asked for again before the next hello.
    pub fn put_key_share(&mut self, now: Instant, share: Option<KeyShare>) {
        self.key_share = share.map(|share| (share, now + KEY_SHARE_LIFE));
        self.wants_key_share = false;
    }

    /// Keys that wait for too long are wiped: who takes this machine later must not find them. Others are made when
    /// a hello has gone without.
    // spec: HS-127
    pub(super) fn drop_stale_key_share(&mut self, now: Instant) {
        self.key_share.take_if(|(_, until)| *until <= now);
    }

    /// When the keys that were made ahead are to be wiped.
    pub(super) fn key_share_until(&self) -> Option<(Instant, Reason)> {
        self.key_share.as_ref().map(|(_, until)| (*until, Reason::Rest))
    }

    /// Begins a further path of a client's connection: datagrams by this route, which must lead to the same
    /// server from another address of ours, or to another address of it. Nothing but challenges go there until
    /// it has answered; [`Event::PathOpened`](crate::Event::PathOpened) tells.
    ///
    /// # Errors
    /// See [`PathError`]; [`PathError::Exists`] too when another connection is known by that address alone.
    pub fn open_path(
        &mut self,
        now: Instant,
        handle: ConnectionHandle,
        route: Route,
    ) -> Result<PathId, PathError> {
        self.take_up(handle);
        let slot = self.connections.get_mut(&handle).ok_or(PathError::NotReady)?;
        let is_named = slot.connection.local_ids().any(|id| !id.is_empty());
        let other = self.by_route.get(&peer_key(&route)).filter(|other| **other != handle);
        if !is_named && other.is_some() {
            return Err(PathError::Exists);
        }
        let path = slot.connection.open_path(now, route)?;
        if !is_named {
            self.by_route.insert(peer_key(&route), handle);
        }
        self.schedule.touch(handle);
        Ok(path)
    }
}
