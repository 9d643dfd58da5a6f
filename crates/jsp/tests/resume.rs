//! Tickets kept and used by endpoints, and early data.

mod peers;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use jsp::emulate::{BadLink, pair};
use jsp::{
    Builder, ClientAuth, ClientTicket, ConnectError, Connection, Endpoint, HandshakeError,
    Identity, Message, Mode, RegisterStore, StreamConfig, TicketStore, Trust,
};
use peers::memory_builders;

/// A store that can be looked into, and waited for.
#[derive(Default)]
struct Shelf {
    tickets: Mutex<Vec<(String, ClientTicket)>>,
    arrived: tokio::sync::Notify,
}

impl TicketStore for Shelf {
    fn put(&self, server: &str, ticket: ClientTicket) {
        self.tickets.lock().unwrap().push((server.to_owned(), ticket));
        self.arrived.notify_one();
    }

    fn take(&self, server: &str) -> Option<ClientTicket> {
        let mut tickets = self.tickets.lock().unwrap();
        let place = tickets.iter().position(|(name, _)| name == server)?;
        Some(tickets.remove(place).1)
    }
}

/// A server that answers each message by the same with an exclamation mark.
fn echo(server: &Endpoint) {
    let server = server.clone();
    tokio::spawn(async move {
        while let Some(connection) = server.accept().await {
            tokio::spawn(async move {
                while let Ok(stream) = connection.accept().await {
                    while let Ok(Some(message)) = stream.recv().await {
                        let text = format!("{}!", message.text().unwrap());
                        if stream.send(text).await.is_err() {
                            return;
                        }
                    }
                }
            });
        }
    });
}

async fn with_ticket(server: Builder, client: Builder) -> (Endpoint, Endpoint, Arc<Shelf>) {
    let shelf = Arc::new(Shelf::default());
    let (server, client) =
        (server.build().unwrap(), client.tickets(shelf.clone()).build().unwrap());
    echo(&server);
    let connection =
        client.connect(server.local_addr().unwrap(), server.fingerprint()).await.unwrap();
    assert_eq!(connection.security().unwrap().mode, Mode::Full);
    shelf.arrived.notified().await;
    (server, client, shelf)
}

async fn ask(connection: &Connection, config: StreamConfig, text: &str) -> String {
    let stream = connection.open(config).await.unwrap();
    stream.send(Message::from(text)).await.unwrap();
    stream.recv().await.unwrap().unwrap().text().unwrap().to_owned()
}

#[tokio::test(start_paused = true)]
async fn the_second_connection_is_resumed_and_the_server_is_the_same() {
    let (server, client) = memory_builders();
    let (server, client, shelf) = with_ticket(server, client).await;
    let addr = server.local_addr().unwrap();
    let connection = client.connect(addr, server.fingerprint()).await.unwrap();
    let security = connection.security().unwrap();
    assert_eq!((security.mode, security.early_data), (Mode::Resumed, false));
    assert_eq!(connection.peer_identity().unwrap().fingerprint, server.fingerprint());
    assert_eq!(ask(&connection, StreamConfig::messages(), "hello").await, "hello!");
    shelf.arrived.notified().await;
    assert!(connection.security().unwrap().hybrid && connection.security().unwrap().post_quantum);
    // Who trusts more easily, or somebody else, is not let in by that ticket.
    let connection = client.connect(addr, Trust::Insecure).await.unwrap();
    assert_eq!(connection.security().unwrap().mode, Mode::Full);
}

#[tokio::test(start_paused = true)]
async fn early_data_go_with_the_first_datagram_where_there_is_a_ticket() {
    let (server, client) = memory_builders();
    let (server, client, shelf) = with_ticket(server, client).await;
    let addr = server.local_addr().unwrap();
    let connection = client.connect_early(addr, server.fingerprint()).await.unwrap();
    let config = StreamConfig::messages().replay_safe();
    assert_eq!(ask(&connection, config.clone(), "early").await, "early!");
    connection.connected().await.unwrap();
    let security = connection.security().unwrap();
    assert_eq!((security.mode, security.early_data), (Mode::Resumed, true));
    assert_eq!(ask(&connection, StreamConfig::messages(), "later").await, "later!");
    // Without a ticket the same program works; what it sends goes when it can.
    shelf.tickets.lock().unwrap().clear();
    let connection = client.connect_early(addr, server.fingerprint()).await.unwrap();
    assert_eq!(ask(&connection, config, "patient").await, "patient!");
    connection.connected().await.unwrap();
    assert_eq!(connection.security().unwrap().mode, Mode::Full);
}

// A client is connected a round trip before that is confirmed: some begin to wait between.
#[tokio::test(start_paused = true)]
async fn all_who_wait_for_the_confirmation_hear_of_it() {
    let (peers, _network) = peers::emulated(peers::far()).await;
    let trust = peers.server.fingerprint();
    let early = peers.client.connect_early("192.0.2.2:2", trust).await.unwrap();
    let confirmed = |connection: Connection| async move { connection.handshake_confirmed().await };
    let first = tokio::spawn(confirmed(early.clone()));
    tokio::task::yield_now().await;
    early.connected().await.unwrap();
    let second = tokio::spawn(confirmed(early.clone()));
    for waiter in [first, second] {
        let heard = tokio::time::timeout(Duration::from_secs(5), waiter).await;
        heard.expect("it is confirmed").unwrap().unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn an_early_connection_to_the_wrong_server_says_so() {
    let (server, client) = memory_builders();
    let (server, client) = (server.build().unwrap(), client.build().unwrap());
    let other = Identity::generate().fingerprint();
    let connection = client.connect_early(server.local_addr().unwrap(), other).await.unwrap();
    let refused = connection.connected().await;
    let is_told = matches!(refused, Err(ConnectError::Identity { expected, got: None, .. }) if expected == other);
    assert!(is_told, "{refused:?}");
}

#[tokio::test(start_paused = true)]
async fn requirements_are_enforced_before_anything_is_sent() {
    let (server, client) = memory_builders();
    let (server, client) = (server.build().unwrap(), client.require_pin().require_pq());
    let client = client.build().unwrap();
    let addr = server.local_addr().unwrap();
    match client.connect(addr, Trust::Insecure).await {
        Err(ConnectError::Handshake { error: HandshakeError::PinRequired, .. }) => {}
        other => panic!("{other:?}"),
    }
    let connection = client.connect(addr, server.fingerprint()).await.unwrap();
    assert!(connection.security().unwrap().post_quantum);
}

#[tokio::test(start_paused = true)]
async fn an_early_client_is_nobody_until_the_handshake_is_confirmed() {
    let (near, far) = pair();
    let server = Endpoint::builder()
        .link(Box::new(far))
        .identity(Identity::generate())
        .client_auth(ClientAuth::required())
        .build()
        .unwrap();
    let near =
        BadLink { one_way_delay: Duration::from_millis(30), ..BadLink::default() }.link(near);
    let (shelf, me) = (Arc::new(Shelf::default()), Identity::generate());
    let client = Endpoint::builder()
        .link(Box::new(near))
        .client_identity(me.clone())
        .tickets(shelf.clone())
        .build()
        .unwrap();
    let (addr, pin) = (server.local_addr().unwrap(), server.fingerprint());
    let (first, accepted) = tokio::join!(client.connect(addr, pin), server.accept());
    let (_first, accepted) = (first.unwrap(), accepted.unwrap());
    accepted.handshake_confirmed().await.unwrap();
    assert_eq!(accepted.peer_identity().unwrap().fingerprint, me.fingerprint());
    shelf.arrived.notified().await;
    let connection = client.connect_early(addr, pin).await.unwrap();
    assert!(connection.security().is_none() && connection.peer_identity().is_none());
    let stream = connection.open(StreamConfig::messages().replay_safe()).await.unwrap();
    stream.send("early").await.unwrap();
    let accepted = server.accept().await.unwrap();
    let early = accepted.accept().await.unwrap().recv().await.unwrap().unwrap();
    assert_eq!(early.text(), Some("early"));
    assert!(accepted.peer_identity().is_none() && accepted.security().unwrap().early_data);
    let before = tokio::time::Instant::now();
    accepted.handshake_confirmed().await.unwrap();
    assert!(before.elapsed() >= Duration::from_millis(60), "a round trip");
    assert_eq!(accepted.peer_identity().unwrap().fingerprint, me.fingerprint());
    connection.handshake_confirmed().await.unwrap();
    accepted.close(7, b"");
    connection.closed().await;
    assert!(connection.handshake_confirmed().await.is_err());
    assert!(connection.security().is_some() && accepted.peer_identity().is_some());
}

/// A store that counts.
#[derive(Default)]
struct Drawer {
    register: Mutex<Option<Vec<u8>>>,
    taken: Mutex<usize>,
    put: Mutex<usize>,
}

impl RegisterStore for Drawer {
    fn take(&self) -> Option<Vec<u8>> {
        *self.taken.lock().unwrap() += 1;
        self.register.lock().unwrap().take()
    }

    fn put(&self, register: Vec<u8>) {
        *self.put.lock().unwrap() += 1;
        *self.register.lock().unwrap() = Some(register);
    }
}

#[tokio::test(start_paused = true)]
async fn the_register_is_taken_once_and_kept_once_however_the_server_ends() {
    let drawer = Arc::new(Drawer::default());
    // The machine itself says whether what was kept is of use; spoilt or not, it is gone.
    *drawer.register.lock().unwrap() = Some(b"nothing of the kind".to_vec());
    for (round, end) in ["closed", "shut down", "dropped"].into_iter().enumerate() {
        let (server, _) = memory_builders();
        let server = server.share_tickets([3; 32], 41_000, 0).keep_register(drawer.clone());
        let server = server.build().unwrap();
        assert_eq!(*drawer.taken.lock().unwrap(), round + 1);
        assert!(drawer.register.lock().unwrap().is_none());
        let other = server.clone();
        match end {
            "closed" => server.close(0, b""),
            "shut down" => server.shutdown().await,
            _ => {}
        }
        drop(other);
        drop(server);
        assert_eq!(*drawer.put.lock().unwrap(), round + 1, "{end}");
        assert!(drawer.register.lock().unwrap().as_ref().unwrap().starts_with(b"JSPREG2"));
    }
    let (server, _) = memory_builders();
    drop(server.keep_register(drawer.clone()).build().unwrap());
    assert_eq!((*drawer.taken.lock().unwrap(), *drawer.put.lock().unwrap()), (3, 3));
}

#[tokio::test]
// spec-test: CON-120
async fn any_shard_of_a_server_takes_early_data() {
    let server = Endpoint::builder().bind("127.0.0.1:0").identity(Identity::generate()).shards(4);
    let (server, client, shelf) = with_ticket(server, Endpoint::builder()).await;
    let addr = server.local_addr().unwrap();
    for _ in 0..6 {
        let connection = client.connect_early(addr, server.fingerprint()).await.unwrap();
        let config = StreamConfig::messages().replay_safe();
        assert_eq!(ask(&connection, config, "soon").await, "soon!");
        connection.connected().await.unwrap();
        assert!(connection.security().unwrap().early_data);
        shelf.arrived.notified().await;
    }
}
