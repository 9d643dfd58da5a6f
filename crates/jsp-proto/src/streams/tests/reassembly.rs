use proptest::prelude::*;

use super::super::gaps::Gaps;
use super::super::recv_bytes::RecvBytes;
use super::super::recv_messages::RecvMessages;
use super::*;
use jsp_wire::Delivery;
use jsp_wire::frame::{Attributes, Fragment, MessageFrame, MessageNumber};

const LEN: usize = 6000;

fn pieces() -> impl Strategy<Value = Vec<(usize, usize)>> {
    prop::collection::vec((0usize..LEN, 1usize..2500), 1..60)
}

fn message_frame(number: u64, fragment: Option<Fragment>) -> MessageFrame<'static> {
    MessageFrame {
        stream: StreamId(4),
        open: None,
        number: MessageNumber::Full(number),
        fragment,
        attributes: Attributes::default(),
        fin: false,
        data: &[],
        to_end: true,
    }
}

#[test]
fn many_messages_in_any_order_behind_a_missing_one_come_in_theirs() {
    const COUNT: u64 = 100_000;
    let mut recv = RecvMessages::new(Delivery::Reliable, true, 1 << 20);
    let mut insert = |number: u64, offset, data: &'static [u8]| {
        let frame = message_frame(number, Some(Fragment { offset, total: 2 }));
        recv.insert(0, number, &frame, Bytes::from_static(data), true).unwrap();
    };
    for offset in [0, 1] {
        // The step has no divisor in common with COUNT: each number comes once.
        for number in (0..COUNT).map(|at| 1 + at * 38_197 % COUNT) {
            insert(number, offset, b"x");
        }
    }
    insert(0, 0, b"xx");
    let got: Vec<u64> = std::iter::from_fn(|| recv.recv()).map(|got| got.number).collect();
    assert!(got.into_iter().eq(0..=COUNT));
}

proptest! {
    #[test]
    fn bytes_in_any_order_and_overlap_come_out_as_written(
        mut pieces in pieces(),
        reads in prop::collection::vec(1usize..900, 0..30),
    ) {
        let data = pattern(3, LEN);
        // What is missing comes at the end, so that the stream completes.
        pieces.extend((0..LEN).step_by(700).map(|at| (at, 700)));
        let (mut recv, mut out) = (RecvBytes::default(), Vec::new());
        let mut reads = reads.into_iter();
        for (at, len) in pieces {
            let end = LEN.min(at + len);
            recv.insert(at as u64, data.slice(at..end), end == LEN, true);
            if let Some(max) = reads.next()
                && let Some(read) = recv.read(max)
            {
                prop_assert!(read.len() <= max && !read.is_empty());
                out.extend_from_slice(&read);
            }
            prop_assert_eq!(recv.consumed(), out.len() as u64);
        }
        while let Some(read) = recv.read(usize::MAX) {
            out.extend_from_slice(&read);
        }
        prop_assert!(out == data);
        prop_assert!(recv.is_complete() && !recv.has_ready());
        prop_assert_eq!(recv.unread(), 0);
        prop_assert_eq!(recv.pieces(), 0);
    }

    #[test]
    fn gaps_count_each_byte_once(pieces in pieces()) {
        let data = pattern(4, LEN);
        let (mut gaps, mut known) = (Gaps::default(), vec![false; LEN]);
        for (at, len) in pieces {
            let end = LEN.min(at + len);
            let new = known[at..end].iter().filter(|known| !**known).count();
            known[at..end].fill(true);
            prop_assert_eq!(gaps.insert(at as u64, data.slice(at..end)), new as u64);
        }
        let held = known.iter().filter(|known| **known).count() as u64;
        prop_assert_eq!(gaps.bytes(), held);
        let mut base = 0u64;
        let mut out = 0;
        while base < LEN as u64 {
            match gaps.pop_at(base) {
                Some(piece) => {
                    let at = base as usize;
                    prop_assert!(piece == data.slice(at..at + piece.len()));
                    base += piece.len() as u64;
                    out += piece.len() as u64;
                }
                None => {
                    prop_assert!(!known[base as usize]);
                    base += 1;
                }
            }
        }
        prop_assert_eq!(out, held);
        prop_assert!(gaps.is_empty() && gaps.bytes() == 0);
    }

    #[test]
    fn messages_in_any_order_are_put_together_once(
        steps in prop::collection::vec((0u64..5, 0usize..1500, 1usize..700), 1..80),
        ordered in any::<bool>(),
    ) {
        let mut recv = RecvMessages::new(Delivery::Reliable, ordered, 1 << 20);
        let len = |number: u64| 400 + number as usize * 300;
        let whole = (0..5u64).flat_map(|number| {
            (0..len(number)).step_by(250).map(move |at| (number, at, 250))
        });
        let mut got = Vec::new();
        for (number, at, size) in steps.into_iter().chain(whole) {
            let total = len(number);
            let at = at.min(total - 1);
            let data = pattern(number, total).slice(at..total.min(at + size));
            let fragment = Fragment { offset: at as u64, total: total as u64 };
            let frame = MessageFrame {
                stream: StreamId(4),
                open: None,
                number: MessageNumber::Full(number),
                fragment: Some(fragment),
                attributes: Attributes::default(),
                fin: false,
                data: &[],
                to_end: true,
            };
            recv.insert(0, number, &frame, data, true).unwrap();
            got.extend(std::iter::from_fn(|| recv.recv()));
        }
        if ordered {
            prop_assert!(got.windows(2).all(|pair| pair[0].number < pair[1].number));
        }
        got.sort_by_key(|received| received.number);
        prop_assert_eq!(got.len(), 5);
        for received in got {
            prop_assert!(received.payload == pattern(received.number, len(received.number)));
        }
        let cost: u64 = (0..5).map(|number| len(number) as u64 + 32).sum();
        prop_assert_eq!(recv.position(), cost);
        prop_assert_eq!(recv.consumed(), cost);
        prop_assert_eq!(recv.overhead(), (0, 0));
    }
}
