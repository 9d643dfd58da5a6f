//! Who may talk to whom, and what is said when it fails.

mod peers;

use std::net::UdpSocket;
use std::sync::Arc;
use std::time::Duration;

use jsp::{
    BindError, ClientAuth, ConnectError, DelegationError, Endpoint, HandshakeError, Identity,
    IdentityCheck, IssueError, RenewError, SignatureScheme, StreamConfig, TransportConfig, Trust,
    delegate,
};
use peers::memory_builders;

fn server() -> Endpoint {
    Endpoint::server("127.0.0.1:0", Identity::generate()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_wrong_pin_is_told_with_both_fingerprints() {
    let (server, client) = memory_builders();
    let (server, client) = (server.build().unwrap(), client.build().unwrap());
    let other = Identity::generate().fingerprint();
    let started = tokio::time::Instant::now();
    let refused = client.connect(server.local_addr().unwrap(), Trust::Pinned(other)).await;
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    match refused {
        Err(ConnectError::Identity { expected, got, .. }) => {
            assert_eq!((expected, got), (other, Some(server.fingerprint())));
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn the_server_met_first_is_remembered() {
    let path = std::env::temp_dir().join(format!("jsp-known-{}", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let trust = Trust::FirstUse(path.clone());
    let first = server();
    let addr = first.local_addr().unwrap();
    let client = Endpoint::client().unwrap();
    client.connect(addr, trust.clone()).await.unwrap();
    let again = client.connect(addr, trust.clone()).await.unwrap();
    assert_eq!(again.peer_identity().unwrap().fingerprint, first.fingerprint());
    let old = first.fingerprint();
    first.shutdown().await;
    drop((first, again));

    let second = rebind(addr).await;
    let refused = client.connect(addr, trust).await;
    let _ = std::fs::remove_file(&path);
    let _ = std::fs::remove_file(path.with_extension("lock"));
    match refused {
        Err(ConnectError::Identity { expected, got, .. }) => {
            assert_eq!((expected, got), (old, Some(second.fingerprint())));
        }
        other => panic!("{other:?}"),
    }
}

/// A new server on an address that the old one is about to leave.
async fn rebind(addr: std::net::SocketAddr) -> Endpoint {
    loop {
        match Endpoint::server(addr, Identity::generate()) {
            Ok(server) => return server,
            Err(BindError::AddressInUse { .. }) => tokio::task::yield_now().await,
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test]
async fn clients_prove_who_they_are_where_asked() {
    let known = Identity::generate();
    let server = Endpoint::builder()
        .bind("127.0.0.1:0")
        .identity(Identity::generate())
        .client_auth(ClientAuth::only([known.fingerprint()]))
        .build()
        .unwrap();
    let (addr, pin) = (server.local_addr().unwrap(), server.fingerprint());
    let client = Endpoint::builder().client_identity(known.clone()).build().unwrap();
    let connection = client.connect(addr, pin).await.unwrap();
    let accepted = server.accept().await.unwrap();
    assert_eq!(accepted.peer_identity().unwrap().fingerprint, known.fingerprint());
    assert_eq!(connection.peer_identity().unwrap().fingerprint, pin);

    let nameless = Endpoint::client().unwrap().connect(addr, pin).await;
    let required = HandshakeError::ClientIdentityRequired;
    assert!(
        matches!(&nameless, Err(ConnectError::Handshake { error, .. }) if *error == required),
        "{nameless:?}"
    );
    let stranger = Endpoint::builder().client_identity(Identity::generate()).build().unwrap();
    let refused = stranger.connect(addr, pin).await;
    assert!(matches!(&refused, Err(ConnectError::Refused { .. })), "{refused:?}");
}

#[tokio::test]
async fn an_online_key_serves_under_the_pin_of_its_identity() {
    const DAY: Duration = Duration::from_secs(24 * 3600);
    let (long_term, online) = (Identity::generate(), Identity::generate());
    let delegation = delegate(long_term.signer(), online.public(), DAY).unwrap();
    let other = Identity::generate().delegated(delegation.clone());
    assert_eq!(other.err(), Some(DelegationError::OtherKey));
    let too_long = delegate(long_term.signer(), online.public(), 3 * DAY);
    assert_eq!(too_long.err(), Some(IssueError::Period));

    let pin = long_term.fingerprint();
    let until = delegation.period().1;
    let server = Endpoint::server("127.0.0.1:0", online.clone().delegated(delegation).unwrap());
    let server = server.unwrap();
    assert_eq!(server.fingerprint(), pin);
    let client = Endpoint::client().unwrap();
    let connection = client.connect(server.local_addr().unwrap(), pin).await.unwrap();
    let peer = connection.peer_identity().unwrap();
    assert_eq!((peer.fingerprint, peer.until), (pin, Some(until)));

    let at_server = server.accept().await.unwrap();
    // The next online key takes over while the connection stays.
    let next = Identity::generate();
    let delegation = delegate(long_term.signer(), next.public(), 2 * DAY).unwrap();
    let renewed_until = delegation.period().1;
    server.renew_identity(&next.delegated(delegation).unwrap()).unwrap();
    let stranger = Identity::generate();
    assert_eq!(server.renew_identity(&stranger), Err(RenewError(stranger.fingerprint())));
    assert!(client.renew_identity(&long_term).is_err());
    let second = Endpoint::client().unwrap().connect(server.local_addr().unwrap(), pin).await;
    assert_eq!(second.unwrap().peer_identity().unwrap().until, Some(renewed_until));
    let stream = connection.open(StreamConfig::chat()).await.unwrap();
    stream.send("still here").await.unwrap();
    let heard = at_server.accept().await.unwrap().recv().await.unwrap().unwrap();
    assert_eq!(heard.text(), Some("still here"));

    let bare = Endpoint::server("127.0.0.1:0", online).unwrap();
    let refused = client.connect(bare.local_addr().unwrap(), pin).await;
    assert!(matches!(refused, Err(ConnectError::Identity { .. })), "{refused:?}");
}

#[tokio::test]
async fn application_protocols_must_meet() {
    let server = Endpoint::builder()
        .bind("127.0.0.1:0")
        .identity(Identity::generate())
        .application_protocol("chat/2")
        .application_protocol("chat/1")
        .build()
        .unwrap();
    let (addr, pin) = (server.local_addr().unwrap(), server.fingerprint());
    let old = Endpoint::builder().application_protocol("chat/1").build().unwrap();
    let connection = old.connect(addr, pin).await.unwrap();
    assert_eq!(
        connection.security().unwrap().application_protocol.as_deref(),
        Some(&b"chat/1"[..])
    );
    let foreign = Endpoint::builder().application_protocol("mail/1").build().unwrap();
    assert!(foreign.connect(addr, pin).await.is_err());
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap();
    let refused = Endpoint::server(addr, Identity::generate());
    assert!(matches!(refused, Err(BindError::AddressInUse { addr: named }) if named == addr));
    let foreign = Endpoint::server("203.0.113.7:0", Identity::generate());
    assert!(matches!(foreign, Err(BindError::AddressNotAvailable { .. })));
    let nonsense = Endpoint::server("not an address", Identity::generate());
    assert!(matches!(nonsense, Err(BindError::NameNotResolved { .. })));
}

#[test]
fn without_a_runtime_there_is_an_error_and_no_panic() {
    let refused = Endpoint::server("127.0.0.1:0", Identity::generate());
    assert!(matches!(refused, Err(BindError::NoRuntime)));
}

#[tokio::test]
async fn a_name_that_does_not_resolve_is_told() {
    let client = Endpoint::client().unwrap();
    for name in ["no-such-host.invalid:4433", "no port", "127.0.0.1:99999"] {
        let refused = client.connect(name, Trust::Insecure).await;
        let told = matches!(&refused, Err(ConnectError::NameNotResolved { name: told, .. }) if told == name);
        assert!(told, "{refused:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_answering_is_a_time_out() {
    let (_server, client) = memory_builders();
    let limit = Duration::from_secs(7);
    let transport = TransportConfig { handshake_timeout: limit, ..TransportConfig::default() };
    let client = client.transport(transport).build().unwrap();
    let started = tokio::time::Instant::now();
    let pin = Identity::generate().fingerprint();
    let refused = client.connect("192.0.2.2:2", pin).await;
    assert!(matches!(refused, Err(ConnectError::Timeout { .. })), "{refused:?}");
    let took = started.elapsed();
    assert!(took >= limit && took < limit + Duration::from_secs(1), "{took:?}");
}

#[tokio::test]
async fn one_socket_listens_and_connects() {
    let (a, b) = (server(), server());
    let (to_b, at_b) =
        tokio::join!(a.connect(b.local_addr().unwrap(), b.fingerprint()), b.accept());
    let (to_a, at_a) =
        tokio::join!(b.connect(a.local_addr().unwrap(), a.fingerprint()), a.accept());
    for (near, far) in [(to_b.unwrap(), at_b.unwrap()), (to_a.unwrap(), at_a.unwrap())] {
        let stream = near.open(StreamConfig::chat()).await.unwrap();
        stream.send("hello").await.unwrap();
        let got = far.accept().await.unwrap().recv().await.unwrap().unwrap();
        assert_eq!(got.text(), Some("hello"));
    }
    let wanted = a.local_addr().unwrap().port();
    let from_a = b.connect(a.local_addr().unwrap(), a.fingerprint()).await.unwrap();
    assert_eq!(from_a.remote_addr().port(), wanted);
}

#[tokio::test]
async fn both_sides_export_the_same_secret() {
    let peers = peers::loopback().await;
    let (mut near, mut far, mut other) = ([0; 32], [0; 32], [0; 32]);
    peers.at_client.export("label", b"context", &mut near).unwrap();
    peers.at_server.export("label", b"context", &mut far).unwrap();
    peers.at_server.export("label", b"another", &mut other).unwrap();
    assert_eq!(near, far);
    assert_ne!(near, other);
}

#[test]
fn an_identity_survives_its_file() {
    let path = std::env::temp_dir().join(format!("jsp-identity-{}", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let made = Identity::load_or_generate(&path).unwrap();
    let loaded = Identity::load_or_generate(&path).unwrap();
    assert_eq!(made.fingerprint(), loaded.fingerprint());
    assert!(made.save(&path).is_err(), "a key is never replaced silently");
    let _ = std::fs::remove_file(&path);
}

#[tokio::test]
async fn a_server_may_ask_how_clients_prove_themselves() {
    let (long_term, online) = (Identity::generate(), Identity::generate());
    let hour = Duration::from_secs(3600);
    let delegation = delegate(long_term.signer(), online.public(), hour).unwrap();
    let online = online.delegated(delegation).unwrap();
    let quantum = Identity::generate_with(SignatureScheme::MlDsa65);
    let checks: [(IdentityCheck, [bool; 3]); 2] = [
        (Arc::new(|client| !client.delegated), [true, false, true]),
        (Arc::new(|client| client.is_post_quantum()), [false, false, true]),
    ];
    for (check, expected) in checks {
        let server = Endpoint::builder()
            .bind("127.0.0.1:0")
            .identity(Identity::generate())
            .client_auth(ClientAuth::Required(check))
            .build()
            .unwrap();
        let (addr, pin) = (server.local_addr().unwrap(), server.fingerprint());
        for (me, expected) in [&long_term, &online, &quantum].into_iter().zip(expected) {
            let client = Endpoint::builder().client_identity(me.clone()).build().unwrap();
            assert_eq!(client.connect(addr, pin).await.is_ok(), expected);
        }
    }
}
