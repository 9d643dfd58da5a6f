use super::super::no_udp::NoUdp;
use super::super::relays::Trusted;
use super::*;

fn at(port: u16) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], port))
}

fn came_from(remote: SocketAddr, first: u8) -> Datagram {
    Datagram { route: Route::udp(remote), ecn: None, payload: [first, 1, 2, 3][..].into() }
}

#[test]
fn what_goes_by_one_way_is_told_apart_by_connection() {
    let switch = Switch::new(Box::new(NoUdp), false);
    let [one, two] = [1, 2].map(|peer| Route::Relayed { via: at(9), peer });
    let way = Way::from(at(7));
    for route in [&one, &two] {
        switch.redirect(route, Some((way, Passage::Turn)));
    }
    assert!(!switch.had_traffic(&one, way));
    assert!(switch.sort(&mut came_from(at(7), 0x40)));
    // It is a sign of life for both.
    assert!(switch.had_traffic(&one, way) && switch.had_traffic(&two, way));
    assert!(!switch.had_traffic(&one, way));
    switch.redirect(&one, None);
    assert_eq!((switch.passage(&one), switch.passage(&two)), (Passage::Relay, Passage::Turn));
    assert_eq!(switch.passage(&Route::udp(at(7))), Passage::Turn);
    assert!(switch.sort(&mut came_from(at(7), 0x40)));
    assert!(switch.had_traffic(&two, way) && !switch.had_traffic(&one, way));
    switch.redirect(&two, None);
    assert_eq!(switch.passage(&Route::udp(at(7))), Passage::Direct);
    assert!(switch.ways().uses.is_empty());
}

#[test]
// spec-test: RDV-189
fn a_hidden_peer_hears_those_alone_to_whom_it_has_sent() {
    let link = MeetingLink(Arc::new(Switch::new(Box::new(NoUdp), true)));
    for first in [0x40, 0xc0] {
        assert!(!link.0.sort(&mut came_from(at(7), first)));
    }
    let contents = &[0xc0][..];
    let hello = Transmit { route: Route::udp(at(7)), ecn: None, contents, segment_len: 1 };
    link.try_send(&hello).unwrap();
    for first in [0x40, 0xc0] {
        assert!(link.0.sort(&mut came_from(at(7), first)));
        assert!(!link.0.sort(&mut came_from(at(8), first)));
    }
    // What is sent for other reasons, as questions to STUN servers are, asks for no packets.
    link.0.send(at(8).into(), b"question");
    assert!(!link.0.sort(&mut came_from(at(8), 0xc0)));
}

#[test]
// spec-test: RDV-126
fn a_relay_is_listened_to_while_somebody_is_registered_there() {
    let switch = Arc::new(Switch::new(Box::new(NoUdp), false));
    let relayed = |from: Route| {
        let payload = [&relay::header(5)[..], &[0x40]].concat();
        let mut datagram = Datagram { route: from, ecn: None, payload: payload[..].into() };
        switch.unwrap_relayed(&mut datagram).then_some(datagram.route)
    };
    let (here, there) = (Route::udp(at(7)), Route::Tunnel { id: 3 });
    let route = Some(Route::Relayed { via: at(9), peer: 5 });
    assert_eq!(relayed(here), None);
    let before = Trusted::new(&switch, at(9), here);
    let after = Trusted::new(&switch, at(9), here);
    after.moved(there);
    assert_eq!((relayed(here), relayed(there)), (route, route));
    assert_eq!(switch.relays(|relays| relays.find(at(9))), Some(there));
    // The one that goes takes nothing from the other.
    drop(after);
    assert_eq!((relayed(here), relayed(there)), (route, None));
    assert_eq!(switch.relays(|relays| relays.find(at(9))), Some(here));
    drop(before);
    assert_eq!((relayed(here), switch.relays(|relays| relays.find(at(9)))), (None, None));
}
