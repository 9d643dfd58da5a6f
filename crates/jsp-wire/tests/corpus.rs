//! The corpora of the fuzz targets, replayed.

#[path = "../../../fuzz/bodies/wire.rs"]
#[allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]
mod bodies;
#[path = "../../../fuzz/bodies/replay.rs"]
#[allow(unreachable_pub, reason = "shared by the tests that replay corpora")]
mod replay;

use replay::replay;

/// Bodies that answer nothing.
fn replay_all(target: &str, body: fn(&[u8])) {
    replay(target, |data| {
        body(data);
        1
    });
}

#[test]
fn wire_header() {
    replay_all("wire_header", bodies::header);
}

#[test]
fn wire_frames() {
    replay_all("wire_frames", bodies::frames);
}

#[test]
fn wire_shapes() {
    replay_all("wire_shapes", bodies::shapes);
}

#[test]
fn wire_params() {
    replay_all("wire_params", bodies::params);
}

#[test]
fn wire_roundtrip() {
    replay_all("wire_roundtrip", bodies::roundtrip);
}
