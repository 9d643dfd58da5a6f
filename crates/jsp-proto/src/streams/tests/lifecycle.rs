use super::super::config::Delivery;
use super::*;
use crate::error::OpenError;
use jsp_wire::Class;

fn one_shot(delivery: Delivery) -> StreamConfig {
    one_way(StreamConfig { delivery, ..StreamConfig::messages() })
}

// spec-test: STR-1, STR-2, STR-7
#[test]
fn a_stream_for_each_message_churns_a_hundred_thousand_times() {
    for (loss, delivery) in
        [(0, Delivery::Reliable), (3, Delivery::Reliable), (3, Delivery::Unreliable)]
    {
        let mut pipe = Pipe::new(1, loss);
        pipe.gap = Duration::from_micros(1);
        let (count, mut opened, mut got) = (100_000u64, 0u64, 0u64);
        pipe.run_with(|pipe| {
            let now = pipe.now;
            while opened < count {
                match pipe.a().open(now, one_shot(delivery)) {
                    Ok(id) => {
                        pipe.a().send(now, id, Message::binary(vec![opened as u8; 64])).unwrap();
                        pipe.a().finish(now, id).unwrap();
                        opened += 1;
                    }
                    Err(OpenError::LimitReached) => break,
                    Err(error) => panic!("{error}"),
                }
            }
            while let Some(id) = pipe.b().accept() {
                got += pipe.received(id).len() as u64;
            }
            pipe.events = [Vec::new(), Vec::new()];
        });
        assert_eq!(opened, count);
        match delivery {
            Delivery::Reliable => assert_eq!(got, count),
            _ => assert!(got > count * 90 / 100 && got < count),
        }
        // Only stream 0 is left, on both sides; no table has grown with the number of streams.
        for streams in &pipe.sides {
            assert_eq!(streams.table.len(), 1);
            assert_eq!(streams.buffered(), 0);
        }
    }
}

#[test]
fn a_lone_message_with_its_stream_is_one_packet_of_the_one_shot_shape() {
    let (mut a, mut b, now) = pair(&StreamLimits::default());
    let id = a.open(now, one_shot(Delivery::Reliable)).unwrap();
    a.send(now, id, Message::binary(pattern(1, 64))).unwrap();
    a.finish(now, id).unwrap();
    let sent = build(&mut a, now, 1200).unwrap();
    assert_eq!(sent.shape, Shape::OneShot);
    // Stream id, profile, content.
    assert_eq!(sent.payload.len(), 1 + 1 + 64);
    take(&mut b, now, &sent).unwrap();
    settle(&mut a, now, &sent, Fate::Acked);
    assert_eq!(events(&mut a), [StreamEvent::SendFinished(id)]);
    assert_eq!(events(&mut b), [StreamEvent::Opened(id), StreamEvent::Readable(id)]);
    assert_eq!(b.accept(), Some(id));
    assert_eq!(b.recv(now, id).unwrap().unwrap().payload, pattern(1, 64));
    assert_eq!(b.recv(now, id), Err(RecvError::Closed));
    assert_eq!((a.table.len(), b.table.len()), (1, 1));
}

// spec-test: STR-3, STR-8
#[test]
fn the_opening_travels_until_one_of_them_has_arrived() {
    let (mut a, mut b, now) = pair(&StreamLimits::default());
    let config = StreamConfig {
        weight: 40,
        content_type: Some("text/plain".into()),
        ..StreamConfig::chat().labelled("room")
    };
    let id = a.open(now, config).unwrap();
    let mut packets = Vec::new();
    for i in 0..3 {
        a.send(now, id, Message::binary(vec![i])).unwrap();
        packets.push(build(&mut a, now, 1200).unwrap());
    }
    // Any of them may be the first to arrive.
    for sent in packets.iter().rev() {
        take(&mut b, now, sent).unwrap();
    }
    assert_eq!(b.accept(), Some(id));
    assert_eq!(b.accept(), None);
    let info = b.info(id).unwrap();
    assert_eq!((info.label.as_str(), info.content_type.as_deref()), ("room", Some("text/plain")));
    assert_eq!(b.table.find(id).unwrap().1.weight, 40);
    settle(&mut a, now, &packets[1], Fate::Acked);
    a.send(now, id, Message::binary(vec![3])).unwrap();
    let known = build(&mut a, now, 1200).unwrap();
    let Some(Ok(Frame::Message(frame))) =
        Payload::read(known.shape, &known.payload).unwrap().next()
    else {
        panic!("not a message")
    };
    assert!(frame.open.is_none());
    take(&mut b, now, &known).unwrap();
    let numbers: Vec<u64> =
        std::iter::from_fn(|| b.recv(now, id).unwrap()).map(|received| received.number).collect();
    assert_eq!(numbers, [0, 1, 2, 3]);
}

// spec-test: STR-3
#[test]
fn a_stream_without_data_opens_behind_a_line_that_never_ends() {
    let window = 1 << 30;
    let (stream_window, data_window) = (window, window);
    let limits =
        StreamLimits { stream_window, data_window, streams_max: 4000, ..StreamLimits::default() };
    let (mut a, mut b, now) = pair(&limits);
    let bulk =
        a.open(now, StreamConfig { send_buffer: 64 << 20, ..StreamConfig::bytes() }).unwrap();
    a.write_bytes(now, bulk, Bytes::from(vec![0; 8 << 20])).unwrap();
    take(&mut b, now, &build(&mut a, now, 1200).unwrap()).unwrap();
    let quiet = a.open(now, StreamConfig::bytes()).unwrap();
    let sent = build(&mut a, now, 1200).unwrap();
    take(&mut b, now, &sent).unwrap();
    assert_eq!(std::iter::from_fn(|| b.accept()).collect::<Vec<_>>(), [bulk, quiet]);
    // A lost one goes again.
    settle(&mut a, now, &sent, Fate::Lost);
    let again = build(&mut a, now, 1200).unwrap();
    let opens = |token: &Token| matches!(token, Token::Stream(t) if t.stream == quiet && t.open);
    assert!(again.tokens.iter().any(opens), "{:?}", again.tokens);
    // Streams that their data opened leave nothing behind.
    for _ in 0..2000 {
        let one = a
            .open(now, one_way(StreamConfig { class: Class::RealTime, ..StreamConfig::messages() }))
            .unwrap();
        a.send(now, one, Message::binary(vec![1])).unwrap();
        a.finish(now, one).unwrap();
        let sent = build(&mut a, now, 1200).unwrap();
        settle(&mut a, now, &sent, Fate::Acked);
        assert!(a.opens.len() < 64, "{}", a.opens.len());
    }
}

#[test]
fn a_stream_without_data_opens_by_itself_and_again_when_lost() {
    let (mut a, mut b, now) = pair(&StreamLimits::default());
    let id = a.open(now, StreamConfig::bytes()).unwrap();
    let sent = build(&mut a, now, 1200).unwrap();
    assert!(!a.wants(now));
    settle(&mut a, now, &sent, Fate::Lost);
    let again = build(&mut a, now, 1200).unwrap();
    take(&mut b, now, &again).unwrap();
    settle(&mut a, now, &again, Fate::Acked);
    assert_eq!(b.accept(), Some(id));
    // The accepting side may send first.
    b.write_bytes(now, id, Bytes::from_static(b"hello")).unwrap();
    b.finish(now, id).unwrap();
    let back = build(&mut b, now, 1200).unwrap();
    take(&mut a, now, &back).unwrap();
    settle(&mut b, now, &back, Fate::Acked);
    let mut out = Vec::new();
    assert!(drain(&mut a, now, id, &mut out));
    assert_eq!(out, b"hello");
}

// spec-test: STR-27, STR-28
#[test]
fn a_lost_unreliable_one_shot_ends_by_a_bare_reset() {
    let (mut a, mut b, now) = pair(&StreamLimits::default());
    let id = a.open(now, one_shot(Delivery::Unreliable)).unwrap();
    a.send(now, id, Message::binary(vec![1; 64])).unwrap();
    a.finish(now, id).unwrap();
    let sent = build(&mut a, now, 1200).unwrap();
    settle(&mut a, now, &sent, Fate::Lost);
    let mut reset = build(&mut a, now, 1200).unwrap();
    settle(&mut a, now, &reset, Fate::Lost);
    reset = build(&mut a, now, 1200).unwrap();
    take(&mut b, now, &reset).unwrap();
    settle(&mut a, now, &reset, Fate::Acked);
    assert_eq!(b.accept(), None);
    assert_eq!(events(&mut b), []);
    assert_eq!((a.table.len(), b.table.len()), (1, 1));
    // The first packet was only late: the stream is used up all the same.
    take(&mut b, now, &sent).unwrap();
    assert_eq!(b.accept(), None);
}

// spec-test: STR-4
#[test]
fn stream_0_is_open_on_both_sides_and_cannot_be_ended() {
    let mut pipe = Pipe::new(4, 10);
    let now = pipe.now;
    let id = StreamId::SIGNALLING;
    for i in 0..20 {
        for side in 0..2 {
            pipe.sides[side].send(now, id, Message::binary(vec![i])).unwrap();
        }
    }
    assert_eq!(pipe.a().finish(now, id), Err(SendError::Closed));
    pipe.a().reset(now, id, 1);
    pipe.a().stop(now, id, 1);
    pipe.run();
    let now = pipe.now;
    for side in 0..2 {
        for i in 0..20 {
            assert_eq!(pipe.sides[side].recv(now, id).unwrap().unwrap().payload[..], [i]);
        }
    }
    assert_eq!(pipe.b().accept(), None);
}

// spec-test: STR-25
#[test]
fn a_reset_is_read_once_and_settles_the_credit() {
    let mut pipe = Pipe::new(5, 10);
    let now = pipe.now;
    let id = pipe.a().open(now, StreamConfig::bytes()).unwrap();
    pipe.a().write_bytes(now, id, pattern(1, 500_000)).unwrap();
    pipe.run_for(ms(13), |_| ());
    let now = pipe.now;
    pipe.a().reset(now, id, 77);
    assert_eq!(pipe.a().write_bytes(now, id, pattern(1, 5)), Err(SendError::Closed));
    pipe.run();
    let now = pipe.now;
    assert_eq!(pipe.b().read(now, id, 10), Err(RecvError::Reset(77)));
    assert_eq!(pipe.b().read(now, id, 10), Err(RecvError::Closed));
    let b = &pipe.sides[1];
    assert_eq!(b.received.position, b.received.consumed);
    assert_eq!(b.received.consumed, pipe.sides[0].credit.limit() - pipe.sides[0].credit.left());
}

#[test]
fn reading_all_brings_what_reading_piece_by_piece_brings_and_no_more_than_asked_for() {
    let mut pipe = Pipe::new(7, 0);
    let now = pipe.now;
    let id = pipe.a().open(now, StreamConfig::bytes()).unwrap();
    let sent = pattern(1, 40_000);
    pipe.a().write_bytes(now, id, sent.clone()).unwrap();
    pipe.a().finish(now, id).unwrap();
    pipe.run();
    let now = pipe.now;
    let mut chunks = Vec::new();
    assert_eq!(pipe.b().read_all(now, id, 0, &mut chunks), Ok(0));
    assert_eq!(pipe.b().read_all(now, id, 10_001, &mut chunks), Ok(10_001));
    assert_eq!(pipe.b().read_all(now, id, usize::MAX, &mut chunks), Ok(29_999));
    assert_eq!(chunks.concat(), sent);
    assert_eq!(pipe.b().read_all(now, id, usize::MAX, &mut chunks), Err(RecvError::Closed));
    let b = &pipe.sides[1];
    assert_eq!(b.received.position, b.received.consumed);
}

// spec-test: STR-26
#[test]
fn a_stop_makes_the_other_side_reset_with_the_same_code() {
    let mut pipe = Pipe::new(6, 10);
    let now = pipe.now;
    let id = pipe.a().open(now, one_way(StreamConfig::messages())).unwrap();
    let message = || Message { want_fate: true, ..Message::binary(pattern(1, 3000)) };
    for _ in 0..100 {
        pipe.send(id, message());
    }
    pipe.run_for(ms(12), |_| ());
    let now = pipe.now;
    pipe.b().stop(now, id, 5);
    pipe.run();
    let now = pipe.now;
    assert!(pipe.events[0].contains(&StreamEvent::SendStopped { stream: id, code: 5 }));
    assert!(pipe.a().send(now, id, message()).is_err());
    assert_eq!(pipe.fates(0).len(), 100);
    assert!(pipe.fates(0).iter().any(|fate| fate.1 == MessageFate::Abandoned));
    assert_eq!(pipe.b().accept(), Some(id));
    assert_eq!(pipe.b().recv(now, id), Err(RecvError::Closed));
    assert_eq!((pipe.a().table.len(), pipe.b().table.len()), (1, 1));
}

// spec-test: STR-5
#[test]
fn an_end_without_data_is_told_again_when_lost() {
    for framing in [StreamConfig::bytes(), StreamConfig::messages()] {
        let (mut a, mut b, now) = pair(&StreamLimits::default());
        let id = a.open(now, one_way(framing.clone())).unwrap();
        a.finish(now, id).unwrap();
        assert_eq!(a.finish(now, id), Err(SendError::Closed));
        for _ in 0..3 {
            let sent = build(&mut a, now, 1200).unwrap();
            settle(&mut a, now, &sent, Fate::Lost);
        }
        let sent = build(&mut a, now, 1200).unwrap();
        take(&mut b, now, &sent).unwrap();
        settle(&mut a, now, &sent, Fate::Acked);
        assert_eq!(events(&mut a), [StreamEvent::SendFinished(id)]);
        assert_eq!(b.accept(), Some(id));
        // It is over, but stays until its end is read.
        assert!(b.info(id).is_some());
        let end = if framing.framing == jsp_wire::Framing::Bytes {
            b.read(now, id, 1).map(drop)
        } else {
            b.recv(now, id).map(drop)
        };
        assert_eq!(end, Err(RecvError::Closed));
        assert_eq!((a.table.len(), b.table.len()), (1, 1));
    }
}

// spec-test: STR-38
#[test]
fn what_the_application_has_consumed_is_told() {
    let mut pipe = Pipe::new(7, 20);
    let now = pipe.now;
    let id = pipe.a().open(now, StreamConfig::chat()).unwrap();
    for i in 0..10 {
        pipe.send(id, Message::binary(vec![i]));
    }
    let mut taken = 0;
    pipe.run_with(|pipe| {
        taken += pipe.received(id).len() as u64;
        pipe.b().consumed(id, taken);
        pipe.b().consumed(id, 1_000_000);
    });
    let last = pipe.events[0].iter().rfind(|e| matches!(e, StreamEvent::Consumed { .. }));
    assert_eq!(last, Some(&StreamEvent::Consumed { stream: id, below: 10 }));
}

#[test]
fn limits_of_streams_are_told_and_lifted() {
    let limits = StreamLimits { streams_max: 4, ..StreamLimits::default() };
    let mut pipe = Pipe::with_limits(8, 10, &limits);
    let now = pipe.now;
    let open = |pipe: &mut Pipe| pipe.sides[0].open(now, one_way(StreamConfig::chat()));
    let ids: Vec<StreamId> = (0..4).map(|_| open(&mut pipe).unwrap()).collect();
    assert_eq!(open(&mut pipe), Err(OpenError::LimitReached));
    pipe.a().finish(now, ids[2]).unwrap();
    pipe.run();
    while let Some(id) = pipe.b().accept() {
        pipe.received(id);
    }
    pipe.run();
    assert!(pipe.events[0].contains(&StreamEvent::StreamsAvailable));
    assert!(open(&mut pipe).is_ok());
    assert_eq!(open(&mut pipe), Err(OpenError::LimitReached));
}

#[test]
fn the_end_of_the_connection_abandons_what_has_no_fate() {
    let (mut a, _, now) = pair(&StreamLimits::default());
    let id = a.open(now, StreamConfig::chat()).unwrap();
    let message = || Message { want_fate: true, ..Message::binary(vec![0; 10]) };
    a.send(now, id, message()).unwrap();
    build(&mut a, now, 1200).unwrap();
    a.send(now, id, message()).unwrap();
    a.on_close();
    let fate = MessageFate::Abandoned;
    assert_eq!(events(&mut a), [0, 1].map(|number| StreamEvent::Fate { stream: id, number, fate }));
    assert!(!a.wants(now));
    assert_eq!(a.send(now, id, message()), Err(SendError::Closed));
    assert_eq!(a.poll_timeout(), None);
}

#[test]
fn configurations_that_contradict_themselves_are_refused() {
    let (mut a, _, now) = pair(&StreamLimits::default());
    let bad = [
        StreamConfig { ordered: false, ..StreamConfig::bytes() },
        StreamConfig { delivery: Delivery::Unreliable, ..StreamConfig::bytes() },
        StreamConfig { weight: 0, ..StreamConfig::bytes() },
        StreamConfig::bytes().labelled("x".repeat(256)),
    ];
    for config in bad {
        assert_eq!(a.open(now, config), Err(OpenError::InvalidConfig));
    }
    let id = a.open(now, StreamConfig::bytes()).unwrap();
    assert_eq!(a.send(now, id, Message::default()), Err(SendError::WrongFraming));
    assert_eq!(a.recv(now, id), Err(RecvError::WrongFraming));
    let id = a.open(now, one_way(StreamConfig::chat())).unwrap();
    assert_eq!(a.write_bytes(now, id, Bytes::from_static(b"x")), Err(SendError::WrongFraming));
    assert_eq!(a.recv(now, id), Err(RecvError::Closed));
}

// spec-test: STR-37
#[test]
fn the_end_of_unreliable_messages_waits_for_those_on_their_way() {
    let (mut a, mut b, now) = pair(&StreamLimits::default());
    let id = a.open(now, one_way(StreamConfig::voice())).unwrap();
    let mut packets = Vec::new();
    for i in 0..3 {
        a.send(now, id, Message::binary(vec![i; 10])).unwrap();
        if i == 2 {
            a.finish(now, id).unwrap();
        }
        packets.push(build(&mut a, now, 1200).unwrap());
    }
    assert!(!a.wants(now));
    // The last comes first, and does not end the stream for the others.
    take(&mut b, now, &packets[0]).unwrap();
    take(&mut b, now, &packets[1]).unwrap();
    take(&mut b, now, &packets[2]).unwrap();
    settle(&mut a, now, &packets[0], Fate::Acked);
    settle(&mut a, now, &packets[1], Fate::Lost);
    assert!(!a.wants(now));
    settle(&mut a, now, &packets[2], Fate::Acked);
    let end = build(&mut a, now, 1200).unwrap();
    take(&mut b, now, &end).unwrap();
    let got = std::iter::from_fn(|| b.recv(now, id).unwrap_or(None)).count();
    assert_eq!(got, 3);
    assert_eq!(b.recv(now, id), Err(RecvError::Closed));
}

// spec-test: STR-37
#[test]
fn a_message_that_was_held_lost_and_comes_late_is_not_counted_twice() {
    let (mut a, _, now) = pair(&StreamLimits::default());
    let id = a.open(now, one_way(StreamConfig::voice())).unwrap();
    let mut packets = Vec::new();
    for i in 0..3 {
        a.send(now, id, Message::binary(vec![i; 10])).unwrap();
        packets.push(build(&mut a, now, 1200).unwrap());
    }
    a.finish(now, id).unwrap();
    settle(&mut a, now, &packets[0], Fate::Lost);
    settle(&mut a, now, &packets[0], Fate::Late);
    settle(&mut a, now, &packets[1], Fate::Acked);
    // The last one is on its way still.
    assert!(!a.wants(now));
    settle(&mut a, now, &packets[2], Fate::Acked);
    assert!(build(&mut a, now, 1200).is_some());
}
