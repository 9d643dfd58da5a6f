use proptest::prelude::*;

use super::super::config::Delivery;
use super::super::recv_messages::RecvMessages;
use super::*;
use jsp_wire::frame::{Attributes, Kind, MessageFrame, MessageNumber};

fn first_message(sent: &Sent) -> (MessageNumber, bool, usize) {
    let frame = Payload::read(sent.shape, &sent.payload).unwrap().next().unwrap().unwrap();
    let Frame::Message(frame) = frame else { panic!("not a message: {frame:?}") };
    (frame.number, frame.fragment.is_some(), frame.data.len())
}

// spec-test: STR-12, STR-18
#[test]
fn short_numbers_are_used_within_their_reach_and_resolve_across_the_wrap() {
    let (mut a, mut b, now) = pair(&StreamLimits::default());
    let config = StreamConfig { ordered: false, ..StreamConfig::voice() };
    let id = a.open(now, config).unwrap();
    a.send(now, id, Message::binary(vec![0; 4])).unwrap();
    let opening = build(&mut a, now, 1200).unwrap();
    take(&mut b, now, &opening).unwrap();
    settle(&mut a, now, &opening, Fate::Acked);
    let mut rng = Rng(5);
    let (mut waiting, mut short, mut taken): (Vec<Sent>, u64, u64) = (Vec::new(), 0, 0);
    let mut got = Vec::new();
    for next in 1..3000u64 {
        a.send(now, id, Message::binary(next.to_le_bytes().to_vec())).unwrap();
        let sent = build(&mut a, now, 1200).unwrap();
        if matches!(first_message(&sent).0, MessageNumber::Low8(_)) {
            assert_eq!(sent.shape, Shape::Message);
            short += 1;
        }
        waiting.push(sent);
        // Bursts without an answer, then packets in any order, a few of them very late.
        while waiting.len() > 200 || (!waiting.is_empty() && rng.chance(50)) {
            let at = if rng.chance(90) { 0 } else { rng.below(waiting.len() as u64) as usize };
            let sent = waiting.remove(at);
            if rng.chance(10) {
                settle(&mut a, now, &sent, Fate::Lost);
                continue;
            }
            take(&mut b, now, &sent).unwrap();
            settle(&mut a, now, &sent, Fate::Acked);
            taken += 1;
        }
        got.extend(std::iter::from_fn(|| b.recv(now, id).unwrap()));
    }
    for received in &got[1..] {
        assert_eq!(received.payload[..], received.number.to_le_bytes());
    }
    // What is far too late is dropped, not put in the wrong place.
    assert!(got.len() as u64 > taken * 9 / 10, "{} of {taken}", got.len());
    assert!(short > 2000, "{short}");
}

// spec-test: STR-18
#[test]
fn a_late_packet_with_a_short_number_is_placed_by_the_packets_around_it() {
    let (mut a, mut b, now) = pair(&StreamLimits::default());
    let config = StreamConfig { ordered: false, ..StreamConfig::voice() };
    let id = a.open(now, config).unwrap();
    let mut late = None;
    for i in 0..700u64 {
        a.send(now, id, Message::binary(i.to_le_bytes().to_vec())).unwrap();
        if i > 100 && i % 4 != 0 {
            continue;
        }
        let sent = build(&mut a, now, 1200).unwrap();
        if i == 50 {
            assert!(matches!(first_message(&sent).0, MessageNumber::Low8(_)));
            late = Some(sent);
            continue;
        }
        take(&mut b, now, &sent).unwrap();
        settle(&mut a, now, &sent, Fate::Acked);
        while let Some(sent) = build(&mut a, now, 1200) {
            take(&mut b, now, &sent).unwrap();
        }
        while b.recv(now, id).unwrap().is_some() {}
    }
    // More than 128 packets later it can no longer be told which one it is: it counts as lost.
    take(&mut b, now, &late.unwrap()).unwrap();
    assert_eq!(b.recv(now, id).unwrap(), None);
}

// spec-test: STR-12, STR-18
#[test]
fn reliable_messages_use_short_numbers_only_the_first_time() {
    let (mut a, mut b, now) = pair(&StreamLimits::default());
    let id = a.open(now, StreamConfig::messages()).unwrap();
    let mut kept = Vec::new();
    for i in 0..600u64 {
        a.send(now, id, Message::binary(i.to_le_bytes().to_vec())).unwrap();
        let sent = build(&mut a, now, 1200).unwrap();
        let is_short = matches!(first_message(&sent).0, MessageNumber::Low8(_));
        assert_eq!(is_short, i > 0, "{i}");
        if i == 40 {
            // Held lost and sent again under its full number, while the first copy is under way.
            settle(&mut a, now, &sent, Fate::Lost);
            let again = build(&mut a, now, 1200).unwrap();
            assert_eq!(first_message(&again).0, MessageNumber::Full(40));
            take(&mut b, now, &again).unwrap();
            settle(&mut a, now, &again, Fate::Acked);
            kept.push(sent);
        } else {
            take(&mut b, now, &sent).unwrap();
            settle(&mut a, now, &sent, Fate::Acked);
        }
        while let Some(received) = b.recv(now, id).unwrap() {
            assert_eq!(received.payload, received.number.to_le_bytes()[..]);
        }
        while let Some(sent) = build(&mut a, now, 1200) {
            take(&mut b, now, &sent).unwrap();
        }
        while let Some(sent) = build(&mut b, now, 1200) {
            take(&mut a, now, &sent).unwrap();
        }
    }
    // The first copy comes 560 messages late: it cannot be placed, so it must not be acknowledged.
    for late in kept {
        let Payload::One(Frame::Message(frame)) = Payload::read(late.shape, &late.payload).unwrap()
        else {
            panic!("not a message")
        };
        assert!(!b.can_place(late.pn, &frame));
    }
}

/// A message of stream 0 that comes in packet `pn`.
fn come(streams: &mut Streams, now: Instant, pn: u64, number: MessageNumber) {
    let frame = Frame::Message(MessageFrame {
        stream: StreamId::SIGNALLING,
        open: None,
        number,
        fragment: None,
        attributes: Attributes::default(),
        fin: false,
        data: &[],
        to_end: true,
    });
    take_frame(streams, now, pn, &frame, &Bytes::new()).unwrap();
}

fn numbers_read(streams: &mut Streams, now: Instant) -> Vec<u64> {
    let mut read = || streams.recv(now, StreamId::SIGNALLING).unwrap();
    std::iter::from_fn(|| read().map(|received| received.number)).collect()
}

// spec-test: STR-18
#[test]
fn packets_that_others_overtook_raise_what_short_numbers_after_them_mean() {
    let (_, mut b, now) = pair(&StreamLimits::default());
    for number in 0..100 {
        come(&mut b, now, 9, MessageNumber::Full(number));
    }
    // Packets 10 and 11 brought 101 to 300; 12 comes first.
    come(&mut b, now, 12, MessageNumber::Full(100));
    for number in 101..=200 {
        come(&mut b, now, 10, MessageNumber::Full(number));
    }
    for number in 201..=300 {
        come(&mut b, now, 11, MessageNumber::Full(number));
    }
    come(&mut b, now, 13, MessageNumber::Low8(301u64 as u8));
    assert_eq!(numbers_read(&mut b, now), (0..=301).collect::<Vec<_>>());
    // The same between packets of which the later one brought more.
    come(&mut b, now, 20, MessageNumber::Full(700));
    for number in 302..=500 {
        come(&mut b, now, 16, MessageNumber::Full(number));
    }
    come(&mut b, now, 17, MessageNumber::Low8(501u64 as u8));
    assert_eq!(numbers_read(&mut b, now), (302..=501).collect::<Vec<_>>());
}

proptest! {
    // spec-test: STR-18
    #[test]
    fn marks_tell_the_highest_number_before_a_packet(
        came in prop::collection::vec((0u64..60, 0u64..300), 1..60),
        probe in 0u64..60,
    ) {
        let mut recv = RecvMessages::new(jsp_wire::Delivery::Reliable, true, 1 << 20);
        for (pn, number) in &came {
            recv.note_number(*pn, *number);
        }
        let before = came.iter().filter(|(pn, _)| *pn < probe).map(|(_, number)| number + 1);
        // What is told of number 0 is told without a mark.
        let expected = before.max().filter(|next| *next > 1).unwrap_or(0);
        for low in [0, 77, 200] {
            let number = MessageNumber::Low8(low);
            let want = number.resolve(expected).ok();
            prop_assert_eq!(recv.resolve(probe, number).ok().flatten(), want);
        }
    }
}

// spec-test: STR-12
#[test]
fn without_acknowledgement_the_short_number_is_not_used_beyond_127() {
    let (mut a, _, now) = pair(&StreamLimits::default());
    let id = a.open(now, StreamConfig::voice()).unwrap();
    a.send(now, id, Message::binary(vec![1])).unwrap();
    let opening = build(&mut a, now, 1200).unwrap();
    settle(&mut a, now, &opening, Fate::Acked);
    for i in 1..200u64 {
        a.send(now, id, Message::binary(vec![1])).unwrap();
        let sent = build(&mut a, now, 1200).unwrap();
        let is_short = matches!(first_message(&sent).0, MessageNumber::Low8(_));
        assert_eq!(is_short, i <= 127, "{i}");
    }
}

// spec-test: STR-11
#[test]
fn a_message_is_cut_only_when_a_packet_cannot_hold_it() {
    for room in [1200usize, 1452] {
        for len in room - 80..room + 10 {
            let (mut a, mut b, now) = pair(&StreamLimits::default());
            let id = StreamId::SIGNALLING;
            for (i, len) in [20, len, 20, len, 5].into_iter().enumerate() {
                a.send(now, id, Message::binary(pattern(i as u64, len))).unwrap();
            }
            let mut whole = 0;
            while let Some(sent) = build(&mut a, now, room) {
                for frame in Payload::read(sent.shape, &sent.payload).unwrap() {
                    let frame = frame.unwrap();
                    let Frame::Message(message) = frame else {
                        assert!(matches!(frame, Frame::Padding(_)));
                        continue;
                    };
                    whole += message.fragment.is_none() as usize;
                }
                take(&mut b, now, &sent).unwrap();
                settle(&mut a, now, &sent, Fate::Acked);
            }
            assert!(whole == if len + 3 <= room { 5 } else { 3 }, "{len} in {room}: {whole}");
            for (i, len) in [20, len, 20, len, 5].into_iter().enumerate() {
                assert!(b.recv(now, id).unwrap().unwrap().payload == pattern(i as u64, len));
            }
        }
    }
}

#[test]
fn attributes_travel_with_whole_and_cut_messages() {
    let (mut a, mut b, now) = pair(&StreamLimits::default());
    let attributes =
        Attributes { text: true, kind: Kind::Metadata, timestamp_ms: Some(123_456_789) };
    for len in [5, 5000] {
        let message = Message { attributes, ..Message::binary(pattern(1, len)) };
        a.send(now, StreamId::SIGNALLING, message).unwrap();
    }
    while let Some(sent) = build(&mut a, now, 1200) {
        take(&mut b, now, &sent).unwrap();
    }
    for len in [5, 5000] {
        let received = b.recv(now, StreamId::SIGNALLING).unwrap().unwrap();
        assert_eq!((received.payload.len(), received.attributes), (len, attributes));
    }
}

#[test]
fn small_messages_share_packets() {
    let (mut a, mut b, now) = pair(&StreamLimits::default());
    for i in 0..1000u64 {
        a.send(now, StreamId::SIGNALLING, Message::binary(pattern(i, 64))).unwrap();
    }
    let mut packets = 0;
    while let Some(sent) = build(&mut a, now, 1200) {
        packets += 1;
        take(&mut b, now, &sent).unwrap();
        settle(&mut a, now, &sent, Fate::Acked);
    }
    // 64 bytes and a head of at most 6.
    assert!(packets <= 1000 / (1200 / 70) + 1, "{packets}");
    let got = std::iter::from_fn(|| b.recv(now, StreamId::SIGNALLING).unwrap()).count();
    assert_eq!(got, 1000);
}

// spec-test: STR-16
#[test]
fn messages_beyond_the_peers_maximum_are_refused_at_once() {
    let limits = StreamLimits { message_len_max: 100_000, ..StreamLimits::default() };
    let (mut a, _, now) = pair(&limits);
    let id = a.open(now, StreamConfig::messages()).unwrap();
    let refused = a.send(now, id, Message::binary(vec![0; 100_001]));
    assert_eq!(refused, Err(SendError::TooLarge { len: 100_001, max: 100_000 }));
    assert_eq!(a.send(now, id, Message::binary(vec![0; 100_000])), Ok(0));
    // Every endpoint takes 65,536 bytes, even before its parameters are known.
    let mut early = Streams::new(Side::Client, &limits);
    let id = StreamId::SIGNALLING;
    assert_eq!(early.send(now, id, Message::binary(vec![0; 65_536])), Ok(0));
    assert!(early.send(now, id, Message::binary(vec![0; 65_537])).is_err());
    assert!(!early.wants(now) && build(&mut early, now, 1200).is_none());
}

#[test]
fn a_full_send_buffer_says_so_and_tells_when_there_is_room() {
    let (mut a, mut b, now) = pair(&StreamLimits::default());
    let config = StreamConfig { send_buffer: 10_000, ..StreamConfig::messages() };
    let id = a.open(now, config).unwrap();
    for _ in 0..10 {
        a.send(now, id, Message::binary(vec![0; 1000])).unwrap();
    }
    let more = a.send(now, id, Message::binary(vec![0; 1]));
    assert_eq!(more, Err(SendError::WouldBlock));
    for _ in 0..6 {
        let sent = build(&mut a, now, 1200).unwrap();
        take(&mut b, now, &sent).unwrap();
    }
    assert_eq!(events(&mut a), [StreamEvent::Writable(id)]);
    // A message larger than the buffer is taken once the buffer is empty.
    while build(&mut a, now, 1200).is_some() {}
    assert_eq!(a.send(now, id, Message::binary(vec![0; 50_000])), Ok(10));
}

// spec-test: STR-13
#[test]
fn a_sender_keeps_numbers_within_reach_of_the_oldest_open_one() {
    let (mut a, mut b, now) = pair(&StreamLimits {
        stream_window: 64 << 20,
        stream_window_max: 64 << 20,
        data_window: 64 << 20,
        data_window_max: 64 << 20,
        ..StreamLimits::default()
    });
    let delivery = Delivery::Partial { retransmits: None, lifetime: None };
    let config = StreamConfig {
        delivery,
        ordered: false,
        send_buffer: 64 << 20,
        ..StreamConfig::messages()
    };
    let id = a.open(now, config).unwrap();
    a.send(now, id, Message::binary(vec![0; 8])).unwrap();
    let first = build(&mut a, now, 1200).unwrap();
    let mut sent_count = 1u64;
    let mut refused = false;
    for _ in 0..140_000 {
        if a.send(now, id, Message::binary(vec![0; 8])).is_err() {
            refused = true;
            break;
        }
        sent_count += 1;
    }
    assert!(refused);
    assert_eq!(sent_count, super::super::credit::NUMBER_REACH);
    // All but the first arrive and are read: the receiver keeps their numbers, and no error.
    while let Some(sent) = build(&mut a, now, 1200) {
        take(&mut b, now, &sent).unwrap();
        settle(&mut a, now, &sent, Fate::Acked);
        while b.recv(now, id).unwrap().is_some() {}
    }
    assert_eq!(b.received.numbers, super::super::credit::NUMBER_REACH);
    assert_eq!(a.send(now, id, Message::binary(vec![0; 8])), Err(SendError::WouldBlock));
    take(&mut b, now, &first).unwrap();
    settle(&mut a, now, &first, Fate::Acked);
    assert_eq!(b.received.numbers, 0);
    assert!(a.send(now, id, Message::binary(vec![0; 8])).is_ok());
}
