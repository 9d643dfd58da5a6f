//! Whether a path carries ECN marks truthfully (RFC 9000, section 13.4.2).

use jsp_wire::frame::EcnCounts;

use crate::batch::Ecn;
use crate::pack::{packed, packed_enum};

/// Marked packets that are sent before any has been confirmed (RFC 9000, section 13.4.2).
const TESTED_PACKETS: u64 = 10;

/// How far the test has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum EcnState {
    /// Marks are tried out.
    Testing,
    /// Enough are on their way; wait for what the peer saw.
    Unknown,
    /// The path carries marks.
    Capable,
    /// The path or the peer loses or forges marks: send none.
    Failed,
}
packed_enum!(EcnState { Testing, Unknown = 1, Capable = 2, Failed = 3 });

/// Packets by the mark that they left with.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Marked {
    ect0: u64,
    ect1: u64,
}
packed!(Marked { ect0, ect1 });

impl Marked {
    /// One more packet that left with this mark.
    pub(super) fn note(&mut self, mark: Option<Ecn>) {
        match mark {
            Some(Ecn::Ect0) => self.ect0 = self.ect0.saturating_add(1),
            Some(Ecn::Ect1) => self.ect1 = self.ect1.saturating_add(1),
            // What we send is never congested yet.
            Some(Ecn::Ce) | None => {}
        }
    }

    fn total(&self) -> u64 {
        self.ect0.saturating_add(self.ect1)
    }
}

/// The test of one path, and the counts of its packet numbers, which a move to another address does not begin
/// anew.
#[derive(Clone, Debug)]
pub(crate) struct EcnValidation {
    mark: Ecn,
    state: EcnState,
    /// Marked packets that left in this test.
    tested: u64,
    sent: Marked,
    reported: EcnCounts,
}
packed!(EcnValidation { mark, state, tested, sent, reported });

impl EcnValidation {
    /// Not tried yet, with this mark.
    pub(crate) fn new(mark: Ecn) -> Self {
        let (sent, reported) = (Marked::default(), EcnCounts::default());
        Self { mark, state: EcnState::Testing, tested: 0, sent, reported }
    }

    /// Not tried yet, with this mark, on another way for the same packet numbers. What the way before made of
    /// its marks is not held against this one.
    // spec: ECN-1
    pub(crate) fn anew(&self, mark: Ecn) -> Self {
        let EcnCounts { ect0, ect1, ce } = self.reported;
        let mut sent = Marked { ect0: self.sent.ect0.max(ect0), ect1: self.sent.ect1.max(ect1) };
        let unexplained = ect0.saturating_add(ect1).saturating_add(ce).saturating_sub(sent.total());
        sent.ect0 = sent.ect0.saturating_add(unexplained);
        Self { mark, state: EcnState::Testing, tested: 0, sent, reported: self.reported }
    }

    /// What packets should leave marked with.
    // spec: ECN-1
    pub(crate) fn mark(&self) -> Option<Ecn> {
        matches!(self.state, EcnState::Testing | EcnState::Capable).then_some(self.mark)
    }

    /// Packets leave with ECT(1), as far as they leave with a mark.
    pub(crate) fn is_scalable(&self) -> bool {
        self.mark == Ecn::Ect1
    }

    /// From here on packets leave with ECT(0).
    // spec: ECN-5
    pub(crate) fn become_classic(&mut self) {
        self.mark = Ecn::Ect0;
    }

    /// How far the test has come.
    #[cfg(test)]
    fn state(&self) -> EcnState {
        self.state
    }

    /// A marked packet left.
    pub(crate) fn on_sent(&mut self) {
        self.sent.note(Some(self.mark));
        self.tested = self.tested.saturating_add(1);
        if self.state == EcnState::Testing && self.tested >= TESTED_PACKETS {
            self.state = EcnState::Unknown;
        }
    }

    /// Compares an ACK that raised the largest acknowledged number with what was sent. `acked` are
    /// those of the packets that it settled that had left with a mark. Answers how many CE marks are
    /// new.
    // spec: ECN-1, ECN-2
    pub(crate) fn on_ack(&mut self, acked: Marked, counts: Option<EcnCounts>) -> u64 {
        if self.state == EcnState::Failed {
            self.reported = counts.unwrap_or(self.reported);
            return 0;
        }
        let Some(counts) = counts else {
            if acked.total() > 0 {
                self.state = EcnState::Failed;
            }
            return 0;
        };
        let old = core::mem::replace(&mut self.reported, counts);
        let Some(risen) = difference(counts, old).filter(|risen| self.is_true(acked, risen)) else {
            self.state = EcnState::Failed;
            return 0;
        };
        if acked.total() > 0 {
            self.state = EcnState::Capable;
        }
        risen.ce
    }

    /// Too few marks: the network takes them off, or makes others of them. Too many: somebody makes them up.
    fn is_true(&self, acked: Marked, risen: &EcnCounts) -> bool {
        let EcnCounts { ect0, ect1, ce } = self.reported;
        let with_ce = |count: u64| count.saturating_add(risen.ce);
        let enough = with_ce(risen.ect0) >= acked.ect0
            && with_ce(risen.ect1) >= acked.ect1
            && with_ce(risen.ect0.saturating_add(risen.ect1)) >= acked.total();
        let sent = ect0 <= self.sent.ect0
            && ect1 <= self.sent.ect1
            && ect0.saturating_add(ect1).saturating_add(ce) <= self.sent.total();
        enough && sent
    }
}

/// By how much each count has risen; `None` when one has fallen.
fn difference(new: EcnCounts, old: EcnCounts) -> Option<EcnCounts> {
    Some(EcnCounts {
        ect0: new.ect0.checked_sub(old.ect0)?,
        ect1: new.ect1.checked_sub(old.ect1)?,
        ce: new.ce.checked_sub(old.ce)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(ect0: u64, ect1: u64, ce: u64) -> Option<EcnCounts> {
        Some(EcnCounts { ect0, ect1, ce })
    }

    fn sent(mark: Ecn, packets: u64) -> EcnValidation {
        let mut ecn = EcnValidation::new(mark);
        (0..packets).for_each(|_| ecn.on_sent());
        ecn
    }

    fn ect0(packets: u64) -> Marked {
        Marked { ect0: packets, ect1: 0 }
    }

    #[test]
    /// spec-test: ECN-1
    fn marks_are_tried_on_ten_packets_and_kept_once_confirmed() {
        let mut ecn = sent(Ecn::Ect0, 9);
        assert_eq!(ecn.mark(), Some(Ecn::Ect0));
        ecn.on_sent();
        assert_eq!(ecn.mark(), None);
        assert_eq!(ecn.on_ack(ect0(10), counts(10, 0, 0)), 0);
        assert_eq!(ecn.state(), EcnState::Capable);
        assert_eq!(ecn.mark(), Some(Ecn::Ect0));
    }

    #[test]
    /// spec-test: ECN-1
    fn counts_that_cannot_be_true_end_the_use_of_marks() {
        let cases = [None, counts(4, 0, 0), counts(11, 0, 0), counts(5, 1, 0)];
        for report in cases {
            let mut ecn = sent(Ecn::Ect0, 10);
            assert_eq!(ecn.on_ack(ect0(5), report), 0);
            assert_eq!(ecn.state(), EcnState::Failed, "{report:?}");
            assert_eq!(ecn.mark(), None);
        }
        let mut ecn = sent(Ecn::Ect0, 10);
        ecn.on_ack(ect0(5), counts(5, 0, 0));
        ecn.on_ack(ect0(1), counts(4, 0, 2));
        assert_eq!(ecn.state(), EcnState::Failed);
    }

    #[test]
    /// spec-test: ECN-1
    fn each_mark_has_to_come_back_as_itself_or_as_congestion() {
        let acked = Marked { ect0: 0, ect1: 5 };
        // The last: what left with one mark arrived with the other.
        let cases = [None, counts(0, 4, 0), counts(0, 11, 0), counts(5, 0, 0), counts(1, 4, 0)];
        for report in cases {
            let mut ecn = sent(Ecn::Ect1, 10);
            ecn.on_ack(acked, report);
            assert_eq!(ecn.state(), EcnState::Failed, "{report:?}");
        }
        let mut ecn = sent(Ecn::Ect1, 10);
        assert_eq!(ecn.on_ack(acked, counts(0, 3, 2)), 2);
        assert_eq!(ecn.mark(), Some(Ecn::Ect1));
        ecn.become_classic();
        (0..5).for_each(|_| ecn.on_sent());
        assert_eq!(ecn.mark(), Some(Ecn::Ect0));
        let both = Marked { ect0: 5, ect1: 5 };
        let mut forged = ecn.clone();
        assert_eq!(forged.on_ack(both, counts(6, 7, 2)), 0);
        assert_eq!(forged.state(), EcnState::Failed);
        assert_eq!(ecn.on_ack(both, counts(4, 8, 3)), 1);
        assert_eq!(ecn.state(), EcnState::Capable);
    }

    #[test]
    /// spec-test: ECN-1
    fn counts_go_on_when_the_way_changes() {
        let mut ecn = sent(Ecn::Ect0, 5000);
        ecn.on_ack(ect0(4000), counts(4000, 0, 0));
        let mut moved = ecn.anew(Ecn::Ect0);
        (0..9).for_each(|_| moved.on_sent());
        assert_eq!((moved.state(), moved.mark()), (EcnState::Testing, Some(Ecn::Ect0)));
        // Of the way before, and of this one.
        assert_eq!(moved.on_ack(ect0(1000), counts(4998, 0, 2)), 2);
        assert_eq!(moved.on_ack(ect0(9), counts(5007, 0, 2)), 0);
        assert_eq!(moved.state(), EcnState::Capable);
        // It made ECT(1) of all marks; the way after it need not.
        let mut mangled = sent(Ecn::Ect0, 20);
        for heard in [10, 20] {
            mangled.on_ack(ect0(10), counts(0, heard, 0));
            assert_eq!(mangled.state(), EcnState::Failed);
        }
        let mut moved = mangled.anew(Ecn::Ect0);
        moved.on_sent();
        moved.on_ack(ect0(1), counts(1, 20, 0));
        assert_eq!(moved.state(), EcnState::Capable);
        moved.on_ack(ect0(0), counts(22, 20, 0));
        assert_eq!(moved.state(), EcnState::Failed, "more than ever left");
    }

    #[test]
    /// spec-test: ECN-2
    fn only_new_congestion_marks_count() {
        let mut ecn = sent(Ecn::Ect0, 10);
        assert_eq!(ecn.on_ack(ect0(5), counts(3, 0, 2)), 2);
        assert_eq!(ecn.on_ack(ect0(2), counts(5, 0, 2)), 0);
        assert_eq!(ecn.on_ack(ect0(2), counts(5, 0, 4)), 2);
    }
}
