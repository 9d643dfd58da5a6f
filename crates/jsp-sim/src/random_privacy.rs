//! Padding and wrapping by chance, for a part of the random worlds.

use std::time::Duration;

use jsp_proto::{Buckets, ConstantRate, Padding};

use crate::flow::Pair;
use crate::link::Queue;
use crate::random::Random;
use crate::topology::Topology;

/// How many of the worlds have something of it.
const SHARE: f64 = 0.2;
/// What links carry at least where datagrams are wrapped, in bytes of UDP payload: the base size and the wrapping.
const WRAPPED_MTU_MIN: usize = 1232;
/// Largest rate of a link that counts, in bits per second.
const RATE_MAX: u64 = 100_000_000;
/// Fast enough for the traffic of a world, slow enough for whoever waits for it.
const INTERVAL_MIN: Duration = Duration::from_millis(3);

/// A part of the worlds gets padding, the wrapping, or both; the others stay as they are.
pub(crate) fn add(mut topology: Topology) -> Topology {
    let mut random = Random::part(topology.seed, "privacy", 0);
    if !random.chance(SHARE) {
        return topology;
    }
    add_some(&mut random, &mut topology);
    topology
}

fn add_some(random: &mut Random, topology: &mut Topology) {
    if random.chance(0.6) {
        topology.obfuscation = Some(random.seed_bytes());
        for path in &mut topology.paths {
            path.up.mtu = path.up.mtu.max(WRAPPED_MTU_MIN);
            path.down.mtu = path.down.mtu.max(WRAPPED_MTU_MIN);
        }
    }
    let share = fair_share(topology);
    let clients = topology.clients.iter_mut().map(|client| &mut client.transport);
    for transport in clients.chain([&mut topology.server.transport]) {
        transport.padding = padding(random, share);
    }
}

/// Half of what one of the clients has of the slowest link, in bytes a second. More would be congestion that never
/// ends: a constant rate does not become less by itself. Second paths do not count: who sends at a constant rate has
/// none.
fn fair_share(topology: &Topology) -> u64 {
    let pairs = 0..topology.clients.len() as Pair;
    let firsts = pairs.filter_map(|pair| {
        let mut paths = topology.paths.iter();
        paths.find(|path| path.clients.contains(&pair))
    });
    let links = firsts.flat_map(|path| [&path.up, &path.down]);
    let bps = links.map(|link| {
        let rate = link.rate.at(topology.faults_end).unwrap_or(RATE_MAX);
        if let Queue::Policer { bps, .. } = link.queue { rate.min(bps) } else { rate }
    });
    bps.min().unwrap_or(RATE_MAX) / 8 / 2 / topology.clients.len().max(1) as u64
}

fn padding(random: &mut Random, share: u64) -> Padding {
    match random.below(5) {
        0 => Padding::None,
        1 => Padding::Buckets(Buckets::default()),
        2 | 3 => {
            let count = random.between(1, 15);
            let sizes: Vec<_> =
                (0..count).map(|_| random.log_between(128, 1_600) as usize).collect();
            Padding::Buckets(Buckets::new(&sizes).unwrap_or_default())
        }
        _ => {
            let size = random.between(600, 1_200);
            let interval = Duration::from_secs_f64(size as f64 / share.max(1) as f64);
            let interval = interval.clamp(INTERVAL_MIN, Duration::from_secs(1));
            Padding::ConstantRate(ConstantRate { size: size as usize, interval })
        }
    }
}
