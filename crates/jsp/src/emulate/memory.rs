//! Two endpoints connected inside the program's memory.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::BytesMut;

use crate::link::{Datagram, Link, Route, Transmit};
use crate::monitor::NetworkMonitor;

/// Datagrams that wait at one end at most; further ones are dropped, as by a socket.
const WAITING_MAX: usize = 8192;

/// One end of an in-memory link.
pub struct MemoryLink {
    own: Arc<Mutex<Site>>,
    peer: Arc<Mutex<Site>>,
}

/// Where an end is, and what waits there.
struct Site {
    addr: SocketAddr,
    is_away: bool,
    waiting: VecDeque<Datagram>,
    driver: Option<Waker>,
    /// It has moved since its monitor told so last.
    has_moved: bool,
    monitor: Option<Waker>,
}

/// Two links, each the peer of the other: perfect, without delay. Their addresses are made up, at
/// 192.0.2.1 and 192.0.2.2.
pub fn pair() -> (MemoryLink, MemoryLink) {
    let [a, b] = [1, 2].map(|number| {
        Arc::new(Mutex::new(Site {
            addr: SocketAddr::from(([192, 0, 2, number], u16::from(number))),
            is_away: false,
            waiting: VecDeque::new(),
            driver: None,
            has_moved: false,
            monitor: None,
        }))
    });
    let end =
        |own: &Arc<_>, peer: &Arc<_>| MemoryLink { own: Arc::clone(own), peer: Arc::clone(peer) };
    (end(&a, &b), end(&b, &a))
}

fn lock(site: &Mutex<Site>) -> MutexGuard<'_, Site> {
    site.lock().unwrap_or_else(PoisonError::into_inner)
}

impl MemoryLink {
    /// A handle that moves this end while it is in use.
    pub fn attachment(&self) -> Attachment {
        Attachment { site: Arc::clone(&self.own) }
    }
}

impl Link for MemoryLink {
    fn poll_recv(&self, cx: &mut Context<'_>, inbox: &mut Vec<Datagram>) -> Poll<io::Result<()>> {
        let mut own = lock(&self.own);
        if own.waiting.is_empty() {
            own.driver = Some(cx.waker().clone());
            return Poll::Pending;
        }
        inbox.extend(own.waiting.drain(..));
        Poll::Ready(Ok(()))
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<usize> {
        let Some(from) = lock(&self.own).attached() else { return Ok(transmit.contents.len()) };
        let mut peer = lock(&self.peer);
        if transmit.route.remote() != peer.attached() {
            return Ok(transmit.contents.len());
        }
        for datagram in transmit.contents.chunks(transmit.segment_len.max(1)) {
            if peer.waiting.len() < WAITING_MAX {
                let payload = BytesMut::from(datagram);
                let route = Route::udp(from);
                peer.waiting.push_back(Datagram { route, ecn: transmit.ecn, payload });
            }
        }
        let driver = peer.driver.take();
        drop(peer);
        if let Some(driver) = driver {
            driver.wake();
        }
        Ok(transmit.contents.len())
    }

    fn poll_writable(&self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(lock(&self.own).addr)
    }

    fn segments_max(&self) -> usize {
        64
    }
}

impl Site {
    /// The address, unless it is away.
    fn attached(&self) -> Option<SocketAddr> {
        (!self.is_away).then_some(self.addr)
    }
}

impl fmt::Debug for MemoryLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (own, peer) = (lock(&self.own).addr, lock(&self.peer).addr);
        write!(f, "MemoryLink({own} to {peer})")
    }
}

/// Where one end of an in-memory link is: it can go to another address, as a telephone that leaves one network
/// for another, and be away in between.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use jsp::emulate::pair;
///
/// let (near, _far) = pair();
/// let attachment = near.attachment();
/// let client = jsp::Endpoint::builder()
///     .network_monitor(attachment.monitor())
///     .link(Box::new(near))
///     .build()?;
/// attachment.detach();
/// attachment.move_to("198.51.100.7:1".parse()?);
/// assert_eq!(client.local_addr()?.to_string(), "198.51.100.7:1");
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Attachment {
    site: Arc<Mutex<Site>>,
}

impl Attachment {
    /// The end is at `addr` from now on: what it sends comes from there, and what is sent to where it was
    /// is lost.
    pub fn move_to(&self, addr: SocketAddr) {
        self.change(|site| {
            site.addr = addr;
            site.is_away = false;
        });
    }

    /// The end is nowhere: what it sends, and what is sent to it, is lost.
    pub fn detach(&self) {
        self.change(|site| site.is_away = true);
    }

    fn source_now(&self) -> Option<IpAddr> {
        lock(&self.site).attached().map(|addr| addr.ip())
    }

    /// Tells of these changes as the operating system would of its own
    /// ([`Builder::network_monitor`](crate::Builder::network_monitor)). One monitor at a time is told.
    pub fn monitor(&self) -> Box<dyn NetworkMonitor> {
        Box::new(self.clone())
    }

    fn change(&self, change: impl FnOnce(&mut Site)) {
        let mut site = lock(&self.site);
        change(&mut site);
        site.has_moved = true;
        let monitor = site.monitor.take();
        drop(site);
        if let Some(monitor) = monitor {
            monitor.wake();
        }
    }
}

impl NetworkMonitor for Attachment {
    fn poll_changed(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut site = lock(&self.site);
        if std::mem::take(&mut site.has_moved) {
            return Poll::Ready(Ok(()));
        }
        site.monitor = Some(cx.waker().clone());
        Poll::Pending
    }

    fn addresses(&mut self) -> io::Result<Vec<IpAddr>> {
        Ok(self.source_now().into_iter().collect())
    }

    fn source(&mut self, _: SocketAddr) -> Option<IpAddr> {
        self.source_now()
    }
}

impl fmt::Debug for Attachment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Attachment").field(&lock(&self.site).attached()).finish()
    }
}
