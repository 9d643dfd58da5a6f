#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../bodies/wrapper.rs"]
mod bodies;

fuzz_target!(|data: &[u8]| {
    bodies::datagrams(data);
});
