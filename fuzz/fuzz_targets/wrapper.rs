#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../bodies/wrapper.rs"]
mod bodies;
#[path = "../bodies/host.rs"]
mod host;
#[path = "../bodies/parties.rs"]
mod parties;

fuzz_target!(|data: &[u8]| {
    bodies::datagrams(data);
});
