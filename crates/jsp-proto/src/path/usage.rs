//! What a path is to be used for, as both sides want it.

use jsp_wire::frame::{PathStatus, PathUse};
use jsp_wire::{PathId, frame};

use crate::bounded::Bounded;
use crate::pack::packed;
use crate::packet::PacketBuilder;
use crate::token::{Fate, Token};

/// What both sides say of one path.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    ours: PathUse,
    /// The interface that it uses is down, as the application or the driver says.
    is_down: bool,
    /// Of the latest that the peer was told.
    told: u64,
    peers: PathUse,
    /// Of the latest that the peer has told.
    heard: Option<u64>,
}
packed!(Usage { ours, is_down, told, peers, heard });

impl Usage {
    /// What the path is used for: what the more cautious side wants.
    // spec: PTH-12
    pub(crate) fn effective(&self) -> PathUse {
        self.wanted().max(self.peers)
    }

    /// What we want.
    pub(crate) fn wanted(&self) -> PathUse {
        if self.is_down { PathUse::Down } else { self.ours }
    }

    /// The application wants it used for this; true when that is news.
    pub(crate) fn want(&mut self, usage: PathUse) -> bool {
        let before = self.wanted();
        self.ours = usage;
        self.wanted() != before
    }

    /// Its interface is down, as far as we know.
    pub(crate) fn is_down(&self) -> bool {
        self.is_down
    }

    /// Its interface went down, or is up again; true when that is news.
    pub(crate) fn set_down(&mut self, is_down: bool) -> bool {
        core::mem::replace(&mut self.is_down, is_down) != is_down
    }

    /// The peer wants it used for something; true when that changes anything.
    // spec: PTH-12
    pub(crate) fn on_status(&mut self, status: &PathStatus) -> bool {
        if self.heard.is_some_and(|heard| status.sequence <= heard) {
            return false;
        }
        self.heard = Some(status.sequence);
        core::mem::replace(&mut self.peers, status.usage) != status.usage
    }
}

/// Paths that may be spoken of at once: those there are, and as many that have just ended.
const NOTICES_MAX: usize = 8;

/// What the peer is to hear about paths, by whichever of them.
#[derive(Default)]
pub(crate) struct Notices {
    ends: Bounded<frame::PathAbandon, NOTICES_MAX>,
    statuses: Bounded<PathStatus, NOTICES_MAX>,
    next_sequence: u64,
}

impl Notices {
    /// Those after so many, all of which have been told.
    pub(crate) fn after(next_sequence: u64) -> Self {
        Self { next_sequence, ..Self::default() }
    }

    /// How many there were.
    pub(crate) fn count(&self) -> u64 {
        self.next_sequence
    }

    /// The path is over.
    pub(crate) fn end(&mut self, path: PathId, code: u64) {
        self.statuses.retain(|status| status.path != path);
        self.ends.push_evicting(frame::PathAbandon { path, code });
    }

    /// The path is to be used otherwise.
    pub(crate) fn tell(&mut self, path: PathId, usage: &mut Usage) {
        self.next_sequence = self.next_sequence.saturating_add(1);
        usage.told = self.next_sequence;
        self.repeat(path, usage);
    }

    fn repeat(&mut self, path: PathId, usage: &Usage) {
        self.statuses.retain(|status| status.path != path);
        let status = PathStatus { path, sequence: usage.told, usage: usage.wanted() };
        self.statuses.push_evicting(status);
    }

    /// What became of a notice about how a path is to be used.
    pub(crate) fn on_status_fate(
        &mut self,
        path: PathId,
        sequence: u64,
        usage: Option<&Usage>,
        fate: Fate,
    ) {
        if let Some(usage) = usage.filter(|usage| usage.told == sequence && fate == Fate::Lost) {
            self.repeat(path, usage);
        }
    }

    /// What became of a notice about the end of a path.
    pub(crate) fn on_end_fate(&mut self, path: PathId, code: u64, fate: Fate) {
        if fate == Fate::Lost {
            self.end(path, code);
        }
    }

    pub(crate) fn wants(&self) -> bool {
        !self.ends.is_empty() || !self.statuses.is_empty()
    }

    pub(crate) fn write(&mut self, packet: &mut PacketBuilder<'_>) {
        while let Some(end) = first(&self.ends) {
            if frame::Frame::PathAbandon(end).write(packet.writer()).is_err() {
                return;
            }
            self.ends.pop_front();
            packet.push(Token::PathAbandon { path: end.path, code: end.code });
        }
        while let Some(status) = first(&self.statuses) {
            if frame::Frame::PathStatus(status).write(packet.writer()).is_err() {
                return;
            }
            self.statuses.pop_front();
            packet.push(Token::PathStatus { path: status.path, sequence: status.sequence });
        }
    }
}

fn first<T: Copy>(queue: &Bounded<T, NOTICES_MAX>) -> Option<T> {
    queue.iter().next().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    /// spec-test: PTH-12
    fn the_more_cautious_side_decides_and_the_latest_word_holds() {
        let path = PathId(1);
        let mut usage = Usage::default();
        assert_eq!(usage.effective(), PathUse::Available);
        let says = |sequence, usage| PathStatus { path, sequence, usage };
        assert!(usage.on_status(&says(3, PathUse::Standby)));
        assert!(!usage.on_status(&says(2, PathUse::Available)));
        assert_eq!(usage.effective(), PathUse::Standby);
        assert!(usage.set_down(true) && !usage.set_down(true));
        assert_eq!(usage.effective(), PathUse::Down);
        assert!(usage.set_down(false));
        assert!(usage.on_status(&says(4, PathUse::Available)));
        assert!(usage.want(PathUse::Standby));
        assert_eq!(usage.effective(), PathUse::Standby);
    }

    #[test]
    fn lost_notices_are_repeated_unless_there_are_newer_ones() {
        let path = PathId(1);
        let (mut notices, mut usage) = (Notices::default(), Usage::default());
        let written = |notices: &mut Notices| {
            let (mut buf, mut tokens) = ([0; 100], Vec::new());
            notices.write(&mut PacketBuilder::new(&mut buf, &mut tokens, false));
            tokens
        };
        usage.want(PathUse::Standby);
        notices.tell(path, &mut usage);
        assert_eq!(written(&mut notices), [Token::PathStatus { path, sequence: 1 }]);
        assert!(!notices.wants());
        notices.on_status_fate(path, 1, Some(&usage), Fate::Lost);
        assert_eq!(written(&mut notices), [Token::PathStatus { path, sequence: 1 }]);
        notices.tell(path, &mut usage);
        notices.end(path, 1);
        assert_eq!(written(&mut notices), [Token::PathAbandon { path, code: 1 }]);
        notices.on_status_fate(path, 1, Some(&usage), Fate::Lost);
        notices.on_status_fate(path, 2, None, Fate::Lost);
        assert!(!notices.wants());
        notices.on_end_fate(path, 1, Fate::Lost);
        assert_eq!(written(&mut notices), [Token::PathAbandon { path, code: 1 }]);
    }
}
