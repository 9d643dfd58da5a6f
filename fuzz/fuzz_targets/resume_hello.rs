#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../bodies/resumption.rs"]
mod bodies;
#[path = "../bodies/frames.rs"]
mod frames;

fuzz_target!(|data: &[u8]| {
    bodies::flights(data);
});
