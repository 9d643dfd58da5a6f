//! CUBIC in a closed loop.

use super::super::*;
use super::world::{Link, link, run};
use crate::config::CongestionControl::Cubic;

#[test]
fn clean_links_are_filled() {
    for (mbit, rtt_ms) in [(10, 10), (10, 60), (100, 60), (100, 200)] {
        let (side, _, utilisation) = run(Cubic, link(mbit, rtt_ms, 100), 20);
        let lost = side.totals.lost as f64 / side.totals.sent as f64;
        assert!(utilisation > 0.9, "{mbit} Mbit/s {rtt_ms} ms: {utilisation} {:?}", side.totals);
        // Nearly all of it is the end of slow start: five rounds of conservative growth are more
        // than a queue of one bandwidth-delay product holds.
        assert!(lost < 0.02, "{mbit} Mbit/s {rtt_ms} ms: {:?}", side.totals);
        assert_eq!(side.totals.spurious, 0);
    }
}

#[test]
fn a_shallow_queue_does_not_starve_the_link() {
    let (side, _, utilisation) = run(Cubic, link(10, 60, 25), 20);
    assert!(utilisation > 0.8, "{utilisation} {:?}", side.totals);
}

#[test]
fn acknowledgements_of_bulk_are_few() {
    let (side, ..) = run(Cubic, link(100, 60, 100), 10);
    // About eight in a round trip: one for 60 packets and more would be, 44 is the limit.
    assert!(side.totals.acks * 20 < side.totals.arrived, "{:?}", side.totals);
}

#[test]
fn late_packets_are_understood_soon() {
    // One packet in 100 is 10 ms late at a round trip of 60 ms.
    let jittery = Link { late: Some((100, Duration::from_millis(10))), ..link(10, 60, 100) };
    let (side, _, utilisation) = run(Cubic, jittery, 20);
    assert!(utilisation > 0.9, "{utilisation} {:?}", side.totals);
    assert!(side.totals.spurious * 100 <= side.totals.sent, "{:?}", side.totals);
    assert!(side.totals.spurious <= 10, "{:?}", side.totals);
}

#[test]
fn random_loss_is_survived() {
    for ppm in [10_000, 50_000, 300_000] {
        let lossy = Link { loss_ppm: ppm, ..link(10, 60, 100) };
        let (side, _, utilisation) = run(Cubic, lossy, 30);
        // What CUBIC gets from such losses is little; that it goes on is what counts here.
        assert!(utilisation > 0.005, "{ppm}: {utilisation} {:?}", side.totals);
        let found = side.totals.lost + side.recovery.bytes_in_flight() / 1200;
        assert!(found >= side.totals.sent - side.totals.arrived, "{ppm}: {:?}", side.totals);
    }
}
