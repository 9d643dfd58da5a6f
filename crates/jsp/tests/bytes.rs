//! Byte streams: large, in both directions, through tokio's traits, many at once.

mod peers;

use std::io::IoSlice;

use bytes::Bytes;
use jsp::{RecvError, RecvStream, SendStream, StreamConfig};
use peers::loopback;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Bytes that differ everywhere, made as they are needed.
fn piece(nth: u64, len: usize) -> Vec<u8> {
    (0..len as u64).map(|i| ((nth * 7919 + i).wrapping_mul(0x9e37_79b9) >> 13) as u8).collect()
}

async fn send_hashed(send: SendStream, pieces: u64, len: usize) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    for nth in 0..pieces {
        let data = piece(nth, len);
        hasher.update(&data);
        send.write_all(data).await.unwrap();
    }
    send.finish().unwrap();
    send.closed().await.unwrap();
    hasher.finalize()
}

async fn recv_hashed(recv: RecvStream) -> (blake3::Hash, u64) {
    let mut hasher = blake3::Hasher::new();
    let mut total = 0;
    while let Some(chunk) = recv.read_chunk(usize::MAX).await.unwrap() {
        hasher.update(&chunk);
        total += chunk.len() as u64;
    }
    (hasher.finalize(), total)
}

/// The same, many pieces at once.
async fn recv_many_hashed(recv: RecvStream) -> (blake3::Hash, u64) {
    let (mut hasher, mut total, mut chunks) = (blake3::Hasher::new(), 0, Vec::new());
    while let len @ 1.. = recv.read_chunks(&mut chunks, 100_000).await.unwrap() {
        assert_eq!(chunks.iter().map(Bytes::len).sum::<usize>(), len);
        assert!(len <= 100_000);
        for chunk in chunks.drain(..) {
            hasher.update(&chunk);
        }
        total += len as u64;
    }
    (hasher.finalize(), total)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_megabytes_arrive_unchanged_in_both_directions() {
    const PIECE: usize = 1 << 20;
    const PIECES: u64 = 100;
    let peers = loopback().await;
    let near = peers.at_client.open(StreamConfig::bytes()).await.unwrap();
    near.write_all(b"").await.unwrap();
    let (near_send, near_recv) = near.split();
    let down = tokio::spawn(recv_hashed(near_recv));
    let up = tokio::spawn(send_hashed(near_send, PIECES, PIECE));
    let far = peers.at_server.accept().await.unwrap();
    let (far_send, far_recv) = far.split();
    let far_down = tokio::spawn(send_hashed(far_send, PIECES, PIECE));
    let far_up = tokio::spawn(recv_many_hashed(far_recv));
    let total = PIECES * PIECE as u64;
    assert_eq!(far_up.await.unwrap(), (up.await.unwrap(), total));
    assert_eq!(down.await.unwrap(), (far_down.await.unwrap(), total));
}

#[tokio::test]
async fn tokio_copies_through_a_stream() {
    let peers = loopback().await;
    let mut near = peers.at_client.open(StreamConfig::bytes()).await.unwrap();
    let data = piece(1, 3_000_000);
    let echo = async {
        let (send, recv) = peers.at_server.accept().await.unwrap().split();
        let (mut send, mut recv) = (send, recv);
        tokio::io::copy(&mut recv, &mut send).await.unwrap();
        send.shutdown().await.unwrap();
    };
    let talk = async {
        let (send, recv) = near.halves();
        let write = async {
            AsyncWriteExt::write_all(send, &data).await.unwrap();
            AsyncWriteExt::shutdown(send).await.unwrap();
        };
        let mut back = Vec::new();
        let read = AsyncReadExt::read_to_end(recv, &mut back);
        tokio::join!(write, read).1.unwrap();
        back
    };
    let (back, ()) = tokio::join!(talk, echo);
    assert!(back == data);
}

#[tokio::test]
async fn chunks_and_vectored_writes_join_up() {
    let peers = loopback().await;
    let near = peers.at_client.open(StreamConfig::bytes()).await.unwrap();
    let (send, _recv) = near.split();
    let slices = [IoSlice::new(b"one "), IoSlice::new(b"two ")];
    assert_eq!(send.write_vectored(&slices).await.unwrap(), 8);
    let mut chunks = vec![Bytes::from_static(b"three "), Bytes::from_static(b"four")];
    send.write_chunks(&mut chunks).await.unwrap();
    assert!(chunks.is_empty());
    send.finish().unwrap();
    let far = peers.at_server.accept().await.unwrap();
    let mut start = [0; 4];
    let (_send, recv) = far.split();
    assert!(recv.read_exact(&mut start).await.unwrap());
    assert_eq!(&start, b"one ");
    assert_eq!(recv.read_to_end(100).await.unwrap(), b"two three four");
    assert_eq!(recv.read(&mut start).await, Ok(0));
}

#[tokio::test]
async fn a_stream_beyond_the_limit_is_refused() {
    let peers = loopback().await;
    let near = peers.at_client.open(StreamConfig::bytes()).await.unwrap();
    near.write_all(vec![1; 1001]).await.unwrap();
    near.finish().unwrap();
    let far = peers.at_server.accept().await.unwrap();
    assert_eq!(far.read_to_end(1000).await, Err(RecvError::TooLong { limit: 1000 }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_streams_each_carry_their_own() {
    const STREAMS: u64 = 10_000;
    let peers = loopback().await;
    let at_client = peers.at_client.clone();
    let sender = tokio::spawn(async move {
        for nth in 0..STREAMS {
            let text = format!("message {nth}");
            at_client.send_one(StreamConfig::messages(), text).await.unwrap();
        }
    });
    let mut seen = vec![false; STREAMS as usize];
    for _ in 0..STREAMS {
        let stream = peers.at_server.accept().await.unwrap();
        let message = stream.recv().await.unwrap().unwrap();
        let nth: usize = message.text().unwrap()["message ".len()..].parse().unwrap();
        assert!(!std::mem::replace(&mut seen[nth], true), "message {nth} came twice");
        assert_eq!(stream.recv().await.unwrap(), None);
    }
    sender.await.unwrap();
}

#[tokio::test]
async fn a_read_of_nothing_waits_for_something() {
    let peers = loopback().await;
    let near = peers.at_client.open(StreamConfig::bytes()).await.unwrap();
    near.write_all(b"abc").await.unwrap();
    near.finish().unwrap();
    let (_send, far) = peers.at_server.accept().await.unwrap().split();
    assert_eq!(far.read_chunk(0).await.unwrap().as_deref(), Some(&b"a"[..]));
    let mut chunks = Vec::new();
    assert!(far.read_chunks(&mut chunks, 0).await.unwrap() > 0);
    let mut got = chunks.concat();
    got.extend(far.read_to_end(10).await.unwrap());
    assert_eq!(got, b"bc");
    assert_eq!(far.read_chunks(&mut chunks, 0).await.unwrap(), 0);
}
