//! The ledger of sent packets: its bounds, and its agreement with a plain model.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

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
fn who_rests_keeps_no_acknowledgements_under_way() {
    let mut bench = Bench::warm();
    for _ in 0..3 {
        let info = SentInfo { ack_eliciting: false, in_flight: false, ..bench.info() };
        bench.send_as(at(200), info);
    }
    assert_eq!((bench.recovery.ledger.len(), bench.recovery.quiet()), (3, 3));
    bench.recovery.rest();
    assert_eq!((bench.recovery.ledger.len(), bench.recovery.quiet()), (0, 0));
    // They are acknowledged with what follows, and only that is news.
    let next = bench.send(at(400));
    bench.ack(at(500), &[(1, next)]);
    assert_eq!(bench.fates, [(Token::NewConnectionId { sequence: next }, Fate::Acked)]);
    assert_eq!(bench.recovery.largest_acked(), Some(next));
    // What waits for an acknowledgement stays, and so does what is with it.
    let waiting = bench.send(at(600));
    let info = SentInfo { ack_eliciting: false, in_flight: false, ..bench.info() };
    bench.send_as(at(600), info);
    bench.recovery.rest();
    assert_eq!(bench.recovery.ledger.len(), 2);
    bench.ack(at(700), &[(waiting, waiting)]);
    assert_eq!(bench.recovery.bytes_in_flight(), 0);
}
