//! A TURN server of somebody else, and the task that talks to it.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use jsp_nat::rendezvous::TurnGrant;
use jsp_nat::turn::{Client, Failure, Login};
use thiserror::Error;
use tokio::sync::{Notify, mpsc, watch};
use zeroize::Zeroizing;

use super::link::{Switch, Told};
use super::{Peer, Registration, random};
use crate::clock::Clock;
use crate::proxy::decode;

/// The port of TURN where none is named (RFC 8656, section 20).
const PORT: u16 = 3478;
/// Answers that wait to be looked at.
const MESSAGES_MAX: usize = 64;
/// It is looked so often whether the peer is still there.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// A TURN server (RFC 8656), reached by UDP, and who one is there. Text form:
/// `turn://user:password@host:port`; in user and password, `%40` stands for `@`, and so on. Without a port it is
/// 3478.
#[derive(Clone)]
pub struct TurnServer {
    server: String,
    user: String,
    /// Wiped when dropped, and so is each copy.
    password: Zeroizing<String>,
}

/// A text names no TURN server. It is not told: there may be a password in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("this is no TURN server: {0}; write turn://user:password@host:port")]
pub struct TurnServerError(&'static str);

/// Why a TURN server lends no address.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TurnError {
    /// Its name does not resolve.
    #[error("the TURN server's name does not resolve")]
    NoName,
    /// The peer's policy does not allow it.
    #[error("a peer that may use a proxy alone asks no TURN server")]
    Forbidden,
    /// The server does not do it.
    #[error(transparent)]
    Failed(Failure),
    /// The peer is closed, or has another server now.
    #[error("the peer asks this TURN server no more")]
    Gone,
}

impl TurnServer {
    /// A server, as `host:port`, and a user of it.
    pub fn new(
        server: impl Into<String>,
        user: impl Into<String>,
        password: impl Into<String>,
    ) -> Self {
        let password = Zeroizing::new(password.into());
        Self { server: server.into(), user: user.into(), password }
    }

    fn granted(grant: TurnGrant) -> Self {
        Self::new(grant.server, grant.user, grant.password)
    }

    /// Its host and port.
    pub fn server(&self) -> &str {
        &self.server
    }

    fn login(&self) -> Login {
        let (user, password) = (self.user.clone(), self.password.clone());
        let known_as = user.clone();
        Login::new(known_as, move |realm, message| {
            jsp_crypto::turn::message_integrity(&user, realm, &password, message)
        })
    }
}

impl FromStr for TurnServer {
    type Err = TurnServerError;

    fn from_str(text: &str) -> Result<Self, TurnServerError> {
        let rest =
            text.strip_prefix("turn://").ok_or(TurnServerError("it has no turn:// before it"))?;
        let (login, server) = rest
            .trim_end_matches('/')
            .rsplit_once('@')
            .ok_or(TurnServerError("it has no user and password"))?;
        let (user, password) =
            login.split_once(':').ok_or(TurnServerError("it has a user without a password"))?;
        let texts = decode(user).zip(decode(password));
        let (user, password) =
            texts.ok_or(TurnServerError("its user or password has a % that encodes nothing"))?;
        let has_port = server.rsplit_once(':').is_some_and(|(host, port)| {
            !host.is_empty()
                && !host.ends_with(':')
                && port.parse::<u16>().is_ok_and(|port| port > 0)
        });
        // The colons of an address of IPv6 stand in brackets.
        let is_bare = !server.is_empty() && (!server.contains(':') || server.ends_with(']'));
        match (has_port, is_bare) {
            (true, _) => Ok(Self::new(server, user, password)),
            (_, true) => Ok(Self::new(format!("{server}:{PORT}"), user, password)),
            _ => Err(TurnServerError("its host or port is none")),
        }
    }
}

impl fmt::Debug for TurnServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // User and password are nobody's business.
        f.debug_struct("TurnServer").field("server", &self.server).finish_non_exhaustive()
    }
}

impl Peer {
    /// Has a TURN server lend this peer an address, which is told to other peers and used where no direct way is
    /// found; with [`Policy::RelayOnly`](super::Policy::RelayOnly) it is the only one that they learn. It is kept for as
    /// long as the peer lives, asked for anew when it is lost or this host has moved, and given back at the end. One
    /// server at a time: another takes the first one's place. At the same server, an address that is lent stays, and the
    /// new login is used once the server does not take the old one any more. Answers the address.
    ///
    /// Takes two round trips; half a minute when the server does not answer. After a failure, it is asked again
    /// every minute, but for a wrong password.
    ///
    /// Cancel-safe: the server is asked on.
    ///
    /// # Errors
    /// See [`TurnError`].
    pub async fn use_turn(&self, server: &TurnServer) -> Result<SocketAddr, TurnError> {
        if !self.shared.policy.allows_turn() {
            return Err(TurnError::Forbidden);
        }
        let found = tokio::net::lookup_host(&server.server).await;
        let is_usable = self.usable_family();
        let address =
            found.ok().and_then(|mut all| all.find(is_usable)).ok_or(TurnError::NoName)?;
        let told = self.log_in_anew(address, server);
        let mut told = told.unwrap_or_else(|| self.ask_turn_server(address, server));
        match told.wait_for(Option::is_some).await.map(|outcome| *outcome) {
            Ok(Some(outcome)) => outcome.map_err(TurnError::Failed),
            Ok(None) | Err(_) => Err(TurnError::Gone),
        }
    }

    fn ask_turn_server(&self, address: SocketAddr, server: &TurnServer) -> Outcomes {
        let clock = self.endpoint.shard.clock;
        let (to, messages) = mpsc::channel(MESSAGES_MAX);
        let wake = Arc::new(Notify::new());
        let client = Client::new(clock.now(), address, server.login());
        let (tell, told) = watch::channel(None);
        self.shared.switch.use_turn(client, to, (Arc::clone(&wake), tell.clone()));
        let switch = Arc::downgrade(&self.shared.switch);
        tokio::spawn(Talk { switch, clock, messages, wake, tell }.run());
        told
    }

    /// The server is in use already: `None` when not.
    fn log_in_anew(&self, address: SocketAddr, server: &TurnServer) -> Option<Outcomes> {
        let switch = &self.shared.switch;
        let (wake, tell) = switch.turn_at(address)?;
        let now = self.endpoint.shard.clock.now();
        switch.with_turn(&wake, |client| {
            client.use_login(now, server.login());
            if client.relayed().is_none() {
                tell.send_replace(None);
            }
        })?;
        wake.notify_one();
        Some(tell.subscribe())
    }

    /// A socket that is bound to an address of one family reaches no other.
    fn usable_family(&self) -> impl FnMut(&SocketAddr) -> bool + use<> {
        let bound = self.endpoint.local_addr().ok().filter(|own| !own.ip().is_unspecified());
        move |address| bound.is_none_or(|own| own.is_ipv6() == address.is_ipv6())
    }
}

impl Registration {
    /// The TURN server that the coordinator has its clients use, if there is one, and how long the server takes who
    /// one is there: then ask again, and have [`Peer::use_turn`] use what is told. Takes a round trip; ten seconds
    /// where the coordinator knows nothing of TURN.
    ///
    /// Cancel-safe.
    pub async fn turn_server(&self) -> Option<(TurnServer, Duration)> {
        let grant = self.control.ask_turn().await?;
        let lifetime = Duration::from_secs(grant.seconds.into());
        Some((TurnServer::granted(grant), lifetime))
    }
}

/// The task that talks to a server.
struct Talk {
    switch: Weak<Switch>,
    clock: Clock,
    messages: mpsc::Receiver<Vec<u8>>,
    wake: Arc<Notify>,
    tell: Told,
}

/// What comes of asking a server.
type Outcomes = watch::Receiver<Option<Result<SocketAddr, Failure>>>;

impl Talk {
    /// Goes on until the peer is gone, or has another server.
    async fn run(mut self) {
        while let Some(until) = self.send_what_is_due() {
            let until = until.min(tokio::time::Instant::now() + LOOK_EVERY);
            tokio::select! {
                Some(message) = self.messages.recv() => {
                    let Some(switch) = self.switch.upgrade() else { return };
                    let now = self.clock.now();
                    switch.with_turn(&self.wake, |client| {
                        client.handle_message(now, &message, &mut random)
                    });
                }
                () = self.wake.notified() => {}
                () = tokio::time::sleep_until(until) => {}
            }
        }
    }

    /// When something is due next; `None` when it is over.
    fn send_what_is_due(&self) -> Option<tokio::time::Instant> {
        let switch = self.switch.upgrade()?;
        let now = self.clock.now();
        while let Some(out) =
            switch.with_turn(&self.wake, |client| client.poll_transmit(now, &mut random))?
        {
            switch.send(out.to.into(), &out.payload);
        }
        let due = switch.with_turn(&self.wake, |client| {
            let failed = client.failure().map(Err);
            let outcome = client.relayed().map(Ok).or(failed);
            self.tell.send_if_modified(|told| std::mem::replace(told, outcome) != outcome);
            client.poll_timeout()
        })?;
        Some(match due {
            Some(due) => self.clock.to_runtime(due),
            None => tokio::time::Instant::now() + LOOK_EVERY,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_name_servers_and_passwords_are_not_told() {
        let server: TurnServer = "turn://ann:p%40ss%3a@turn.example:99".parse().unwrap();
        let parts = (&server.server[..], &server.user[..], &server.password[..]);
        assert_eq!(parts, ("turn.example:99", "ann", "p@ss:"));
        assert!(!format!("{server:?}").contains("p@ss"));
        fn is_wiped(_: &impl zeroize::ZeroizeOnDrop) {}
        is_wiped(&server.password);
        for (text, expected) in [
            ("turn://a:b@turn.example", "turn.example:3478"),
            ("turn://a:b@[2001:db8::1]", "[2001:db8::1]:3478"),
            ("turn://a:b@[2001:db8::1]:7/", "[2001:db8::1]:7"),
        ] {
            assert_eq!(text.parse::<TurnServer>().unwrap().server(), expected);
        }
        for text in
            ["a:secret@b", "turn://b", "turn://secret@b", "turn://a:%x@b", "turn://a:secret@b:x"]
        {
            let error = text.parse::<TurnServer>().unwrap_err().to_string();
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
