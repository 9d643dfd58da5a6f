//! Sessions over JetStreamProto: channels of messages that outlive connections, and processes.
//!
//! A connection ends when its network is dead for longer than its idle time-out, when a laptop sleeps,
//! or when a process does. A [`Session`] then waits, connects again, and goes on where it was: every
//! message arrives, once, in the order of its channel. The application sees [`Event::Suspended`] and
//! [`Event::Resumed`], and no error.
//!
//! ```
//! use jsp::{Endpoint, Identity, StreamConfig};
//! use jsp_session::{Session, SessionConfig, Sessions};
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let server = Endpoint::server("127.0.0.1:0", Identity::generate())?;
//! let (addr, fingerprint) = (server.local_addr()?, server.fingerprint());
//! let sessions = Sessions::serve(&server, SessionConfig::default());
//! tokio::spawn(async move {
//!     while let Some(session) = sessions.accept().await {
//!         let orders = session.accept().await.unwrap();
//!         let order = orders.recv().await.unwrap().unwrap();
//!         orders.send(format!("done: {}", order.number)).await.unwrap();
//!     }
//! });
//! let client = Endpoint::client()?;
//! let session = Session::connect(&client, addr, fingerprint, SessionConfig::default()).await?;
//! let orders = session.open("orders", StreamConfig::messages()).await?;
//! orders.send("two of the blue ones").await?;
//! assert_eq!(orders.recv().await?.unwrap().payload, "done: 0");
//! # Ok(())
//! # }
//! ```
//!
//! # What is kept, and for how long
//!
//! Each side keeps a message until the other side's application has taken it: at most
//! [`Limits::unconfirmed_bytes`] a channel; more waits in [`Channel::send`]. A message counts as taken
//! at the next [`Channel::recv`] or at [`Channel::confirm`]. A server keeps a session for
//! [`SessionConfig::grace`] after its connection is lost. Each connection of a session has keys of its
//! own; the client shows a token that is good until the next connection and known to nobody else, and
//! its identity, if it has one.
//!
//! # Processes that end
//!
//! With a [`Store`] ([`SessionConfig::store`]) a client goes on after a crash: `send` returns when the
//! message is in the store, and nothing is said to the server that the store does not have. The
//! started program connects with the same store and opens its channels by the same labels. What its
//! application had been given but not confirmed comes again, with the same
//! [`number`](Received::number). [`RedbStore`] is a store in one file.
//!
//! A server that is started by [`Sessions::restore`] does the same with a [`SessionsStore`], which
//! [`RedbStore`] is too: it answers nobody before the store has what the client will show next, sends no
//! message and tells of none taken that the store does not have. After a crash its clients come back
//! within the grace time, which begins anew, and nothing is lost or comes twice. That holds as far as
//! the store keeps its word: one that confirms what a power cut takes away may lose what was confirmed, and the
//! accounts of the two sides then do not fit, or the server does not know the token that the client shows. Sessions
//! without a store are in memory: after a restart their clients see [`Event::Forgotten`], and learn
//! what was not confirmed from [`Channel::unconfirmed`].
#![forbid(unsafe_code)]

mod channel;
mod client;
mod error;
mod run;
mod server;
mod shared;
mod store;

use std::sync::Arc;
use std::time::Duration;

use jsp::StreamConfig;
pub use jsp_app::session::{Event, Item, Limits};

pub use channel::{Channel, Received};
pub use error::{OpenError, RecvError, SendError, SessionError};
pub use server::Sessions;
#[cfg(feature = "redb")]
pub use store::RedbStore;
pub use store::{SessionsStore, Store};

use shared::Shared;

/// How a session behaves.
#[derive(Clone, Debug)]
pub struct SessionConfig {
    /// How much is kept.
    pub limits: Limits,
    /// Servers: how long a session waits for its client after its connection is lost.
    pub grace: Duration,
    /// Servers: how many sessions may be held; further clients are turned away.
    pub sessions_max: usize,
    /// Clients: what outlives the process. Without, the session ends with it.
    pub store: Option<Arc<dyn Store>>,
}

impl Default for SessionConfig {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            grace: Duration::from_secs(300),
            sessions_max: 100_000,
            store: None,
        }
    }
}

/// One end of a session. Clones are handles of the same; when the last handle and the last
/// [`Channel`] of a client are dropped, the session is left as it is, for the server's grace time.
#[derive(Clone, Debug)]
pub struct Session {
    shared: Arc<Shared>,
    /// Ends the client's task with the last handle.
    _driver: Option<Arc<client::Driver>>,
}

impl Session {
    /// Opens a channel, or finds the one of this label that a store has brought back. Costs no round
    /// trip, and needs no connection. Of `config` the class, the weight, the rate cap and the send
    /// buffer hold: channels carry messages, all of them, in order. Cancel-safe.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn open(&self, label: &str, config: StreamConfig) -> Result<Channel, OpenError> {
        let id = self.shared.open(label, config)?;
        self.shared.stored().await.map_err(OpenError::Session)?;
        Ok(Channel::new(self.clone(), id))
    }

    /// The next channel that the peer has opened; `None` when the session is over. Cancel-safe.
    pub async fn accept(&self) -> Option<Channel> {
        let id = self.shared.accept().await?;
        Some(Channel::new(self.clone(), id))
    }

    /// What happened next: each event is given once, to one caller. After [`Event::Forgotten`] and
    /// [`Event::Ended`] there is nothing more, and `None` is the answer. Cancel-safe.
    pub async fn event(&self) -> Option<Event> {
        self.shared.event().await
    }

    /// A connection is there, and messages flow.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.shared.lock().machine.is_running()
    }

    /// Why the session is over; `None` while it is not.
    #[must_use]
    pub fn error(&self) -> Option<SessionError> {
        self.shared.error()
    }

    /// Tries to connect again at once rather than after the pause, or after an attempt that is under way: call it when
    /// the system says that the network is back. Sessions of [`Session::connect`] hear of addresses that come by
    /// themselves, where the endpoint has a monitor. Does nothing on servers, and while a connection is there.
    pub fn hasten(&self) {
        self.shared.hasten();
    }

    /// Ends the session for both sides. What is unconfirmed is lost: wait for
    /// [`Channel::confirmed`] before, if it matters. The peer hears of it at once, if it can be
    /// reached; else it forgets after its grace time.
    pub async fn end(&self, code: u64) {
        self.shared.end(code).await;
    }
}
