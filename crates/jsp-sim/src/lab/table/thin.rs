//! Thin real-time flows over links that lose, stall and change; and large messages with a deadline.

use std::time::Duration;

use jsp_proto::{Delivery, FecPolicy};
use std::sync::Arc;

use crate::lab::case::{Case, Ends, Load, Ways};
use crate::lab::links::{bottleneck, lossy, mbit, ms, satellite_changes, secs, stalls, with_loss};
use crate::link::{Faults, LinkConfig, Loss};

/// How long thin loads last: 12 000 messages a seed at 100 a second each way.
const LASTS: Duration = secs(60);
/// The same at 1000 a second: 40 000 messages.
const FAST_LASTS: Duration = secs(20);

pub(super) fn cases(name: &str) -> Option<Vec<Case>> {
    let fading = |bad_ms| Loss::fading(0.05, ms(bad_ms));
    let thin = |owd_ms, loss| Case::on(name, Load::thin(100), LASTS, lossy(ms(owd_ms), loss));
    let fast = |owd_ms| Case::on(name, Load::thin(1_000), FAST_LASTS, lossy(ms(owd_ms), fading(3)));
    Some(match name {
        "S1" => vec![thin(30, fading(30))],
        "S1b" => vec![thin(30, fading(3))],
        "P1" => {
            vec![thin(30, Loss::PerPacket { enter: 0.0175, leave: 0.333, loss_bad: 1.0 })]
        }
        "S2" => vec![fast(30)],
        "S3" => vec![thin(150, fading(30))],
        "S4" => {
            let lean =
                Case::on("S4-lean", Load::thin(100), LASTS, lossy(ms(30), Loss::Random(0.01)))
                    .without_peers()
                    .edited(Arc::new(|_, stream| stream.fec = FecPolicy::Off));
            vec![thin(30, Loss::Random(0.01)), lean]
        }
        "S5" => vec![fast(150)],
        "S6" => vec![thin(10, fading(30))],
        "S1-150ms" => {
            let delivery = Delivery::Partial { retransmits: None, lifetime: Some(ms(150)) };
            let load = Load::Thin { per_second: 100, ways: Ways::Both, delivery };
            vec![Case::on(name, load, LASTS, lossy(ms(30), fading(30)))]
        }
        "OB" => vec![objects("OB-3ms", ms(3)), objects("OB-30ms", ms(30))],
        "W1" => vec![wifi(name)],
        "K1" => vec![starlink(name)],
        _ => return None,
    })
}

/// The link of S1.
pub(super) fn fading() -> LinkConfig {
    lossy(ms(30), Loss::fading(0.05, ms(30)))
}

/// Half a megabyte four times a second, of use for 200 ms: alone it takes 100 ms to leave, and 30 ms to travel.
fn objects(name: &str, fade: Duration) -> Case {
    let load = Load::Objects { len: 500_000, gap: ms(250), lifetime: ms(200) };
    let link = with_loss(bottleneck(mbit(40), ms(60), 1.0), Loss::fading(0.05, fade));
    Case::on(name, load, FAST_LASTS, link).without_peers()
}

fn wifi(name: &str) -> Case {
    let owd = ms(10);
    Case::new(name, Load::thin(100), LASTS, owd, move |seed| {
        let until = jsp_wire::Instant::ZERO + LASTS + secs(10);
        let link = |way| {
            let base = lossy(owd, Loss::fading(0.005, ms(5)));
            let outages = stalls(seed, way, until);
            LinkConfig { faults: Faults { outages, ..base.faults.clone() }, ..base }
        };
        Ends { up: link("stalls up"), down: link("stalls down"), rebinds: Vec::new(), second: None }
    })
}

fn starlink(name: &str) -> Case {
    let owd = ms(25);
    Case::new(name, Load::thin(100), LASTS, owd, move |seed| {
        let until = jsp_wire::Instant::ZERO + LASTS + secs(10);
        let link = |loss| {
            let spells = satellite_changes(seed, until);
            let faults = Faults { loss: Loss::Random(loss), spells, ..Faults::default() };
            LinkConfig { faults, ..LinkConfig::delayed(owd) }
        };
        Ends { up: link(0.0035), down: link(0.002), rebinds: Vec::new(), second: None }
    })
}
