//! Symbols of large messages that a peer should not have sent, or that are of no use.

use jsp_wire::frame::{Skip, Symbol};

use super::super::super::config;
use super::super::super::credit::MESSAGE_COST;
use super::*;

fn symbol(stream: StreamId, number: u64, total: u64, len: usize) -> Frame<'static> {
    const DATA: [u8; 400] = [9; 400];
    Frame::Symbol(Symbol { stream, number, total, id: 200, data: &DATA[..len] })
}

#[test]
/// spec-test: FEC-21
fn symbols_are_paid_for_with_all_of_their_message_and_belong_to_it() {
    let begun = |total| {
        let (mut b, now) = victim();
        feed(&mut b, now, &piece(0, Some((0, total)), &[1; 256])).unwrap();
        (b, now)
    };
    let (mut b, now) = begun(30_000);
    let before = b.received.position;
    assert_eq!(before, 256 + MESSAGE_COST);
    for _ in 0..3 {
        feed(&mut b, now, &symbol(M, 0, 30_000, 256)).unwrap();
        assert_eq!(b.received.position, 30_000 + MESSAGE_COST);
    }
    // Pieces cost nothing more then, and the next message is too much.
    feed(&mut b, now, &piece(0, Some((512, 30_000)), &[1; 256])).unwrap();
    assert_eq!(b.received.position, 30_000 + MESSAGE_COST);
    let over = feed(&mut b, now, &symbol(M, 1, 30_000, 256));
    assert_eq!(over, Err(CloseCode::FLOW_CONTROL));
    for other in [symbol(M, 0, 30_001, 256), symbol(M, 0, 30_000, 296)] {
        let (mut b, now) = begun(30_000);
        feed(&mut b, now, &symbol(M, 0, 30_000, 256)).unwrap();
        assert_eq!(feed(&mut b, now, &other), Err(CloseCode::PROTOCOL_VIOLATION));
    }
    let (mut b, now) = victim();
    feed(&mut b, now, &bytes(B, 0, b"x", false)).unwrap();
    assert!(feed(&mut b, now, &symbol(B, 0, 30_000, 256)).is_err());
    let far = symbol(M, NUMBER_REACH + 1, 30_000, 256);
    let (mut b, now) = begun(30_000);
    assert_eq!(feed(&mut b, now, &far), Err(CloseCode::PROTOCOL_VIOLATION));
    // A message with symbols that is skipped gives its credit back.
    let (mut b, now) = begun(30_000);
    feed(&mut b, now, &symbol(M, 0, 30_000, 256)).unwrap();
    let credit_below = 30_000 + MESSAGE_COST;
    feed(&mut b, now, &Frame::Skip(Skip { stream: M, floor: 1, credit_below })).unwrap();
    assert_eq!(b.received.consumed, credit_below);
}

#[test]
/// spec-test: FEC-19
fn no_symbol_goes_to_a_peer_that_has_not_said_that_it_knows_them() {
    let (mut a, _, now) = pair(&StreamLimits::default());
    let config = StreamConfig {
        delivery: config::Delivery::Partial { retransmits: None, lifetime: None },
        fec: config::FecPolicy::Fountain(50),
        ..StreamConfig::messages()
    };
    let id = a.open(now, config).unwrap();
    a.send(now, id, Message::binary(vec![1; 200_000])).unwrap();
    let mut packets = 0;
    while let Some(sent) = build(&mut a, now, 1_200) {
        packets += 1;
        let frames = Payload::read(sent.shape, &sent.payload).unwrap();
        assert!(frames.flatten().all(|frame| !matches!(frame, Frame::Symbol(_))));
    }
    assert!(packets > 160, "{packets}");
}

#[test]
/// spec-test: FEC-21, STR-14
fn a_stream_does_not_end_below_a_symbol() {
    let (_, mut b, now) = pair(&StreamLimits::default());
    feed(&mut b, now, &piece(0, None, &[1; 5])).unwrap();
    feed(&mut b, now, &symbol(M, 3, 30_000, 256)).unwrap();
    let finish = |value| Frame::Finish(limit(M, value));
    assert_eq!(feed(&mut b, now, &finish(3)), Err(CloseCode::FINAL_SIZE));
    feed(&mut b, now, &finish(4)).unwrap();
    assert_eq!(feed(&mut b, now, &symbol(M, 4, 30_000, 256)), Err(CloseCode::FINAL_SIZE));
}

/// Ids of symbols of a message of 167 that never suffice: each bit is one, the lowest first. They are the 175 that are sums
/// of the fewest intermediate symbols (RFC 6330, section 5.3.5.3).
#[cfg(feature = "raptorq")]
const LIGHTEST: &str = include_str!("../../../../tests/symbols_that_never_suffice.hex");

#[cfg(feature = "raptorq")]
#[test]
/// spec-test: FEC-22
fn symbols_that_never_suffice_are_tried_a_few_times_and_leave_the_message_to_its_pieces() {
    const LEN: usize = 256;
    const TOTAL: u64 = 167 * LEN as u64;
    let (_, mut b, now) = pair(&StreamLimits::default());
    let mut tried = 0;
    let mut give = |b: &mut Streams, id: u32| {
        let frame = if id < 167 {
            piece(0, Some((u64::from(id) * LEN as u64, TOTAL)), &[0; LEN])
        } else {
            Frame::Symbol(Symbol { stream: M, number: 0, total: TOTAL, id, data: &[0; LEN] })
        };
        feed(b, now, &frame).unwrap();
        tried += b.take_tried();
        tried
    };
    let nibble = |at: usize| u8::from_str_radix(&LIGHTEST[at..=at], 16).unwrap();
    let is_light = |id: &u32| nibble((id / 4) as usize ^ 1) >> (id % 4) & 1 == 1;
    let ids: Vec<u32> = (0..398).filter(is_light).collect();
    assert_eq!(ids.len(), 175);
    for id in &ids {
        give(&mut b, *id);
    }
    // From 167 to 175 symbols, once each; then they are gone, and no others are kept.
    assert_eq!(give(&mut b, 397), 9 * TOTAL);
    assert_eq!(b.buffered(), 104 * LEN as u64);
    for id in 167..380 {
        give(&mut b, id);
    }
    assert_eq!(b.buffered(), 104 * LEN as u64);
    for id in 0..167 {
        give(&mut b, id);
    }
    assert_eq!(give(&mut b, 0), 9 * TOTAL);
    b.accept();
    assert_eq!(b.recv(now, M).unwrap().unwrap().payload.len() as u64, TOTAL);
}

#[test]
/// spec-test: FEC-22
fn what_is_kept_of_symbols_is_counted_and_bounded() {
    const LEN: usize = 256;
    let total = 100 * LEN as u64;
    let (_, mut b, now) = pair(&StreamLimits::default());
    feed(&mut b, now, &piece(3, Some((0, 2)), b"x")).unwrap();
    let mut give = |number, id| {
        let symbol = Symbol { stream: M, number, total, id, data: &[9; LEN] };
        feed(&mut b, now, &Frame::Symbol(symbol)).unwrap();
        b.buffered()
    };
    for number in 0..3 {
        let last = (100..264).map(|id| give(number, id)).last();
        assert_eq!(last, Some(1 + (number + 1) * 108 * LEN as u64));
    }
}
