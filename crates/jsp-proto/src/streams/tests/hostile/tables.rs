use super::super::super::stream::RecvBody;
use super::*;

// spec-test: STR-13, STR-17, STR-45
#[test]
fn tables_of_numbers_and_pieces_are_bounded() {
    let (mut b, now) = victim();
    let code = CloseCode::PROTOCOL_VIOLATION;
    assert_eq!(feed(&mut b, now, &piece(NUMBER_REACH, None, b"")), Err(code));
    assert_eq!(feed(&mut b, now, &piece(varint::MAX, None, b"")), Err(code));
    let (mut b, now) = victim();
    let refused = first_refusal(&mut b, now, 1..17, |index| {
        Frame::Message(MessageFrame {
            stream: StreamId(index * 2),
            open: open(MESSAGES),
            number: MessageNumber::Full(NUMBER_REACH - 1),
            fragment: None,
            attributes: Attributes::default(),
            fin: false,
            data: b"",
            to_end: false,
        })
    });
    assert_eq!(refused, Some((9, CloseCode::EXCESSIVE_LOAD)));
    // Every second byte of as much as the credit allows.
    let limits = StreamLimits { stream_window: 1 << 20, ..small() };
    let (_, mut b, now) = pair(&StreamLimits { data_window: 1 << 20, ..limits });
    let every_second = |i| bytes(B, 1 + i * 2, b"x", false);
    let refused = first_refusal(&mut b, now, 0..200_000, every_second);
    // 1026 bytes allow two more than always.
    assert_eq!(refused, Some((1026, CloseCode::EXCESSIVE_LOAD)));
    // Every second byte of messages.
    let (_, mut b, now) = pair(&StreamLimits { data_window: 1 << 20, ..limits });
    let every_second = |i| piece(i / 1000, Some((1 + i % 1000 * 2, 100_000)), b"x");
    let refused = first_refusal(&mut b, now, 0..200_000, every_second);
    // The first pieces of the 66 messages count twice.
    assert_eq!(refused, Some(((1 << 16) - 66, CloseCode::EXCESSIVE_LOAD)));
    // Every second byte of one message.
    let (mut b, now) = victim();
    let mut crumbs = (0..50_000u64).map(|i| piece(0, Some((1 + i * 2, 100_000)), b"x"));
    let refused = crumbs.position(|crumb| feed(&mut b, now, &crumb).is_err());
    assert_eq!(refused, Some(1026));
}

// spec-test: STR-17, STR-46
#[test]
fn numbers_that_are_skipped_leave_nothing_and_are_counted() {
    let (_, mut b, now) = pair(&StreamLimits { streams_max: 64, ..small() });
    for index in 1..=64u64 {
        let stream = StreamId(index * 2);
        for round in 0..3 {
            let number = (round + 1) * NUMBER_REACH - 1 - round;
            let message = Frame::Message(MessageFrame {
                stream,
                open: open(MESSAGES),
                number: MessageNumber::Full(number),
                fragment: None,
                attributes: Attributes::default(),
                fin: false,
                data: b"",
                to_end: false,
            });
            // It tells of all before the message, or of that, too.
            let floor = number + u64::from(round != 1);
            let below = 32 * round + 32 * u64::from(round != 1);
            let skip = Frame::Skip(Skip { stream, floor, credit_below: below });
            feed_all(&mut b, now, &[message, skip]).unwrap();
            let leap = 4 * (NUMBER_REACH - 1024 - u64::from(round > 1));
            assert!(b.take_tried().abs_diff(leap) <= 8);
            while b.recv(now, stream).unwrap().is_some() {}
        }
    }
    assert!(b.received.numbers <= 64);
    let room = b.table.iter().map(|stream| match &stream.recv.body {
        RecvBody::Messages(messages) => messages.seen.capacity(),
        _ => 0,
    });
    assert!(room.sum::<usize>() <= 64 * 1024);
}
