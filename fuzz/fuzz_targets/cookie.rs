#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../bodies/cookie.rs"]
mod bodies;
#[path = "../bodies/parties.rs"]
#[allow(dead_code, reason = "only its random bytes are needed")]
mod parties;

fuzz_target!(|data: &[u8]| {
    bodies::cookies(data);
});
