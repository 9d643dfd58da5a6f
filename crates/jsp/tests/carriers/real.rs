//! Streams of the system: TCP, TLS, WebSocket, and how many a server takes.

use super::*;

#[tokio::test]
/// spec-test: CAR-1, CAR-3
async fn everything_goes_over_tcp() {
    let server = Endpoint::builder()
        .identity(Identity::generate())
        .listen_tcp("127.0.0.1:0")
        .build()
        .unwrap();
    let (kind, addr) = server.carrier_addrs()[0];
    assert_eq!((kind, addr), (CarrierKind::Tcp, server.local_addr().unwrap()));
    let policy = CarrierPolicy::Only(vec![Carrier::tcp()]);
    let client = Endpoint::builder().carriers(policy).build().unwrap();
    let (near, far) = meet(&client, &server, addr).await;
    assert_eq!(near.remote_addr(), addr);
    for connection in [&near, &far] {
        let can = connection.capabilities();
        assert_eq!((can.carrier, can.reliable, can.unordered), (CarrierKind::Tcp, true, false));
        assert_eq!(can.datagram_len, 1452);
    }
    talk(&near, &far).await;
    let refused = near.add_path([127, 0, 0, 5].into()).await;
    assert!(matches!(refused, Err(AddPathError::NotPlain)), "{refused:?}");
    near.close(7, b"enough");
    assert!(matches!(far.closed().await, jsp::ConnectionError::ClosedByPeer { code: 7, .. }));
    server.shutdown().await;
}

#[tokio::test]
/// spec-test: CAR-8
async fn idle_streams_of_one_network_leave_room_for_others_connections() {
    let server = Endpoint::builder()
        .identity(Identity::generate())
        .listen_tcp("127.0.0.1:0")
        .build()
        .unwrap();
    let addr = server.local_addr().unwrap();
    let policy = CarrierPolicy::Only(vec![Carrier::tcp()]);
    let client = Endpoint::builder().carriers(policy).build().unwrap();
    let (near, far) = meet(&client, &server, addr).await;
    let mut idle = Vec::new();
    for _ in 0..32 {
        idle.push(TcpStream::connect(addr).await.unwrap());
    }
    // One more is closed without a word.
    let mut more = TcpStream::connect(addr).await.unwrap();
    assert_eq!(more.read(&mut [0; 8]).await.unwrap_or(0), 0);
    talk(&near, &far).await;
    // Those that leave make room.
    drop(idle);
    loop {
        let trust = server.fingerprint();
        match tokio::join!(client.connect(addr, trust), tokio::task::yield_now()).0 {
            Ok(_) => break,
            Err(ConnectError::Ended { .. } | ConnectError::Carrier { .. }) => {}
            Err(other) => panic!("{other}"),
        }
    }
}

#[tokio::test]
/// spec-test: CAR-19
async fn streams_of_established_connections_are_bounded_and_make_room_when_they_end() {
    let server = Endpoint::builder()
        .identity(Identity::generate())
        .bind("127.0.0.1:0")
        .listen_tcp("127.0.0.1:0")
        .carriers_max(1)
        .build()
        .unwrap();
    let addr = server.carrier_addrs()[0].1;
    let policy = CarrierPolicy::Only(vec![Carrier::tcp()]);
    let client = Endpoint::builder().carriers(policy).build().unwrap();
    let (near, far) = meet(&client, &server, addr).await;
    // The client may take it for made before the server has refused it.
    let why = match client.connect(addr, server.fingerprint()).await {
        Ok(connection) => connection.closed().await,
        Err(ConnectError::Ended { error, .. }) => error,
        Err(other) => panic!("{other}"),
    };
    assert!(why.to_string().contains("as many connections by streams"), "{why}");
    talk(&near, &far).await;
    // Datagrams need no place.
    let plain = Endpoint::client().unwrap();
    let (by_udp, at_server) = meet(&plain, &server, server.local_addr().unwrap()).await;
    talk(&by_udp, &at_server).await;

    near.close(0, b"");
    far.closed().await;
    loop {
        if let Ok(connection) = client.connect(addr, server.fingerprint()).await {
            let accepted = tokio::select! {
                _ = connection.closed() => continue,
                accepted = server.accept() => accepted.unwrap(),
            };
            talk(&connection, &accepted).await;
            break;
        }
    }
}

#[cfg(feature = "tls")]
#[tokio::test]
/// spec-test: CAR-16
async fn everything_goes_over_tls() {
    use jsp::carrier::{TlsClient, TlsServer};

    let server = Endpoint::builder()
        .identity(Identity::generate())
        .listen_tls("127.0.0.1:0", TlsServer::self_signed(["example.test"]).unwrap())
        .build()
        .unwrap();
    let tls = TlsClient::new().server_name("example.test");
    let policy = CarrierPolicy::Only(vec![Carrier::tls(tls)]);
    let client = Endpoint::builder().carriers(policy).build().unwrap();
    let (near, far) = meet(&client, &server, server.local_addr().unwrap()).await;
    assert_eq!(near.capabilities().carrier, CarrierKind::Tls);
    talk(&near, &far).await;
}

#[cfg(feature = "websocket")]
#[tokio::test]
/// spec-test: CAR-17, CAR-18
async fn everything_goes_over_websocket() {
    let server = Endpoint::builder()
        .identity(Identity::generate())
        .listen_websocket("127.0.0.1:0")
        .build()
        .unwrap();
    let policy = CarrierPolicy::Only(vec![Carrier::websocket("/a/path")]);
    let client = Endpoint::builder().carriers(policy).build().unwrap();
    let (near, far) = meet(&client, &server, server.local_addr().unwrap()).await;
    assert_eq!(near.capabilities().carrier, CarrierKind::WebSocket);
    talk(&near, &far).await;
}

#[cfg(all(feature = "tls", feature = "websocket"))]
#[tokio::test]
async fn everything_goes_over_websocket_inside_tls() {
    use jsp::carrier::{TlsClient, TlsServer};

    let server = Endpoint::builder()
        .identity(Identity::generate())
        .listen_websocket_tls("127.0.0.1:0", TlsServer::self_signed(["example.test"]).unwrap())
        .build()
        .unwrap();
    let policy = CarrierPolicy::Only(vec![Carrier::websocket_tls(TlsClient::new(), "/")]);
    let client = Endpoint::builder().carriers(policy).build().unwrap();
    let (near, far) = meet(&client, &server, server.local_addr().unwrap()).await;
    talk(&near, &far).await;
}
