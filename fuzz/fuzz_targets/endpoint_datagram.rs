#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../bodies/endpoint.rs"]
mod bodies;
#[path = "../bodies/host.rs"]
mod host;
#[path = "../bodies/packet.rs"]
mod packet;
#[path = "../bodies/parties.rs"]
#[allow(dead_code, reason = "the server is alone")]
mod parties;

fuzz_target!(|data: &[u8]| {
    bodies::datagrams(data);
});
