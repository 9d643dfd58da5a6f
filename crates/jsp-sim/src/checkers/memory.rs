//! What a connection holds stays within what its configuration allows.

use jsp_wire::Instant;

use super::{Checker, FlowRecord, Ledger, Verdict};
use crate::flow::End;
use crate::observation::Observation;

/// Buffers stay within windows and send buffers.
#[derive(Default)]
pub(super) struct Memory;

impl Checker for Memory {
    const NAME: &'static str = "memory";

    fn observe(
        &mut self,
        _now: Instant,
        seen: &Observation<'_>,
        ledger: &Ledger,
        verdict: &mut Verdict<'_>,
    ) {
        let Observation::Buffered { end, bytes, window_max, unreliable_buffer } = *seen else {
            return;
        };
        let limit = window_max.saturating_add(streams_limit(end, ledger, unreliable_buffer));
        if bytes > limit {
            verdict.breach(format!("{end}: {bytes} bytes in buffers, {limit} allowed"));
        }
    }
}

/// What the streams of an end may hold besides reliable data that waits to be read. An empty buffer
/// takes any message, so that the largest one counts too.
fn streams_limit(end: End, ledger: &Ledger, unreliable_buffer: u64) -> u64 {
    let largest = |record: &FlowRecord| record.largest_message;
    let of = |(flow, record): (&crate::flow::Flow, &FlowRecord)| {
        if flow.from == end {
            record.config.send_buffer as u64 + largest(record)
        } else if flow.from == end.peer() && !record.is_reliable() {
            unreliable_buffer + largest(record)
        } else {
            0
        }
    };
    ledger.flows.iter().map(of).sum()
}

#[cfg(test)]
mod tests {
    use super::super::planted::*;
    use super::*;
    use jsp_proto::StreamConfig;

    #[test]
    fn a_buffer_over_its_limit_is_found() {
        let buffered = |end, bytes| Observation::Buffered {
            end,
            bytes,
            window_max: 1_000,
            unreliable_buffer: 100,
        };
        let config =
            StreamConfig { send_buffer: 50, unidirectional: true, ..StreamConfig::voice() };
        let history = || History::with(&config);
        // Each side also has the stream of signalling, with a send buffer of 1 MiB.
        let signalling = StreamConfig::messages().send_buffer as u64;
        for (end, most) in [(CLIENT, 1_000 + 50 + signalling), (SERVER, 1_000 + 100 + signalling)] {
            assert_eq!(history().see(&buffered(end, most)).found(), [""; 0]);
            assert_eq!(history().see(&buffered(end, most + 1)).found(), ["memory"]);
        }
    }
}
