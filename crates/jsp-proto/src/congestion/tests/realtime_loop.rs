//! The real-time controller in a closed loop. Each measurement is printed:
//! `cargo test realtime_loop -- --nocapture`.

use super::super::*;
use super::world::{
    BULK, Link, Load, Loop, MEDIA, MTU, Trace, VOICE, link, percentile, share, share_watched,
};
use crate::config::CongestionControl;
use crate::config::CongestionControl::{Cubic, RealTime};

const MS: Duration = Duration::from_millis(1);

const BOTH: [(&str, Load); 2] = [("bulk", BULK), ("media", MEDIA)];

fn at_ms(ms: u64) -> Instant {
    Instant::from_nanos(ms * 1_000_000)
}

/// What became of flows, with the bytes that each had sent, and that had arrived, by each hundredth
/// of a second.
struct Course {
    flows: Vec<Loop>,
    link: Link,
    sent: Vec<Vec<u64>>,
    arrived: Vec<Vec<u64>>,
}

fn course(control: CongestionControl, link: Link, loads: &[Load], seconds: u64) -> Course {
    let (mut sent, mut arrived): (Vec<Vec<u64>>, Vec<Vec<u64>>) = (Vec::new(), Vec::new());
    let (flows, link) = share_watched(control, link, loads, seconds, |now, flows, _| {
        while sent.len() as u64 <= now.as_nanos() / 10_000_000 {
            sent.push(flows.iter().map(|flow| flow.totals.sent_bytes).collect());
            arrived.push(flows.iter().map(|flow| flow.totals.arrived_bytes).collect());
        }
    });
    Course { flows, link, sent, arrived }
}

/// Bytes a second of a flow between two times in milliseconds.
fn rate(course: &[Vec<u64>], flow: usize, from: u64, to: u64) -> f64 {
    let at = |ms: u64| course[(ms / 10) as usize][flow];
    (at(to) - at(from)) as f64 * 1000.0 / (to - from) as f64
}

/// What came of 20 -> 2 -> 20 Mbit/s; times are in milliseconds after a step.
struct Stepped {
    /// When the queue was above 100 ms last.
    queued_until: u64,
    /// When a tenth of a second of sending was no more than the new rate for the first time.
    below: u64,
    /// When 80 % of the upper rate, or of what is wanted, arrived again.
    back: u64,
    probe_timeouts: u64,
}

fn stepped(rtt_ms: u64, wanted: u64) -> Stepped {
    let steps = vec![(at_ms(10_000), 250_000), (at_ms(20_000), 2_500_000)];
    let load = Load { media: Some(wanted), ..MEDIA };
    let course = course(RealTime, Link { steps, ..link(20, rtt_ms, 100) }, &[load], 30);
    let low = course.link.waits.iter().filter(|w| w.0 >= at_ms(10_000) && w.0 < at_ms(20_000));
    let falls = low.filter(|w| w.1 > 100 * MS).map(|w| (w.0 + (w.1 - 100 * MS)).as_nanos());
    let queued_until = falls.max().map_or(0, |at| at / 1_000_000 - 10_000);
    let mut slow = (10_000..12_000).step_by(10);
    let below = slow.find(|at| rate(&course.sent, 0, *at, at + 100) <= 250_000.0).unwrap();
    let upper = (wanted as f64).min(2_500_000.0) * 0.8;
    let mut fast = (20_000..29_800).step_by(10);
    let back = fast.find(|at| rate(&course.arrived, 0, *at, at + 200) >= upper).unwrap();
    Stepped {
        queued_until,
        below: below - 10_000,
        back: back + 200 - 20_000,
        probe_timeouts: course.flows[0].totals.probe_timeouts,
    }
}

#[test]
/// spec-test: CC-30, CC-33, CC-36
fn media_follows_a_tenth_of_the_rate_at_once_and_returns_soon() {
    // Where media fills the link, what is sent in the round trip before there is any news takes eight
    // more of them to drain: above 50 ms no sender keeps below 400 ms.
    for (wanted, rtt, queued) in
        [(500_000, 60, 400), (u64::MAX, 20, 400), (u64::MAX, 40, 400), (u64::MAX, 60, 650)]
    {
        let got = stepped(rtt, wanted);
        let name = if wanted == u64::MAX { "all" } else { "4 Mbit/s" };
        println!(
            "20 -> 2 -> 20 Mbit/s at {rtt} ms, {name} wanted: queue above 100 ms for {} ms, sends less \
             after {} ms, back after {} ms, {} PTO",
            got.queued_until, got.below, got.back, got.probe_timeouts
        );
        assert!(got.queued_until <= queued, "{}", got.queued_until);
        assert!(got.below <= 2 * rtt + 100, "{}", got.below);
        assert!(got.back <= 2000, "{}", got.back);
        // Where the queue overflows, nothing but a probe finds the last packets.
        assert!(got.probe_timeouts == 0 || wanted == u64::MAX, "{}", got.probe_timeouts);
    }
}

/// Times in milliseconds at which a cell carries a packet: a random walk about `mean` bytes a second,
/// with fades, in blocks of 5 ms.
fn synthetic(seed: u64, mean: f64, seconds: u64) -> Vec<u64> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut random = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
        (state >> 33) as f64 / (1u64 << 31) as f64
    };
    let (mut level, mut fade, mut credit) = (0.0f64, 0u64, 0.0);
    let mut times = Vec::new();
    for ms in 0..seconds * 1000 {
        if ms % 20 == 0 {
            // Correlated over about two seconds; three uniform variables are nearly normal.
            level = level * 0.99 + (random() + random() + random() - 1.5) * 0.2;
            if fade == 0 && random() < 0.004 {
                fade = 100 + (random() * 200.0) as u64;
            }
        }
        let faded = if fade > 0 { 0.1 } else { 1.0 };
        fade = fade.saturating_sub(1);
        if ms % 5 == 0 {
            credit += mean * level.exp() * faded * 0.005 / 1500.0 * (0.5 + random());
        }
        while credit >= 1.0 {
            credit -= 1.0;
            times.push(ms);
        }
    }
    times.push(seconds * 1000 - 1);
    times
}

/// What came of a cell, in milliseconds and as shares.
struct Cell {
    used: f64,
    p95: f64,
    p99: f64,
}

/// The waits of packets from half a second before an outage of more than a second to half a second
/// after it are left out, and of the first three seconds.
fn cell(name: &str, load: Load, times: Vec<u64>, seconds: u64) -> Cell {
    let gaps = times.windows(2).filter(|pair| pair[1] - pair[0] > 1000);
    let outages: Vec<_> = gaps.map(|gap| gap[0].saturating_sub(500)..gap[1] + 500).collect();
    let trace = Trace::new(times);
    let capacity = trace.capacity(Duration::from_secs(seconds)) as f64;
    let link = Link { trace: Some(trace), queue_max: 400 * MTU, ..link(20, 40, 100) };
    let course = course(RealTime, link, &[load], seconds);
    let counts = |at: Instant| {
        let ms = at.as_nanos() / 1_000_000;
        ms > 3000 && !outages.iter().any(|outage| outage.contains(&ms))
    };
    let waits = course.link.waits.iter().filter(|wait| counts(wait.0)).map(|wait| wait.1);
    let waits: Vec<Duration> = waits.collect();
    let totals = &course.flows[0].totals;
    let used = totals.arrived_bytes as f64 / capacity;
    let (p95, p99) = (percentile(waits.clone(), 0.95), percentile(waits.clone(), 0.99));
    println!(
        "{name}: {used:.3} used, waits p50 {:.0}, p95 {p95:.0}, p99 {p99:.0} ms, frames p95 {:.0} ms, \
         dropped {:.4}, outages {:.1} s",
        percentile(waits, 0.5),
        percentile(course.flows[0].latencies.clone(), 0.95),
        course.link.dropped as f64 / totals.sent as f64,
        outages.iter().map(|outage| outage.end - outage.start).sum::<u64>() as f64 / 1000.0,
    );
    Cell { used, p95, p99 }
}

#[test]
/// spec-test: CC-29, CC-30
fn cells_of_a_phone_network() {
    for seed in 1..=10 {
        let mean = [400_000.0, 800_000.0, 1_600_000.0][seed as usize % 3];
        for (what, load) in BOTH {
            let name = format!("synthetic cell {seed}, {what}");
            let got = cell(&name, load, synthetic(seed, mean, 60), 60);
            assert!(got.used >= 0.6, "{name}: {}", got.used);
            assert!(got.p95 <= 100.0, "{name}: {}", got.p95);
            assert!(got.p99 <= 250.0, "{name}: {}", got.p99);
        }
    }
}

/// Recorded traces, where a folder `shared/traces` is beside the workspace or above it; nothing
/// without. Some are worse than the bars for the made-up ones: their outages of less than a second
/// count.
#[test]
fn cells_of_real_networks() {
    let here = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders = here.ancestors().map(|above| above.join("shared/traces"));
    let Some(folder) = folders.find(|path| path.is_dir()) else { return };
    let entries = std::fs::read_dir(folder).unwrap();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    for path in paths {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let ends = [".down.gz", ".up.gz", ".pps.gz", "bw-example.txt.gz"];
        if !ends.iter().any(|end| name.ends_with(end)) {
            continue;
        }
        let unpacked = std::process::Command::new("gzip").arg("-dc").arg(&path).output().unwrap();
        let text = String::from_utf8(unpacked.stdout).unwrap();
        let times: Vec<u64> = text.lines().map(|line| line.trim().parse().unwrap()).collect();
        for (what, load) in BOTH {
            let got = cell(&format!("{name}, {what}"), load, times.clone(), 100);
            assert!(got.used >= 0.5, "{name}: {}", got.used);
        }
    }
}

fn jain(rates: &[f64]) -> f64 {
    let sum: f64 = rates.iter().sum();
    sum * sum / (rates.len() as f64 * rates.iter().map(|rate| rate * rate).sum::<f64>())
}

#[test]
/// spec-test: CC-29, CC-35
fn flows_share() {
    for (what, load) in BOTH {
        let later = |ms| Load { begins: Duration::from_millis(ms), ..load };
        for (name, loads) in [
            ("two together", vec![load, later(7)]),
            ("the second 5 s later", vec![load, later(5007)]),
            ("four, a second apart", vec![load, later(1005), later(2010), later(3015)]),
        ] {
            let course = course(RealTime, link(10, 60, 100), &loads, 60);
            let flows = 0..loads.len();
            let rates: Vec<f64> =
                flows.map(|flow| rate(&course.arrived, flow, 20_000, 59_500)).collect();
            let fair = jain(&rates);
            let all = rates.iter().sum::<f64>() / 1_250_000.0;
            let wait = course.link.wait_ms(0.95, Duration::from_secs(10));
            println!("{what}, {name}: Jain {fair:.3}, together {all:.3}, waits p95 {wait:.1} ms");
            assert!(fair >= 0.9, "{what}, {name}: {fair} {rates:?}");
            assert!(all >= 0.9, "{what}, {name}: {all}");
            assert!(wait <= 60.0, "{what}, {name}: {wait}");
        }
    }
}

#[test]
/// spec-test: CC-34
fn beside_cubic_neither_starves() {
    let cubic = Load { control: Some(Cubic), ..BULK };
    for (mbit, rtt) in [(10, 60), (50, 40), (20, 100)] {
        let alone = course(Cubic, link(mbit, rtt, 100), &[cubic, cubic], 60);
        let without = alone.link.wait_ms(0.95, Duration::from_secs(10));
        for (what, load) in BOTH {
            let course = course(RealTime, link(mbit, rtt, 100), &[cubic, load], 60);
            let got = |flow| rate(&course.arrived, flow, 20_000, 59_500);
            let (share, all) = (got(1) / (got(0) + got(1)), got(0) + got(1));
            let wait = course.link.wait_ms(0.95, Duration::from_secs(10));
            println!(
                "{mbit} Mbit/s, {rtt} ms, CUBIC and {what}: share {share:.3}, waits p95 {wait:.1} ms, of \
                 two CUBIC {without:.1} ms"
            );

            // Media asks for less than its window; where CUBIC empties the queue often enough not
            // to be noticed, that is a little less than its share.
            let least = if load.bulk { 0.25 } else { 0.2 };
            assert!((least..0.65).contains(&share), "{what}: {share}");
            assert!(all >= 0.95 * mbit as f64 * 125_000.0, "{what}: {all}");
            assert!(wait <= without * 1.1, "{what}: {wait} {without}");
        }
    }
}

/// Share of the link's rate, and the wait that 95 % of the packets did not exceed, in milliseconds.
fn measure(name: &str, link: Link, load: Load, rate: u64) -> (f64, f64, f64) {
    let course = course(RealTime, link, &[load], 30);
    let totals = &course.flows[0].totals;
    let used = totals.arrived_bytes as f64 / (rate as f64 * 30.0);
    let wait = course.link.wait_ms(0.95, Duration::from_secs(2));
    let dropped = course.link.dropped as f64 / totals.sent as f64;
    println!(
        "{name}: {used:.3} used, waits p95 {wait:.1} ms, frames p95 {:.1} ms, dropped {dropped:.4}, {} \
         spurious",
        percentile(course.flows[0].latencies.clone(), 0.95),
        totals.spurious
    );
    (used, wait, dropped)
}

#[test]
/// spec-test: CC-31
fn losses_without_a_queue_do_not_starve() {
    for (mbit, rtt) in [(10, 60), (4, 30)] {
        for (ppm, bar) in [(0, 0.9), (10_000, 0.85), (50_000, 0.75), (300_000, 0.4)] {
            for (what, load) in BOTH {
                let lossy = Link { loss_ppm: ppm, loss_back_ppm: ppm, ..link(mbit, rtt, 100) };
                let name = format!("{mbit} Mbit/s, {rtt} ms, {} % lost, {what}", ppm / 10_000);
                let (used, wait, _) = measure(&name, lossy, load, mbit * 125_000);
                assert!(used >= bar, "{name}: {used}");
                assert!(wait <= 40.0, "{name}: {wait}");
            }
        }
    }
}

#[test]
/// spec-test: CC-29, CC-31, CC-33
fn queues_deep_and_shallow_and_rates_high_and_low() {
    for (name, link, bar) in [
        ("10 Mbit/s, 10 ms", link(10, 10, 100), 0.65),
        ("10 Mbit/s, 60 ms, 0.25 BDP", link(10, 60, 25), 0.9),
        ("10 Mbit/s, 60 ms, 10 BDP", link(10, 60, 1000), 0.9),
        ("100 Mbit/s, 20 ms", link(100, 20, 100), 0.9),
        ("100 Mbit/s, 200 ms", link(100, 200, 100), 0.75),
        ("1 Mbit/s, 60 ms", Link { queue_max: 30_000, ..link(1, 60, 100) }, 0.9),
    ] {
        for (what, load) in BOTH {
            let rate = link.rate;
            let (used, wait, dropped) =
                measure(&format!("{name}, {what}"), link.clone(), load, rate);
            assert!(used >= bar, "{name}, {what}: {used}");
            assert!(wait <= 80.0, "{name}, {what}: {wait}");
            assert!(dropped <= 0.02, "{name}, {what}: {dropped}");
        }
    }
}

#[test]
/// spec-test: CC-30, CC-31
fn radios_and_policers() {
    let stalls = Some((1000 * MS, 150 * MS));
    let policer = Some((625_000, 100_000));
    for (name, link, bar) in [
        ("jitter of 10 ms", Link { jitter: 10 * MS, ..link(20, 60, 100) }, 0.9),
        ("jitter of 30 ms", Link { jitter: 30 * MS, ..link(20, 60, 100) }, 0.9),
        ("stalls", Link { stalls, ..link(20, 60, 400) }, 0.75),
        ("policer of 5 Mbit/s", Link { policer, bucket: 100_000, ..link(50, 60, 100) }, 0.85),
    ] {
        for (what, load) in BOTH {
            let rate = link.policer.map_or(link.rate, |policer| policer.0);
            let name = format!("{name}, {what}");
            let (used, _, dropped) = measure(&name, link.clone(), load, rate);
            assert!(used >= bar, "{name}: {used}");
            assert!(dropped <= 0.1, "{name}: {dropped}");
        }
    }
}

#[test]
/// spec-test: CC-33
fn voice_alone_is_never_held_back() {
    let (flows, _) = share(RealTime, link(8, 60, 100), &[VOICE], 60);
    let worst = percentile(flows[0].latencies.clone(), 1.0);
    assert!(worst <= 31.0, "{worst}");
    assert_eq!(flows[0].congestion.window(), 10 * MTU);
}
