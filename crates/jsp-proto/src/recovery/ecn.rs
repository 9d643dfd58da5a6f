//! Whether a path carries ECN marks truthfully (RFC 9000, section 13.4.2).

use jsp_wire::frame::EcnCounts;

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

/// The test of one path, and the counts that the peer has reported on it.
#[derive(Clone, Debug)]
pub(crate) struct EcnValidation {
    state: EcnState,
    sent: u64,
    reported: EcnCounts,
}

impl EcnValidation {
    /// Not tried yet.
    pub(crate) fn new() -> Self {
        Self { state: EcnState::Testing, sent: 0, reported: EcnCounts::default() }
    }

    /// True when packets should leave marked ECT(0).
    // spec: ECN-1
    pub(crate) fn marks(&self) -> bool {
        matches!(self.state, EcnState::Testing | EcnState::Capable)
    }

    /// How far the test has come.
    #[cfg(test)]
    fn state(&self) -> EcnState {
        self.state
    }

    /// A marked packet left.
    pub(crate) fn on_sent(&mut self) {
        self.sent = self.sent.saturating_add(1);
        if self.state == EcnState::Testing && self.sent >= TESTED_PACKETS {
            self.state = EcnState::Unknown;
        }
    }

    /// Compares an ACK that raised the largest acknowledged number with what was sent. `acked` is
    /// how many of the packets that it settled had left with a mark. Answers how many CE marks are
    /// new.
    // spec: ECN-1, ECN-2
    pub(crate) fn on_ack(&mut self, acked: u64, counts: Option<EcnCounts>) -> u64 {
        if self.state == EcnState::Failed {
            return 0;
        }
        let Some(counts) = counts else {
            if acked > 0 {
                self.state = EcnState::Failed;
            }
            return 0;
        };
        let old = self.reported;
        let ce = counts.ce.checked_sub(old.ce);
        let ect0 = counts.ect0.checked_sub(old.ect0);
        let (Some(ce), Some(ect0)) = (ce, ect0) else {
            self.state = EcnState::Failed;
            return 0;
        };
        let total = counts.ect0.saturating_add(counts.ce);
        // Too few marks: the network takes them off. Too many, or ECT(1): somebody makes them up.
        if ce.saturating_add(ect0) < acked || total > self.sent || counts.ect1 > 0 {
            self.state = EcnState::Failed;
            return 0;
        }
        self.reported = counts;
        if acked > 0 {
            self.state = EcnState::Capable;
        }
        ce
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(ect0: u64, ect1: u64, ce: u64) -> Option<EcnCounts> {
        Some(EcnCounts { ect0, ect1, ce })
    }

    fn sent(packets: u64) -> EcnValidation {
        let mut ecn = EcnValidation::new();
        (0..packets).for_each(|_| ecn.on_sent());
        ecn
    }

    #[test]
    /// spec-test: ECN-1
    fn marks_are_tried_on_ten_packets_and_kept_once_confirmed() {
        let mut ecn = sent(9);
        assert!(ecn.marks());
        ecn.on_sent();
        assert!(!ecn.marks());
        assert_eq!(ecn.on_ack(10, counts(10, 0, 0)), 0);
        assert_eq!(ecn.state(), EcnState::Capable);
        assert!(ecn.marks());
    }

    #[test]
    /// spec-test: ECN-1
    fn counts_that_cannot_be_true_end_the_use_of_marks() {
        let cases = [None, counts(4, 0, 0), counts(11, 0, 0), counts(5, 1, 0)];
        for report in cases {
            let mut ecn = sent(10);
            assert_eq!(ecn.on_ack(5, report), 0);
            assert_eq!(ecn.state(), EcnState::Failed, "{report:?}");
            assert!(!ecn.marks());
        }
        let mut ecn = sent(10);
        ecn.on_ack(5, counts(5, 0, 0));
        ecn.on_ack(1, counts(4, 0, 2));
        assert_eq!(ecn.state(), EcnState::Failed);
    }

    #[test]
    /// spec-test: ECN-2
    fn only_new_congestion_marks_count() {
        let mut ecn = sent(10);
        assert_eq!(ecn.on_ack(5, counts(3, 0, 2)), 2);
        assert_eq!(ecn.on_ack(2, counts(5, 0, 2)), 0);
        assert_eq!(ecn.on_ack(2, counts(5, 0, 4)), 2);
    }
}
