//! A tokio program around libraries that have neither sockets nor clocks: one task for each socket, which
//! receives joined datagrams (GRO), sends joined ones (GSO), keeps the timers and wakes whoever waits. A client has a socket
//! for each connection, so that a server tells connections apart by their addresses.

mod datagrams;
mod task;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Result, bail};
use bytes::Bytes;
use tokio::sync::{Mutex as TurnLock, Notify, mpsc};

use self::task::{Shared, Task, bind, lock, start};
use super::Use;
use crate::framing::{Decoder, Encoder};

/// What a read brings.
pub(crate) enum Got {
    /// Bytes, or a message.
    Piece(Bytes),
    /// Nothing yet.
    Nothing,
    /// The stream has ended.
    End,
}

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Its handshake is under way.
    Connecting,
    /// It carries data.
    Open,
    /// It is over.
    Closed,
}

/// One connection of a library without sockets. Where something returns 0, `None` or false, there was no room for it,
/// or nothing to get, yet.
pub(crate) trait Machine: Send + 'static {
    /// Whether its streams carry messages, so that the application frames nothing.
    const HAS_MESSAGES: bool;

    /// Takes what came in one datagram.
    fn receive(&mut self, datagram: &mut [u8]);
    /// Writes the next datagram; its length.
    fn transmit(&mut self, into: &mut [u8]) -> Option<usize>;
    /// When `expire` is to be called.
    fn deadline(&mut self) -> Option<Instant>;
    /// A deadline has passed.
    fn expire(&mut self);
    /// How far it is.
    fn state(&mut self) -> State;
    /// Ends it.
    fn close(&mut self);
    /// Hands over streams that may be read or written again since the last call.
    fn ready(&mut self, each: &mut dyn FnMut(u64));

    /// Opens a stream.
    fn open(&mut self) -> Result<Option<u64>>;
    /// The next stream that the peer opened.
    fn accept(&mut self) -> Option<u64>;
    /// How many bytes were taken; of a message all or none.
    fn write(&mut self, stream: u64, piece: &[u8]) -> Result<usize>;
    /// The next bytes, or the next message.
    fn read(&mut self, stream: u64) -> Result<Got>;
    /// Ends this side's writing; whether that could be said.
    fn finish(&mut self, stream: u64) -> Result<bool>;

    /// Sends a message on a stream of its own; whether there was room.
    fn send_alone(&mut self, message: &[u8]) -> Result<bool> {
        bail!("no stream per message ({} bytes) here", message.len())
    }
    /// The length of the next message that came on a stream of its own.
    fn recv_alone(&mut self) -> Result<Option<usize>> {
        bail!("no stream per message here")
    }
    /// Sends an unreliable datagram; whether there was room.
    fn send_datagram(&mut self, datagram: &[u8]) -> Result<bool> {
        bail!("no datagrams ({} bytes) here", datagram.len())
    }
    /// The length of the next datagram.
    fn recv_datagram(&mut self) -> Result<Option<usize>> {
        bail!("no datagrams here")
    }
}

/// Makes connections, with all that is set.
pub(crate) trait Maker: Clone + Send + Sync + 'static {
    /// A connection.
    type Machine: Machine;
    /// The server's side of a connection with a client that was not heard before; `None` when its datagram
    /// begins nothing.
    fn accept(
        &self,
        local: SocketAddr,
        client: SocketAddr,
        datagram: &[u8],
    ) -> Result<Option<Self::Machine>>;
    /// The client's side.
    fn connect(&self, local: SocketAddr, server: SocketAddr) -> Result<Self::Machine>;
}

/// Where new clients come from.
type Clients<M> = mpsc::UnboundedReceiver<Arc<Shared<M>>>;

/// One side: a server's socket, or what makes sockets for a client's connections.
pub(crate) struct Endpoint<K: Maker> {
    maker: K,
    clients: Option<Arc<TurnLock<Clients<K::Machine>>>>,
}

impl<K: Maker> Clone for Endpoint<K> {
    fn clone(&self) -> Self {
        Self { maker: self.maker.clone(), clients: self.clients.clone() }
    }
}

impl<K: Maker> Endpoint<K> {
    /// A server on a loopback port, and its address.
    pub(crate) fn listen(maker: K) -> Result<(Self, SocketAddr)> {
        let (socket, local) = bind()?;
        let (sender, clients) = mpsc::unbounded_channel();
        let mut task = Task::new(socket, local, maker.clone())?;
        task.clients = Some(sender);
        start(task);
        Ok((Self { maker, clients: Some(Arc::new(TurnLock::new(clients))) }, local))
    }

    /// A client.
    pub(crate) fn dialler(maker: K) -> Self {
        Self { maker, clients: None }
    }
}

/// A connection whose handshake is under way.
pub(crate) struct Pending<M: Machine>(Connection<M>);

impl<M: Machine> Pending<M> {
    async fn established(self) -> Result<Connection<M>> {
        let shared = &self.0.0.0;
        let is_open = |machine: &mut M| Ok((machine.state() == State::Open).then_some(()));
        shared.until(&shared.changed, is_open).await?;
        Ok(self.0)
    }
}

impl<K: Maker> super::Endpoint for Endpoint<K> {
    type Pending = Pending<K::Machine>;
    type Connection = Connection<K::Machine>;

    async fn accept(&self) -> Option<Self::Pending> {
        let shared = self.clients.as_ref()?.lock().await.recv().await?;
        Some(Pending(Connection(Arc::new(Handle(shared)))))
    }

    async fn establish(pending: Self::Pending) -> Result<Self::Connection> {
        pending.established().await
    }

    async fn connect(&self, server: SocketAddr) -> Result<Self::Connection> {
        let (socket, local) = bind()?;
        let mut task = Task::new(socket, local, self.maker.clone())?;
        let shared = Shared::new(self.maker.connect(local, server)?, server, &task.queue);
        task.connections.insert(server, (Arc::clone(&shared), None));
        shared.touch();
        start(task);
        Pending(Connection(Arc::new(Handle(shared)))).established().await
    }
}

/// Ends the connection when it is dropped.
struct Handle<M: Machine>(Arc<Shared<M>>);

impl<M: Machine> Drop for Handle<M> {
    fn drop(&mut self) {
        lock(&self.0.machine).close();
        self.0.touch();
    }
}

/// A connection.
pub(crate) struct Connection<M: Machine>(Arc<Handle<M>>);

impl<M: Machine> Clone for Connection<M> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<M: Machine> Connection<M> {
    fn stream(&self, id: u64, using: Use) -> Stream<M> {
        let (waiter, encoder) = (self.0.0.waiter(id), Encoder::new(using.gather_bytes()));
        Stream { connection: self.clone(), id, waiter, encoder, decoder: Decoder::default() }
    }

    /// What the peer sends next; `None` once the connection is over.
    async fn coming<T>(
        &self,
        mut attempt: impl FnMut(&mut M) -> Result<Option<T>>,
    ) -> Result<Option<T>> {
        let shared = &self.0.0;
        let is_over = |machine: &mut M| machine.state() == State::Closed;
        let next = |machine: &mut M| match attempt(machine)? {
            Some(value) => Ok(Some(Some(value))),
            None => Ok(is_over(machine).then_some(None)),
        };
        shared.until(&shared.changed, next).await
    }
}

impl<M: Machine> super::Connection for Connection<M> {
    type Stream = Stream<M>;

    async fn open(&self, using: Use) -> Result<Stream<M>> {
        let shared = &self.0.0;
        Ok(self.stream(shared.until(&shared.changed, M::open).await?, using))
    }

    async fn accept(&self, using: Use) -> Result<Option<Stream<M>>> {
        let id = self.coming(|machine| Ok(machine.accept())).await?;
        Ok(id.map(|id| self.stream(id, using)))
    }

    async fn send_alone(&self, message: Bytes) -> Result<()> {
        let shared = &self.0.0;
        let send = |machine: &mut M| Ok(machine.send_alone(&message)?.then_some(()));
        shared.until(&shared.changed, send).await
    }

    async fn recv_alone(&self) -> Result<Option<usize>> {
        self.coming(M::recv_alone).await
    }

    async fn send_datagram(&self, datagram: Bytes) -> Result<()> {
        let shared = &self.0.0;
        let send = |machine: &mut M| Ok(machine.send_datagram(&datagram)?.then_some(()));
        shared.until(&shared.changed, send).await
    }

    async fn recv_datagram(&self) -> Result<Option<usize>> {
        self.coming(M::recv_datagram).await
    }
}

/// A stream, with the application's framing where it has no messages.
pub(crate) struct Stream<M: Machine> {
    connection: Connection<M>,
    id: u64,
    waiter: Arc<Notify>,
    encoder: Encoder,
    decoder: Decoder,
}

impl<M: Machine> Stream<M> {
    async fn put(&self, mut piece: &[u8]) -> Result<()> {
        while !piece.is_empty() {
            let write = |machine: &mut M| {
                let taken = machine.write(self.id, piece)?;
                Ok((taken > 0).then_some(taken))
            };
            piece = &piece[self.connection.0.0.until(&self.waiter, write).await?..];
        }
        Ok(())
    }

    async fn get(&self) -> Result<Option<Bytes>> {
        let read = |machine: &mut M| {
            Ok(match machine.read(self.id)? {
                Got::Piece(piece) => Some(Some(piece)),
                Got::End => Some(None),
                Got::Nothing => None,
            })
        };
        self.connection.0.0.until(&self.waiter, read).await
    }
}

impl<M: Machine> super::Stream for Stream<M> {
    async fn write(&mut self, piece: &Bytes) -> Result<()> {
        self.put(piece).await
    }

    async fn consume(&mut self) -> Result<Option<usize>> {
        Ok(self.get().await?.map(|piece| piece.len()))
    }

    async fn send_message(&mut self, message: &Bytes) -> Result<()> {
        if M::HAS_MESSAGES {
            return self.put(message).await;
        }
        if self.encoder.push(message).is_some() {
            self.put(self.encoder.waiting()).await?;
            self.encoder.clear();
        }
        Ok(())
    }

    async fn recv_message(&mut self) -> Result<Option<Bytes>> {
        if M::HAS_MESSAGES {
            return self.get().await;
        }
        loop {
            if let Some(message) = self.decoder.next()? {
                return Ok(Some(message));
            }
            let Some(piece) = self.get().await? else { return Ok(None) };
            self.decoder.feed(piece);
        }
    }

    async fn finish(&mut self) -> Result<()> {
        if !self.encoder.waiting().is_empty() {
            self.put(self.encoder.waiting()).await?;
            self.encoder.clear();
        }
        let finish = |machine: &mut M| Ok(machine.finish(self.id)?.then_some(()));
        self.connection.0.0.until(&self.waiter, finish).await
    }
}
