//! A message on its way out as symbols: what the peer has of it, what is still to come, what is to go.

use std::collections::BTreeSet;

use jsp_wire::limits;

use super::codec::{self, Encoder};
use super::{Geometry, Holding, KEPT_BEYOND, SURPLUS};

/// What a symbol's frame takes beside the symbol, at most.
const SYMBOL_HEAD: usize = 40;

/// Packets without other data in a row into which a symbol did not fit.
const MISSES_MAX: u8 = 4;

/// A message on its way out.
///
/// How many symbols are to go follows from what is wanted and what is not lost; nothing is counted beside that could
/// go out of step.
#[derive(Debug)]
pub(in crate::streams) struct Fountain {
    /// What the peer has, as far as is known.
    there: Holding<()>,
    /// Symbols of a hundred that go in advance.
    percent: u8,
    /// How often what is lost may be made up for.
    repeats: u32,
    encoder: Option<Encoder>,
    /// Symbols beyond the message itself that were made.
    made: u32,
    /// Symbols that are wanted besides: for probes, and where as many as usual did not suffice.
    besides: u32,
    /// Symbols that were lost, in whole or in part, and have not come since.
    lost: BTreeSet<u32>,
    /// Symbols of the message and of those in advance of which something was lost or doubted once.
    hit: BTreeSet<u32>,
    /// Something was lost, or is in doubt.
    is_short: bool,
    /// All of the message was sent once.
    is_sent: bool,
    pieces_flying: u32,
    /// With how many symbols it was last tried whether they suffice.
    tried: u32,
    misses: u8,
}

/// What is to become of a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::streams) enum Outlook {
    /// Its fate is open.
    Open,
    /// The peer can put it together.
    Arrived,
    /// Symbols will not do it: pieces go again.
    Pieces,
    /// It will not come.
    Hopeless,
}

impl Fountain {
    /// A message of `total` bytes in packets that have so much room, of which what is lost may be made up for so
    /// often; `None` where that is not worth it.
    pub(in crate::streams) fn new(
        total: u32,
        capacity: usize,
        percent: u8,
        repeats: u32,
    ) -> Option<Box<Self>> {
        let geometry = Geometry::of_message(total, capacity)?;
        Some(Box::new(Self {
            there: Holding::new(geometry, total.into()),
            percent,
            repeats,
            encoder: None,
            made: 0,
            besides: 0,
            lost: BTreeSet::new(),
            hit: BTreeSet::new(),
            is_short: false,
            is_sent: false,
            pieces_flying: 0,
            tried: 0,
            misses: 0,
        }))
    }

    fn sources(&self) -> u32 {
        self.there.geometry.sources
    }

    /// Bytes of each symbol.
    pub(in crate::streams) fn symbol_len(&self) -> usize {
        self.there.geometry.symbol_len.into()
    }

    /// A piece that begins at `offset` is no longer than this, so that it is a symbol.
    // spec: FEC-23
    pub(in crate::streams) fn piece_len(&self, offset: u32) -> u32 {
        let len = u32::from(self.there.geometry.symbol_len);
        len - offset % len
    }

    /// A piece left.
    pub(in crate::streams) fn on_piece_sent(&mut self) {
        self.pieces_flying = self.pieces_flying.saturating_add(1);
    }

    /// All of the message was sent once: symbols may go.
    // spec: FEC-21
    pub(in crate::streams) fn on_sent(&mut self) {
        self.is_sent = true;
    }

    /// What goes behind the message without being asked for.
    fn ahead(&self) -> u32 {
        self.sources().saturating_mul(u32::from(self.percent)).div_ceil(100)
    }

    /// Symbols that are there, on their way, or, for those of the message itself, to go for the first time.
    fn live(&self) -> u32 {
        let lost = u32::try_from(self.lost.len()).unwrap_or(u32::MAX);
        self.sources().saturating_add(self.made).saturating_sub(lost)
    }

    /// As many symbols are to be there in the end; with the first loss come those that putting it together takes
    /// besides.
    fn wanted(&self) -> u32 {
        let surplus = if self.is_short { SURPLUS } else { 0 };
        let more = self.ahead().saturating_add(surplus).saturating_add(self.besides);
        self.sources().saturating_add(more)
    }

    /// Symbols that may still be made: their ids are bounded, and so may be how often what is lost goes again.
    // spec: FEC-20, STR-31
    fn left(&self) -> u32 {
        let beyond = u32::try_from(limits::OBJECT_SYMBOLS_BEYOND).unwrap_or(0);
        let hit = u32::try_from(self.hit.len()).unwrap_or(u32::MAX);
        let repeats = self.ahead().saturating_add(hit.saturating_mul(self.repeats));
        let most = if self.is_bounded() { repeats } else { u32::MAX };
        most.min(self.sources().saturating_add(beyond)).saturating_sub(self.made)
    }

    /// How often what is lost goes again is bounded.
    pub(in crate::streams) fn is_bounded(&self) -> bool {
        self.repeats != u32::MAX
    }

    /// Symbols are to go.
    // spec: FEC-21, FEC-23
    pub(in crate::streams) fn owes(&self) -> bool {
        self.is_sent && self.live() < self.wanted() && self.left() > 0
    }

    /// The next symbol: its id and its content.
    pub(in crate::streams) fn symbol(&mut self, payload: &[u8]) -> Option<(u32, Vec<u8>)> {
        if self.encoder.is_none() {
            self.encoder = Encoder::new(self.there.geometry, payload);
        }
        let data = self.encoder.as_ref()?.symbol(self.made)?;
        Some((self.sources().saturating_add(self.made), data))
    }

    /// It went.
    pub(in crate::streams) fn on_symbol_sent(&mut self) {
        self.made = self.made.saturating_add(1);
        self.misses = 0;
    }

    /// The next symbol did not fit into a packet without other data that has so much room; true when none will.
    pub(in crate::streams) fn on_no_room(&mut self, capacity: usize) -> bool {
        self.misses = self.misses.saturating_add(1);
        let needed = self.symbol_len().saturating_add(SYMBOL_HEAD);
        capacity < needed || self.misses >= MISSES_MAX
    }

    /// A piece that was on its way has its fate.
    pub(in crate::streams) fn on_piece_landed(&mut self) {
        self.pieces_flying = self.pieces_flying.saturating_sub(1);
    }

    /// A piece arrived.
    pub(in crate::streams) fn on_piece_arrived(&mut self, offset: u32, len: u32) {
        self.there.insert_piece(offset.into(), len.into());
        for id in self.there.geometry.touched(offset, len) {
            if self.there.has(id) {
                self.lost.remove(&id);
            }
        }
    }

    /// A symbol arrived.
    pub(in crate::streams) fn on_symbol_arrived(&mut self, id: u32) {
        self.there.symbols.insert(id, ());
        self.lost.remove(&id);
    }

    /// A piece was lost: a symbol takes its place.
    // spec: FEC-23
    pub(in crate::streams) fn on_piece_lost(&mut self, offset: u32, len: u32) {
        for id in self.there.geometry.touched(offset, len) {
            self.on_symbol_lost(id);
        }
    }

    /// A symbol was lost: another one takes its place.
    // spec: FEC-23
    pub(in crate::streams) fn on_symbol_lost(&mut self, id: u32) {
        if !self.there.has(id) {
            self.lost.insert(id);
            self.is_short = true;
            self.on_hit(id);
        }
    }

    /// A probe goes instead of a symbol, or of a piece that begins there: another one goes, whatever becomes of it.
    pub(in crate::streams) fn on_doubt(&mut self, id: u32) {
        self.besides = self.besides.saturating_add(1);
        self.is_short = true;
        self.on_hit(id);
    }

    /// See [`Self::on_doubt`].
    pub(in crate::streams) fn on_piece_doubt(&mut self, offset: u32) {
        self.on_doubt(offset / u32::from(self.there.geometry.symbol_len).max(1));
    }

    fn on_hit(&mut self, id: u32) {
        if id < self.sources().saturating_add(self.ahead()) {
            self.hit.insert(id);
        }
    }

    /// No piece is there, and none is on its way: one must go again, as only pieces tell the attributes.
    // spec: FEC-27
    pub(in crate::streams) fn lacks_piece(&self) -> bool {
        self.is_sent && !self.there.has_piece() && self.pieces_flying == 0
    }

    /// The peer is not known to have a piece.
    pub(in crate::streams) fn is_unheard(&self) -> bool {
        !self.there.has_piece()
    }

    /// What is to become of the message, when `may_go` says whether anything of it may go again.
    // spec: FEC-26, FEC-27
    pub(in crate::streams) fn outlook(&mut self, may_go: bool) -> Outlook {
        if self.there.is_complete() {
            return Outlook::Arrived;
        }
        let (sources, count) = (self.sources(), self.there.count());
        let is_usual = count >= sources.saturating_add(SURPLUS) || self.rests(may_go);
        if self.there.has_piece() && count >= sources && count > self.tried && is_usual {
            self.tried = count;
            if codec::suffices(self.there.geometry, self.there.ids()) {
                return Outlook::Arrived;
            }
            self.besides = self.besides.saturating_add(1);
        }
        let left = if may_go { self.left() } else { 0 };
        let is_out_of_reach = self.live().saturating_add(left) < sources;
        let is_over = self.rests(may_go) && (self.there.has_piece() || !may_go);
        let is_past_hope = self.tried >= sources.saturating_add(KEPT_BEYOND);
        if !(is_out_of_reach || is_over || is_past_hope) {
            Outlook::Open
        } else if may_go && !self.is_bounded() {
            Outlook::Pieces
        } else {
            Outlook::Hopeless
        }
    }

    /// All that went has its fate, and nothing else goes.
    fn rests(&self, may_go: bool) -> bool {
        self.is_sent && self.there.count() == self.live() && !(may_go && self.owes())
    }

    /// Pieces that were lost, and for which symbols were to go.
    pub(in crate::streams) fn lost_pieces(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        self.lost.range(..self.sources()).map(|id| {
            let (start, end) = self.there.place(*id);
            // Both lie inside the message, whose length has 32 bits.
            (start as u32, (end - start) as u32)
        })
    }
}
