//! Several paths over real sockets: two addresses of the loopback interface.

#![cfg(target_os = "linux")]

mod peers;

use std::net::IpAddr;

use jsp::{AddPathError, NetworkHint, PathError, PathId, PathUse, StreamConfig};

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
