//! A session between two peers that a coordinator brings together.

use std::sync::{Arc, Mutex};

use jsp::rendezvous::{CallError, Peer, Policy};
use jsp::{Connection, Endpoint, Fingerprint, Identity, StreamConfig};
use jsp_server::{Config, Daemon};
use jsp_session::{Event, Session, SessionConfig, Sessions};

fn peer() -> (Peer, Fingerprint) {
    let identity = Identity::generate();
    let name = identity.fingerprint();
    (Peer::build(Endpoint::builder().identity(identity), Policy::RelayOnly).unwrap(), name)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_between_peers_outlives_its_connections() {
    let config = Config { bind: "127.0.0.1:0".to_owned(), ..Config::default() };
    let daemon = Arc::new(Daemon::start_as(&config, Identity::generate()).unwrap());
    let (at, coordinator) = (daemon.local_addr().unwrap(), daemon.fingerprint());
    let serving = Arc::clone(&daemon);
    tokio::spawn(async move { serving.serve().await });

    let (callee, friend) = peer();
    let _registered = callee.register(at, coordinator).await.unwrap();
    let sessions = Sessions::new(SessionConfig::default());
    let attending = sessions.clone();
    tokio::spawn(async move {
        while let Some(connection) = callee.accept().await {
            let sessions = attending.clone();
            tokio::spawn(async move { sessions.attend(connection).await });
        }
    });

    let (caller, _) = peer();
    let registration = Arc::new(caller.register(at, coordinator).await.unwrap());
    let made = Arc::new(Mutex::new(Vec::<Connection>::new()));
    let noted = Arc::clone(&made);
    let connect = move || {
        let (registration, noted) = (Arc::clone(&registration), Arc::clone(&noted));
        async move {
            let connection = registration.connect(friend).await?;
            noted.lock().unwrap().push(connection.clone());
            Ok::<_, CallError>(connection)
        }
    };
    let session = Session::connect_by(connect, SessionConfig::default()).await.unwrap();
    let here = session.open("letters", StreamConfig::messages()).await.unwrap();
    here.send("one").await.unwrap();
    let there = sessions.accept().await.unwrap().accept().await.unwrap();
    assert_eq!(there.recv().await.unwrap().unwrap().payload, "one");
    assert_eq!(session.event().await, Some(Event::Started));

    made.lock().unwrap()[0].close(0, b"the network is gone");
    assert_eq!(session.event().await, Some(Event::Suspended));
    here.send("two").await.unwrap();
    assert_eq!(session.event().await, Some(Event::Resumed));
    assert_eq!(there.recv().await.unwrap().unwrap().payload, "two");
    assert_eq!(made.lock().unwrap().len(), 2);
    daemon.shutdown().await;
}
