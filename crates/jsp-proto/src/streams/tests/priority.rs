use std::collections::HashMap;

use super::super::config::Delivery;
use super::*;
use crate::token::StreamPart;
use jsp_wire::Class;

fn bulk(class: Class, weight: u8) -> StreamConfig {
    StreamConfig { class, weight, send_buffer: 64 << 20, ..StreamConfig::bytes() }
}

fn wide() -> StreamLimits {
    let window = 1 << 30;
    StreamLimits {
        data_window: window,
        data_window_max: window,
        stream_window: window,
        stream_window_max: window,
        ..StreamLimits::default()
    }
}

/// Bytes that each stream got in `packets` packets.
fn shares(a: &mut Streams, now: Instant, packets: usize) -> HashMap<StreamId, u64> {
    let mut shares = HashMap::new();
    for _ in 0..packets {
        let Some(sent) = build(a, now, 1200) else { break };
        for token in &sent.tokens {
            if let Token::Stream(token) = token
                && let StreamPart::Bytes { len, .. }
                | StreamPart::Message { len, .. }
                | StreamPart::Messages { len, .. } = token.what
            {
                *shares.entry(token.stream).or_insert(0) += u64::from(len);
            }
        }
    }
    shares
}

// spec-test: STR-42
#[test]
fn empty_messages_take_no_more_than_their_share() {
    let (mut a, _, now) = pair(&wide());
    let empty = a.open(now, StreamConfig::messages()).unwrap();
    for _ in 0..50_000 {
        a.send(now, empty, Message::binary(Bytes::new())).unwrap();
    }
    let [equal, lower] = [Class::Interactive, Class::Scavenger].map(|class| {
        let id = a.open(now, bulk(class, 16)).unwrap();
        a.write_bytes(now, id, Bytes::from(vec![0; 1 << 20])).unwrap();
        id
    });
    let shares = shares(&mut a, now, 100);
    let share = |id| shares.get(&id).copied().unwrap_or(0) as f64 / 120_000.0;
    assert!(share(equal) > 0.4, "{}", share(equal));
    assert!(share(lower) > 0.04, "{}", share(lower));
}

// spec-test: STR-42
#[test]
fn weights_share_a_class() {
    let (mut a, _, now) = pair(&wide());
    let weights = [1u8, 2, 16, 64, 255];
    let ids: Vec<StreamId> = weights
        .iter()
        .map(|weight| {
            let id = a.open(now, bulk(Class::Interactive, *weight)).unwrap();
            a.write_bytes(now, id, Bytes::from(vec![0; 30 << 20])).unwrap();
            id
        })
        .collect();
    let shares = shares(&mut a, now, 20_000);
    let total: u64 = shares.values().sum();
    let sum: u64 = weights.iter().map(|w| u64::from(*w)).sum();
    for (id, weight) in ids.iter().zip(weights) {
        let due = total as f64 * f64::from(weight) / sum as f64;
        let got = shares[id] as f64;
        assert!((got / due - 1.0).abs() < 0.05, "weight {weight}: {got} of {due}");
    }
}

// spec-test: STR-40, STR-42
#[test]
fn classes_are_strict_but_the_lower_ones_keep_their_floor() {
    let (mut a, _, now) = pair(&wide());
    let mut open = |class| {
        let id = a.open(now, bulk(class, 16)).unwrap();
        a.write_bytes(now, id, Bytes::from(vec![0; 8 << 20])).unwrap();
        id
    };
    let (realtime, interactive, scavenger) =
        (open(Class::RealTime), open(Class::Interactive), open(Class::Scavenger));
    let got = shares(&mut a, now, 4000);
    let total: u64 = got.values().sum();
    let percent = |id: &StreamId| got[id] * 1000 / total;
    assert!((48..=55).contains(&percent(&scavenger)), "{}", percent(&scavenger));
    assert!((48..=55).contains(&percent(&interactive)), "{}", percent(&interactive));
    assert!(percent(&realtime) >= 890);
    // Control goes before everything, for as long as there is any, and nothing is owed for it.
    for _ in 0..500 {
        a.send(now, StreamId::SIGNALLING, Message::binary(vec![7; 1000])).unwrap();
    }
    let got = shares(&mut a, now, 400);
    assert!(got[&StreamId::SIGNALLING] >= 400_000 && got.len() == 1, "{got:?}");
    shares(&mut a, now, 200);
    let got = shares(&mut a, now, 100);
    let total: u64 = got.values().sum();
    assert!(got[&realtime] * 100 > total * 85, "{got:?}");
}

/// The classes whose data are first in the next packets, which leave only because urgent data wait.
fn first_of_urgent(a: &mut Streams, now: Instant, packets: usize) -> Vec<StreamId> {
    let first = |sent: Sent| {
        sent.tokens.iter().find_map(|token| match token {
            Token::Stream(token) => Some(token.stream),
            _ => None,
        })
    };
    (0..packets).filter_map(|_| build_urgent(a, now, 1200).and_then(first)).collect()
}

// spec-test: SEN-12, CC-40
#[test]
fn no_floor_goes_before_the_urgent_data_that_a_packet_leaves_for() {
    let (mut a, _, now) = pair(&wide());
    let mut open = |class| {
        let id = a.open(now, bulk(class, 16)).unwrap();
        a.write_bytes(now, id, Bytes::from(vec![0; 8 << 20])).unwrap();
        id
    };
    let (realtime, file) = (open(Class::RealTime), open(Class::Scavenger));
    assert_eq!(first_of_urgent(&mut a, now, 1000), vec![realtime; 1000]);
    // What was owed meanwhile is mostly forgiven.
    let got = shares(&mut a, now, 100);
    assert!((10..=16).contains(&(got[&file] / 1200)), "{got:?}");
}

#[test]
fn a_scavenger_takes_what_is_left() {
    let (mut a, _, now) = pair(&wide());
    let file = a.open(now, bulk(Class::Scavenger, 16)).unwrap();
    a.write_bytes(now, file, Bytes::from(vec![0; 1 << 20])).unwrap();
    let chat = a.open(now, StreamConfig::chat()).unwrap();
    a.send(now, chat, Message::binary(vec![0; 500])).unwrap();
    let first = shares(&mut a, now, 1);
    assert_eq!(first[&chat], 500);
    assert!(first[&file] > 600);
    assert!(shares(&mut a, now, 10)[&file] > 11_000);
}

// spec-test: STR-42
#[test]
fn a_priority_that_changes_in_line_holds_at_once() {
    let (mut a, _, now) = pair(&wide());
    let mut open = || {
        let id = a.open(now, bulk(Class::Interactive, 16)).unwrap();
        a.write_bytes(now, id, Bytes::from(vec![0; 20 << 20])).unwrap();
        id
    };
    let (one, two) = (open(), open());
    let ratio = |a: &mut Streams| {
        let got = shares(a, now, 4000);
        got[&one] as f64 / got[&two] as f64
    };
    assert!((0.9..1.1).contains(&ratio(&mut a)));
    a.set_priority(now, one, Class::Interactive, 64);
    let now_more = ratio(&mut a);
    assert!((3.7..4.3).contains(&now_more), "{now_more}");
    // To another class and back: one turn, not two.
    a.set_priority(now, one, Class::Control, 16);
    a.set_priority(now, one, Class::Interactive, 16);
    let as_before = ratio(&mut a);
    assert!((0.9..1.1).contains(&as_before), "{as_before}");
}

// spec-test: STR-41
#[test]
fn bytes_of_real_time_that_wait_for_long_let_others_have_their_turn() {
    let (mut a, _, now) = pair(&wide());
    let bytes = a.open(now, bulk(Class::RealTime, 16)).unwrap();
    a.write_bytes(now, bytes, Bytes::from(vec![0; 8 << 20])).unwrap();
    build(&mut a, now, 1200).unwrap();
    let now = now + ms(200);
    build(&mut a, now, 1200).unwrap();
    let delivery = Delivery::Partial { retransmits: None, lifetime: None };
    let config = StreamConfig { delivery, class: Class::RealTime, ..StreamConfig::messages() };
    let voice = a.open(now, config).unwrap();
    a.send(now, voice, Message::binary(vec![0; 100]).with_lifetime(ms(50))).unwrap();
    assert!(shares(&mut a, now, 2).contains_key(&voice));
}

// spec-test: STR-41
#[test]
fn real_time_goes_by_the_earliest_deadline() {
    let (mut a, _, now) = pair(&wide());
    let delivery = Delivery::Partial { retransmits: None, lifetime: None };
    let config = StreamConfig {
        delivery,
        class: Class::RealTime,
        ordered: false,
        ..StreamConfig::messages()
    };
    let mut due = Vec::new();
    let mut rng = Rng(3);
    for _ in 0..50 {
        let id = a.open(now, config.clone()).unwrap();
        let lifetime = ms(1 + rng.below(90));
        a.send(now, id, Message::binary(vec![0; 900]).with_lifetime(lifetime)).unwrap();
        due.push((lifetime, id));
    }
    // One without a lifetime counts as due in 100 ms.
    let plain = a.open(now, config).unwrap();
    a.send(now, plain, Message::binary(vec![0; 900])).unwrap();
    due.push((ms(100), plain));
    due.sort();
    let mut order = Vec::new();
    while let Some(sent) = build(&mut a, now, 1200) {
        order.extend(sent.tokens.iter().filter_map(|token| match token {
            Token::Stream(token) if matches!(token.what, StreamPart::Messages { count: 1, .. }) => {
                Some(token.stream)
            }
            _ => None,
        }));
    }
    let lifetimes: HashMap<StreamId, Duration> = due.iter().map(|(l, id)| (*id, *l)).collect();
    let order: Vec<Duration> = order.iter().map(|id| lifetimes[id]).collect();
    assert_eq!(order.len(), 51);
    assert!(order.is_sorted());
}

#[test]
fn a_lost_piece_with_an_earlier_deadline_overtakes() {
    let (mut a, _, now) = pair(&wide());
    let delivery = Delivery::Partial { retransmits: None, lifetime: Some(ms(50)) };
    let config = StreamConfig {
        delivery,
        class: Class::RealTime,
        ordered: false,
        ..StreamConfig::messages()
    };
    let (early, late) = (a.open(now, config.clone()).unwrap(), a.open(now, config).unwrap());
    a.send(now, early, Message::binary(vec![0; 1100])).unwrap();
    let first = build(&mut a, now, 1200).unwrap();
    let now = now + ms(5);
    for id in [late, early] {
        for _ in 0..3 {
            a.send(now, id, Message::binary(vec![0; 1100])).unwrap();
        }
    }
    settle(&mut a, now, &first, Fate::Lost);
    assert_eq!(shares(&mut a, now, 1), HashMap::from([(early, 1100)]));
}

// spec-test: STR-43
#[test]
fn a_rate_cap_holds_and_its_end_is_a_deadline() {
    let (mut a, _, mut now) = pair(&wide());
    let start = now;
    let config = StreamConfig { rate_cap: Some(1_000_000), ..bulk(Class::RealTime, 16) };
    let id = a.open(now, config).unwrap();
    a.write_bytes(now, id, Bytes::from(vec![0; 4 << 20])).unwrap();
    let mut sent = 0;
    while now < start + ms(2000) {
        if a.wants(now) {
            sent += shares(&mut a, now, 1).values().sum::<u64>();
        } else {
            now = a.poll_timeout().unwrap();
            a.handle_timeout(now);
        }
    }
    assert!((1_990_000..=2_030_000).contains(&sent), "{sent}");
}

#[test]
fn a_changed_class_counts_at_once() {
    let (mut a, _, now) = pair(&wide());
    let (x, y) = (
        a.open(now, bulk(Class::Scavenger, 16)).unwrap(),
        a.open(now, bulk(Class::Interactive, 16)).unwrap(),
    );
    for id in [x, y] {
        a.write_bytes(now, id, Bytes::from(vec![0; 1 << 20])).unwrap();
    }
    shares(&mut a, now, 3);
    a.set_priority(now, x, Class::Control, 16);
    assert_eq!(shares(&mut a, now, 50).keys().collect::<Vec<_>>(), [&x]);
    a.set_priority(now, x, Class::Scavenger, 16);
    assert!(shares(&mut a, now, 50)[&y] > 50_000);
}

#[test]
fn idle_streams_cost_nothing() {
    let limits = StreamLimits { streams_max: 100_000, ..wide() };
    let (mut a, _, now) = pair(&limits);
    for _ in 0..100_000 {
        a.open(now, StreamConfig::chat()).unwrap();
    }
    while build(&mut a, now, 1200).is_some() {}
    assert!(!a.wants(now) && !a.scheduler.has_any());
    assert!(a.control.is_empty() && a.opens.is_empty() && a.blocked.is_empty());
    assert!(size_of::<crate::streams::stream::Stream>() <= 512);
}

/// How often the next piece of the two streams is another one's in 400 packets with turns of so many bytes.
fn changes_of_turn(bytes: usize) -> usize {
    let (mut a, _, now) = pair(&wide());
    a.set_turn(bytes);
    for _ in 0..2 {
        let id = a.open(now, bulk(Class::Interactive, 16)).unwrap();
        a.write_bytes(now, id, Bytes::from(vec![0; 30 << 20])).unwrap();
    }
    let mut pieces = Vec::new();
    for _ in 0..400 {
        let sent = build(&mut a, now, 1200).unwrap();
        pieces.extend(sent.tokens.iter().filter_map(|token| match token {
            Token::Stream(token) => Some(token.stream),
            _ => None,
        }));
    }
    pieces.windows(2).filter(|pair| pair[0] != pair[1]).count()
}

// spec-test: STR-42
#[test]
fn turns_are_long_where_the_path_is_fast() {
    let sent = 400 * 1150;
    let slow = changes_of_turn(0);
    assert!((sent / 2048..=400).contains(&slow), "{slow}");
    assert_eq!(changes_of_turn(1000), slow, "two packets at least");
    let fast = changes_of_turn(16 << 10);
    assert!((sent / (18 << 10)..=sent / (16 << 10) + 1).contains(&fast), "{fast}");
    let fastest = changes_of_turn(usize::MAX);
    assert!((sent / (66 << 10)..=sent / (64 << 10) + 1).contains(&fastest), "a batch: {fastest}");
}
