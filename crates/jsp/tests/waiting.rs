//! Back-pressure, and giving up waiting.

mod peers;

use std::pin::pin;

use jsp::{SendError, StreamConfig, TransportConfig};
use peers::{loopback, loopback_with};

#[tokio::test]
async fn a_reader_that_does_not_read_stops_its_sender() {
    let window = 256 << 10;
    let small = TransportConfig {
        stream_window: window,
        stream_window_max: window,
        connection_window: 2 * window,
        connection_window_max: 2 * window,
        ..TransportConfig::default()
    };
    let peers = loopback_with(small, TransportConfig::default()).await;
    let config = StreamConfig { send_buffer: 128 << 10, ..StreamConfig::messages() };
    let near = peers.at_client.open(config).await.unwrap();
    let payload = vec![7u8; 10_000];
    let mut sent = 0u64;
    loop {
        match near.try_send(&payload[..]) {
            Ok(_) => sent += 1,
            Err(SendError::Full) => {
                // It may make room again, until nothing is under way any more.
                let stats = peers.at_client.stats();
                if stats.bytes_in_flight == 0 && near.try_send(&payload[..]).is_err() {
                    break;
                }
                tokio::task::yield_now().await;
            }
            Err(error) => panic!("{error}"),
        }
    }
    let held = sent * 10_000;
    assert!(held <= window + (128 << 10) + 40_000, "{held} bytes were taken");
    let mut waits = Box::pin(near.send(&payload[..]));
    assert!(futures_pending(&mut waits).await, "a send must wait now");

    let far = peers.at_server.accept().await.unwrap();
    let reader = tokio::spawn(async move {
        let mut count = 0;
        while let Some(message) = far.recv().await.unwrap() {
            assert_eq!(message.number, count);
            count += 1;
        }
        count
    });
    assert_eq!(waits.await, Ok(sent));
    near.finish().unwrap();
    assert_eq!(reader.await.unwrap(), sent + 1);
}

/// Polls once.
async fn futures_pending<F: Future + Unpin>(future: &mut F) -> bool {
    std::future::poll_fn(|cx| {
        std::task::Poll::Ready(std::pin::Pin::new(&mut *future).poll(cx).is_pending())
    })
    .await
}

#[tokio::test]
async fn opening_waits_for_the_peer_to_allow_more() {
    let few = TransportConfig { streams_max: 2, ..TransportConfig::default() };
    let peers = loopback_with(few, TransportConfig::default()).await;
    let config = StreamConfig::messages;
    for nth in 0..2 {
        let stream = peers.at_client.open(config()).await.unwrap();
        stream.send_last(format!("{nth}")).await.unwrap();
    }
    assert!(peers.at_client.try_open(config()).is_err());
    let mut third = Box::pin(peers.at_client.open(config()));
    assert!(futures_pending(&mut third).await);
    for nth in ["0", "1"] {
        let stream = peers.at_server.accept().await.unwrap();
        assert_eq!(stream.recv().await.unwrap().unwrap().text(), Some(nth));
        assert_eq!(stream.recv().await.unwrap(), None);
    }
    let third = third.await.unwrap();
    third.send("2").await.unwrap();
    assert_eq!(peers.at_server.accept().await.unwrap().recv().await.unwrap().unwrap().number, 0);
}

#[tokio::test]
async fn receiving_in_select_loses_no_message() {
    let peers = loopback().await;
    let near = peers.at_client.open(StreamConfig::messages()).await.unwrap();
    let sender = tokio::spawn(async move {
        for nth in 0..500 {
            near.send(format!("{nth}")).await.unwrap();
            if nth % 7 == 0 {
                tokio::task::yield_now().await;
            }
        }
        near.finish().unwrap();
    });
    let far = peers.at_server.accept().await.unwrap();
    let mut expected = 0;
    loop {
        tokio::select! {
            biased;
            message = far.recv() => {
                let Some(message) = message.unwrap() else { break };
                assert_eq!(message.number, expected);
                expected += 1;
            }
            () = tokio::task::yield_now() => {}
        }
    }
    assert_eq!(expected, 500);
    sender.await.unwrap();
}

#[tokio::test]
async fn a_send_given_up_sends_nothing() {
    let peers = loopback().await;
    let config = StreamConfig { send_buffer: 20_000, ..StreamConfig::messages() };
    let near = peers.at_client.open(config).await.unwrap();
    let sender = tokio::spawn(async move {
        let payload = vec![0u8; 15_000];
        let (mut returned, mut given_up) = (0, 0);
        while returned < 50 {
            tokio::select! {
                biased;
                number = near.send(&payload[..]) => {
                    assert_eq!(number, Ok(returned));
                    returned += 1;
                }
                () = tokio::task::yield_now() => given_up += 1,
            }
        }
        near.finish().unwrap();
        given_up
    });
    let far = peers.at_server.accept().await.unwrap();
    let mut count = 0;
    while let Some(message) = far.recv().await.unwrap() {
        assert_eq!((message.number, message.payload.len()), (count, 15_000));
        count += 1;
    }
    assert_eq!(count, 50);
    assert!(sender.await.unwrap() > 0, "no send had to wait: the test shows nothing");
}

#[tokio::test]
async fn reading_in_select_loses_no_byte() {
    let peers = loopback().await;
    let near = peers.at_client.open(StreamConfig::bytes()).await.unwrap();
    let data: Vec<u8> = (0..200_000u32).map(|i| (i % 253) as u8).collect();
    let sent = data.clone();
    let sender = tokio::spawn(async move {
        for part in sent.chunks(999) {
            near.write_all(part).await.unwrap();
        }
    });
    let far = peers.at_server.accept().await.unwrap();
    let mut got = Vec::new();
    let mut buffer = [0; 1000];
    loop {
        let tick = pin!(tokio::task::yield_now());
        tokio::select! {
            biased;
            len = far.read(&mut buffer) => match len.unwrap() {
                0 => break,
                len => got.extend_from_slice(&buffer[..len]),
            },
            () = tick => {}
        }
    }
    assert!(got == data);
    sender.await.unwrap();
}

#[tokio::test]
async fn several_tasks_may_wait_on_one_stream() {
    let peers = loopback().await;
    let near = peers.at_client.open(StreamConfig::messages()).await.unwrap();
    near.send("0").await.unwrap();
    let far = std::sync::Arc::new(peers.at_server.accept().await.unwrap());
    let tasks: Vec<_> = (0..4)
        .map(|_| {
            let far = far.clone();
            tokio::spawn(async move {
                let mut count = 0;
                while far.recv().await.unwrap().is_some() {
                    count += 1;
                }
                count
            })
        })
        .collect();
    for nth in 1..100 {
        near.send(format!("{nth}")).await.unwrap();
    }
    near.finish().unwrap();
    let mut total = 0;
    for task in tasks {
        total += task.await.unwrap();
    }
    assert_eq!(total, 100);
}
