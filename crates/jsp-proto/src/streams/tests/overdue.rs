//! Messages that go once more before they are lost, and the last retransmission before a deadline.

use jsp_wire::Class;

use super::super::Overdue;
use super::super::config::Delivery;
use super::*;
use crate::token::StreamToken;

const DUE_AFTER: Duration = Duration::from_millis(70);

fn realtime() -> StreamConfig {
    StreamConfig { class: Class::RealTime, ordered: false, ..StreamConfig::messages() }
}

fn overdue(now: Instant, eager: bool) -> Overdue {
    Overdue {
        before: now - DUE_AFTER,
        eager,
        path: jsp_wire::PathId::FIRST,
        crosses: false,
        before_doubled: now - DUE_AFTER,
    }
}

/// As [`build`], with what is overdue riding along.
fn build_with(streams: &mut Streams, now: Instant, overdue: Overdue) -> Option<Sent> {
    let mut buf = vec![0u8; 1200];
    let mut tokens = Vec::new();
    let mut packet = PacketBuilder::new(&mut buf, &mut tokens, false);
    streams.write(now, &mut packet);
    if packet.is_ack_eliciting() {
        streams.write_overdue(now, overdue, &mut packet);
    }
    let built = packet.finish();
    buf.truncate(built.len);
    let pn = NEXT_PN.fetch_add(1, Ordering::Relaxed);
    (built.len > 0).then(|| Sent { pn, shape: built.shape, payload: Bytes::from(buf), tokens })
}

/// Numbers of the messages that a packet carries.
fn carried(sent: &Sent) -> Vec<u64> {
    use crate::token::StreamPart::{Message, Messages};
    let numbers = |token: &Token| match token {
        Token::Stream(StreamToken { what: Message { number, .. }, .. }) => *number..*number + 1,
        Token::Stream(StreamToken { what: Messages { first, count, .. }, .. }) => {
            *first..*first + u64::from(*count)
        }
        _ => 0..0,
    };
    sent.tokens.iter().flat_map(numbers).collect()
}

/// A stream that the peer knows, with its message 0 sent and without fate: the stream, the packet.
fn one_in_flight(pipe: &mut Pipe, config: StreamConfig, message: Message) -> (StreamId, Sent) {
    let now = pipe.now;
    let id = pipe.a().open(now, config).unwrap();
    let opening = build(pipe.a(), now, 1200).unwrap();
    take(pipe.b(), now, &opening).unwrap();
    settle(pipe.a(), now, &opening, Fate::Acked);
    pipe.a().send(now, id, message).unwrap();
    let sent = build(pipe.a(), now, 1200).unwrap();
    assert_eq!(carried(&sent), [0]);
    (id, sent)
}

/// The further message arrives, so that only message 0 is overdue.
fn settle_others(streams: &mut Streams, now: Instant, sent: &Sent) {
    for token in &sent.tokens {
        if let Token::Stream(token) = token
            && !matches!(token.what, crate::token::StreamPart::Message { number: 0, .. })
        {
            streams.on_fate(now, *token, Fate::Acked);
        }
    }
}

/// What a packet carries that leaves `after` later, because a further message does.
fn next_carries(pipe: &mut Pipe, id: StreamId, after: u64, eager: bool) -> Vec<u64> {
    let now = pipe.now + ms(after);
    pipe.a().send(now, id, Message::binary(vec![1; 10])).unwrap();
    let sent = build_with(pipe.a(), now, overdue(now, eager)).unwrap();
    settle_others(pipe.a(), now, &sent);
    let new = carried(&sent).into_iter().filter(|number| *number != 0).count();
    assert_eq!(new, 1, "the further message");
    carried(&sent)
}

#[test]
// spec-test: SEN-6, STR-10
fn an_overdue_message_rides_along_and_is_delivered_once() {
    let mut pipe = Pipe::new(1, 0);
    let (id, first) = one_in_flight(&mut pipe, realtime(), Message::binary(vec![7; 200]));
    let now = pipe.now + DUE_AFTER;
    assert!(pipe.a().has_overdue(now, overdue(now, false)));
    assert!(!pipe.a().wants(now), "no packet leaves for it");
    assert!(build_with(pipe.a(), now, overdue(now, false)).is_none());
    pipe.a().send(now, id, Message::binary(vec![8; 200])).unwrap();
    let second = build_with(pipe.a(), now, overdue(now, false)).unwrap();
    assert_eq!(carried(&second), [1, 0]);
    assert_eq!(pipe.a().repeats().bundled, 200);
    take(pipe.b(), now, &second).unwrap();
    // The original was only late.
    take(pipe.b(), now, &first).unwrap();
    pipe.b().accept().unwrap();
    let mut numbers = Vec::new();
    while let Ok(Some(received)) = pipe.b().recv(now, id) {
        numbers.push(received.number);
    }
    assert_eq!(numbers, [1, 0]);
}

#[test]
// spec-test: SEN-7, SEN-9
fn copies_are_rare_and_only_of_what_matters() {
    let copies = |config: StreamConfig, message: Message, times: &[u64], eager: bool| {
        let mut pipe = Pipe::new(1, 0);
        let (id, _) = one_in_flight(&mut pipe, config, message);
        let mut copied = Vec::new();
        for &after in times {
            if next_carries(&mut pipe, id, after, eager).contains(&0) {
                copied.push(after);
            }
        }
        copied
    };
    let message = || Message::binary(vec![7; 200]);
    assert_eq!(
        copies(realtime(), message(), &[60, 70, 80, 99, 100, 130, 160, 190, 220, 230], false),
        [70, 100, 130, 160, 230]
    );
    let chat = StreamConfig { class: Class::Interactive, ..realtime() };
    assert_eq!(copies(chat, message(), &[70, 90], true), [0; 0]);
    let partial = |retransmits, lifetime| StreamConfig {
        delivery: Delivery::Partial { retransmits, lifetime },
        ..realtime()
    };
    assert_eq!(copies(partial(Some(1), None), message(), &[70, 90, 110], true), [70]);
    assert_eq!(copies(partial(None, Some(ms(85))), message(), &[70, 90, 110], true), [70]);
    let unreliable = StreamConfig { delivery: Delivery::Unreliable, ..realtime() };
    assert_eq!(copies(unreliable, message(), &[70, 90], true), [0; 0]);
    // In several pieces.
    let mut pipe = Pipe::new(1, 0);
    let now = pipe.now;
    let id = pipe.a().open(now, realtime()).unwrap();
    pipe.a().send(now, id, Message::binary(vec![7; 3000])).unwrap();
    while build(pipe.a(), now, 1200).is_some() {}
    assert!(!pipe.a().has_overdue(now + ms(70), overdue(now + ms(70), true)));
}

#[test]
// spec-test: SEN-7
fn what_was_retransmitted_is_bundled_only_where_much_is_lost() {
    for eager in [false, true] {
        let mut pipe = Pipe::new(1, 0);
        let (id, first) = one_in_flight(&mut pipe, realtime(), Message::binary(vec![7; 200]));
        let now = pipe.now + ms(60);
        settle(pipe.a(), now, &first, Fate::Lost);
        let again = build(pipe.a(), now, 1200).unwrap();
        assert_eq!(carried(&again), [0]);
        // Not right behind the retransmission.
        assert!(!next_carries(&mut pipe, id, 64, eager).contains(&0));
        assert_eq!(next_carries(&mut pipe, id, 70, eager).contains(&0), eager);
    }
}

#[test]
// spec-test: SEN-10
fn copies_are_paid_for_by_losses() {
    let mut pipe = Pipe::new(1, 0);
    let (id, _) = one_in_flight(&mut pipe, realtime(), Message::binary(vec![7; 200]));
    let mut copies = 0;
    for n in 0..80 {
        copies += usize::from(next_carries(&mut pipe, id, 70 + n * 20, false).contains(&0));
    }
    assert_eq!(copies, 16, "a path that loses nothing");
    pipe.a().on_losses(1);
    for n in 80..130 {
        copies += usize::from(next_carries(&mut pipe, id, 70 + n * 20, false).contains(&0));
    }
    assert_eq!(copies, 16 + 6);
}

#[test]
// spec-test: SEN-8
fn the_fate_of_the_copy_decides() {
    let mut pipe = Pipe::new(1, 0);
    let message = Message::binary(vec![7; 200]).with_fate();
    let (id, first) = one_in_flight(&mut pipe, realtime(), message);
    let now = pipe.now + DUE_AFTER;
    pipe.a().send(now, id, Message::binary(vec![8; 200])).unwrap();
    let second = build_with(pipe.a(), now, overdue(now, false)).unwrap();
    settle(pipe.a(), now, &first, Fate::Lost);
    assert!(!pipe.a().wants(now), "a copy is on its way");
    settle(pipe.a(), now, &second, Fate::Lost);
    let third = build(pipe.a(), now, 1200).unwrap();
    let mut numbers = carried(&third);
    numbers.sort_unstable();
    assert_eq!(numbers, [0, 1]);
    settle(pipe.a(), now, &third, Fate::Acked);
    let fate = StreamEvent::Fate { stream: id, number: 0, fate: MessageFate::Acknowledged };
    assert!(events(pipe.a()).contains(&fate));
}

/// What a packet carries goes once more, though it has no fate yet.
fn doubt(pipe: &mut Pipe, now: Instant, sent: &Sent) {
    for token in &sent.tokens {
        if let Token::Stream(token) = token {
            pipe.a().on_doubt(now, *token);
        }
    }
}

#[test]
// spec-test: SEN-32
fn a_copy_in_doubt_is_not_waited_for() {
    let mut pipe = Pipe::new(1, 0);
    let (_, first) = one_in_flight(&mut pipe, realtime(), Message::binary(vec![7; 200]));
    let now = pipe.now;
    doubt(&mut pipe, now, &first);
    let second = build(pipe.a(), now, 1200).unwrap();
    assert_eq!(carried(&second), [0]);
    settle(pipe.a(), now, &second, Fate::Lost);
    let third = build(pipe.a(), now, 1200).expect("the first may never have a fate");
    assert_eq!(carried(&third), [0]);
    settle(pipe.a(), now, &first, Fate::Lost);
    assert!(!pipe.a().wants(now), "the third is waited for");
}

#[test]
// spec-test: STR-44
fn the_last_retransmission_before_a_deadline_goes_twice() {
    let partial = |lifetime| StreamConfig {
        delivery: Delivery::Partial { retransmits: None, lifetime: Some(ms(lifetime)) },
        ..realtime()
    };
    // The round trip is 20 ms; the loss is found after 75 ms.
    for (lifetime, echo) in [(100, Some(83)), (200, None), (87, None)] {
        let mut pipe = Pipe::new(1, 0);
        let (_, first) = one_in_flight(&mut pipe, partial(lifetime), Message::binary(vec![7; 200]));
        let start = pipe.now;
        settle(pipe.a(), start + ms(75), &first, Fate::Lost);
        let again = build(pipe.a(), start + ms(75), 1200).unwrap();
        assert_eq!(carried(&again), [0]);
        let Some(echo) = echo else {
            pipe.a().handle_timeout(start + ms(lifetime) - ms(1));
            assert!(!pipe.a().wants(start + ms(lifetime) - ms(1)), "{lifetime}");
            continue;
        };
        let due = pipe.a().poll_timeout().unwrap();
        assert_eq!(due, start + ms(echo));
        pipe.a().handle_timeout(due);
        let twice = build(pipe.a(), due, 1200).unwrap();
        assert_eq!(carried(&twice), [0]);
        // Both lost: it is over.
        settle(pipe.a(), start + ms(105), &again, Fate::Lost);
        settle(pipe.a(), start + ms(105), &twice, Fate::Lost);
        assert!(
            carried(&build(pipe.a(), start + ms(105), 1200).unwrap()).is_empty(),
            "only a SKIP"
        );
    }
}

/// The piece of a message that a packet brings.
fn piece(sent: &Sent) -> (u32, u32) {
    let what = sent.tokens.iter().find_map(|token| match token {
        Token::Stream(StreamToken { what, .. }) => Some(*what),
        _ => None,
    });
    let Some(crate::token::StreamPart::Message { offset, len, .. }) = what else {
        panic!("no piece: {what:?}")
    };
    (offset, len)
}

#[test]
// spec-test: STR-44
fn a_second_copy_holds_only_what_was_sent_before() {
    let mut pipe = Pipe::new(1, 0);
    let start = pipe.now;
    let delivery = Delivery::Partial { retransmits: None, lifetime: Some(ms(100)) };
    let id = pipe.a().open(start, StreamConfig { delivery, ..realtime() }).unwrap();
    pipe.a().send(start, id, Message::binary(vec![7; 3000])).unwrap();
    // The window lets one packet go.
    let first = build(pipe.a(), start, 1200).unwrap();
    let sent = piece(&first);
    settle(pipe.a(), start + ms(75), &first, Fate::Lost);
    let again = build(pipe.a(), start + ms(75), first.payload.len() + 4).unwrap();
    assert_eq!(piece(&again), sent);
    let due = pipe.a().poll_timeout().unwrap();
    pipe.a().handle_timeout(due);
    let twice = build(pipe.a(), due, first.payload.len() + 4).unwrap();
    assert_eq!(piece(&twice), sent);
}

#[test]
fn what_is_lost_while_a_copy_of_it_waits_goes_once() {
    let mut pipe = Pipe::new(1, 0);
    let start = pipe.now;
    let delivery = Delivery::Partial { retransmits: None, lifetime: Some(ms(100)) };
    let id = pipe.a().open(start, StreamConfig { delivery, ..realtime() }).unwrap();
    pipe.a().send(start, id, Message::binary(vec![7; 3000])).unwrap();
    let sent: Vec<_> = std::iter::from_fn(|| build(pipe.a(), start, 1200)).collect();
    assert_eq!(sent.len(), 3);
    settle(pipe.a(), start + ms(75), &sent[0], Fate::Lost);
    let again = build(pipe.a(), start + ms(75), 1200).unwrap();
    let due = pipe.a().poll_timeout().unwrap();
    pipe.a().handle_timeout(due);
    assert_eq!(pipe.a().buffered(), 3000);
    // The copy waits as one piece, and what is lost has been cut otherwise.
    settle(pipe.a(), due, &sent[1], Fate::Acked);
    settle(pipe.a(), due, &sent[2], Fate::Lost);
    settle(pipe.a(), due, &again, Fate::Lost);
    assert_eq!(pipe.a().buffered(), 3000);
    let copies: Vec<_> = std::iter::from_fn(|| build(pipe.a(), due, 1200)).collect();
    let pieces: Vec<_> = copies.iter().map(piece).collect();
    assert_eq!(pieces, [piece(&sent[0]), piece(&sent[2])]);
    assert_eq!(pipe.a().buffered(), 0);
}

#[test]
fn what_is_lost_beside_a_part_of_it_that_waits_goes_once() {
    let (id, start) = (StreamId(0), Pipe::new(1, 0).now);
    let mut pipe = Pipe::new(1, 0);
    pipe.a().send(start, id, Message::binary(vec![7; 2000])).unwrap();
    let sent = build(pipe.a(), start, 3000).unwrap();
    // The first half goes again; the second waits.
    doubt(&mut pipe, start, &sent);
    let half = build(pipe.a(), start, 1200).unwrap();
    let (offset, len) = piece(&half);
    assert!(offset == 0 && len < 2000);
    settle(pipe.a(), start, &half, Fate::Lost);
    settle(pipe.a(), start, &sent, Fate::Lost);
    assert_eq!(pipe.a().buffered(), 2000);
}
