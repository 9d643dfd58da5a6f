//! Figures of a case, from what its seeds gave.

use std::time::Duration;

use jsp_proto::Delivery;

use super::case::{Case, Load, Twin};
use super::links::{ms, secs};
use super::sample::Sample;
use super::statistics::{jain, mean, percentile, sorted};
use crate::link::{Queue, Tally};

/// One figure.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// What it is.
    pub metric: String,
    /// How much.
    pub value: f64,
    /// Of what.
    pub unit: &'static str,
}

fn figure(metric: impl Into<String>, value: f64, unit: &'static str) -> Figure {
    Figure { metric: metric.into(), value, unit }
}

/// The time that a share of a link is measured after: what came before was the start.
const SHARE_AFTER: Duration = Duration::from_secs(20);
/// Deadlines that misses are counted against, in milliseconds.
const DEADLINES_MS: [u64; 4] = [50, 100, 150, 300];

/// All figures of a case.
pub fn of(case: &Case, samples: &[Sample]) -> Vec<Figure> {
    let mut out = Vec::new();
    if let Load::Known { bytes } = case.load {
        object(case, samples, bytes, &mut out);
    } else if !matches!(case.load, Load::Bulk) {
        messages(case, samples, &mut out);
    }
    if matches!(case.load, Load::Thin { .. } | Load::Objects { .. }) {
        bytes(case, samples, &mut out);
    }
    if samples.iter().any(|sample| !sample.restores.is_empty()) {
        restores(case, samples, &mut out);
    }
    if has_bulk(&case.load) {
        bulk(case, samples, &mut out);
    }
    if !case.rivals.is_empty() && has_bulk(&case.load) {
        shares(case, samples, &mut out);
    }
    if !case.rivals.is_empty() && !has_bulk(&case.load) {
        rest(case, samples, &mut out);
    }
    if matches!(case.load, Load::Media { .. } | Load::FileAndVoice | Load::MediaAndBulk { .. }) {
        utilisation_of_messages(case, samples, &mut out);
    }
    if samples.iter().any(|sample| !sample.waits.is_empty()) {
        queue(case, samples, &mut out);
    }
    losses(samples, &mut out);
    let violations: usize = samples.iter().map(|sample| sample.violations.len()).sum();
    out.push(figure("violations", violations as f64, "count"));
    out
}

fn has_bulk(load: &Load) -> bool {
    matches!(load, Load::Bulk | Load::FileAndVoice | Load::MediaAndBulk { .. })
}

/// How many round trips an object takes; one that never comes takes all the time there is.
fn object(case: &Case, samples: &[Sample], bytes: u64, out: &mut Vec<Figure>) {
    let rtt = case.owd.as_secs_f64() * 2.0;
    let trips = |sample: &Sample| sample.bulk_time(bytes).unwrap_or(case.lasts).as_secs_f64() / rtt;
    let trips = sorted(samples.iter().map(trips));
    for (name, percent) in [("p50", 50.0), ("p95", 95.0)] {
        out.push(figure(format!("object_{name}"), percentile(&trips, percent), "RTT"));
    }
}

fn messages(case: &Case, samples: &[Sample], out: &mut Vec<Figure>) {
    let counted =
        || samples.iter().flat_map(|sample| &sample.messages).filter(|message| !message.is_excused);
    let latencies = sorted(counted().filter_map(|m| Some(m.latency?.as_secs_f64() * 1e3)));
    let owd = case.owd.as_secs_f64() * 1e3;
    for (name, percent) in [("p50", 50.0), ("p95", 95.0), ("p99", 99.0), ("p999", 99.9)] {
        let value = percentile(&latencies, percent);
        out.push(figure(format!("latency_{name}"), value, "ms"));
        if percent >= 99.0 {
            out.push(figure(format!("latency_{name}_owd"), value / owd, "x OWD"));
        }
    }
    let count = counted().count();
    for deadline in DEADLINES_MS {
        let late = counted().filter(|m| m.latency.is_none_or(|took| took > ms(deadline))).count();
        let share = late as f64 / count.max(1) as f64 * 100.0;
        out.push(figure(format!("miss_{deadline}ms"), share, "%"));
    }
    let all = samples.iter().flat_map(|sample| &sample.messages);
    let missing = all.clone().filter(|message| message.latency.is_none()).count();
    out.push(figure("messages", all.clone().count() as f64, "count"));
    out.push(figure("missing", missing as f64, "count"));
    let share = missing as f64 / all.clone().count().max(1) as f64 * 100.0;
    match case.load {
        Load::Objects { .. } => out.push(figure("expired", share, "%")),
        Load::FileAndVoice | Load::Thin { delivery: Delivery::Unreliable, .. } => {
            out.push(figure("lost", share, "%"));
        }
        _ => {}
    }
    let excused = all.filter(|message| message.is_excused).count();
    if excused > 0 {
        out.push(figure("excused", excused as f64, "count"));
    }
}

fn bytes(case: &Case, samples: &[Sample], out: &mut Vec<Figure>) {
    let total = |of: fn(&Sample) -> u64| samples.iter().map(of).sum::<u64>() as f64;
    let payload = total(|sample| sample.message_payload).max(1.0);
    let wire = total(|sample| sample.wire);
    out.push(figure("wire_per_payload", wire / payload, "ratio"));
    if matches!(case.twin, Twin::Faultless | Twin::Unrepaired) {
        let clean = total(|sample| sample.twin.as_ref().map_or(sample.wire, |twin| twin.wire));
        out.push(figure("extra", (wire - clean) / payload * 100.0, "%"));
    }
}

fn restores(case: &Case, samples: &[Sample], out: &mut Vec<Figure>) {
    let millis = |of: fn(&Sample) -> &Vec<Duration>| {
        sorted(samples.iter().flat_map(of).map(|time| time.as_secs_f64() * 1e3))
    };
    let first = millis(|sample| &sample.restores);
    let settled = millis(|sample| &sample.settles);
    out.push(figure("restores", first.len() as f64, "count"));
    out.push(figure("restore_p50", percentile(&first, 50.0), "ms"));
    out.push(figure("restore_p95", percentile(&first, 95.0), "ms"));
    let gaps = millis(|sample| &sample.gaps);
    if !gaps.is_empty() {
        out.push(figure("gap_p95", percentile(&gaps, 95.0), "ms"));
        out.push(figure("gap_max", percentile(&gaps, 100.0), "ms"));
    }
    let rtt = case.owd.as_secs_f64() * 2e3;
    out.push(figure("settle_p95", percentile(&settled, 95.0) / rtt, "RTT"));
}

fn bulk(case: &Case, samples: &[Sample], out: &mut Vec<Figure>) {
    let goodput = |sample: &Sample| sample.bulk_bytes(0, Duration::ZERO, case.lasts) as f64 * 8.0;
    let each: Vec<_> = samples.iter().map(goodput).collect();
    let bits = mean(&each);
    out.push(figure("goodput", bits / case.lasts.as_secs_f64() / 1e6, "Mbit/s"));
    let capacity: Vec<_> = samples.iter().filter_map(|sample| sample.capacity).collect();
    if !capacity.is_empty() {
        out.push(figure("utilisation", bits / mean(&capacity) * 100.0, "%"));
    }
    if let Queue::Policer { bps, .. } = case.path(1).up.queue {
        let policed = bits / case.lasts.as_secs_f64() / bps as f64;
        out.push(figure("policed_utilisation", policed * 100.0, "%"));
    }
    if case.load == Load::FileAndVoice {
        let rest = |sample: &Sample| {
            let voice = sample.message_payload as f64 * 8.0;
            goodput(sample) / (sample.capacity.unwrap_or(f64::INFINITY) - voice) * 100.0
        };
        let rest: Vec<_> = samples.iter().map(rest).collect();
        out.push(figure("file_of_rest", mean(&rest), "%"));
    }
    if case.load == Load::Bulk && case.rivals.is_empty() {
        let back: u64 = samples.iter().map(|sample| sample.wire_back).sum();
        let payload: f64 = each.iter().sum::<f64>() / 8.0;
        out.push(figure("ack_bytes", back as f64 / payload.max(1.0) * 100.0, "%"));
    }
    if case.twin == Twin::Symmetric {
        let twins = samples.iter().filter_map(|sample| sample.twin.as_deref());
        let twins: Vec<_> = twins.map(goodput).collect();
        out.push(figure("of_symmetric", bits / mean(&twins).max(1.0) * 100.0, "%"));
    }
}

fn shares(case: &Case, samples: &[Sample], out: &mut Vec<Figure>) {
    let latest = case.rivals.iter().map(|rival| rival.later).max().unwrap_or_default();
    let after = (latest + SHARE_AFTER).min(case.lasts / 2 + latest / 2);
    let each = |sample: &Sample| -> Vec<f64> {
        let clients = 0..sample.bulk.len();
        clients.map(|client| sample.bulk_bytes(client, after, case.lasts) as f64).collect()
    };
    let all: Vec<_> = samples.iter().map(each).collect();
    // As against one rival, however many there are.
    let share = |shares: &Vec<f64>| {
        let others = mean(shares.get(1..).unwrap_or_default());
        shares[0] / (shares[0] + others).max(1.0)
    };
    out.push(figure("share", mean(&all.iter().map(share).collect::<Vec<_>>()), "ratio"));
    let jains: Vec<_> = all.iter().map(|shares| jain(shares)).collect();
    out.push(figure("jain", mean(&jains), "index"));
    let least = |shares: &Vec<f64>| {
        let sum: f64 = shares.iter().sum();
        shares.iter().copied().fold(f64::INFINITY, f64::min) / sum.max(1.0)
    };
    out.push(figure("least_share", mean(&all.iter().map(least).collect::<Vec<_>>()), "ratio"));
}

/// What messages leave to the byte streams beside them.
fn rest(case: &Case, samples: &[Sample], out: &mut Vec<Figure>) {
    let bits = |sample: &Sample| {
        let rivals = 1..sample.bulk.len();
        let bytes: u64 =
            rivals.map(|rival| sample.bulk_bytes(rival, Duration::ZERO, case.lasts)).sum();
        bytes as f64 * 8.0
    };
    let rest: f64 = samples.iter().map(bits).sum();
    let capacity: f64 = samples.iter().filter_map(|sample| sample.capacity).sum();
    if capacity > 0.0 {
        out.push(figure("rivals_utilisation", rest / capacity * 100.0, "%"));
    }
}

/// What messages that arrived took of what the link could carry.
fn utilisation_of_messages(case: &Case, samples: &[Sample], out: &mut Vec<Figure>) {
    let sent: f64 = samples.iter().map(|sample| sample.message_payload as f64 * 8.0).sum();
    let seconds = case.lasts.as_secs_f64() * samples.len().max(1) as f64;
    out.push(figure("message_rate", sent / seconds / 1e6, "Mbit/s"));
    let capacity: f64 = samples.iter().filter_map(|sample| sample.capacity).sum();
    let all = samples.iter().flat_map(|sample| &sample.messages);
    let (count, arrived) = all.fold((0u64, 0u64), |(count, arrived), message| {
        (count + 1, arrived + u64::from(message.latency.is_some()))
    });
    if capacity > 0.0 {
        let share = arrived as f64 / count.max(1) as f64;
        out.push(figure("message_utilisation", sent * share / capacity * 100.0, "%"));
    }
}

fn queue(case: &Case, samples: &[Sample], out: &mut Vec<Figure>) {
    let waits = samples.iter().flat_map(|sample| &sample.waits);
    let waits = sorted(waits.map(|(_, wait)| wait.as_secs_f64() * 1e3));
    for (name, percent) in [("p50", 50.0), ("p95", 95.0), ("p99", 99.0)] {
        out.push(figure(format!("queue_{name}"), percentile(&waits, percent), "ms"));
    }
    let idle = samples.iter().flat_map(|sample| &sample.idle_waits);
    let idle = sorted(idle.map(|wait| wait.as_secs_f64() * 1e3));
    if !idle.is_empty() {
        for (name, percent) in [("p95", 95.0), ("p99", 99.0)] {
            out.push(figure(format!("idle_{name}"), percentile(&idle, percent), "ms"));
        }
    }
    let above: Vec<_> =
        samples.iter().map(|sample| sample.time_above(ms(100)).as_secs_f64() * 1e3).collect();
    out.push(figure("queue_above_100ms", mean(&above), "ms"));
    let timeouts = samples.iter().map(|sample| sample.client.probe_timeouts).sum::<u64>();
    out.push(figure("probe_timeouts", timeouts as f64, "count"));
    let total = |of: fn(&Sample) -> u64| samples.iter().map(of).sum::<u64>() as f64;
    let refused = total(|sample| sample.up.queue_dropped) / total(|sample| sample.up.packets);
    out.push(figure("self_loss", refused * 100.0, "%"));
    let since = case.starts() + secs(5);
    let late = |sample: &Sample| {
        let refused = sample.refusals.iter().filter(|at| **at >= since).count();
        let passed = sample.waits.iter().filter(|(at, _)| *at >= since).count();
        (refused as f64, (refused + passed) as f64)
    };
    let (refused, all) = samples.iter().map(late).fold((0.0, 0.0), |a, b| (a.0 + b.0, a.1 + b.1));
    out.push(figure("self_loss_after_5s", refused / f64::max(all, 1.0) * 100.0, "%"));
}

/// What was held lost, and what of it was not: at least as much as the links did not lose.
fn losses(samples: &[Sample], out: &mut Vec<Figure>) {
    let gone = |tally: &Tally| tally.lost + tally.queue_dropped + tally.corrupted;
    let (mut sent, mut held, mut spurious) = (0, 0, 0);
    for sample in samples {
        for (counters, tally) in [(&sample.client, &sample.up), (&sample.server, &sample.down)] {
            sent += counters.packets_sent;
            held += counters.packets_lost;
            spurious += counters.packets_lost.saturating_sub(gone(tally));
        }
    }
    out.push(figure("held_lost", held as f64 / sent.max(1) as f64 * 100.0, "%"));
    out.push(figure("spurious", spurious as f64 / sent.max(1) as f64 * 100.0, "%"));
}
