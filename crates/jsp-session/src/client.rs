//! The client's end: connects, and connects again.

use std::error::Error;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use jsp::monitor::Arrivals;
use jsp::{ConnectError, Connection, Endpoint, StreamConfig, Trust};
use jsp_app::session::{self as machine, CONTROL_LABEL};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::error::SessionError;
use crate::run::{REFUSED, run};
use crate::shared::{Save, Shared};
use crate::{Session, SessionConfig};

/// Pauses between attempts to connect: the first, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// A connection that has carried the session for so long is followed by the next without a pause.
const STEADY: Duration = Duration::from_secs(1);
/// How long the server may take to answer the greeting.
const GREETING: Duration = Duration::from_secs(10);

/// The client's task ends with the last handle.
#[derive(Debug)]
pub(crate) struct Driver {
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

type Connecting = Pin<Box<dyn Future<Output = Result<Connection, SessionError>> + Send>>;

/// How connections are made.
struct Connect {
    by: Box<dyn Fn() -> Connecting + Send + Sync>,
    /// Whose monitor tells when it is worth while to try again.
    endpoint: Option<Endpoint>,
}

impl Session {
    /// Begins a session with the server at `addr`, or goes on with the one that the configuration's
    /// store has. A new one returns when it runs; one from a store returns at once, and runs when the
    /// server can be reached. The session connects again by itself whenever its connection is lost, with pauses between
    /// attempts, and at once when the endpoint's monitor ([`jsp::monitor`]) says that this machine has got an address.
    ///
    /// # Errors
    /// [`SessionError`].
    pub async fn connect(
        endpoint: &Endpoint,
        addr: impl ToString,
        trust: impl Into<Trust>,
        config: SessionConfig,
    ) -> Result<Self, SessionError> {
        let (watched, addr, trust) = (endpoint.clone(), addr.to_string(), trust.into());
        let endpoint = endpoint.clone();
        let by = Box::new(move || -> Connecting {
            let (endpoint, addr, trust) = (endpoint.clone(), addr.clone(), trust.clone());
            Box::pin(async move { Ok(endpoint.connect(&addr, trust).await?) })
        });
        Self::begin(Connect { by, endpoint: Some(watched) }, config).await
    }

    /// The same over connections that `connect` makes, each time one is needed: to a peer through a coordinator, for
    /// example (the registration must live as long as its calls), whom [`Sessions::attend`](crate::Sessions::attend) serves at the other end. What fails is tried again
    /// for as long as the other side may hold the session. When the network comes back is for the application to tell
    /// ([`Session::hasten`]), as by [`Endpoint::network_arrivals`].
    ///
    /// ```no_run
    /// # use std::sync::Arc;
    /// # use jsp::{Fingerprint, rendezvous::Registration};
    /// # use jsp_session::{Session, SessionConfig};
    /// # async fn call(registration: Arc<Registration>, friend: Fingerprint) -> Result<(), Box<dyn std::error::Error>> {
    /// let connect = move || {
    ///     let registration = Arc::clone(&registration);
    ///     async move { registration.connect(friend).await }
    /// };
    /// let session = Session::connect_by(connect, SessionConfig::default()).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`SessionError`].
    pub async fn connect_by<F, E>(
        connect: impl Fn() -> F + Send + Sync + 'static,
        config: SessionConfig,
    ) -> Result<Self, SessionError>
    where
        F: Future<Output = Result<Connection, E>> + Send + 'static,
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        let by = Box::new(move || -> Connecting {
            let connecting = connect();
            Box::pin(async move {
                let failed = |error: E| SessionError::Unreachable(Arc::from(error.into()));
                connecting.await.map_err(failed)
            })
        });
        Self::begin(Connect { by, endpoint: None }, config).await
    }

    async fn begin(connect: Connect, config: SessionConfig) -> Result<Self, SessionError> {
        let SessionConfig { limits, store, .. } = config;
        let saved = match store.clone() {
            Some(store) => tokio::task::spawn_blocking(move || store.load())
                .await
                .map_err(|_| SessionError::Store("its thread ended".to_owned()))?
                .map_err(|error| SessionError::Store(error.to_string()))?,
            None => None,
        };
        let is_new = saved.is_none();
        let machine = match saved {
            Some(saved) => machine::Session::restore(machine::Side::Client, limits, saved),
            None => machine::Session::client(limits, store.is_some()),
        };
        let shared = Arc::new(Shared::new(machine));
        let first = match is_new {
            true => Some((connect.by)().await?),
            false => None,
        };
        let mut tasks = vec![tokio::spawn(drive(Arc::clone(&shared), connect, first))];
        if let Some(store) = store {
            let save: Save = Arc::new(move |changes| store.save(changes));
            tasks.push(tokio::spawn(Arc::clone(&shared).keep(save)));
        }
        let session = Self { shared, _driver: Some(Arc::new(Driver { tasks })) };
        if is_new {
            session.started().await?;
        }
        Ok(session)
    }

    async fn started(&self) -> Result<(), SessionError> {
        self.shared
            .wait(|state| match (state.error(), state.machine.is_running()) {
                (Some(error), _) => Some(Err(error)),
                (None, is_running) => is_running.then_some(Ok(())),
            })
            .await
    }
}

/// Keeps the session connected until it is over.
async fn drive(shared: Arc<Shared>, connect: Connect, first: Option<Connection>) {
    let mut attempts = Attempts::new(&shared);
    let mut next = first;
    loop {
        let connection = match next.take() {
            Some(connection) => connection,
            None => match attempts.reach(&shared, &connect).await {
                Ok(connection) => connection,
                Err(error) => return shared.fail(error),
            },
        };
        let begun = Instant::now();
        let end = attach(&shared, connection).await;
        if shared.error().is_some() {
            return;
        }
        match end {
            End::Refused(reason) => return shared.fail(SessionError::Refused(reason)),
            End::Lost if begun.elapsed() >= STEADY => attempts = Attempts::new(&shared),
            // Who lets the session run only to drop it is not asked without end.
            End::Lost => attempts = Attempts { due: true, ..Attempts::new(&shared) },
            End::Unanswered if Instant::now() >= attempts.until => {
                return shared.fail(SessionError::Refused("it does not answer".to_owned()));
            }
            End::Unanswered => attempts.due = true,
        }
    }
}

/// Attempts to reach the server since the session last ran.
struct Attempts {
    /// The server has forgotten the session by then.
    until: Instant,
    pause: Duration,
    /// A pause comes first.
    due: bool,
}

impl Attempts {
    fn new(shared: &Shared) -> Self {
        let until = Instant::now() + shared.lock().machine.grace();
        Self { until, pause: PAUSES.0, due: false }
    }

    /// Connects, with pauses in between, for as long as the server may know the session; once at least. A hint that
    /// the network is back ends a pause, and an attempt that may have said all it had to say to nobody.
    async fn reach(
        &mut self,
        shared: &Shared,
        connect: &Connect,
    ) -> Result<Connection, SessionError> {
        let mut hints = Hints::from_now_on(shared, connect);
        loop {
            if core::mem::replace(&mut self.due, true) {
                tokio::select! {
                    () = tokio::time::sleep(self.pause) => self.pause = PAUSES.1.min(self.pause * 2),
                    () = hints.next() => self.pause = PAUSES.0,
                }
            }
            let attempt = tokio::select! {
                attempt = (connect.by)() => attempt,
                () = hints.next(), if Instant::now() < self.until => {
                    (self.due, self.pause) = (false, PAUSES.0);
                    continue;
                }
            };
            match attempt {
                Err(failure) if is_final(&failure) || Instant::now() >= self.until => {
                    return Err(failure);
                }
                Err(_) => {}
                connected => return connected,
            }
        }
    }
}

/// What says that the network is back.
struct Hints<'a> {
    shared: &'a Shared,
    arrivals: Arrivals,
}

impl<'a> Hints<'a> {
    fn from_now_on(shared: &'a Shared, connect: &Connect) -> Self {
        // What was said while there was a connection was for that.
        pin!(shared.hasten.notified()).enable();
        let arrivals = connect.endpoint.as_ref().map(Endpoint::network_arrivals);
        Self { shared, arrivals: arrivals.unwrap_or_default() }
    }

    /// The application says so, or an address has come.
    async fn next(&mut self) {
        tokio::select! {
            () = self.shared.hasten.notified() => {}
            () = self.arrivals.next() => {}
        }
    }
}

/// Whether trying again is of no use. What a server seems to answer is not among it: before a handshake is complete,
/// anybody on the way can say that in its place, and the session would be lost.
fn is_final(failure: &SessionError) -> bool {
    let SessionError::Connect(failure) = failure else { return false };
    matches!(**failure, ConnectError::KnownHosts { .. } | ConnectError::EndpointClosed)
}

/// How a connection of the session ended.
enum End {
    /// It carried the session.
    Lost,
    /// It was lost before the server had answered.
    Unanswered,
    /// The server wants no session, in its words.
    Refused(String),
}

/// Runs the session on a connection until that is lost.
async fn attach(shared: &Arc<Shared>, connection: Connection) -> End {
    let control = StreamConfig { weight: u8::MAX, ..StreamConfig::messages() };
    let opened = connection.open(control.labelled(CONTROL_LABEL));
    let Ok(Ok(control)) = tokio::time::timeout(GREETING, opened).await else {
        return End::Unanswered;
    };
    let generation = shared.change(|state| {
        state.generation += 1;
        state.connection = Some(connection.clone());
        state.machine.attach();
        state.generation
    });
    let running = run(Arc::clone(shared), connection.clone(), control, generation);
    let late = async {
        let answered = shared.wait(|state| {
            let is_over = state.error().is_some() || state.generation != generation;
            (is_over || state.machine.is_running()).then_some(())
        });
        if tokio::time::timeout(GREETING, answered).await.is_err() {
            connection.close(0, b"no answer to the greeting");
        }
        std::future::pending().await
    };
    tokio::select! {
        () = running => {}
        () = late => {}
    }
    match connection.error() {
        _ if shared.lock().has_run(generation) => End::Lost,
        Some(jsp::ConnectionError::ClosedByPeer { code: REFUSED, reason }) => End::Refused(reason),
        _ => End::Unanswered,
    }
}
