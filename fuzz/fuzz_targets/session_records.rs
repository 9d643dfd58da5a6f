#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../bodies/session.rs"]
mod bodies;

fuzz_target!(|data: &[u8]| {
    bodies::records(data);
});
