//! Blackouts and changes of address under a thin flow, on one path.

use std::time::Duration;

use jsp_proto::Delivery;
use jsp_wire::Instant;

use crate::lab::case::{Case, Ends, Load, WARM_UP, Ways};
use crate::lab::links::{blackouts, ms, secs};
use crate::link::{Faults, LinkConfig, OutageKind, Spell};

/// How long each lasts.
const LASTS: Duration = secs(60);
/// Travelling time, one way.
const OWD: Duration = ms(30);
/// Who is on the move and has real-time traffic says where it is this often.
const KEEP_ALIVE: Duration = ms(250);

pub(super) fn cases(name: &str) -> Option<Vec<Case>> {
    let moved = (ms(500), secs(3));
    let hinted = |case: Case| Case { name: format!("{name}-hint"), hints: true, ..case };
    let case = match name {
        "H1" => blackout(name, Ways::Both, (ms(50), ms(50)), OutageKind::Hold),
        "H2" => blackout(name, Ways::Both, (ms(150), ms(150)), OutageKind::Hold),
        "H3" => blackout(name, Ways::Up, moved, OutageKind::Drop),
        "H4" => blackout(name, Ways::Down, moved, OutageKind::Drop),
        "H5" => blackout(name, Ways::Both, moved, OutageKind::Drop),
        "H6" => rebinding(name),
        "H7" => ping_pong(name),
        _ => return None,
    };
    let alive = |case: Case| Case { keep_alive: Some(KEEP_ALIVE), ..case };
    let mut cases = vec![alive(case)];
    if name == "H4" {
        cases.push(hinted(alive(blackout(name, Ways::Down, moved, OutageKind::Drop))));
    }
    Some(cases)
}

fn load(ways: Ways) -> Load {
    Load::Thin { per_second: 100, ways, delivery: Delivery::Reliable }
}

fn span() -> (Instant, Instant) {
    (Instant::ZERO + WARM_UP, Instant::ZERO + WARM_UP + LASTS)
}

/// Both directions are out of service at the same times; after what is lost in one, the client has
/// another address.
fn blackout(name: &str, ways: Ways, length: (Duration, Duration), kind: OutageKind) -> Case {
    Case::new(name, load(ways), LASTS, OWD, move |seed| {
        let (from, until) = span();
        let outages = blackouts(seed, from, until, length, kind);
        let is_moved = kind == OutageKind::Drop;
        let ends = outages.iter().filter(|_| is_moved).map(|outage| outage.start + outage.length);
        let rebinds = ends.collect();
        let faults = Faults { outages, ..Faults::default() };
        let link = LinkConfig { faults, ..LinkConfig::delayed(OWD) };
        Ends { rebinds, ..link.into() }
    })
}

/// A translator of addresses that takes another port every three seconds.
fn rebinding(name: &str) -> Case {
    Case::new(name, load(Ways::Both), LASTS, OWD, |_| {
        let (from, _) = span();
        let rebinds = (1..LASTS.as_secs() as u32 / 3).map(|n| from + secs(3) * n).collect();
        Ends { rebinds, ..LinkConfig::delayed(OWD).into() }
    })
}

/// Between a near network and one that is 30 ms farther away, every five seconds.
fn ping_pong(name: &str) -> Case {
    let near = ms(10);
    Case::new(name, load(Ways::Both), LASTS, near, move |_| {
        let (from, _) = span();
        let changes: Vec<_> = (1..LASTS.as_secs() as u32 / 5).map(|n| from + secs(5) * n).collect();
        let far = changes.iter().step_by(2);
        let spell =
            |start: &Instant| Spell { start: *start, length: secs(5), delay: ms(30), loss: 0.0 };
        let faults = Faults { spells: far.map(spell).collect(), ..Faults::default() };
        let link = LinkConfig { faults, ..LinkConfig::delayed(near) };
        Ends { rebinds: changes, ..link.into() }
    })
}
