//! Several flows over one bottleneck.

use std::time::Duration;

use crate::lab::case::{Case, Ends, Load, Rival};
use crate::lab::links::{bottleneck, mbit, ms, secs, stalls};
use crate::link::{Faults, LinkConfig};
use crate::peer::quinn::QuinnControl;
use crate::topology::Protocol;

/// How long competitions last.
const LASTS: Duration = secs(60);
/// A fifth of the messages of a second: 6000 messages a seed make 10^5 in twenty.
const VOICE_LASTS: Duration = secs(120);
/// The same over a Wi-Fi that stalls once a second.
const STALLED_LASTS: Duration = secs(60);

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
                Ends { up, down, rebinds: Vec::new() }
            })
        }
        "FV" => {
            let link = bottleneck(mbit(2), ms(60), 1.0);
            Case::on(name, Load::FileAndVoice, VOICE_LASTS, link)
        }
        _ => return None,
    };
    Some(vec![case])
}
