//! Servers of several shards, over sockets.

use std::collections::BTreeSet;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::sync::mpsc;

use crate::emulate::pair;
use crate::link::{Datagram, Link, Transmit, UdpLink};
use crate::{Builder, Connection as Dialled, Endpoint as Server, Identity, StreamConfig};

const LOCAL: &str = "127.0.0.1:0";

fn builder() -> Builder {
    Server::builder().bind(LOCAL).identity(Identity::generate())
}

/// Servers of so many shards, with the system's help and without.
fn servers(shards: usize) -> [Server; 2] {
    [builder().shards(shards), builder().unsteered_shards(shards)].map(|it| it.build().unwrap())
}

/// A client whose ids repeat, and with them the shards that they name.
fn client(number: u8) -> Server {
    Server::builder().bind(LOCAL).seed([number; 32]).build().unwrap()
}

/// Echoes what comes on all streams of all connections.
fn serve(server: &Server) {
    let server = server.clone();
    tokio::spawn(async move {
        while let Some(connection) = server.accept().await {
            tokio::spawn(async move {
                while let Ok(stream) = connection.accept().await {
                    while let Ok(Some(message)) = stream.recv().await {
                        stream.send(message.payload).await.unwrap();
                    }
                }
            });
        }
    });
}

async fn echo(connection: &Dialled, text: &str) {
    let stream = connection.open(StreamConfig::messages()).await.unwrap();
    stream.send(text).await.unwrap();
    assert_eq!(stream.recv().await.unwrap().unwrap().payload, text);
}

/// How many connections each shard has.
fn held(server: &Server) -> Vec<usize> {
    server.shards().map(|shard| shard.lock().connections.len()).collect()
}

#[tokio::test]
// spec-test: CON-120
async fn connections_are_spread_and_served_by_the_shard_that_their_ids_name() {
    for server in servers(2) {
        serve(&server);
        let address = server.local_addr().unwrap();
        let mut connections = Vec::new();
        // Their seeds spread them: as many as it takes for both shards to have some.
        for number in 0..64 {
            let client = client(number);
            connections.push(client.connect(address, server.fingerprint()).await.unwrap());
            if number >= 7 && held(&server).iter().all(|count| *count > 0) {
                break;
            }
        }
        for connection in &connections {
            echo(connection, "here").await;
        }
        let counts = held(&server);
        assert_eq!(counts.iter().sum::<usize>(), connections.len());
        assert!(counts.iter().all(|count| *count > 0), "{counts:?}");
        server.shutdown().await;
        assert!(server.accept().await.is_none());
        for connection in &connections {
            connection.closed().await;
        }
        let shards: Vec<_> = server.shards().map(Arc::downgrade).collect();
        drop(server);
        while shards.iter().any(|shard| shard.strong_count() > 0) {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn of_connections_that_ended_before_anybody_accepted_them_the_latest_are_kept() {
    let (near, far) = pair();
    let server = Server::builder().link(Box::new(far)).identity(Identity::generate());
    let server = server.build().unwrap();
    let client = Server::builder().link(Box::new(near)).build().unwrap();
    let address = server.local_addr().unwrap();
    let connect = || async { client.connect(address, server.fingerprint()).await.unwrap() };
    let first = connect().await;
    let beyond = 3;
    for number in 0..super::ENDED_MAX + beyond {
        let connection = connect().await;
        let config = StreamConfig::messages();
        connection.send_one(config, format!("{number}")).await.unwrap();
        connection.shutdown().await;
    }
    let waiting = || {
        let core = server.shard.lock();
        (core.incoming.len(), core.ended.len())
    };
    while waiting() != (super::ENDED_MAX + 1, super::ENDED_MAX) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // One that lives is not among them.
    let at_server = server.accept().await.unwrap();
    assert_eq!(at_server.error(), None);
    for number in beyond..super::ENDED_MAX + beyond {
        let connection = server.accept().await.unwrap();
        let message = connection.accept().await.unwrap().recv().await.unwrap().unwrap();
        assert_eq!(message.text(), Some(&*number.to_string()));
    }
    assert_eq!(waiting(), (0, 0));
    drop(first);
    assert!(at_server.closed().await.is_orderly());
    drop(at_server);
    assert_eq!(held(&server), [0]);
}

/// Passes datagrams on between one client and `server`, from a new port whenever it is told to.
async fn nat(server: SocketAddr) -> (SocketAddr, mpsc::Sender<()>) {
    let bind = || UdpSocket::bind((Ipv4Addr::LOCALHOST, 0));
    let (inside, mut outside) = (bind().await.unwrap(), bind().await.unwrap());
    let address = inside.local_addr().unwrap();
    let (told, mut rebind) = mpsc::channel(1);
    tokio::spawn(async move {
        let mut client = None;
        let (mut out, mut back) = ([0; 1 << 16], [0; 1 << 16]);
        loop {
            tokio::select! {
                came = inside.recv_from(&mut out) => {
                    let Ok((len, from)) = came else { continue };
                    client = Some(from);
                    let _ = outside.send_to(&out[..len], server).await;
                }
                came = outside.recv_from(&mut back) => {
                    let (Ok((len, _)), Some(client)) = (came, client) else { continue };
                    let _ = inside.send_to(&back[..len], client).await;
                }
                told = rebind.recv() => match told {
                    Some(()) => outside = bind().await.unwrap(),
                    None => return,
                },
            }
        }
    });
    (address, told)
}

#[tokio::test]
// spec-test: CON-120
async fn a_client_whose_port_changes_finds_its_shard() {
    for server in servers(4) {
        serve(&server);
        let mut shards = BTreeSet::new();
        // Kept: what a shard has forgotten in between cannot be told from what it never had.
        let mut connections = Vec::new();
        for number in 0..64 {
            let (address, rebind) = nat(server.local_addr().unwrap()).await;
            let earlier = held(&server);
            let connection = client(number).connect(address, server.fingerprint()).await.unwrap();
            echo(&connection, "from the first").await;
            let before = held(&server);
            for turn in 0..6 {
                echo(&connection, &format!("from port {turn}")).await;
                rebind.send(()).await.unwrap();
            }
            echo(&connection, "from the last").await;
            assert_eq!(held(&server), before, "nobody else has taken it up");
            shards.extend((0..4).find(|shard| before[*shard] > earlier[*shard]));
            connections.push((connection, rebind));
            if number >= 3 && shards.len() > 1 {
                break;
            }
        }
        assert!(shards.len() > 1, "one shard alone shows nothing: {shards:?}");
        server.close(0, b"");
    }
}

/// A socket that tells of nothing once a connection stands: whoever does not look, misses it.
#[derive(Debug)]
struct Silent {
    link: UdpLink,
    is_silent: Arc<AtomicBool>,
    looks: Arc<AtomicUsize>,
}

impl Link for Silent {
    fn poll_recv(&self, cx: &mut Context<'_>, inbox: &mut Vec<Datagram>) -> Poll<io::Result<()>> {
        match self.is_silent.load(Ordering::Relaxed) {
            true => Poll::Pending,
            false => self.link.poll_recv(cx, inbox),
        }
    }

    fn try_recv(&self, inbox: &mut Vec<Datagram>) -> io::Result<()> {
        self.looks.fetch_add(1, Ordering::Relaxed);
        self.link.try_recv(inbox)
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<usize> {
        self.link.try_send(transmit)
    }

    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.link.poll_writable(cx)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.link.local_addr()
    }
}

#[tokio::test]
async fn a_driver_that_polls_finds_what_nobody_tells_it_and_others_look_at_nothing() {
    let server = builder().build().unwrap();
    serve(&server);
    let address = server.local_addr().unwrap();
    let client = |busy_poll| {
        let link = UdpLink::bind(LOCAL.parse().unwrap()).unwrap();
        let (is_silent, looks) = (Arc::default(), Arc::default());
        let silent = Silent { link, is_silent: Arc::clone(&is_silent), looks: Arc::clone(&looks) };
        let builder = Server::builder().link(Box::new(silent)).busy_poll(busy_poll);
        (builder.build().unwrap(), is_silent, looks)
    };
    let (polls, is_silent, _) = client(Duration::from_secs(60));
    let connection = polls.connect(address, server.fingerprint()).await.unwrap();
    is_silent.store(true, Ordering::Relaxed);
    for text in ["one", "two", "three"] {
        echo(&connection, text).await;
    }
    let (sleeps, _, looks) = client(Duration::ZERO);
    echo(&sleeps.connect(address, server.fingerprint()).await.unwrap(), "four").await;
    assert_eq!(looks.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn what_several_shards_cannot_have_is_refused() {
    let refused = [
        builder().shards(0),
        builder().shards(65),
        Server::builder().bind(LOCAL).shards(2),
        Server::builder().identity(Identity::generate()).shards(2),
        builder().shards(2).preferred_address(LOCAL),
        builder().shards(2).obfuscation(Identity::generate().fingerprint()),
    ];
    for builder in refused {
        assert!(matches!(builder.build(), Err(crate::BindError::Config(_))));
    }
}
