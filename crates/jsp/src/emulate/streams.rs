//! Streams with delay inside the program's memory.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf};
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinHandle};
use tokio::time::Instant;

use crate::carrier::{BoxStream, Connecting, StreamListener, StreamNetwork};

/// Bytes that one end takes before the other has read.
const BUFFER: usize = 16 << 10;

/// Pieces under way in one direction.
const PIECES: usize = 8;

/// Streams that wait to be accepted.
const BACKLOG: usize = 16;

/// A network of streams in memory: all that is sent arrives after a delay. All clones are the same
/// network; give one to the server's builder and one to the client's
/// ([`Builder::stream_network`](crate::Builder::stream_network)).
#[derive(Clone)]
pub struct StreamNet {
    one_way_delay: Duration,
    state: Arc<Mutex<State>>,
    /// Bytes pass.
    passes: Arc<watch::Sender<bool>>,
}

#[derive(Default)]
struct State {
    listeners: HashMap<SocketAddr, mpsc::Sender<(BoxStream, SocketAddr)>>,
    last_port: u16,
    opened: u64,
    closed: u64,
    /// What moves the bytes of the streams.
    pumps: Vec<AbortHandle>,
}

/// Where a server accepts in a [`StreamNet`].
struct MemoryListener {
    addr: SocketAddr,
    accepted: mpsc::Receiver<(BoxStream, SocketAddr)>,
}

impl StreamNet {
    /// A network with this delay in each direction.
    pub fn new(one_way_delay: Duration) -> Self {
        let passes = Arc::new(watch::Sender::new(true));
        Self { one_way_delay, state: Arc::default(), passes }
    }

    /// Nothing passes any more; streams stay open.
    pub fn cut(&self) {
        self.passes.send_replace(false);
    }

    /// Ends [`StreamNet::cut`].
    pub fn restore(&self) {
        self.passes.send_replace(true);
    }

    /// All streams end at once, as when a box in the middle resets them: what is under way is lost. Further ones open.
    pub fn reset(&self) {
        self.lock().pumps.drain(..).for_each(|pump| pump.abort());
    }

    /// How many streams have been opened.
    pub fn opened(&self) -> u64 {
        self.lock().opened
    }

    /// How many of them both ends have closed.
    pub fn closed(&self) -> u64 {
        self.lock().closed
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Two ends with the delay between them.
    fn pair(&self) -> (DuplexStream, DuplexStream) {
        let (near, near_inside) = tokio::io::duplex(BUFFER);
        let (far, far_inside) = tokio::io::duplex(BUFFER);
        let (near_read, near_write) = tokio::io::split(near_inside);
        let (far_read, far_write) = tokio::io::split(far_inside);
        let there = self.pump(near_read, far_write);
        let back = self.pump(far_read, near_write);
        let network = self.clone();
        tokio::spawn(async move {
            let _ = (there.await, back.await);
            network.lock().closed += 1;
        });
        (near, far)
    }

    /// Moves bytes one way.
    fn pump(
        &self,
        mut from: ReadHalf<DuplexStream>,
        mut to: WriteHalf<DuplexStream>,
    ) -> JoinHandle<()> {
        let (sender, mut under_way) = mpsc::channel::<(Instant, Bytes)>(PIECES);
        let delay = self.one_way_delay;
        let read = tokio::spawn(async move {
            let mut buffer = BytesMut::with_capacity(BUFFER);
            while from.read_buf(&mut buffer).await.is_ok_and(|read| read > 0) {
                let piece = (Instant::now() + delay, buffer.split().freeze());
                if sender.send(piece).await.is_err() {
                    return;
                }
            }
        });
        let mut passes = self.passes.subscribe();
        let write = tokio::spawn(async move {
            while let Some((due, piece)) = under_way.recv().await {
                tokio::time::sleep_until(due).await;
                let open = passes.wait_for(|passes| *passes).await.is_ok();
                if !open || to.write_all(&piece).await.is_err() {
                    return;
                }
            }
            let _ = to.shutdown().await;
        });
        let mut state = self.lock();
        state.pumps.retain(|pump| !pump.is_finished());
        state.pumps.extend([read.abort_handle(), write.abort_handle()]);
        write
    }
}

impl StreamNetwork for StreamNet {
    fn connect(&self, remote: SocketAddr) -> Connecting<'_> {
        Box::pin(async move {
            tokio::time::sleep(2 * self.one_way_delay).await;
            let _ = self.passes.subscribe().wait_for(|passes| *passes).await;
            let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
            let listener = self.lock().listeners.get(&remote).cloned().ok_or_else(refused)?;
            let (near, far) = self.pair();
            let client = {
                let mut state = self.lock();
                state.opened += 1;
                SocketAddr::from(([192, 0, 2, 1], 40_000))
            };
            let far: BoxStream = Box::new(far);
            listener.send((far, client)).await.map_err(|_| refused())?;
            let near: BoxStream = Box::new(near);
            Ok(near)
        })
    }

    fn listen(&self, local: SocketAddr) -> io::Result<Box<dyn StreamListener>> {
        let mut state = self.lock();
        let mut addr = local;
        if addr.port() == 0 {
            state.last_port += 1;
            addr.set_port(state.last_port);
        }
        let (sender, accepted) = mpsc::channel(BACKLOG);
        state.listeners.insert(addr, sender);
        Ok(Box::new(MemoryListener { addr, accepted }))
    }
}

impl StreamListener for MemoryListener {
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(BoxStream, SocketAddr)>> {
        match self.accepted.poll_recv(cx) {
            Poll::Ready(Some(accepted)) => Poll::Ready(Ok(accepted)),
            // The network is gone: nobody comes any more.
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.addr)
    }
}

impl fmt::Debug for StreamNet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamNet").field("delay", &self.one_way_delay).finish_non_exhaustive()
    }
}
