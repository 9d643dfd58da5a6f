#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../bodies/resumption.rs"]
mod bodies;
#[path = "../bodies/frames.rs"]
mod frames;
#[path = "../bodies/host.rs"]
mod host;
#[path = "../bodies/packet.rs"]
mod packet;
#[path = "../bodies/parties.rs"]
mod parties;

fuzz_target!(|data: &[u8]| {
    bodies::flights(data);
});
