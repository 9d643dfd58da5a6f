//! A path that is known from before, in a closed loop: `cargo test resume_loop -- --nocapture`.

use super::super::*;
use super::world::{BULK, Link, Load, Loop, MTU, link, share, share_watched};
use crate::config::CongestionControl;

const CONTROLS: [CongestionControl; 3] =
    [CongestionControl::Bbr, CongestionControl::Cubic, CongestionControl::RealTime];

/// What a link of so many Mbit/s is remembered as.
fn memory(mbit: u64, rtt_ms: u64) -> PathMemory {
    let delivery_rate_kib = (mbit * 125_000 / 1024) as u32;
    PathMemory { delivery_rate_kib, rtt_min_micros: rtt_ms as u32 * 1000 }
}

/// When so many bytes had arrived, in round trips of the link.
fn round_trips(control: CongestionControl, link: Link, load: Load, bytes: u64) -> f64 {
    let rtt = link.one_way * 2;
    let mut done = None;
    share_watched(control, link, &[load], 30, |now, flows, _| {
        if flows[0].totals.arrived_bytes >= bytes {
            done = done.or(Some(now));
        }
    });
    done.map_or(f64::INFINITY, |at: Instant| {
        at.since(Instant::ZERO).as_secs_f64() / rtt.as_secs_f64()
    })
}

#[test]
/// spec-test: CC-44
fn a_megabyte_over_a_satellite_takes_three_round_trips() {
    for control in CONTROLS {
        let satellite = || link(50, 600, 100);
        let anew = round_trips(control, satellite(), BULK, 1 << 20);
        let known = Load { memory: Some(memory(50, 600)), ..BULK };
        let resumed = round_trips(control, satellite(), known, 1 << 20);
        println!("{control:?}: {anew:.2} round trips, {resumed:.2} where it was known");
        assert!(resumed <= 3.0 && anew >= resumed + 2.0, "{control:?}: {anew} {resumed}");
    }
}

/// Packets that a shallow queue drops in the first seconds, and the part of the link that was used.
fn after_a_wrong_memory(
    control: CongestionControl,
    memory: Option<PathMemory>,
) -> (Loop, u64, f64) {
    // A twentieth of what is remembered.
    let thin = link(5, 100, 50);
    let (mut flows, link) = share(control, thin, &[Load { memory, ..BULK }], 10);
    let flow = flows.remove(0);
    let used = flow.totals.arrived_bytes as f64 / (link.rate * 10) as f64;
    (flow, link.dropped, used)
}

#[test]
/// spec-test: CC-45
fn a_memory_that_is_wrong_costs_one_flight_and_no_more() {
    for control in CONTROLS {
        let wrong = memory(100, 100);
        let jump_packets = 100 * 125_000 / 10 / 2 / MTU;
        let (_, _, anew) = after_a_wrong_memory(control, None);
        let (flow, dropped, used) = after_a_wrong_memory(control, Some(wrong));
        println!(
            "{control:?}: {dropped} of {jump_packets} dropped, {used:.2} used, {anew:.2} anew"
        );
        assert!(dropped <= jump_packets * 5 / 4, "{control:?}: {dropped}");
        assert!(used >= anew - 0.12, "{control:?}: {used} {anew}");
        assert!(flow.congestion.window() < 4 * 62_500, "{control:?}");
    }
}

#[test]
/// spec-test: CC-43
fn the_memory_of_another_path_is_not_used() {
    for control in CONTROLS {
        let arrived = |memory| {
            let load = Load { memory, ..BULK };
            let (flows, _) = share(control, link(10, 60, 100), &[load], 3);
            flows[0].totals.arrived_bytes
        };
        let other = memory(1000, 200);
        assert_eq!(arrived(Some(other)), arrived(None), "{control:?}");
    }
}
