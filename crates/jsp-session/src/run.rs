//! A session on a connection: one task for each direction of each stream, until the first fails.

use std::sync::Arc;

use bytes::Bytes;
use jsp::{Connection, RecvStream, SendStream, Stream};
use jsp_app::session::{Binding, CHANNEL_LABEL, ChannelId, Item, ProtocolError};
use tokio::task::JoinSet;

use crate::shared::{Shared, Stale};

/// The application's code of a connection whose peer broke the session's protocol.
pub(crate) const PROTOCOL_ERROR: u64 = 1;
/// The application's code of connections that are turned away.
pub(crate) const REFUSED: u64 = 2;
/// The code with which streams that belong to nothing are stopped.
const NOT_WANTED: u64 = 2;

/// Why a task ends.
enum Halt {
    /// The connection is gone, or not the session's any more.
    Gone,
    /// The peer breaks the protocol.
    Broken(ProtocolError),
}

impl From<Stale> for Halt {
    fn from(Stale: Stale) -> Self {
        Self::Gone
    }
}

impl From<ProtocolError> for Halt {
    fn from(error: ProtocolError) -> Self {
        Self::Broken(error)
    }
}

impl From<jsp::SendError> for Halt {
    fn from(_: jsp::SendError) -> Self {
        Self::Gone
    }
}

impl From<jsp::RecvError> for Halt {
    fn from(_: jsp::RecvError) -> Self {
        Self::Gone
    }
}

/// What the tasks of a connection share.
#[derive(Clone)]
struct Run {
    shared: Arc<Shared>,
    connection: Connection,
    generation: u64,
}

type Tasks = JoinSet<Result<(), Halt>>;

/// Runs the session on a connection whose control stream is `control` until the connection ends or
/// another takes its place. The machine has been attached or granted already, as `generation`.
pub(crate) async fn run(
    shared: Arc<Shared>,
    connection: Connection,
    control: Stream,
    generation: u64,
) {
    let run = Run { shared: Arc::clone(&shared), connection: connection.clone(), generation };
    let (send, recv) = control.split();
    let mut tasks: Tasks = JoinSet::new();
    tasks.spawn(run.clone().speak(send));
    tasks.spawn(run.clone().hear(recv));
    tasks.spawn(run.clone().confirm_late());
    tasks.spawn(run.clone().bind());
    tasks.spawn(run.clone().accept());
    let mut broken = None;
    tokio::select! {
        _ = connection.closed() => {}
        ended = tasks.join_next() => {
            if let Some(Ok(Err(Halt::Broken(error)))) = ended {
                broken = Some(error);
            }
        }
    }
    tasks.shutdown().await;
    match broken {
        Some(error) => connection.close(PROTOCOL_ERROR, error.to_string().as_bytes()),
        None => connection.close(0, b"the session needs this connection no more"),
    }
    shared.change(|state| {
        if state.generation == generation {
            state.connection = None;
            state.machine.detach();
        }
    });
}

impl Run {
    /// Records out.
    async fn speak(self, send: SendStream) -> Result<(), Halt> {
        loop {
            let record = self
                .shared
                .wait_in(self.generation, |machine| {
                    machine.confirm_taken(false);
                    machine.poll_record()
                })
                .await?;
            send.send(record).await?;
        }
    }

    /// Records in.
    async fn hear(self, recv: RecvStream) -> Result<(), Halt> {
        while let Some(record) = recv.recv().await? {
            self.shared.room_to_store().await;
            self.fresh(|machine| machine.handle_record(&record.payload))?;
            if self.shared.error().is_some() {
                break;
            }
        }
        Err(Halt::Gone)
    }

    /// Changes the machine, if it still works with this connection.
    fn fresh<T, E>(
        &self,
        change: impl FnOnce(&mut jsp_app::session::Session) -> Result<T, E>,
    ) -> Result<T, Halt>
    where
        Halt: From<E>,
    {
        self.shared.change(|state| {
            if state.generation != self.generation {
                return Err(Halt::Gone);
            }
            Ok(change(&mut state.machine)?)
        })
    }

    /// Tells the peer what was taken when nothing else has done it for a while.
    async fn confirm_late(self) -> Result<(), Halt> {
        let delay = self.shared.lock().machine.limits().confirm_delay;
        loop {
            let wait = |machine: &mut jsp_app::session::Session| machine.owes().then_some(());
            self.shared.wait_in(self.generation, wait).await?;
            tokio::time::sleep(delay).await;
            self.fresh(|machine| {
                machine.confirm_taken(true);
                Ok::<_, Stale>(())
            })?;
        }
    }

    /// Opens a stream for each channel of this end's.
    async fn bind(self) -> Result<(), Halt> {
        let mut pumps: Tasks = JoinSet::new();
        loop {
            tokio::select! {
                bound = self.shared.wait_in(self.generation, |machine| machine.poll_bind()) => {
                    let (id, bind) = bound?;
                    let opened = self.connection.open(self.shared.config(id)).await;
                    let (send, recv) = opened.map_err(|_| Halt::Gone)?.split();
                    pumps.spawn(self.clone().send(id, send, Some(bind)));
                    pumps.spawn(self.clone().recv(id, recv));
                }
                Some(ended) = pumps.join_next() => ended.unwrap_or(Err(Halt::Gone))?,
            }
        }
    }

    /// Takes the peer's streams.
    async fn accept(self) -> Result<(), Halt> {
        let mut pumps: Tasks = JoinSet::new();
        loop {
            tokio::select! {
                stream = self.connection.accept() => {
                    let stream = stream.map_err(|_| Halt::Gone)?;
                    if stream.info().label == CHANNEL_LABEL {
                        pumps.spawn(self.clone().attend(stream));
                    } else {
                        refuse(&stream);
                    }
                }
                Some(ended) = pumps.join_next() => ended.unwrap_or(Err(Halt::Gone))?,
            }
        }
    }

    /// A stream of a channel that the peer has opened.
    async fn attend(self, stream: Stream) -> Result<(), Halt> {
        let Some(first) = stream.recv().await? else { return Ok(()) };
        let bound = self.shared.wait_in(self.generation, |machine| {
            match machine.handle_bind(&first.payload) {
                Ok(Binding::Early) => None,
                Ok(Binding::Bound(id)) => Some(Ok(Some(id))),
                Ok(Binding::Over) => Some(Ok(None)),
                Err(error) => Some(Err(error)),
            }
        });
        let Some(id) = bound.await?? else {
            refuse(&stream);
            return Ok(());
        };
        let (send, recv) = stream.split();
        let (sent, received) =
            tokio::join!(self.clone().send(id, send, None), self.clone().recv(id, recv));
        sent.and(received)
    }

    /// A channel's messages out.
    async fn send(self, id: ChannelId, send: SendStream, bind: Option<Bytes>) -> Result<(), Halt> {
        if let Some(bind) = bind {
            send.send(bind).await?;
        }
        loop {
            let next = |machine: &mut jsp_app::session::Session| machine.poll_item(id);
            match self.shared.wait_in(self.generation, next).await? {
                Item::Message(payload) => drop(send.send(payload).await?),
                Item::End => return Ok(send.finish()?),
            }
        }
    }

    /// A channel's messages in. What the application has no room for stays in the transport, which
    /// holds the peer back.
    async fn recv(self, id: ChannelId, recv: RecvStream) -> Result<(), Halt> {
        loop {
            let wants = |machine: &mut jsp_app::session::Session| machine.wants(id).then_some(());
            self.shared.wait_in(self.generation, wants).await?;
            let item = match recv.recv().await? {
                Some(message) => Item::Message(message.payload),
                None => Item::End,
            };
            let is_end = item == Item::End;
            self.fresh(|machine| machine.handle_item(id, item))?;
            if is_end {
                return Ok(());
            }
        }
    }
}

fn refuse(stream: &Stream) {
    stream.stop(NOT_WANTED);
    stream.reset(NOT_WANTED);
}
