//! The state of one end, shared by its handles and the tasks of its connection.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jsp::{Connection, Delivery, Framing, StreamConfig};
use jsp_app::session::{self as machine, CHANNEL_LABEL, Change, ChannelId, Event};
use tokio::sync::Notify;

use crate::error::{OpenError, SessionError};

pub(crate) struct Shared {
    state: Mutex<State>,
    /// Something in `state` has changed.
    changed: Notify,
    /// The client is to connect now.
    pub(crate) hasten: Notify,
}

pub(crate) struct State {
    pub(crate) machine: machine::Session,
    /// Counts connections: tasks of an earlier one find that they are not meant any more.
    pub(crate) generation: u64,
    /// The present connection.
    pub(crate) connection: Option<Connection>,
    configs: HashMap<ChannelId, StreamConfig>,
    /// Channels that a store has brought back and nobody has opened again.
    unclaimed: HashSet<ChannelId>,
    accepted: VecDeque<ChannelId>,
    events: VecDeque<Event>,
    /// Changes that are not yet under way to the store.
    unstored: VecDeque<Change>,
    /// Changes that there were, and those of them that are in the store.
    noted: u64,
    stored: u64,
    /// The last connection on which the session ran.
    ran: u64,
    error: Option<SessionError>,
}

/// Stores a session's changes; blocks.
pub(crate) type Save = Arc<dyn Fn(&[Change]) -> std::io::Result<()> + Send + Sync>;

/// The connection that a task works for is not the session's any more.
#[derive(Debug)]
pub(crate) struct Stale;

/// Changes that wait for the store before no further record is taken: a peer can speak faster than a store writes.
const UNSTORED_MAX: usize = 1024;
/// Events that wait for the application; older ones are dropped.
const EVENTS_MAX: usize = 64;

impl Shared {
    pub(crate) fn new(machine: machine::Session) -> Self {
        let restored = machine.channels().map(|(id, _)| id);
        let (unclaimed, accepted) = restored.partition::<Vec<_>, _>(|id| machine.is_own(*id));
        let state = State {
            machine,
            generation: 0,
            connection: None,
            configs: HashMap::new(),
            unclaimed: unclaimed.into_iter().collect(),
            accepted: accepted.into(),
            events: VecDeque::new(),
            unstored: VecDeque::new(),
            noted: 0,
            stored: 0,
            ran: 0,
            error: None,
        };
        Self { state: Mutex::new(state), changed: Notify::new(), hasten: Notify::new() }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state and wakes whoever waits for that.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = {
            let mut state = self.lock();
            let result = change(&mut state);
            state.gather();
            result
        };
        self.changed.notify_waiters();
        result
    }

    /// Waits until `look` has an answer. Cancel-safe as far as `look` is.
    pub(crate) async fn wait<T>(&self, mut look: impl FnMut(&mut State) -> Option<T>) -> T {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            let (found, has_news) = {
                let mut state = self.lock();
                let found = look(&mut state);
                (found, state.gather())
            };
            // What `look` has taken makes room, or is something to send.
            if has_news || found.is_some() {
                self.changed.notify_waiters();
            }
            if let Some(found) = found {
                return found;
            }
            changed.await;
        }
    }

    /// The same for a task of the connection `generation`.
    pub(crate) async fn wait_in<T>(
        &self,
        generation: u64,
        mut look: impl FnMut(&mut machine::Session) -> Option<T>,
    ) -> Result<T, Stale> {
        self.wait(|state| {
            if state.generation != generation {
                return Some(Err(Stale));
            }
            look(&mut state.machine).map(Ok)
        })
        .await
    }

    pub(crate) fn open(&self, label: &str, config: StreamConfig) -> Result<ChannelId, OpenError> {
        self.change(|state| {
            let found = state
                .machine
                .channels()
                .find(|(id, known)| *known == label && state.unclaimed.contains(id))
                .map(|(id, _)| id);
            let id = match found {
                Some(id) => id,
                None => match (state.machine.open(label), &state.error) {
                    (Ok(id), _) => id,
                    (Err(_), Some(error)) => return Err(OpenError::Session(error.clone())),
                    (Err(error), None) => return Err(error.into()),
                },
            };
            state.unclaimed.remove(&id);
            state.configs.insert(id, config);
            Ok(id)
        })
    }

    /// How the stream of a channel is to be.
    pub(crate) fn config(&self, id: ChannelId) -> StreamConfig {
        let config = self.lock().configs.get(&id).cloned().unwrap_or_else(StreamConfig::messages);
        StreamConfig {
            framing: Framing::Messages,
            delivery: Delivery::Reliable,
            ordered: true,
            unidirectional: false,
            replay_safe: false,
            label: CHANNEL_LABEL.to_owned(),
            ..config
        }
    }

    /// Waits until everything that has happened up to now is in the store.
    pub(crate) async fn stored(&self) -> Result<(), SessionError> {
        let noted = self.lock().noted;
        self.wait(|state| match &state.error {
            Some(error) => Some(Err(error.clone())),
            None => (state.stored >= noted).then_some(Ok(())),
        })
        .await
    }

    /// Waits until the store has kept up with what was heard. Cancel-safe.
    pub(crate) async fn room_to_store(&self) {
        self.wait(|state| {
            (state.unstored.len() < UNSTORED_MAX || state.error.is_some()).then_some(())
        })
        .await;
    }

    pub(crate) async fn accept(&self) -> Option<ChannelId> {
        self.wait(|state| match state.accepted.pop_front() {
            Some(id) => Some(Some(id)),
            None => state.error.is_some().then_some(None),
        })
        .await
    }

    pub(crate) async fn event(&self) -> Option<Event> {
        self.wait(|state| match state.events.pop_front() {
            Some(event) => Some(Some(event)),
            None => state.error.is_some().then_some(None),
        })
        .await
    }

    pub(crate) fn error(&self) -> Option<SessionError> {
        self.lock().error.clone()
    }

    pub(crate) fn fail(&self, error: SessionError) {
        self.change(|state| {
            state.error.get_or_insert(error);
            state.generation += 1;
            state.connection = None;
            state.machine.detach();
        });
    }

    pub(crate) fn hasten(&self) {
        self.hasten.notify_one();
    }

    /// Ends the session here, and waits until the peer has heard it, if it can be reached.
    pub(crate) async fn end(&self, code: u64) {
        let connection = self.change(|state| {
            state.machine.end_with(code);
            state.connection.clone()
        });
        if let Some(connection) = connection {
            // The server closes once it has read the record; a dead network ends the wait.
            let _ =
                tokio::time::timeout(std::time::Duration::from_secs(1), connection.closed()).await;
            connection.close(0, b"the session has ended");
        }
    }

    /// Carries changes to the store, in their order, for as long as the session lives.
    pub(crate) async fn keep(self: Arc<Self>, save: Save) {
        loop {
            let batch = self
                .wait(|state| {
                    let over = state.error.is_some() && state.unstored.is_empty();
                    let batch: Vec<Change> = state.unstored.drain(..).collect();
                    (over || !batch.is_empty()).then_some(batch)
                })
                .await;
            if batch.is_empty() {
                return;
            }
            let save = Arc::clone(&save);
            let saving = tokio::task::spawn_blocking(move || (save(&batch), batch));
            match saving.await {
                Ok((Ok(()), batch)) => self.change(|state| state.on_stored(&batch)),
                Ok((Err(error), _)) => return self.fail(SessionError::Store(error.to_string())),
                Err(_) => return self.fail(SessionError::Store("its thread ended".to_owned())),
            }
        }
    }
}

impl State {
    /// Takes news out of the machine. True when there were any.
    fn gather(&mut self) -> bool {
        let mut any = false;
        while let Some(change) = self.machine.poll_change() {
            self.unstored.push_back(change);
            self.noted += 1;
            any = true;
        }
        while let Some(event) = self.machine.poll_event() {
            any = true;
            match &event {
                Event::Opened(id) => self.accepted.push_back(*id),
                Event::Forgotten => self.over(SessionError::Forgotten),
                Event::Ended(code) => self.over(SessionError::Ended(*code)),
                Event::Started | Event::Resumed => self.ran = self.generation,
                Event::Suspended => {}
            }
            if !matches!(event, Event::Opened(_)) {
                if self.events.len() >= EVENTS_MAX {
                    self.events.pop_front();
                }
                self.events.push_back(event);
            }
        }
        any
    }

    pub(crate) fn error(&self) -> Option<SessionError> {
        self.error.clone()
    }

    /// The session has run on the present connection, or on this one that was.
    pub(crate) fn has_run(&self, generation: u64) -> bool {
        self.ran >= generation
    }

    fn over(&mut self, error: SessionError) {
        self.error.get_or_insert(error);
    }

    fn on_stored(&mut self, batch: &[Change]) {
        self.stored += batch.len() as u64;
        batch.iter().for_each(|change| self.machine.on_stored(change));
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.lock();
        f.debug_struct("Session")
            .field("running", &state.machine.is_running())
            .field("error", &state.error)
            .finish_non_exhaustive()
    }
}
