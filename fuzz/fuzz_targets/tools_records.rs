#![no_main]
#![allow(dead_code, reason = "modules of the command line, of which the target uses a part")]

use libfuzzer_sys::fuzz_target;

#[path = "../bodies/tools.rs"]
mod bodies;
#[path = "../../crates/jsp-cli/src/exit.rs"]
mod exit;
#[path = "../../crates/jsp-cli/src/transfer/path.rs"]
mod path;
#[path = "../../crates/jsp-cli/src/protocol.rs"]
mod protocol;
#[path = "../../crates/jsp-cli/src/transfer/record.rs"]
mod record;

fuzz_target!(|data: &[u8]| {
    bodies::records(data);
});
