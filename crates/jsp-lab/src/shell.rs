//! The link between the hosts: a thread that moves IP packets between the TUN devices through the
//! simulator's link model, in real time.

use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant as Clock};

use bytes::BytesMut;
use jsp_sim::link::{Datagram, HEADER_BYTES, Link, LinkConfig};
use jsp_sim::random::Random;
use jsp_wire::Instant;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;
use tun_rs::SyncDevice;

use crate::hosts::MTU;

/// The thread looks at its stop flag at least this often.
const IDLE: Duration = Duration::from_millis(20);

/// IP protocol numbers (RFC 790).
const TCP: u8 = 6;
const UDP: u8 = 17;

/// Bytes that arrived at the right host, by protocol.
#[derive(Default)]
pub(crate) struct Arrived {
    tcp: AtomicU64,
    udp: AtomicU64,
}

impl Arrived {
    pub(crate) fn tcp(&self) -> u64 {
        self.tcp.load(Ordering::Relaxed)
    }

    pub(crate) fn udp(&self) -> u64 {
        self.udp.load(Ordering::Relaxed)
    }

    fn count(&self, packet: &[u8]) {
        let counter = match packet.get(9) {
            Some(&TCP) => &self.tcp,
            Some(&UDP) => &self.udp,
            _ => return,
        };
        counter.fetch_add(packet.len() as u64, Ordering::Relaxed);
    }
}

/// The running link; ends when dropped.
pub(crate) struct Shell {
    pub(crate) arrived: Arc<Arrived>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Shell {
    /// Connects the devices, left to right by `there`, right to left by `back`.
    pub(crate) fn start(
        devices: [SyncDevice; 2],
        there: LinkConfig,
        back: LinkConfig,
        seed: u64,
    ) -> Self {
        let (arrived, stop) = (Arc::new(Arrived::default()), Arc::new(AtomicBool::new(false)));
        let links = [(there, seed), (back, seed + 1)].map(|(config, seed)| {
            // The model counts UDP payloads and adds headers; here whole packets are given to it.
            Link::new(LinkConfig { mtu: MTU, ..config }, Random::new(seed))
        });
        let mut carrier = Carrier {
            devices,
            links,
            origin: Clock::now(),
            arrived: Arc::clone(&arrived),
            buffer: vec![0; MTU + HEADER_BYTES as usize],
        };
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                carrier.step();
            }
        });
        Self { arrived, stop, thread: Some(thread) }
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Carrier {
    devices: [SyncDevice; 2],
    links: [Link; 2],
    origin: Clock,
    arrived: Arc<Arrived>,
    buffer: Vec<u8>,
}

impl Carrier {
    fn now(&self) -> Instant {
        Instant::ZERO + self.origin.elapsed()
    }

    /// Waits for a packet or for what is due, and carries it.
    fn step(&mut self) {
        self.wait();
        let now = self.now();
        for from in [0, 1] {
            self.take(from, now);
            self.deliver(from, now);
        }
    }

    fn wait(&self) {
        let next = self.links.iter().filter_map(Link::next_event).min();
        let left = next.map_or(IDLE, |at| at.since(self.now()).min(IDLE));
        let [left_fd, right_fd] =
            [0, 1].map(|side: usize| PollFd::new(self.devices[side].as_fd(), PollFlags::POLLIN));
        // An interrupted wait is a short one.
        let _ = ppoll(&mut [left_fd, right_fd], Some(TimeSpec::from_duration(left)), None);
    }

    /// Everything that a host has sent goes into its link.
    fn take(&mut self, from: usize, now: Instant) {
        while let Ok(len) = self.devices[from].recv(&mut self.buffer) {
            let nowhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
            self.links[from].push(
                now,
                Datagram {
                    from: nowhere,
                    to: nowhere,
                    ecn: None,
                    payload: BytesMut::from(&self.buffer[..len]),
                    sent: now,
                    beyond: Duration::ZERO,
                    intact: true,
                },
            );
        }
    }

    /// What has arrived at the end of a link goes to the host there.
    fn deliver(&mut self, from: usize, now: Instant) {
        while let Some(datagram) = self.links[from].poll(now) {
            if from == 0 {
                self.arrived.count(&datagram.payload);
            }
            // A host that takes no packet loses it, as a network card does.
            let _ = self.devices[1 - from].send(&datagram.payload);
        }
    }
}
