mod symbols;
mod tables;
mod together;
mod unreliable;

use bytes::BytesMut;
use jsp_wire::frame::{
    Attributes, BytesFrame, Fragment, MessageFrame, MessageNumber, ResetStream, Skip, StreamLimit,
};
use jsp_wire::{Class, CloseCode, Delivery, Framing, Open, Profile, Writer, varint};
use proptest::prelude::*;

use super::super::credit::NUMBER_REACH;
use super::*;

const MESSAGES: Profile = Profile {
    framing: Framing::Messages,
    delivery: Delivery::Partial,
    ordered: true,
    class: Class::Interactive,
    unidirectional: false,
};
const BYTES: Profile =
    Profile { framing: Framing::Bytes, delivery: Delivery::Reliable, ..MESSAGES };
/// The client's first streams.
const M: StreamId = StreamId(2);
const B: StreamId = StreamId(4);

fn small() -> StreamLimits {
    StreamLimits {
        data_window: 64 << 10,
        data_window_max: 64 << 10,
        stream_window: 32 << 10,
        stream_window_max: 32 << 10,
        message_len_max: 100_000,
        streams_max: 16,
        unreliable_buffer: 32 << 10,
        ..StreamLimits::default()
    }
}

/// A server that takes what a hostile client writes.
fn victim() -> (Streams, Instant) {
    let (_, b, now) = pair(&small());
    (b, now)
}

fn feed(streams: &mut Streams, now: Instant, frame: &Frame<'_>) -> Result<(), CloseCode> {
    feed_all(streams, now, std::slice::from_ref(frame))
}

/// Takes in a frame for each of the numbers until one is refused: for which, and with what.
fn first_refusal<'a>(
    streams: &mut Streams,
    now: Instant,
    mut numbers: core::ops::Range<u64>,
    frame: impl Fn(u64) -> Frame<'a>,
) -> Option<(u64, CloseCode)> {
    numbers.find_map(|n| feed(streams, now, &frame(n)).err().map(|code| (n, code)))
}

/// Takes in a packet of these frames.
fn feed_all(streams: &mut Streams, now: Instant, frames: &[Frame<'_>]) -> Result<(), CloseCode> {
    let mut buf = vec![0u8; 200_000];
    let mut writer = Writer::new(&mut buf);
    frames.iter().for_each(|frame| frame.write(&mut writer).unwrap());
    let len = writer.len();
    buf.truncate(len);
    let sent = Sent { pn: 0, shape: Shape::Frames, payload: buf.into(), tokens: Vec::new() };
    take(streams, now, &sent).map_err(|error| error.code)
}

fn open(profile: Profile) -> Option<Open<'static>> {
    Some(Open { profile, params: &[] })
}

fn bytes(stream: StreamId, offset: u64, data: &[u8], fin: bool) -> Frame<'_> {
    let open = if stream == B { open(BYTES) } else { None };
    Frame::Bytes(BytesFrame { stream, open, offset, fin, data, to_end: false })
}

fn piece(number: u64, fragment: Option<(u64, u64)>, data: &[u8]) -> Frame<'_> {
    Frame::Message(MessageFrame {
        stream: M,
        open: open(MESSAGES),
        number: MessageNumber::Full(number),
        fragment: fragment.map(|(offset, total)| Fragment { offset, total }),
        attributes: Attributes::default(),
        fin: false,
        data,
        to_end: false,
    })
}

fn limit(stream: StreamId, value: u64) -> StreamLimit {
    StreamLimit { stream, value }
}

// spec-test: STR-2, STR-6, STR-8, STR-9
#[test]
fn ids_and_openings_are_checked() {
    let (mut b, now) = victim();
    let opening = |id, profile: Profile| Frame::Open { stream: id, open: open(profile).unwrap() };
    assert_eq!(feed(&mut b, now, &Frame::Finish(limit(M, 0))), Err(CloseCode::STREAM_STATE));
    assert_eq!(
        feed(&mut b, now, &Frame::MaxStreamData(limit(StreamId(9), 5))),
        Err(CloseCode::STREAM_STATE)
    );
    // The 16 streams that are allowed are 2, 4 .. 32.
    assert_eq!(feed(&mut b, now, &opening(StreamId(34), BYTES)), Err(CloseCode::STREAM_LIMIT));
    assert_eq!(
        feed(&mut b, now, &opening(StreamId(varint::MAX - 1), BYTES)),
        Err(CloseCode::STREAM_LIMIT)
    );
    assert_eq!(feed(&mut b, now, &opening(StreamId(32), BYTES)), Ok(()));
    // An odd id is the server's own; stream 0 is open already.
    assert_eq!(feed(&mut b, now, &opening(StreamId(1), BYTES)), Err(CloseCode::STREAM_STATE));
    assert_eq!(feed(&mut b, now, &opening(StreamId(0), MESSAGES)), Err(CloseCode::STREAM_STATE));
    assert_eq!(feed(&mut b, now, &opening(M, MESSAGES)), Ok(()));
    assert_eq!(feed(&mut b, now, &opening(M, BYTES)), Err(CloseCode::STREAM_STATE));
    assert_eq!(feed(&mut b, now, &bytes(M, 0, b"x", false)), Err(CloseCode::STREAM_STATE));
    // A finished stream stays finished, however often it is opened again.
    let reset = Frame::ResetStream(ResetStream { stream: B, code: 1, final_bytes: 0 });
    assert_eq!(feed(&mut b, now, &reset), Ok(()));
    for frame in [bytes(B, 0, b"late", true), opening(B, BYTES), reset] {
        assert_eq!(feed(&mut b, now, &frame), Ok(()));
    }
    let opened = events(&mut b).into_iter().filter(|e| matches!(e, StreamEvent::Opened(_))).count();
    assert_eq!(opened, 2);
}

#[test]
fn frames_for_a_direction_that_does_not_exist_are_refused() {
    let (mut b, now) = victim();
    let profile = Profile { unidirectional: true, ..MESSAGES };
    let opening = Frame::Open { stream: M, open: open(profile).unwrap() };
    feed(&mut b, now, &opening).unwrap();
    for frame in [
        Frame::MaxStreamData(limit(M, 5)),
        Frame::StopSending(limit(M, 5)),
        Frame::Consumed(limit(M, 0)),
    ] {
        assert_eq!(feed(&mut b, now, &frame), Err(CloseCode::STREAM_STATE), "{frame:?}");
    }
    let own = b.open(now, one_way(StreamConfig::bytes())).unwrap();
    for frame in [
        bytes(own, 0, b"x", false),
        Frame::Finish(limit(own, 0)),
        Frame::ResetStream(ResetStream { stream: own, code: 0, final_bytes: 0 }),
    ] {
        assert_eq!(feed(&mut b, now, &frame), Err(CloseCode::STREAM_STATE), "{frame:?}");
    }
}

// spec-test: STR-4
#[test]
fn stream_0_cannot_be_ended_by_the_peer() {
    for frame in [
        Frame::Finish(limit(StreamId(0), 0)),
        Frame::StopSending(limit(StreamId(0), 0)),
        Frame::ResetStream(ResetStream { stream: StreamId(0), code: 0, final_bytes: 0 }),
    ] {
        let (mut b, now) = victim();
        assert_eq!(feed(&mut b, now, &frame), Err(CloseCode::STREAM_STATE));
    }
}

// spec-test: STR-22
#[test]
fn data_beyond_the_credit_is_refused() {
    let (mut b, now) = victim();
    assert_eq!(feed(&mut b, now, &bytes(B, 32 << 10, b"x", false)), Err(CloseCode::FLOW_CONTROL));
    assert_eq!(
        feed(&mut b, now, &bytes(B, varint::MAX - 1, b"x", false)),
        Err(CloseCode::FLOW_CONTROL)
    );
    let (mut b, now) = victim();
    assert_eq!(feed(&mut b, now, &bytes(B, (32 << 10) - 1, b"x", false)), Ok(()));
    assert_eq!(feed(&mut b, now, &Frame::Finish(limit(B, 1 << 40))), Err(CloseCode::FLOW_CONTROL));
    // Messages: 33 bytes each.
    let (mut b, now) = victim();
    let results: Vec<_> = (0..2000).map(|n| feed(&mut b, now, &piece(n, None, b"x"))).collect();
    let taken = results.iter().take_while(|result| result.is_ok()).count();
    assert_eq!(taken, (32 << 10) / 33);
    assert_eq!(results[taken], Err(CloseCode::FLOW_CONTROL));
    // The connection's credit: 64 KiB and one message of the largest size.
    let (mut b, now) = victim();
    let refused = first_refusal(&mut b, now, 1..17, |index| {
        Frame::Bytes(BytesFrame {
            stream: StreamId(index * 2),
            open: open(BYTES),
            offset: (32 << 10) - 1,
            fin: false,
            data: b"x",
            to_end: false,
        })
    });
    assert_eq!(refused, Some((6, CloseCode::FLOW_CONTROL)));
}

// spec-test: STR-14, STR-15, STR-16
#[test]
fn ends_and_sizes_do_not_change() {
    let (mut b, now) = victim();
    feed(&mut b, now, &bytes(B, 10, b"0123456789", true)).unwrap();
    for frame in [
        bytes(B, 20, b"x", false),
        bytes(B, 0, b"x", true),
        Frame::Finish(limit(B, 19)),
        Frame::Finish(limit(B, 21)),
        Frame::ResetStream(ResetStream { stream: B, code: 0, final_bytes: 19 }),
    ] {
        assert_eq!(feed(&mut b, now, &frame), Err(CloseCode::FINAL_SIZE), "{frame:?}");
    }
    assert_eq!(feed(&mut b, now, &Frame::Finish(limit(B, 20))), Ok(()));
    feed(&mut b, now, &piece(3, Some((0, 100)), b"abc")).unwrap();
    let code = CloseCode::PROTOCOL_VIOLATION;
    assert_eq!(feed(&mut b, now, &piece(3, Some((3, 101)), b"abc")), Err(code));
    assert_eq!(feed(&mut b, now, &Frame::Finish(limit(M, 3))), Err(CloseCode::FINAL_SIZE));
    assert_eq!(feed(&mut b, now, &Frame::Finish(limit(M, 4))), Ok(()));
    assert_eq!(feed(&mut b, now, &piece(4, None, b"abc")), Err(CloseCode::FINAL_SIZE));
    assert_eq!(feed(&mut b, now, &Frame::Finish(limit(M, 5))), Err(CloseCode::FINAL_SIZE));
    let (mut b, now) = victim();
    let code = CloseCode::MESSAGE_TOO_LARGE;
    assert_eq!(feed(&mut b, now, &piece(0, Some((0, 100_001)), b"abc")), Err(code));
    assert_eq!(feed(&mut b, now, &piece(0, Some((0, 100_000)), b"abc")), Ok(()));
}

// spec-test: STR-34, STR-35, STR-39
#[test]
fn a_skip_must_agree_with_what_came() {
    let skip = |floor, credit_below| Frame::Skip(Skip { stream: M, floor, credit_below });
    let fresh = || {
        let (mut b, now) = victim();
        for number in [0, 2, 4] {
            feed(&mut b, now, &piece(number, None, b"0123456789")).unwrap();
        }
        (b, now)
    };
    let lie = Err(CloseCode::PROTOCOL_VIOLATION);
    let (mut b, now) = fresh();
    // Two messages of 42 arrived below 3.
    assert_eq!(feed(&mut b, now, &skip(3, 83)), lie);
    let (mut b, now) = fresh();
    assert_eq!(feed(&mut b, now, &skip(3, (32 << 10) + 1 - 42)), Err(CloseCode::FLOW_CONTROL));
    let (mut b, now) = fresh();
    feed(&mut b, now, &skip(3, 84 + 50)).unwrap();
    assert_eq!(b.received.position, 50 + 3 * 42);
    let got: Vec<u64> = std::iter::from_fn(|| b.recv(now, M).unwrap()).map(|r| r.number).collect();
    assert_eq!(got, [0, 2]);
    // What was skipped and comes late is ignored, and so is an older SKIP.
    feed(&mut b, now, &piece(1, None, b"late")).unwrap();
    feed(&mut b, now, &skip(2, 0)).unwrap();
    assert_eq!(b.received.position, 50 + 3 * 42);
    // Credit of skipped messages never shrinks.
    assert_eq!(feed(&mut b, now, &skip(4, 84 + 49)), lie);
    feed(&mut b, now, &skip(4, 84 + 50)).unwrap();
    assert_eq!(b.recv(now, M).unwrap().unwrap().number, 4);
    assert_eq!(b.received.consumed, b.received.position);
    assert_eq!(feed(&mut b, now, &skip(varint::MAX, 84 + 92)), Ok(()));
    let (mut b, now) = victim();
    feed(&mut b, now, &bytes(B, 0, b"x", false)).unwrap();
    let wrong = Frame::Skip(Skip { stream: B, floor: 1, credit_below: 0 });
    assert_eq!(feed(&mut b, now, &wrong), Err(CloseCode::STREAM_STATE));
    let unreliable = Profile { delivery: Delivery::Unreliable, ..MESSAGES };
    let opening = Frame::Open { stream: M, open: open(unreliable).unwrap() };
    feed(&mut b, now, &opening).unwrap();
    assert_eq!(feed(&mut b, now, &skip(1, 0)), Err(CloseCode::STREAM_STATE));
}

// spec-test: STR-25, STR-27
#[test]
fn resets_are_held_to_the_credit() {
    let reset =
        |stream, final_bytes| Frame::ResetStream(ResetStream { stream, code: 3, final_bytes });
    let (mut b, now) = victim();
    assert_eq!(feed(&mut b, now, &reset(B, 1 << 40)), Err(CloseCode::FLOW_CONTROL));
    let (mut b, now) = victim();
    feed(&mut b, now, &bytes(B, 0, b"x", false)).unwrap();
    assert_eq!(feed(&mut b, now, &reset(B, 1 << 40)), Err(CloseCode::FLOW_CONTROL));
    let (mut b, now) = victim();
    // Churn of bare resets: each makes room for the next, nothing is kept, nobody is told.
    for index in 1..100_000u64 {
        let result = feed(&mut b, now, &reset(StreamId(index * 2), 10));
        if result.is_err() {
            // The peer did not wait for its limit to grow.
            assert_eq!(result, Err(CloseCode::STREAM_LIMIT));
            build(&mut b, now, 1200).unwrap();
            feed(&mut b, now, &reset(StreamId(index * 2), 10)).unwrap();
        }
    }
    assert_eq!(b.table.len(), 1);
    assert_eq!(events(&mut b), []);
    assert_eq!(b.received.position, b.received.consumed);
}

#[test]
fn a_long_message_takes_no_more_room_than_what_has_come_of_it() {
    let mut partial = crate::streams::assembly::Partial::new(0, 1 << 24, Attributes::default());
    partial.insert(0, Bytes::from_static(b"x"));
    assert!(partial.start.capacity() < 64, "{}", partial.start.capacity());
    for n in 1..2000u64 {
        partial.insert(n, Bytes::from_static(b"x"));
        assert!(partial.start.capacity() as u64 <= 2 * n.max(32), "{n}");
    }
}

#[test]
fn small_pieces_do_not_keep_large_datagrams_alive() {
    let (mut b, now) = victim();
    let mut datagrams = Vec::new();
    for i in 0..2000u64 {
        // One byte in a datagram of 1200.
        let mut room = BytesMut::zeroed(1200);
        let mut writer = Writer::new(&mut room);
        bytes(B, i, b"x", false).write(&mut writer).unwrap();
        let payload = room.freeze();
        let mut reader = jsp_wire::Reader::new(&payload);
        let frame = Frame::read(&mut reader).unwrap();
        take_frame(&mut b, now, 0, &frame, &payload).unwrap();
        datagrams.push(payload);
    }
    let pinned = datagrams.into_iter().filter(|payload| !payload.is_unique()).count();
    assert!(pinned <= 1, "{pinned}");
}

// spec-test: STR-38
#[test]
fn more_cannot_be_consumed_than_was_sent() {
    let (mut b, now) = victim();
    b.send(now, StreamId(0), Message::binary(vec![1])).unwrap();
    assert_eq!(feed(&mut b, now, &Frame::Consumed(limit(StreamId(0), 1))), Ok(()));
    let code = CloseCode::PROTOCOL_VIOLATION;
    assert_eq!(feed(&mut b, now, &Frame::Consumed(limit(StreamId(0), 2))), Err(code));
}

fn any_id() -> impl Strategy<Value = u64> {
    prop_oneof![0u64..12, Just(varint::MAX), Just(1u64 << 40)]
}

fn any_number() -> impl Strategy<Value = u64> {
    prop_oneof![0u64..6, 0u64..70_000, Just(varint::MAX), Just(varint::MAX - 1)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Whatever frames come, in whatever order, and whatever the application does between them:
    /// nothing panics, and the sums stay within the credit.
    #[test]
    fn no_sequence_of_frames_breaks_the_machine(
        steps in prop::collection::vec(
            (0u8..16, any_id(), any_number(), any_number(), 0usize..40, any::<u8>()),
            1..120,
        ),
    ) {
        let (mut b, mut now) = victim();
        let config = StreamConfig { send_buffer: 1 << 20, ..StreamConfig::telemetry() };
        let own = b.open(now, config).unwrap();
        for (kind, id, x, y, len, bits) in steps {
            let stream = StreamId(id);
            let data = vec![bits; len];
            let profile = Profile::from_bits(bits & 0x7f).ok();
            let open = profile.map(|profile| Open { profile, params: &[] }).filter(|_| bits & 1 == 0);
            let fragment = (bits & 2 == 0 && len > 0).then(|| Fragment {
                offset: y.min(1 << 40),
                total: (y.min(1 << 40) + len as u64).max(x.min(1 << 20)),
            });
            let fin = bits & 4 == 0;
            let limit = StreamLimit { stream, value: x };
            let offset = x.min(varint::MAX - len as u64);
            let frame = match kind {
                0..=2 => Frame::Bytes(BytesFrame {
                    stream, open, offset, fin, data: &data, to_end: false,
                }),
                3..=6 => Frame::Message(MessageFrame {
                    stream,
                    open,
                    number: MessageNumber::Full(x),
                    fragment,
                    attributes: Attributes::default(),
                    fin,
                    data: &data,
                    to_end: false,
                }),
                7 => Frame::Finish(limit),
                8 => Frame::ResetStream(ResetStream { stream, code: y, final_bytes: x }),
                9 => Frame::StopSending(limit),
                10 => Frame::Skip(Skip { stream, floor: x, credit_below: y }),
                11 => Frame::MaxData(x),
                12 => Frame::MaxStreamData(limit),
                13 => Frame::MaxStreams(x),
                14 => Frame::Consumed(limit),
                _ => {
                    let _ = b.send(now, own, Message::binary(data.clone()));
                    b.stop(now, stream, y);
                    now = now + ms(50);
                    b.handle_timeout(now);
                    while let Some(sent) = build(&mut b, now, 1200) {
                        let fate = if bits & 8 == 0 { Fate::Acked } else { Fate::Lost };
                        if bits & 16 == 0 {
                            settle(&mut b, now, &sent, fate);
                        }
                        if bits & 24 == 8 {
                            break;
                        }
                    }
                    b.finish(now, stream).ok();
                    continue;
                }
            };
            // An error would end the connection; here the machine must survive even that.
            let _ = feed(&mut b, now, &frame);
            if bits & 32 == 0 {
                b.accept();
                let _ = b.recv(now, stream);
                let _ = b.read(now, stream, 1 + len);
            }
        }
        prop_assert!(b.table.len() <= 1 + 16 + 1);
        b.on_close();
        while b.poll_event().is_some() {}
    }
}
