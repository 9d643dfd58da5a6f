//! Joined datagrams from a tokio socket.

use std::io::{ErrorKind, IoSliceMut};
use std::net::SocketAddr;

use anyhow::{Context, Result};
use quinn_udp::{BATCH_SIZE, RecvMeta, UdpSocketState};
use tokio::io::Interest;
use tokio::net::UdpSocket;

/// The largest payload of one joined send or receive.
pub(crate) const MOST_BYTES: usize = 65_507;
/// Bytes of a receive buffer.
const BUFFER_BYTES: usize = 1 << 16;
/// Buffers of one system call.
const BUFFERS: usize = if BATCH_SIZE < 8 { BATCH_SIZE } else { 8 };

/// Buffers, and what the last receive left in them.
pub(crate) struct Inbox {
    buffers: Vec<u8>,
    metas: [RecvMeta; BUFFERS],
    filled: usize,
}

impl Default for Inbox {
    fn default() -> Self {
        Self { buffers: Vec::new(), metas: [RecvMeta::default(); BUFFERS], filled: 0 }
    }
}

impl Inbox {
    /// Receives what is there; whether that was anything.
    pub(crate) fn fill(&mut self, socket: &UdpSocket, state: &UdpSocketState) -> Result<bool> {
        self.buffers.resize(BUFFERS * BUFFER_BYTES, 0);
        let received = socket.try_io(Interest::READABLE, || {
            let mut slices = self.buffers.chunks_mut(BUFFER_BYTES);
            let mut slices: [_; BUFFERS] =
                std::array::from_fn(|_| IoSliceMut::new(slices.next().unwrap_or_default()));
            state.recv(socket.into(), &mut slices, &mut self.metas)
        });
        match received {
            Ok(filled) => self.filled = filled,
            Err(error) if error.kind() == ErrorKind::WouldBlock => self.filled = 0,
            // The other side's socket has gone.
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => self.filled = 0,
            Err(error) => return Err(error).context("receive datagrams"),
        }
        Ok(self.filled > 0)
    }

    /// From where, the datagrams, and the length of each but the last.
    pub(crate) fn arrivals(&mut self) -> impl Iterator<Item = (SocketAddr, &mut [u8], usize)> {
        let arrivals = self.buffers.chunks_mut(BUFFER_BYTES).zip(&self.metas).take(self.filled);
        arrivals.map(|(buffer, meta)| (meta.addr, &mut buffer[..meta.len], meta.stride.max(1)))
    }
}
