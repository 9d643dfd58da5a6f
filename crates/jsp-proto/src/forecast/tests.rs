//! Each signal alone, and what time changes.

use super::*;

fn at(ms: u64) -> Instant {
    Instant::from_nanos(ms * 1_000_000)
}

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A round-trip time that has settled, of samples that take turns.
fn rtt(samples: [u64; 2]) -> Rtt {
    let mut rtt = Rtt::new(ms(333));
    for n in 0..200 {
        rtt.update(at(n), ms(samples[n as usize % 2]), Duration::ZERO);
    }
    rtt
}

const HELD: Duration = ms(25);

/// A stream of a packet each 10 ms over a round trip of 60 ms, until 1 s.
fn steady() -> Forecast {
    let mut forecast = Forecast::default();
    for n in 0..100 {
        forecast.on_sent(at(n * 10));
        if n >= 6 {
            forecast.on_ack(at(n * 10), true, 1);
        }
    }
    forecast
}

/// The same, with 2 % of the packets lost.
fn lossy() -> Forecast {
    let mut forecast = steady();
    (0..9).for_each(|_| forecast.on_loss(1, at(900), at(900)));
    forecast
}

fn look(forecast: &mut Forecast, now: u64, oldest: Option<u64>) -> Option<Alarm> {
    let owd = Owd::default();
    let rtt = rtt([60, 60]);
    forecast.look(&Scene {
        now: at(now),
        oldest: oldest.map(at),
        owd: &owd,
        rtt: &rtt,
        ack_delay_max: HELD,
    })
}

fn wakes(forecast: &Forecast, oldest: Option<u64>) -> Option<Instant> {
    let (owd, rtt) = (Owd::default(), rtt([60, 60]));
    let oldest = oldest.map(at);
    let scene = Scene { now: at(0), oldest, owd: &owd, rtt: &rtt, ack_delay_max: HELD };
    forecast.poll_timeout(&scene)
}

fn alarm(level: AlarmLevel, cause: AlarmCause) -> Option<Alarm> {
    Some(Alarm { level, cause: Some(cause) })
}

#[test]
// spec-test: SEN-3, SEN-4
fn silence_is_an_alarm_once_the_acknowledgement_is_overdue() {
    // 60 ms, 1 ms of margin at least, and two acknowledgements that wait to ride along.
    assert_eq!(steady().ack_due_after(&rtt([60, 60]), HELD), Some(ms(111)));
    // Where they do not wait, a gap.
    let mut forecast = lossy();
    assert_eq!(forecast.ack_due_after(&rtt([60, 60]), HELD), Some(ms(71)));
    // The last packet may wait for another one.
    assert_eq!(wakes(&forecast, Some(990)), Some(at(990 + 71 + 25)));
    assert_eq!(look(&mut forecast, 1000, Some(960)), None);
    assert_eq!(wakes(&forecast, Some(960)), Some(at(1031)));
    assert_eq!(look(&mut forecast, 1040, Some(960)), None);
    let watch = alarm(AlarmLevel::Watch, AlarmCause::AckSilence);
    assert_eq!(look(&mut forecast, 1041, Some(960)), watch);
    assert_eq!(wakes(&forecast, Some(960)), Some(at(1061)));
    let degraded = alarm(AlarmLevel::Degraded, AlarmCause::AckSilence);
    assert_eq!(look(&mut forecast, 1061, Some(960)), degraded);
    // Nothing more to wait for, until an acknowledgement comes.
    assert_eq!(wakes(&forecast, Some(960)), None);
    forecast.on_ack(at(1070), true, 1);
    assert_eq!(look(&mut forecast, 1070, Some(1010)), watch);
    assert_eq!(wakes(&forecast, None), Some(at(1270)));
    assert_eq!(look(&mut forecast, 1270, Some(1260)), Some(Alarm::default()));
}

#[test]
// spec-test: SEN-3
fn jitter_makes_silence_patient_and_a_stranger_is_given_time() {
    let patient = rtt([40, 80]);
    let unknown = Rtt::new(ms(100));
    assert_eq!(Forecast::default().ack_due_after(&unknown, HELD), None);
    let time_out = patient.pto_base(HELD);
    assert_eq!(Forecast::default().ack_due_after(&patient, HELD), Some(time_out * 2));
    // The deviation is 20 ms.
    assert!(lossy().ack_due_after(&patient, HELD) > Some(ms(60 + 70)));
    assert_eq!(wakes(&Forecast::default(), None), None);
}

#[test]
// spec-test: SEN-4
fn marks_and_hints_sound_for_their_time_and_losses_do_not() {
    let mut forecast = steady();
    forecast.on_loss(1, at(900), at(900));
    assert_eq!(look(&mut forecast, 1000, None), None);
    forecast.on_loss(4, at(900), at(930));
    assert_eq!(look(&mut forecast, 1000, None), None);
    forecast.on_marks(at(1300), ms(60));
    let marks = alarm(AlarmLevel::Watch, AlarmCause::CongestionMarks);
    assert_eq!(look(&mut forecast, 1300, None), marks);
    assert_eq!(look(&mut forecast, 1360, None), None);
    assert_eq!(look(&mut forecast, 1560, None), Some(Alarm::default()));
    forecast.on_hint(at(1600), NetworkHint::RadioChanged);
    let hint = alarm(AlarmLevel::Watch, AlarmCause::Hint);
    assert_eq!(look(&mut forecast, 1600, None), hint);
    forecast.on_hint(at(1700), NetworkHint::InterfaceDown);
    assert_eq!(look(&mut forecast, 1700, None), alarm(AlarmLevel::Degraded, AlarmCause::Hint));
    forecast.on_hint(at(1800), NetworkHint::InterfaceUp);
    assert_eq!(look(&mut forecast, 1800, None), hint);
    assert_eq!(look(&mut forecast, 2000, None), Some(Alarm::default()));
    assert_eq!(wakes(&forecast, None), None);
}

#[test]
// spec-test: SEN-5
fn the_outlook_goes_by_bursts_that_were_seen() {
    let mut forecast = lossy();
    let owd = Owd::default();
    let rtt = rtt([60, 60]);
    let scene =
        |now, oldest| Scene { now: at(now), oldest, owd: &owd, rtt: &rtt, ack_delay_max: HELD };
    let calm = forecast.outlook(&scene(1000, None));
    assert_eq!(calm, Outlook { travel: ms(30), ..Outlook::default() });
    // Silent for 40 ms longer than the round trip, and nothing to compare with.
    let residual =
        |forecast: &Forecast| forecast.outlook(&scene(1000, Some(at(900)))).burst_residual;
    assert_eq!(residual(&forecast), ms(40));
    for lasted in [20, 90, 190] {
        forecast.on_loss(3, at(500), at(500 + lasted));
    }
    // With the gap: 30, 100 and 200 ms; the last two went on for 60 and 160 ms.
    assert_eq!(residual(&forecast), ms(110));
}

#[test]
// spec-test: SEN-5
fn of_two_paths_the_one_that_hears_its_acknowledgements_is_better() {
    let (owd, near, far) = (Owd::default(), rtt([60, 60]), rtt([200, 200]));
    let uneven = rtt([60, 120]);
    let scene = |rtt, oldest| Scene { now: at(1000), oldest, owd: &owd, rtt, ack_delay_max: HELD };
    let mut silent = lossy();
    let calm = silent.clone();
    let [here, there] = [&near, &far].map(|rtt| calm.outlook(&scene(rtt, Some(at(990)))));
    assert_eq!((here.travel, there.travel), (ms(30), ms(100)));
    assert!(here.is_better_than(&there) && !there.is_better_than(&here));
    assert!(!here.is_better_than(&here));
    // A queue counts, seen by the round trip where receive times do not tell.
    let queued = calm.outlook(&scene(&uneven, Some(at(990))));
    assert!(queued.travel > ms(50) && here.is_better_than(&queued), "{queued:?}");
    // Silent for 40 ms longer than the round trip.
    look(&mut silent, 1000, Some(900));
    let here = silent.outlook(&scene(&near, Some(at(900))));
    assert_eq!((here.alarm, here.travel), (AlarmLevel::Watch, ms(70)));
    assert!(there.is_better_than(&here));
}
