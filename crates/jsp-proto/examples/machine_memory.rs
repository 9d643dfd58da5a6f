//! What idle connections hold of the heap, for a profiler that tells by call site (`valgrind --tool=dhat`):
//! the program ends while they live. `half` leaves the server's ends half-open instead.

#[allow(dead_code, unreachable_pub, reason = "each program uses its own part")]
mod machine;

use std::time::Duration;

use machine::Machine;

/// Connections of each end.
const COUNT: usize = 100;

fn main() {
    let half_open = std::env::args().nth(1).is_some_and(|arg| arg == "half");
    let mut machine = Machine::new();
    for _ in 0..COUNT {
        machine.connect();
        if half_open {
            machine.hello();
        } else {
            while machine.round() > 0 {}
            machine.drop_events();
        }
    }
    for _ in 0..3 {
        if !half_open {
            machine.now = machine.now + Duration::from_secs(1);
            while machine.round() > 0 {}
            machine.drop_events();
        }
    }
    println!("{COUNT} connections of {} bytes", size_of::<jsp_proto::Connection>());
    // Without giving anything back.
    std::process::exit(0);
}
