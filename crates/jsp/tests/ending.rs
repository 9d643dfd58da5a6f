//! How streams, connections and endpoints end.

mod peers;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use jsp::emulate::{BadLink, MemoryLink, pair};
use jsp::link::{Datagram, Link, Transmit};
use jsp::{
    ConnectionError, Endpoint, Identity, Message, MessageFate, RecvError, SendError, StreamConfig,
};
use peers::{emulated, far, join, loopback};

#[tokio::test]
async fn the_peer_sees_code_and_reason() {
    let peers = loopback().await;
    let stream = peers.at_client.open(StreamConfig::chat()).await.unwrap();
    stream.send("x").await.unwrap();
    let at_server = peers.at_server.accept().await.unwrap();
    at_server.recv().await.unwrap();
    peers.at_server.close(42, b"enough");
    let told = ConnectionError::ClosedByPeer { code: 42, reason: "enough".into() };
    assert_eq!(peers.at_client.closed().await, told);
    assert_eq!(stream.recv().await, Err(RecvError::from(told.clone())));
    assert_eq!(stream.send("y").await, Err(SendError::from(told.clone())));
    assert_eq!(peers.at_client.accept().await.map(|_| ()), Err(told.clone()));
    assert_eq!(peers.at_client.open(StreamConfig::chat()).await.map(|_| ()), Err(told.into()));
    assert_eq!(peers.at_server.error(), Some(ConnectionError::ClosedLocally { code: 42 }));
}

#[tokio::test]
async fn codes_of_reset_and_stop_arrive() {
    let peers = loopback().await;
    let near = peers.at_client.open(StreamConfig::chat()).await.unwrap();
    near.send("x").await.unwrap();
    let far = peers.at_server.accept().await.unwrap();
    far.recv().await.unwrap();
    near.reset(7);
    assert_eq!(far.recv().await, Err(RecvError::Reset(7)));
    near.stop(9);
    let (send, _recv) = far.split();
    assert_eq!(send.closed().await, Err(SendError::Stopped(9)));
    assert_eq!(send.send("y").await, Err(SendError::Stopped(9)));
}

#[tokio::test]
async fn dropping_the_halves_finishes_and_stops() {
    let peers = loopback().await;
    let near = peers.at_client.open(StreamConfig::chat()).await.unwrap();
    near.send("last words").await.unwrap();
    drop(near);
    let (send, recv) = peers.at_server.accept().await.unwrap().split();
    assert_eq!(recv.recv().await.unwrap().unwrap().text(), Some("last words"));
    assert_eq!(recv.recv().await.unwrap(), None);
    assert_eq!(send.closed().await, Err(SendError::Stopped(0)));
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_vanishes_is_noticed() {
    let (peers, control) = emulated(far()).await;
    let stream = peers.at_client.open(StreamConfig::chat()).await.unwrap();
    stream.send("x").await.unwrap();
    peers.at_server.accept().await.unwrap().recv().await.unwrap();
    control.cut();
    let fate = stream.send_tracked("into the void").await.unwrap();
    let started = tokio::time::Instant::now();
    assert_eq!(stream.recv().await, Err(RecvError::from(ConnectionError::TimedOut)));
    let took = started.elapsed();
    assert!(took > Duration::from_secs(25) && took < Duration::from_secs(60), "{took:?}");
    assert_eq!(fate.await, MessageFate::Abandoned);
    assert_eq!(peers.at_server.closed().await, ConnectionError::TimedOut);
}

#[tokio::test(start_paused = true)]
async fn a_short_cut_loses_nothing() {
    let (peers, control) = emulated(far()).await;
    let stream = peers.at_client.open(StreamConfig::chat()).await.unwrap();
    stream.send("before").await.unwrap();
    let at_server = peers.at_server.accept().await.unwrap();
    assert_eq!(at_server.recv().await.unwrap().unwrap().text(), Some("before"));
    control.cut();
    stream.send("during").await.unwrap();
    tokio::time::sleep(Duration::from_secs(5)).await;
    control.restore();
    assert_eq!(at_server.recv().await.unwrap().unwrap().text(), Some("during"));
}

#[tokio::test(start_paused = true)]
async fn shutdown_delivers_everything_over_a_bad_link() {
    let bad = BadLink { loss: 0.1, rate: Some(10_000_000), queue: 64 << 10, seed: 5, ..far() };
    let (peers, _control) = emulated(bad).await;
    let messages = peers.at_client.open(StreamConfig::messages()).await.unwrap();
    let bytes = peers.at_client.open(StreamConfig::bytes()).await.unwrap();
    for nth in 0..200 {
        messages.send(format!("{nth}")).await.unwrap();
    }
    bytes.write_all(vec![3; 300_000]).await.unwrap();
    peers.at_client.signal("going").await.unwrap();
    let at_server = peers.at_server.clone();
    let reader = tokio::spawn(async move {
        assert_eq!(at_server.recv_signal().await.unwrap().text(), Some("going"));
        let (mut count, mut len) = (0, 0);
        for _ in 0..2 {
            let stream = at_server.accept().await.unwrap();
            if stream.info().profile.framing == jsp::Framing::Bytes {
                len = stream.read_to_end(usize::MAX).await.unwrap().len();
            } else {
                while stream.recv().await.unwrap().is_some() {
                    count += 1;
                }
            }
        }
        (count, len)
    });
    peers.client.shutdown().await;
    assert_eq!(peers.at_client.error(), Some(ConnectionError::ClosedLocally { code: 0 }));
    assert_eq!(reader.await.unwrap(), (200, 300_000));
    assert!(peers.at_server.closed().await.is_orderly());
}

#[tokio::test(start_paused = true)]
async fn dropping_the_last_handle_still_delivers_what_was_finished() {
    let (peers, _control) = emulated(far()).await;
    let stream = peers.at_client.open(StreamConfig::bytes()).await.unwrap();
    stream.write_all(vec![1; 200_000]).await.unwrap();
    drop((stream, peers.at_client, peers.client));
    let at_server = peers.at_server.accept().await.unwrap();
    assert_eq!(at_server.read_to_end(usize::MAX).await.unwrap().len(), 200_000);
    let closed = peers.at_server.closed().await;
    assert_eq!(closed, ConnectionError::ClosedByPeer { code: 0, reason: String::new() });
}

#[tokio::test(start_paused = true)]
async fn what_has_arrived_can_be_read_long_after_the_end() {
    let (peers, _control) = emulated(BadLink::default()).await;
    let stream = peers.at_client.open(StreamConfig::messages()).await.unwrap();
    stream.send("kept").await.unwrap();
    let other = peers.at_client.open(StreamConfig::bytes()).await.unwrap();
    other.write_all(b"also kept").await.unwrap();
    peers.at_client.signal("and this").await.unwrap();
    peers.at_client.shutdown().await;
    assert!(peers.at_server.closed().await.is_orderly());
    tokio::time::sleep(Duration::from_secs(600)).await;
    let first = peers.at_server.accept().await.unwrap();
    assert_eq!(first.recv().await.unwrap().unwrap().text(), Some("kept"));
    assert_eq!(first.recv().await.unwrap(), None);
    let second = peers.at_server.accept().await.unwrap();
    assert_eq!(second.read_to_end(100).await.unwrap(), b"also kept");
    assert_eq!(peers.at_server.recv_signal().await.unwrap().text(), Some("and this"));
    assert!(peers.at_server.accept().await.is_err());
    assert!(peers.at_server.recv_signal().await.is_err());
}

#[tokio::test]
async fn a_closed_endpoint_accepts_and_connects_no_more() {
    let peers = loopback().await;
    peers.server.close(3, b"maintenance");
    assert!(peers.server.accept().await.is_none());
    let told = ConnectionError::ClosedByPeer { code: 3, reason: "maintenance".into() };
    assert_eq!(peers.at_client.closed().await, told);
    let addr = peers.server.local_addr().unwrap();
    let refused = peers.server.connect(addr, jsp::Trust::Insecure).await;
    assert!(matches!(refused, Err(jsp::ConnectError::EndpointClosed)));
}

#[tokio::test(start_paused = true)]
async fn deadlines_decide_fates() {
    let bad = BadLink { rate: Some(100_000), queue: 1 << 20, ..far() };
    let (peers, _control) = emulated(bad).await;
    let config = StreamConfig {
        delivery: jsp::Delivery::Partial {
            retransmits: None,
            lifetime: Some(Duration::from_millis(300)),
        },
        ordered: false,
        send_buffer: 4 << 20,
        ..StreamConfig::messages()
    };
    let stream = peers.at_client.open(config).await.unwrap();
    let mut fates = Vec::new();
    for _ in 0..100 {
        fates.push(stream.send_tracked(vec![0; 1000]).await.unwrap());
    }
    let (mut arrived, mut expired) = (0, 0);
    for fate in fates {
        match fate.await {
            MessageFate::Acknowledged => arrived += 1,
            MessageFate::Expired => expired += 1,
            other => panic!("{other:?}"),
        }
    }
    assert!(arrived > 0 && expired > 0, "{arrived} arrived, {expired} expired");
}

#[tokio::test]
// spec-test: CON-203
async fn a_server_that_was_killed_and_started_anew_ends_what_was_before() {
    let identity = Identity::generate();
    let server =
        |at: &str| Endpoint::builder().bind(at).identity(identity.clone()).build().unwrap();
    // The first one's driver ends with its runtime, without a word.
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(1).enable_all().build().unwrap();
    let first = {
        let _inside = runtime.enter();
        server("127.0.0.1:0")
    };
    let addr = first.local_addr().unwrap();
    let client = Endpoint::client().unwrap();
    let connection = client.connect(addr, identity.fingerprint()).await.unwrap();
    let at_server = first.accept().await.unwrap();
    let killed = move || runtime.shutdown_timeout(Duration::from_secs(60));
    tokio::task::spawn_blocking(killed).await.unwrap();
    drop((at_server, first));
    let _second = server(&addr.to_string());
    let stream = connection.open(StreamConfig::chat()).await.unwrap();
    stream.send("are you there?").await.unwrap();
    assert_eq!(connection.closed().await, ConnectionError::Reset);
}

#[tokio::test(start_paused = true)]
async fn streams_that_their_opener_let_go_of_are_read_by_who_accepts_after_the_end() {
    let (peers, _control) = emulated(BadLink::default()).await;
    for text in ["first", "second"] {
        // Whoever lets go of the receiving half says that it wants no answer.
        drop(peers.at_client.send_one(StreamConfig::messages(), text).await.unwrap());
    }
    let bytes = peers.at_client.open(StreamConfig::bytes()).await.unwrap();
    bytes.write_all(b"third").await.unwrap();
    drop(bytes);
    peers.at_client.shutdown().await;
    assert!(peers.at_server.closed().await.is_orderly());
    for text in ["first", "second"] {
        let stream = peers.at_server.accept().await.unwrap();
        assert_eq!(stream.recv().await.unwrap().unwrap().text(), Some(text));
        assert_eq!(stream.recv().await.unwrap(), None);
    }
    let stream = peers.at_server.accept().await.unwrap();
    assert_eq!(stream.read_to_end(100).await.unwrap(), b"third");
    assert!(peers.at_server.accept().await.is_err());
}

#[tokio::test(start_paused = true)]
async fn what_has_arrived_is_read_although_the_link_failed() {
    let (near, far) = pair();
    let fails = Arc::new(AtomicBool::new(false));
    let link = Failing { link: far, fails: Arc::clone(&fails) };
    let server = Endpoint::builder().link(Box::new(link)).identity(Identity::generate());
    let client = Endpoint::builder().link(Box::new(near));
    let peers = join(server.build().unwrap(), client.build().unwrap()).await;
    let accepted = peers.at_client.open(StreamConfig::messages()).await.unwrap();
    let fate = accepted.send_tracked("one").await.unwrap();
    let at_server = peers.at_server.accept().await.unwrap();
    let unaccepted = peers.at_client.open(StreamConfig::messages()).await.unwrap();
    let other = unaccepted.send_tracked("two").await.unwrap();
    assert_eq!((fate.await, other.await), (MessageFate::Acknowledged, MessageFate::Acknowledged));
    fails.store(true, Ordering::Relaxed);
    accepted.send("never received").await.unwrap();
    let told = peers.at_server.closed().await;
    assert!(matches!(told, ConnectionError::Link(..)), "{told}");
    assert_eq!(at_server.recv().await.unwrap().unwrap().text(), Some("one"));
    assert_eq!(at_server.recv().await, Err(RecvError::from(told)));
    let second = peers.at_server.accept().await.unwrap();
    assert_eq!(second.recv().await.unwrap().unwrap().text(), Some("two"));
}

/// A link that receives nothing but an error once it is told so.
#[derive(Debug)]
struct Failing {
    link: MemoryLink,
    fails: Arc<AtomicBool>,
}

impl Link for Failing {
    fn poll_recv(&self, cx: &mut Context<'_>, inbox: &mut Vec<Datagram>) -> Poll<io::Result<()>> {
        match self.fails.load(Ordering::Relaxed) {
            true => Poll::Ready(Err(io::Error::other("the card was pulled"))),
            false => self.link.poll_recv(cx, inbox),
        }
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

#[tokio::test(start_paused = true)]
async fn a_message_that_is_worth_nothing_from_the_start_has_a_fate() {
    let (peers, _control) = emulated(far()).await;
    let stream = peers.at_client.open(StreamConfig::video()).await.unwrap();
    stream.send("first").await.unwrap();
    // Nothing is under way: the call sends by itself.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let fate = stream.send_tracked(Message::text("late").with_lifetime(Duration::ZERO)).await;
    let fate = tokio::time::timeout(Duration::from_secs(5), fate.unwrap()).await;
    assert_eq!(fate, Ok(MessageFate::Expired));
}

#[tokio::test(start_paused = true)]
async fn stopping_ends_the_wait_of_a_reader() {
    let (peers, _control) = emulated(far()).await;
    for config in [StreamConfig::messages(), StreamConfig::bytes()] {
        let is_bytes = config.framing == jsp::Framing::Bytes;
        let stream = peers.at_client.open(config).await.unwrap();
        let read = async {
            match is_bytes {
                true => stream.read_chunk(1).await.map(|chunk| chunk.is_none()),
                false => stream.recv().await.map(|message| message.is_none()),
            }
        };
        let stop = async { stream.stop(4) };
        // In this order: the reader waits when the stream is stopped.
        let began = tokio::time::Instant::now();
        let (waited, ()) = tokio::join!(biased; read, stop);
        assert_eq!(began.elapsed(), Duration::ZERO);
        let anew = match is_bytes {
            true => stream.read_chunk(1).await.map(|chunk| chunk.is_none()),
            false => stream.recv().await.map(|message| message.is_none()),
        };
        assert_eq!(waited, anew);
    }
}

#[tokio::test(start_paused = true)]
async fn finishing_ends_the_wait_of_a_sender() {
    let (peers, _control) = emulated(far()).await;
    let config = StreamConfig { send_buffer: 1000, ..StreamConfig::messages() };
    let stream = peers.at_client.open(config).await.unwrap();
    while stream.try_send(vec![0; 500]).is_ok() {}
    let finish = async { stream.finish() };
    let began = tokio::time::Instant::now();
    let (sent, finished) = tokio::join!(biased; stream.send(vec![0; 500]), finish);
    assert_eq!((sent, finished), (Err(SendError::Closed), Ok(())));
    assert_eq!(began.elapsed(), Duration::ZERO, "sooner than anything could be confirmed");
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_what_cannot_be_told_any_more_is_told_so() {
    let (peers, _control) = emulated(far()).await;
    let one_way = StreamConfig { unidirectional: true, ..StreamConfig::messages() };
    for config in [one_way, StreamConfig::messages()] {
        let is_told = !config.unidirectional;
        let (send, _recv) = peers.at_client.open(config).await.unwrap().split();
        send.send_last("all there is").await.unwrap();
        let waits = async {
            let began = tokio::time::Instant::now();
            let told = send.consumed(0).await;
            assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
            told
        };
        let reads = async {
            let (_send, recv) = peers.at_server.accept().await.unwrap().split();
            assert_eq!(recv.recv().await.unwrap().unwrap().text(), Some("all there is"));
            // The end is not read, and the other direction is open.
            recv.consumed(1);
            peers.at_client.closed().await
        };
        let told = tokio::select! {
            told = waits => told,
            error = reads => panic!("{error}"),
        };
        assert_eq!(told, if is_told { Ok(()) } else { Err(SendError::Closed) });
    }
    let stream = peers.at_client.open(StreamConfig::messages()).await.unwrap();
    stream.send("withdrawn").await.unwrap();
    let (send, _recv) = stream.split();
    send.reset(1);
    assert_eq!(send.consumed(0).await, Err(SendError::Closed));
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_what_a_two_way_stream_will_not_tell_any_more_is_told_so() {
    let (peers, _control) = emulated(far()).await;
    for stops in [false, true] {
        let (send, recv) = peers.at_client.open(StreamConfig::messages()).await.unwrap().split();
        send.send_last("all there is").await.unwrap();
        let (far_send, far_recv) = peers.at_server.accept().await.unwrap().split();
        assert_eq!(far_recv.recv().await.unwrap().unwrap().text(), Some("all there is"));
        assert!(far_recv.recv().await.unwrap().is_none());
        send.closed().await.unwrap();
        let began = tokio::time::Instant::now();
        let waits = send.consumed(0);
        let ends = async {
            // All of the other direction is there, and nobody has said that anything was taken.
            tokio::time::sleep(Duration::from_secs(1)).await;
            far_send.send("an answer").await.unwrap();
            if stops {
                recv.stop(1);
            }
            far_send.finish().unwrap();
            while !stops && recv.recv().await.unwrap().is_some() {}
        };
        let (told, ()) = tokio::join!(waits, ends);
        assert_eq!(told, Err(SendError::Closed));
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn a_reset_changes_no_end_that_is_known() {
    let (peers, _control) = emulated(far()).await;
    let (send, _recv) = peers.at_client.open(StreamConfig::messages()).await.unwrap().split();
    send.send_last("all there is").await.unwrap();
    send.closed().await.unwrap();
    send.reset(1);
    assert_eq!(send.closed().await, Ok(()));
    let (send, _recv) = peers.at_client.open(StreamConfig::messages()).await.unwrap().split();
    send.send("unwanted").await.unwrap();
    peers.at_server.accept().await.unwrap();
    let (_far_send, far_recv) = peers.at_server.accept().await.unwrap().split();
    far_recv.stop(7);
    assert_eq!(send.closed().await, Err(SendError::Stopped(7)));
    send.reset(1);
    assert_eq!(send.closed().await, Err(SendError::Stopped(7)));
}
