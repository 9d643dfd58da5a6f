//! The receiving half: packets as they arrived, and equations about those that did not.
//!
//! A repair whose members all arrived is dropped at once. Else what is known is subtracted, and the
//! rest is an equation. The equations are kept in reduced row echelon form, so that each step costs at
//! most one multiple for each of them; one with a single unknown is a recovered packet.
//!
//! Everything is bounded by constants: [`limits::REPAIR_REACH`] packets, [`ROWS_MAX`] equations. The peer
//! alone can make repairs, as packets are sealed; one that lies says what it could have said openly.

use std::collections::VecDeque;

use jsp_wire::frame::Repair;
use jsp_wire::{Shape, limits};

use super::class_of;
use super::gf256::{self, Sum};
use super::symbol::{SYMBOL_LEN_MAX, Symbol};

/// Packet numbers that are kept: one place for each remainder.
const PLACES: usize = limits::REPAIR_REACH;

/// Equations that are kept, and so the losses that can be open at once.
pub(crate) const ROWS_MAX: usize = 32;

/// What is known of a packet number.
#[derive(Clone, Debug, Default)]
struct Place {
    /// The number that the place stands for.
    pn: u64,
    is_known: bool,
    /// Size classes, a bit each, of repairs that have left it out.
    abandoned: u8,
    symbol: Symbol,
}

/// The sum of unknown symbols, each times a factor, is a symbol.
#[derive(Clone, Debug)]
struct Row {
    /// One for each place.
    factors: [u8; PLACES],
    /// The place that no other row has.
    pivot: usize,
    symbol: Vec<u8>,
}

/// A packet that was put together again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Recovered {
    /// The number that it must have.
    pub(crate) pn: u64,
    /// What its content is.
    pub(crate) shape: Shape,
    /// What was protected of it.
    pub(crate) content: Vec<u8>,
}

/// Puts lost packets of one path together.
#[derive(Debug)]
pub(crate) struct Decoder {
    places: Vec<Place>,
    rows: Vec<Row>,
    /// Below this nothing is kept.
    lowest: u64,
    /// The highest number that arrived, and one more; nothing below `lowest` counts.
    next: u64,
    ready: VecDeque<Recovered>,
    sum: Sum,
}

impl Decoder {
    /// Keeps packets from the number `next` on.
    pub(crate) fn new(next: u64) -> Self {
        Self {
            places: vec![Place::default(); PLACES],
            rows: Vec::new(),
            lowest: next,
            next,
            ready: VecDeque::new(),
            sum: Sum::default(),
        }
    }

    /// An authentic packet has arrived, with this shape and content.
    // spec: FEC-5
    pub(crate) fn keep(&mut self, pn: u64, shape: Shape, content: &[u8]) {
        self.advance(pn);
        if content.is_empty() || content.len() > limits::PROTECTED_LEN_MAX || self.is_old(pn) {
            return;
        }
        let Some(place) = self.places.get_mut(place_of(pn)) else { return };
        if place.pn == pn && place.is_known {
            return;
        }
        place.pn = pn;
        place.is_known = true;
        place.symbol.set(shape, content);
        self.substitute(pn);
        self.harvest();
    }

    /// Takes a repair that the packet `pn` held. Repairs that say nothing new, that cover what is not
    /// kept, or that contradict others change nothing.
    // spec: FEC-5
    pub(crate) fn on_repair(&mut self, pn: u64, repair: &Repair<'_>) {
        self.advance(pn);
        let Some(highest) = pn.checked_sub(repair.back.into()) else { return };
        let is_within = highest
            .checked_sub(u64::from(repair.span()).saturating_sub(1))
            .is_some_and(|lowest| !self.is_old(lowest));
        if !is_within || repair.symbol.len() > SYMBOL_LEN_MAX {
            return;
        }
        if repair.abandons && pn.saturating_add(1) == self.next {
            self.abandon(highest, repair);
        }
        let Some(row) = self.row_of(pn, highest, repair) else { return };
        self.insert(row);
        self.harvest();
    }

    /// The newest repair covers what the sender still repairs of its class: what it leaves out may have
    /// expired, now and for repairs that come late.
    // spec: FEC-17
    fn abandon(&mut self, highest: u64, repair: &Repair<'_>) {
        let class = class_of_symbol(repair.symbol.len());
        for number in self.next.saturating_sub(PLACES as u64)..self.next {
            let below = highest.checked_sub(number).and_then(|below| u32::try_from(below).ok());
            let bit = below.and_then(|below| repair.members.checked_shr(below)).unwrap_or(0);
            if bit & 1 == 0 && !self.is_known(number) {
                let at = place_of(number);
                self.eliminate(at, |row| row.class() == class);
                if let Some(place) = self.places.get_mut(at) {
                    place.abandoned |= mark_of(class);
                }
            }
        }
    }

    /// The next packet that was recovered.
    pub(crate) fn pop(&mut self) -> Option<Recovered> {
        self.ready.pop_front()
    }

    fn is_old(&self, pn: u64) -> bool {
        pn < self.lowest || pn.saturating_add(PLACES as u64) < self.next
    }

    fn is_known(&self, pn: u64) -> bool {
        self.places.get(place_of(pn)).is_some_and(|place| place.pn == pn && place.is_known)
    }

    /// The window moves up to `pn`: unknowns that leave it are eliminated as far as they can be.
    fn advance(&mut self, pn: u64) {
        if pn < self.next {
            return;
        }
        let fresh = pn.saturating_sub(self.next).saturating_add(1);
        if fresh >= PLACES as u64 {
            self.rows.clear();
        }
        for number in pn.saturating_sub(fresh.min(PLACES as u64).saturating_sub(1))..=pn {
            let place = place_of(number);
            self.eliminate(place, |_| true);
            if let Some(place) = self.places.get_mut(place) {
                place.pn = number;
                place.is_known = false;
                place.abandoned = 0;
            }
        }
        self.next = pn.saturating_add(1);
    }

    /// The equation that a repair is, without what is known; nothing when nothing is unknown or more
    /// than can be kept.
    fn row_of(&mut self, pn: u64, highest: u64, repair: &Repair<'_>) -> Option<Row> {
        let numbers = (0..repair.span())
            .filter(|n| repair.members >> n & 1 == 1)
            .map(|n| highest.saturating_sub(u64::from(n)));
        let unknown = numbers.clone().filter(|number| !self.is_known(*number)).count();
        if unknown == 0 || unknown > ROWS_MAX {
            return None;
        }
        let mark = mark_of(class_of_symbol(repair.symbol.len()));
        let mut row = Row { factors: [0; PLACES], pivot: PLACES, symbol: repair.symbol.to_vec() };
        self.sum.reset(row.symbol.len());
        for number in numbers {
            let factor = gf256::coefficient(pn, number);
            let at = place_of(number);
            match self.places.get(at) {
                Some(place) if place.pn == number && place.is_known => {
                    self.sum.add(factor, place.symbol.bytes());
                }
                Some(place) if place.pn == number && place.abandoned & mark != 0 => return None,
                _ => *row.factors.get_mut(at)? = factor,
            }
        }
        self.sum.join(&mut row.symbol);
        Some(row)
    }

    /// Brings a new equation into the reduced form.
    fn insert(&mut self, mut row: Row) {
        if self.rows.len() >= ROWS_MAX {
            return;
        }
        for other in &self.rows {
            let factor = row.factor(other.pivot);
            row.subtract(factor, other);
        }
        if row.normalise() {
            for other in &mut self.rows {
                let factor = other.factor(row.pivot);
                other.subtract(factor, &row);
            }
            self.rows.push(row);
        }
    }

    /// Takes an unknown out of all equations, at the price of one of those that `may_go`.
    fn eliminate(&mut self, place: usize, may_go: impl Fn(&Row) -> bool) {
        let has = |row: &Row| row.factor(place) != 0 && may_go(row);
        let Some(at) = self.rows.iter().position(has) else { return };
        let mut gone = self.rows.swap_remove(at);
        if !gone.normalise_at(place) {
            return;
        }
        for row in &mut self.rows {
            let factor = row.factor(place);
            row.subtract(factor, &gone);
        }
        self.restore();
    }

    /// The symbol of a number has become known.
    fn substitute(&mut self, pn: u64) {
        let at = place_of(pn);
        let Some(place) = self.places.get(at) else { return };
        let mut changed = false;
        for row in &mut self.rows {
            let factor = core::mem::take(row.factors.get_mut(at).unwrap_or(&mut 0));
            if factor == 0 {
                continue;
            }
            changed = true;
            gf256::add_multiple(&mut row.symbol, factor, place.symbol.bytes());
        }
        if changed {
            self.restore();
        }
    }

    /// Rows that lost their pivot get another one, or go.
    fn restore(&mut self) {
        while let Some(at) = self.rows.iter().position(|row| row.factor(row.pivot) != 1) {
            let row = self.rows.swap_remove(at);
            self.insert(row);
        }
    }

    /// Equations with a single unknown are packets.
    fn harvest(&mut self) {
        while let Some(at) = self.rows.iter().position(Row::is_solved) {
            let row = self.rows.swap_remove(at);
            let Some(place) = self.places.get_mut(row.pivot) else { continue };
            let Some((shape, content, symbol)) = Symbol::read(&row.symbol) else { continue };
            if place.is_known {
                continue;
            }
            place.is_known = true;
            place.symbol = symbol;
            self.ready.push_back(Recovered { pn: place.pn, shape, content: content.to_vec() });
        }
    }

    /// Bytes of packets and equations that are kept.
    pub(crate) fn kept(&self) -> usize {
        let places: usize = self.places.iter().map(|place| place.symbol.bytes().len()).sum();
        let rows: usize = self.rows.iter().map(|row| row.symbol.len()).sum();
        let ready: usize = self.ready.iter().map(|recovered| recovered.content.len()).sum();
        places + rows + ready
    }
}

impl Row {
    fn factor(&self, place: usize) -> u8 {
        self.factors.get(place).copied().unwrap_or(0)
    }

    /// Takes `factor` times another row away.
    fn subtract(&mut self, factor: u8, other: &Self) {
        if factor == 0 {
            return;
        }
        gf256::add_multiple(&mut self.factors, factor, &other.factors);
        if self.symbol.len() < other.symbol.len() {
            self.symbol.resize(other.symbol.len(), 0);
        }
        gf256::add_multiple(&mut self.symbol, factor, &other.symbol);
    }

    /// Makes the first factor that is not zero the pivot; false when there is none.
    fn normalise(&mut self) -> bool {
        let Some(place) = self.factors.iter().position(|factor| *factor != 0) else { return false };
        self.normalise_at(place)
    }

    fn normalise_at(&mut self, place: usize) -> bool {
        let factor = self.factor(place);
        if factor == 0 {
            return false;
        }
        let by = gf256::inverse(factor);
        gf256::scale(&mut self.factors, by);
        gf256::scale(&mut self.symbol, by);
        self.pivot = place;
        true
    }

    /// The size class of its unknowns: repairs do not mix classes.
    fn class(&self) -> Option<usize> {
        class_of_symbol(self.symbol.len())
    }

    fn is_solved(&self) -> bool {
        self.factors.iter().filter(|factor| **factor != 0).count() == 1
    }
}

fn class_of_symbol(len: usize) -> Option<usize> {
    class_of(len.saturating_sub(limits::SYMBOL_LENGTH_LEN))
}

fn mark_of(class: Option<usize>) -> u8 {
    class.map_or(0, |class| 1 << (class % 8))
}

fn place_of(pn: u64) -> usize {
    // Below PLACES, whatever the size of usize.
    (pn % PLACES as u64) as usize
}
