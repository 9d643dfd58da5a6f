//! Connected endpoints to test with.
#![allow(dead_code, reason = "each test file uses its part")]

use std::time::Duration;

use jsp::emulate::{BadLink, Control, pair};
use jsp::{Builder, Connection, Endpoint, Identity, TransportConfig};

/// A server and a client with one connection between them.
pub(crate) struct Peers {
    pub(crate) server: Endpoint,
    pub(crate) client: Endpoint,
    /// The server's end.
    pub(crate) at_server: Connection,
    /// The client's end.
    pub(crate) at_client: Connection,
}

/// Over loopback UDP.
pub(crate) async fn loopback() -> Peers {
    let transport = TransportConfig::default();
    loopback_with(transport.clone(), transport).await
}

/// Over loopback UDP, with these configurations of server and client.
pub(crate) async fn loopback_with(server: TransportConfig, client: TransportConfig) -> Peers {
    let server = Endpoint::builder()
        .bind("127.0.0.1:0")
        .identity(Identity::generate())
        .transport(server)
        .build()
        .unwrap();
    let client = Endpoint::builder().transport(client).build().unwrap();
    join(server, client).await
}

/// In memory, the client behind `bad` in both directions. For tests with paused time.
pub(crate) async fn emulated(bad: BadLink) -> (Peers, Control) {
    let (near, far) = pair();
    let server = Endpoint::builder().link(Box::new(far)).identity(Identity::generate());
    let near = bad.link(near);
    let control = near.control();
    let client = Endpoint::builder().link(Box::new(near));
    (join(server.build().unwrap(), client.build().unwrap()).await, control)
}

/// A network of 60 ms round trip that loses nothing.
pub(crate) fn far() -> BadLink {
    BadLink { one_way_delay: Duration::from_millis(30), ..BadLink::default() }
}

/// Builders of a server and a client that share an in-memory link.
pub(crate) fn memory_builders() -> (Builder, Builder) {
    let (near, far) = pair();
    let server = Endpoint::builder().link(Box::new(far)).identity(Identity::generate());
    (server, Endpoint::builder().link(Box::new(near)))
}

/// Connects the two.
pub(crate) async fn join(server: Endpoint, client: Endpoint) -> Peers {
    let (addr, fingerprint) = (server.local_addr().unwrap(), server.fingerprint());
    let (at_client, at_server) = tokio::join!(client.connect(addr, fingerprint), server.accept());
    Peers { at_client: at_client.unwrap(), at_server: at_server.unwrap(), server, client }
}
