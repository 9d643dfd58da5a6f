//! The server's end: sessions that wait for their clients.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jsp::{Connection, Endpoint, Stream};
use jsp_app::session::{self as machine, Arrival, CONTROL_LABEL, Change, Grant, Registry};
use tokio::sync::{Notify, mpsc};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;

use crate::error::SessionError;
use crate::run::{PROTOCOL_ERROR, REFUSED, run};
use crate::shared::{Save, Shared};
use crate::store::SessionsStore;
use crate::{Session, SessionConfig};

/// How long a client may take to greet.
const GREETING: Duration = Duration::from_secs(10);
/// New sessions that wait for [`Sessions::accept`]; further clients wait.
const NEW_WAITING: usize = 64;

/// The sessions of a server. Clones are handles of the same; with the last one its sessions are
/// forgotten.
#[derive(Clone)]
pub struct Sessions {
    inner: Arc<Inner>,
    new: Arc<tokio::sync::Mutex<mpsc::Receiver<Session>>>,
    _tasks: Arc<Tasks>,
}

struct Inner {
    config: SessionConfig,
    registry: Mutex<Registry<Arc<Shared>>>,
    /// What outlives the process, if anything does.
    store: Option<Arc<dyn SessionsStore>>,
    /// Tasks that carry changes to it.
    keeping: Mutex<JoinSet<()>>,
    /// Sessions that it has brought back, for the application.
    restored: Mutex<VecDeque<Session>>,
    new: mpsc::Sender<Session>,
    start: Instant,
    /// A session waits for its client.
    parked: Notify,
}

struct Tasks(Vec<JoinHandle<()>>);

impl Drop for Tasks {
    fn drop(&mut self) {
        self.0.iter().for_each(JoinHandle::abort);
    }
}

impl Sessions {
    /// Sessions for all connections that `endpoint` accepts. To take other connections there as well,
    /// use [`new`](Self::new) and [`attend`](Self::attend). Needs a tokio runtime.
    #[must_use]
    pub fn serve(endpoint: &Endpoint, config: SessionConfig) -> Self {
        let (inner, new) = Inner::new(config, None);
        Self::on(endpoint, inner, new)
    }

    /// The same, with sessions that outlive the process: those that `store` has wait for their clients
    /// from now on, for their whole grace time, and come out of [`accept`](Self::accept) like new ones.
    /// Their channels are found again by [`Session::open`] and [`Session::accept`]; what the
    /// application had not confirmed comes again. More than `sessions_max` are forgotten.
    ///
    /// # Errors
    /// [`SessionError::Store`] when the store cannot be read.
    // spec: SES-13
    pub async fn restore(
        endpoint: &Endpoint,
        store: Arc<dyn SessionsStore>,
        config: SessionConfig,
    ) -> Result<Self, SessionError> {
        let (inner, new) = Inner::new(config, Some(Arc::clone(&store)));
        let loading = Arc::clone(&inner);
        tokio::task::spawn_blocking(move || loading.load(&*store))
            .await
            .map_err(|_| SessionError::Store("its thread ended".to_owned()))?
            .map_err(|error| SessionError::Store(error.to_string()))?;
        let held: Vec<_> = inner.restored().iter().map(|s| Arc::clone(&s.shared)).collect();
        for shared in held {
            let id = shared.lock().machine.id();
            inner.keep(id, shared);
        }
        Ok(Self::on(endpoint, inner, new))
    }

    fn on(endpoint: &Endpoint, inner: Arc<Inner>, new: mpsc::Receiver<Session>) -> Self {
        let (endpoint, serving) = (endpoint.clone(), Arc::clone(&inner));
        let accepting = tokio::spawn(async move {
            while let Some(connection) = endpoint.accept().await {
                let inner = Arc::clone(&serving);
                tokio::spawn(async move { inner.attend(connection).await });
            }
        });
        Self::with(inner, new, vec![accepting])
    }

    /// Sessions for the connections that are given to [`attend`](Self::attend). Needs a tokio runtime.
    #[must_use]
    pub fn new(config: SessionConfig) -> Self {
        let (inner, new) = Inner::new(config, None);
        Self::with(inner, new, Vec::new())
    }

    fn with(
        inner: Arc<Inner>,
        new: mpsc::Receiver<Session>,
        mut tasks: Vec<JoinHandle<()>>,
    ) -> Self {
        tasks.push(tokio::spawn(Arc::clone(&inner).expire()));
        let new = Arc::new(tokio::sync::Mutex::new(new));
        Self { inner, new, _tasks: Arc::new(Tasks(tasks)) }
    }

    /// Runs a session on a connection, a new one or that of a client which comes back, and returns
    /// when the connection is lost. The connection carries nothing else.
    pub async fn attend(&self, connection: Connection) {
        self.inner.attend(connection).await;
    }

    /// The next session that is new, or that a store has brought back. Sessions whose clients come back go on by themselves. `None` is
    /// not to be expected. Cancel-safe.
    pub async fn accept(&self) -> Option<Session> {
        let restored = self.inner.restored().pop_front();
        match restored {
            Some(session) => Some(session),
            None => self.new.lock().await.recv().await,
        }
    }

    /// How many sessions are held, with a connection or without.
    #[must_use]
    pub fn len(&self) -> usize {
        self.inner.registry().len()
    }

    /// True when no session is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Inner {
    fn new(
        config: SessionConfig,
        store: Option<Arc<dyn SessionsStore>>,
    ) -> (Arc<Self>, mpsc::Receiver<Session>) {
        let (new, receiver) = mpsc::channel(NEW_WAITING);
        let registry = Mutex::new(Registry::new(config.sessions_max, config.grace));
        let inner = Self {
            config,
            registry,
            store,
            keeping: Mutex::default(),
            restored: Mutex::default(),
            new,
            start: Instant::now(),
            parked: Notify::new(),
        };
        (Arc::new(inner), receiver)
    }

    fn restored(&self) -> MutexGuard<'_, VecDeque<Session>> {
        self.restored.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes over what the store has.
    fn load(&self, store: &dyn SessionsStore) -> io::Result<()> {
        for saved in store.load()? {
            let machine =
                machine::Session::restore(machine::Side::Server, self.config.limits, saved.clone());
            let shared = Arc::new(Shared::new(machine));
            if self.registry().adopt(self.now(), &saved, Arc::clone(&shared)) {
                self.restored().push_back(Session { shared, _driver: None });
            } else if let Some((id, _)) = saved.granted {
                store.save(&id, &[Change::Over])?;
            }
        }
        Ok(())
    }

    /// Carries a session's changes to the store, if there is one.
    fn keep(&self, id: [u8; machine::GRANT_LEN], shared: Arc<Shared>) {
        let Some(store) = self.store.clone() else { return };
        let save: Save = Arc::new(move |changes| store.save(&id, changes));
        let mut keeping = self.keeping.lock().unwrap_or_else(PoisonError::into_inner);
        // Those of sessions that are over.
        while keeping.try_join_next().is_some() {}
        keeping.spawn(shared.keep(save));
    }

    fn registry(&self) -> MutexGuard<'_, Registry<Arc<Shared>>> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    async fn attend(&self, connection: Connection) {
        let greeting = tokio::time::timeout(GREETING, greeting(&connection)).await;
        let Ok(Some((control, record))) = greeting else {
            return connection.close(REFUSED, b"a session begins with a greeting");
        };
        // Sessions belong to those who have proved themselves.
        if connection.handshake_confirmed().await.is_err() {
            return;
        }
        let owner = connection.peer_identity().map(|peer| *peer.fingerprint.as_bytes());
        let mut fresh = [0; 32];
        if getrandom::fill(&mut fresh).is_err() {
            return connection.close(REFUSED, b"the system gives no randomness");
        }
        let client = machine::Client { owner, host: Some(connection.remote_addr().ip()) };
        let arrival = self.registry().greet(&record, client, fresh);
        let (attendance, grant) = match arrival {
            Err(error) => return connection.close(PROTOCOL_ERROR, error.to_string().as_bytes()),
            Ok(Arrival::Full) => return connection.close(REFUSED, b"it holds as many as it may"),
            Ok(Arrival::Unknown(record)) => {
                let _ = control.send_last(record).await;
                // The client closes once it has read that.
                let _ = tokio::time::timeout(GREETING, connection.closed()).await;
                return connection.close(0, b"the session is not known");
            }
            Ok(Arrival::New(grant)) => {
                let is_stored = self.store.is_some();
                let machine = machine::Session::server(self.config.limits, is_stored);
                let shared = Arc::new(Shared::new(machine));
                self.keep(grant.id(), Arc::clone(&shared));
                self.registry().insert(&grant, client, Arc::clone(&shared));
                let session = Session { shared: Arc::clone(&shared), _driver: None };
                let attendance = Attendance::new(self, shared, connection, &grant);
                tokio::select! {
                    taken = self.new.send(session) => if taken.is_err() {
                        let reason = b"no session is taken any more";
                        return attendance.connection.close(REFUSED, reason);
                    },
                    // Nobody was granted it, so nobody can come back to it.
                    _ = attendance.connection.closed() => {
                        return attendance.shared.change(|state| state.machine.forget());
                    }
                }
                (attendance, grant)
            }
            Ok(Arrival::Back(shared, grant)) => {
                (Attendance::new(self, shared, connection, &grant), grant)
            }
        };
        attendance.run(control, &grant).await;
    }

    /// Forgets sessions whose clients do not come back.
    async fn expire(self: Arc<Self>) {
        loop {
            let next = self.registry().next_expiry();
            let parked = self.parked.notified();
            match next {
                None => parked.await,
                Some(at) => tokio::select! {
                    () = parked => {}
                    () = tokio::time::sleep_until(self.start + at) => {}
                },
            }
            let expired = self.registry().expire(self.now());
            for shared in expired {
                shared.change(|state| state.machine.forget());
            }
        }
    }
}

/// A session on a connection. With its value the session is without one, however that comes: it
/// waits for its client, or is over.
struct Attendance<'a> {
    inner: &'a Inner,
    shared: Arc<Shared>,
    connection: Connection,
    id: [u8; machine::GRANT_LEN],
    generation: u64,
}

impl<'a> Attendance<'a> {
    fn new(inner: &'a Inner, shared: Arc<Shared>, connection: Connection, grant: &Grant) -> Self {
        let generation = shared.lock().generation;
        Self { inner, shared, connection, id: grant.id(), generation }
    }

    async fn run(mut self, control: Stream, grant: &Grant) {
        let connection = self.connection.clone();
        let granted = self.shared.change(|state| {
            state.generation += 1;
            let before = state.connection.replace(connection.clone());
            if let Some(before) = before {
                before.close(0, b"the session goes on over another connection");
            }
            (state.generation, state.machine.grant(grant))
        });
        self.generation = granted.0;
        if let Err(error) = granted.1 {
            return connection.close(PROTOCOL_ERROR, error.to_string().as_bytes());
        }
        let kept = async {
            let kept = |machine: &mut machine::Session| machine.poll_kept().then_some(());
            if self.shared.wait_in(self.generation, kept).await.is_ok() {
                self.inner.registry().on_kept(&self.id);
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = run(Arc::clone(&self.shared), connection, control, self.generation) => {}
            () = kept => {}
        }
    }
}

impl Drop for Attendance<'_> {
    fn drop(&mut self) {
        let is_last = self.shared.change(|state| {
            let is_last = state.generation == self.generation;
            if is_last {
                state.connection = None;
                state.machine.detach();
            }
            is_last
        });
        self.connection.close(0, b"the session needs this connection no more");
        if self.shared.error().is_some() {
            // Nothing goes on from what could not be kept, whichever connection it had.
            self.inner.registry().remove(&self.id);
        } else if is_last {
            self.inner.registry().park(self.inner.now(), &self.id);
            self.inner.parked.notify_one();
        }
    }
}

/// The control stream and the first record.
async fn greeting(connection: &Connection) -> Option<(Stream, bytes::Bytes)> {
    let control = connection.accept().await.ok()?;
    if control.info().label != CONTROL_LABEL {
        return None;
    }
    let first = control.recv().await.ok()??;
    Some((control, first.payload))
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions").field("held", &self.len()).finish_non_exhaustive()
    }
}
