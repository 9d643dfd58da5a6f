//! One world of a case, and what was seen in it.

use std::sync::Arc;
use std::time::{Duration, Instant as Stopwatch};

use jsp_proto::Alarm;
use jsp_wire::Instant;

use super::case::{Case, Ends, Load, Subject, TAIL, Twin, without_repair};
use super::script::{self, label};
use crate::app::MessagePlan;
use crate::checkers::FlowRecord;
use crate::flow::{End, Flow, Side};
use crate::link::{Faults, HEADER_BYTES, OutageKind, Rate, Tally};
use crate::peer::Counters;
use crate::world::World;

/// How often the bytes of each byte stream are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How often an empty queue is looked into.
const IDLE_EVERY: Duration = Duration::from_millis(7);
/// How long a connection learns what the next one knows.
const LEARNING: Duration = Duration::from_secs(20);
/// After a restored connection's first message, latencies are watched for this long.
const WATCH_AFTER_RESTORE: Duration = Duration::from_secs(2);
/// Messages are back to normal when they take no more than the one-way delay and this.
const NORMAL_BEYOND_OWD: Duration = Duration::from_millis(10);
/// Silences of a trace beyond this are reported apart and not held against anybody.
const SILENCE_EXCUSED: Duration = Duration::from_secs(1);
/// What is sent this long before or after such a silence meets what it left in the queue.
const AROUND_SILENCE: Duration = Duration::from_millis(250);

/// A message that was sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sent {
    /// When the application made it.
    pub at: Instant,
    /// Until it was received; `None` when it never was.
    pub latency: Option<Duration>,
    /// It was sent into a silence of the link for which nobody can be blamed.
    pub is_excused: bool,
}

/// What one seed gave.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    /// Messages, of both directions where both are loaded.
    pub messages: Vec<Sent>,
    /// Bytes of messages handed over.
    pub message_payload: u64,
    /// Bytes read of each client's byte stream, the subject's first, every 100 ms from the start.
    pub bulk: Vec<Vec<u64>>,
    /// Bytes that crossed the path in both directions, headers of IP and UDP included.
    pub wire: u64,
    /// The same on the way back.
    pub wire_back: u64,
    /// Bits that the link could carry while the load lasted; `None` when it had no limit.
    pub capacity: Option<f64>,
    /// Packets that waited for their turn on the way there: when it came, and how long they had
    /// waited. From the start of the load on, without those that are excused.
    pub waits: Vec<(Instant, Duration)>,
    /// How long packets would have waited that come at all times and find an empty queue, on a link that follows a
    /// trace: what no sender of media can do better than. Without those that are excused.
    pub idle_waits: Vec<Duration>,
    /// When packets were refused by the queue.
    pub refusals: Vec<Instant>,
    /// The link towards the server; what came to an old address counts as lost.
    pub up: Tally,
    /// The link towards the clients.
    pub down: Tally,
    /// What the transport of the subject's client counted.
    pub client: Counters,
    /// What the transport of the subject's server counted.
    pub server: Counters,
    /// Each change of what the subject's client was told of its path.
    pub alarms: Vec<(Instant, Alarm)>,
    /// From each return of service to the first message after it.
    pub restores: Vec<Duration>,
    /// The longest time without a message around each outage.
    pub gaps: Vec<Duration>,
    /// From each return of service until messages took no longer than usual.
    pub settles: Vec<Duration>,
    /// The same case without what [`Case::twin`] takes away.
    pub twin: Option<Box<Self>>,
    /// What must not have happened.
    pub violations: Vec<String>,
    /// Virtual time over real time.
    pub speed: f64,
}

impl Sample {
    /// Time from the start of the load until so many bytes of the subject's byte stream were read.
    pub fn bulk_time(&self, bytes: u64) -> Option<Duration> {
        let looks = self.bulk.first()?.iter().position(|read| *read >= bytes)?;
        Some(LOOK_EVERY * u32::try_from(looks).ok()?)
    }

    /// Bytes of the subject's byte stream between two times since the start of the load.
    pub fn bulk_bytes(&self, client: usize, from: Duration, to: Duration) -> u64 {
        let Some(series) = self.bulk.get(client) else { return 0 };
        let at = |time: Duration| {
            let index = (time.as_nanos() / LOOK_EVERY.as_nanos()) as usize;
            series.get(index.min(series.len().saturating_sub(1))).copied().unwrap_or_default()
        };
        at(to).saturating_sub(at(from))
    }

    /// Time during which packets waited longer than this.
    pub fn time_above(&self, limit: Duration) -> Duration {
        let above = |pair: &&[(Instant, Duration)]| pair[1].1 > limit;
        let gaps = self.waits.windows(2).filter(above);
        gaps.map(|pair| pair[1].0.since(pair[0].0).min(pair[1].1)).sum()
    }
}

/// Lives one world of a case, and its twin where it has one.
pub fn sample(case: &Case, subject: Subject, seed: u64) -> Sample {
    let path = case.path(seed);
    if matches!(case.load, Load::Known { .. }) {
        return live(&remembering(case, &path, seed), subject, path, seed);
    }
    let mut sample = live(case, subject, path.clone(), seed);
    if case.twin == Twin::Unrepaired {
        let unrepaired = case.clone().edited(Arc::new(without_repair));
        sample.twin = Some(Box::new(live(&unrepaired, subject, path, seed)));
        return sample;
    }
    let twin = match case.twin {
        Twin::None | Twin::Unrepaired => None,
        Twin::Faultless => Some(faultless(path.clone())),
        Twin::Symmetric => Some(Ends { down: path.up.clone(), ..path.clone() }),
    };
    sample.twin = match twin {
        None => None,
        // What nothing is taken away from is its own twin.
        Some(twin) if twin == path => Some(Box::new(sample.clone())),
        Some(twin) => Some(Box::new(live(case, subject, twin, seed))),
    };
    sample
}

/// The same with what a connection before learned of the path.
fn remembering(case: &Case, path: &Ends, seed: u64) -> Case {
    let before = Case { load: Load::Bulk, lasts: LEARNING, ..case.clone() };
    let memory = live(&before, Subject::Jsp, path.clone(), seed).client.path_memory;
    case.clone().edited(Arc::new(move |transport, _| transport.initial_path_memory = memory))
}

fn faultless(mut path: Ends) -> Ends {
    path.up.faults = Faults::default();
    path.down.faults = Faults::default();
    path.rebinds.clear();
    // What goes by two paths is extra.
    path.second = None;
    path
}

fn live(case: &Case, subject: Subject, path: Ends, seed: u64) -> Sample {
    let began = Stopwatch::now();
    let has_messages = !matches!(case.load, Load::Bulk | Load::Known { .. });
    let end = case.ends() + if has_messages { TAIL } else { Duration::ZERO };
    let mut world = World::new(script::topology(case, subject, path.clone(), seed));
    let mut bulk = vec![Vec::new(); case.rivals.len() + 1];
    if matches!(case.load, Load::Thin { .. } | Load::Media { .. }) && case.rivals.is_empty() {
        world.run_until(end);
    } else {
        let mut look_at = case.starts();
        while look_at <= case.ends() {
            world.run_until(look_at);
            for (client, series) in bulk.iter_mut().enumerate() {
                series.push(bulk_read(&world, client as u32));
            }
            look_at = look_at + LOOK_EVERY;
        }
        world.run_until(end);
    }
    let speed = end.since(Instant::ZERO).as_secs_f64() / began.elapsed().as_secs_f64().max(1e-9);
    let mut sample = observe(case, &path, &mut world);
    (sample.bulk, sample.speed) = (bulk, speed);
    sample
}

fn observe(case: &Case, path: &Ends, world: &mut World) -> Sample {
    let add = |(tally, astray): (Tally, &u64)| Tally { lost: tally.lost + astray, ..tally };
    let tallies: Vec<_> = world.tallies().zip(world.astray()).map(add).collect();
    let wire = |tally: &Tally| tally.bytes + tally.packets * HEADER_BYTES;
    let [client, server] =
        Side::BOTH.map(|side| world.counters(End { pair: 0, side }).unwrap_or_default());
    let silences = silences(case, path);
    let links = world.links();
    let since = case.starts();
    let excused = |came: Instant| silences.iter().any(|(from, to)| *from <= came && came < *to);
    let came = |turn: Instant, wait: Duration| {
        Instant::from_nanos(turn.as_nanos().saturating_sub(wait.as_nanos() as u64))
    };
    let waits = links[0].waits().iter();
    let waits = waits.filter(|(at, wait)| *at >= since && !excused(came(*at, *wait)));
    let idle_waits = match (&path.up.rate, &case.load) {
        (Rate::Trace { trace, offset }, Load::Media { .. }) => {
            let count = (case.lasts.as_nanos() / IDLE_EVERY.as_nanos()) as u32;
            let moments = (0..count).map(|n| since + IDLE_EVERY * n);
            let counted = moments.filter(|at| !excused(*at));
            counted.map(|at| trace.idle_wait(at + *offset)).collect()
        }
        _ => Vec::new(),
    };
    let mut sample = Sample {
        idle_waits,
        wire: tallies.iter().map(wire).sum(),
        wire_back: wire(&tallies[1]),
        capacity: path.up.rate.capacity(since, case.ends()),
        waits: waits.copied().collect(),
        refusals: links[0].refusals().to_vec(),
        up: tallies[0],
        down: tallies[1],
        client,
        server,
        violations: world.violations().iter().map(ToString::to_string).collect(),
        ..Sample::default()
    };
    sample.alarms = world.checkers().ledger().end(End { pair: 0, side: Side::Client }).alarms;
    for (flow, record) in &world.checkers().ledger().flows {
        if flow.from.pair != 0 || record.config.label != label::MESSAGES {
            continue;
        }
        for message in &record.messages {
            let MessagePlan { at, len, .. } = message.plan;
            sample.message_payload += len as u64;
            let is_excused = excused(at);
            let latency = message.received.map(|received| received.since(at));
            sample.messages.push(Sent { at, latency, is_excused });
        }
        restores(case, path, *flow, record, &mut sample);
    }
    sample
}

/// Times for which latencies of media are excused: long silences of a trace and a little around
/// them.
fn silences(case: &Case, path: &Ends) -> Vec<(Instant, Instant)> {
    let (Rate::Trace { trace, offset }, Load::Media { .. }) = (&path.up.rate, &case.load) else {
        return Vec::new();
    };
    let found = trace.silences(case.starts() + *offset, case.ends() + *offset, SILENCE_EXCUSED);
    let span = |(start, length): &(Instant, Duration)| {
        let before = (*offset + AROUND_SILENCE).as_nanos() as u64;
        let from = Instant::from_nanos(start.as_nanos().saturating_sub(before));
        (from, from + *length + AROUND_SILENCE * 2)
    };
    found.iter().map(span).collect()
}

/// Looks at what happened after each return of service.
fn restores(case: &Case, path: &Ends, flow: Flow, record: &FlowRecord, sample: &mut Sample) {
    if record.messages.is_empty() {
        return;
    }
    let link = if flow.from.side == Side::Client { &path.up } else { &path.down };
    let outages = &link.faults.outages;
    let ends = outages.iter().filter(|outage| outage.kind == OutageKind::Drop);
    let mut moments: Vec<_> = ends.map(|outage| outage.start + outage.length).collect();
    if moments.is_empty() {
        moments.clone_from(&path.rebinds);
    }
    let mut received: Vec<_> =
        record.messages.iter().filter_map(|message| message.received).collect();
    received.sort_unstable();
    for outage in outages.iter().filter(|outage| outage.kind == OutageKind::Drop) {
        let end = outage.start + outage.length;
        let around = |pair: &&[Instant]| pair[1] >= outage.start && pair[0] <= end;
        let gaps = received.windows(2).filter(around).map(|pair| pair[1].since(pair[0]));
        sample.gaps.extend(gaps.max());
    }
    for back in moments.into_iter().filter(|at| *at + WATCH_AFTER_RESTORE < case.ends()) {
        let first = received[received.partition_point(|at| *at < back)..].first();
        // Nothing came any more: as long as the rest of the world.
        let first = first.copied().unwrap_or(case.ends() + TAIL);
        sample.restores.push(first.since(back));
        let watched = back + WATCH_AFTER_RESTORE;
        let late = record.messages.iter().filter(|message| {
            let at = message.plan.at;
            let normal = at + case.owd + NORMAL_BEYOND_OWD;
            back <= at && at < watched && message.received.is_none_or(|got| got > normal)
        });
        let settled = late.map(|message| message.plan.at).max().unwrap_or(back);
        sample.settles.push(settled.since(back));
    }
}

fn bulk_read(world: &World, pair: u32) -> u64 {
    let flows = &world.checkers().ledger().flows;
    let of = |(flow, record): (&Flow, &FlowRecord)| {
        let is_bulk = flow.from == End { pair, side: Side::Client };
        (is_bulk && record.config.label == label::BULK).then_some(record.read)
    };
    flows.iter().filter_map(of).sum()
}
