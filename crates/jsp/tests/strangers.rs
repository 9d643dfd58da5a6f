//! Clients' first datagrams, where the link keeps them apart.

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use jsp::link::{Datagram, Link, Route, Transmit};
use jsp::{Endpoint, Identity, Trust};
use tokio::sync::Notify;
use tokio::time::timeout;

/// A link on which nothing arrives but strangers.
#[derive(Debug, Default)]
struct Door {
    /// Who waits, in the portions in which they are let in.
    crowd: Mutex<Vec<Vec<Datagram>>>,
    /// Tells that nobody waits any more.
    empty: Notify,
    /// Is told when there is somebody again.
    doorman: Mutex<Option<Waker>>,
    /// What was sent.
    sent: Mutex<Vec<(Route, Vec<u8>)>>,
    /// Tells that something was.
    said: Notify,
    /// Strangers are not kept apart any more.
    is_broken: bool,
}

impl Door {
    /// The next portion, if there is one.
    fn let_in(&self, cx: &mut Context<'_>, inbox: &mut Vec<Datagram>) -> Poll<io::Result<()>> {
        let Some(mut portion) = self.crowd.lock().unwrap().pop() else {
            *self.doorman.lock().unwrap() = Some(cx.waker().clone());
            self.empty.notify_one();
            return Poll::Pending;
        };
        inbox.append(&mut portion);
        Poll::Ready(Ok(()))
    }
}

#[derive(Debug)]
struct AtTheDoor(Arc<Door>);

impl Link for AtTheDoor {
    fn poll_recv(&self, cx: &mut Context<'_>, inbox: &mut Vec<Datagram>) -> Poll<io::Result<()>> {
        if self.0.is_broken { self.0.let_in(cx, inbox) } else { Poll::Pending }
    }

    fn poll_strangers(
        &self,
        cx: &mut Context<'_>,
        inbox: &mut Vec<Datagram>,
    ) -> Poll<io::Result<()>> {
        if self.0.is_broken {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        self.0.let_in(cx, inbox)
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<usize> {
        let datagrams = transmit.contents.chunks(transmit.segment_len);
        let sent = datagrams.map(|datagram| (transmit.route, datagram.to_vec()));
        self.0.sent.lock().unwrap().extend(sent);
        self.0.said.notify_one();
        Ok(transmit.contents.len())
    }

    fn poll_writable(&self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok("192.0.2.1:1".parse().unwrap())
    }
}

/// The datagrams of a client's hello to a server.
async fn hello(server: &Endpoint) -> Vec<Vec<u8>> {
    let door = Arc::new(Door::default());
    let client = Endpoint::builder().link(Box::new(AtTheDoor(Arc::clone(&door)))).build().unwrap();
    let trust = Trust::Pinned(server.fingerprint());
    let connecting = client.connect("192.0.2.1:1", trust);
    tokio::select! {
        _ = connecting => panic!("nobody answers"),
        () = door.said.notified() => {}
    }
    let sent = door.sent.lock().unwrap();
    sent.iter().map(|(_, datagram)| datagram.clone()).collect()
}

// spec-test: CON-80
#[tokio::test(start_paused = true)]
async fn all_who_wait_are_let_in_though_nothing_else_wakes_the_driver() {
    let_a_crowd_in(Arc::default()).await;
}

#[tokio::test(start_paused = true)]
async fn a_door_for_strangers_that_fails_does_not_end_the_endpoint() {
    let_a_crowd_in(Arc::new(Door { is_broken: true, ..Door::default() })).await;
}

async fn let_a_crowd_in(door: Arc<Door>) {
    let server = Endpoint::builder()
        .link(Box::new(AtTheDoor(Arc::clone(&door))))
        .identity(Identity::generate())
        .without_network_monitor()
        .build()
        .unwrap();
    // The driver finds nobody, and sleeps.
    timeout(Duration::from_secs(1), door.empty.notified()).await.unwrap();
    let hello = hello(&server).await;
    let from = |n: usize, payload: &[u8]| Datagram {
        route: Route::udp(format!("198.51.100.{n}:7").parse().unwrap()),
        ecn: None,
        payload: payload.into(),
    };
    let client = |n: usize| hello.iter().map(|datagram| from(n, datagram)).collect::<Vec<_>>();
    let portions = [1, 31, 61].map(|first| (first..first + 30).flat_map(client).collect());
    *door.crowd.lock().unwrap() = portions.to_vec();
    door.doorman.lock().unwrap().take().unwrap().wake();
    let answered = || {
        let sent = door.sent.lock().unwrap();
        sent.iter().map(|(route, _)| route.to_string()).collect::<BTreeSet<_>>().len()
    };
    while answered() < 90 {
        timeout(Duration::from_secs(1), door.said.notified()).await.expect("all are answered");
    }
}
