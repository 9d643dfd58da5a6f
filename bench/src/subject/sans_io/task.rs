//! The task of a socket, and what it shares with those that use its connections.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use anyhow::{Result, bail};
use quinn_udp::{Transmit, UdpSocketState};
use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::sync::{Notify, mpsc};
use tokio::time::sleep_until;

use super::datagrams::{Inbox, MOST_BYTES};
use super::{Machine, Maker, State};

/// Socket buffers; the kernel may give less.
const SOCKET_BYTES: usize = 4 << 20;
/// Datagrams that one GSO send joins at most.
const JOINED: usize = 64;
/// Sends of joined datagrams for one connection before others have their turn.
const SENDS_AT_ONCE: usize = 4;
/// Receives before what came is answered.
const RECEIVES_AT_ONCE: usize = 8;

/// A connection, between the task of its socket and those that use it.
pub(super) struct Shared<M> {
    pub(super) machine: Mutex<M>,
    peer: SocketAddr,
    /// Waits for its turn in `dirty`.
    is_dirty: AtomicBool,
    /// Something changed that is of no stream.
    pub(super) changed: Notify,
    streams: Mutex<HashMap<u64, Arc<Notify>>>,
    queue: Arc<Queue>,
}

/// Connections of a socket that want to be looked at.
#[derive(Default)]
pub(super) struct Queue {
    dirty: Mutex<Vec<SocketAddr>>,
    wake: Notify,
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<M: Machine> Shared<M> {
    pub(super) fn new(machine: M, peer: SocketAddr, queue: &Arc<Queue>) -> Arc<Self> {
        Arc::new(Self {
            machine: Mutex::new(machine),
            peer,
            is_dirty: AtomicBool::new(false),
            changed: Notify::new(),
            streams: Mutex::default(),
            queue: Arc::clone(queue),
        })
    }

    /// Has the socket's task look at the connection.
    pub(super) fn touch(&self) {
        if !self.is_dirty.swap(true, Ordering::AcqRel) {
            lock(&self.queue.dirty).push(self.peer);
            self.queue.wake.notify_one();
        }
    }

    /// Tries until it works, each time that `waiter` is woken.
    pub(super) async fn until<T>(
        &self,
        waiter: &Notify,
        mut attempt: impl FnMut(&mut M) -> Result<Option<T>>,
    ) -> Result<T> {
        loop {
            let woken = waiter.notified();
            {
                let mut machine = lock(&self.machine);
                if let Some(value) = attempt(&mut machine)? {
                    // What was read opens windows, what was written is to be sent.
                    self.touch();
                    return Ok(value);
                }
                if machine.state() == State::Closed {
                    bail!("the connection is over");
                }
            }
            woken.await;
        }
    }

    pub(super) fn waiter(&self, stream: u64) -> Arc<Notify> {
        Arc::clone(lock(&self.streams).entry(stream).or_default())
    }
}

/// A connection and its deadline, if it has one.
type Held<M> = (Arc<Shared<M>>, Option<Instant>);

/// The task of a socket.
pub(super) struct Task<K: Maker> {
    socket: UdpSocket,
    state: UdpSocketState,
    local: SocketAddr,
    inbox: Inbox,
    maker: K,
    pub(super) connections: HashMap<SocketAddr, Held<K::Machine>>,
    deadlines: BTreeSet<(Instant, SocketAddr)>,
    pub(super) queue: Arc<Queue>,
    /// Where new clients go; a client's socket has none.
    pub(super) clients: Option<mpsc::UnboundedSender<Arc<Shared<K::Machine>>>>,
    batch: Vec<u8>,
}

pub(super) fn bind() -> Result<(UdpSocket, SocketAddr)> {
    let socket = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    SockRef::from(&socket).set_recv_buffer_size(SOCKET_BYTES)?;
    SockRef::from(&socket).set_send_buffer_size(SOCKET_BYTES)?;
    socket.set_nonblocking(true)?;
    let local = socket.local_addr()?;
    Ok((UdpSocket::from_std(socket)?, local))
}

impl<K: Maker> Task<K> {
    pub(super) fn new(socket: UdpSocket, local: SocketAddr, maker: K) -> Result<Self> {
        let state = UdpSocketState::new((&socket).into())?;
        Ok(Self {
            socket,
            state,
            local,
            inbox: Inbox::default(),
            maker,
            connections: HashMap::new(),
            deadlines: BTreeSet::new(),
            queue: Arc::default(),
            clients: None,
            batch: vec![0; 1 << 17],
        })
    }

    /// Works until the last connection of a client's socket has gone.
    async fn run(mut self) -> Result<()> {
        let mut touched = HashSet::new();
        while self.clients.is_some() || !self.connections.is_empty() {
            let next = self.deadlines.first().map(|(at, _)| *at);
            let due = async {
                match next {
                    Some(at) => sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                ready = self.socket.readable() => { ready?; self.receive(&mut touched)?; }
                () = self.queue.wake.notified() => {}
                () = due => {}
            }
            touched.extend(lock(&self.queue.dirty).drain(..));
            let now = Instant::now();
            touched.extend(self.deadlines.iter().take_while(|(at, _)| *at <= now).map(|due| due.1));
            for peer in touched.drain() {
                self.attend(peer, now).await?;
            }
        }
        Ok(())
    }

    fn receive(&mut self, touched: &mut HashSet<SocketAddr>) -> Result<()> {
        for _ in 0..RECEIVES_AT_ONCE {
            if !self.inbox.fill(&self.socket, &self.state)? {
                break;
            }
            for (from, datagrams, stride) in self.inbox.arrivals() {
                if !self.connections.contains_key(&from) && self.clients.is_some() {
                    let machine = self.maker.accept(self.local, from, datagrams)?;
                    let Some(machine) = machine else { continue };
                    let shared = Shared::new(machine, from, &self.queue);
                    if let Some(clients) = &self.clients {
                        // Nobody accepts any more only when the program ends.
                        let _ = clients.send(Arc::clone(&shared));
                    }
                    self.connections.insert(from, (shared, None));
                }
                let Some((shared, _)) = self.connections.get(&from) else { continue };
                let mut machine = lock(&shared.machine);
                for datagram in datagrams.chunks_mut(stride) {
                    machine.receive(datagram);
                }
                touched.insert(from);
            }
        }
        Ok(())
    }

    /// Timers, sends, wakes and the next deadline of one connection.
    async fn attend(&mut self, peer: SocketAddr, now: Instant) -> Result<()> {
        let Some((shared, deadline)) = self.connections.get(&peer) else { return Ok(()) };
        let (shared, deadline) = (Arc::clone(shared), *deadline);
        shared.is_dirty.store(false, Ordering::Release);
        if deadline.is_some_and(|at| at <= now) {
            lock(&shared.machine).expire();
        }
        let is_done = self.send(&shared).await?;
        let (state, next) = {
            let mut machine = lock(&shared.machine);
            let streams = lock(&shared.streams);
            machine.ready(&mut |stream| {
                if let Some(waiter) = streams.get(&stream) {
                    waiter.notify_one();
                }
            });
            let state = machine.state();
            if state == State::Closed {
                streams.values().for_each(|waiter| waiter.notify_one());
            }
            (state, machine.deadline())
        };
        shared.changed.notify_waiters();
        if let Some(at) = deadline {
            self.deadlines.remove(&(at, peer));
        }
        if state == State::Closed {
            self.connections.remove(&peer);
            return Ok(());
        }
        if let Some(at) = next {
            self.deadlines.insert((at, peer));
        }
        self.connections.insert(peer, (Arc::clone(&shared), next));
        if !is_done {
            shared.touch();
        }
        Ok(())
    }

    /// Sends what a connection has, in joined datagrams of one length; whether that was all.
    async fn send(&mut self, shared: &Shared<K::Machine>) -> Result<bool> {
        // A datagram that does not fit with those before it waits in front of the next batch.
        let mut kept = 0;
        for _ in 0..SENDS_AT_ONCE {
            let (filled, each, next) = self.fill(shared, kept);
            if filled == 0 {
                return Ok(true);
            }
            self.put(shared.peer, filled, each).await?;
            self.batch.copy_within(filled..filled + next, 0);
            kept = next;
        }
        if kept > 0 {
            self.put(shared.peer, kept, kept).await?;
        }
        Ok(false)
    }

    /// Gathers datagrams behind the `kept` bytes of one: all bytes, those of each, and those of one that comes
    /// after them and has to wait.
    fn fill(&mut self, shared: &Shared<K::Machine>, kept: usize) -> (usize, usize, usize) {
        let (mut filled, mut each, mut count) = (kept, kept, usize::from(kept > 0));
        let mut machine = lock(&shared.machine);
        while count < JOINED && filled + each <= MOST_BYTES {
            let Some(length) = machine.transmit(&mut self.batch[filled..]) else { break };
            if count > 0 && (length > each || filled + length > MOST_BYTES) {
                return (filled, each, length);
            }
            (filled, count) = (filled + length, count + 1);
            if count == 1 {
                each = length;
            } else if length < each {
                break;
            }
        }
        (filled, each, 0)
    }

    async fn put(&self, to: SocketAddr, filled: usize, each: usize) -> Result<()> {
        let contents = &self.batch[..filled];
        let segment_size = (filled > each).then_some(each);
        let transmit =
            Transmit { destination: to, ecn: None, contents, segment_size, src_ip: None };
        let send = || self.state.try_send((&self.socket).into(), &transmit);
        match self.socket.async_io(Interest::WRITABLE, send).await {
            // The other side's socket may have gone.
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => Ok(()),
            sent => Ok(sent?),
        }
    }
}

pub(super) fn start<K: Maker>(task: Task<K>) {
    tokio::spawn(async move {
        if let Err(error) = task.run().await {
            eprintln!("jsp-bench: the task of a socket ended: {error:#}");
        }
    });
}
