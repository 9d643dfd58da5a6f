#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../bodies/objects.rs"]
mod bodies;

fuzz_target!(|data: &[u8]| {
    bodies::symbols(data);
});
