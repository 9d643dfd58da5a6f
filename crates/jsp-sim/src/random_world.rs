//! Worlds by chance: a seed decides on links, faults, modes, sizes, moods of readers and ends.

use std::net::SocketAddrV4;
use std::time::Duration;

use jsp_proto::{
    CongestionControl, Duplicate, FecPolicy, PathUse, PreferredAddresses, RetryPolicy,
    TransportConfig,
};
use jsp_wire::{Class, Instant};

use crate::app::Script;
use crate::flow::{Pair, Side};
use crate::link::{Faults, Jitter, LinkConfig, Loss, Outage, OutageKind, Queue, Rate};
use crate::random::Random;
use crate::random_privacy;
use crate::random_script::{self, Budget};
use crate::resumption;
use crate::topology::{Client, Farewell, Path, SERVER_OTHER, Second, Server, Topology};

/// Traffic of a world is at most this many seconds' worth of its slowest link.
const TRAFFIC_SECONDS: u64 = 4;
/// And at most this many bytes.
const TRAFFIC_BYTES_MAX: u64 = 3 << 20;
/// Largest rate, in bits per second: what an unlimited link counts as.
const RATE_MAX: u64 = 100_000_000;
/// Smallest rate, in bits per second.
const RATE_MIN: u64 = 100_000;

/// The world of a seed.
pub fn random_world(seed: u64) -> Topology {
    let mut topology = random_privacy::add(plain_world(seed));
    random_preference(seed, &mut topology.server);
    topology
}

/// The same without padding and wrapping, and servers that prefer an address, which part of the worlds have.
pub fn plain_world(seed: u64) -> Topology {
    let mut random = Random::part(seed, "world", 0);
    let faults_end = Instant::ZERO + random.duration_between(secs(2), secs(12));
    let clients = if random.chance(0.8) { 1 } else { random.between(2, 3) } as Pair;
    let is_shared = random.chance(0.5);
    let path_count = if is_shared { 1 } else { clients };
    let mut topology = Topology::new(seed).server(Server {
        retry: *random.pick(&[
            RetryPolicy::Never,
            RetryPolicy::Never,
            RetryPolicy::WhenHalfOpen(1),
            RetryPolicy::Always,
        ]),
        transport: random_transport(&mut random),
    });
    let mut slowest = RATE_MAX;
    for index in 0..path_count {
        let (up, down) = random_links(&mut random, faults_end);
        for link in [&up, &down] {
            slowest = slowest.min(link.rate.at(faults_end).unwrap_or(RATE_MAX));
            if let Queue::Policer { bps, .. } = link.queue {
                slowest = slowest.min(bps);
            }
        }
        let members = if is_shared { (0..clients).collect() } else { vec![index] };
        topology = topology.path(Path { clients: members, up, down });
    }
    let bytes = (slowest / 8 * TRAFFIC_SECONDS).min(TRAFFIC_BYTES_MAX) / u64::from(clients);
    for index in 0..clients {
        let mut budget = Budget::new(bytes, faults_end);
        let mut part = Random::part(seed, "script", u64::from(index));
        let mut script = random_script::generate(&mut part, &mut budget);
        random_repair(&mut Random::part(seed, "repair", u64::from(index)), &mut script);
        let mut client = random_client(&mut random, script, faults_end);
        resumption::scatter(seed, index, &mut client);
        topology = topology.client(client);
    }
    for index in 0..clients {
        topology = random_second(seed, index, topology, faults_end);
    }
    // The data may have to go twice over the slowest link, and readers may sleep for a while.
    topology.allowance = Duration::from_secs(TRAFFIC_SECONDS * 2) + random_script::READ_TIME_MAX;
    topology.faults_end = faults_end;
    topology.farewell = *random.pick(&[
        Farewell::Close(Side::Client),
        Farewell::Close(Side::Client),
        Farewell::Close(Side::Server),
        Farewell::CloseBoth,
        Farewell::Vanish(Side::Client),
        Farewell::Vanish(Side::Server),
    ]);
    topology
}

/// A second interface for a third of the clients, some of which end the path over the first, or have connection ids
/// of their own. Drawn apart: the rest of a world stays as it was.
fn random_second(seed: u64, index: Pair, mut topology: Topology, faults_end: Instant) -> Topology {
    let mut random = Random::part(seed, "second", u64::from(index));
    if !random.chance(0.33) {
        return topology;
    }
    let unlimited = |link: LinkConfig| LinkConfig { rate: Rate::Unlimited, ..link };
    let (up, down) = random_links(&mut random, faults_end);
    // The path must not be slower than what the traffic was made for.
    let path = Path { clients: vec![index], up: unlimited(up), down: unlimited(down) };
    let latest = faults_end.since(Instant::ZERO);
    let opens_at = Instant::ZERO + random.duration_to(latest);
    let end = opens_at + random.duration_between(millis(100), secs(8));
    let mut downs = Vec::new();
    if random.chance(0.3) {
        let from = Instant::ZERO + random.duration_to(latest);
        downs.push((from, from + random.duration_to(secs(2))));
    }
    let usage = *random.pick(&[PathUse::Available, PathUse::Available, PathUse::Standby]);
    let ends_at = random.chance(0.4).then_some(end);
    let mut part = Random::part(seed, "first", u64::from(index));
    let first_end = opens_at + part.duration_between(millis(100), secs(8));
    let first_ends_at = part.chance(0.3).then_some(first_end);
    let client = &mut topology.clients[index as usize];
    client.listens = part.chance(0.3);
    client.second = Some(Second { opens_at, ends_at, first_ends_at, usage, downs });
    let policies = [Duplicate::Auto, Duplicate::Auto, Duplicate::Always, Duplicate::Never];
    for plan in client.script.client.iter_mut().chain(&mut client.script.server) {
        plan.config.duplicate = *random.pick(&policies);
    }
    topology.path(path)
}

/// A quarter of the servers prefer another address, where a part of them cannot be reached. Drawn apart: the rest of
/// a world stays as it was.
fn random_preference(seed: u64, server: &mut Server) {
    let mut random = Random::part(seed, "preferred", 0);
    if random.chance(0.25) {
        let nowhere = SocketAddrV4::new([10, 0, 0, 3].into(), 4433);
        let there = if random.chance(0.75) { SERVER_OTHER } else { nowhere };
        server.transport.preferred = PreferredAddresses { v4: Some(there), v6: None };
    }
}

/// Real-time streams with a policy of repair of their own. Drawn apart: the rest of a world stays as it was.
fn random_repair(random: &mut Random, script: &mut Script) {
    for plan in script.client.iter_mut().chain(&mut script.server) {
        let fixed = random.between(1, 100) as u8;
        let policies = [FecPolicy::Auto, FecPolicy::Auto, FecPolicy::Off, FecPolicy::Fixed(fixed)];
        let policy = *random.pick(&policies);
        if plan.config.class == Class::RealTime {
            plan.config.fec = policy;
        }
    }
}

fn secs(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

fn random_client(random: &mut Random, script: Script, faults_end: Instant) -> Client {
    let mut rebinds = Vec::new();
    if random.chance(0.1) {
        for _ in 0..random.between(1, 2) {
            let latest = faults_end.since(Instant::ZERO);
            rebinds.push(Instant::ZERO + random.duration_between(secs(1), latest));
        }
        rebinds.sort();
    }
    let mut transport = random_transport(random);
    if !rebinds.is_empty() {
        // Only what the client sends tells the server where it is now.
        transport.keep_alive = Some(random.duration_between(secs(1), secs(3)));
        transport.idle_timeout = secs(100);
    }
    let connect_at = Instant::ZERO + random.duration_to(millis(500));
    Client { connect_at, transport, script, rebinds, ..Client::default() }
}

fn random_transport(random: &mut Random) -> TransportConfig {
    let stream_window = random.log_between(16 << 10, 1 << 20);
    let connection_window = stream_window * random.between(1, 4);
    let keep_alive = random.chance(0.3).then(|| random.duration_between(secs(2), secs(15)));
    TransportConfig {
        // A quiet connection lives to the end of its world, by time or by keep-alive.
        idle_timeout: match keep_alive {
            Some(interval) => interval * 3 + secs(8),
            None => random.duration_between(secs(100), secs(150)),
        },
        keep_alive,
        congestion: *random.pick(&[
            CongestionControl::Bbr,
            CongestionControl::Cubic,
            CongestionControl::RealTime,
        ]),
        stream_window,
        connection_window,
        stream_window_max: stream_window * random.between(1, 8),
        connection_window_max: connection_window * random.between(1, 8),
        message_len_max: 1 << 20,
        streams_max: random.log_between(6, 1024),
        unreliable_buffer: random.log_between(16 << 10, 1 << 20) as usize,
        ack_delay_max: random.duration_between(millis(1), millis(40)),
        mtu_ceiling: *random.pick(&[1200, 1452, 1452, 1472]),
        key_update_packets: if random.chance(0.3) {
            random.log_between(30, 2_000)
        } else {
            1 << 22
        },
        ..TransportConfig::default()
    }
}

/// Up and down link of a path: alike in delay, apart in the rest.
fn random_links(random: &mut Random, faults_end: Instant) -> (LinkConfig, LinkConfig) {
    let delay = Duration::from_micros(random.log_between(1_000, 300_000));
    let mtu = *random.pick(&[1200, 1280, 1400, 1472, 1472, 1472]);
    let outages = random_outages(random, faults_end);
    let mut link = || {
        let bps = random.log_between(RATE_MIN, RATE_MAX);
        let rate = if random.chance(0.15) { None } else { Some(bps) };
        let (rate, queue) = random_rate(random, rate, delay, faults_end);
        let mut faults = random_faults(random, faults_end);
        // An outage as a rule strikes both ways, at times only one.
        if random.chance(0.8) {
            faults.outages = outages.clone();
        }
        LinkConfig {
            delay,
            jitter: match random.below(4) {
                0 => Jitter::InOrder(random.duration_to(millis(30))),
                1 => Jitter::Reordering(random.duration_to(millis(30))),
                _ => Jitter::None,
            },
            rate,
            queue,
            mtu,
            faults,
            measure_queue: false,
        }
    };
    (link(), link())
}

fn random_rate(
    random: &mut Random,
    bps: Option<u64>,
    delay: Duration,
    faults_end: Instant,
) -> (Rate, Queue) {
    let Some(bps) = bps else { return (Rate::Unlimited, Queue::default()) };
    let bandwidth_delay = (bps as f64 / 8.0 * 2.0 * delay.as_secs_f64()) as u64;
    let bytes = (bandwidth_delay * random.log_between(25, 400) / 100).clamp(4_500, 1 << 20);
    let queue = match random.below(6) {
        0 => match random.between(2, 8) {
            8 => Queue::DualPi2 { bytes },
            divisor => Queue::Marking { bytes, mark_above: bytes / divisor },
        },
        1 => Queue::Policer {
            bps: (bps / random.between(1, 4)).max(RATE_MIN),
            bucket: random.log_between(5_000, 100_000),
            bytes,
        },
        _ => Queue::DropTail { bytes },
    };
    let has_steps = random.chance(0.2);
    let rate = if has_steps {
        let middle = faults_end - Duration::from_nanos(faults_end.as_nanos() / 2);
        let slow = (bps / random.between(2, 10)).max(RATE_MIN);
        Rate::Steps(vec![(Instant::ZERO, bps), (middle, slow), (faults_end, bps)])
    } else {
        Rate::Constant(bps)
    };
    (rate, queue)
}

fn random_faults(random: &mut Random, until: Instant) -> Faults {
    let mut seldom = |chance: f64, most: f64| {
        if random.chance(chance) { random.fraction() * most } else { 0.0 }
    };
    let corruption = seldom(0.4, 0.01);
    let duplication = seldom(0.4, 0.2);
    let detour = seldom(0.4, 0.3);
    let fraction = random.log_between(1, 300) as f64 / 1_000.0;
    let loss = match random.below(5) {
        0 => Loss::None,
        1 => Loss::fading(fraction, random.duration_between(millis(3), millis(100))),
        2 => {
            let leave = 0.1 + random.fraction() * 0.8;
            Loss::PerPacket { enter: leave * fraction / (1.0 - fraction), leave, loss_bad: 1.0 }
        }
        _ => Loss::Random(fraction),
    };
    let detour_max = random.duration_to(millis(100));
    Faults { loss, corruption, duplication, detour, detour_max, until, ..Faults::default() }
}

fn random_outages(random: &mut Random, faults_end: Instant) -> Vec<Outage> {
    let count = if random.chance(0.3) { random.between(1, 2) } else { 0 };
    let latest = faults_end.since(Instant::ZERO);
    let mut outage = || Outage {
        start: Instant::ZERO + random.duration_to(latest),
        length: random.duration_to(secs(2)),
        kind: *random.pick(&[OutageKind::Drop, OutageKind::Hold]),
    };
    (0..count).map(|_| outage()).collect()
}
