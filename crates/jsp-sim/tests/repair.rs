//! What forward error correction is worth: the delay of messages over links that fade, with and
//! without it, and what it costs. `cargo run --release -p jsp-sim --example repair` prints more of it.

mod repair_case;

use jsp_proto::{Class, CongestionControl, FecPolicy, Framing};
use jsp_sim::link::{Jitter, LinkConfig, Loss, Queue, Rate};
use jsp_sim::random_world::random_world;
use jsp_sim::topology::Topology;
use jsp_sim::{runner, trial};
use repair_case::{Case, media, ms};

#[test]
fn media_on_a_fading_path_come_sooner() {
    let case = media(30);
    let clean = Case { link: LinkConfig::delayed(ms(30)), ..case.with(FecPolicy::Off) };
    let clean = clean.measure(6);
    let [off, auto, third] = [FecPolicy::Off, FecPolicy::Auto, FecPolicy::Fixed(33)].map(|fec| {
        let figures = case.with(fec).measure(6);
        let (p99, p999) = (figures.at(0.99), figures.at(0.999));
        println!("{fec:?}: p99 {p99:?} p99.9 {p999:?} extra {:.3}", figures.extra(&clean));
        assert_eq!(figures.delays.len(), figures.sent);
        figures
    });
    // Sent again, a message takes three one-way delays; repair takes a burst.
    assert!(off.at(0.99) >= ms(90), "{:?}", off.at(0.99));
    assert!(third.at(0.99) <= ms(80), "{:?}", third.at(0.99));
    assert!(third.at(0.999) <= ms(105), "{:?}", third.at(0.999));
    assert!(auto.at(0.99) <= off.at(0.99), "{:?}", auto.at(0.99));
    assert!(auto.at(0.999) <= off.at(0.999).mul_f64(0.85), "{:?}", auto.at(0.999));
    assert!(auto.extra(&clean) <= 0.45, "{}", auto.extra(&clean));
}

#[test]
fn a_clean_path_costs_nothing() {
    for control in [CongestionControl::Bbr, CongestionControl::Cubic] {
        let link = LinkConfig {
            rate: Rate::Constant(10_000_000),
            queue: Queue::DropTail { bytes: 75_000 },
            ..LinkConfig::delayed(ms(30))
        };
        let case = Case { link, control, ..Case::new(30, 1000, Loss::None) };
        let (off, auto) = (case.with(FecPolicy::Off).run(1), case.run(1));
        // The opening says in three bytes that it is off.
        assert!(auto.wire <= off.wire, "{} {}", auto.wire, off.wire);
    }
}

#[test]
fn thin_flows_and_late_packets_get_no_repair() {
    let thin = Case::new(30, 100, Loss::fading(0.05, ms(30)));
    let (off, auto) = (thin.with(FecPolicy::Off).measure(2), thin.measure(2));
    assert!(auto.extra(&off).abs() <= 0.01, "{}", auto.extra(&off));
    let mut disorder = Case::new(30, 1000, Loss::None);
    disorder.link.jitter = Jitter::Reordering(ms(10));
    let (off, auto) = (disorder.with(FecPolicy::Off).measure(2), disorder.measure(2));
    assert!(auto.extra(&off) <= 0.01, "{}", auto.extra(&off));
}

/// All streams of messages of a random world, in class real time and protected.
fn protected(seed: u64) -> Topology {
    let mut topology = random_world(seed);
    for client in &mut topology.clients {
        for plan in client.script.client.iter_mut().chain(&mut client.script.server) {
            if plan.config.framing == Framing::Messages {
                plan.config.class = Class::RealTime;
                plan.config.fec = FecPolicy::Fixed(1 + (seed * 37 % 100) as u8);
            }
        }
    }
    topology
}

#[test]
fn random_worlds_hold_with_repair() {
    let seeds = std::env::var("REPAIR_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(60);
    let complaints = runner::each_seed(1, seeds, |seed| {
        let outcome = trial::run(protected(seed));
        outcome.violations.first().map(|violation| format!("seed {seed}: {violation}"))
    });
    let complaints: Vec<_> = complaints.into_iter().flatten().collect();
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}
