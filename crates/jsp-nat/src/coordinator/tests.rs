use super::*;
use proptest::prelude::*;

const KEYS: [PeerKey; 3] = [[1; 32], [2; 32], [3; 32]];

fn route(client: u64) -> Route {
    Route::udp(SocketAddr::from(([192, 0, client as u8, 1], 1000)))
}

fn at(millis: u64) -> Instant {
    Instant::ZERO + Duration::from_millis(millis)
}

/// Numbers one after another from 1000.
fn entropy() -> impl FnMut() -> u64 {
    let mut number = 999;
    move || {
        number += 1;
        number
    }
}

/// Clients 0 to 2, registered.
fn meeting(limits: Limits) -> Coordinator {
    let mut out = Coordinator::new(limits, None);
    for (id, key) in (0..).zip(KEYS) {
        assert!(out.join(id, key, route(id)));
        assert!(say(&mut out, 0, id, FromClient::Register));
    }
    let told = messages(&mut out);
    assert_eq!(told.len(), 3);
    let observed = route(1).remote();
    assert_eq!(told[1], (1, FromCoordinator::Registered { observed, stun: None }));
    out
}

fn say(out: &mut Coordinator, millis: u64, id: ClientId, message: FromClient) -> bool {
    out.handle_message(at(millis), id, &message.encode(), &mut entropy())
}

fn messages(out: &mut Coordinator) -> Vec<(ClientId, FromCoordinator)> {
    std::iter::from_fn(|| out.poll_message()).collect()
}

fn datagram(channel: u64, sealed: &[u8]) -> Vec<u8> {
    [&relay::header(channel)[..], sealed].concat()
}

#[test]
// spec-test: RDV-1, RDV-10, RDV-11, RDV-21
fn two_peers_talk_through_a_way_and_nobody_else_does() {
    let mut meeting = meeting(Limits::default());
    assert!(say(&mut meeting, 0, 0, FromClient::Connect { peer: KEYS[1], channel: 7 }));
    let told = messages(&mut meeting);
    assert_eq!(told[0], (0, FromCoordinator::Opened { channel: 7 }));
    assert_eq!(told[1], (1, FromCoordinator::Incoming { peer: KEYS[0], channel: 1000 }));
    let there = datagram(7, b"sealed");
    let forward = meeting.forward(at(1), &route(0), &there).unwrap();
    assert_eq!((forward.to, forward.header), (route(1), relay::header(1000)));
    assert_eq!(forward.sealed, b"sealed");
    let back = datagram(1000, b"answer");
    let forward = meeting.forward(at(1), &route(1), &back).unwrap();
    assert_eq!((forward.to, forward.header), (route(0), relay::header(7)));
    // Neither a third client nor a stranger can write into it, whatever numbers they know.
    for from in [route(2), route(9), Route::Tunnel { id: 1 }] {
        assert_eq!(meeting.forward(at(1), &from, &there), None);
        assert_eq!(meeting.forward(at(1), &from, &back), None);
    }
    assert_eq!(meeting.counters().forwarded, 2);
}

#[test]
// spec-test: RDV-22
fn a_client_that_moves_keeps_its_ways() {
    let mut meeting = meeting(Limits::default());
    say(&mut meeting, 0, 0, FromClient::Connect { peer: KEYS[1], channel: 7 });
    meeting.moved(1, route(50));
    let there = datagram(7, b"sealed");
    assert_eq!(meeting.forward(at(1), &route(0), &there).unwrap().to, route(50));
    let back = datagram(1000, b"answer");
    assert_eq!(meeting.forward(at(1), &route(1), &back), None);
    assert!(meeting.forward(at(1), &route(50), &back).is_some());
}

#[test]
fn what_comes_before_the_way_is_asked_for_waits() {
    let mut meeting = meeting(Limits::default());
    for piece in [b"one", b"two"] {
        assert_eq!(meeting.forward(at(0), &route(0), &datagram(7, piece)), None);
    }
    assert_eq!(meeting.forward(at(0), &route(0), &datagram(8, b"other")), None);
    say(&mut meeting, 1, 0, FromClient::Connect { peer: KEYS[1], channel: 7 });
    let released: Vec<_> = std::iter::from_fn(|| meeting.poll_released()).collect();
    let expected = [b"one", b"two"].map(|piece| (route(1), datagram(1000, piece)));
    assert_eq!(released, expected);
    for n in 0..100 {
        meeting.forward(at(1), &route(0), &datagram(n + 100, b"flood"));
    }
    assert!(meeting.clients[&0].held.len() <= HELD_MAX);
}

#[test]
// spec-test: RDV-4, RDV-12
fn what_cannot_be_had_is_refused() {
    let mut meeting = meeting(Limits { asks_per_minute: 4, ..Limits::default() });
    say(&mut meeting, 0, 0, FromClient::Connect { peer: [9; 32], channel: 1 });
    say(&mut meeting, 0, 0, FromClient::Connect { peer: KEYS[0], channel: 2 });
    say(&mut meeting, 0, 0, FromClient::Connect { peer: KEYS[1], channel: 3 });
    say(&mut meeting, 0, 0, FromClient::Connect { peer: KEYS[1], channel: 3 });
    say(&mut meeting, 0, 0, FromClient::Connect { peer: KEYS[1], channel: 4 });
    let reasons: Vec<_> = messages(&mut meeting)
        .into_iter()
        .filter_map(|(_, message)| match message {
            FromCoordinator::Refused { reason, .. } => Some(reason),
            _ => None,
        })
        .collect();
    let expected = [Refusal::Unknown, Refusal::Unknown, Refusal::InUse, Refusal::TooOften];
    assert_eq!(reasons, expected);
    assert!(!meeting.handle_message(at(0), 0, &[2, 1], &mut entropy()));
    assert!(meeting.handle_message(at(0), 0, &[200], &mut entropy()));
}

/// Who calls, again and again, until it is refused: how often that went well.
fn call_until_refused(meeting: &mut Coordinator, id: ClientId) -> (usize, Refusal) {
    messages(meeting);
    for count in 0.. {
        let mut random = || id * 1_000_000 + count as u64;
        let channel = count as u64;
        let message = FromClient::Connect { peer: KEYS[1], channel }.encode();
        assert!(meeting.handle_message(at(0), id, &message, &mut random));
        let told = messages(meeting);
        let refused = told.iter().find_map(|(_, message)| match message {
            FromCoordinator::Refused { reason, .. } => Some(*reason),
            _ => None,
        });
        if let Some(reason) = refused {
            return (count, reason);
        }
    }
    unreachable!()
}

#[test]
// spec-test: RDV-12, RDV-13
fn one_caller_does_not_keep_out_another() {
    let ways = Limits { channels_max: 16, asks_per_minute: 1000, ..Limits::default() };
    let calls = Limits { channels_max: 1000, asks_per_minute: 16, ..Limits::default() };
    let cases = [(ways, Refusal::TooMany, [8, 4]), (calls, Refusal::TooOften, [8, 8])];
    for (limits, reason, [one, other]) in cases {
        let mut meeting = meeting(limits);
        // The same caller under many identities is one caller.
        for id in 10..20 {
            assert!(meeting.join(id, [id as u8; 32], route(0)));
            let came = call_until_refused(&mut meeting, id);
            assert_eq!(came, (if id == 10 { one } else { 0 }, reason));
        }
        assert_eq!(call_until_refused(&mut meeting, 2), (other, reason));
        // Nor do callers keep the one who is called from calling.
        for id in 20..40 {
            assert!(meeting.join(id, [id as u8; 32], route(id)));
            call_until_refused(&mut meeting, id);
        }
        say(&mut meeting, 0, 1, FromClient::Connect { peer: KEYS[2], channel: 7 });
        assert!(messages(&mut meeting).contains(&(1, FromCoordinator::Opened { channel: 7 })));
    }
}

#[test]
// spec-test: RDV-23
fn rates_and_lengths_are_held() {
    let limits = Limits { relay_rate: 1000, datagram_len_max: 500, ..Limits::default() };
    let mut meeting = meeting(limits);
    say(&mut meeting, 0, 0, FromClient::Connect { peer: KEYS[1], channel: 7 });
    assert_eq!(meeting.forward(at(0), &route(0), &datagram(7, &[0; 501])), None);
    let sent =
        (0..100).filter(|_| meeting.forward(at(0), &route(0), &datagram(7, &[0; 63])).is_some());
    assert_eq!(sent.count(), 20);
    let sent = (0..100)
        .filter(|n| meeting.forward(at(n * 10), &route(0), &datagram(7, &[0; 63])).is_some());
    assert!((9..=10).contains(&sent.count()));
}

#[test]
// spec-test: RDV-23
fn small_datagrams_cost_their_headers_wherever_they_go() {
    let limits = Limits { relay_rate: 1000, ..Limits::default() };
    for is_known in [true, false] {
        let mut meeting = meeting(limits);
        say(&mut meeting, 0, 0, FromClient::Connect { peer: KEYS[1], channel: 7 });
        let small = datagram(if is_known { 7 } else { 8 }, b"x");
        for _ in 0..100 {
            meeting.forward(at(0), &route(0), &small);
        }
        // 2000 bytes at once, 38 each.
        assert_eq!(meeting.counters().dropped_rate, 48);
        assert!(meeting.forward(at(0), &route(0), &datagram(7, b"x")).is_none());
        // What was held back is not counted twice.
        say(&mut meeting, 0, 0, FromClient::Connect { peer: KEYS[1], channel: 8 });
        let released = std::iter::from_fn(|| meeting.poll_released()).count();
        assert_eq!(released, if is_known { 0 } else { HELD_MAX });
    }
}

#[test]
fn ways_end_with_their_clients_and_idle_ones_give_way() {
    let mut meeting = meeting(Limits { channels_max: 1, ..Limits::default() });
    say(&mut meeting, 0, 0, FromClient::Connect { peer: KEYS[1], channel: 7 });
    say(&mut meeting, 0, 2, FromClient::Connect { peer: KEYS[1], channel: 8 });
    let refused = FromCoordinator::Refused { channel: 8, reason: Refusal::TooMany };
    assert!(messages(&mut meeting).contains(&(2, refused)));
    say(&mut meeting, 60_000, 2, FromClient::Connect { peer: KEYS[1], channel: 8 });
    let told = messages(&mut meeting);
    assert!(told.contains(&(0, FromCoordinator::Closed { channel: 7 })));
    assert!(told.contains(&(2, FromCoordinator::Opened { channel: 8 })));
    assert_eq!(meeting.channels(), 1);
    meeting.leave(1);
    assert!(messages(&mut meeting).contains(&(2, FromCoordinator::Closed { channel: 8 })));
    assert_eq!((meeting.channels(), meeting.clients()), (0, 2));
    assert!(meeting.registered.find(&KEYS[1]).is_none() && meeting.by_route.len() == 2);
}

#[test]
fn too_many_are_turned_away_and_the_last_to_register_is_called() {
    let mut meeting = meeting(Limits { clients_max: 4, ..Limits::default() });
    assert!(meeting.join(10, KEYS[1], route(10)));
    assert!(!meeting.join(11, KEYS[1], route(11)));
    say(&mut meeting, 0, 10, FromClient::Register);
    say(&mut meeting, 0, 0, FromClient::Connect { peer: KEYS[1], channel: 7 });
    let called = messages(&mut meeting);
    assert!(
        called.iter().any(|(id, m)| *id == 10 && matches!(m, FromCoordinator::Incoming { .. }))
    );
    // The one that has gone does not take the other's place along.
    meeting.leave(1);
    say(&mut meeting, 0, 0, FromClient::Connect { peer: KEYS[1], channel: 9 });
    assert!(messages(&mut meeting).contains(&(0, FromCoordinator::Opened { channel: 9 })));
}

#[test]
// spec-test: RDV-10
fn when_the_last_to_register_goes_the_one_before_is_called() {
    let mut meeting = meeting(Limits::default());
    for id in [10, 11] {
        assert!(meeting.join(id, KEYS[1], route(id)));
    }
    say(&mut meeting, 0, 10, FromClient::Register);
    // One that has come and has not registered is not called.
    for (gone, expected) in [(None, Some(10)), (Some(10), Some(1)), (Some(1), None)] {
        gone.into_iter().for_each(|id| meeting.leave(id));
        messages(&mut meeting);
        say(&mut meeting, 0, 0, FromClient::Connect { peer: KEYS[1], channel: 7 });
        let called = messages(&mut meeting);
        let called = called.iter().find(|(_, m)| matches!(m, FromCoordinator::Incoming { .. }));
        assert_eq!(called.map(|(id, _)| *id), expected);
        say(&mut meeting, 0, 0, FromClient::Close { channel: 7 });
    }
}

proptest! {
    /// Whatever clients say and send, each way has two ends that name each other.
    #[test]
    fn ways_have_two_ends(steps in prop::collection::vec((0..3u64, 0..6u8, 0..4u64), 0..200)) {
        let mut meeting = meeting(Limits { channels_max: 3, ..Limits::default() });
        let mut random = entropy();
        for (now, (id, what, number)) in (0..).map(|n| at(n * 5000)).zip(steps) {
            let peer = KEYS[(number % 3) as usize];
            match what {
                0 | 1 => {
                    let message = FromClient::Connect { peer, channel: number }.encode();
                    meeting.handle_message(now, id, &message, &mut random);
                }
                2 => {
                    let message = FromClient::Close { channel: number }.encode();
                    meeting.handle_message(now, id, &message, &mut random);
                }
                3 => meeting.leave(id),
                4 => {
                    meeting.join(id, KEYS[id as usize], route(id));
                    meeting.handle_message(now, id, &FromClient::Register.encode(), &mut random);
                }
                _ => {
                    meeting.forward(now, &route(id), &datagram(number, b"x"));
                }
            }
            for (id, client) in &meeting.clients {
                for (number, channel) in &client.channels {
                    let back = &meeting.clients[&channel.peer].channels[&channel.peers_number];
                    prop_assert_eq!((back.peer, back.peers_number), (*id, *number));
                }
                let asked = client.channels.values().filter(|c| c.caller.is_none()).count();
                prop_assert!(asked <= 3 && client.channels.len() - asked <= 3);
            }
            messages(&mut meeting);
        }
    }
}

#[test]
// spec-test: RDV-129
fn who_asks_is_told_of_a_turn_server_but_not_too_often() {
    let mut meeting = meeting(Limits { asks_per_minute: 2, ..Limits::default() });
    assert!(say(&mut meeting, 0, 0, FromClient::AskTurn));
    assert_eq!(messages(&mut meeting), [(0, FromCoordinator::Turn(None))]);
    let grant = |number: u32| TurnGrant {
        server: "turn.example:3478".to_owned(),
        user: number.to_string(),
        password: "secret".to_owned(),
        seconds: 60,
    };
    let mut number = 0;
    meeting.lend_by(Box::new(move || {
        number += 1;
        grant(number)
    }));
    for client in [0, 1, 0] {
        assert!(say(&mut meeting, 0, client, FromClient::AskTurn));
    }
    let told = messages(&mut meeting);
    let grants = [Some(grant(1)), Some(grant(2)), None].map(FromCoordinator::Turn);
    assert_eq!(told, [0, 1, 0].into_iter().zip(grants).collect::<Vec<_>>());
    assert!(!format!("{:?}", grant(1)).contains("secret"));
}

#[test]
// spec-test: RDV-128
fn who_sends_too_much_is_told_before_anything_is_lost() {
    let mut meeting = meeting(Limits { relay_rate: 1000, ..Limits::default() });
    assert!(say(&mut meeting, 0, 0, FromClient::Connect { peer: KEYS[1], channel: 7 }));
    let there = datagram(7, &[64; 63]);
    let mut told = Vec::new();
    while let Some(forward) = meeting.forward(at(0), &route(0), &there) {
        told.push(forward.is_congested);
    }
    // The last quarter of what may go at once.
    assert_eq!((told.len(), told.iter().position(|told| *told)), (20, Some(15)));
    assert!(!meeting.forward(at(1000), &route(0), &there).unwrap().is_congested);
}

#[test]
// spec-test: RDV-13
fn callers_in_streams_are_told_apart_by_their_hosts() {
    let mut meeting = meeting(Limits { asks_per_minute: 10, ..Limits::default() });
    let mut is_refused = |id: u64, host: [u8; 4]| {
        assert!(meeting.join(id, [id as u8; 32], Route::Tunnel { id }));
        meeting.found_at(id, host.into());
        assert!(say(&mut meeting, 0, id, FromClient::Connect { peer: KEYS[1], channel: id }));
        let told = messages(&mut meeting);
        told.iter().any(|(_, message)| matches!(message, FromCoordinator::Refused { .. }))
    };
    // Identities of one network are one caller.
    let all: Vec<_> = (0..7).map(|n| is_refused(10 + n, [192, 0, 2, n as u8])).collect();
    assert_eq!(all, [false, false, false, false, false, true, true]);
    assert!(!is_refused(20, [198, 51, 100, 1]));
}
