//! Waiting for a socket without being woken for nothing.
//!
//! A UDP socket becomes "writable" each time the system has passed a datagram on. A task that asks
//! to be told of both directions is therefore woken after each send. On Unix the socket is
//! registered for reading only, and for writing only while the system's send buffer is full.

use std::io;
use std::net::UdpSocket;
use std::task::{Context, Poll, ready};

#[cfg(unix)]
pub(super) use unix::Readiness;

#[cfg(not(unix))]
pub(super) use portable::Readiness;

#[cfg(unix)]
mod unix {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::{Mutex, PoisonError};

    use tokio::io::Interest;
    use tokio::io::unix::AsyncFd;

    /// A socket and what the runtime knows about it.
    pub(in crate::link) struct Readiness {
        reader: AsyncFd<UdpSocket>,
        /// A send found no room, and none since has found any.
        full: AtomicBool,
        /// Registered for writing while `full`.
        writer: Mutex<Option<AsyncFd<UdpSocket>>>,
    }

    impl Readiness {
        pub(in crate::link) fn new(socket: UdpSocket) -> io::Result<Self> {
            let reader = register(socket, Interest::READABLE)?;
            Ok(Self { reader, full: AtomicBool::new(false), writer: Mutex::default() })
        }

        pub(in crate::link) fn socket(&self) -> &UdpSocket {
            self.reader.get_ref()
        }

        /// One receive call once the socket is readable. When `receive` answers `WouldBlock`, the
        /// socket counts as empty until something new arrives.
        pub(in crate::link) fn poll_recv(
            &self,
            cx: &mut Context<'_>,
            receive: impl FnOnce(&UdpSocket) -> io::Result<()>,
        ) -> Poll<io::Result<()>> {
            let mut guard = ready!(self.reader.poll_read_ready(cx))?;
            let would_block = || Err(io::ErrorKind::WouldBlock.into());
            let received = guard.try_io(|fd| receive(fd.get_ref()));
            Poll::Ready(received.unwrap_or_else(|_| would_block()))
        }

        /// One send call, now.
        pub(in crate::link) fn try_send(
            &self,
            send: impl FnOnce(&UdpSocket) -> io::Result<()>,
        ) -> io::Result<()> {
            if !self.full.load(Ordering::Acquire) {
                let sent = send(self.socket());
                if is_would_block(&sent) {
                    self.full.store(true, Ordering::Release);
                }
                return sent;
            }
            let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(registered) = &*writer else { return Err(io::ErrorKind::WouldBlock.into()) };
            let sent = registered.try_io(Interest::WRITABLE, send);
            if !is_would_block(&sent) {
                *writer = None;
                self.full.store(false, Ordering::Release);
            }
            sent
        }

        pub(in crate::link) fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            if !self.full.load(Ordering::Acquire) {
                return Poll::Ready(Ok(()));
            }
            let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
            let registered = match &*writer {
                Some(registered) => registered,
                None => {
                    let socket = self.socket().try_clone()?;
                    writer.insert(register(socket, Interest::WRITABLE)?)
                }
            };
            registered.poll_write_ready(cx).map_ok(|_| ())
        }
    }

    /// The newer form of this call is `unsafe`, as a value might change its file descriptor while it
    /// is registered. The standard library's socket keeps one descriptor for life.
    #[allow(deprecated, reason = "this use is sound, and unsafe code is denied")]
    fn register(socket: UdpSocket, interest: Interest) -> io::Result<AsyncFd<UdpSocket>> {
        AsyncFd::with_interest(socket, interest)
    }

    fn is_would_block(result: &io::Result<()>) -> bool {
        matches!(result, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }
}

#[cfg(not(unix))]
mod portable {
    use super::*;
    use tokio::io::Interest;

    /// A socket and what the runtime knows about it.
    pub(in crate::link) struct Readiness {
        socket: tokio::net::UdpSocket,
        plain: UdpSocket,
    }

    impl Readiness {
        pub(in crate::link) fn new(socket: UdpSocket) -> io::Result<Self> {
            let plain = socket.try_clone()?;
            Ok(Self { socket: tokio::net::UdpSocket::from_std(socket)?, plain })
        }

        pub(in crate::link) fn socket(&self) -> &UdpSocket {
            &self.plain
        }

        /// One receive call once the socket is readable.
        pub(in crate::link) fn poll_recv(
            &self,
            cx: &mut Context<'_>,
            receive: impl FnOnce(&UdpSocket) -> io::Result<()>,
        ) -> Poll<io::Result<()>> {
            ready!(self.socket.poll_recv_ready(cx))?;
            Poll::Ready(self.socket.try_io(Interest::READABLE, || receive(&self.plain)))
        }

        /// One send call, now.
        pub(in crate::link) fn try_send(
            &self,
            send: impl FnOnce(&UdpSocket) -> io::Result<()>,
        ) -> io::Result<()> {
            self.socket.try_io(Interest::WRITABLE, || send(&self.plain))
        }

        pub(in crate::link) fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.socket.poll_send_ready(cx)
        }
    }
}
