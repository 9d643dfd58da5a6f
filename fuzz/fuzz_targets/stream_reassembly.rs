#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../bodies/streams.rs"]
mod bodies;

fuzz_target!(|data: &[u8]| {
    bodies::reassemble(data);
});
