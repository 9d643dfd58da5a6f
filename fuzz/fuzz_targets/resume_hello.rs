#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../bodies/frames.rs"]
mod frames;
#[path = "../bodies/resumption.rs"]
mod bodies;

fuzz_target!(|data: &[u8]| {
    bodies::flights(data);
});
