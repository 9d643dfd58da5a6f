//! Figures of forward error correction: each scenario with each percentage, and with the network's
//! choice. `cargo run --release -p jsp-sim --example repair [scenario]`

#[path = "../tests/repair_case/mod.rs"]
mod repair_case;

use jsp_proto::FecPolicy;
use jsp_sim::link::{LinkConfig, Loss};
use repair_case::{Case, media, ms};

fn main() {
    let wanted = std::env::args().nth(1);
    let cases = [
        ("S1", Case::new(30, 100, Loss::fading(0.05, ms(30)))),
        ("S1b", Case::new(30, 100, Loss::fading(0.05, ms(3)))),
        ("S2", media(30)),
        ("S3", Case::new(150, 100, Loss::fading(0.05, ms(30)))),
        ("S4", Case::new(30, 100, Loss::Random(0.01))),
        ("S5", media(150)),
        ("S6", Case::new(10, 100, Loss::fading(0.05, ms(30)))),
    ];
    let policies = [
        FecPolicy::Off,
        FecPolicy::Auto,
        FecPolicy::Fixed(5),
        FecPolicy::Fixed(10),
        FecPolicy::Fixed(20),
        FecPolicy::Fixed(33),
        FecPolicy::Fixed(50),
        FecPolicy::Fixed(100),
    ];
    for (name, case) in cases {
        if wanted.as_ref().is_some_and(|wanted| wanted != name) {
            continue;
        }
        let owd = case.link.delay;
        let clean = Case { link: LinkConfig::delayed(owd), ..case.with(FecPolicy::Off) };
        let clean = clean.measure(4);
        for policy in policies {
            let figures = case.with(policy).measure(4);
            let owds = |part| figures.at(part).as_secs_f64() / owd.as_secs_f64();
            println!(
                "{name:4} {policy:?}: p50 {:.2} p99 {:.2} p99.9 {:.2} x OWD, late at 150 ms {:.2} %, extra {:.1} %",
                owds(0.5),
                owds(0.99),
                owds(0.999),
                figures.late(ms(150)) * 100.0,
                figures.extra(&clean) * 100.0,
            );
        }
    }
}
