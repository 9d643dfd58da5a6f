//! The sending half: what packets held that are not acknowledged yet, and repair symbols made of that.
//!
//! A sliding window (the idea of RFC 8681) rather than blocks: a repair covers whatever of its size
//! class is on its way, so that it helps against any loss of the last round trip, and nothing waits
//! for a block to fill. Coefficients follow from packet numbers instead of a seed: no byte says them,
//! and a Cauchy matrix never fails where a random one does once in 256 times.

use core::time::Duration;
use std::collections::VecDeque;

use jsp_wire::frame::Repair;
use jsp_wire::{Instant, Shape, Writer, limits};

use super::gf256::{self, Sum};
use super::protection::USE_WITHOUT_LIFETIME;
use super::symbol::Symbol;
use super::{CLASSES, Protection, class_of};

/// Packets that are kept and that one repair may cover. A burst is made good by as many repairs as it
/// has packets; what is older is settled by acknowledgements before.
pub(crate) const WINDOW: usize = 64;

/// How far below its repair a sender lets members lie, in packet numbers. A receiver keeps
/// [`limits::REPAIR_REACH`]: the difference is room for disorder on the way.
pub(crate) const REACH: u64 = 96;

/// Bytes that a packet with a repair may have beyond its longest member: a longer number, the head of the
/// repair, and what stands before the content of the symbol.
const REPAIR_COST: usize =
    limits::PN_LEN_MAX - 1 + 2 + (REACH as usize).div_ceil(8) + limits::SYMBOL_LENGTH_LEN;

/// The same in a packet that leaves anyway: there the repair has a type and a length.
const RIDE_COST: usize = REPAIR_COST + 4;

/// One repair, in the units of credit: percent of a packet.
const ONE: u32 = 100;

/// Credit is not saved beyond this, so that what could not leave for a while does not leave as a burst.
const CREDIT_MAX: u32 = 2 * ONE;

/// Longest time that a repair waits behind its last packet before it leaves by itself.
const PATIENCE: Duration = Duration::from_millis(5);

/// And the longest that it waits for a packet to leave with: it saves a header, a tag and a datagram then,
/// a fifth of a small packet, which buys more repairs than the wait costs time.
const PATIENCE_FOR_RIDE: Duration = Duration::from_millis(15);

/// A packet under way.
#[derive(Debug)]
struct Source {
    pn: u64,
    class: usize,
    expires: Instant,
    /// It is repaired until then although it is held lost: some of it is not sent again.
    useful_until: Instant,
    symbol: Symbol,
}

/// What one size class has saved up.
#[derive(Clone, Copy, Debug)]
struct Account {
    credit: u32,
    /// When its next repair leaves by itself.
    due: Option<Instant>,
    /// It may leave before with a packet.
    rides: bool,
    sent_at: Option<Instant>,
    /// Smoothed time between two packets.
    gap: Duration,
}

impl Account {
    const EMPTY: Self = Self { credit: ONE, due: None, rides: false, sent_at: None, gap: PATIENCE };

    fn note(&mut self, now: Instant, percent: u32, fits: bool) {
        if let Some(before) = self.sent_at.replace(now) {
            let sample = now.since(before).min(PATIENCE * 8);
            self.gap = (self.gap * 7 + sample) / 8;
        }
        self.credit = self.credit.saturating_add(percent).min(CREDIT_MAX);
        if self.credit < ONE || self.due.is_some() {
            return;
        }
        // A gap and a quarter: the next packet has left by then, or is late.
        let for_ride = self.gap + self.gap / 4;
        self.rides = fits && for_ride <= PATIENCE_FOR_RIDE;
        // Half a gap later, so that a fade that took the packet may be over.
        // spec: FEC-11
        let wait = if self.rides { for_ride } else { (self.gap / 2).min(PATIENCE) };
        self.due = Some(now + wait);
    }

    /// A repair has left.
    fn spend(&mut self, now: Instant) {
        self.credit = self.credit.saturating_sub(ONE);
        self.due = (self.credit >= ONE).then_some(now);
    }
}

/// Makes repair symbols of the packets of one path.
#[derive(Debug)]
pub(crate) struct Encoder {
    window: VecDeque<Source>,
    spare: Vec<Symbol>,
    accounts: [Account; CLASSES],
    /// The last packet of each class that had a time to expire, or goes once.
    expiring: [Option<u64>; CLASSES],
    sum: Sum,
}

impl Encoder {
    /// Nothing kept. The first packet earns a repair at once: it tells the receiver to keep packets.
    pub(crate) fn new() -> Self {
        Self {
            window: VecDeque::new(),
            spare: Vec::new(),
            accounts: [Account::EMPTY; CLASSES],
            expiring: [None; CLASSES],
            sum: Sum::default(),
        }
    }

    /// Longest packet that a repair can cover when datagrams have `mtu` bytes.
    // spec: FEC-9
    pub(crate) fn source_len_max(mtu: usize) -> usize {
        mtu.saturating_sub(REPAIR_COST).min(limits::PROTECTED_LEN_MAX)
    }

    /// Keeps the content of a packet that is to be protected by `percent` of repair while not all of it has
    /// expired. `room` is what a payload may have.
    // spec: FEC-2
    pub(crate) fn keep(
        &mut self,
        now: Instant,
        source: (u64, Shape, &[u8]),
        (percent, room): (u32, usize),
        protection: &Protection,
    ) {
        let (pn, shape, content) = source;
        let Some(class) = class_of(content.len()) else { return };
        let Protection { expires, once, .. } = *protection;
        if (once || expires < Instant::FAR_FUTURE)
            && let Some(last) = self.expiring.get_mut(class)
        {
            *last = Some(pn);
        }
        if self.window.len() >= WINDOW
            && let Some(oldest) = self.window.pop_front()
        {
            self.spare.push(oldest.symbol);
        }
        let mut symbol = self.spare.pop().unwrap_or_default();
        symbol.set(shape, content);
        // spec: FEC-14
        let useful_until = if once { now + USE_WITHOUT_LIFETIME } else { now };
        self.window.push_back(Source { pn, class, expires, useful_until, symbol });
        if let Some(account) = self.accounts.get_mut(class) {
            let fits = content.len().saturating_mul(2).saturating_add(RIDE_COST) <= room;
            account.note(now, percent, fits);
        }
    }

    /// A probe leaves, because nothing was heard: it takes a repair of the newest packets along, earned or
    /// not.
    // spec: FEC-15
    pub(crate) fn on_probe(&mut self, now: Instant) {
        let class = self.window.back().map(|source| source.class);
        if let Some(account) = class.and_then(|class| self.accounts.get_mut(class)) {
            account.credit = account.credit.max(ONE);
            (account.due, account.rides) = (Some(now), true);
        }
    }

    /// When the next repair leaves by itself.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.accounts.iter().filter_map(|account| account.due).min()
    }

    /// True when a repair would leave with the next packet.
    pub(crate) fn rides(&self) -> bool {
        self.accounts.iter().any(|account| account.rides && account.due.is_some())
    }

    /// Adds a repair to the packet `pn` that leaves anyway, as a frame; answers its bytes. `None` when none
    /// is earned, or there is no room.
    // spec: FEC-11, FEC-14
    pub(crate) fn ride(
        &mut self,
        now: Instant,
        pn: u64,
        is_wanted: impl Fn(u64, bool) -> bool,
        writer: &mut Writer<'_>,
    ) -> Option<usize> {
        let rides = |account: &Account| account.rides && account.due.is_some();
        let class = self.accounts.iter().position(rides)?;
        self.forget(now, pn, &is_wanted);
        let before = writer.len();
        let written = self.combine(pn, class, true, writer);
        let account = self.accounts.get_mut(class)?;
        match written {
            // It will leave by itself, if there is still anything to repair.
            None => account.rides = false,
            Some(()) => account.spend(now),
        }
        written.map(|()| writer.len().saturating_sub(before))
    }

    /// Makes the repair that is due for the packet `pn`: its head and symbol go into `writer`. False when
    /// none is due, or all that it would cover is settled; of packets `is_wanted` says whether
    /// they are not, and whether they are held lost at most, where that is asked.
    // spec: FEC-11, FEC-14
    pub(crate) fn write(
        &mut self,
        now: Instant,
        pn: u64,
        is_wanted: impl Fn(u64, bool) -> bool,
        writer: &mut Writer<'_>,
    ) -> bool {
        while let Some((class, account)) = self.first_due(now) {
            account.due = None;
            self.forget(now, pn, &is_wanted);
            if self.combine(pn, class, false, writer).is_some() {
                if let Some(account) = self.accounts.get_mut(class) {
                    account.spend(now);
                }
                return true;
            }
        }
        false
    }

    fn first_due(&mut self, now: Instant) -> Option<(usize, &mut Account)> {
        let accounts = self.accounts.iter_mut().enumerate();
        let due = accounts.filter_map(|(class, account)| Some((account.due?, class, account)));
        let (at, class, account) = due.min_by_key(|(at, class, _)| (*at, *class))?;
        (at <= now).then_some((class, account))
    }

    /// Lets go of what is acknowledged, sent again, expired, or out of reach of a repair in `pn`.
    fn forget(&mut self, now: Instant, pn: u64, is_wanted: impl Fn(u64, bool) -> bool) {
        let lowest = pn.saturating_sub(REACH);
        let spare = &mut self.spare;
        self.window.retain_mut(|source| {
            let stays = source.pn >= lowest
                && source.expires > now
                && is_wanted(source.pn, source.useful_until > now);
            if !stays {
                spare.push(core::mem::take(&mut source.symbol));
            }
            stays
        });
    }

    /// Writes the sum of all packets of the class that are kept, as a frame or as the payload of a shape.
    // spec: FEC-2, FEC-3, FEC-9, FEC-16
    fn combine(
        &mut self,
        pn: u64,
        class: usize,
        as_frame: bool,
        writer: &mut Writer<'_>,
    ) -> Option<()> {
        let mut sources = self.window.iter().filter(|source| source.class == class);
        let highest = sources.next_back()?.pn;
        let back = u8::try_from(pn.checked_sub(highest)?).ok()?;
        let (mut members, mut longest) = (0u128, 0);
        let of_class = self.window.iter().filter(|source| source.class == class);
        for source in of_class.clone() {
            members |= 1 << highest.saturating_sub(source.pn).min(127);
            longest = longest.max(source.symbol.bytes().len());
        }
        let abandons = self.expiring.get(class).is_some_and(|last| {
            last.is_some_and(|last| last.saturating_add(limits::REPAIR_REACH as u64) > pn)
        });
        let repair = Repair { back, abandons, members, symbol: &[] };
        let written = writer.whole(|writer| {
            if as_frame {
                repair.write_frame_head(writer, longest)?;
            }
            repair.write_head(writer)?;
            let room = writer.reserve(longest)?;
            self.sum.reset(longest);
            for source in of_class {
                let factor = gf256::coefficient(pn, source.pn);
                self.sum.add(factor, source.symbol.bytes());
            }
            room.fill(0);
            self.sum.join(room);
            Ok(())
        });
        written.ok()
    }

    /// Makes a repair due now for the class of the longest packets.
    #[cfg(test)]
    pub(crate) fn owe(&mut self, now: Instant) {
        let [.., longest] = &mut self.accounts;
        (longest.credit, longest.due) = (ONE, Some(now));
    }

    /// Bytes of packets that are kept.
    #[cfg(test)]
    pub(crate) fn kept(&self) -> usize {
        self.window.iter().map(|source| source.symbol.bytes().len()).sum()
    }
}
