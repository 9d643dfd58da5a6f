//! The life of a world from the first connection to the last deadline, and what came of it.

use std::time::Duration;

use jsp_proto::{Padding, TransportConfig};
use jsp_wire::Instant;

use crate::checkers::Violation;
use crate::flow::{Pair, Side};
use crate::link::trace::OPPORTUNITY_BYTES;
use crate::link::{HEADER_BYTES, LinkConfig, Queue};
use crate::observation::Observation;
use crate::topology::{Farewell, Topology};
use crate::world::World;

/// Everything reliable is done this long after the last fault, slow links and readers aside.
const DONE_AFTER_FAULTS: Duration = Duration::from_secs(30);
/// Time for late acknowledgements and probes before silence is expected: the search for the path's
/// MTU goes on after all work is done, and asks three times for each size that does not pass.
const STRAGGLE: Duration = Duration::from_secs(15);
/// Round trips that the search may take beside.
const STRAGGLE_ROUND_TRIPS: u32 = 60;
/// How long silence is watched.
const QUIET: Duration = Duration::from_secs(8);
/// Datagrams a quiet second may have besides keep-alive.
const QUIET_DATAGRAMS_PER_SECOND: f64 = 0.5;
/// A closed connection is gone within three probe time-outs, which may still be those of the first
/// round trips.
const CLOSE_WITHIN: Duration = Duration::from_secs(40);
/// How often the world is asked whether all is done.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// What came of a world.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Its seed.
    pub seed: u64,
    /// What must not have happened.
    pub violations: Vec<Violation>,
    /// How long it lasted, in virtual time.
    pub lasted: Duration,
    /// Datagrams that were sent.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Connections that were tried.
    pub connections: u64,
    /// Connections that came about.
    pub established: u64,
    /// The same for two runs in which the same was sent at the same times.
    pub digest: u64,
}

/// Lives a world through.
pub fn run(topology: Topology) -> Outcome {
    run_world(World::new(topology))
}

/// The same, telling on standard error what happens.
pub fn run_told(topology: Topology) -> Outcome {
    eprintln!("{topology:#?}");
    run_world(World::new(topology).told())
}

fn run_world(mut world: World) -> Outcome {
    if work(&mut world) && rest(&mut world) {
        end(&mut world);
    }
    let tallies: Vec<_> = world.tallies().collect();
    let ledger = world.checkers().ledger();
    let pairs = 0..world.topology().clients.len() as Pair;
    Outcome {
        seed: world.topology().seed,
        violations: world.violations().to_vec(),
        lasted: world.now().since(Instant::ZERO),
        packets: tallies.iter().map(|tally| tally.packets).sum(),
        bytes: tallies.iter().map(|tally| tally.bytes).sum(),
        connections: u64::from(pairs.end),
        established: pairs.filter(|pair| ledger.is_established(*pair)).count() as u64,
        digest: world.digest(),
    }
}

/// Until everything is done.
fn work(world: &mut World) -> bool {
    let (faults_end, allowance) = (world.topology().faults_end, world.topology().allowance);
    let mut look_at = faults_end;
    let is_done = world.run_until_true(faults_end + DONE_AFTER_FAULTS + allowance, |world| {
        if world.now() < look_at {
            return false;
        }
        look_at = world.now() + LOOK_EVERY;
        is_settled(world)
    });
    if !is_done && world.violations().is_empty() && !is_settled(world) {
        let unfinished = world.unfinished();
        world.note(&Observation::Overdue(&unfinished));
    }
    world.violations().is_empty()
}

/// Every connection came about and did its work, or is over.
fn is_settled(world: &World) -> bool {
    let ledger = world.checkers().ledger();
    let pairs = 0..world.topology().clients.len() as Pair;
    world.is_finished()
        && pairs.into_iter().all(|pair| ledger.is_over(pair) || ledger.is_established(pair))
        && ledger.outstanding().next().is_none()
}

/// Until silence has been watched.
fn rest(world: &mut World) -> bool {
    let straggle =
        STRAGGLE + drain_time(world.topology()) + rtt(world.topology()) * STRAGGLE_ROUND_TRIPS;
    world.run_until(world.now() + straggle);
    let clients = &world.topology().clients;
    let intervals = clients.iter().map(|client| client.transport.keep_alive);
    let keep_alive =
        intervals.chain([world.topology().server.transport.keep_alive]).flatten().min();
    let kept = keep_alive.map_or(0.0, |interval| 2.0 / interval.as_secs_f64().max(0.001));
    let allowed_per_second = QUIET_DATAGRAMS_PER_SECOND + kept + padded(world.topology());
    world.note(&Observation::Settled { allowed_per_second });
    world.run_until(world.now() + QUIET);
    world.violations().is_empty()
}

/// Datagrams a second that constant rates bring: their own, and acknowledgements of them.
fn padded(topology: &Topology) -> f64 {
    let clients = topology.clients.iter().map(|client| &client.transport);
    let of = |transport: &TransportConfig| match &transport.padding {
        Padding::ConstantRate(rate) => 1.0 / rate.interval.as_secs_f64(),
        Padding::None | Padding::Buckets(_) => 0.0,
    };
    let server = of(&topology.server.transport) * topology.clients.len() as f64;
    2.0 * (clients.map(of).sum::<f64>() + server)
}

/// Longest time that full queues need to run empty.
fn drain_time(topology: &Topology) -> Duration {
    let links = topology.paths.iter().flat_map(|path| [&path.up, &path.down]);
    links.map(|link| queue_time(link, topology.faults_end)).max().unwrap_or_default()
}

/// The longest round trip without queues.
fn rtt(topology: &Topology) -> Duration {
    let paths = topology.paths.iter().map(|path| path.up.travel_max() + path.down.travel_max());
    paths.max().unwrap_or_default()
}

fn queue_time(link: &LinkConfig, at: Instant) -> Duration {
    let bytes = match link.queue {
        Queue::DropTailPackets { packets } => packets as u64 * OPPORTUNITY_BYTES,
        Queue::DropTail { bytes }
        | Queue::Marking { bytes, .. }
        | Queue::Policer { bytes, .. }
        | Queue::DualPi2 { bytes } => bytes,
    };
    match link.rate.at(at) {
        Some(bps) if bytes < u64::MAX => {
            Duration::from_secs_f64((bytes + HEADER_BYTES) as f64 * 8.0 / bps as f64)
        }
        _ => Duration::ZERO,
    }
}

/// Until both sides are gone.
fn end(world: &mut World) {
    let (code, reason) = (world.topology().seed % 1000, "that was all");
    let limit = match world.topology().farewell {
        Farewell::Close(side) => {
            world.close(side, code, reason);
            CLOSE_WITHIN
        }
        Farewell::CloseBoth => {
            world.close(Side::Client, code, reason);
            world.close(Side::Server, code + 1, reason);
            CLOSE_WITHIN
        }
        Farewell::Vanish(side) => {
            world.vanish(side);
            // The time begins anew with the first thing that is sent in vain.
            CLOSE_WITHIN + idle_timeout(world.topology()) * 2
        }
    };
    world.run_until(world.now() + limit);
    if world.violations().is_empty() {
        world.finish();
    }
    if world.violations().is_empty() {
        for what in world.restless() {
            world.note(&Observation::Spinning { what: &what });
        }
    }
}

/// The longest of all idle time-outs.
fn idle_timeout(topology: &Topology) -> Duration {
    let clients = topology.clients.iter().map(|client| client.transport.idle_timeout);
    clients.chain([topology.server.transport.idle_timeout]).max().unwrap_or_default()
}
