//! Worlds of chance, many of them, and figures of certain ones.

use std::panic::{self, AssertUnwindSafe};

use std::time::Duration;

use jsp_wire::Instant;

use super::plan::{self, ChannelPlan, Crash, Plan, Span};
use super::world::{self, Outcome};
use crate::random::Random;
use crate::report::Row;
use crate::runner::each_seed;

/// The world of a seed; what was wrong, if anything was, a panic included.
pub fn run_seed(seed: u64) -> (Outcome, Vec<String>) {
    match panic::catch_unwind(AssertUnwindSafe(|| world::run(plan::random(seed)))) {
        Ok(outcome) => {
            let complaints = outcome.violations.iter().map(ToString::to_string).collect();
            (outcome, complaints)
        }
        Err(words) => {
            let words = words
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| words.downcast_ref::<&str>().copied());
            (Outcome::default(), vec![format!("panic: {}", words.unwrap_or("without words"))])
        }
    }
}

/// Random worlds as rows; complaints go to standard error.
pub fn worlds(start: u64, seeds: u64) -> Vec<Row> {
    let all = each_seed(start, seeds, |seed| (seed, run_seed(seed)));
    let mut failed = 0;
    for (seed, (_, complaints)) in &all {
        if let Some(first) = complaints.first() {
            failed += 1;
            eprintln!("seed {seed}: {first}");
            eprintln!("reproduce: cargo xtask sim roaming --seed {seed}");
        }
    }
    let sum = |of: fn(&Outcome) -> u64| all.iter().map(|(_, (out, _))| of(out)).sum::<u64>() as f64;
    let row = |metric, value, unit| Row::new("roaming", metric, value, unit);
    vec![
        row("failed", f64::from(failed), "worlds").bar("== 0", failed == 0),
        row("lived", all.len() as f64, "worlds"),
        row("items", sum(|out| out.items), "count"),
        row("again", sum(|out| out.again), "count"),
        row("switches", sum(|out| out.switches.len() as u64), "count"),
        row("led", sum(|out| out.led), "count"),
        row("resumed", sum(|out| out.ran.len().saturating_sub(1) as u64), "count"),
        row("call", sum(|out| out.heard), "messages"),
        row("virtual_time", sum(|out| out.lasted.as_secs()), "s"),
        row("datagrams", sum(|out| out.datagrams), "count"),
    ]
}

/// The round trip of the certain worlds.
const ROUND_TRIP: Duration = Duration::from_millis(50);

fn at(millis: u64) -> Instant {
    Instant::ZERO + Duration::from_millis(millis)
}

/// A channel of `count` messages of the client, and of the server as well where it is a call.
fn channel(count: u64, every: u64, len: usize, is_call: bool) -> ChannelPlan {
    let all: Vec<_> = (0..count).map(|n| (at(n * every), len)).collect();
    let back = if is_call { all.clone() } else { Vec::new() };
    let rests = [Duration::ZERO; 2];
    ChannelPlan { by_server: false, opens_at: Instant::ZERO, messages: [all, back], rests }
}

/// A call of 50 messages a second each way, in whose midst datagrams do not pass for 15 s.
fn blocked(seed: u64) -> (Plan, Span) {
    let from = at(8_000 + Random::part(seed, "blocked", 0).below(1_000));
    let span = Span { from, to: from + Duration::from_secs(15) };
    let mut plan = Plan::quiet(seed);
    plan.weather.no_datagrams.push(span);
    plan.channels.push(channel(2_000, 20, 160, true));
    plan.faults_end = at(40_000);
    (plan, span)
}

/// Datagrams have never passed.
fn never(seed: u64) -> Plan {
    let mut plan = Plan::quiet(seed);
    plan.weather.no_datagrams.push(Span { from: Instant::ZERO, to: at(60_000) });
    plan.channels.push(channel(10, 20, 160, true));
    plan
}

/// A transfer of so many messages at most at 50 Mbit/s; something happens in its midst.
fn transfer(seed: u64, messages: u64) -> (Plan, Instant) {
    let mut plan = Plan::quiet(seed);
    for link in plan.links.iter_mut().flatten() {
        link.rate = crate::link::Rate::Constant(50_000_000);
    }
    plan.channels.push(channel(messages, 0, MESSAGE_LEN, false));
    let midst = 1_000 + Random::part(seed, "transfer", 0).below(1_000);
    let moment = at(midst * messages / MESSAGES);
    plan.faults_end = moment + Duration::from_secs(61);
    (plan, moment)
}

/// Messages of a transfer of 20 MB, and the bytes of each.
const MESSAGES: u64 = 320;
const MESSAGE_LEN: usize = 64 << 10;
/// A long transfer is so many times that, and stands for so many seeds of the short one.
const LONG: u64 = 10;
/// Bytes of a transfer that may go twice.
const TWICE_MAX: f64 = (1 << 20) as f64;

/// Figures of certain worlds with their bars, the worst of all seeds.
pub fn certain(start: u64, seeds: u64) -> Vec<Row> {
    let worst_of = |seeds: u64, one: &(dyn Fn(u64) -> (f64, Outcome) + Sync)| {
        let all = each_seed(start, seeds, one);
        for violation in all.iter().flat_map(|(_, outcome)| &outcome.violations) {
            eprintln!("{violation}");
        }
        let is_clean = all.iter().all(|(_, outcome)| outcome.violations.is_empty());
        (all.iter().map(|(value, _)| *value).fold(0.0, f64::max), is_clean)
    };
    let worst = |one: &(dyn Fn(u64) -> (f64, Outcome) + Sync)| worst_of(seeds, one);
    let row = |case: &str, metric: &str, unit, most: f64, (value, is_clean): (f64, bool)| {
        let held = is_clean && value <= most;
        Row::new(case, metric, value, unit).bar(format!("<= {most}, all once, in order"), held)
    };
    let millis = |from: Instant, to: Option<Instant>| {
        to.map_or(f64::INFINITY, |to| to.since(from).as_secs_f64() * 1e3)
    };
    let round_trips = ROUND_TRIP.as_secs_f64() * 2e3;
    let switched = |is_stream: bool| {
        move |seed: u64| {
            let (plan, span) = blocked(seed);
            let outcome = world::run(plan);
            let from = if is_stream { span.from } else { span.to };
            let mut all = outcome.switches.iter();
            let switch = all.find(|(at, to)| *at >= from && *to == is_stream).map(|(at, _)| *at);
            (millis(from, switch), outcome)
        }
    };
    let connected = |seed: u64| {
        let outcome = world::run(never(seed));
        (millis(Instant::ZERO, outcome.switches.first().map(|(at, _)| *at)), outcome)
    };
    let twice = |is_killed: bool, messages: u64| {
        move |seed: u64| {
            let (mut plan, moment) = transfer(seed, messages);
            let minute = Duration::from_secs(60);
            if is_killed {
                plan.client_crashes.push(Crash { at: moment, lasts: Duration::from_secs(1) });
            } else {
                plan.weather.dead.push(Span { from: moment, to: moment + minute });
            }
            let outcome = world::run(plan);
            let all = messages * MESSAGE_LEN as u64;
            (outcome.said.saturating_sub(all) as f64, outcome)
        }
    };
    let long = |is_killed| worst_of(seeds.div_ceil(LONG), &twice(is_killed, MESSAGES * LONG));
    vec![
        row("UB-call", "to_stream", "ms", 1_500.0 + round_trips, worst(&switched(true))),
        row("UB-call", "to_datagrams", "ms", 10_000.0, worst(&switched(false))),
        row("UB-start", "connected", "ms", 400.0 + round_trips, worst(&connected)),
        row("RS-killed", "sent_twice", "B", TWICE_MAX, worst(&twice(true, MESSAGES))),
        row("RS-outage", "sent_twice", "B", TWICE_MAX, worst(&twice(false, MESSAGES))),
        row("RS-killed-200", "sent_twice", "B", TWICE_MAX, long(true)),
        row("RS-outage-200", "sent_twice", "B", TWICE_MAX, long(false)),
    ]
}
