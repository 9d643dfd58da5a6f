#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../bodies/connection_frames.rs"]
mod bodies;
#[path = "../bodies/frames.rs"]
mod frames;
#[path = "../bodies/parties.rs"]
mod parties;
#[path = "../bodies/world.rs"]
#[allow(dead_code, reason = "its client stays where it is")]
mod world;

fuzz_target!(|data: &[u8]| {
    bodies::run(data);
});
