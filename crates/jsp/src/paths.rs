//! Several paths of a connection: one from each address of this machine.

use std::net::IpAddr;
use std::sync::Arc;
use std::task::Poll;

use jsp_proto::{NetworkHint, PathError, PathId, PathInfo, PathUse};
use jsp_wire::Route;

use crate::connection::Connection;
use crate::error::AddPathError;
use crate::link::Further;
use crate::monitor::machine_has;
use crate::shard::Place;

impl Connection {
    /// Opens a further path, from another address of this machine to the same server, over a socket of its own;
    /// waits until the server has answered there. All paths are used then as
    /// [`Connection::set_path_use`] says; without a word, what goes out goes by whichever is the fastest, bulk fills
    /// all of them, and real-time messages change over, or go by two, when one of them fails.
    ///
    /// Only clients open paths, and only beside one that goes to the server by plain UDP. Before the handshake is
    /// confirmed, or while the server has not given what the path needs, the call waits, as long as the connection lives
    /// at most.
    ///
    /// Cancel-safe: dropped before the path has begun, the call has done nothing; afterwards the path goes on
    /// and stands among [`Connection::paths`], where `is_validated` tells whether the server has answered.
    ///
    /// # Errors
    /// See [`AddPathError`].
    pub async fn add_path(&self, local: IpAddr) -> Result<PathId, AddPathError> {
        let inner = &self.inner;
        let socket = inner.shard.link.further_at(local)?;
        // It looks after all sockets from here on.
        inner.shard.lock().want_driver();
        let mut begun = None;
        inner
            .wait(Place::Paths, |core, inner, now| {
                let Some(id) = begun else {
                    let begin = match core.begin_path(inner.key, now, &socket) {
                        // The server has not given leave yet: it does so right after the handshake.
                        Err(AddPathError::Path(PathError::NotReady)) => {
                            core.await_paths(inner.key);
                            return Poll::Pending;
                        }
                        begin => begin,
                    };
                    return match begin {
                        Ok(id) => {
                            begun = Some(id);
                            core.want_driver();
                            Poll::Pending
                        }
                        Err(error) => Poll::Ready(Err(error)),
                    };
                };
                match core.live(inner.key) {
                    Err(error) => Poll::Ready(Err(error.into())),
                    Ok((connection, _)) => match connection.paths().find(|path| path.id == id) {
                        None => Poll::Ready(Err(AddPathError::Unanswered)),
                        Some(path) if path.is_validated => Poll::Ready(Ok(id)),
                        Some(_) => Poll::Pending,
                    },
                }
            })
            .await
    }

    /// The paths that there are, the one that is used first before the others; none once the connection is over.
    pub fn paths(&self) -> Vec<PathInfo> {
        let mut core = self.inner.shard.lock();
        let Ok((connection, _)) = core.live(self.inner.key) else { return Vec::new() };
        let outward =
            |path: PathInfo| PathInfo { route: self.inner.shard.link.outward(path.route), ..path };
        connection.paths().map(outward).collect()
    }

    /// Says what a path is to be used for; both sides follow.
    ///
    /// # Errors
    /// See [`PathError`].
    pub fn set_path_use(&self, path: PathId, usage: PathUse) -> Result<(), PathError> {
        self.on_paths(|connection, _| connection.set_path_use(path, usage))
    }

    /// Gives a path up; what is under way there goes by others.
    ///
    /// # Errors
    /// See [`PathError`].
    pub fn abandon_path(&self, path: PathId) -> Result<(), PathError> {
        self.on_paths(|connection, now| connection.abandon_path(now, path))
    }

    /// Tells what the application knows of the network of one path before packets can.
    ///
    /// # Errors
    /// See [`PathError`].
    pub fn hint_path(&self, path: PathId, hint: NetworkHint) -> Result<(), PathError> {
        let (inner, now) = (&self.inner, self.inner.shard.clock.now());
        let mut core = inner.shard.lock();
        core.hint_path(&inner.shard.link, (inner.key, path), now, hint, machine_has)?;
        inner.shard.flush(&mut core, now);
        Ok(())
    }

    fn on_paths(
        &self,
        act: impl FnOnce(&mut jsp_proto::Connection, jsp_wire::Instant) -> Result<(), PathError>,
    ) -> Result<(), PathError> {
        let now = self.inner.shard.clock.now();
        let mut core = self.inner.shard.lock();
        let (connection, _) = core.live(self.inner.key).map_err(|_| PathError::NotReady)?;
        act(connection, now)?;
        self.inner.shard.flush(&mut core, now);
        Ok(())
    }
}

impl crate::shard::Core {
    /// Begins a path of a connection by this socket.
    fn begin_path(
        &mut self,
        key: crate::shard::Key,
        now: jsp_wire::Instant,
        socket: &Arc<Further>,
    ) -> Result<PathId, AddPathError> {
        let (connection, state) = self.live(key)?;
        let handle = state.handle.ok_or(PathError::Unsupported)?;
        // A relay, or a proxy, would take what comes from elsewhere for a stranger's.
        let plainly = |path: PathInfo| match path.route {
            Route::Udp { remote, .. } => Some(remote),
            Route::Relayed { .. } | Route::Tunnel { .. } => None,
        };
        let remote = connection.paths().find_map(plainly).ok_or(AddPathError::NotPlain)?;
        let path = self.endpoint.open_path(now, handle, socket.route(remote))?;
        if let Some(state) = self.state(key) {
            state.sockets.push((path, Arc::clone(socket)));
        }
        Ok(path)
    }
}
