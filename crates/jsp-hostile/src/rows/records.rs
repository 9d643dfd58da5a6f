//! Attacks on what applications of the library read: records in CBOR.

use std::time::{Duration, Instant};

use jsp_app::session::{Client, RECORD_MAX, Registry};

use crate::row::{Figure, Run};
use crate::{allocated, allocated_at_most};

/// Bytes that a record may cost beside twice its own: for all channels that a session may have.
const ALLOWANCE: u64 = 16 << 10;

/// Row 46: records that are deep, that say to be long, that are many small ones, each as long as is read at all.
pub(super) fn bombs(run: &mut Run) -> Figure {
    let mut registry = Registry::<()>::new(4, Duration::from_secs(60));
    let (mut most, mut slowest, mut count) = (0u64, Duration::ZERO, 0u64);
    let rounds = run.count(3, 100);
    for record in records() {
        for len in [record.len().min(RECORD_MAX), record.len()] {
            let record = &record[..len];
            let mut best = Duration::MAX;
            for _ in 0..rounds {
                let before = allocated();
                let start = Instant::now();
                let (result, peak) =
                    allocated_at_most(|| registry.greet(record, Client::default(), [7; 32]));
                // A machine that stands still is not slow: the best of some rounds is.
                best = best.min(start.elapsed());
                drop(result);
                let cost = peak.saturating_sub(before).saturating_sub(ALLOWANCE);
                most = most.max(cost * 100 / len as u64);
            }
            slowest = slowest.max(best);
            count += 1;
        }
    }
    let held = most <= 200 && slowest <= Duration::from_millis(5);
    Figure::new(
        held,
        format!(
            "{count} records: {}.{:02} times the input at most, {slowest:?}",
            most / 100,
            most % 100
        ),
    )
}

/// Longer than what is read by a byte, so that the cut ones are as long as can be.
fn records() -> Vec<Vec<u8>> {
    const LEN: usize = RECORD_MAX + 1;
    // A record that resumes: number 1, credentials, and then whatever the attack is.
    let mut head = vec![0x82, 1, 0x82, 0x82];
    for secret in [1, 2] {
        head.push(0x50);
        head.extend([secret; 16]);
    }
    let with = |start: &[u8], repeated: &[u8]| {
        let mut out = [head.as_slice(), start].concat();
        while out.len() < LEN {
            out.extend(repeated);
        }
        out.truncate(LEN);
        out
    };
    // Arrays, maps, tags, indefinite arrays and strings, one in the other.
    let deep =
        [&[0x81][..], &[0xa1, 0], &[0xc1], &[0x9f], &[0xbf, 0], &[0x5f], &[0xd8, 0x20, 0x81]];
    let mut out: Vec<_> = deep.iter().map(|nested| with(&[], nested)).collect();
    // The same behind a field that a reader of this version skips.
    out.extend(deep.iter().map(|nested| with(&[0x81, 0x85, 0, 0x60, 0, 0], nested)));
    // Lengths beyond everything.
    let long = [0x9b, 0x5b, 0x7b, 0xbb].map(|kind| [&[kind][..], &[0xff; 8]].concat());
    out.extend(long.iter().map(|long| with(long, &[0])));
    // Channels without end: as many as fit, in an array that says how many and in one that does not.
    let channel = [0x84, 0, 0x60, 0, 0];
    out.push(with(&[0x9b, 0, 0, 0, 0, 0, 1, 0, 0], &channel));
    out.push(with(&[0x9f], &channel));
    out
}
