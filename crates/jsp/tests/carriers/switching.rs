//! Connections that change between datagrams and streams, and from one stream to the next.

use super::*;

/// Waits until the connection is carried so.
async fn carried_by(connection: &Connection, kind: CarrierKind) -> Duration {
    let begin = Instant::now();
    while connection.capabilities().carrier != kind {
        tokio::time::sleep(Duration::from_millis(5)).await;
        assert!(begin.elapsed() < Duration::from_secs(60), "never");
    }
    begin.elapsed()
}

#[tokio::test(start_paused = true)]
/// spec-test: CAR-13, CAR-30, CAR-31, CAR-32, CAR-33
async fn a_call_goes_on_in_a_stream_and_comes_back() {
    let world = World::new(race());
    let (near, far) = world.meet().await;
    let limit = Duration::from_millis(1500) + 4 * DELAY;
    let (there, back) = (call(&near, &far, 1500), call(&far, &near, 1500));
    let network = async {
        for round in 1..=2 {
            tokio::time::sleep(Duration::from_secs(3)).await;
            world.udp.cut();
            let took = carried_by(&near, CarrierKind::Tcp).await;
            assert!(took <= limit, "{took:?}");
            assert_eq!(world.streams.opened(), round);
            tokio::time::sleep(Duration::from_secs(2)).await;
            assert_eq!(far.capabilities().carrier, CarrierKind::Tcp);
            world.udp.restore();
            let took = carried_by(&near, CarrierKind::Udp).await;
            assert!(took <= Duration::from_secs(10), "{took:?}");
            tokio::time::sleep(Duration::from_secs(5)).await;
            assert_eq!(far.capabilities().carrier, CarrierKind::Udp);
            assert_eq!(world.streams.closed(), round);
        }
    };
    let (there, back, ()) = tokio::join!(there, back, network);
    for gap in [there, back] {
        assert!(gap <= limit, "{gap:?}");
    }
}

#[tokio::test(start_paused = true)]
/// spec-test: CAR-13
async fn what_was_under_way_arrives_by_the_stream() {
    let world = World::new(race());
    let (near, far) = world.meet().await;
    let bulk = async { talk(&near, &far).await };
    let cut = async {
        tokio::time::sleep(3 * DELAY).await;
        world.udp.cut();
    };
    tokio::join!(bulk, cut);
    assert_eq!(near.capabilities().carrier, CarrierKind::Tcp);
}

#[tokio::test(start_paused = true)]
/// spec-test: CAR-33
async fn who_began_in_a_stream_comes_to_udp_once_that_passes() {
    let world = World::new(race());
    world.udp.cut();
    let (near, far) = world.meet().await;
    assert_eq!(near.capabilities().carrier, CarrierKind::Tcp);
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(near.capabilities().carrier, CarrierKind::Tcp);
    world.udp.restore();
    let took = carried_by(&near, CarrierKind::Udp).await;
    assert!(took <= Duration::from_secs(10), "{took:?}");
    talk(&near, &far).await;
    assert!(near.capabilities().unordered);
}

#[tokio::test(start_paused = true)]
/// spec-test: CAR-33
async fn datagrams_are_asked_for_where_the_server_was_last_and_where_it_was_found() {
    let elsewhere = SocketAddr::from(([198, 51, 100, 7], 4242));
    let (near, far) = pair();
    let (attachment, home) = (far.attachment(), SERVER.parse().unwrap());
    let streams = StreamNet::new(DELAY);
    let network = || Arc::new(streams.clone()) as Arc<dyn StreamNetwork>;
    let server = Endpoint::builder()
        .link(Box::new(far))
        .identity(Identity::generate())
        .network_monitor(attachment.monitor())
        .listen_tcp(SERVER)
        .stream_network(network());
    let near = BadLink { one_way_delay: DELAY, ..BadLink::default() }.link(near);
    let udp = near.control();
    let follow = jsp::TransportConfig { follow_server: true, ..Default::default() };
    let client = Endpoint::builder()
        .link(Box::new(near))
        .transport(follow)
        .carriers(race())
        .stream_network(network());
    let (server, client) = (server.build().unwrap(), client.build().unwrap());
    let (near, far) = meet(&client, &server, home).await;
    talk(&near, &far).await;
    let at = async |addr: SocketAddr| {
        while near.remote_addr() != addr {
            talk(&near, &far).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    attachment.move_to(elsewhere);
    at(elsewhere).await;
    // Nobody is where the server was found.
    let stands_still = async |place: SocketAddr| {
        udp.cut();
        let (carried, ()) = tokio::join!(carried_by(&near, CarrierKind::Tcp), talk(&near, &far));
        assert!(carried < Duration::from_secs(3), "{carried:?}");
        attachment.move_to(place);
        udp.restore();
        carried_by(&near, CarrierKind::Udp).await
    };
    let took = stands_still(elsewhere).await;
    assert!(took <= Duration::from_secs(6), "{took:?}");
    assert_eq!(near.remote_addr(), elsewhere);
    // Nobody is where it was last.
    let took = stands_still(home).await;
    assert!(took <= Duration::from_secs(12), "{took:?}");
    assert_eq!(near.remote_addr(), home);
}

#[tokio::test(start_paused = true)]
/// spec-test: CAR-75, CAR-13
async fn without_datagrams_a_stream_that_is_cut_is_followed_by_another() {
    let world = World::new(CarrierPolicy::Only(vec![Carrier::tcp()]));
    let (near, far) = world.meet().await;
    let network = async {
        for round in 1..=4 {
            tokio::time::sleep(Duration::from_secs(3)).await;
            world.streams.reset();
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert_eq!(world.streams.opened(), round + 1);
        }
    };
    let (there, back) = (call(&near, &far, 800), call(&far, &near, 800));
    let (there, back, ()) = tokio::join!(there, back, network);
    for gap in [there, back] {
        assert!(gap <= Duration::from_millis(500), "{gap:?}");
    }
    // Bulk that is under way, and a connection that says nothing.
    let cut = async {
        for _ in 0..2 {
            tokio::time::sleep(3 * DELAY).await;
            world.streams.reset();
        }
    };
    tokio::join!(talk(&near, &far), cut);
    world.streams.reset();
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!((world.streams.opened(), world.streams.closed()), (8, 7));
    talk(&far, &near).await;
    assert_eq!(world.udp.stats().outgoing.datagrams, 0);
}

#[tokio::test(start_paused = true)]
/// spec-test: CAR-76
async fn a_stream_that_does_not_open_does_not_hold_up_the_next() {
    let limit = Duration::from_millis(1500) + 4 * DELAY;
    let carriers = || vec![Carrier::tcp(), Carrier::tcp().port(443)];
    let world = World::blocking(2, CarrierPolicy::Race(carriers()));
    let (near, far) = world.meet().await;
    let cut = async {
        tokio::time::sleep(Duration::from_secs(3)).await;
        world.udp.cut();
        let took = carried_by(&near, CarrierKind::Tcp).await;
        assert!(took <= limit, "{took:?}");
    };
    let (there, back) = (call(&near, &far, 500), call(&far, &near, 500));
    let (there, back, ()) = tokio::join!(there, back, cut);
    for gap in [there, back] {
        assert!(gap <= limit, "{gap:?}");
    }
    // What has opened is tried first: nothing is waited for.
    let alone = World::blocking(2, CarrierPolicy::Only(carriers()));
    let pairs = [(near, far), alone.meet().await];
    for ((near, far), world) in pairs.iter().zip([&world, &alone]) {
        let cut = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            world.streams.reset();
        };
        let (gap, ()) = tokio::join!(call(near, far, 100), cut);
        assert!(gap <= Duration::from_millis(220), "{gap:?}");
    }
}
