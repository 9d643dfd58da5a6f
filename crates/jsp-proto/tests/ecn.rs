//! Marks end to end: what packets leave with, and what comes of the marks of the network.

mod pair;

use std::time::Duration;

use jsp_proto::{CongestionControl, Ecn, Event, Message, StreamConfig, TransportConfig};

use pair::{End, Pair};

/// A client that sends a message each 5 ms, for a second; once it has begun, the network does this to marks.
fn talk(transport: TransportConfig, marking: fn(End, Option<Ecn>) -> Option<Ecn>) -> Talk {
    let mut pair = Pair::with(transport, jsp_proto::RetryPolicy::Never);
    let (client, _) = pair.establish();
    pair.marking = Box::new(marking);
    let now = pair.now;
    let stream = pair.client.connection(client).unwrap().open(now, StreamConfig::voice()).unwrap();
    let mut alarms = 0;
    for _ in 0..200 {
        let now = pair.now;
        let connection = pair.client.connection(client).unwrap();
        connection.send(now, stream, Message::binary(vec![7; 200])).unwrap();
        pair.run_for(Duration::from_millis(5));
        let events = pair.events.drain(..);
        alarms += events.filter(|event| matches!(event.2, Event::Alarm(_))).count();
    }
    Talk { marks: pair.marks, alarms }
}

struct Talk {
    /// Marks of the datagrams that the client sent, in order.
    marks: Vec<Option<Ecn>>,
    alarms: usize,
}

fn with(congestion: CongestionControl, l4s: bool) -> TransportConfig {
    TransportConfig { congestion, l4s, ..TransportConfig::default() }
}

#[test]
/// spec-test: ECN-3
fn only_the_real_time_controller_marks_ect1() {
    use CongestionControl::{Bbr, Cubic, RealTime};
    let cases = [
        (RealTime, true, Ecn::Ect1),
        (RealTime, false, Ecn::Ect0),
        (Bbr, true, Ecn::Ect0),
        (Cubic, true, Ecn::Ect0),
    ];
    for (control, l4s, expected) in cases {
        let marks = talk(with(control, l4s), |_, ecn| ecn).marks;
        assert!(marks.iter().flatten().all(|mark| *mark == expected), "{control:?}");
        let marked = marks.iter().filter(|mark| mark.is_some()).count();
        assert!(marked * 10 > marks.len() * 9, "{control:?}: {marked} of {}", marks.len());
    }
}

#[test]
/// spec-test: ECN-1
fn ect1_that_does_not_arrive_as_it_left_is_sent_no_more() {
    for marking in [|_, _| None, |_, ecn: Option<Ecn>| ecn.map(|_| Ecn::Ect0)] {
        let marks = talk(with(CongestionControl::RealTime, true), marking).marks;
        let last = marks.iter().rev().take(100);
        assert!(last.clone().count() == 100 && last.clone().all(Option::is_none));
        assert!(marks.iter().flatten().all(|mark| *mark == Ecn::Ect1));
    }
}

#[test]
/// spec-test: ECN-4
fn congestion_marks_are_an_alarm_only_without_ect1() {
    let congested = |end, ecn: Option<Ecn>| match (end, ecn) {
        (End::Server, Some(_)) => Some(Ecn::Ce),
        _ => ecn,
    };
    let scalable = talk(with(CongestionControl::RealTime, true), congested);
    assert_eq!(scalable.alarms, 0);
    assert!(scalable.marks.iter().rev().take(50).all(|mark| *mark == Some(Ecn::Ect1)));
    assert!(talk(with(CongestionControl::RealTime, false), congested).alarms > 0);
}
