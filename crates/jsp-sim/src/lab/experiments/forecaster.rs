//! E1 and E7: what the forecaster says of recorded cellular links, laid beside their queues, and what
//! each of its signals adds to that.

use std::sync::Arc;
use std::time::Duration;

use jsp_proto::{Alarm, AlarmCause, AlarmLevel, Signals};
use jsp_wire::Instant;

use super::alarms::{self, Score, Span};
use crate::lab::case::{Case, Edit, Ends, Load, Subject, Ways};
use crate::lab::links::{cellular, ms, secs, traced};
use crate::lab::sample::{Sample, sample};
use crate::lab::statistics::{mean, percentile, sorted};
use crate::lab::table;
use crate::link::LinkConfig;
use crate::report::Row;
use crate::runner;

/// Travelling time of each link, one way.
const OWD: Duration = ms(20);
/// Packets that the queues hold: none is refused, so that all that goes wrong is a wait.
const QUEUE_PACKETS: usize = 400;
/// How long each lasts.
const LASTS: Duration = secs(60);

/// Messages that the thin flow sends in a second, each a packet.
const PACKETS_PER_SECOND: u32 = 100;

/// What a signal must add to the harmonic mean of recall and precision.
const WORTH: f64 = 0.02;

/// The signals that a link with a queue and nothing else can give. Two more were measured like this, and
/// went: a delay that rises, and losses in bursts.
const SIGNALS: [(&str, AlarmCause); 1] = [("silence", AlarmCause::AckSilence)];

/// E1: alarms on all LTE links, and how long there is alarm on a clean one. What nobody can know before is
/// that the network has stopped: the first sign is an acknowledgement that does not come, a round trip and
/// a gap between packets after the packet that waits, which is `lead_limit` before it has waited long.
pub(super) fn quality(seeds: u64) -> Vec<Row> {
    let score = on_cellular(Signals::ALL, seeds);
    let leads = sorted(score.leads.iter().map(|lead| lead * 1e3));
    let lead = percentile(&leads, 50.0);
    let limit = alarms::LONG_WAIT.saturating_sub(OWD * 2 + secs(1) / PACKETS_PER_SECOND);
    let calm = alarmed_on_clean(seeds);
    let row = |metric: &str, value: f64, unit: &'static str| Row::new("E1", metric, value, unit);
    vec![
        row("episodes", score.episodes as f64, "count"),
        row("alarms", score.alarms as f64, "count"),
        row("lead_limit", limit.as_secs_f64() * 1e3, "ms"),
        row("lead_p50", lead, "ms").bar(">= 60", lead >= 60.0),
        row("recall", score.recall(), "ratio").bar(">= 0.7", score.recall() >= 0.70),
        row("precision", score.precision(), "ratio").bar(">= 0.55", score.precision() >= 0.55),
        row("f1", score.f1(), "ratio"),
        row("alarmed_when_clean", calm, "%").bar("<= 0.1", calm <= 0.1),
    ]
}

/// E7: the same without each signal.
pub(super) fn ablation(seeds: u64) -> Vec<Row> {
    let whole = on_cellular(Signals::ALL, seeds).f1();
    let mut rows = vec![Row::new("E7", "f1", whole, "ratio")];
    for (name, cause) in SIGNALS {
        let without = on_cellular(Signals::ALL.without(cause), seeds).f1();
        let gain = whole - without;
        rows.push(Row::new("E7", format!("f1_without_{name}"), without, "ratio"));
        let row = Row::new("E7", format!("worth_of_{name}"), gain, "ratio");
        rows.push(row.bar(format!(">= {WORTH}"), gain >= WORTH));
    }
    rows
}

fn on_cellular(signals: Signals, seeds: u64) -> Score {
    let is_lte = |name: &str| !["UMTS", "EVDO"].iter().any(|older| name.contains(older));
    let links = cellular().into_iter().filter(|(name, _)| is_lte(name));
    let mut total = Score::default();
    for (name, trace) in links {
        let load = Load::Thin {
            per_second: PACKETS_PER_SECOND,
            ways: Ways::Up,
            delivery: jsp_proto::Delivery::Reliable,
        };
        let case = Case::new(name, load, LASTS, OWD, move |seed| Ends {
            up: traced(&trace, seed, OWD, QUEUE_PACKETS),
            down: LinkConfig::delayed(OWD),
            rebinds: Vec::new(),
            second: None,
        });
        let edit: Edit = Arc::new(move |transport, _| transport.signals = signals);
        let case = Case { twin: crate::lab::case::Twin::None, ..case }.edited(edit);
        for sample in runner::each_seed(1, seeds, |seed| sample(&case, Subject::Jsp, seed)) {
            let spans = spans(&sample.alarms, case.starts(), case.ends());
            total = total.and(alarms::score(&spans, &alarms::episodes(&sample.waits)));
        }
    }
    total
}

/// Share of the time with an alarm on the clean link of the thin load, in percent.
fn alarmed_on_clean(seeds: u64) -> f64 {
    let cases = table::cases("C0-thin").unwrap_or_default();
    let shares = cases.iter().flat_map(|case| {
        let share = |sample: &Sample| {
            let spans = spans(&sample.alarms, case.starts(), case.ends());
            let alarmed: Duration = spans.iter().map(|(from, to)| to.since(*from)).sum();
            alarmed.as_secs_f64() / case.lasts.as_secs_f64() * 100.0
        };
        let count = seeds.min(case.seeds_max);
        let all = runner::each_seed(1, count, |seed| sample(case, Subject::Jsp, seed));
        all.iter().map(share).collect::<Vec<_>>()
    });
    mean(&shares.collect::<Vec<_>>())
}

/// Times of alarm, whatever its level, while the load lasted.
fn spans(changes: &[(Instant, Alarm)], starts: Instant, ends: Instant) -> Vec<Span> {
    let mut out: Vec<Span> = Vec::new();
    let mut since: Option<Instant> = None;
    for (at, alarm) in changes {
        if alarm.level == AlarmLevel::Clear {
            out.extend(since.take().map(|from| (from, *at)));
        } else {
            since.get_or_insert(*at);
        }
    }
    out.extend(since.map(|from| (from, ends)));
    out.retain(|(from, _)| *from >= starts && *from < ends);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alarm_lasts_from_the_first_level_to_the_last() {
        let at = |ms: u64| Instant::from_nanos(ms * 1_000_000);
        let change = |ms, level| (at(ms), Alarm { level, cause: None });
        let changes = [
            change(10, AlarmLevel::Watch),
            change(20, AlarmLevel::Clear),
            change(100, AlarmLevel::Watch),
            change(130, AlarmLevel::Degraded),
            change(150, AlarmLevel::Watch),
            change(160, AlarmLevel::Clear),
            change(900, AlarmLevel::Degraded),
        ];
        let spans = spans(&changes, at(50), at(1_000));
        assert_eq!(spans, [(at(100), at(160)), (at(900), at(1_000))]);
    }
}
