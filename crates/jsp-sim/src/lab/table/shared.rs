//! Several flows over one bottleneck.

use std::sync::Arc;
use std::time::Duration;

use jsp_proto::{Delivery, FecPolicy};

use crate::lab::case::{Case, Ends, Load, Rival, Ways};
use crate::lab::links::{bottleneck, lossy, mbit, ms, secs, stalls, with_loss};
use crate::link::{Faults, LinkConfig, Loss};
use crate::peer::quinn::QuinnControl;
use crate::topology::Protocol;

/// How long competitions last.
const LASTS: Duration = secs(60);
/// A fifth of the messages of a second: 6000 messages a seed make 10^5 in twenty.
const VOICE_LASTS: Duration = secs(120);
/// The same over a Wi-Fi that stalls once a second.
const STALLED_LASTS: Duration = secs(60);

/// Voice over a link that loses by chance: beside a file, as `jsp demo` has it; and alone.
fn lossy_voice() -> Vec<Case> {
    let link = || with_loss(bottleneck(mbit(8), ms(60), 1.0), Loss::Random(0.05));
    let beside = |name| Case::on(name, Load::FileAndVoice, LASTS, link());
    let load = Load::Thin { per_second: 50, ways: Ways::Up, delivery: Delivery::Unreliable };
    let alone = |name, link| Case::on(name, load.clone(), LASTS, link);
    let cases = [
        beside("FL"),
        beside("FL-off").edited(Arc::new(|_, stream| stream.fec = FecPolicy::Off)),
        alone("FL-alone", link()),
        alone("FL-few", lossy(ms(30), Loss::Random(0.02))),
        alone("FL-fades", lossy(ms(30), Loss::fading(0.05, ms(30)))),
    ];
    cases.map(Case::without_peers).to_vec()
}

pub(super) fn cases(name: &str) -> Option<Vec<Case>> {
    let cubic = Rival::with(Some(Protocol::Quinn(QuinnControl::Cubic)));
    let bbr = Rival::with(Some(Protocol::Quinn(QuinnControl::Bbr)));
    let own = Rival::with(None);
    let against = |rivals: Vec<Rival>| {
        let link = bottleneck(mbit(20), ms(60), 1.0);
        Case::on(name, Load::Bulk, LASTS, link).against(rivals)
    };
    let case = match name {
        "F1" => against(vec![cubic]),
        "F2" => against(vec![cubic; 2]),
        "F3" => against(vec![cubic; 4]),
        "F4" => against(vec![bbr]),
        "F5" => against(vec![own]),
        "F6" => {
            // The queue of one bandwidth-delay product of the longer way.
            let mut link = bottleneck(mbit(20), ms(200), 1.0);
            link.delay = ms(10);
            let far = Rival { access: ms(90), ..own };
            Case::on(name, Load::Bulk, LASTS, link).against(vec![far])
        }
        "F7" => against(vec![Rival { later: secs(20), ..own }]),
        "F8" => {
            let load = Load::MediaAndBulk { ceiling_bps: mbit(4) };
            Case::on(name, load, LASTS, bottleneck(mbit(20), ms(60), 1.0)).without_peers()
        }
        "FW" => {
            let owd = ms(10);
            Case::new(name, Load::FileAndVoice, STALLED_LASTS, owd, move |seed| {
                let until = jsp_wire::Instant::ZERO + STALLED_LASTS + secs(10);
                let stalled = |way, base: LinkConfig| {
                    let outages = stalls(seed, way, until);
                    LinkConfig { faults: Faults { outages, ..base.faults.clone() }, ..base }
                };
                let up = stalled("stalls up", bottleneck(mbit(20), owd * 2, 4.0));
                let down = stalled("stalls down", LinkConfig::delayed(owd));
                Ends { up, down, rebinds: Vec::new(), second: None }
            })
        }
        "FV" => {
            let link = bottleneck(mbit(2), ms(60), 1.0);
            Case::on(name, Load::FileAndVoice, VOICE_LASTS, link)
        }
        "FL" => return Some(lossy_voice()),
        _ => return None,
    };
    Some(vec![case])
}
