//! Byte streams and media over bottlenecks.

use std::sync::Arc;
use std::time::Duration;

use jsp_wire::Instant;

use crate::lab::case::{Case, Edit, Ends, Load, Rival, Twin, WARM_UP};
use crate::lab::links::{bottleneck, mbit, ms, secs, with_loss};
use crate::link::{Faults, Jitter, LinkConfig, Loss, Queue, Rate};
use crate::peer::quinn::QuinnControl;
use crate::topology::Protocol;

/// How long a byte stream lasts where nothing else is said.
const LASTS: Duration = secs(30);

pub(super) fn cases(name: &str) -> Option<Vec<Case>> {
    let bulk = |link| vec![Case::on(name, Load::Bulk, LASTS, link)];
    let ten = || bottleneck(mbit(10), ms(60), 1.0);
    let jittery = |most| {
        let jitter = Jitter::Reordering(ms(most));
        LinkConfig { jitter, ..bottleneck(mbit(20), ms(60), 1.0) }
    };
    Some(match name {
        "C0" => clean(),
        "I1" => bulk(with_loss(ten(), Loss::Random(0.01))),
        "I5" => bulk(with_loss(ten(), Loss::Random(0.05))),
        "G1" => {
            let known = geostationary("G1-resume", Load::Known { bytes: 1 << 20 });
            vec![geostationary(name, Load::Bulk), known.without_peers()]
        }
        "B1" => still(bulk(bottleneck(mbit(10), ms(60), 10.0))),
        "B2" => still(bulk(bottleneck(mbit(10), ms(60), 0.25))),
        "E0" => {
            let bytes = 75_000;
            let queue = Queue::Marking { bytes, mark_above: bytes / 4 };
            still(bulk(LinkConfig { queue, ..ten() }))
        }
        "DQ" => dual_queue(),
        "PO" => {
            let queue = Queue::Policer { bps: mbit(5), bucket: 100_000, bytes: 300_000 };
            still(bulk(LinkConfig { queue, ..bottleneck(mbit(50), ms(60), 1.0) }))
        }
        "R1" => bulk(jittery(10)),
        "R2" => bulk(jittery(30)),
        "D1" => vec![steps(name, Load::Media { ceiling_bps: mbit(4) })],
        "D1-bulk" => vec![steps(name, Load::Bulk)],
        "A1" => vec![thin_way_back(name)],
        "A2" => vec![lossy_way_back(name)],
        _ => return None,
    })
}

/// Nothing happens by chance there: a few seeds say all.
fn still(cases: Vec<Case>) -> Vec<Case> {
    cases.into_iter().map(|case| Case { seeds_max: 3, ..case }).collect()
}

/// Clean links of three rates and three round-trip times, and the thin load on one of them.
fn clean() -> Vec<Case> {
    let thin = bottleneck(mbit(10), ms(60), 1.0);
    let thin = Case::on("C0-thin", Load::thin(100), LASTS, thin);
    let mut cases = vec![Case { twin: Twin::Unrepaired, ..thin }];
    for rate in [10, 100, 1_000] {
        for rtt_ms in [10, 60, 200] {
            let lasts = if rate == 1_000 { secs(5) } else { secs(15) };
            let link = bottleneck(mbit(rate), ms(rtt_ms), 1.0);
            cases.push(Case::on(format!("C0-{rate}M-{rtt_ms}ms"), Load::Bulk, lasts, link));
        }
    }
    still(cases)
}

/// Media over a link with a low-latency queue, marked for it and not, alone and beside a byte stream; and marked for it where there is none.
fn dual_queue() -> Vec<Case> {
    let bytes = 75_000;
    let on = |name: &str, queue| {
        let link = LinkConfig { queue, ..bottleneck(mbit(10), ms(60), 1.0) };
        let load = Load::Media { ceiling_bps: mbit(20) };
        Case::on(name, load, LASTS, link).without_peers()
    };
    let cubic = Rival::with(Some(Protocol::Quinn(QuinnControl::Cubic)));
    let dual = Queue::DualPi2 { bytes };
    let unmarked: Edit = Arc::new(|transport, _| transport.l4s = false);
    vec![
        on("DQ", dual.clone()),
        on("DQ-ect0", dual.clone()).edited(Arc::clone(&unmarked)),
        on("DQ-cubic", dual.clone()).against(vec![cubic]),
        on("DQ-cubic-ect0", dual).edited(unmarked).against(vec![cubic]),
        on("DQ-classic", Queue::Marking { bytes, mark_above: bytes / 4 }),
    ]
}

fn geostationary(name: &str, load: Load) -> Case {
    let (owd, loss) = (ms(300), Loss::Random(0.001));
    Case::new(name, load, LASTS, owd, move |_| {
        let down = with_loss(bottleneck(mbit(5), owd * 2, 1.0), loss.clone());
        let up = with_loss(bottleneck(mbit(50), owd * 2, 1.0), loss.clone());
        // The fast direction carries the load.
        Ends { up, down, rebinds: Vec::new(), second: None }
    })
}

fn steps(name: &str, load: Load) -> Case {
    let link = LinkConfig {
        rate: Rate::Steps(vec![
            (Instant::ZERO, mbit(20)),
            (Instant::ZERO + WARM_UP + secs(15), mbit(2)),
            (Instant::ZERO + WARM_UP + secs(30), mbit(20)),
        ]),
        ..bottleneck(mbit(20), ms(60), 1.0)
    };
    Case { seeds_max: 5, ..Case::on(name, load, secs(45), link) }
}

fn thin_way_back(name: &str) -> Case {
    let case = Case::new(name, Load::Bulk, LASTS, ms(30), |_| {
        let down = LinkConfig {
            rate: Rate::Constant(64_000),
            queue: Queue::DropTail { bytes: 8_000 },
            ..LinkConfig::delayed(ms(30))
        };
        Ends { up: bottleneck(mbit(10), ms(60), 1.0), down, rebinds: Vec::new(), second: None }
    });
    Case { twin: Twin::Symmetric, seeds_max: 3, ..case }
}

fn lossy_way_back(name: &str) -> Case {
    let case = Case::new(name, Load::Bulk, LASTS, ms(30), |_| {
        let up = bottleneck(mbit(10), ms(60), 1.0);
        let faults = Faults { loss: Loss::Random(0.2), ..Faults::default() };
        Ends { down: LinkConfig { faults, ..up.clone() }, up, rebinds: Vec::new(), second: None }
    });
    Case { twin: Twin::Symmetric, ..case }
}
