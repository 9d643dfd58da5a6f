//! A userspace network path for UDP: rate, delay, queue and seeded loss, and byte
//! counts each way. With nothing configured it only forwards and counts.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use socket2::SockRef;

/// Bytes of IPv4 and UDP header that a packet takes on the emulated wire besides its payload.
const HEADER_BYTES: u64 = 28;
/// Socket buffers of the relay, so that packets are lost in the model and not in the kernel.
const SOCKET_BUFFER_BYTES: usize = 4 << 20;
/// How often a blocked relay thread looks whether it should end.
const STOP_POLL: Duration = Duration::from_millis(50);
/// The largest UDP payload.
const MAX_DATAGRAM: usize = 65_535;

/// One direction of a path.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LinkConfig {
    /// Bits per second, headers included; `None` for no limit.
    pub(crate) rate_bps: Option<u64>,
    /// Propagation delay of this direction.
    pub(crate) delay: Duration,
    /// Bytes that may wait for the link, headers included; used only with a rate.
    pub(crate) queue_bytes: u64,
    /// Random loss, 0 to 1.
    pub(crate) loss: f64,
    /// Seed of the losses.
    pub(crate) seed: u64,
}

/// The model of one direction: pure, time is an argument.
#[derive(Debug)]
pub(crate) struct Link {
    config: LinkConfig,
    random: u64,
    /// When the link will have sent all that waits, since the relay's start.
    free_at: Duration,
}

impl Link {
    /// An idle link.
    pub(crate) fn new(config: LinkConfig) -> Self {
        Self { config, random: config.seed, free_at: Duration::ZERO }
    }

    /// Offers a packet of `payload` bytes at `now`; when it arrives, or `None` when it is
    /// lost. Every packet draws one random number, dropped by the queue or not, so that
    /// the losses depend on the seed and the packet's place in the order alone.
    pub(crate) fn offer(&mut self, now: Duration, payload: usize) -> Option<Duration> {
        let unlucky = self.draw() < self.config.loss;
        let Some(rate) = self.config.rate_bps else {
            return (!unlucky).then_some(now + self.config.delay);
        };
        let size = payload as u64 + HEADER_BYTES;
        let waiting = self.free_at.saturating_sub(now);
        let backlog = (waiting.as_nanos() * u128::from(rate) / 8_000_000_000) as u64;
        if backlog + size > self.config.queue_bytes {
            return None;
        }
        let sending = Duration::from_nanos(size * 8_000_000_000 / rate);
        self.free_at = self.free_at.max(now) + sending;
        (!unlucky).then_some(self.free_at + self.config.delay)
    }

    /// The next number of the SplitMix64 sequence, as a fraction below 1.
    fn draw(&mut self) -> f64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn passes_at_once(&self) -> bool {
        self.config.rate_bps.is_none() && self.config.delay.is_zero()
    }
}

/// What one direction was offered and what it lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Packets offered.
    pub(crate) packets: u64,
    /// Bytes of payload offered.
    pub(crate) bytes: u64,
    /// Packets dropped, by chance or by the queue.
    pub(crate) dropped: u64,
}

/// The two directions' tallies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tallies {
    /// Client to server.
    pub(crate) up: Tally,
    /// Server to client.
    pub(crate) down: Tally,
}

/// A packet on its way.
struct Flight {
    due: Instant,
    packet: Vec<u8>,
    socket: Arc<UdpSocket>,
    to: SocketAddr,
}

/// One direction at work: the model, its counts and the thread that delivers.
struct Lane {
    link: Mutex<Link>,
    started: Instant,
    packets: AtomicU64,
    bytes: AtomicU64,
    dropped: AtomicU64,
    delayed: Option<Sender<Flight>>,
}

impl Lane {
    fn new(config: LinkConfig, started: Instant) -> Arc<Self> {
        let link = Link::new(config);
        let delayed = (!link.passes_at_once()).then(|| {
            let (sender, receiver) = channel();
            thread::spawn(move || deliver(&receiver));
            sender
        });
        Arc::new(Self {
            link: Mutex::new(link),
            started,
            packets: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            delayed,
        })
    }

    fn carry(&self, packet: &[u8], socket: &Arc<UdpSocket>, to: SocketAddr) {
        let now = self.started.elapsed();
        self.packets.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(packet.len() as u64, Ordering::Relaxed);
        let arrival =
            self.link.lock().unwrap_or_else(PoisonError::into_inner).offer(now, packet.len());
        let Some(arrival) = arrival else {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        };
        if let Some(delayed) = &self.delayed {
            let due = self.started + arrival;
            // The thread at the other end lives as long as this sender.
            let _ = delayed.send(Flight {
                due,
                packet: packet.to_vec(),
                socket: Arc::clone(socket),
                to,
            });
        } else {
            // A peer that is gone is the subject's affair, not the path's.
            let _ = socket.send_to(packet, to);
        }
    }

    fn tally(&self) -> Tally {
        Tally {
            packets: self.packets.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            dropped: self.dropped.load(Ordering::Relaxed),
        }
    }
}

/// Delivers in order of arrival; a link never reorders, so the order of sending is enough.
fn deliver(flights: &Receiver<Flight>) {
    while let Ok(flight) = flights.recv() {
        let wait = flight.due.saturating_duration_since(Instant::now());
        if !wait.is_zero() {
            thread::sleep(wait);
        }
        let _ = flight.socket.send_to(&flight.packet, flight.to);
    }
}

/// A path between any number of clients and one server.
pub(crate) struct Relay {
    address: SocketAddr,
    up: Arc<Lane>,
    down: Arc<Lane>,
    stop: Arc<AtomicBool>,
}

impl Relay {
    /// Starts a relay to `server` on a loopback port of its own; the losses of the two
    /// directions come from the same seed, but differ.
    pub(crate) fn start(server: SocketAddr, config: LinkConfig) -> Result<Self> {
        let front = Arc::new(socket().context("open the relay's socket")?);
        let address = front.local_addr()?;
        let started = Instant::now();
        let up = Lane::new(config, started);
        let down = Lane::new(LinkConfig { seed: !config.seed, ..config }, started);
        let stop = Arc::new(AtomicBool::new(false));
        let relay =
            Self { address, up: Arc::clone(&up), down: Arc::clone(&down), stop: Arc::clone(&stop) };
        thread::spawn(move || forward_up(&front, server, &up, &down, &stop));
        Ok(relay)
    }

    /// Where clients connect to.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// What has passed so far.
    pub(crate) fn tallies(&self) -> Tallies {
        Tallies { up: self.up.tally(), down: self.down.tally() }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn socket() -> Result<UdpSocket> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    SockRef::from(&socket).set_recv_buffer_size(SOCKET_BUFFER_BYTES)?;
    SockRef::from(&socket).set_send_buffer_size(SOCKET_BUFFER_BYTES)?;
    socket.set_read_timeout(Some(STOP_POLL))?;
    Ok(socket)
}

fn forward_up(
    front: &Arc<UdpSocket>,
    server: SocketAddr,
    up: &Lane,
    down: &Arc<Lane>,
    stop: &Arc<AtomicBool>,
) {
    let mut backs: HashMap<SocketAddr, Arc<UdpSocket>> = HashMap::new();
    let mut buffer = vec![0; MAX_DATAGRAM];
    while !stop.load(Ordering::Relaxed) {
        let Ok((length, client)) = front.recv_from(&mut buffer) else { continue };
        let back = match backs.entry(client) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                let Ok(back) = socket() else { continue };
                let back = Arc::new(back);
                let (front, lane) = (Arc::clone(front), Arc::clone(down));
                let (from, stop) = (Arc::clone(&back), Arc::clone(stop));
                thread::spawn(move || forward_down(&from, &front, client, &lane, &stop));
                new.insert(back)
            }
        };
        up.carry(&buffer[..length], back, server);
    }
}

fn forward_down(
    back: &UdpSocket,
    front: &Arc<UdpSocket>,
    client: SocketAddr,
    down: &Lane,
    stop: &AtomicBool,
) {
    let mut buffer = vec![0; MAX_DATAGRAM];
    while !stop.load(Ordering::Relaxed) {
        let Ok(length) = back.recv(&mut buffer) else { continue };
        down.carry(&buffer[..length], front, client);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(loss: f64, seed: u64) -> LinkConfig {
        LinkConfig {
            rate_bps: Some(8_000_000),
            delay: Duration::from_millis(10),
            queue_bytes: 10_000,
            loss,
            seed,
        }
    }

    fn fates(config: LinkConfig) -> Vec<Option<Duration>> {
        let mut link = Link::new(config);
        (0..5_000).map(|n| link.offer(Duration::from_micros(n * 900), 972)).collect()
    }

    #[test]
    fn the_same_seed_gives_the_same_path() {
        assert_eq!(fates(config(0.05, 7)), fates(config(0.05, 7)));
        assert_ne!(fates(config(0.05, 7)), fates(config(0.05, 8)));
    }

    #[test]
    fn loss_is_near_its_rate() {
        let quiet = LinkConfig { rate_bps: None, ..config(0.05, 1) };
        let lost = fates(quiet).iter().filter(|fate| fate.is_none()).count();
        assert!((180..=320).contains(&lost), "{lost} of 5000");
        assert!(fates(LinkConfig { loss: 0.0, ..quiet }).iter().all(Option::is_some));
    }

    #[test]
    fn packets_leave_at_the_rate_and_arrive_after_the_delay() {
        let mut link = Link::new(config(0.0, 1));
        // 972 + 28 bytes at 1 byte per microsecond take 1 ms.
        assert_eq!(link.offer(Duration::ZERO, 972), Some(Duration::from_millis(11)));
        assert_eq!(link.offer(Duration::ZERO, 972), Some(Duration::from_millis(12)));
        assert_eq!(link.offer(Duration::from_millis(50), 972), Some(Duration::from_millis(61)));
    }

    #[test]
    fn a_full_queue_drops_and_drains() {
        let mut link = Link::new(config(0.0, 1));
        let taken = (0..20).filter(|_| link.offer(Duration::ZERO, 972).is_some()).count();
        assert_eq!(taken, 10);
        assert!(link.offer(Duration::from_millis(1), 972).is_some());
        assert!(link.offer(Duration::from_millis(1), 972).is_none());
    }

    #[test]
    fn a_bare_relay_forwards_both_ways_and_counts() {
        let server = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let relay = Relay::start(server.local_addr().unwrap(), LinkConfig::default()).unwrap();
        let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        client.connect(relay.address()).unwrap();
        for socket in [&server, &client] {
            socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        }
        client.send(b"hello").unwrap();
        let mut buffer = [0; 16];
        let (length, from) = server.recv_from(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"hello");
        server.send_to(b"you", from).unwrap();
        let length = client.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"you");
        let up = Tally { packets: 1, bytes: 5, dropped: 0 };
        let down = Tally { packets: 1, bytes: 3, dropped: 0 };
        assert_eq!(relay.tallies(), Tallies { up, down });
    }
}
