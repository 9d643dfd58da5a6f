//! Byte streams and media over cellular links.

use std::time::Duration;

use crate::lab::case::{Case, Ends, Load};
use crate::lab::links::{cellular, mbit, ms, secs, traced};
use crate::link::LinkConfig;

/// How long each lasts.
const LASTS: Duration = secs(60);
/// Travelling time of each link, one way.
const OWD: Duration = ms(20);
/// Packets that the queues hold.
const QUEUES: [usize; 2] = [100, 400];

pub(super) fn cases(name: &str) -> Option<Vec<Case>> {
    let load = match name {
        "L" => Load::Bulk,
        "LM" => Load::Media { ceiling_bps: mbit(20) },
        _ => return None,
    };
    let mut cases = Vec::new();
    for (trace_name, trace) in cellular() {
        for packets in QUEUES {
            let trace = trace.clone();
            // Bars are about LTE.
            let is_older = ["UMTS", "EVDO"].iter().any(|older| trace_name.contains(older));
            let older = if is_older { "3G" } else { "" };
            let full_name = format!("{name}{older}-{trace_name}-{packets}");
            let case = Case::new(full_name, load.clone(), LASTS, OWD, move |seed| {
                let up = traced(&trace, seed, OWD, packets);
                Ends { up, down: LinkConfig::delayed(OWD), rebinds: Vec::new(), second: None }
            });
            // A source that does not adapt says nothing about a peer.
            cases.push(if load == Load::Bulk { case } else { case.without_peers() });
        }
    }
    Some(cases)
}
