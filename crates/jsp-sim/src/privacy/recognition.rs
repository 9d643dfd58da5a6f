//! Whether somebody on the way can tell applications by sizes, directions and times of datagrams.

use std::time::Duration;

use jsp_proto::{Buckets, ConstantRate, Message, Padding, StreamConfig};
use jsp_wire::{Instant, StreamId};

use super::Wire;
use super::neighbours::Neighbours;
use crate::random::Random;
use crate::report::Row;

/// How long a flow is looked at, from its first message.
const WATCHED: Duration = Duration::from_secs(10);
/// Most that guesses may be better than chance.
const CHANCES_MAX: f64 = 1.5;
/// Most of the bytes without padding that padding may add, in percent.
const OVERHEAD_MAX: f64 = 25.0;
/// Classes of lengths that are counted, in bytes each.
const LENGTH_STEP: usize = 100;
const LENGTH_STEPS: usize = 15;
/// Datagrams at the beginning whose lengths and directions count one by one.
const FIRST: usize = 20;
/// Quantiles of the times between datagrams.
const QUANTILES: [f64; 5] = [0.1, 0.25, 0.5, 0.75, 0.9];

/// What an application does: bytes of a message of the client, bytes of the server's answer (none when
/// 0), and milliseconds to the next message, each from a range.
struct App {
    is_voice: bool,
    up: (u64, u64),
    down: (u64, u64),
    gap_ms: (u64, u64),
}

const fn app(is_voice: bool, up: (u64, u64), down: (u64, u64), gap_ms: (u64, u64)) -> App {
    App { is_voice, up, down, gap_ms }
}

/// Twenty applications of five kinds.
const APPS: [App; 20] = [
    // Calls, by codec and interval.
    app(true, (60, 160), (60, 160), (20, 20)),
    app(true, (30, 50), (30, 50), (20, 20)),
    app(true, (100, 240), (100, 240), (40, 40)),
    app(true, (80, 80), (80, 80), (60, 60)),
    // Chats, by how people write and what comes back.
    app(false, (5, 400), (20, 40), (200, 2000)),
    app(false, (5, 60), (10, 20), (300, 1500)),
    app(false, (200, 3000), (50, 200), (1500, 6000)),
    app(false, (20, 200), (1000, 40_000), (1000, 5000)),
    // Games, by tick and amount of state.
    app(false, (20, 60), (100, 400), (16, 17)),
    app(false, (20, 60), (60, 150), (33, 34)),
    app(false, (40, 90), (300, 900), (50, 50)),
    app(false, (10, 30), (10, 30), (100, 100)),
    // Video and screens that are sent.
    app(false, (1500, 12_000), (0, 0), (33, 34)),
    app(false, (400, 3000), (0, 0), (66, 67)),
    app(false, (100, 60_000), (0, 0), (100, 400)),
    app(false, (3000, 20_000), (30, 60), (40, 42)),
    // Requests and files.
    app(false, (50, 200), (500, 5000), (100, 900)),
    app(false, (300, 900), (10_000, 80_000), (500, 2500)),
    app(false, (50_000, 50_000), (0, 0), (100, 100)),
    app(false, (20, 40), (50_000, 50_000), (100, 120)),
];

/// A datagram: time in seconds since the flow began, length, and whether it is the server's.
type Seen = (f64, usize, bool);

/// What shows of one flow, and what its ends counted: bytes sent, and of these padding.
struct Flow {
    seen: Vec<Seen>,
    bytes: u64,
    padding: u64,
}

fn flow(app: &App, padding: Padding, seed: u64, index: u64) -> Option<Flow> {
    let mut random = Random::part(seed, "recognised flow", index);
    let mut wire = Wire::new(&mut random, padding, None);
    let handle = wire.connect();
    wire.run_for(Duration::from_secs(1));
    let config = if app.is_voice { StreamConfig::voice() } else { StreamConfig::messages() };
    let stream = wire.client.connection(handle)?.open(wire.now, config).ok()?;
    let begin = wire.now;
    while wire.now < begin + WATCHED {
        let (now, len) = (wire.now, random.log_between(app.up.0, app.up.1));
        // What finds no room is left out.
        let _sent = wire.client.connection(handle)?.send(
            now,
            stream,
            Message::binary(vec![0; len as usize]),
        );
        let gap = Duration::from_millis(random.between(app.gap_ms.0, app.gap_ms.1));
        let until = now + gap;
        while wire.now < until {
            // The server answers what it has read, soon after.
            wire.run_for(Duration::from_millis(10).min(until.since(wire.now)));
            answer(&mut wire, stream, app, &mut random);
            let connection = wire.client.connection(handle)?;
            while let Ok(Some(_)) = connection.recv(wire.now, stream) {}
        }
    }
    let server = wire.accepted()?;
    let mut traffic = vec![wire.client.connection(handle)?.stats().traffic];
    traffic.push(wire.server.connection(server)?.stats().traffic);
    Some(Flow {
        seen: seen(&wire, begin),
        bytes: traffic.iter().map(|traffic| traffic.bytes_sent).sum(),
        padding: traffic.iter().map(|traffic| traffic.padding_bytes_sent).sum(),
    })
}

fn answer(wire: &mut Wire, stream: StreamId, app: &App, random: &mut Random) {
    let (now, server) = (wire.now, wire.accepted());
    let Some(connection) = server.and_then(|server| wire.server.connection(server)) else { return };
    while let Ok(Some(_)) = connection.recv(now, stream) {
        if app.down.1 > 0 {
            let len = random.log_between(app.down.0, app.down.1);
            let _sent = connection.send(now, stream, Message::binary(vec![0; len as usize]));
        }
    }
}

/// Datagrams of both ends in the order of their times, from `begin` for as long as flows are watched.
fn seen(wire: &Wire, begin: Instant) -> Vec<Seen> {
    let mut all = Vec::new();
    for (side, sights) in wire.seen.iter().enumerate() {
        for sight in sights {
            if sight.at >= begin && sight.at < begin + WATCHED {
                all.push((sight.at.since(begin).as_secs_f64(), sight.len, side == 1));
            }
        }
    }
    all.sort_by(|a, b| a.0.total_cmp(&b.0));
    all
}

/// What share of the datagrams of each direction has which length.
fn lengths(seen: &[Seen]) -> Vec<f64> {
    let mut shares = Vec::new();
    for is_server in [false, true] {
        let one = || seen.iter().filter(|seen| seen.2 == is_server);
        let mut counts = [0.0; LENGTH_STEPS];
        one().for_each(|seen| counts[(seen.1 / LENGTH_STEP).min(LENGTH_STEPS - 1)] += 1.0);
        shares.extend(counts.map(|count| count / one().count().max(1) as f64));
    }
    shares
}

/// A flow in numbers: lengths, then for each direction how many datagrams and the times between them,
/// then the beginning and how often the direction changes.
fn everything(seen: &[Seen]) -> Vec<f64> {
    let mut features = lengths(seen);
    for is_server in [false, true] {
        let one: Vec<&Seen> = seen.iter().filter(|seen| seen.2 == is_server).collect();
        let bytes: usize = one.iter().map(|seen| seen.1).sum();
        let mean = bytes as f64 / one.len().max(1) as f64;
        features.extend([(one.len() as f64).ln_1p(), (bytes as f64).ln_1p(), mean]);
        let mut gaps: Vec<f64> = one.windows(2).map(|pair| pair[1].0 - pair[0].0).collect();
        gaps.sort_by(f64::total_cmp);
        let at = |quantile: f64| {
            let place = (gaps.len().saturating_sub(1) as f64 * quantile) as usize;
            gaps.get(place).map_or(0.0, |gap| (gap * 1000.0).ln_1p())
        };
        features.extend(QUANTILES.map(at));
    }
    let changes = seen.windows(2).filter(|pair| pair[0].2 != pair[1].2).count();
    features.push(changes as f64 / seen.len().max(1) as f64);
    for place in 0..FIRST {
        let signed = |seen: &Seen| if seen.2 { -(seen.1 as f64) } else { seen.1 as f64 };
        features.push(seen.get(place).map_or(0.0, signed));
    }
    features
}

/// How often an observer who knows `flows` flows of each application names that of as many others,
/// without padding and with it, and what that costs.
pub fn rows(flows: u64, seed: u64) -> Vec<Row> {
    let constant = ConstantRate { size: 1200, interval: Duration::from_millis(10) };
    let mut rows = Vec::new();
    for (name, padding) in [
        ("plain", Padding::None),
        ("buckets", Padding::Buckets(Buckets::default())),
        ("constant rate", Padding::ConstantRate(constant)),
    ] {
        let (known, others, overhead) = watched(flows, padding, seed);
        let (right, by_lengths) =
            (named(&known, &others, everything), named(&known, &others, lengths));
        let case = format!("20 applications, {name}");
        rows.push(Row::new(case.as_str(), "named_by_lengths", by_lengths * 100.0, "%"));
        let share = Row::new(case.as_str(), "named_by_neighbours", right * 100.0, "%");
        let cost = Row::new(case.as_str(), "overhead", overhead, "%");
        let chance = 100.0 / APPS.len() as f64;
        let most = chance * CHANCES_MAX;
        if padding == Padding::None {
            let least = least_overhead(known.iter().chain(&others));
            rows.extend([share, cost]);
            rows.push(Row::new("20 applications, alike", "overhead_at_least", least, "%"));
        } else {
            rows.push(share.bar("<= 7.5", right * 100.0 <= most));
            rows.push(cost.bar("<= 25", overhead <= OVERHEAD_MAX));
        }
    }
    rows
}

/// What any policy adds at least that makes all applications look alike and holds none of them up, in percent of what
/// they send without: in each direction each must send as much as the one that sends most.
fn least_overhead<'a>(flows: impl Iterator<Item = &'a Named>) -> f64 {
    let mut sent = [[0usize; APPS.len()]; 2];
    for (class, seen) in flows {
        for (_, len, is_server) in seen {
            sent[usize::from(*is_server)][*class] += len;
        }
    }
    let all: usize = sent.iter().flatten().sum();
    let most: usize = sent.iter().filter_map(|side| side.iter().max()).sum();
    ((most * APPS.len()) as f64 / all.max(1) as f64 - 1.0) * 100.0
}

/// A flow, and the number of its application.
type Named = (usize, Vec<Seen>);

/// The flows that the observer knows, those that he is asked about, and padding in percent of all other
/// bytes.
fn watched(flows: u64, padding: Padding, seed: u64) -> (Vec<Named>, Vec<Named>, f64) {
    let (mut known, mut others) = (Vec::new(), Vec::new());
    let (mut bytes, mut padded) = (0, 0);
    for (class, app) in APPS.iter().enumerate() {
        for index in 0..flows * 2 {
            let number = index * APPS.len() as u64 + class as u64;
            let Some(flow) = flow(app, padding, seed, number) else { continue };
            bytes += flow.bytes;
            padded += flow.padding;
            let side = if index % 2 == 0 { &mut known } else { &mut others };
            side.push((class, flow.seen));
        }
    }
    (known, others, padded as f64 / (bytes - padded).max(1) as f64 * 100.0)
}

/// The share of the others that is named rightly by these features.
fn named(known: &[Named], others: &[Named], features: fn(&[Seen]) -> Vec<f64>) -> f64 {
    let known: Vec<_> = known.iter().map(|(class, seen)| (*class, features(seen))).collect();
    let neighbours = Neighbours::new(&known);
    let is_right = |(class, seen): &&Named| neighbours.guess(&features(seen)) == Some(*class);
    others.iter().filter(is_right).count() as f64 / others.len().max(1) as f64
}
