//! Links of named networks, and faults that follow from a seed.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jsp_wire::Instant;

use crate::link::trace::Trace;
use crate::link::{Faults, LinkConfig, Loss, Outage, OutageKind, Queue, Rate, Spell};
use crate::random::Random;

/// Milliseconds.
pub const fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// Seconds.
pub const fn secs(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// Megabits per second.
pub const fn mbit(count: u64) -> u64 {
    count * 1_000_000
}

/// A link without limits that loses like this.
pub fn lossy(owd: Duration, loss: Loss) -> LinkConfig {
    LinkConfig { faults: Faults { loss, ..Faults::default() }, ..LinkConfig::delayed(owd) }
}

/// A link with a queue of so many bandwidth-delay products.
pub fn bottleneck(bps: u64, rtt: Duration, products: f64) -> LinkConfig {
    let bytes = (bps as f64 / 8.0 * rtt.as_secs_f64() * products) as u64;
    LinkConfig {
        rate: Rate::Constant(bps),
        queue: Queue::DropTail { bytes: bytes.max(3_000) },
        measure_queue: true,
        ..LinkConfig::delayed(rtt / 2)
    }
}

/// The same link with this loss on the wire.
pub fn with_loss(link: LinkConfig, loss: Loss) -> LinkConfig {
    LinkConfig { faults: Faults { loss, ..link.faults.clone() }, ..link }
}

/// Wi-Fi: about once a second nothing leaves for 50 to 250 ms, and then everything at once.
pub fn stalls(seed: u64, way: &str, until: Instant) -> Vec<Outage> {
    let mut random = Random::part(seed, way, 0);
    let mut at = Instant::ZERO;
    let mut stalls = Vec::new();
    loop {
        at = at + random.exponential(secs(1));
        if at >= until {
            return stalls;
        }
        let length = random.duration_between(ms(50), ms(250));
        stalls.push(Outage { start: at, length, kind: OutageKind::Hold });
        at = at + length;
    }
}

/// Starlink: every 15 s the satellite changes, which costs 50 ms and a fifth of all packets for
/// 100 ms.
pub fn satellite_changes(seed: u64, until: Instant) -> Vec<Spell> {
    let mut random = Random::part(seed, "satellite", 0);
    let mut at = Instant::ZERO + random.duration_to(secs(15));
    let mut spells = Vec::new();
    while at < until {
        spells.push(Spell { start: at, length: ms(100), delay: ms(50), loss: 0.2 });
        at = at + secs(15);
    }
    spells
}

/// Times without service, one after the other, with 4 to 6 s of service between them.
pub fn blackouts(
    seed: u64,
    from: Instant,
    until: Instant,
    length: (Duration, Duration),
    kind: OutageKind,
) -> Vec<Outage> {
    let mut random = Random::part(seed, "blackout", 0);
    let mut out = Vec::new();
    let mut at = from + random.duration_between(secs(4), secs(6));
    loop {
        let outage =
            Outage { start: at, length: random.duration_between(length.0, length.1), kind };
        at = at + outage.length;
        if at + secs(3) >= until {
            return out;
        }
        out.push(outage);
        at = at + random.duration_between(secs(4), secs(6));
    }
}

/// A link that follows a trace from a place that the seed tells.
pub fn traced(trace: &Arc<Trace>, seed: u64, owd: Duration, packets: usize) -> LinkConfig {
    let offset = Random::part(seed, "trace", 0).duration_to(trace.period());
    LinkConfig {
        rate: Rate::Trace { trace: Arc::clone(trace), offset },
        queue: Queue::DropTailPackets { packets },
        measure_queue: true,
        ..LinkConfig::delayed(owd)
    }
}

/// Cellular traces by name: recorded ones where they are present, otherwise made up. They are looked
/// for in `shared/traces` beside the workspace, or in the folder that the environment variable
/// `JSP_TRACES` names.
pub fn cellular() -> Vec<(String, Arc<Trace>)> {
    let found = recorded();
    if found.is_empty() { made_up() } else { found }
}

fn recorded() -> Vec<(String, Arc<Trace>)> {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/traces");
    let folder =
        std::env::var_os("JSP_TRACES").map_or_else(|| PathBuf::from(beside), PathBuf::from);
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut found = Vec::new();
    for path in entries.flatten().map(|entry| entry.path()) {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let is_cellular = [".down", ".up", ".pps"]
            .iter()
            .any(|ending| name.strip_suffix(".gz").unwrap_or(&name).ends_with(ending));
        if !is_cellular {
            continue;
        }
        match Trace::read(&path) {
            Ok(trace) => found.push((short_name(&name), Arc::new(trace))),
            Err(error) => eprintln!("{name}: {error}"),
        }
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    found
}

/// The name of a recording without what all of them share.
fn short_name(name: &str) -> String {
    let mut short = name.to_owned();
    for part in [".gz", ".pps", "mahimahi-", "-driving", "nyc-downlink-4g-with-cross-"] {
        short = short.replace(part, "");
    }
    short.replace('.', "-")
}

/// Four links of 1 to 13 Mbit/s.
pub fn made_up() -> Vec<(String, Arc<Trace>)> {
    let make = |(seed, mbit_tenths): (u64, u64)| {
        let trace = Trace::cellular(seed, mbit_tenths * 100_000, secs(300));
        (format!("made-{seed}"), Arc::new(trace))
    };
    [(1, 10), (2, 25), (3, 60), (4, 130)].map(make).to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stalls_blackouts_and_changes_follow_from_the_seed_and_do_not_overlap() {
        let until = Instant::ZERO + secs(600);
        let all = [
            stalls(1, "up", until),
            blackouts(1, Instant::ZERO, until, (ms(500), secs(3)), OutageKind::Drop),
        ];
        for outages in &all {
            assert!(outages.windows(2).all(|pair| pair[0].start + pair[0].length <= pair[1].start));
        }
        assert!((350..=650).contains(&all[0].len()), "{}", all[0].len());
        assert!((70..=110).contains(&all[1].len()), "{}", all[1].len());
        assert_eq!(all[0], stalls(1, "up", until));
        assert_ne!(all[0], stalls(2, "up", until));
        assert_eq!(satellite_changes(3, until).len(), 40);
    }

    #[test]
    fn recordings_have_short_names() {
        assert_eq!(short_name("mahimahi-ATT-LTE-driving-2016.down.gz"), "ATT-LTE-2016-down");
        assert_eq!(short_name("mahimahi-orange-4G-A-up.pps.gz"), "orange-4G-A-up");
    }
}
