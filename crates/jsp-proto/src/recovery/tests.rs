//! Recovery as a whole: the ledger against a plain model, and the rules of detection one by one.

use std::collections::{BTreeMap, BTreeSet};

use jsp_wire::{Frame, Payload, Shape, Writer, frame};
use proptest::prelude::*;

use super::*;

const DELAY_MAX: Duration = Duration::from_millis(25);
const SIZE: u16 = 1200;

fn at(ms: u64) -> Instant {
    Instant::from_nanos(ms * 1_000_000)
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A recovery with what it needs around it.
struct Bench {
    recovery: Recovery,
    rtt: Rtt,
    delivery: DeliveryRate,
    fates: Vec<(Token, Fate)>,
    next_pn: u64,
}

impl Bench {
    fn new() -> Self {
        Self {
            recovery: Recovery::new(),
            rtt: Rtt::new(ms(333)),
            delivery: DeliveryRate::default(),
            fates: Vec::new(),
            next_pn: 0,
        }
    }

    /// One that has measured 100 ms, with nothing in flight.
    fn warm() -> Self {
        let mut bench = Self::new();
        bench.send(at(0));
        bench.ack(at(100), &[(0, 0)]);
        bench.fates.clear();
        bench
    }

    fn info(&self) -> SentInfo {
        SentInfo {
            pn: self.next_pn,
            size: SIZE,
            ack_eliciting: true,
            in_flight: true,
            ..SentInfo::default()
        }
    }

    /// Sends one packet whose only token bears its number.
    fn send(&mut self, now: Instant) -> u64 {
        let info = self.info();
        self.send_as(now, info)
    }

    fn send_as(&mut self, now: Instant, info: SentInfo) -> u64 {
        let tokens = [Token::NewConnectionId { sequence: info.pn }];
        self.recovery.on_sent(now, info, &tokens, false, &mut self.delivery).expect("no overload");
        self.next_pn = info.pn + 1;
        info.pn
    }

    fn try_ack(
        &mut self,
        now: Instant,
        delay: Duration,
        ranges: &[(u64, u64)],
    ) -> Result<AckOutcome, TransportError> {
        let mut buf = [0u8; 4096];
        let mut writer = Writer::new(&mut buf);
        let list = ranges.iter().rev().copied();
        let delay_8us = delay.as_micros() as u64 / 8;
        frame::write_ack(&mut writer, false, delay_8us, list, None, &[], &[]).expect("room");
        let mut payload = Payload::read(Shape::Ack, writer.written()).expect("an ACK");
        let Some(Ok(Frame::Ack(ack))) = payload.next() else { panic!("an ACK") };
        let Self { recovery, rtt, delivery, fates, .. } = self;
        recovery.on_ack(now, &ack, DELAY_MAX, rtt, delivery, fates)
    }

    /// An ACK of `ranges`, from the lowest up.
    fn ack(&mut self, now: Instant, ranges: &[(u64, u64)]) -> AckOutcome {
        self.try_ack(now, Duration::ZERO, ranges).expect("a true ACK")
    }

    fn timer(&self) -> Option<(Instant, TimerKind)> {
        self.recovery.poll_timeout(&self.rtt, DELAY_MAX, true)
    }

    fn timeout(&mut self, now: Instant) -> TimeoutOutcome {
        let Self { recovery, rtt, fates, .. } = self;
        recovery.on_timeout(now, rtt, DELAY_MAX, true, fates)
    }

    /// Numbers whose tokens have come back with `fate`, in order, once each.
    fn with(&self, fate: Fate) -> Vec<u64> {
        let of = |(token, f): &(Token, Fate)| match token {
            Token::NewConnectionId { sequence } if *f == fate => Some(*sequence),
            _ => None,
        };
        let mut numbers: Vec<u64> = self.fates.iter().filter_map(of).collect();
        numbers.sort_unstable();
        numbers
    }
}

#[test]
/// spec-test: REC-4
fn flight_is_what_left_and_has_no_fate() {
    let mut bench = Bench::warm();
    bench.send(at(200));
    let quiet = SentInfo { ack_eliciting: false, in_flight: false, size: 50, ..bench.info() };
    bench.send_as(at(200), quiet);
    assert_eq!(bench.recovery.bytes_in_flight(), 1200);
    assert!(bench.recovery.has_ack_eliciting_in_flight());
    assert_eq!(bench.recovery.largest_sent(), Some(2));
    let outcome = bench.ack(at(300), &[(0, 2)]);
    assert_eq!((outcome.bytes_acked, outcome.largest_acked_size), (1200, 1200));
    assert_eq!(bench.recovery.bytes_in_flight(), 0);
    assert!(!bench.recovery.has_ack_eliciting_in_flight());
    assert_eq!(bench.with(Fate::Acked), [1, 2]);
    assert_eq!(bench.recovery.largest_acked(), Some(2));
    // The same once more brings nothing.
    let again = bench.ack(at(301), &[(0, 2)]);
    assert_eq!(again, AckOutcome::default());
}

#[test]
/// spec-test: REC-1
fn a_sample_needs_the_largest_number_to_be_news_and_an_eliciting_packet_among_it() {
    let mut bench = Bench::warm();
    assert_eq!(bench.rtt.smoothed(), ms(100));
    let (first, second) = (bench.send(at(200)), bench.send(at(210)));
    let outcome = bench.try_ack(at(330), ms(20), &[(second, second)]).expect("a true ACK");
    assert_eq!(outcome.rtt_sample, Some(ms(120)));
    assert_eq!(bench.rtt.adjusted(), ms(100));
    // An older packet says nothing of the round trip now.
    assert_eq!(bench.ack(at(400), &[(first, second)]).rtt_sample, None);
    let quiet = SentInfo { ack_eliciting: false, in_flight: false, ..bench.info() };
    let quiet = bench.send_as(at(500), quiet);
    assert_eq!(bench.ack(at(900), &[(quiet, quiet)]).rtt_sample, None);
}

#[test]
/// spec-test: REC-2
fn a_delay_beyond_what_the_peer_promised_is_cut() {
    let mut bench = Bench::warm();
    let pn = bench.send(at(200));
    bench.try_ack(at(400), ms(90), &[(pn, pn)]).expect("a true ACK");
    assert_eq!(bench.rtt.adjusted(), ms(175));
}

#[test]
/// spec-test: REC-5, REC-6
fn without_reordering_a_gap_is_a_loss_at_once() {
    let mut bench = Bench::warm();
    // All at one instant: the number decides what left first.
    let sent: Vec<u64> = (0..4).map(|_| bench.send(at(200))).collect();
    let outcome = bench.ack(at(300), &[(sent[1], sent[1])]);
    assert_eq!(outcome.lost.packets, 1);
    assert_eq!(outcome.lost.bytes_lost, 1200);
    assert_eq!(outcome.lost.largest_lost_sent_at, Some(at(200)));
    assert_eq!(bench.with(Fate::Lost), [sent[0]]);
    // Those behind it are not lost: they may be on their way.
    assert_eq!(bench.recovery.bytes_in_flight(), 2400);
    assert_eq!(bench.timer().map(|(_, kind)| kind), Some(TimerKind::Probe));
}

#[test]
/// spec-test: REC-7, REC-9
fn once_reordering_is_seen_a_gap_stays_open_for_a_quarter_of_the_round_trip() {
    let mut bench = Bench::warm();
    let (a, b) = (bench.send(at(200)), bench.send(at(200)));
    assert_eq!(bench.ack(at(300), &[(b, b)]).lost.packets, 1);
    // The first was only late: by no time at all, so the window is at its least.
    let late = bench.ack(at(301), &[(a, b)]);
    assert_eq!((late.spurious, late.bytes_acked), (1, 0));
    let (c, d) = (bench.send(at(400)), bench.send(at(400)));
    let outcome = bench.ack(at(500), &[(d, d)]);
    assert_eq!(outcome.lost, LossOutcome::default());
    assert_eq!(bench.timer(), Some((at(525), TimerKind::Loss)));
    assert_eq!(bench.timeout(at(524)), TimeoutOutcome::default());
    let lost = bench.timeout(at(525)).lost;
    assert_eq!((lost.packets, bench.with(Fate::Lost)), (1, vec![a, c]));
    assert_eq!(bench.timer(), None);
}

#[test]
/// spec-test: REC-7
fn a_packet_inside_the_window_is_not_lost() {
    let mut bench = Bench::warm();
    bench.recovery.reorder.on_reordered(at(0));
    let (a, b) = (bench.send(at(200)), bench.send(at(200)));
    assert_eq!(bench.ack(at(300), &[(b, b)]).lost.packets, 0);
    let outcome = bench.ack(at(324), &[(a, b)]);
    assert_eq!((outcome.lost.packets, outcome.spurious, outcome.bytes_acked), (0, 0, 1200));
    assert_eq!(bench.timer(), None);
}

#[test]
/// spec-test: REC-8
fn the_window_widens_to_what_would_have_sufficed_and_narrows_slowly() {
    let mut bench = Bench::warm();
    let (a, b) = (bench.send(at(200)), bench.send(at(200)));
    bench.ack(at(300), &[(b, b)]);
    // 60 ms late: three quarters of 100 ms.
    bench.ack(at(360), &[(a, b)]);
    assert_eq!(bench.recovery.reorder.width(&bench.rtt), ms(75));
    // The window never exceeds the smoothed round-trip time.
    let (c, d) = (bench.send(at(400)), bench.send(at(400)));
    bench.ack(at(500), &[(d, d)]);
    bench.timeout(at(575));
    assert_eq!(bench.ack(at(900), &[(c, d)]).spurious, 1);
    assert_eq!(bench.recovery.reorder.width(&bench.rtt), bench.rtt.smoothed());
    let wide = bench.recovery.reorder.width(&bench.rtt);
    // 32 loss episodes without a spurious one halve it twice.
    let mut now = 2000;
    for _ in 0..33 {
        let (_, second) = (bench.send(at(now)), bench.send(at(now)));
        bench.ack(at(now + 100), &[(second, second)]);
        bench.timeout(at(now + 300));
        now += 1000;
    }
    assert!(bench.recovery.reorder.width(&bench.rtt) < wide);
}

#[test]
/// spec-test: REC-7
fn the_window_is_no_finer_than_timers() {
    let mut rtt = Rtt::new(ms(333));
    rtt.update(at(0), Duration::from_micros(200), Duration::ZERO);
    let mut window = ReorderWindow::new();
    assert_eq!(window.width(&rtt), Duration::ZERO);
    window.on_reordered(at(0));
    assert_eq!(window.width(&rtt), ms(1));
}

#[test]
/// spec-test: REC-9
fn lost_packets_are_understood_for_three_probe_timeouts() {
    for (wait, spurious) in [(2, 1), (4, 0)] {
        let mut bench = Bench::warm();
        let (a, b) = (bench.send(at(200)), bench.send(at(200)));
        bench.ack(at(300), &[(b, b)]);
        let pto = bench.rtt.pto_base(DELAY_MAX);
        let later = at(300) + pto * wait;
        let c = bench.send(later - ms(100));
        bench.ack(later, &[(b, c)]);
        let outcome = bench.ack(later, &[(a, c)]);
        assert_eq!(outcome.spurious, spurious, "{wait}");
        assert_eq!(bench.with(Fate::Lost), [a]);
        assert!(!bench.with(Fate::Acked).contains(&a));
        assert_eq!(bench.with(Fate::Late).contains(&a), spurious == 1);
        assert_eq!(bench.recovery.bytes_in_flight(), 0);
    }
}

#[test]
/// spec-test: REC-10
fn an_ack_of_the_future_is_an_attack() {
    let mut bench = Bench::warm();
    let pn = bench.send(at(200));
    let error = bench.try_ack(at(300), ms(0), &[(0, pn + 1)]).expect_err("never sent");
    assert_eq!(error.code, CloseCode::ACK_OF_UNSENT);
    assert_eq!(bench.recovery.bytes_in_flight(), 1200, "nothing has changed");
    assert!(bench.fates.is_empty());
    let mut fresh = Bench::new();
    assert!(fresh.try_ack(at(0), ms(0), &[(0, 0)]).is_err());
}

#[test]
/// spec-test: REC-11
fn an_ack_of_a_number_left_out_is_an_attack_even_when_all_around_it_is_settled() {
    let mut bench = Bench::warm();
    let skipped = bench.next_pn;
    bench.next_pn += 1;
    let after = bench.send(at(200));
    assert_eq!(after, skipped + 1);
    bench.ack(at(300), &[(0, skipped - 1), (after, after)]);
    assert_eq!(bench.recovery.bytes_in_flight(), 0);
    for _ in 0..10 {
        bench.send(at(400));
    }
    let error = bench.try_ack(at(500), ms(0), &[(skipped - 1, after + 2)]).expect_err("left out");
    assert_eq!(error.code, CloseCode::ACK_OF_UNSENT);
    let outcome = bench.ack(at(500), &[(after, after + 10)]);
    assert_eq!(outcome.bytes_acked, 12_000);
}

#[test]
/// spec-test: REC-12, REC-13, REC-14
fn probe_timeouts_back_off_and_an_ack_ends_that() {
    let mut bench = Bench::warm();
    assert_eq!(bench.timer(), None, "nothing is waited for");
    bench.send(at(200));
    let pto = bench.rtt.pto_base(DELAY_MAX);
    assert_eq!(pto, ms(100 + 4 * 50 + 25));
    let mut due = at(200) + pto;
    assert_eq!(bench.timer(), Some((due, TimerKind::Probe)));
    assert_eq!(bench.timeout(due - Duration::from_nanos(1)).probes, 0);
    for (round, probes) in [1, 2, 2, 2].into_iter().enumerate() {
        let outcome = bench.timeout(due);
        assert_eq!((outcome.probes, outcome.lost.packets), (probes, 0));
        assert_eq!(bench.recovery.pto_count(), round as u32 + 1);
        let next = bench.timer().expect("the next one").0;
        assert_eq!(next - due, pto * (2 << round));
        due = next;
    }
    bench.ack(due, &[(1, 1)]);
    assert_eq!(bench.recovery.pto_count(), 0);
    bench.send(due);
    assert_eq!(bench.timer(), Some((due + bench.rtt.pto_base(DELAY_MAX), TimerKind::Probe)));
}

#[test]
/// spec-test: REC-13
fn back_off_ends_at_a_minute() {
    let mut bench = Bench::warm();
    bench.send(at(200));
    for _ in 0..100 {
        let due = bench.timer().expect("always").0;
        bench.timeout(due);
    }
    let (due, _) = bench.timer().expect("always");
    let before = bench.recovery.eliciting_sent_at.expect("sent");
    assert_eq!(due - before, PTO_MAX);
    bench.recovery.reset_backoff();
    assert_eq!(bench.timer().expect("always").0 - before, bench.rtt.pto_base(DELAY_MAX));
}

#[test]
/// spec-test: REC-12
fn a_client_probes_with_nothing_in_flight_until_the_server_knows_its_address() {
    let mut bench = Bench::warm();
    bench.recovery.set_deadlock_guard(true);
    let due = at(0) + bench.rtt.pto_base(DELAY_MAX);
    assert_eq!(bench.timer(), Some((due, TimerKind::Probe)));
    bench.timeout(due);
    let pn = bench.send(due);
    bench.ack(due + ms(100), &[(pn, pn)]);
    assert_eq!(bench.recovery.pto_count(), 1, "the server may still be without budget");
    bench.recovery.set_deadlock_guard(false);
    assert_eq!(bench.timer(), None);
    bench.send(at(5000));
    let Bench { recovery, rtt, .. } = &bench;
    assert_eq!(recovery.poll_timeout(rtt, DELAY_MAX, false), None);
}

#[test]
/// spec-test: REC-15
fn nothing_but_loss_for_three_probe_timeouts_is_persistent_congestion() {
    // With the sample that the last ACK brings: 3 * (100 + 4 * 37.5 + 25).
    let duration = ms(825);
    // (how long the losses stretch beyond the duration, an ACK between, the verdict)
    for (beyond, between, verdict) in [(10, false, true), (0, false, false), (10, true, false)] {
        let mut bench = Bench::warm();
        let first = bench.send(at(200));
        let middle = bench.send(at(300));
        let last = bench.send(at(200) + duration + ms(beyond));
        let end = bench.send(at(5000));
        let mut lost = LossOutcome::default();
        if between {
            lost = bench.ack(at(4000), &[(middle, middle)]).lost;
            assert_eq!(lost.packets, 1);
        }
        // The time of the middle packet's ACK changes the estimate: the stretch is broken anyway.
        let outcome = bench.ack(at(5100), &[(end, end)]);
        lost.packets += outcome.lost.packets;
        assert_eq!(lost.packets, if between { 2 } else { 3 });
        assert_eq!(outcome.lost.persistent_congestion, verdict, "{beyond} {between}");
        assert!(first < last);
        if verdict {
            // What the path's minimum was before is forgotten with the next sample.
            let pn = bench.send(at(6000));
            bench.ack(at(6400), &[(pn, pn)]);
            assert_eq!(bench.rtt.min(), ms(400));
        }
    }
}

#[test]
/// spec-test: REC-15
fn losses_before_the_first_sample_are_not_persistent_congestion() {
    let mut bench = Bench::new();
    for n in 0..100 {
        bench.send(at(n * 100));
    }
    let pn = bench.send(at(20_000));
    let outcome = bench.ack(at(20_050), &[(pn, pn)]);
    assert_eq!(outcome.lost.packets, 100);
    assert!(!outcome.lost.persistent_congestion);
}

#[test]
/// spec-test: REC-16
fn a_probe_carries_what_is_oldest_and_the_original_still_counts() {
    let mut bench = Bench::warm();
    let (a, b) = (bench.send(at(200)), bench.send(at(210)));
    let due = bench.timer().expect("waiting").0;
    assert_eq!(bench.timeout(due).probes, 1);
    let mut tokens = Vec::new();
    assert!(bench.recovery.probe_tokens(&mut tokens));
    assert_eq!(tokens, [Token::NewConnectionId { sequence: a }]);
    assert_eq!(bench.recovery.bytes_in_flight(), 2400, "not declared lost");
    // The next probe takes the next.
    assert!(bench.recovery.probe_tokens(&mut tokens));
    assert_eq!(tokens.last(), Some(&Token::NewConnectionId { sequence: b }));
    assert!(!bench.recovery.probe_tokens(&mut tokens));
    // The second arrives, and so the first is lost: the fate of the second comes first.
    let outcome = bench.ack(due + ms(50), &[(b, b)]);
    assert_eq!((outcome.lost.packets, outcome.bytes_acked), (1, 1200));
    assert_eq!(bench.with(Fate::Acked), [b]);
    assert_eq!(bench.with(Fate::Lost), [a]);
    assert_eq!(bench.fates.last(), Some(&(Token::NewConnectionId { sequence: a }, Fate::Lost)));
    // And a late acknowledgement of the original is told.
    assert_eq!(bench.ack(due + ms(60), &[(a, b)]).spurious, 1);
    assert_eq!((bench.with(Fate::Acked), bench.with(Fate::Late)), (vec![b], vec![a]));
}

#[test]
/// spec-test: MTU-4
fn a_lost_mtu_probe_is_no_sign_of_congestion() {
    let mut bench = Bench::warm();
    let probe = SentInfo { is_mtu_probe: true, size: 1452, ..bench.info() };
    bench.send_as(at(200), probe);
    let next = bench.send(at(200));
    assert_eq!(bench.recovery.bytes_in_flight(), 2652);
    let lost = bench.ack(at(300), &[(next, next)]).lost;
    assert_eq!(lost, LossOutcome { lost_mtu_probe: Some(1452), ..LossOutcome::default() });
    let probe = SentInfo { is_mtu_probe: true, size: 1400, ..bench.info() };
    let probe = bench.send_as(at(400), probe);
    let outcome = bench.ack(at(500), &[(probe, probe)]);
    assert_eq!((outcome.acked_mtu_probe, outcome.largest_acked_size), (Some(1400), 0));
    assert_eq!(bench.recovery.bytes_in_flight(), 0);
}

#[test]
fn discarded_keys_take_everything_out_of_flight() {
    let mut bench = Bench::warm();
    for _ in 0..10 {
        bench.send(at(200));
    }
    bench.recovery.discard();
    assert_eq!(bench.recovery.bytes_in_flight(), 0);
    assert_eq!(bench.timer(), None);
    assert!(bench.fates.is_empty());
    // Numbers go on; an ACK of what was discarded says nothing.
    let pn = bench.send(at(300));
    assert_eq!(pn, 11);
    assert_eq!(bench.ack(at(400), &[(5, 11)]).bytes_acked, 1200);
}

#[test]
fn a_peer_that_never_acknowledges_cannot_grow_the_ledger_for_ever() {
    let mut bench = Bench::warm();
    let mut refused = None;
    for n in 0..100_000u64 {
        let info = SentInfo { pn: n + 1, size: 40, ..SentInfo::default() };
        let Bench { recovery, delivery, .. } = &mut bench;
        if let Err(error) = recovery.on_sent(at(200 + n), info, &[], false, delivery) {
            refused = Some((n, error.code));
            break;
        }
    }
    assert_eq!(refused, Some((QUIET_MAX as u64, CloseCode::EXCESSIVE_LOAD)));
}

/// spec-test: REC-17
#[test]
fn acknowledgements_measure_the_delivery_rate() {
    let mut bench = Bench::warm();
    let mut sample = None;
    for n in 0..300u64 {
        bench.send(at(1000 + n));
        if n >= 100 {
            sample = bench.ack(at(1000 + n), &[(0, 1 + n - 100)]).rate_sample.or(sample);
        }
    }
    let rate = sample.expect("a sample").rate;
    assert!((1_150_000..=1_250_000).contains(&rate), "{rate}");
}

#[test]
fn once_warm_the_ledger_allocates_nothing() {
    let mut bench = Bench::new();
    let mut warm = None;
    for n in 0..20_000u64 {
        bench.send(at(n));
        // 200 packets in flight; one in 50 is lost and comes back never.
        if n >= 200 && (n - 200) % 50 != 0 {
            let newest = n - 200;
            let low = newest - newest % 50 + 1;
            bench.ack(at(n), &[(low.min(newest), newest)]);
        }
        bench.fates.clear();
        let capacity = bench.recovery.ledger.capacity();
        if n == 10_000 {
            warm = Some(capacity);
        }
        assert!(warm.is_none_or(|warm| warm == capacity), "{n}");
    }
    assert!(bench.recovery.ledger.len() < 2000, "{}", bench.recovery.ledger.len());
}

#[derive(Clone, Debug)]
enum Step {
    Send { eliciting: bool },
    Skip,
    Ack { which: Vec<bool> },
    Wait { ms: u64 },
    Timer,
    Probe,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => any::<bool>().prop_map(|eliciting| Step::Send { eliciting }),
        1 => Just(Step::Skip),
        3 => proptest::collection::vec(any::<bool>(), 1..40).prop_map(|which| Step::Ack { which }),
        3 => (0u64..80).prop_map(|ms| Step::Wait { ms }),
        1 => Just(Step::Timer),
        1 => Just(Step::Probe),
    ];
    proptest::collection::vec(step, 1..200)
}

/// The model: a map of everything, and nothing clever.
#[derive(Default)]
struct Model {
    packets: BTreeMap<u64, Known>,
}

#[derive(Clone, Copy, Default)]
struct Known {
    /// Bytes that count against the window.
    in_flight: u64,
    /// A fate has been told.
    settled: bool,
    acked: bool,
    /// A probe has carried the tokens.
    probed: bool,
}

impl Model {
    fn in_flight(&self) -> u64 {
        self.packets.values().filter(|known| !known.settled).map(|known| known.in_flight).sum()
    }

    /// Checks new fates against what is possible, and takes them over.
    fn absorb(&mut self, fates: &mut Vec<(Token, Fate)>) -> Result<(), TestCaseError> {
        for (token, fate) in fates.drain(..) {
            let Token::NewConnectionId { sequence } = token else { continue };
            let known = self.packets.get_mut(&sequence).expect("only what was sent has a fate");
            match fate {
                Fate::Acked => {
                    prop_assert!(!known.acked, "acknowledged twice: {}", sequence);
                    prop_assert!(!known.settled, "acknowledged after its fate: {}", sequence);
                    (known.acked, known.settled) = (true, true);
                }
                Fate::Late => {
                    prop_assert!(known.settled && !known.acked, "not late: {}", sequence);
                    known.acked = true;
                }
                Fate::Lost => {
                    prop_assert!(!known.settled, "lost after its fate: {}", sequence);
                    known.settled = true;
                }
            }
        }
        Ok(())
    }
}

proptest! {
    #[test]
    /// spec-test: REC-4, REC-16
    fn the_ledger_agrees_with_a_plain_model(steps in steps()) {
        let mut bench = Bench::new();
        let mut model = Model::default();
        let mut received = BTreeSet::new();
        let mut now = at(0);
        for step in steps {
            match step {
                Step::Send { eliciting } => {
                    let info = SentInfo {
                        ack_eliciting: eliciting,
                        in_flight: eliciting,
                        ..bench.info()
                    };
                    let pn = bench.send_as(now, info);
                    let in_flight = if eliciting { u64::from(SIZE) } else { 0 };
                    model.packets.insert(pn, Known { in_flight, ..Known::default() });
                }
                Step::Skip => bench.next_pn += 1,
                Step::Ack { which } => {
                    // Some of the newest packets arrive, and everything received is named again.
                    let newest = model.packets.keys().rev();
                    received.extend(newest.zip(&which).filter(|(_, yes)| **yes).map(|(pn, _)| *pn));
                    let mut ranges: Vec<(u64, u64)> = Vec::new();
                    for &pn in &received {
                        match ranges.last_mut() {
                            Some(last) if last.1 + 1 == pn => last.1 = pn,
                            _ => ranges.push((pn, pn)),
                        }
                    }
                    if ranges.is_empty() {
                        continue;
                    }
                    let before = bench.recovery.bytes_in_flight();
                    let outcome = bench.ack(now, &ranges);
                    let acked = outcome.bytes_acked + outcome.lost.bytes_lost;
                    prop_assert_eq!(bench.recovery.bytes_in_flight(), before - acked);
                    model.absorb(&mut bench.fates)?;
                    prop_assert_eq!(bench.recovery.largest_acked(), received.last().copied());
                }
                Step::Wait { ms: wait } => now = now + ms(wait),
                Step::Timer => {
                    if let Some((due, _)) = bench.timer() {
                        now = now.max(due);
                        bench.timeout(now);
                        model.absorb(&mut bench.fates)?;
                    }
                }
                Step::Probe => {
                    let mut tokens = Vec::new();
                    bench.recovery.probe_tokens(&mut tokens);
                    for token in tokens {
                        let Token::NewConnectionId { sequence } = token else { continue };
                        let known = model.packets.get_mut(&sequence).expect("sent");
                        prop_assert!(!known.settled && !known.probed);
                        known.probed = true;
                    }
                }
            }
            prop_assert_eq!(bench.recovery.bytes_in_flight(), model.in_flight());
        }
    }
}

#[test]
/// spec-test: ACK-15
fn receive_times_count_once_and_only_for_what_the_same_ack_settles() {
    let mut bench = Bench::new();
    bench.recovery.take_times();
    for n in 0..4 {
        bench.send(at(n));
    }
    let mut ack = |now, low: u64, high: u64, section: &[u8]| {
        let mut buf = [0u8; 100];
        let mut writer = Writer::new(&mut buf);
        let ranges = [(low, high)].into_iter();
        frame::write_ack(&mut writer, true, 0, ranges, None, section, &[]).expect("room");
        let Ok(Frame::Ack(ack)) = Frame::read(&mut jsp_wire::Reader::new(writer.written())) else {
            panic!("an ACK")
        };
        let Bench { recovery, rtt, delivery, fates, .. } = &mut bench;
        let outcome = recovery.on_ack(now, &ack, DELAY_MAX, rtt, delivery, fates)?;
        Ok(outcome.arrivals.in_order().map(|arrival| (arrival.sent_at, arrival.stamp)).collect())
    };
    let none: Result<Vec<_>, TransportError> = Ok(Vec::new());
    // Packets 2 and 0; 0 is not acknowledged.
    assert_eq!(ack(at(50), 1, 2, &[1, 0, 1, 2]), Ok(vec![(at(2), 256)]));
    // Again, and nothing is new.
    assert_eq!(ack(at(51), 1, 2, &[1, 0]), none);
    let error: Result<Vec<(Instant, u16)>, TransportError> = ack(at(52), 1, 3, &[1]);
    assert_eq!(error.map_err(|error| error.code), Err(CloseCode::FRAME_ENCODING));
    assert_eq!(ack(at(53), 0, 3, &[1, 4, 2, 4]), Ok(vec![(at(0), 256), (at(3), 260)]));
}

/// An ACK of `ranges` that marks some numbers as recovered.
fn ack_marked(
    bench: &mut Bench,
    now: Instant,
    ranges: &[(u64, u64)],
    marked: &[u64],
) -> AckOutcome {
    let (mut buf, mut room) = ([0u8; 4096], [0u8; 256]);
    let mut section = Writer::new(&mut room);
    let largest = ranges.last().map_or(0, |range| range.1);
    frame::write_recovered(&mut section, largest, marked.iter().rev().copied());
    let mut writer = Writer::new(&mut buf);
    let list = ranges.iter().rev().copied();
    frame::write_ack(&mut writer, true, 0, list, None, &[], section.written()).expect("room");
    let mut payload = Payload::read(Shape::Frames, writer.written()).expect("an ACK");
    let Some(Ok(Frame::Ack(ack))) = payload.next() else { panic!("an ACK") };
    let Bench { recovery, rtt, delivery, fates, .. } = bench;
    recovery.on_ack(now, &ack, DELAY_MAX, rtt, delivery, fates).expect("a true ACK")
}

fn token(pn: u64, fate: Fate) -> (Token, Fate) {
    (Token::NewConnectionId { sequence: pn }, fate)
}

#[test]
/// spec-test: FEC-8
fn a_recovered_packet_is_lost_to_the_path_but_not_to_its_owners() {
    let mut bench = Bench::warm();
    let first = bench.send(at(1000));
    bench.send(at(1001));
    let outcome = ack_marked(&mut bench, at(1102), &[(first, first + 1)], &[first]);
    assert_eq!(bench.fates, [token(first + 1, Fate::Acked), token(first, Fate::Acked)]);
    assert_eq!(outcome.bytes_acked, u64::from(SIZE));
    assert_eq!((outcome.lost.packets, outcome.lost.bytes_lost), (1, u64::from(SIZE)));
    assert_eq!(bench.recovery.bytes_in_flight(), 0);
    // Told again, with the mark or without it, it is no news and not spurious.
    bench.fates.clear();
    for marked in [&[first][..], &[]] {
        let again = ack_marked(&mut bench, at(1110), &[(first, first + 1)], marked);
        assert_eq!((again.spurious, again.lost.packets, again.bytes_acked), (0, 0, 0));
    }
    assert!(bench.fates.is_empty());
}

#[test]
/// spec-test: FEC-8
fn a_recovered_packet_that_was_held_lost_before_is_counted_once() {
    let mut bench = Bench::warm();
    let first = bench.send(at(1000));
    bench.send(at(1001));
    assert_eq!(bench.ack(at(1102), &[(first + 1, first + 1)]).lost.packets, 1);
    bench.fates.clear();
    let outcome = ack_marked(&mut bench, at(1110), &[(first, first + 1)], &[first]);
    assert_eq!(bench.fates, [token(first, Fate::Late)]);
    assert_eq!((outcome.spurious, outcome.lost.packets), (0, 0));
}

#[test]
/// spec-test: FEC-8
fn a_recovered_packet_that_was_only_late_is_no_loss() {
    let mut bench = Bench::warm();
    // Disorder was seen: there is a window of 25 ms.
    for pn in [bench.send(at(1000)), bench.send(at(1001))].into_iter().rev() {
        bench.ack(at(1101), &[(pn, pn)]);
    }
    bench.fates.clear();
    let first = bench.send(at(2000));
    bench.send(at(2001));
    let outcome = ack_marked(&mut bench, at(2102), &[(first, first + 1)], &[first]);
    assert_eq!(outcome.lost.packets, 0);
    assert_eq!(bench.recovery.bytes_in_flight(), u64::from(SIZE));
    assert_eq!(bench.fates.len(), 2);
    let late = ack_marked(&mut bench, at(2110), &[(first, first + 1)], &[]);
    assert_eq!((late.lost.packets, late.bytes_acked), (0, u64::from(SIZE)));
    assert_eq!(bench.recovery.bytes_in_flight(), 0);
    assert_eq!(bench.fates.len(), 2);
    // One that stays away is lost when the window has passed.
    let third = bench.send(at(3000));
    bench.send(at(3001));
    ack_marked(&mut bench, at(3102), &[(third, third + 1)], &[third]);
    let (due, _) = bench.recovery.poll_timeout(&bench.rtt, DELAY_MAX, true).expect("a window");
    let Bench { recovery, rtt, fates, .. } = &mut bench;
    let outcome = recovery.on_timeout(due, rtt, DELAY_MAX, true, fates);
    assert_eq!(outcome.lost.packets, 1);
    assert!(!fates.contains(&token(third, Fate::Lost)));
}

#[test]
fn runs_of_losses_are_told_in_the_order_of_sending() {
    let mut bench = Bench::warm();
    assert_eq!(bench.recovery.loss_runs().count(), 0);
    let first = bench.send(at(1000));
    for ms in 1..8 {
        bench.send(at(1000 + ms));
    }
    // The second was recovered, the fourth and fifth are missing.
    let ranges = [(first, first + 2), (first + 5, first + 7)];
    ack_marked(&mut bench, at(1107), &ranges, &[first + 1]);
    let runs: Vec<_> = bench.recovery.loss_runs().map(|run| (run.arrived, run.lost)).collect();
    assert_eq!(runs, [(1, 1), (1, 2), (2, 0)]);
}
