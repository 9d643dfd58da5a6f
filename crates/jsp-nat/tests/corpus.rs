//! The corpora of the fuzz targets, replayed.

#[path = "../../../fuzz/bodies/nat.rs"]
#[allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]
mod bodies;
#[path = "../../../fuzz/bodies/replay.rs"]
#[allow(unreachable_pub, reason = "shared by the tests that replay corpora")]
mod replay;

use replay::replay;

#[test]
fn nat_messages() {
    replay("nat_messages", |data| {
        bodies::messages(data);
        1
    });
}

#[test]
fn nat_machines() {
    replay("nat_machines", bodies::machines);
    // What a fuzzer does, in small.
    let mut state = 1u64;
    for _ in 0..3000 {
        let input: Vec<u8> = (0..300)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 33) as u8
            })
            .collect();
        bodies::machines(&input);
    }
}
