//! Attempts at the ways to a server, one after the other but not in turn: the first to succeed wins
//! (in the manner of RFC 8305).

use std::collections::VecDeque;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use jsp_wire::CloseCode;
use tokio::time::Sleep;

use crate::carrier::dial::Opened;
use crate::connect::{self, Start, Via, Way, Ways};
use crate::connection::{Connection, Waiting};
use crate::endpoint::Endpoint;
use crate::error::{ConnectError, ConnectionError};
use crate::identity::{Outcome, Trust, Verification};
use crate::shard::{Phase, Place};

/// Time between attempts (RFC 8305, section 5).
// spec: CAR-15
pub(crate) const STAGGER: Duration = Duration::from_millis(250);

/// Silence after which a client that has pinned its server asks who lives there: a server does not
/// answer a hello made for somebody else.
const INQUIRY_AFTER: Duration = Duration::from_secs(2);

/// What may come of one attempt.
type Attempted = Result<Connection, (SocketAddr, ConnectionError)>;

/// What a race comes to.
pub(crate) struct Won {
    pub(crate) connection: Connection,
    pub(crate) outcome: Outcome,
    pub(crate) way: Way,
}

/// An attempt by one way.
struct Attempt {
    way: Way,
    remote: SocketAddr,
    connection: Connection,
    outcome: Outcome,
    /// Only to learn who answers.
    is_inquiry: bool,
}

/// A way that is being opened.
struct Opening {
    way: Way,
    is_inquiry: bool,
    opened: Pin<Box<dyn Future<Output = Result<Opened, ConnectError>> + Send>>,
}

/// Attempts at all ways to a server.
pub(crate) struct Race<'a> {
    endpoint: &'a Endpoint,
    trust: Trust,
    name: String,
    /// Ways of datagrams and of streams not yet tried.
    datagrams: VecDeque<Way>,
    streams: VecDeque<Way>,
    openings: Vec<Opening>,
    attempts: Vec<Attempt>,
    failure: Option<ConnectError>,
    next: Pin<Box<Sleep>>,
    inquire_at: Pin<Box<Sleep>>,
    inquired: bool,
    /// An attempt was begun anew because its cookie had become useless.
    renewed: bool,
}

impl<'a> Race<'a> {
    pub(crate) fn new(endpoint: &'a Endpoint, trust: Trust, name: String, ways: Ways) -> Self {
        Self {
            endpoint,
            trust,
            name,
            datagrams: ways.datagrams.into(),
            streams: ways.streams.into(),
            openings: Vec::new(),
            attempts: Vec::new(),
            failure: None,
            next: Box::pin(tokio::time::sleep(STAGGER)),
            inquire_at: Box::pin(tokio::time::sleep(INQUIRY_AFTER)),
            inquired: false,
            renewed: false,
        }
    }

    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Won, ConnectError>> {
        loop {
            self.poll_openings(cx);
            if let Some(result) = self.poll_attempts(cx) {
                return Poll::Ready(result);
            }
            let waits = !self.datagrams.is_empty() || !self.streams.is_empty();
            let due = waits && self.next.as_mut().poll(cx).is_ready();
            let others = self.has_others();
            if waits && (due || !others) {
                self.begin_next();
                continue;
            }
            if !others && !self.awaits_inquiry() {
                let failure = self.failure.take().unwrap_or(ConnectError::EndpointClosed);
                return Poll::Ready(Err(failure));
            }
            // Where nothing was said yet, silence says nothing.
            let may_inquire =
                !self.inquired && matches!(self.trust, Trust::Pinned(_)) && self.has_attempts();
            if may_inquire && self.inquire_at.as_mut().poll(cx).is_ready() {
                let ways: Vec<_> =
                    self.attempts.iter().map(|attempt| attempt.way.clone()).collect();
                ways.into_iter().for_each(|way| self.inquire(way));
                continue;
            }
            return Poll::Pending;
        }
    }

    /// Ways that have opened become attempts.
    fn poll_openings(&mut self, cx: &mut Context<'_>) {
        let mut index = 0;
        while let Some(opening) = self.openings.get_mut(index) {
            let Poll::Ready(result) = opening.opened.as_mut().poll(cx) else {
                index += 1;
                continue;
            };
            let Opening { way, is_inquiry, .. } = self.openings.remove(index);
            let begun = result.and_then(|opened| {
                let via = Via::opened(&way, opened);
                self.begin(way, via, is_inquiry)
            });
            if let (Err(error), false) = (begun, is_inquiry) {
                self.failure = Some(error);
                // What fails at once makes nobody wait.
                self.next.as_mut().reset(tokio::time::Instant::now());
            }
        }
    }

    // spec: CAR-15
    fn poll_attempts(&mut self, cx: &mut Context<'_>) -> Option<Result<Won, ConnectError>> {
        let mut index = 0;
        while let Some(attempt) = self.attempts.get(index) {
            match attempt.poll(cx) {
                Poll::Pending => index += 1,
                Poll::Ready(Ok(connection)) => {
                    let (outcome, way) = (attempt.outcome.clone(), attempt.way.clone());
                    return Some(Ok(Won { connection, outcome, way }));
                }
                Poll::Ready(Err((remote, error))) => {
                    let attempt = self.attempts.remove(index);
                    if let Some(fatal) = self.judge(&attempt, remote, error) {
                        return Some(Err(fatal));
                    }
                    if !attempt.is_inquiry {
                        // What has failed makes nobody wait.
                        self.next.as_mut().reset(tokio::time::Instant::now());
                    }
                }
            }
        }
        None
    }

    /// True while an attempt is under way that may win.
    fn has_others(&self) -> bool {
        self.has_attempts() || self.openings.iter().any(|opening| !opening.is_inquiry)
    }

    /// True while a server has a hello, or is to have it, that it may answer with a connection.
    fn has_attempts(&self) -> bool {
        self.attempts.iter().any(|attempt| !attempt.is_inquiry)
    }

    /// Starts the next way of datagrams, and of streams: these not before datagrams had their time.
    // spec: CAR-15
    fn begin_next(&mut self) {
        let is_first = self.attempts.is_empty() && self.openings.is_empty();
        let datagram = self.datagrams.pop_front();
        let holds_back = is_first && datagram.is_some();
        let stream = if holds_back { None } else { self.streams.pop_front() };
        for way in datagram.into_iter().chain(stream) {
            if let Err(error) = self.try_way(way, false) {
                self.failure = Some(error);
            }
        }
        self.next.as_mut().reset(tokio::time::Instant::now() + STAGGER);
    }

    fn try_way(&mut self, way: Way, is_inquiry: bool) -> Result<(), ConnectError> {
        if let Way::Udp(remote) = way {
            return self.begin(way, Via::udp(remote), is_inquiry);
        }
        let (offers, target) = (Arc::clone(&self.endpoint.offers), way.clone());
        let opened = Box::pin(async move { connect::open(&offers, &target).await });
        self.openings.push(Opening { way, is_inquiry, opened });
        Ok(())
    }

    fn begin(&mut self, way: Way, via: Via, is_inquiry: bool) -> Result<(), ConnectError> {
        let verification = if is_inquiry {
            Verification::inquiry()
        } else {
            Verification::new(&self.trust, &self.name)?
        };
        // Who only asks for an identity has no use for tickets.
        let server = (!is_inquiry).then(|| self.trust.ticket_name(&self.name));
        let remote = via.remote;
        let start = Start { via, server, early: false };
        let (connection, outcome) = connect::begin(self.endpoint, start, verification)?;
        if !is_inquiry && !self.has_attempts() {
            // There is no silence before somebody was spoken to.
            self.inquire_at.as_mut().reset(tokio::time::Instant::now() + INQUIRY_AFTER);
        }
        self.attempts.push(Attempt { way, remote, connection, outcome, is_inquiry });
        Ok(())
    }

    fn inquire(&mut self, way: Way) {
        self.inquired = true;
        // An inquiry that cannot be made leaves the failure without a name.
        let _ = self.try_way(way, true);
    }

    /// Another server than the pinned one answers, and who it is will be known soon.
    fn awaits_inquiry(&self) -> bool {
        let nameless = matches!(self.failure, Some(ConnectError::Identity { got: None, .. }));
        nameless && !(self.attempts.is_empty() && self.openings.is_empty())
    }

    /// Puts a way first once more.
    fn renew(&mut self, way: Way) {
        match way {
            Way::Carrier(..) => self.streams.push_front(way),
            Way::Udp(_) | Way::Relay(_) => self.datagrams.push_front(way),
        }
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
                self.inquire(attempt.way.clone());
            }
            return None;
        }
        // The address changed, or too much time passed, between the server's question for a proof of
        // address and the answer.
        if matches!(error, ConnectionError::PeerError { code: CloseCode::INVALID_TOKEN, .. })
            && !core::mem::replace(&mut self.renewed, true)
        {
            self.renew(attempt.way.clone());
        }
        self.failure = Some(attempt.way.explain(remote, error));
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
                Phase::Closed(error) => Poll::Ready(Err((remote, ConnectionError::clone(error)))),
            },
            None => Poll::Ready(Err((remote, ConnectionError::EndpointClosed))),
        });
        waiting.keep();
        result
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::task::{Wake, Waker};

    use super::*;

    /// Whether it was woken.
    #[derive(Default)]
    struct Woken(AtomicBool);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    fn client() -> Endpoint {
        Endpoint::builder().bind("127.0.0.1:0").build().unwrap()
    }

    /// A race to a server that is pinned, by a way that does not open, and others of datagrams.
    fn race(endpoint: &Endpoint, datagrams: Vec<Way>) -> Race<'_> {
        let trust = Trust::Pinned(crate::Identity::generate().fingerprint());
        let ways = Ways { datagrams, streams: Vec::new() };
        let mut race = Race::new(endpoint, trust, "server".to_owned(), ways);
        let opened = Box::pin(std::future::pending());
        race.openings.push(Opening { way: silent(1), is_inquiry: false, opened });
        race
    }

    /// Nobody is there.
    fn silent(port: u16) -> Way {
        Way::Udp(SocketAddr::from(([192, 0, 2, 1], port)))
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_is_asked_who_they_are_before_a_way_to_them_is_open() {
        let endpoint = client();
        let mut race = race(&endpoint, Vec::new());
        tokio::time::advance(INQUIRY_AFTER * 2).await;
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        assert!(race.poll(&mut Context::from_waker(&waker)).is_pending());
        // Who takes too many turns is stopped, and woken later.
        tokio::task::yield_now().await;
        assert!(!woken.0.load(Ordering::Relaxed), "it goes round in circles");
        // One that is open has its time from now on.
        let Way::Udp(remote) = silent(2) else { unreachable!() };
        race.begin(silent(2), Via::udp(remote), false).unwrap();
        assert!(race.poll(&mut Context::from_waker(&waker)).is_pending());
        assert!(!race.inquired && race.attempts.len() == 1);
        tokio::time::advance(INQUIRY_AFTER).await;
        assert!(race.poll(&mut Context::from_waker(&waker)).is_pending());
        assert!(race.inquired && race.attempts.len() == 2);
    }

    #[tokio::test(start_paused = true)]
    // spec-test: CAR-15
    async fn the_next_way_does_not_wait_once_a_handshake_has_failed() {
        let endpoint = client();
        let mut race = race(&endpoint, vec![silent(2)]);
        let Way::Udp(remote) = silent(1) else { unreachable!() };
        race.begin(silent(1), Via::udp(remote), false).unwrap();
        let mut cx = Context::from_waker(Waker::noop());
        assert!(race.poll(&mut cx).is_pending());
        assert_eq!(race.datagrams.len(), 1);
        race.attempts[0].connection.close(0, b"");
        assert!(race.poll(&mut cx).is_pending());
        assert!(race.datagrams.is_empty() && race.attempts.len() == 1);
    }
}
