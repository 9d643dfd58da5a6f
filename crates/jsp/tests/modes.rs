//! Every delivery mode, end to end.

mod peers;

use std::time::Duration;

use bytes::Bytes;
use jsp::{
    Class, Delivery, Framing, Kind, Message, MessageFate, RecvError, SendError, StreamConfig,
};
use peers::loopback;

fn every_message_mode() -> Vec<StreamConfig> {
    let deliveries = [
        Delivery::Reliable,
        Delivery::Partial { retransmits: Some(2), lifetime: None },
        Delivery::Partial { retransmits: None, lifetime: Some(Duration::from_secs(5)) },
        Delivery::Unreliable,
    ];
    let mut modes = vec![
        StreamConfig::voice(),
        StreamConfig::video(),
        StreamConfig::chat(),
        StreamConfig::telemetry(),
    ];
    for delivery in deliveries {
        for ordered in [true, false] {
            modes.push(StreamConfig { delivery, ordered, ..StreamConfig::messages() });
        }
    }
    modes
}

#[tokio::test]
async fn every_mode_carries_messages_both_ways() {
    let peers = loopback().await;
    for config in every_message_mode() {
        let config = config.labelled("a label");
        let near = peers.at_client.open(config.clone()).await.unwrap();
        near.send("there").await.unwrap();
        let far = peers.at_server.accept().await.unwrap();
        assert_eq!(far.id(), near.id());
        assert_eq!(far.info().label, "a label");
        assert_eq!(far.info().profile, config.profile());
        let there = far.recv().await.unwrap().unwrap();
        assert_eq!((there.text(), there.number), (Some("there"), 0), "{config:?}");
        far.send(Bytes::from_static(b"back")).await.unwrap();
        let back = near.recv().await.unwrap().unwrap();
        assert_eq!((back.text(), &back.payload[..]), (None, &b"back"[..]), "{config:?}");
    }
}

#[tokio::test]
async fn large_messages_arrive_whole_in_reliable_modes() {
    let peers = loopback().await;
    for ordered in [true, false] {
        let config = StreamConfig { ordered, send_buffer: 4 << 20, ..StreamConfig::messages() };
        let near = peers.at_client.open(config).await.unwrap();
        let payloads: Vec<Bytes> =
            [0usize, 1, 1199, 1200, 1_000_000, 65_536].map(|len| pattern(len).into()).into();
        for payload in &payloads {
            near.send(payload.clone()).await.unwrap();
        }
        near.finish().unwrap();
        let far = peers.at_server.accept().await.unwrap();
        let mut got = Vec::new();
        while let Some(message) = far.recv().await.unwrap() {
            got.push((message.number, message.payload));
        }
        if !ordered {
            got.sort_by_key(|(number, _)| *number);
        }
        let numbers: Vec<u64> = got.iter().map(|(number, _)| *number).collect();
        assert_eq!(numbers, [0, 1, 2, 3, 4, 5]);
        assert!(got.iter().zip(&payloads).all(|((_, got), sent)| got == sent));
    }
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 31 % 251) as u8).collect()
}

#[tokio::test]
async fn messages_say_what_they_are() {
    let peers = loopback().await;
    let near = peers.at_client.open(StreamConfig::chat()).await.unwrap();
    let mut message = Message::text("stamped").with_kind(Kind::Metadata);
    message.attributes.timestamp_ms = Some(1234);
    let attributes = message.attributes;
    near.send(message).await.unwrap();
    let far = peers.at_server.accept().await.unwrap();
    assert_eq!(far.recv().await.unwrap().unwrap().attributes, attributes);
}

#[tokio::test]
async fn signals_and_metadata_pass_beside_the_streams() {
    let peers = loopback().await;
    peers.at_client.signal("ring").await.unwrap();
    peers.at_client.metadata("about").await.unwrap();
    peers.at_server.signal("answer").await.unwrap();
    let ring = peers.at_server.recv_signal().await.unwrap();
    assert_eq!((ring.text(), ring.attributes.kind), (Some("ring"), Kind::Signalling));
    let about = peers.at_server.recv_signal().await.unwrap();
    assert_eq!((about.text(), about.attributes.kind), (Some("about"), Kind::Metadata));
    assert_eq!(peers.at_client.recv_signal().await.unwrap().text(), Some("answer"));
}

#[tokio::test]
async fn a_fate_tells_arrival_and_the_other_side_tells_consumption() {
    let peers = loopback().await;
    let near = peers.at_client.open(StreamConfig::chat()).await.unwrap();
    let fate = near.send_tracked("tracked").await.unwrap();
    assert_eq!(fate.number(), 0);
    assert_eq!(fate.await, MessageFate::Acknowledged);
    let far = peers.at_server.accept().await.unwrap();
    let got = far.recv().await.unwrap().unwrap();
    let ((near_send, _near_recv), (_far_send, far_recv)) = (near.split(), far.split());
    far_recv.consumed(got.number + 1);
    near_send.consumed(0).await.unwrap();
}

#[tokio::test]
async fn a_stream_for_one_direction_is_one() {
    let peers = loopback().await;
    let config = StreamConfig { unidirectional: true, ..StreamConfig::messages() };
    let near = peers.at_client.open(config).await.unwrap();
    near.send("down").await.unwrap();
    let far = peers.at_server.accept().await.unwrap();
    assert!(far.info().profile.unidirectional);
    assert_eq!(far.recv().await.unwrap().unwrap().text(), Some("down"));
    assert_eq!(far.send("up").await, Err(SendError::Closed));
    assert_eq!(near.recv().await, Ok(None));
}

#[tokio::test]
async fn calls_of_the_other_framing_are_refused() {
    let peers = loopback().await;
    let bytes = peers.at_client.open(StreamConfig::bytes()).await.unwrap();
    assert_eq!(bytes.send("message").await, Err(SendError::WrongFraming));
    assert_eq!(bytes.recv().await, Err(RecvError::WrongFraming));
    let messages = peers.at_client.open(StreamConfig::messages()).await.unwrap();
    assert_eq!(messages.write(b"bytes").await, Err(SendError::WrongFraming));
    assert_eq!(messages.read_chunk(1).await, Err(RecvError::WrongFraming));
}

#[tokio::test]
async fn nonsense_and_oversize_are_refused_with_a_reason() {
    let peers = loopback().await;
    let nonsense = StreamConfig { delivery: Delivery::Unreliable, ..StreamConfig::bytes() };
    let refused = peers.at_client.open(nonsense).await.map(|_| ());
    assert_eq!(refused, Err(jsp::OpenError::InvalidConfig));
    let config = StreamConfig { send_buffer: 64 << 20, ..StreamConfig::chat() };
    let near = peers.at_client.open(config).await.unwrap();
    let refused = near.send(vec![0; (16 << 20) + 1]).await;
    assert!(matches!(refused, Err(SendError::TooLarge { max, .. }) if max == 16 << 20));
    near.send("still usable").await.unwrap();
    assert_eq!(StreamConfig::voice().class, Class::RealTime);
    assert_eq!(StreamConfig::file().framing, Framing::Bytes);
}

#[tokio::test]
async fn many_messages_are_taken_at_once() {
    let peers = loopback().await;
    let near = peers.at_client.open(StreamConfig::messages()).await.unwrap();
    let fates: Vec<_> = {
        let mut fates = Vec::new();
        for nth in 0..1000 {
            fates.push(near.send_tracked(format!("{nth}")).await.unwrap());
        }
        fates
    };
    near.finish().unwrap();
    let far = peers.at_server.accept().await.unwrap();
    // All have arrived before the first is taken.
    for fate in fates {
        assert_eq!(fate.await, MessageFate::Acknowledged);
    }
    let (_send, recv) = far.split();
    assert_eq!(recv.try_recv().unwrap().unwrap().text(), Some("0"));
    let mut messages = Vec::new();
    assert_eq!(recv.recv_many(&mut messages, 100).await, Ok(100));
    while recv.recv_many(&mut messages, 10_000).await.unwrap() > 0 {}
    let numbers: Vec<u64> = messages.iter().map(|message| message.number).collect();
    assert_eq!(numbers, (1..1000).collect::<Vec<_>>());
}
