//! What a second path is worth beside a cellular one.

use jsp_proto::{StreamConfig, TransportConfig};

use super::{Demand, Switch, each, samples};
use crate::lab::statistics::{confidence, mean};
use crate::lab::table;
use crate::report::Row;

/// Both paths, or the first alone.
const SECOND_PATH: Switch = Switch { set: second_path };

fn second_path(on: bool, transport: &mut TransportConfig, _: &mut StreamConfig) {
    if !on {
        transport.paths_max = 1;
    }
}

/// Messages later than 150 ms on each cellular trace, with a clean path of 80 ms beside it and without; the
/// interval is over the traces. The path compared with is the cellular one: in good times its delay is the smaller, so it is
/// the one that a connection with one path would be on. Who knew beforehand would take the other.
pub(super) fn late_messages(seeds: u64) -> Option<Vec<Row>> {
    let mut rows = Vec::new();
    let (mut alone, mut both, mut extras) = (Vec::new(), Vec::new(), Vec::new());
    for case in table::cases("ML")? {
        let (case, without) = samples(&case, SECOND_PATH.edit(false), seeds);
        let (case, with) = samples(&case, SECOND_PATH.edit(true), seeds);
        let name = format!("E4-{}", case.name);
        let late = |samples| mean(&each(&case, "miss_150ms", samples));
        let (off, on) = (late(&without), late(&with));
        let extra = mean(&each(&case, "extra", &with));
        rows.push(Row::new(&name, "miss_150ms_off", off, "%"));
        rows.push(Row::new(&name, "miss_150ms_on", on, "%"));
        rows.push(Row::new(&name, "extra_on", extra, "%"));
        alone.push(off);
        both.push(on);
        extras.push(extra);
    }
    let differences: Vec<_> = both.iter().zip(&alone).map(|(both, alone)| both - alone).collect();
    let (difference, half) = confidence(&differences);
    let (off, on) = (mean(&alone), mean(&both));
    let extra = mean(&extras);
    let row = |what: &str, value| Row::new("E4", what, value, "%");
    rows.push(row("miss_150ms_off", off));
    rows.push(row("miss_150ms_on", on));
    rows.push(row("miss_150ms_interval", half));
    let fewer = Demand::FallsBy(80.0);
    let holds = fewer.holds(off, on, half);
    rows.push(row("miss_150ms_difference", difference).bar(fewer.text(), holds));
    rows.push(row("extra_on", extra).bar("<= 15", extra <= 15.0));
    Some(rows)
}
