//! BBR in a closed loop. Each measurement is printed: `cargo test bbr_loop -- --nocapture`.

use super::super::*;
use super::world::{
    BOTH, BULK, Link, Load, Loop, VOICE, link, percentile, run, share, share_watched,
};
use crate::config::CongestionControl;
use crate::config::CongestionControl::Bbr;

/// What one flow came to.
#[derive(Debug)]
struct Figures {
    /// Of the link's rate.
    utilisation: f64,
    /// Waiting time in the queue, in milliseconds.
    wait_p95: f64,
    /// Packets that the queue or the policer dropped, of those sent.
    dropped: f64,
    /// Packets wrongly held lost, of those sent.
    spurious: f64,
}

fn measure(name: &str, link: Link, seconds: u64) -> Figures {
    let (side, link, utilisation) = run(Bbr, link, seconds);
    let sent = side.totals.sent as f64;
    let figures = Figures {
        utilisation,
        wait_p95: link.wait_ms(0.95, Duration::ZERO),
        dropped: link.dropped as f64 / sent,
        spurious: side.totals.spurious as f64 / sent,
    };
    println!("{name}: {figures:.3?}");
    figures
}

#[test]
/// spec-test: CC-13, CC-14
fn clean_links_are_filled_with_nearly_empty_queues() {
    for mbit in [10, 100] {
        for rtt_ms in [10, 60, 200] {
            let name = format!("clean, {mbit} Mbit/s, {rtt_ms} ms");
            // Startup alone takes ten round trips.
            let seconds = if rtt_ms == 200 { 30 } else { 20 };
            let figures = measure(&name, link(mbit, rtt_ms, 100), seconds);
            assert!(figures.utilisation >= 0.92, "{name}: {figures:?}");
            assert!(figures.wait_p95 <= 30.0, "{name}: {figures:?}");
            assert!(figures.dropped <= 0.002, "{name}: {figures:?}");
        }
    }
}

#[test]
/// spec-test: CC-17
fn losses_without_a_queue_do_not_slow_down() {
    for (ppm, bar) in [(10_000, 0.92), (50_000, 0.88), (100_000, 0.8), (300_000, 0.4)] {
        let name = format!("{} % lost", ppm / 10_000);
        let lossy = Link { loss_ppm: ppm, loss_back_ppm: ppm, ..link(10, 60, 100) };
        let figures = measure(&name, lossy, 20);
        assert!(figures.utilisation >= bar, "{name}: {figures:?}");
        assert!(figures.wait_p95 <= 30.0, "{name}: {figures:?}");
        assert!(figures.dropped <= 0.01, "{name}: {figures:?}");
    }
}

#[test]
/// spec-test: CC-16
fn queues_deep_and_shallow() {
    let deep = measure("queue of 10 BDP", link(10, 60, 1000), 20);
    assert!(deep.utilisation >= 0.92 && deep.wait_p95 <= 40.0, "{deep:?}");
    let shallow = measure("queue of 0.25 BDP", link(10, 60, 25), 20);
    assert!(shallow.utilisation >= 0.9 && shallow.dropped <= 0.01, "{shallow:?}");
}

#[test]
fn jitter_is_no_queue() {
    for (jitter_ms, bar) in [(10, 0.9), (30, 0.8)] {
        let name = format!("jitter of {jitter_ms} ms");
        let jittery = Link { jitter: Duration::from_millis(jitter_ms), ..link(20, 60, 100) };
        let figures = measure(&name, jittery, 20);
        assert!(figures.utilisation >= bar, "{name}: {figures:?}");
        assert!(figures.spurious <= 0.01, "{name}: {figures:?}");
    }
}

#[test]
/// spec-test: CC-18
fn a_policer_is_found_and_obeyed() {
    let policed = Link { policer: Some((625_000, 100_000)), bucket: 100_000, ..link(50, 60, 100) };
    let name = "policer of 5 Mbit/s";
    let (mut at_5, mut dropped) = (0, 0);
    let (flows, link) = share_watched(Bbr, policed, &[BULK], 20, |now, flows, link| {
        if now <= Instant::ZERO + Duration::from_secs(5) {
            at_5 = flows[0].totals.sent;
            dropped = link.dropped;
        }
    });
    let totals = &flows[0].totals;
    let used = totals.arrived_bytes as f64 / (625_000.0 * 20.0);
    let late = (link.dropped - dropped) as f64 / (totals.sent - at_5) as f64;
    println!("{name}: {used:.3} used, {dropped} dropped in 5 s, {late:.4} of the packets later");
    assert!(used >= 0.92, "{used}");
    assert!(late <= 0.02, "{late}");
}

/// Bytes that arrived in each tenth of a second, and the longest wait in it, in milliseconds.
fn tenths(link: Link, loads: &[Load], seconds: u64) -> (Vec<Loop>, Link, Vec<Vec<u64>>) {
    let mut tenths: Vec<Vec<u64>> = Vec::new();
    let (flows, link) = share_watched(Bbr, link, loads, seconds, |now, flows, _| {
        let tenth = (now.as_nanos() / 100_000_000) as usize;
        while tenths.len() <= tenth {
            tenths.push(flows.iter().map(|flow| flow.totals.arrived_bytes).collect());
        }
    });
    (flows, link, tenths)
}

/// Bytes a second of a flow between two times in tenths of a second.
fn rate_between(tenths: &[Vec<u64>], flow: usize, from: usize, to: usize) -> f64 {
    (tenths[to][flow] - tenths[from][flow]) as f64 * 10.0 / (to - from) as f64
}

#[test]
/// spec-test: CC-14, CC-16
fn the_rate_follows_the_link_down_and_up() {
    let at = |seconds: u64| Instant::from_nanos(seconds * 1_000_000_000);
    let steps = vec![(at(10), 250_000), (at(20), 2_500_000)];
    let stepping = Link { steps, ..link(20, 60, 100) };
    let (_, link, tenths) = tenths(stepping, &[BULK], 30);
    let down = rate_between(&tenths, 0, 115, 195) / 250_000.0;
    let up = rate_between(&tenths, 0, 250, 295) / 2_500_000.0;
    let queued = |from: u64, to: u64| {
        let in_time = link.waits.iter().filter(|w| {
            let ms = w.0.as_nanos() / 1_000_000;
            (from..to).contains(&ms)
        });
        percentile(in_time.map(|w| w.1).collect(), 0.95)
    };
    println!(
        "20 -> 2 -> 20 Mbit/s: {down:.3}, then {up:.3}; waits p95 {:.0} ms at the step, {:.0} ms later",
        queued(10_000, 11_000),
        queued(11_500, 20_000)
    );
    assert!(down >= 0.85, "{down}");
    assert!(up >= 0.85, "{up}");
    assert!(queued(11_500, 20_000) <= 40.0);
}

#[test]
/// spec-test: CC-13, CC-19
fn voice_beside_a_file_on_a_bad_link() {
    for seed in 1..=10 {
        let bad =
            Link { loss_ppm: 50_000, loss_back_ppm: 50_000, random: seed, ..link(8, 60, 100) };
        let (flows, _) = share(Bbr, bad, &[BOTH], 20);
        let flow = &flows[0];
        let mbit = flow.totals.arrived_bytes as f64 * 8.0 / 20e6;
        let p99 = percentile(flow.latencies.clone(), 0.99);
        let worst = percentile(flow.latencies.clone(), 1.0);
        println!(
            "file and voice, seed {seed}: {mbit:.2} Mbit/s, voice p99 {p99:.1}, max {worst:.1} ms"
        );
        assert!(mbit >= 6.6, "{seed}: {mbit}");
        assert!(p99 <= 55.0, "{seed}: {p99}");
    }
}

#[test]
/// spec-test: CC-15
fn voice_alone_is_never_held_back() {
    let lossy = Link { loss_ppm: 50_000, loss_back_ppm: 50_000, ..link(8, 60, 100) };
    let (flows, _) = share(Bbr, lossy, &[VOICE], 60);
    let worst = percentile(flows[0].latencies.clone(), 1.0);
    println!("voice alone: {} messages, max {worst:.2} ms", flows[0].latencies.len());
    assert!(flows[0].latencies.len() > 2750);
    assert!(worst <= 31.0, "{worst}");
}

fn jain(rates: &[f64]) -> f64 {
    let sum: f64 = rates.iter().sum();
    sum * sum / (rates.len() as f64 * rates.iter().map(|rate| rate * rate).sum::<f64>())
}

#[test]
/// spec-test: CC-14
fn flows_share() {
    let later = |ms| Load { begins: Duration::from_millis(ms), ..BULK };
    for (name, loads) in [
        ("two together", vec![BULK, BULK]),
        ("the second 5 s later", vec![BULK, later(5000)]),
        ("four, a second apart", vec![BULK, later(1000), later(2000), later(3000)]),
    ] {
        let (_, link, tenths) = tenths(link(10, 60, 100), &loads, 60);
        let rates: Vec<f64> =
            (0..loads.len()).map(|flow| rate_between(&tenths, flow, 200, 595)).collect();
        let fair = jain(&rates);
        let all = rates.iter().sum::<f64>() / 1_250_000.0;
        let wait = link.wait_ms(0.95, Duration::ZERO);
        println!("{name}: Jain {fair:.3}, together {all:.3}, waits p95 {wait:.1} ms");
        assert!(fair >= 0.95, "{name}: {fair} {rates:?}");
        assert!(all >= 0.9, "{name}: {all}");
        assert!(wait <= 40.0, "{name}: {wait}");
    }
}

#[test]
/// spec-test: CC-14
fn four_flows_share_whenever_they_begin() {
    for (mbit, rtt) in [(10, 60), (20, 20), (10, 100), (4, 40)] {
        for gap in 1u64..=3 {
            let later = |ms: u64| Load { begins: Duration::from_millis(gap * ms), ..BULK };
            let loads = [BULK, later(137), later(611), later(1003)];
            let (_, _, tenths) = tenths(link(mbit, rtt, 100), &loads, 60);
            let rates: Vec<f64> =
                (0..4).map(|flow| rate_between(&tenths, flow, 200, 595)).collect();
            let fair = jain(&rates);
            println!("four flows, {mbit} Mbit/s, {rtt} ms, begun in {gap} s: Jain {fair:.3}");
            assert!(fair >= 0.95, "{mbit} Mbit/s, {rtt} ms, {gap} s: {fair} {rates:?}");
        }
    }
}

/// Each flow's share of what all got in the last two thirds, and how much of the link that is.
fn shares(name: &str, link: Link, loads: &[Load]) -> (Vec<f64>, f64) {
    let rate = link.rate as f64;
    let (flows, link, tenths) = tenths(link, loads, 60);
    let rates: Vec<f64> =
        (0..loads.len()).map(|flow| rate_between(&tenths, flow, 200, 595)).collect();
    let sum = rates.iter().sum::<f64>();
    let shares: Vec<f64> = rates.iter().map(|rate| rate / sum).collect();
    let wait = link.wait_ms(0.95, Duration::from_secs(1));
    let dropped = link.dropped as f64 / flows.iter().map(|f| f.totals.sent).sum::<u64>() as f64;
    let all = sum / rate;
    println!(
        "{name}: {shares:.3?}, together {all:.3}, waits p95 {wait:.1} ms, dropped {dropped:.4}"
    );
    (shares, all)
}

#[test]
/// spec-test: CC-22, CC-25
fn beside_cubic_neither_starves() {
    let cubic = Load { control: Some(CongestionControl::Cubic), ..BULK };
    let later = |load: Load| Load { begins: Duration::from_secs(2), ..load };
    for (mbit, rtt, least) in [(10, 60, 0.4), (50, 40, 0.25), (20, 100, 0.2)] {
        let name = format!("{mbit} Mbit/s, {rtt} ms");
        for (case, loads) in [
            ("CUBIC and BBR", [cubic, BULK]),
            ("CUBIC, BBR later", [cubic, later(BULK)]),
            ("BBR, CUBIC later", [BULK, later(cubic)]),
        ] {
            let (shares, all) = shares(&format!("{name}: {case}"), link(mbit, rtt, 100), &loads);
            assert!(shares.iter().all(|share| *share >= least), "{name}, {case}: {shares:?}");
            assert!(all >= 0.95, "{name}, {case}: {all}");
        }
        let loads = [cubic, cubic, BULK, BULK];
        let (shares, _) = shares(&format!("{name}: two of each"), link(mbit, rtt, 100), &loads);
        let ours = shares[2] + shares[3];
        assert!((0.3..0.7).contains(&ours), "{name}: {shares:?}");
    }
}

#[test]
/// spec-test: CC-22
fn when_others_are_gone_queues_are_short_again() {
    let link = Link { dropped: 0, ..link(10, 60, 100) };
    let guest = Load { control: Some(CongestionControl::Cubic), ends: Some(20), ..BULK };
    let (_, link) = share(Bbr, link, &[BULK, guest], 60);
    let late = link.wait_ms(0.95, Duration::from_secs(35));
    println!("after CUBIC has gone: waits p95 {late:.1} ms");
    assert!(late <= 30.0, "{late}");
}

#[test]
/// spec-test: CC-14
fn long_ways_and_short_ones() {
    let far = Load { farther: Duration::from_millis(90), ..BULK };
    for mbit in [10, 20] {
        let name = format!("20 and 200 ms, {mbit} Mbit/s");
        let (shares, all) = shares(&name, link(mbit, 20, 500), &[BULK, far]);
        assert!(shares[0] >= 0.12 && shares[1] >= 0.25, "{shares:?}");
        assert!(all >= 0.9, "{all}");
    }
}

#[test]
fn a_long_fat_path_is_filled() {
    let figures = measure("1 Gbit/s, 200 ms", link(1000, 200, 100), 30);
    assert!(figures.utilisation >= 0.9, "{figures:?}");
}

#[test]
/// spec-test: CC-19
fn stalls_of_a_radio_are_no_congestion() {
    for rtt in [20, 60] {
        let stalls = Some((Duration::from_secs(1), Duration::from_millis(150)));
        let stalling = Link { stalls, ..link(20, rtt, 400) };
        // What a stall takes beyond the window is lost for good.
        let figures = measure(&format!("stalls at {rtt} ms"), stalling, 20);
        assert!(figures.utilisation >= 0.84, "{figures:?}");
        assert!(figures.spurious <= 0.001, "{figures:?}");
    }
}
