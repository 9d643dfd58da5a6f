//! The ledger of sent packets: two rings, one of packets by number and one of their tokens. Once
//! both have grown to the size of a flight, sending and acknowledging allocate nothing.

use core::iter::Copied;
use core::time::Duration;
use std::collections::VecDeque;
use std::collections::vec_deque::Iter;

use jsp_wire::Instant;

use super::rate::RateMark;
use crate::batch::Ecn;
use crate::token::Token;

/// Where a packet stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    /// Sent, and nothing is known of it.
    Outstanding,
    /// The peer has it, and every packet from `run_low` up to it: acknowledgements that repeat
    /// what is known jump over the run.
    Acked { run_low: u64 },
    /// The peer has put it together from repair symbols; the network lost it, or it is late.
    Recovered,
    /// Held lost since this instant.
    Lost { at: Instant },
    /// The number was never sent.
    Skipped,
}

/// One packet of the ledger.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packet {
    pub(super) sent_at: Instant,
    pub(super) mark: RateMark,
    pub(super) state: State,
    pub(super) size: u16,
    pub(super) ack_eliciting: bool,
    pub(super) in_flight: bool,
    pub(super) is_mtu_probe: bool,
    pub(super) ecn: Option<Ecn>,
    /// A probe has carried its tokens.
    pub(super) resent: bool,
    /// Its tokens have arrived by repair.
    pub(super) recovered: bool,
    tokens_len: u16,
    /// Place of the first token, counted from the start of the space.
    tokens_at: u64,
}

impl Packet {
    /// A packet that leaves now.
    pub(super) fn new(sent_at: Instant, mark: RateMark, info: &super::SentInfo) -> Self {
        Self {
            sent_at,
            mark,
            state: State::Outstanding,
            size: info.size,
            ack_eliciting: info.ack_eliciting,
            in_flight: info.in_flight,
            is_mtu_probe: info.is_mtu_probe,
            ecn: info.ecn,
            resent: false,
            recovered: false,
            tokens_len: 0,
            tokens_at: 0,
        }
    }
}

/// All packets of a space that may still matter, without holes in their numbers.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    packets: VecDeque<Packet>,
    tokens: VecDeque<Token>,
    /// Number of the first packet in the ring.
    first_pn: u64,
    /// Place of the first token in the ring, counted from the start of the space.
    first_token: u64,
}

impl Ledger {
    /// Number of the oldest packet that is kept.
    pub(super) fn first_pn(&self) -> u64 {
        self.first_pn
    }

    /// The number behind the newest packet: everything below was sent or skipped.
    pub(super) fn end(&self) -> u64 {
        self.first_pn.saturating_add(self.packets.len() as u64)
    }

    /// Enters the packet with number [`Ledger::end`].
    pub(super) fn push(&mut self, mut packet: Packet, tokens: &[Token]) {
        // A packet of 64 KiB holds no more than 2^16 frames.
        let tokens_len = u16::try_from(tokens.len()).unwrap_or(u16::MAX);
        packet.tokens_len = tokens_len;
        packet.tokens_at = self.first_token.saturating_add(self.tokens.len() as u64);
        match tokens {
            [token] => self.tokens.push_back(*token),
            _ => self.tokens.extend(tokens.iter().take(usize::from(tokens_len))),
        }
        self.packets.push_back(packet);
    }

    /// Enters number [`Ledger::end`] as never sent.
    pub(super) fn push_skipped(&mut self, now: Instant, mark: RateMark) {
        let info = super::SentInfo { pn: self.end(), ..super::SentInfo::default() };
        self.push(Packet { state: State::Skipped, ..Packet::new(now, mark, &info) }, &[]);
    }

    /// The packet with this number.
    pub(super) fn get(&self, pn: u64) -> Option<&Packet> {
        self.packets.get(usize::try_from(pn.checked_sub(self.first_pn)?).ok()?)
    }

    /// The same, to change it.
    pub(super) fn get_mut(&mut self, pn: u64) -> Option<&mut Packet> {
        slot(&mut self.packets, self.first_pn, pn)
    }

    /// Packets from number `from` on, with their numbers.
    pub(super) fn iter_from(&self, from: u64) -> impl Iterator<Item = (u64, &Packet)> {
        let start = usize::try_from(from.saturating_sub(self.first_pn)).unwrap_or(usize::MAX);
        let start = start.min(self.packets.len());
        let first = self.first_pn.saturating_add(start as u64);
        (first..).zip(self.packets.range(start..))
    }

    /// The tokens of a packet of this ledger.
    pub(super) fn tokens(&self, packet: &Packet) -> impl Iterator<Item = Token> + '_ {
        tokens_of(&self.tokens, self.first_token, packet)
    }

    /// Marks the packets `low..=high` as acknowledged, those of which `is_marked` says so as recovered.
    /// `newly` sees each of which this is news, as it was, with its tokens if they had no fate of
    /// arrival yet, and whether it is marked; from the highest down.
    pub(super) fn ack_range(
        &mut self,
        low: u64,
        high: u64,
        is_marked: impl Fn(u64) -> bool,
        mut newly: impl FnMut(u64, &Packet, Tokens<'_>, bool),
    ) {
        let low = low.max(self.first_pn);
        let Self { packets, tokens, first_pn, first_token } = self;
        let (mut pn, mut is_settled) = (high, true);
        while pn >= low {
            let Some(packet) = slot(packets, *first_pn, pn) else { break };
            let reached = match packet.state {
                State::Acked { run_low } => run_low,
                State::Skipped => pn,
                State::Outstanding | State::Recovered | State::Lost { .. } => {
                    let (before, marked) = (*packet, is_marked(pn));
                    packet.recovered |= marked;
                    packet.state = match before.state {
                        State::Outstanding | State::Recovered if marked => State::Recovered,
                        _ => State::Acked { run_low: pn },
                    };
                    is_settled &= packet.state != State::Recovered;
                    if before.state != packet.state {
                        let fresh = if before.recovered {
                            tokens.range(..0).copied()
                        } else {
                            tokens_of(tokens, *first_token, &before)
                        };
                        newly(pn, &before, fresh, marked);
                    }
                    pn
                }
            };
            let Some(next) = reached.checked_sub(1) else { break };
            pn = next;
        }
        let top = slot(packets, *first_pn, high);
        if let Some(Packet { state: State::Acked { run_low }, .. }) = top
            && is_settled
        {
            *run_low = low.min(*run_low);
        }
    }

    /// Lets go of packets from the front whose fate is settled; lost ones are kept for `keep`.
    // spec: REC-9
    pub(super) fn trim(&mut self, now: Instant, keep: Duration) {
        while let Some(front) = self.packets.front() {
            match front.state {
                State::Outstanding | State::Recovered => break,
                State::Lost { at } if at + keep > now => break,
                State::Lost { .. } | State::Acked { .. } | State::Skipped => {}
            }
            self.pop_front();
        }
    }

    fn pop_front(&mut self) {
        let Some(front) = self.packets.pop_front() else { return };
        self.first_pn = self.first_pn.saturating_add(1);
        for _ in 0..front.tokens_len {
            self.tokens.pop_front();
        }
        self.first_token = self.first_token.saturating_add(u64::from(front.tokens_len));
    }

    /// Lets go of everything; numbers go on.
    pub(super) fn clear(&mut self) {
        self.first_token = self.first_token.saturating_add(self.tokens.len() as u64);
        self.first_pn = self.end();
        self.packets = VecDeque::new();
        self.tokens = VecDeque::new();
    }

    /// Nothing happens: both rings shrink to what is under way. Acknowledgements alone are not: should the peer
    /// acknowledge them after all, that would be no news. Answers whether nothing is left.
    pub(super) fn rest(&mut self) -> bool {
        let is_idle = |packet: &Packet| {
            !packet.ack_eliciting && matches!(packet.state, State::Outstanding | State::Skipped)
        };
        let is_over = self.packets.iter().all(is_idle);
        if is_over {
            self.clear();
        } else {
            self.shrink();
        }
        is_over
    }

    /// Both rings shrink to what they hold.
    pub(super) fn shrink(&mut self) {
        self.packets.shrink_to_fit();
        self.tokens.shrink_to_fit();
    }

    /// Packets kept.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.packets.len()
    }

    /// Room of both rings.
    #[cfg(test)]
    pub(super) fn capacity(&self) -> (usize, usize) {
        (self.packets.capacity(), self.tokens.capacity())
    }
}

fn slot(packets: &mut VecDeque<Packet>, first_pn: u64, pn: u64) -> Option<&mut Packet> {
    packets.get_mut(usize::try_from(pn.checked_sub(first_pn)?).ok()?)
}

/// What a packet carried.
pub(super) type Tokens<'a> = Copied<Iter<'a, Token>>;

fn tokens_of<'a>(tokens: &'a VecDeque<Token>, first_token: u64, packet: &Packet) -> Tokens<'a> {
    let start = usize::try_from(packet.tokens_at.saturating_sub(first_token)).unwrap_or(usize::MAX);
    let start = start.min(tokens.len());
    let end = start.saturating_add(usize::from(packet.tokens_len)).min(tokens.len());
    tokens.range(start..end).copied()
}
