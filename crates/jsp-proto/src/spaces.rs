//! Packet number spaces: what was received, what was sent, and which number comes next.

use core::time::Duration;

use crate::ack::{AckPolicy, Arrived, ReceivedApart};
use crate::keys::SpaceId;
use crate::pack::packed;
use crate::path::Path;
use crate::recovery::{Recovery, SentApart, Unheard};
use crate::space::{PacketNumbers, ReplayWindow};

/// One space, with both of its directions.
pub(crate) struct NumberSpace {
    pub(crate) window: ReplayWindow,
    pub(crate) acks: AckPolicy,
    pub(crate) numbers: PacketNumbers,
    pub(crate) recovery: Recovery,
}
packed!(NumberSpace { window, acks, numbers, recovery });

impl NumberSpace {
    /// An empty space whose acknowledgements wait for `ack_delay_max` at most; zero for at once.
    pub(crate) fn new(ack_delay_max: Duration) -> Self {
        Self {
            window: ReplayWindow::new(),
            acks: AckPolicy::new(ack_delay_max),
            numbers: PacketNumbers::new(),
            recovery: Recovery::new(),
        }
    }
}

/// What is not packed of a space.
pub(crate) struct SpaceApart {
    received: ReceivedApart,
    sent: SentApart,
}

impl NumberSpace {
    /// Takes out what is not packed.
    pub(crate) fn take_apart(&mut self) -> SpaceApart {
        SpaceApart { received: self.acks.take_apart(), sent: self.recovery.take_apart() }
    }

    /// Puts it back.
    pub(crate) fn put_back(&mut self, apart: SpaceApart) {
        self.acks.put_back(apart.received);
        self.recovery.put_back(apart.sent);
    }

    /// True when an [`UnheardSpace`] holds all that there is to it.
    fn is_unheard(&self) -> bool {
        self.acks.is_plain() && self.numbers.is_plain()
    }

    fn into_unheard(self) -> UnheardSpace {
        UnheardSpace {
            told: self.acks.into_told().map(Box::new),
            next_pn: self.numbers.peek(),
            sent: self.recovery.into_unheard(),
        }
    }
}

/// The spaces of the handshake, gone when their keys are.
pub(crate) struct EarlySpaces {
    initial: Option<Box<NumberSpace>>,
    handshake: Option<Box<NumberSpace>>,
}

impl EarlySpaces {
    pub(crate) fn new() -> Self {
        let space = || Some(Box::new(NumberSpace::new(Duration::ZERO)));
        Self { initial: space(), handshake: space() }
    }

    /// Those of a handshake that is over.
    pub(crate) fn over() -> Self {
        Self { initial: None, handshake: None }
    }

    /// True when the handshake is over.
    pub(crate) fn are_over(&self) -> bool {
        self.initial.is_none() && self.handshake.is_none()
    }

    /// Those of a server whose client was not heard again, when that is all there is to them.
    pub(crate) fn are_unheard(&self) -> bool {
        let spaces = [&self.initial, &self.handshake].into_iter().flatten();
        spaces.filter(|space| space.is_unheard()).count() == 2
    }

    /// The same in few bytes.
    pub(crate) fn into_unheard(self) -> UnheardSpaces {
        let unheard = |space: Option<Box<NumberSpace>>| space.map(|space| space.into_unheard());
        UnheardSpaces { initial: unheard(self.initial), handshake: unheard(self.handshake) }
    }

    pub(crate) fn discard(&mut self, id: SpaceId) {
        match id {
            SpaceId::Initial => self.initial = None,
            SpaceId::Handshake => self.handshake = None,
            SpaceId::Data => {}
        }
    }

    fn get(&self, id: SpaceId) -> Option<&NumberSpace> {
        match id {
            SpaceId::Initial => self.initial.as_deref(),
            SpaceId::Handshake => self.handshake.as_deref(),
            SpaceId::Data => None,
        }
    }

    pub(crate) fn get_mut(&mut self, id: SpaceId) -> Option<&mut NumberSpace> {
        match id {
            SpaceId::Initial => self.initial.as_deref_mut(),
            SpaceId::Handshake => self.handshake.as_deref_mut(),
            SpaceId::Data => None,
        }
    }

    /// Bytes in flight of both.
    pub(crate) fn bytes_in_flight(&self) -> u64 {
        [&self.initial, &self.handshake]
            .into_iter()
            .flatten()
            .map(|space| space.recovery.bytes_in_flight())
            .sum()
    }
}

/// The spaces of a handshake whose client was not heard again.
pub(crate) struct UnheardSpaces {
    initial: Option<UnheardSpace>,
    handshake: Option<UnheardSpace>,
}

struct UnheardSpace {
    /// Absent where nothing has arrived.
    told: Option<Box<Arrived>>,
    next_pn: u64,
    sent: Unheard,
}

impl UnheardSpaces {
    /// The spaces as they were.
    pub(crate) fn into_spaces(self) -> EarlySpaces {
        let space = |space: UnheardSpace| Box::new(space.into_space());
        EarlySpaces { initial: self.initial.map(space), handshake: self.handshake.map(space) }
    }
}

impl UnheardSpace {
    fn into_space(self) -> NumberSpace {
        let Self { told, next_pn, sent } = self;
        let mut space = NumberSpace::new(Duration::ZERO);
        if let Some(told) = told {
            space.window = ReplayWindow::of(told.ranges());
            space.acks = told.into_policy();
        }
        space.numbers = PacketNumbers::from(next_pn);
        space.recovery = sent.into_recovery();
        space
    }
}

/// The space with this id: the handshake's are the connection's, the data's is the path's.
pub(crate) fn select<'a>(
    id: SpaceId,
    early: &'a mut EarlySpaces,
    path: &'a mut Path,
) -> Option<&'a mut NumberSpace> {
    if id == SpaceId::Data { Some(&mut path.numbers) } else { early.get_mut(id) }
}

/// The same, to look only.
pub(crate) fn view<'a>(
    id: SpaceId,
    early: &'a EarlySpaces,
    path: &'a Path,
) -> Option<&'a NumberSpace> {
    if id == SpaceId::Data { Some(&path.numbers) } else { early.get(id) }
}
