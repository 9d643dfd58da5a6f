use super::*;

/// What a receiver made of frames: what it counts, and what it tells.
fn outcome(b: &mut Streams, now: Instant) -> (String, Vec<StreamEvent>, Vec<(u64, usize)>) {
    let sums = format!("{:?} {}", b.received, b.buffered());
    let told = events(b);
    let ids = [M, B, StreamId(6)];
    let read = ids.iter().flat_map(|id| {
        std::iter::from_fn(|| b.recv(now, *id).ok().flatten().map(|r| (id.0, r.payload.len())))
            .collect::<Vec<_>>()
    });
    let read = read.collect();
    (sums, told, read)
}

// spec-test: STR-20, STR-22, STR-25
#[test]
fn frames_in_one_packet_come_to_what_they_would_in_packets_of_their_own() {
    let message = |stream: u64, number: u64, len: usize| {
        Frame::Message(MessageFrame {
            stream: StreamId(stream),
            open: open(MESSAGES),
            number: MessageNumber::Full(number),
            fragment: None,
            attributes: Attributes::default(),
            fin: false,
            data: &[7; 30_000][..len],
            to_end: false,
        })
    };
    let reset = |final_bytes| Frame::ResetStream(ResetStream { stream: M, code: 9, final_bytes });
    let skip = |floor, credit_below| Frame::Skip(Skip { stream: M, floor, credit_below });
    let cases = [
        vec![message(2, 0, 10), message(6, 0, 20), message(2, 1, 30), message(6, 1, 40)],
        vec![message(2, 0, 10), message(2, 1, 10), Frame::Finish(limit(M, 2))],
        vec![message(2, 0, 10), Frame::Finish(limit(M, 2)), message(2, 1, 10)],
        vec![message(2, 0, 10), message(2, 1, 10), reset(84)],
        vec![message(2, 0, 10), message(6, 0, 10), reset(42), message(6, 1, 10)],
        vec![message(2, 3, 10), message(2, 4, 10), skip(3, 0), message(2, 5, 10)],
        // Beyond the stream's credit, and beyond the connection's.
        vec![message(2, 0, 20_000), message(2, 1, 20_000), message(6, 0, 1)],
        vec![
            message(2, 0, 30_000),
            message(6, 0, 30_000),
            message(10, 0, 30_000),
            message(14, 0, 30_000),
            message(18, 0, 30_000),
            message(22, 0, 30_000),
        ],
        // An error behind what is sound.
        vec![message(2, 0, 10), Frame::Finish(limit(M, 1)), message(2, 1, 10)],
    ];
    for frames in cases {
        let [(mut a, now), (mut b, _)] = [victim(), victim()];
        let one_by_one = frames.iter().try_for_each(|frame| feed(&mut a, now, frame));
        let together = feed_all(&mut b, now, &frames);
        assert_eq!(together, one_by_one);
        if together.is_ok() {
            assert_eq!(outcome(&mut b, now), outcome(&mut a, now));
            assert_eq!(outcome(&mut b, now), outcome(&mut a, now));
        }
    }
}
