//! Several paths over real sockets: two addresses of the loopback interface.

#![cfg(target_os = "linux")]

mod peers;

use std::net::IpAddr;

use std::time::Duration;

use jsp::link::Route;
use jsp::{
    AddPathError, Builder, Connection, Endpoint, Identity, NetworkHint, PathError, PathId,
    PathInfo, PathUse, PreferredAddresses, StreamConfig, TransportConfig,
};

/// A message there and one back.
async fn talk(near: &Connection, far: &Connection) {
    let stream = near.open(StreamConfig::messages()).await.unwrap();
    stream.send("there").await.unwrap();
    let accepted = far.accept().await.unwrap();
    assert_eq!(&accepted.recv().await.unwrap().unwrap().payload[..], b"there");
    accepted.send("back").await.unwrap();
    assert_eq!(&stream.recv().await.unwrap().unwrap().payload[..], b"back");
}

/// A server at 127.0.0.1 that would rather be reached elsewhere, and a client of it.
async fn preferring(elsewhere: impl FnOnce(Builder) -> Builder) -> peers::Peers {
    let server = Endpoint::builder().bind("127.0.0.1:0").identity(Identity::generate());
    let client = Endpoint::builder().build().unwrap();
    peers::join(elsewhere(server).build().unwrap(), client).await
}

#[tokio::test]
async fn a_client_goes_to_the_address_that_its_server_prefers() {
    let own: IpAddr = [127, 0, 0, 7].into();
    let peers = preferring(|server| server.preferred_address("127.0.0.7:0")).await;
    let (server, client) = (&peers.at_server, &peers.at_client);
    let first = peers.server.local_addr().unwrap();
    // Messages are what time passes by here.
    while client.remote_addr().ip() != own {
        assert_eq!(client.remote_addr(), first);
        talk(client, server).await;
    }
    while !matches!(server.route(), Route::Udp { local: Some(local), .. } if local == own) {
        talk(client, server).await;
    }
    assert_eq!(sockets_at([127, 0, 0, 7]), 1);
    talk(client, server).await;
    talk(server, client).await;
    // A further path goes there too.
    client.add_path([127, 0, 0, 2].into()).await.unwrap();
    let leads = |path: &PathInfo| path.route.remote().unwrap().ip() == own;
    assert!(client.paths().iter().all(leads), "{:?}", client.paths());
    // Another client still finds it where all do.
    let other = Endpoint::client().unwrap();
    let (near, far) =
        tokio::join!(other.connect(first, peers.server.fingerprint()), peers.server.accept());
    talk(&near.unwrap(), &far.unwrap()).await;
}

#[tokio::test]
async fn a_client_stays_when_nobody_is_where_its_server_would_be() {
    let nobody = "127.0.0.8:9".parse().unwrap();
    let peers = preferring(|server| {
        let preferred = PreferredAddresses { v4: Some(nobody), v6: None };
        server.transport(TransportConfig { preferred, ..Default::default() })
    })
    .await;
    let (server, client) = (&peers.at_server, &peers.at_client);
    for _ in 0..20 {
        talk(client, server).await;
    }
    assert_eq!(client.remote_addr(), peers.server.local_addr().unwrap());
}

#[tokio::test]
async fn what_cannot_be_preferred_is_refused() {
    let server = || Endpoint::builder().bind("127.0.0.1:0").identity(Identity::generate());
    for refused in [
        Endpoint::builder().preferred_address("127.0.0.9:0").build(),
        server().preferred_address("0.0.0.0:0").build(),
        server().preferred_address("192.0.2.1:0").build(),
    ] {
        assert!(refused.is_err(), "{refused:?}");
    }
}

/// How many UDP sockets of this machine are bound to an IPv4 address.
fn sockets_at(address: [u8; 4]) -> usize {
    let local = format!("{:08X}:", u32::from_ne_bytes(address));
    udp_sockets().iter().filter(|(at, _)| at.starts_with(&local)).count()
}

/// Local address and inode of each UDP socket of this machine. The kernel hands the table out by pages, and leaves
/// entries out when others go meanwhile; of two readings that agree nothing went, for no inode comes again.
fn udp_sockets() -> Vec<(String, String)> {
    let read = || {
        let table = std::fs::read_to_string("/proc/net/udp").unwrap();
        let fields = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
        fields.map(|fields| (fields[1].to_owned(), fields[9].to_owned())).collect::<Vec<_>>()
    };
    let mut before = read();
    loop {
        let now = read();
        if now == before {
            return now;
        }
        before = now;
    }
}

#[tokio::test]
async fn a_second_address_takes_over_when_the_first_goes_down() {
    let peers = peers::loopback().await;
    let (server, client) = (&peers.at_server, &peers.at_client);
    let second: IpAddr = [127, 0, 0, 2].into();
    let path = client.add_path(second).await.unwrap();
    assert_eq!(path, PathId(1));
    let again = client.add_path(second).await;
    assert!(matches!(again, Err(AddPathError::Path(PathError::Exists))), "{again:?}");
    client.set_path_use(path, PathUse::Standby).unwrap();
    let stream = client.open(StreamConfig::messages()).await.unwrap();
    stream.send("by the first").await.unwrap();
    let accepted = server.accept().await.unwrap();
    assert_eq!(&accepted.recv().await.unwrap().unwrap().payload[..], b"by the first");
    assert_eq!(server.paths().len(), 2);

    client.hint_path(PathId(0), NetworkHint::InterfaceDown).unwrap();
    stream.send("by the second").await.unwrap();
    assert_eq!(&accepted.recv().await.unwrap().unwrap().payload[..], b"by the second");
    assert_eq!(client.paths()[0].id, path, "it is used first now");
    accepted.send("and back").await.unwrap();
    assert_eq!(&stream.recv().await.unwrap().unwrap().payload[..], b"and back");

    assert_eq!(client.route(), client.paths()[0].route);
    client.abandon_path(PathId(0)).unwrap();
    stream.send("alone").await.unwrap();
    assert_eq!(&accepted.recv().await.unwrap().unwrap().payload[..], b"alone");
    assert_eq!(server.route(), server.paths()[0].route);
    assert_eq!(server.remote_addr().ip(), second, "it is the client's address now");
    assert_eq!(client.abandon_path(path), Err(PathError::LastPath));
}

#[tokio::test]
async fn a_path_from_an_address_leaves_who_came_to_that_address_alone() {
    let peers = peers::loopback().await;
    let short = TransportConfig { idle_timeout: Duration::from_secs(3), ..Default::default() };
    let both = Endpoint::builder()
        .bind("0.0.0.0:0")
        .identity(Identity::generate())
        .transport(short.clone())
        .build()
        .unwrap();
    let guest = Endpoint::builder().transport(short).build().unwrap();
    let here = ([127, 0, 0, 3], both.local_addr().unwrap().port());
    let here = std::net::SocketAddr::from(here);
    let (at_guest, at_host) = tokio::join!(guest.connect(here, both.fingerprint()), both.accept());
    let (at_guest, at_host) = (at_guest.unwrap(), at_host.unwrap());
    assert!(matches!(at_host.route(), Route::Udp { local: Some(local), .. } if local == here.ip()));

    let server = peers.server.local_addr().unwrap();
    let to_server = both.connect(server, peers.server.fingerprint()).await.unwrap();
    let path = to_server.add_path(here.ip()).await.unwrap();
    talk(&at_guest, &at_host).await;
    talk(&at_host, &at_guest).await;
    let path = to_server.paths().into_iter().find(|other| other.id == path).unwrap();
    assert_eq!(path.route, Route::Udp { local: Some(here.ip()), remote: server });
}

#[tokio::test]
async fn the_socket_of_an_address_is_closed_when_the_last_path_from_there_ends() {
    let address = [127, 0, 0, 4];
    let peers = peers::loopback().await;
    let (server, client) = (&peers.at_server, &peers.at_client);
    let path = client.add_path(address.into()).await.unwrap();
    assert_eq!(sockets_at(address), 1);
    let again = client.add_path(address.into()).await;
    assert!(matches!(again, Err(AddPathError::Path(PathError::Exists))), "{again:?}");
    assert_eq!(sockets_at(address), 1);
    client.abandon_path(path).unwrap();
    talk(client, server).await;
    assert_eq!(sockets_at(address), 0);

    // Of two connections, each has its path by the one socket, as long as it is there.
    let addr = peers.server.local_addr().unwrap();
    let trust = peers.server.fingerprint();
    let other = Endpoint::builder().bind("127.0.0.1:0").identity(Identity::generate());
    let other = other.build().unwrap();
    let first = other.connect(addr, trust).await.unwrap();
    let second = other.connect(addr, trust).await.unwrap();
    let [_of_first, of_second] =
        [peers.server.accept().await.unwrap(), peers.server.accept().await.unwrap()];
    first.add_path(address.into()).await.unwrap();
    let path = second.add_path(address.into()).await.unwrap();
    assert_eq!(sockets_at(address), 1);
    first.shutdown().await;
    second.hint_path(PathId(0), NetworkHint::InterfaceDown).unwrap();
    talk(&second, &of_second).await;
    assert_eq!(second.paths()[0].id, path);
    assert_eq!(sockets_at(address), 1);
    other.shutdown().await;
    assert_eq!(sockets_at(address), 0);
}

#[tokio::test(start_paused = true)]
async fn a_path_that_can_never_be_is_refused_once_that_is_known() {
    let (server, client) = peers::memory_builders();
    let one = TransportConfig { paths_max: 1, ..Default::default() };
    let (server, client) = (server.transport(one).build().unwrap(), client.build().unwrap());
    let (addr, trust) = (server.local_addr().unwrap(), server.fingerprint());
    // Before anything is known of the server.
    let early = client.connect_early(addr, trust).await.unwrap();
    let begin = tokio::time::Instant::now();
    let refused = early.add_path([127, 0, 0, 5].into()).await;
    assert!(matches!(refused, Err(AddPathError::Path(PathError::Unsupported))), "{refused:?}");
    assert!(begin.elapsed() < Duration::from_secs(1), "{:?}", begin.elapsed());
    assert_eq!(sockets_at([127, 0, 0, 5]), 0);
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_path_hears_of_the_end_of_the_connection() {
    let (peers, network) = peers::emulated(peers::far()).await;
    network.cut();
    let address = [127, 0, 0, 6];
    let trust = peers.server.fingerprint();
    let early = peers.client.connect_early("192.0.2.2:2", trust).await.unwrap();
    let refused = early.add_path(address.into()).await;
    assert!(matches!(refused, Err(AddPathError::Connection(_))), "{refused:?}");

    let early = peers.client.connect_early("192.0.2.2:2", trust).await.unwrap();
    // Nothing comes of a call that is given up before the path could begin.
    let call = tokio::time::timeout(Duration::from_millis(500), early.add_path(address.into()));
    assert!(call.await.is_err());
    assert_eq!(sockets_at(address), 0);
    let (refused, ()) = tokio::join!(early.add_path(address.into()), async {
        tokio::task::yield_now().await;
        early.close(3, b"");
    });
    let closed = AddPathError::Connection(jsp::ConnectionError::ClosedLocally { code: 3 });
    assert_eq!(format!("{:?}", refused.unwrap_err()), format!("{closed:?}"));
}
