//! What a clock tells of packets that do not open.

use std::time::Duration;

use bytes::BytesMut;
use jsp_proto::{Datagram, RetryPolicy, Route};
use jsp_wire::Shape;

use crate::peer::Peer;
use crate::row::{Figure, Run, Scale};
use crate::victim::Victim;
use crate::welch::{Sample, T_MAX, apart, largest, measure};

/// Bytes that a forged packet holds.
const PAYLOAD_LEN: usize = 1200;
/// How far medians may be apart in the tests, which cannot have a machine that does nothing else: a part of
/// what it takes to open a packet.
const COARSE_NS: f64 = 40.0;

/// A packet that the peer could have sent but for its last bit: whatever stands in its header, it does not open.
fn forged(peer: &mut Peer, pn: u64) -> Datagram {
    let payload = peer.random.bytes(PAYLOAD_LEN);
    let mut packet = peer.short_numbered(Shape::Frames, pn, &payload);
    if let Some(last) = packet.last_mut() {
        *last ^= 1;
    }
    let payload = BytesMut::from(&packet[..]);
    Datagram { route: Route::udp(peer.addr), ecn: None, payload }
}

/// Times of packets of two classes, as `make` forges them.
fn times(server: &mut Victim, samples: u64, mut make: impl FnMut(bool) -> Datagram) -> Vec<Sample> {
    let take = |datagram: &mut Option<Datagram>| {
        if let Some(datagram) = datagram.take() {
            server.endpoint.handle_datagram(server.now, datagram);
        }
    };
    let make = |class| Ok(Some(make(class)));
    measure(samples as usize, 1, make, take).expect("forging does not fail")
}

/// Row 29: numbers that came before and numbers that did not; the present phase, the next one, and one that
/// comes too soon after an update.
pub(super) fn headers_and_phases(run: &mut Run) -> Figure {
    let samples = run.count(5_000, 1_000_000);
    let mut server = Victim::server(RetryPolicy::Never);
    let (mut peer, _) = server.befriend(91);
    for _ in 0..20 {
        let ping = peer.frames(&[1]);
        server.hit(&mut peer, &ping);
        server.pass(Duration::from_millis(50));
    }
    let next = peer.pn;
    let numbers = times(&mut server, samples, |is_known| {
        let back = 1 + peer.random.below(10);
        forged(&mut peer, if is_known { next - back } else { next + back })
    });
    let phases = phases(&mut server, &mut peer, samples);
    // The first packets of the next phase: an update is followed, and another one is not yet.
    peer.step_keys();
    let update = peer.frames(&[1]);
    server.hit(&mut peer, &update);
    let settling = self::phases(&mut server, &mut peer, samples);
    let all = [numbers, phases, settling];
    let told: Vec<String> = ["between numbers", "between phases", "after an update"]
        .iter()
        .zip(&all)
        .map(|(what, times)| format!("t = {:.1} ({:.0} ns) {what}", largest(times), apart(times)))
        .collect();
    let held = |times: &Vec<Sample>| match run.scale {
        Scale::Quick => apart(times).abs() < COARSE_NS,
        Scale::Full => largest(times).abs() < T_MAX,
    };
    Figure::new(all.iter().all(held), format!("{samples} samples each: {}", told.join(", ")))
}

/// Packets of the present phase and of the other one, under numbers that are new.
fn phases(server: &mut Victim, peer: &mut Peer, samples: u64) -> Vec<Sample> {
    let next = peer.pn;
    times(server, samples, |is_other| {
        let pn = next + peer.random.below(10);
        peer.flip_phase(is_other);
        let packet = forged(peer, pn);
        peer.flip_phase(is_other);
        packet
    })
}
