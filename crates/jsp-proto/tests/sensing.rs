//! What a connection senses of its network: alarms, copies of overdue messages, capacity.

mod pair;

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use jsp_proto::{
    Alarm, AlarmCause, AlarmLevel, Class, Event, FecPolicy, Message, NetworkHint, StreamConfig,
    StreamId, TransportConfig,
};

use pair::{End, Pair};

const GAP: Duration = Duration::from_millis(10);

fn realtime() -> StreamConfig {
    StreamConfig { class: Class::RealTime, ordered: false, ..StreamConfig::messages() }
}

/// A client that sends 100 messages a second to the server, over its own stream.
struct Talk {
    pair: Pair,
    stream: StreamId,
}

impl Talk {
    fn new(transport: TransportConfig) -> Self {
        Self::over(Pair::with(transport, jsp_proto::RetryPolicy::Never), realtime())
    }

    fn over(mut pair: Pair, config: StreamConfig) -> Self {
        let (client, _) = pair.establish();
        let now = pair.now;
        let stream = pair.client.connection(client).unwrap().open(now, config).unwrap();
        Self { pair, stream }
    }

    /// So many messages, with what the weather does to them.
    fn send(&mut self, count: u32) {
        let (client, _) = self.pair.handles();
        for _ in 0..count {
            let now = self.pair.now;
            let connection = self.pair.client.connection(client).unwrap();
            connection.send(now, self.stream, Message::binary(vec![7; 200])).unwrap();
            self.pair.run_for(GAP);
        }
    }

    /// Alarms that the client heard since the last call.
    fn alarms(&mut self) -> Vec<Alarm> {
        let events = self.pair.events.drain(..);
        events
            .filter_map(|(end, _, event)| match event {
                Event::Alarm(alarm) if end == End::Client => Some(alarm),
                _ => None,
            })
            .collect()
    }

    fn probe_timeouts(&mut self) -> u64 {
        let (client, _) = self.pair.handles();
        self.pair.client.connection(client).unwrap().stats().traffic.probe_timeouts
    }

    fn bundled(&mut self) -> u64 {
        let (client, _) = self.pair.handles();
        self.pair.client.connection(client).unwrap().stats().traffic.bytes_bundled
    }
}

#[test]
fn a_clean_path_sounds_no_alarm_and_costs_no_copy() {
    let mut talk = Talk::new(TransportConfig::default());
    talk.send(2000);
    assert_eq!(talk.alarms(), []);
    assert_eq!(talk.bundled(), 0);
}

#[test]
fn silence_sounds_before_a_time_out_and_its_messages_ride_along() {
    let mut talk = Talk::new(TransportConfig::default());
    talk.send(200);
    assert_eq!(talk.alarms(), []);
    talk.pair.filter = Box::new(|_, _| false);
    let silence = |level| Alarm { level, cause: Some(AlarmCause::AckSilence) };
    // Round trip 20 ms, deviation, and twice the 25 ms that acknowledgements may wait on a clean path, from when the
    // oldest message left that had none yet.
    let sounded = (0..11).find_map(|_| {
        talk.send(1);
        Some(talk.alarms()).filter(|alarms| !alarms.is_empty())
    });
    assert_eq!(sounded, Some(vec![silence(AlarmLevel::Watch)]));
    assert_eq!(talk.probe_timeouts(), 0, "before a time-out");
    talk.send(10);
    assert_eq!(talk.alarms(), [silence(AlarmLevel::Degraded)]);
    assert!(talk.bundled() >= 200 * 10, "{}", talk.bundled());
    talk.pair.filter = Box::new(|_, _| true);
    talk.send(50);
    assert_eq!(talk.alarms().last(), Some(&Alarm::default()));
    let (client, _) = talk.pair.handles();
    let (capacity, now) = (talk.pair.client.connection(client).unwrap(), talk.pair.now);
    let capacity = capacity.capacity(now);
    assert!(capacity.loss_ppm > 0 && capacity.media_rate > 0, "{capacity:?}");
}

#[test]
/// spec-test: SEN-4
fn the_alarm_ends_when_a_timer_holds_lost_what_was_overdue() {
    let mut pair = Pair::new();
    let late = Rc::new(Cell::new(false));
    let is_late = late.clone();
    pair.weather = Box::new(move |to| {
        let extra = if to == End::Server && is_late.get() { 15 } else { 0 };
        vec![Duration::from_millis(200 + extra)]
    });
    // Nothing goes again, so that nothing is under way in the end.
    let once = StreamConfig { fec: FecPolicy::Off, ..StreamConfig::voice() };
    let mut talk = Talk::over(pair, once);
    talk.send(100);
    // After some disorder a loss waits for longer than an acknowledgement is overdue.
    late.set(true);
    talk.send(1);
    late.set(false);
    talk.send(300);
    assert_eq!(talk.alarms(), []);
    talk.pair.filter = Box::new(|to, _| to == End::Client);
    talk.send(1);
    talk.pair.filter = Box::new(|_, _| true);
    talk.send(1);
    talk.pair.run_for(Duration::from_secs(5));
    let silence = |level| Alarm { level, cause: Some(AlarmCause::AckSilence) };
    // It goes on for a while, and ends without an acknowledgement.
    let levels = [AlarmLevel::Watch, AlarmLevel::Degraded, AlarmLevel::Watch];
    let mut heard: Vec<_> = levels.into_iter().map(silence).collect();
    heard.push(Alarm::default());
    assert_eq!(talk.alarms(), heard);
}

#[test]
fn switches_turn_the_senses_off() {
    let transport =
        TransportConfig { forecast: false, bundling: false, ..TransportConfig::default() };
    let mut talk = Talk::new(transport);
    talk.send(200);
    talk.pair.filter = Box::new(|_, _| false);
    talk.send(20);
    talk.pair.filter = Box::new(|_, _| true);
    talk.send(20);
    assert_eq!((talk.alarms(), talk.bundled()), (Vec::new(), 0));
}

#[test]
fn what_the_application_knows_is_an_alarm_and_ends_by_itself() {
    let mut talk = Talk::new(TransportConfig::default());
    talk.send(50);
    let (client, _) = talk.pair.handles();
    let now = talk.pair.now;
    talk.pair.client.connection(client).unwrap().hint(now, NetworkHint::RadioChanged);
    talk.pair.run_for(Duration::from_secs(1));
    let alarms = talk.alarms();
    let hinted = Alarm { level: AlarmLevel::Watch, cause: Some(AlarmCause::Hint) };
    assert_eq!(alarms, [hinted, Alarm::default()]);
}

#[test]
// spec-test: SEN-11
fn an_interface_that_is_up_is_shown_to_the_peer_at_once() {
    let mut talk = Talk::new(TransportConfig::default());
    talk.send(50);
    talk.pair.run_for(Duration::from_secs(1));
    let (client, _) = talk.pair.handles();
    let before = talk.pair.sent[0];
    let now = talk.pair.now;
    talk.pair.client.connection(client).unwrap().hint(now, NetworkHint::InterfaceUp);
    talk.pair.run_for(Duration::from_millis(1));
    assert!(talk.pair.sent[0] > before);
}

#[test]
// spec-test: SEN-11
// spec-test: REC-16
fn what_was_sent_into_a_dead_interface_goes_again_once_it_is_up() {
    let mut talk = Talk::new(TransportConfig::default());
    talk.send(50);
    talk.pair.run_for(Duration::from_secs(1));
    let (client, server) = talk.pair.handles();
    let stream = talk.stream;
    let arrived = |talk: &mut Talk| {
        let now = talk.pair.now;
        let connection = talk.pair.server.connection(server).unwrap();
        while connection.accept().is_some() {}
        let mut count = 0;
        while let Ok(Some(_)) = connection.recv(now, stream) {
            count += 1;
        }
        count
    };
    assert_eq!(arrived(&mut talk), 50);
    let hint = |talk: &mut Talk, hint| {
        let now = talk.pair.now;
        talk.pair.client.connection(client).unwrap().hint(now, hint);
    };
    talk.pair.filter = Box::new(|_, _| false);
    hint(&mut talk, NetworkHint::InterfaceDown);
    talk.send(5);
    talk.pair.run_for(Duration::from_secs(2));
    assert_eq!(arrived(&mut talk), 0);
    talk.pair.filter = Box::new(|_, _| true);
    hint(&mut talk, NetworkHint::InterfaceUp);
    // One way, and the pacer.
    talk.pair.run_for(pair::DELAY + Duration::from_millis(5));
    assert_eq!(arrived(&mut talk), 5);
}
