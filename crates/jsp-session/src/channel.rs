//! Channels, as applications use them.

use bytes::Bytes;
use jsp_app::session::{ChannelId, Item, SendError as Refusal};

use crate::Session;
use crate::error::{RecvError, SendError, SessionError};

/// A channel of a session: messages in both directions, each side's in their order. Clones are handles
/// of the same. Dropping a handle changes nothing: a channel ends when both sides
/// [`finish`](Self::finish) it.
#[derive(Clone, Debug)]
pub struct Channel {
    session: Session,
    id: ChannelId,
}

/// A message that has arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// Its number in the channel and direction, from 0. A message that comes again after a crash has
    /// the number that it had.
    pub number: u64,
    /// The content.
    pub payload: Bytes,
}

impl Channel {
    pub(crate) fn new(session: Session, id: ChannelId) -> Self {
        Self { session, id }
    }

    /// What the channel is for, as its opener says.
    #[must_use]
    pub fn label(&self) -> String {
        let state = self.session.shared.lock();
        let mut channels = state.machine.channels();
        channels.find(|(id, _)| *id == self.id).map_or_else(String::new, |(_, label)| label.into())
    }

    /// Sends a message. Returns its number once the session has it: in memory, or in the store if
    /// there is one. Waits while too much is unconfirmed. Cancel-safe: a message is taken whole or
    /// not at all, but one that is taken already may still arrive.
    ///
    /// # Errors
    /// [`SendError`].
    pub async fn send(&self, payload: impl Into<Bytes>) -> Result<u64, SendError> {
        let payload = payload.into();
        let shared = &self.session.shared;
        let number = shared
            .wait(|state| {
                if let Some(error) = state.error() {
                    return Some(Err(SendError::Session(error)));
                }
                let len = payload.len();
                match state.machine.send(self.id, payload.clone()) {
                    Ok(number) => Some(Ok(number)),
                    Err(Refusal::Full) => None,
                    Err(Refusal::TooLong) => {
                        Some(Err(SendError::TooLong { len, max: state.machine.longest() }))
                    }
                    Err(Refusal::Ended | Refusal::Over) => Some(Err(SendError::Finished)),
                }
            })
            .await?;
        shared.stored().await.map_err(SendError::Session)?;
        Ok(number)
    }

    /// Says that no message follows. The peer's `recv` then gives `None`.
    ///
    /// # Errors
    /// [`SendError`].
    pub async fn finish(&self) -> Result<(), SendError> {
        let shared = &self.session.shared;
        shared.change(|state| match (state.machine.finish(self.id), state.error()) {
            (Ok(()), _) => Ok(()),
            (Err(_), Some(error)) => Err(SendError::Session(error)),
            (Err(_), None) => Err(SendError::Finished),
        })?;
        shared.stored().await.map_err(SendError::Session)
    }

    /// The next message; `None` after the last. What was received before counts as taken from now on:
    /// the peer forgets it. Cancel-safe.
    ///
    /// # Errors
    /// [`RecvError`], once all that has arrived was given.
    pub async fn recv(&self) -> Result<Option<Received>, RecvError> {
        let shared = &self.session.shared;
        shared
            .wait(|state| match state.machine.recv(self.id) {
                Some((number, Item::Message(payload))) => {
                    Some(Ok(Some(Received { number, payload })))
                }
                Some((_, Item::End)) => {
                    state.machine.confirm(self.id);
                    Some(Ok(None))
                }
                None if state.machine.is_exhausted(self.id) => Some(Ok(None)),
                None => state.error().map(|error| Err(RecvError::Session(error))),
            })
            .await
    }

    /// What was received is done with: the peer forgets it, and it does not come again after a crash.
    /// Returns when the store has it, if there is one.
    ///
    /// # Errors
    /// [`SessionError::Store`], and why else the session is over.
    pub async fn confirm(&self) -> Result<(), SessionError> {
        self.session.shared.change(|state| state.machine.confirm(self.id));
        self.session.shared.stored().await
    }

    /// Waits until the peer's application has taken everything that was sent. Cancel-safe.
    ///
    /// # Errors
    /// Why the session is over.
    pub async fn confirmed(&self) -> Result<(), SessionError> {
        let shared = &self.session.shared;
        shared
            .wait(|state| match (state.machine.is_confirmed(self.id), state.error()) {
                (true, _) => Some(Ok(())),
                (false, Some(error)) => Some(Err(error)),
                (false, None) => None,
            })
            .await
    }

    /// What the peer's application has not taken, with its numbers; also after the session's end.
    #[must_use]
    pub fn unconfirmed(&self) -> Vec<(u64, Item)> {
        self.session.shared.lock().machine.unconfirmed(self.id)
    }
}
