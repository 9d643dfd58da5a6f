#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../bodies/handshake.rs"]
mod bodies;
#[path = "../bodies/parties.rs"]
mod parties;

fuzz_target!(|data: &[u8]| bodies::message(data));
