#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../bodies/state_machine.rs"]
mod bodies;
#[path = "../bodies/mail.rs"]
mod mail;
#[path = "../bodies/parties.rs"]
mod parties;
#[path = "../bodies/world.rs"]
mod world;

fuzz_target!(|data: &[u8]| {
    bodies::run(data);
});
