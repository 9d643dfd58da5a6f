//! What all controllers share, and the whole in a closed loop.

mod bbr_loop;
mod closed_loop;
mod realtime_loop;
mod resume_loop;
mod world;

use super::*;

#[test]
/// spec-test: CC-1, CC-2
fn windows_of_rfc_9002() {
    assert_eq!(window_initial(1200), 12_000);
    assert_eq!(window_initial(1452), 14_520);
    assert_eq!(window_initial(1500), 14_720);
    assert_eq!(window_initial(9000), 18_000);
    assert_eq!(window_min(1200), 2400);
}

#[test]
fn a_rate_is_a_window_for_each_round_trip() {
    assert_eq!(rate_of(12_000, Duration::from_millis(100), 5, 4), 150_000);
    assert_eq!(rate_of(u64::MAX, Duration::ZERO, 2, 1), u64::MAX);
}
