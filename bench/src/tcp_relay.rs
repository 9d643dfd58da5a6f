//! A userspace forwarder for TCP that counts the bytes each way.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use anyhow::Result;

use crate::emulator::{Tallies, Tally};

/// Bytes copied at a time.
const BUFFER_BYTES: usize = 64 << 10;

/// A forwarder from a loopback port of its own to one server. It lives as long as the
/// process; its thread only waits when nobody connects.
pub(crate) struct TcpRelay {
    address: SocketAddr,
    up: Arc<AtomicU64>,
    down: Arc<AtomicU64>,
}

impl TcpRelay {
    /// Starts forwarding to `server`.
    pub(crate) fn start(server: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let (up, down) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let relay = Self { address, up: Arc::clone(&up), down: Arc::clone(&down) };
        thread::spawn(move || {
            while let Ok((client, _)) = listener.accept() {
                // A server that refuses shows as a closed connection at the client.
                let _ = splice(client, server, &up, &down);
            }
        });
        Ok(relay)
    }

    /// Where clients connect to.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Bytes of TCP payload so far. TCP hides its segments, so packets stay 0.
    pub(crate) fn tallies(&self) -> Tallies {
        let tally =
            |bytes: &AtomicU64| Tally { bytes: bytes.load(Ordering::Relaxed), ..Tally::default() };
        Tallies { up: tally(&self.up), down: tally(&self.down) }
    }
}

fn splice(
    client: TcpStream,
    server: SocketAddr,
    up: &Arc<AtomicU64>,
    down: &Arc<AtomicU64>,
) -> Result<()> {
    let upstream = TcpStream::connect(server)?;
    client.set_nodelay(true)?;
    upstream.set_nodelay(true)?;
    let ends = [
        (client.try_clone()?, upstream.try_clone()?, Arc::clone(up)),
        (upstream, client, Arc::clone(down)),
    ];
    for (from, to, count) in ends {
        thread::spawn(move || copy(from, to, &count));
    }
    Ok(())
}

fn copy(mut from: TcpStream, mut to: TcpStream, count: &AtomicU64) {
    let mut buffer = vec![0; BUFFER_BYTES];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        count.fetch_add(length as u64, Ordering::Relaxed);
        if to.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    // Either end may be gone already.
    let _ = to.shutdown(Shutdown::Write);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_pass_and_are_counted_each_way() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let relay = TcpRelay::start(listener.local_addr().unwrap()).unwrap();
        let mut client = TcpStream::connect(relay.address()).unwrap();
        client.write_all(b"hello").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        let mut got = Vec::new();
        server.read_to_end(&mut got).unwrap();
        assert_eq!(got, b"hello");
        server.write_all(b"you").unwrap();
        drop(server);
        got.clear();
        client.read_to_end(&mut got).unwrap();
        assert_eq!(got, b"you");
        assert_eq!((relay.tallies().up.bytes, relay.tallies().down.bytes), (5, 3));
    }
}
