//! What early data are worth on a path of 60 ms: the first answer comes with the first round trip.

use std::time::Duration;

use jsp_proto::StreamConfig;
use jsp_sim::app::{MessagePlan, ReadPlan, Script, SendPlan, StreamPlan, Traffic};
use jsp_sim::flow::{End, Flow, Side};
use jsp_sim::link::LinkConfig;
use jsp_sim::resumption::Resumes;
use jsp_sim::topology::{Client, Path, Topology};
use jsp_sim::world::World;
use jsp_wire::{Instant, StreamId};

const OWD: Duration = Duration::from_millis(30);
const BEGAN: Duration = Duration::from_secs(1);

/// When the server has the request, and the client the first message of the server, counted from the
/// client's call; the server sends as soon as it has a connection.
fn times(resumes: Resumes) -> (Duration, Duration) {
    let message = || Traffic::Messages(vec![MessagePlan::new(Instant::ZERO, 200)]);
    let stream = StreamPlan {
        open_at: Instant::ZERO,
        config: StreamConfig::messages().replay_safe(),
        forth: SendPlan::finishing(message()),
        back: SendPlan::finishing(message()),
        forth_reader: ReadPlan::Prompt,
        back_reader: ReadPlan::Prompt,
    };
    let client = Client {
        connect_at: Instant::ZERO + BEGAN,
        resumes,
        script: Script { client: vec![stream], ..Script::default() },
        ..Client::default()
    };
    let topology = Topology::new(7).client(client).path(Path::both_ways(LinkConfig::delayed(OWD)));
    let mut world = World::new(topology);
    world.run_until(Instant::ZERO + Duration::from_secs(3));
    assert!(world.violations().is_empty(), "{:?}", world.violations());
    let heard = |side| {
        let flow = Flow { from: End { pair: 0, side }, stream: StreamId::new(1, false) };
        let message = &world.checkers().ledger().flows[&flow].messages[0];
        message.received.expect("it arrived").since(Instant::ZERO + BEGAN)
    };
    (heard(Side::Client), heard(Side::Server))
}

#[test]
fn the_first_answer_comes_within_a_round_trip() {
    let slack = Duration::from_millis(2);
    let (request, answer) = times(Resumes::Early);
    assert!(request <= OWD + slack, "{request:?}");
    assert!(answer <= OWD * 2 + slack, "{answer:?}");
    // Without early data it takes another round trip, and two where the ticket is of no use.
    let (_, answer) = times(Resumes::Plain);
    assert!(answer > OWD * 4 - slack && answer <= OWD * 4 + slack, "{answer:?}");
    let (_, answer) = times(Resumes::No);
    assert!(answer > OWD * 4 - slack && answer <= OWD * 4 + slack, "{answer:?}");
    let (_, answer) = times(Resumes::Spoilt);
    assert!(answer > OWD * 6 - slack && answer <= OWD * 6 + slack, "{answer:?}");
}
