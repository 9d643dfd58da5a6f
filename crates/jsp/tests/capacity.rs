//! What an application learns of the network, and what it may tell.

mod peers;

use std::time::Duration;

use jsp::emulate::BadLink;
use jsp::{
    AlarmCause, AlarmLevel, Class, MessageFate, NetworkHint, Signals, StreamConfig, TransportConfig,
};

use peers::{emulated, far, join, memory_builders};

#[tokio::test(start_paused = true)]
async fn a_stream_of_messages_measures_the_network() {
    let (peers, _control) = emulated(far()).await;
    let config =
        StreamConfig { class: Class::RealTime, ordered: false, ..StreamConfig::messages() };
    let stream = peers.at_client.open(config).await.unwrap();
    let before = peers.at_client.capacity();
    assert!(before.media_rate >= 8_000 && before.confidence_percent <= 50);
    let changed = tokio::spawn({
        let connection = peers.at_client.clone();
        async move { connection.capacity_changed().await }
    });
    for _ in 0..300 {
        stream.send(vec![7; 1000]).await.unwrap();
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let capacity = peers.at_client.capacity();
    assert!(capacity.app_limited, "{capacity:?}");
    // 100 kB a second, and headers.
    assert!((80_000..200_000).contains(&capacity.delivery_rate), "{capacity:?}");
    assert!(capacity.media_rate > capacity.delivery_rate, "room to grow: {capacity:?}");
    assert!(capacity.queue_delay < Duration::from_millis(5), "{capacity:?}");
    assert_eq!((capacity.loss_ppm, capacity.alarm.level), (0, AlarmLevel::Clear));
    assert!(changed.await.unwrap().unwrap().media_rate > 8_000);
}

#[tokio::test(start_paused = true)]
async fn a_hint_is_an_alarm_and_lowers_the_advice() {
    let (peers, _control) = emulated(far()).await;
    let config =
        StreamConfig { class: Class::RealTime, ordered: false, ..StreamConfig::messages() };
    let stream = peers.at_client.open(config).await.unwrap();
    for _ in 0..100 {
        stream.send(vec![7; 1000]).await.unwrap();
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let before = peers.at_client.capacity();
    // What has changed until now is told first, at once.
    peers.at_client.capacity_changed().await.unwrap();
    let mut changed = Box::pin(peers.at_client.capacity_changed());
    assert!(futures_poll(changed.as_mut()).await.is_none());
    peers.at_client.hint(NetworkHint::InterfaceDown);
    let after = changed.await.unwrap();
    assert_eq!(after.alarm.cause, Some(AlarmCause::Hint));
    assert!(after.media_rate < before.media_rate, "{after:?}");
    let end = peers.at_client.clone();
    let waiting = tokio::spawn(async move { end.capacity_changed().await });
    peers.at_client.close(0, b"");
    while let Ok(_later) = peers.at_client.capacity_changed().await {}
    drop(waiting);
}

#[tokio::test(start_paused = true)]
async fn a_change_that_nobody_waited_for_is_told_by_the_next_call() {
    let (peers, _control) = emulated(far()).await;
    let stream = peers.at_client.open(StreamConfig::voice()).await.unwrap();
    for _ in 0..100 {
        stream.send(vec![7; 1000]).await.unwrap();
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let connection = &peers.at_client;
    connection.capacity_changed().await.unwrap();
    // Two that wait, of which one gives up.
    let mut waits = Box::pin(connection.capacity_changed());
    let mut gives_up = Box::pin(connection.capacity_changed());
    assert!(futures_poll(waits.as_mut()).await.is_none());
    assert!(futures_poll(gives_up.as_mut()).await.is_none());
    connection.hint(NetworkHint::InterfaceDown);
    tokio::time::sleep(Duration::from_millis(1)).await;
    drop(gives_up);
    let told = futures_poll(Box::pin(connection.capacity_changed()).as_mut()).await;
    assert_eq!(told.unwrap().unwrap().alarm.cause, Some(AlarmCause::Hint));
    // Who waited when it came gets it too; who comes now waits for another.
    let waited = futures_poll(waits.as_mut()).await;
    assert_eq!(waited.unwrap().unwrap().alarm.cause, Some(AlarmCause::Hint));
    assert!(futures_poll(Box::pin(connection.capacity_changed()).as_mut()).await.is_none());
}

/// One poll, for a future that is to go on waiting.
async fn futures_poll<T>(mut future: std::pin::Pin<&mut impl Future<Output = T>>) -> Option<T> {
    std::future::poll_fn(|cx| {
        std::task::Poll::Ready(match future.as_mut().poll(cx) {
            std::task::Poll::Ready(value) => Some(value),
            std::task::Poll::Pending => None,
        })
    })
    .await
}

#[tokio::test(start_paused = true)]
async fn a_qlog_is_taken_in_parts_and_its_rest_after_the_end() {
    let (server, client) = memory_builders();
    let transport = TransportConfig { qlog: true, ..TransportConfig::default() };
    let client = client.transport(transport).build().unwrap();
    let peers = join(server.build().unwrap(), client).await;
    let first = peers.at_client.take_qlog();
    assert!(first.contains("qlog_version"), "{first}");
    let stream = peers.at_client.open(StreamConfig::messages()).await.unwrap();
    let fate = stream.send_tracked("x").await.unwrap();
    assert_eq!(fate.await, MessageFate::Acknowledged);
    let second = peers.at_client.take_qlog();
    assert!(!second.is_empty() && !second.contains("qlog_version"), "{second}");
    peers.at_client.shutdown().await;
    let rest = peers.at_client.take_qlog();
    assert!(!rest.is_empty() && !rest.contains("qlog_version"), "{rest}");
    assert_eq!(peers.at_client.take_qlog(), "");
    assert_eq!(peers.at_server.take_qlog(), "", "nobody has asked for it");
}

#[tokio::test(start_paused = true)]
async fn what_a_path_carried_is_known_after_the_end() {
    let bad = BadLink { rate: Some(20_000_000), queue: 256 << 10, ..far() };
    let (peers, _control) = emulated(bad).await;
    let stream = peers.at_client.open(StreamConfig::bytes()).await.unwrap();
    let at_server = peers.at_server.clone();
    let reader = tokio::spawn(async move {
        at_server.accept().await.unwrap().read_to_end(usize::MAX).await.unwrap().len()
    });
    stream.write_all(vec![1; 5 << 20]).await.unwrap();
    stream.finish().unwrap();
    assert_eq!(reader.await.unwrap(), 5 << 20);
    let known = peers.at_client.path_memory();
    // The line takes 2441 KiB a second.
    let is_near = |rate| (1200..2500).contains(&rate);
    assert!(known.is_some_and(|known| is_near(known.delivery_rate_kib)), "{known:?}");
    peers.at_client.shutdown().await;
    let after = peers.at_client.path_memory();
    assert!(after.is_some_and(|known| is_near(known.delivery_rate_kib)), "{after:?}");
    let later = TransportConfig { initial_path_memory: known, ..TransportConfig::default() };
    assert_eq!(later.signals, Signals::ALL);
}
