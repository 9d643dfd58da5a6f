use super::*;

// spec-test: STR-36
#[test]
fn unreliable_floods_keep_only_the_newest() {
    let (mut b, now) = victim();
    let unreliable = Profile { delivery: Delivery::Unreliable, ordered: false, ..MESSAGES };
    let big = vec![7u8; 1000];
    for number in 0..5000u64 {
        // Whole messages, and the first halves of others, which never complete.
        let fragment = (number % 2 == 0).then_some(Fragment { offset: 0, total: 2000 });
        let frame = Frame::Message(MessageFrame {
            stream: M,
            open: open(unreliable),
            number: MessageNumber::Full(number * 3),
            fragment,
            attributes: Attributes::default(),
            fin: false,
            data: &big,
            to_end: false,
        });
        feed(&mut b, now, &frame).unwrap();
    }
    assert!(b.buffered() <= 2 * (32 << 10) + 2000, "{}", b.buffered());
    let got: Vec<u64> = std::iter::from_fn(|| b.recv(now, M).unwrap()).map(|r| r.number).collect();
    assert_eq!(got.last(), Some(&(4999 * 3)));
    assert_eq!(b.received.numbers, 0);
}

/// A piece of an unreliable message on the stream with this number.
fn crumb(stream: u64, number: u64, offset: u64) -> Frame<'static> {
    let unreliable = Profile { delivery: Delivery::Unreliable, ordered: false, ..MESSAGES };
    Frame::Message(MessageFrame {
        stream: StreamId(stream),
        open: open(unreliable),
        number: MessageNumber::Full(number),
        fragment: Some(Fragment { offset, total: 100_000 }),
        attributes: Attributes::default(),
        fin: false,
        data: b"x",
        to_end: false,
    })
}

// spec-test: STR-17, STR-36
#[test]
fn crumbs_of_unreliable_messages_are_few() {
    let (mut b, now) = victim();
    for i in 0..40_000 {
        feed(&mut b, now, &crumb(2, 0, 1 + i * 2)).unwrap();
        assert!(b.received.pieces <= 1026, "{}", b.received.pieces);
    }
    // The message was let go of, and the next one is taken.
    feed(&mut b, now, &crumb(2, 1, 1)).unwrap();
    assert_eq!(b.received.pieces, 1);
    // Over many streams they are counted together.
    let (_, mut b, now) = pair(&StreamLimits { streams_max: 200, ..small() });
    let mut refused = None;
    for i in 0..200_000u64 {
        if let Err(code) = feed(&mut b, now, &crumb(2 + i % 200 * 2, 0, 1 + i / 200 * 2)) {
            refused = Some(code);
            assert!((60_000..70_000).contains(&i), "{i}");
            break;
        }
    }
    assert_eq!(refused, Some(CloseCode::EXCESSIVE_LOAD));
}
