//! The attacks that JetStreamProto has to stand, each with a figure: a client and a server of their
//! own ([`peer`]) that speak JSH-1 correctly except where told, against the transport's machine
//! ([`victim`]) in virtual time.
//!
//! [`rows::ROWS`] is the list. A row that waits for a feature says for which. `cargo xtask hostile`
//! prints the table, and with `--mutants` runs each row against a build in which the check that it
//! is about is switched off: a row that does not notice holds nothing.

pub mod peer;
pub mod report;
pub mod row;
pub mod rows;
pub mod victim;
pub mod welch;
pub mod wires;

use peak_alloc::PeakAlloc;

/// Counts every allocation of the process.
#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

/// Bytes that are allocated at present.
pub fn allocated() -> u64 {
    HEAP.current_usage() as u64
}

/// What `work` answers, and the most bytes that were allocated meanwhile, those of before counted in.
pub fn allocated_at_most<T>(work: impl FnOnce() -> T) -> (T, u64) {
    HEAP.reset_peak_usage();
    let answer = work();
    (answer, HEAP.peak_usage() as u64)
}
