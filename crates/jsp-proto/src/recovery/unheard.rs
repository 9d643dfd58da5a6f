//! A space of the handshake in few bytes, while a server waits for its client.

use jsp_wire::{Instant, PathId};

use super::sent::{Packet, State};
use super::{RateMark, Recovery, SentApart, SentInfo};
use crate::pack::{Packer, Unpacker};
use crate::token::Token;

/// What was sent, and what became of it.
pub(crate) enum Unheard {
    /// Nothing is known but that it was sent.
    Sent(Sent),
    /// Something was acknowledged, or held lost.
    Heard(Box<Heard>),
}

/// All that there is, packed but for the packets.
pub(crate) struct Heard {
    packed: Box<[u8]>,
    apart: SentApart,
}

/// What was sent, and how often it was asked after.
pub(crate) struct Sent {
    packets: Box<[Few]>,
    tokens: Box<[FewToken]>,
    eliciting_sent_at: Option<Instant>,
    pto_count: u32,
}

/// A packet of a handshake that is under way: a third of the bytes of a [`Packet`].
struct Few {
    sent_at: Instant,
    /// When the flight began that it belongs to.
    began: Instant,
    /// Bytes in flight before it.
    before: u32,
    size: u16,
    tokens: u16,
    ack_eliciting: bool,
    in_flight: bool,
    app_limited: bool,
    resent: bool,
}

/// What packets of a handshake carry.
enum FewToken {
    /// A number that does not fit stands for all below it: the peer is told of those behind it once more.
    Ack {
        largest: u32,
    },
    Handshake {
        offset: u16,
        len: u16,
    },
}

impl Few {
    fn of(packet: &Packet, tokens: usize) -> Option<Self> {
        let (began, before, app_limited) = packet.mark.of_first_flight()?;
        let is_plain = packet.ecn.is_none() && !packet.is_mtu_probe && !packet.recovered;
        (packet.state == State::Outstanding && is_plain).then_some(Self {
            sent_at: packet.sent_at,
            began,
            before: u32::try_from(before).ok()?,
            size: packet.size,
            tokens: u16::try_from(tokens).ok()?,
            ack_eliciting: packet.ack_eliciting,
            in_flight: packet.in_flight,
            app_limited,
            resent: packet.resent,
        })
    }

    fn unpack(&self) -> Packet {
        let Self { sent_at, began, before, size, ack_eliciting, in_flight, app_limited, .. } =
            *self;
        let mark = RateMark::in_first_flight(began, before.into(), app_limited);
        let info = SentInfo { size, ack_eliciting, in_flight, ..SentInfo::default() };
        let mut packet = Packet::new(sent_at, mark, &info);
        packet.resent = self.resent;
        packet
    }
}

impl FewToken {
    fn of(token: Token) -> Option<Self> {
        match token {
            Token::Ack { path: PathId::FIRST, largest } => {
                Some(Self::Ack { largest: u32::try_from(largest).unwrap_or(u32::MAX) })
            }
            Token::Handshake { offset, len } => Some(Self::Handshake { offset, len }),
            _ => None,
        }
    }

    fn unpack(&self) -> Token {
        match *self {
            Self::Ack { largest } => Token::Ack { path: PathId::FIRST, largest: largest.into() },
            Self::Handshake { offset, len } => Token::Handshake { offset, len },
        }
    }
}

impl Recovery {
    /// True when all that is known is what was sent.
    fn is_unheard(&self) -> bool {
        let is_first = self.ledger.first_pn() == 0 && self.scan_from == 0;
        let is_deaf = self.largest_acked.is_none() && self.loss_at.is_none();
        let is_plain = !self.guard_deadlock && !self.takes_times && self.runs.is_none();
        is_first && is_deaf && is_plain && self.since == Instant::ZERO
    }

    /// What was sent, when all of it is under way and of a handshake.
    fn sent(&self) -> Option<Sent> {
        let tokens = |packet| self.ledger.tokens(packet);
        let packets = || self.ledger.iter_from(0).map(|(_, packet)| packet);
        let few = packets().map(|packet| Few::of(packet, tokens(packet).count()));
        let carried = packets().flat_map(tokens).map(FewToken::of);
        Some(Sent {
            packets: few.collect::<Option<_>>()?,
            tokens: carried.collect::<Option<_>>()?,
            eliciting_sent_at: self.eliciting_sent_at,
            pto_count: self.pto_count,
        })
    }

    /// What was sent, without room for what may be heard.
    pub(crate) fn into_unheard(mut self) -> Unheard {
        match self.sent() {
            Some(sent) if self.is_unheard() => Unheard::Sent(sent),
            _ => {
                let apart = self.take_apart();
                Unheard::Heard(Box::new(Heard { packed: Packer::pack(&self), apart }))
            }
        }
    }
}

impl Unheard {
    /// The space as it was.
    pub(crate) fn into_recovery(self) -> Recovery {
        let Sent { packets, tokens, eliciting_sent_at, pto_count } = match self {
            Self::Sent(sent) => sent,
            Self::Heard(heard) => {
                let mut recovery: Recovery = Unpacker::unpack(&heard.packed);
                recovery.put_back(heard.apart);
                return recovery;
            }
        };
        let mut recovery = Recovery { eliciting_sent_at, pto_count, ..Recovery::new() };
        let mut tokens = tokens.iter().map(FewToken::unpack);
        for sent in &packets {
            let own: Vec<Token> = tokens.by_ref().take(sent.tokens.into()).collect();
            recovery.ledger.push(sent.unpack(), &own);
            let size = if sent.in_flight { u64::from(sent.size) } else { 0 };
            recovery.bytes_in_flight = recovery.bytes_in_flight.saturating_add(size);
            let count =
                if sent.ack_eliciting { &mut recovery.eliciting } else { &mut recovery.quiet };
            *count = count.saturating_add(1);
        }
        recovery
    }
}
