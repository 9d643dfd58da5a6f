#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../bodies/nat.rs"]
#[allow(dead_code, reason = "each target uses its own part")]
mod bodies;

fuzz_target!(|data: &[u8]| {
    bodies::messages(data);
});
