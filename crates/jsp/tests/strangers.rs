//! Clients' first datagrams, where the link keeps them apart.

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
}

#[derive(Debug)]
struct AtTheDoor(Arc<Door>);

impl Link for AtTheDoor {
    fn poll_recv(&self, _: &mut Context<'_>, _: &mut Vec<Datagram>) -> Poll<io::Result<()>> {
        Poll::Pending
    }

    fn poll_strangers(
        &self,
        cx: &mut Context<'_>,
        inbox: &mut Vec<Datagram>,
    ) -> Poll<io::Result<()>> {
        let Some(mut portion) = self.0.crowd.lock().unwrap().pop() else {
            *self.0.doorman.lock().unwrap() = Some(cx.waker().clone());
            self.0.empty.notify_one();
            return Poll::Pending;
        };
        inbox.append(&mut portion);
        Poll::Ready(Ok(()))
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
    let door = Arc::new(Door::default());
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
    timeout(Duration::from_secs(1), door.empty.notified()).await.unwrap();
    let sent = door.sent.lock().unwrap();
    let mut answered: Vec<String> = sent.iter().map(|(route, _)| route.to_string()).collect();
    answered.sort();
    answered.dedup();
    assert_eq!(answered.len(), 90);
}
