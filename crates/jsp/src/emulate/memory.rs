//! Two endpoints connected inside the program's memory.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::BytesMut;

use crate::link::{Datagram, Link, Route, Transmit};

/// Datagrams that wait at one end at most; further ones are dropped, as by a socket.
const WAITING_MAX: usize = 8192;

/// One end of an in-memory link.
pub struct MemoryLink {
    addr: SocketAddr,
    peer: SocketAddr,
    receives: Arc<Mutex<Mailbox>>,
    sends: Arc<Mutex<Mailbox>>,
}

#[derive(Default)]
struct Mailbox {
    waiting: VecDeque<Datagram>,
    driver: Option<Waker>,
}

/// Two links, each the peer of the other: perfect, without delay. Their addresses are made up, at
/// 192.0.2.1 and 192.0.2.2.
pub fn pair() -> (MemoryLink, MemoryLink) {
    let addrs = [SocketAddr::from(([192, 0, 2, 1], 1)), SocketAddr::from(([192, 0, 2, 2], 2))];
    let boxes = [Arc::<Mutex<Mailbox>>::default(), Arc::default()];
    let end = |own: usize, other: usize| MemoryLink {
        addr: addrs[own],
        peer: addrs[other],
        receives: Arc::clone(&boxes[own]),
        sends: Arc::clone(&boxes[other]),
    };
    (end(0, 1), end(1, 0))
}

fn lock(mailbox: &Mutex<Mailbox>) -> MutexGuard<'_, Mailbox> {
    mailbox.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Link for MemoryLink {
    fn poll_recv(&self, cx: &mut Context<'_>, inbox: &mut Vec<Datagram>) -> Poll<io::Result<()>> {
        let mut mailbox = lock(&self.receives);
        if mailbox.waiting.is_empty() {
            mailbox.driver = Some(cx.waker().clone());
            return Poll::Pending;
        }
        inbox.extend(mailbox.waiting.drain(..));
        Poll::Ready(Ok(()))
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<usize> {
        if transmit.route.remote() != Some(self.peer) {
            return Ok(transmit.contents.len());
        }
        let mut mailbox = lock(&self.sends);
        for datagram in transmit.contents.chunks(transmit.segment_len.max(1)) {
            if mailbox.waiting.len() < WAITING_MAX {
                let payload = BytesMut::from(datagram);
                let route = Route::udp(self.addr);
                mailbox.waiting.push_back(Datagram { route, ecn: transmit.ecn, payload });
            }
        }
        let driver = mailbox.driver.take();
        drop(mailbox);
        if let Some(driver) = driver {
            driver.wake();
        }
        Ok(transmit.contents.len())
    }

    fn poll_writable(&self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.addr)
    }

    fn segments_max(&self) -> usize {
        64
    }
}

impl fmt::Debug for MemoryLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MemoryLink({} to {})", self.addr, self.peer)
    }
}
