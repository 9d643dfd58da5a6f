#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../bodies/state_machine.rs"]
mod bodies;

fuzz_target!(|data: &[u8]| {
    bodies::run(data);
});
