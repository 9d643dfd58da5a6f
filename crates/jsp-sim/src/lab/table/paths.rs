//! A client with two interfaces.

use jsp_proto::{Delivery, PathUse};
use jsp_wire::Instant;

use super::thin;
use crate::lab::case::{Case, Ends, Load, SecondPath, WARM_UP, Ways};
use crate::lab::links::{blackouts, cellular, ms, secs, traced};
use crate::link::{Faults, LinkConfig, OutageKind};

/// Travelling time, one way.
const OWD: std::time::Duration = ms(30);

pub(super) fn cases(name: &str) -> Option<Vec<Case>> {
    match name {
        "MP" => Some(vec![
            thin_on_two("MP-both", true),
            thin_on_two("MP-one", false),
            standby("MP-standby", Ways::Both, false),
            standby("MP-standby-hint", Ways::Down, true),
            bulk(),
        ]),
        "ML" => Some(cellular_and_clean()),
        _ => None,
    }
}

/// The thin load on two paths like that of S1, of which both fade, or the first alone.
fn thin_on_two(name: &str, both_fade: bool) -> Case {
    Case::new(name, Load::thin(100), secs(60), OWD, move |_| {
        let fading = thin::fading();
        let second = if both_fade { fading.clone() } else { LinkConfig::delayed(OWD) };
        Ends { second: SecondPath::new(second, PathUse::Available), ..fading.into() }
    })
    .without_peers()
}

/// Blackouts of the first path, with a second one on standby; with a hint the application knows at once.
fn standby(name: &str, ways: Ways, hinted: bool) -> Case {
    let load = Load::Thin { per_second: 100, ways, delivery: Delivery::Reliable };
    Case::new(name, load, secs(60), OWD, move |seed| {
        let from = Instant::ZERO + WARM_UP;
        let outages = blackouts(seed, from, from + secs(60), (ms(500), secs(3)), OutageKind::Drop);
        let mut second = SecondPath::new(LinkConfig::delayed(OWD), PathUse::Standby);
        if let (Some(second), true) = (&mut second, hinted) {
            second.downs = outages.iter().map(|o| (o.start, o.start + o.length)).collect();
        }
        let faults = Faults { outages, ..Faults::default() };
        let link = LinkConfig { faults, ..LinkConfig::delayed(OWD) };
        Ends { second, ..link.into() }
    })
    .without_peers()
}

/// A byte stream over two links.
fn bulk() -> Case {
    use crate::lab::links::{bottleneck, mbit};
    Case::new("MP-bulk", Load::Bulk, secs(30), OWD, |_| {
        let first = bottleneck(mbit(10), ms(60), 1.0);
        let second = bottleneck(mbit(10), ms(40), 1.0);
        Ends { second: SecondPath::new(second, PathUse::Available), ..first.into() }
    })
    .without_peers()
}

/// The thin load on each cellular trace, with a clean path of 80 ms round trip beside it.
fn cellular_and_clean() -> Vec<Case> {
    let case = |(name, trace): (String, std::sync::Arc<crate::link::trace::Trace>)| {
        Case::new(format!("ML-{name}"), Load::thin(100), secs(60), ms(20), move |seed| {
            let first = traced(&trace, seed, ms(20), 100);
            let second = LinkConfig::delayed(ms(40));
            Ends { second: SecondPath::new(second, PathUse::Available), ..first.into() }
        })
        .without_peers()
    };
    cellular().into_iter().map(case).collect()
}
