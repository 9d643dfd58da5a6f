use super::super::config::Delivery;
use super::*;

fn partial(retransmits: Option<u32>, lifetime: Option<Duration>) -> StreamConfig {
    let delivery = Delivery::Partial { retransmits, lifetime };
    StreamConfig { delivery, ordered: false, ..StreamConfig::messages() }
}

#[test]
fn bytes_arrive_whole_and_in_order_over_a_bad_link() {
    for (seed, loss) in [(1, 0), (2, 3), (3, 20), (4, 40)] {
        let mut pipe = Pipe::new(seed, loss);
        let now = pipe.now;
        let id = pipe.a().open(now, StreamConfig::bytes()).unwrap();
        let data = pattern(seed, 3_000_000);
        let (mut written, mut read, mut ended) = (0, Vec::new(), false);
        pipe.run_with(|pipe| {
            let now = pipe.now;
            while written < data.len() {
                let size = 1 + pipe.rng.below(40_000) as usize;
                let end = data.len().min(written + size);
                match pipe.a().write_bytes(now, id, data.slice(written..end)) {
                    Ok(taken) => written += taken,
                    Err(SendError::WouldBlock) => break,
                    Err(error) => panic!("{error}"),
                }
                if written == data.len() {
                    pipe.a().finish(now, id).unwrap();
                }
            }
            ended |= pipe.b().accept().is_none() && drain(pipe.b(), now, id, &mut read);
        });
        assert!(read == data, "seed {seed}");
        assert!(ended);
        assert!(pipe.events[0].contains(&StreamEvent::SendFinished(id)));
    }
}

#[test]
fn short_writes_are_gathered() {
    let mut pipe = Pipe::new(12, 10);
    let now = pipe.now;
    let id = pipe.a().open(now, StreamConfig::bytes()).unwrap();
    let data = pattern(12, 200_000);
    let (mut written, mut read) = (0, Vec::new());
    while written < data.len() {
        let len = [1, 40, 255, 256, 3000][pipe.rng.below(5) as usize];
        let end = data.len().min(written + len);
        let now = pipe.now;
        written += pipe.a().write_bytes(now, id, data.slice(written..end)).unwrap();
        if pipe.rng.chance(20) {
            pipe.step();
        }
    }
    pipe.run();
    let now = pipe.now;
    drain(pipe.b(), now, id, &mut read);
    assert!(read == data);
}

// spec-test: STR-10, STR-11, STR-14, STR-21, STR-31
#[test]
fn reliable_messages_of_all_sizes_arrive_in_order() {
    for (seed, loss) in [(5, 0), (6, 4), (7, 25)] {
        let mut pipe = Pipe::new(seed, loss);
        let now = pipe.now;
        let config = StreamConfig { send_buffer: 32 << 20, ..StreamConfig::messages() };
        let id = pipe.a().open(now, config).unwrap();
        let sizes =
            [0, 1, 63, 64, 1100, 1150, 1180, 1190, 1195, 1200, 1201, 5000, 70_000, 3_000_000];
        let mut got = Vec::new();
        for round in 0..3u64 {
            for (i, size) in sizes.iter().enumerate() {
                let seed = round * 100 + i as u64;
                pipe.send(id, Message::binary(pattern(seed, *size)));
                got.extend(pipe.received(id));
            }
        }
        let now = pipe.now;
        pipe.a().finish(now, id).unwrap();
        pipe.run_with(|pipe| got.extend(pipe.received(id)));
        assert_eq!(got.len(), sizes.len() * 3);
        for (i, received) in got.iter().enumerate() {
            let seed = (i / sizes.len() * 100 + i % sizes.len()) as u64;
            assert_eq!(received.number, i as u64);
            assert!(received.payload == pattern(seed, sizes[i % sizes.len()]), "message {i}");
        }
        let now = pipe.now;
        assert_eq!(pipe.b().recv(now, id), Err(RecvError::Closed));
        assert!(pipe.events[0].contains(&StreamEvent::SendFinished(id)));
    }
}

#[test]
fn unordered_reliable_messages_all_arrive_once_and_out_of_order() {
    let mut pipe = Pipe::new(8, 15);
    let now = pipe.now;
    let config = StreamConfig { ordered: false, ..StreamConfig::messages() };
    let id = pipe.a().open(now, config).unwrap();
    let mut got = Vec::new();
    for i in 0..5000u64 {
        pipe.send(id, Message::binary(pattern(i, (i % 2000) as usize)));
        got.extend(pipe.received(id));
    }
    pipe.run_with(|pipe| got.extend(pipe.received(id)));
    let in_order = got.windows(2).all(|pair| pair[0].number < pair[1].number);
    assert!(!in_order);
    got.sort_by_key(|received| received.number);
    assert_eq!(got.len(), 5000);
    for (i, received) in got.iter().enumerate() {
        assert_eq!(received.number, i as u64);
        assert!(received.payload == pattern(i as u64, i % 2000));
    }
}

// spec-test: STR-32, STR-36
#[test]
fn unreliable_ordered_messages_are_never_sent_again_nor_older_than_heard() {
    let mut pipe = Pipe::new(9, 10);
    pipe.ack_loss = 0;
    let now = pipe.now;
    let id = pipe.a().open(now, StreamConfig::voice()).unwrap();
    let mut got = Vec::new();
    for i in 0..2000u64 {
        let message = Message { want_fate: true, ..Message::binary(pattern(i, 160)) };
        pipe.send(id, message);
        pipe.run_for(Duration::from_micros(500), |_| ());
        got.extend(pipe.received(id));
    }
    let now = pipe.now;
    pipe.a().finish(now, id).unwrap();
    pipe.run_with(|pipe| got.extend(pipe.received(id)));
    assert!(got.windows(2).all(|pair| pair[0].number < pair[1].number));
    assert!(got.len() > 1500 && got.len() < 1950, "{}", got.len());
    assert!(got.iter().all(|r| r.payload == pattern(r.number, 160)));
    let fates = pipe.fates(0);
    assert_eq!(fates.len(), 2000);
    let lost = fates.iter().filter(|fate| fate.1 == MessageFate::Lost).count();
    assert!((100..300).contains(&lost), "{lost}");
    let now = pipe.now;
    assert_eq!(pipe.b().recv(now, id), Err(RecvError::Closed));
}

#[test]
fn unreliable_messages_of_many_pieces_arrive_when_all_pieces_do() {
    let mut pipe = Pipe::new(10, 2);
    let now = pipe.now;
    let config = StreamConfig {
        delivery: Delivery::Unreliable,
        ordered: false,
        send_buffer: 1 << 20,
        ..StreamConfig::messages()
    };
    let id = pipe.a().open(now, config).unwrap();
    let mut got = Vec::new();
    for i in 0..300u64 {
        pipe.send(id, Message::binary(pattern(i, 8000)));
        got.extend(pipe.received(id));
    }
    pipe.run_with(|pipe| got.extend(pipe.received(id)));
    assert!(got.len() > 200 && got.len() < 300, "{}", got.len());
    assert!(got.iter().all(|r| r.payload == pattern(r.number, 8000)));
}

#[test]
fn a_stream_has_one_alarm_however_often_it_is_set_anew() {
    let (mut a, _, mut now) = pair(&StreamLimits::default());
    let id = a.open(now, partial(None, Some(ms(150)))).unwrap();
    // Nobody asks for packets: what lives short expires, and what lives long waits.
    for lifetime in [1000, 3000] {
        a.send(now, id, Message::binary(vec![0; 10]).with_lifetime(ms(lifetime))).unwrap();
    }
    for _ in 0..200 {
        a.send(now, id, Message::binary(vec![0; 10]).with_lifetime(ms(2))).unwrap();
        now = now + ms(4);
        a.handle_timeout(now);
        assert!(a.expiries.len() <= super::super::alarms::ALARMS_ALWAYS + 2);
    }
    // Where it was set again and again, one is left once the time has come.
    now = now + ms(400);
    a.handle_timeout(now);
    assert_eq!(a.expiries.len(), 1);
}

// spec-test: STR-30, STR-34
#[test]
fn expired_messages_are_skipped_and_the_ordered_receiver_goes_on() {
    let mut pipe = Pipe::new(11, 20);
    let now = pipe.now;
    let mut config = partial(None, Some(ms(25)));
    config.ordered = true;
    let id = pipe.a().open(now, config).unwrap();
    let mut got = Vec::new();
    for i in 0..500u64 {
        let message = Message { want_fate: true, ..Message::binary(pattern(i, 900)) };
        pipe.send(id, message);
        pipe.run_for(ms(1), |_| ());
        got.extend(pipe.received(id));
    }
    let now = pipe.now;
    pipe.a().finish(now, id).unwrap();
    pipe.run_with(|pipe| got.extend(pipe.received(id)));
    assert!(got.windows(2).all(|pair| pair[0].number < pair[1].number));
    assert!(got.len() >= 350 && got.len() < 500, "{}", got.len());
    let fates = pipe.fates(0);
    assert_eq!(fates.len(), 500);
    assert!(fates.iter().any(|fate| fate.1 == MessageFate::Expired));
    for (number, fate) in fates {
        if fate == MessageFate::Acknowledged {
            assert!(got.iter().any(|received| received.number == number));
        }
    }
    assert!(pipe.events[0].contains(&StreamEvent::SendFinished(id)));
    let now = pipe.now;
    assert_eq!(pipe.b().recv(now, id), Err(RecvError::Closed));
}

#[test]
fn messages_that_wait_expire_by_the_timer_without_a_packet() {
    let (mut a, _, now) = pair(&StreamLimits::default());
    let id = a.open(now, partial(None, Some(ms(30)))).unwrap();
    let message = Message { want_fate: true, ..Message::binary(vec![1; 10]) };
    a.send(now, id, message).unwrap();
    let at = a.poll_timeout().unwrap();
    assert!(at >= now + ms(30) && at <= now + ms(32));
    a.handle_timeout(at);
    let fate = StreamEvent::Fate { stream: id, number: 0, fate: MessageFate::Expired };
    assert!(events(&mut a).contains(&fate));
    assert_eq!(a.poll_timeout(), None);
    assert_eq!(a.buffered(), 0);
}

// spec-test: STR-31
#[test]
fn a_lost_piece_is_repeated_as_often_as_allowed() {
    for allowed in [0u32, 1, 3] {
        let (mut a, _, now) = pair(&StreamLimits::default());
        let id = a.open(now, partial(Some(allowed), None)).unwrap();
        let message = Message { want_fate: true, ..Message::binary(pattern(1, 3000)) };
        a.send(now, id, message).unwrap();
        let mut transmissions = 0;
        while let Some(sent) = build(&mut a, now, 4000) {
            let data = sent.tokens.iter().any(|token| {
                let Token::Stream(token) = token else { return false };
                matches!(
                    token.what,
                    crate::token::StreamPart::Message { .. }
                        | crate::token::StreamPart::Messages { .. }
                )
            });
            if !data {
                assert!(transmissions == allowed + 1);
                break;
            }
            transmissions += 1;
            settle(&mut a, now, &sent, Fate::Lost);
        }
        assert_eq!(transmissions, allowed + 1);
        let fate = StreamEvent::Fate { stream: id, number: 0, fate: MessageFate::Lost };
        assert!(events(&mut a).contains(&fate));
    }
}

#[test]
fn all_of_a_long_message_that_is_lost_goes_once_more() {
    const LEN: usize = 32 << 20;
    let window = 64 << 20;
    for retransmits in [None, Some(1)] {
        let (mut a, _, now) = pair(&StreamLimits {
            stream_window: window,
            stream_window_max: window,
            data_window: window,
            data_window_max: window,
            message_len_max: window,
            ..StreamLimits::default()
        });
        let id = a.open(now, partial(retransmits, None)).unwrap();
        a.send(now, id, Message::binary(vec![7; LEN])).unwrap();
        let sent: Vec<_> = std::iter::from_fn(|| build(&mut a, now, 1200)).collect();
        let mut again = Vec::new();
        // The second half is doubted before it is lost.
        for sent in &sent[sent.len() / 2..] {
            for token in &sent.tokens {
                let Token::Stream(token) = token else { continue };
                a.on_doubt(now, *token);
            }
        }
        for sent in &sent {
            settle(&mut a, now, sent, Fate::Lost);
        }
        assert_eq!(a.buffered(), LEN as u64);
        again.extend(std::iter::from_fn(|| build(&mut a, now, 1200)));
        assert!(again.len().abs_diff(sent.len()) < 10, "{} of {}", again.len(), sent.len());
        for sent in &again {
            settle(&mut a, now, sent, Fate::Lost);
        }
        assert_eq!(a.buffered() == 0, retransmits.is_some());
    }
}

// spec-test: STR-33
#[test]
fn a_newer_message_with_the_key_replaces_the_older() {
    let (mut a, mut b, now) = pair(&StreamLimits::default());
    let id = a.open(now, StreamConfig::messages()).unwrap();
    let state = |i: u8| Message {
        supersede_key: Some(7),
        want_fate: true,
        ..Message::binary(vec![i; 600])
    };
    for i in 0..5 {
        a.send(now, id, state(i)).unwrap();
    }
    let first = build(&mut a, now, 1200).unwrap();
    a.send(now, id, state(5)).unwrap();
    // The fourth was sent in full: it is not sent again once it is lost.
    settle(&mut a, now, &first, Fate::Lost);
    let mut got = Vec::new();
    for _ in 0..10 {
        let Some(sent) = build(&mut a, now, 1200) else { break };
        take(&mut b, now, &sent).unwrap();
        settle(&mut a, now, &sent, Fate::Acked);
    }
    while let Some(received) = b.recv(now, id).unwrap() {
        got.push((received.number, received.payload[0]));
    }
    assert_eq!(got, [(5, 5)]);
    let superseded = events(&mut a)
        .into_iter()
        .filter(|event| matches!(event, StreamEvent::Fate { fate: MessageFate::Superseded, .. }))
        .count();
    assert_eq!(superseded, 5);
}

#[test]
fn a_doubted_piece_goes_again_and_both_copies_may_arrive() {
    let (mut a, mut b, now) = pair(&StreamLimits::default());
    let id = a.open(now, StreamConfig::messages()).unwrap();
    a.send(now, id, Message::binary(pattern(1, 500))).unwrap();
    let first = build(&mut a, now, 1200).unwrap();
    assert!(build(&mut a, now, 1200).is_none());
    for token in &first.tokens {
        if let Token::Stream(token) = token {
            a.on_doubt(now, *token);
        }
    }
    let second = build(&mut a, now, 1200).unwrap();
    for sent in [&second, &first] {
        take(&mut b, now, sent).unwrap();
        settle(&mut a, now, sent, Fate::Acked);
    }
    assert_eq!(b.recv(now, id).unwrap().unwrap().payload, pattern(1, 500));
    assert_eq!(b.recv(now, id).unwrap(), None);
    assert_eq!(a.buffered(), 0);
}

#[test]
/// spec-test: STR-31
fn a_doubted_piece_counts_where_retransmissions_are_bounded() {
    for bound in [0, 1] {
        let (mut a, _, now) = pair(&StreamLimits::default());
        let id = a.open(now, partial(Some(bound), None)).unwrap();
        a.send(now, id, Message::binary(pattern(1, 500))).unwrap();
        let mut sent = vec![build(&mut a, now, 1200).unwrap()];
        for token in &sent[0].tokens {
            if let Token::Stream(token) = token {
                a.on_doubt(now, *token);
            }
        }
        while let Some(again) = build(&mut a, now, 1200) {
            let brings_data = again.payload.len() > 500;
            settle(&mut a, now, &sent[sent.len() - 1], Fate::Lost);
            if !brings_data {
                break;
            }
            sent.push(again);
        }
        assert_eq!(sent.len() as u32, bound + 1, "{bound}");
    }
}
