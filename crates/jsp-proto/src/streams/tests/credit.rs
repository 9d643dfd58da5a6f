use super::*;
use crate::token::{StreamPart, StreamToken};

fn tight() -> StreamLimits {
    StreamLimits {
        data_window: 64 << 10,
        data_window_max: 64 << 10,
        stream_window: 32 << 10,
        stream_window_max: 32 << 10,
        message_len_max: 2 << 20,
        ..StreamLimits::default()
    }
}

fn write_all(pipe: &mut Pipe, id: StreamId, data: &Bytes, written: &mut usize) {
    let now = pipe.now;
    if let Ok(taken) = pipe.a().write_bytes(now, id, data.slice(*written..)) {
        *written += taken;
    }
}

// spec-test: STR-20, STR-21
#[test]
fn an_unread_stream_stalls_at_its_credit_and_resumes() {
    let mut pipe = Pipe::with_limits(1, 0, &tight());
    let now = pipe.now;
    let id = pipe.a().open(now, StreamConfig::bytes()).unwrap();
    let data = pattern(1, 500_000);
    let (mut written, mut read) = (0, Vec::new());
    write_all(&mut pipe, id, &data, &mut written);
    pipe.run();
    assert_eq!(pipe.b().buffered(), 32 << 10);
    assert!(!pipe.sides[0].wants(pipe.now));
    pipe.run_with(|pipe| {
        write_all(pipe, id, &data, &mut written);
        let now = pipe.now;
        drain(pipe.b(), now, id, &mut read);
    });
    assert!(read == data);
}

#[test]
fn unread_streams_share_the_credit_of_the_connection() {
    let mut pipe = Pipe::with_limits(2, 0, &tight());
    let now = pipe.now;
    let ids: Vec<StreamId> =
        (0..60).map(|_| pipe.a().open(now, StreamConfig::bytes()).unwrap()).collect();
    let data = pattern(1, 100_000);
    for id in &ids {
        pipe.a().write_bytes(now, *id, data.clone()).unwrap();
    }
    pipe.run();
    // The connection's window, and the reserve for one message of the largest size.
    let held = pipe.b().buffered();
    assert!(held <= (64 << 10) + (2 << 20), "{held}");
    assert!(!pipe.sides[0].wants(pipe.now));
    let mut read = vec![Vec::new(); ids.len()];
    pipe.run_with(|pipe| {
        let now = pipe.now;
        for (id, out) in ids.iter().zip(&mut read) {
            drain(pipe.b(), now, *id, out);
        }
    });
    assert!(read.iter().all(|out| *out == data));
}

// spec-test: STR-20, STR-23
#[test]
fn messages_larger_than_every_window_complete_even_side_by_side() {
    for (seed, loss) in [(3, 0), (4, 10)] {
        let mut pipe = Pipe::with_limits(seed, loss, &tight());
        let now = pipe.now;
        let config = StreamConfig { send_buffer: 8 << 20, ..StreamConfig::messages() };
        let ids: Vec<StreamId> =
            (0..8).map(|_| pipe.a().open(now, config.clone()).unwrap()).collect();
        for round in 0..3u64 {
            for (i, id) in ids.iter().enumerate() {
                let len = [700_000, 2 << 20, 40_000, 100][(i + round as usize) % 4];
                let message = Message::binary(pattern(round, len));
                pipe.a().send(now, *id, message).unwrap();
            }
        }
        let mut got = vec![Vec::new(); ids.len()];
        pipe.run_with(|pipe| {
            for (id, got) in ids.iter().zip(&mut got) {
                got.extend(pipe.received(*id));
            }
        });
        for (i, got) in got.iter().enumerate() {
            assert_eq!(got.len(), 3, "stream {i}");
            for received in got {
                let len = [700_000, 2 << 20, 40_000, 100][(i + received.number as usize) % 4];
                assert!(received.payload == pattern(received.number, len));
            }
        }
    }
}

// spec-test: STR-23
#[test]
fn what_waits_for_credit_goes_on_when_a_message_in_progress_is_given_up() {
    let ms = Duration::from_millis;
    let lifetime = Some(ms(50));
    let delivery = super::super::config::Delivery::Partial { retransmits: None, lifetime };
    let slow = StreamConfig {
        delivery,
        rate_cap: Some(30_000),
        send_buffer: 8 << 20,
        ..StreamConfig::messages()
    };
    let of_key = |len| Message { supersede_key: Some(1), ..Message::binary(pattern(1, len)) };
    for is_superseded in [false, true] {
        let mut pipe = Pipe::with_limits(6, 0, &tight());
        let now = pipe.now;
        let slow = pipe.a().open(now, slow.clone()).unwrap();
        let other = pipe.a().open(now, StreamConfig::messages()).unwrap();
        let a = pipe.a();
        a.send(now, slow, of_key(2 << 20)).unwrap();
        a.send(now, other, Message::binary(pattern(2, 100_000))).unwrap();
        // The rate cap stops the first; what it has yet to send is kept from the second.
        let sent: Vec<_> = std::iter::from_fn(|| build(a, now, 1200)).collect();
        let brings = |sent: &Sent, id| {
            sent.tokens.iter().any(|token| {
                matches!(token, Token::Stream(StreamToken { stream, what: StreamPart::Message { .. }, .. })
                    if *stream == id)
            })
        };
        assert!(sent.iter().any(|sent| brings(sent, slow)));
        assert!(!sent.iter().any(|sent| brings(sent, other)));
        for sent in &sent {
            settle(a, now + ms(10), sent, Fate::Acked);
        }
        let then = now + ms(if is_superseded { 10 } else { 50 });
        if is_superseded {
            a.send(then, slow, of_key(10)).unwrap();
        } else {
            a.handle_timeout(then);
        }
        let sent: Vec<_> = std::iter::from_fn(|| build(a, then, 1200)).collect();
        assert!(sent.iter().any(|sent| brings(sent, other)), "{is_superseded}");
    }
}

// spec-test: STR-21, STR-34
#[test]
fn credit_of_messages_given_up_comes_back() {
    let mut pipe = Pipe::with_limits(5, 30, &tight());
    let now = pipe.now;
    let delivery = super::super::config::Delivery::Partial { retransmits: Some(0), lifetime: None };
    let config = StreamConfig { delivery, ordered: false, ..StreamConfig::messages() };
    let id = pipe.a().open(now, config).unwrap();
    let mut got = 0;
    // Many times the window: any credit that leaked would stop the stream.
    for i in 0..4000u64 {
        loop {
            let now = pipe.now;
            let message = Message::binary(pattern(i, 1000 + (i as usize % 7) * 300));
            match pipe.a().send(now, id, message) {
                Ok(_) => break,
                Err(_) => assert!(pipe.step()),
            }
            got += pipe.received(id).len();
        }
        got += pipe.received(id).len();
    }
    pipe.run_with(|pipe| got += pipe.received(id).len());
    assert!((1500..3900).contains(&got), "{got}");
    assert_eq!(pipe.a().buffered() + pipe.b().buffered(), 0);
    let (a, b) = (&pipe.sides[0], &pipe.sides[1]);
    assert_eq!(b.received.position, b.received.consumed);
    assert!(a.credit.left() >= 3 * (64 << 10) / 4, "{:?}", a.credit);
    assert_eq!(a.credit.available(), a.credit.left());
}

// spec-test: STR-24
#[test]
fn windows_grow_while_they_are_the_bottleneck_up_to_their_cap() {
    let limits = StreamLimits {
        stream_window: 64 << 10,
        stream_window_max: 1 << 20,
        data_window: 64 << 10,
        data_window_max: 2 << 20,
        ..StreamLimits::default()
    };
    let mut pipe = Pipe::with_limits(6, 0, &limits);
    pipe.in_flight_max = 1000;
    pipe.gap = Duration::from_micros(5);
    let now = pipe.now;
    let id = pipe.a().open(now, StreamConfig::bytes()).unwrap();
    let data = pattern(1, 8 << 20);
    let (mut written, mut read) = (0, Vec::new());
    pipe.run_with(|pipe| {
        write_all(pipe, id, &data, &mut written);
        let now = pipe.now;
        drain(pipe.b(), now, id, &mut read);
    });
    assert!(read == data);
    assert_eq!(pipe.sides[1].table.find(id).unwrap().1.recv.window.size(), 1 << 20);
    assert!(pipe.sides[1].window.size() >= 1 << 20);
}

#[test]
fn a_lost_credit_update_is_told_again_with_the_newest_value() {
    let (mut a, mut b, now) = pair(&tight());
    let id = a.open(now, StreamConfig::bytes()).unwrap();
    a.write_bytes(now, id, pattern(1, 200_000)).unwrap();
    let pump = |a: &mut Streams, b: &mut Streams| {
        while let Some(sent) = build(a, now, 1200) {
            take(b, now, &sent).unwrap();
            settle(a, now, &sent, Fate::Acked);
        }
    };
    pump(&mut a, &mut b);
    let mut out = Vec::new();
    drain(&mut b, now, id, &mut out);
    let update = build(&mut b, now, 1200).unwrap();
    assert!(!b.wants(now));
    settle(&mut b, now, &update, Fate::Lost);
    assert!(b.wants(now));
    let again = build(&mut b, now, 1200).unwrap();
    take(&mut a, now, &again).unwrap();
    pump(&mut a, &mut b);
    drain(&mut b, now, id, &mut out);
    assert!(out.len() >= 50_000);
}

#[test]
fn what_is_sent_without_credit_is_a_note_only() {
    let limits = StreamLimits { stream_window: 16 << 10, stream_window_max: 16 << 10, ..tight() };
    let (mut a, _, now) = pair(&limits);
    let id = a.open(now, StreamConfig::bytes()).unwrap();
    a.write_bytes(now, id, pattern(1, 100_000)).unwrap();
    let (mut blocked, mut bytes) = (0, 0);
    while let Some(sent) = build(&mut a, now, 1200) {
        for frame in Payload::read(sent.shape, &sent.payload).unwrap() {
            match frame.unwrap() {
                Frame::StreamDataBlocked(f) => {
                    assert_eq!((f.stream, f.value), (id, 16 << 10));
                    blocked += 1;
                }
                Frame::Bytes(f) => bytes += f.data.len(),
                _ => {}
            }
        }
    }
    assert_eq!((blocked, bytes), (1, 16 << 10));
}

#[test]
fn dropped_unread_data_of_a_stopped_stream_frees_its_credit() {
    let mut pipe = Pipe::with_limits(7, 5, &tight());
    for round in 0..50u64 {
        let now = pipe.now;
        let id = pipe.a().open(now, StreamConfig::bytes()).unwrap();
        pipe.a().write_bytes(now, id, pattern(round, 200_000)).unwrap();
        pipe.run_for(ms(15), |_| ());
        let now = pipe.now;
        pipe.b().stop(now, id, 9);
        pipe.run();
        let stopped = StreamEvent::SendStopped { stream: id, code: 9 };
        assert!(pipe.events[0].contains(&stopped), "{round}");
    }
    let b = &pipe.sides[1];
    assert_eq!(b.received.position, b.received.consumed);
}
