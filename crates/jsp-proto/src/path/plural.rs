//! All paths of a connection.

use core::time::Duration;

use jsp_wire::{Instant, PathId, Route, limits};

use crate::pack::{Packer, Unpacker};
use crate::padding::{Padder, Padding};
use crate::path::Path;
use crate::path::rest::RestingPath;
use crate::path::usage::Notices;
use crate::path::validation::Responses;

/// The most paths at once.
pub(crate) const PATHS_MAX: usize = limits::PATHS_MAX as usize;

/// Ids of some paths, in an order.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct PathList([Option<PathId>; PATHS_MAX]);

impl PathList {
    pub(crate) fn iter(self) -> impl Iterator<Item = PathId> {
        self.0.into_iter().flatten()
    }

    pub(crate) fn first(&self) -> Option<PathId> {
        self.iter().next()
    }
}

impl FromIterator<PathId> for PathList {
    fn from_iter<I: IntoIterator<Item = PathId>>(ids: I) -> Self {
        let mut list = Self::default();
        for (place, id) in list.0.iter_mut().zip(ids) {
            *place = Some(id);
        }
        list
    }
}

/// The only path of a connection that rests, and what there is to know beside it.
pub(crate) struct RestingPaths {
    path: RestingPath,
    preferred: PathId,
    busy_at: Instant,
    next: PathId,
    notices: u64,
}

/// All paths of a connection, and answers owed to challenges.
pub(crate) struct Paths {
    /// The one that the corridor is at. Between calls it is the one that is used first.
    pub(crate) active: Box<Path>,
    /// All others.
    #[allow(clippy::vec_box, reason = "they change places with the one at hand, and are large")]
    pub(crate) others: Vec<Box<Path>>,
    /// The one that is used first, by the latest plan.
    pub(crate) preferred: PathId,
    /// When data last left or came.
    pub(crate) busy_at: Instant,
    /// Every lower id was used.
    next: PathId,
    pub(crate) responses: Responses,
    pub(crate) notices: Notices,
    pub(crate) padder: Padder,
}

impl RestingPaths {
    /// The paths as they were.
    pub(crate) fn into_paths(self, packed: &mut Unpacker<'_>, padding: &Padding) -> Paths {
        let active = self.path.into_path(packed);
        Paths {
            padder: Padder::new(padding, active.wrapping),
            active: Box::new(active),
            others: Vec::new(),
            preferred: self.preferred,
            busy_at: self.busy_at,
            next: self.next,
            responses: Responses::default(),
            notices: Notices::after(self.notices),
        }
    }
}

impl Paths {
    pub(crate) fn new(mut first: Path, padder: Padder) -> Self {
        first.wrapping = padder.wrapping();
        first.mtud.restrict(padder.declared(), padder.wrapping());
        Self {
            active: Box::new(first),
            others: Vec::new(),
            preferred: PathId::FIRST,
            busy_at: Instant::ZERO,
            next: PathId(1),
            responses: Responses::default(),
            notices: Notices::default(),
            padder,
        }
    }

    /// True when there is one path, nothing is on trial or owed, and nothing is lost by packing it.
    pub(crate) fn can_rest(&self) -> bool {
        let owes = !self.responses.is_empty() || self.notices.wants();
        self.others.is_empty() && !owes && self.active.can_rest()
    }

    /// The same in few bytes: see [`Paths::can_rest`]. The padder follows from the configuration.
    pub(crate) fn into_resting(self, packer: &mut Packer) -> RestingPaths {
        RestingPaths {
            path: self.active.into_resting(packer),
            preferred: self.preferred,
            busy_at: self.busy_at,
            next: self.next,
            notices: self.notices.count(),
        }
    }

    /// Brings the corridor to a path; false when there is none of this id.
    pub(crate) fn focus(&mut self, id: PathId) -> bool {
        if self.active.id == id {
            return true;
        }
        let Some(path) = self.others.iter_mut().find(|path| path.id == id) else { return false };
        core::mem::swap(path, &mut self.active);
        true
    }

    /// All of them, the one at hand first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Path> {
        core::iter::once(&self.active).chain(&self.others).map(Box::as_ref)
    }

    pub(crate) fn get(&self, id: PathId) -> Option<&Path> {
        self.iter().find(|path| path.id == id)
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Path> {
        core::iter::once(&mut self.active).chain(&mut self.others).map(Box::as_mut)
    }

    pub(crate) fn get_mut(&mut self, id: PathId) -> Option<&mut Path> {
        self.iter_mut().find(|path| path.id == id)
    }

    /// The longest probe time-out of those that are proved. `ack_delay_max` is what the peer promised.
    pub(crate) fn pto(&self, ack_delay_max: Duration) -> Duration {
        let others = self.others.iter().filter(|path| path.is_validated);
        let longest = others.map(|path| path.pto(ack_delay_max)).max();
        self.active.pto(ack_delay_max).max(longest.unwrap_or_default())
    }

    /// The ids of all, the lowest first.
    pub(crate) fn ids(&self) -> PathList {
        let mut ids: PathList = self.iter().map(|path| path.id).collect();
        ids.0.sort_unstable();
        ids
    }

    pub(crate) fn len(&self) -> usize {
        self.others.len().saturating_add(1)
    }

    /// The id of the path that would begin next, where there may be so many at once.
    // spec: PTH-2
    pub(crate) fn beginning(&self, most: u64) -> Option<PathId> {
        ((self.len() as u64) < most).then_some(self.next)
    }

    /// More than one path was ever used.
    pub(crate) fn were_many(&self) -> bool {
        self.next > PathId(1)
    }

    /// True when a path of this id was there, or is.
    pub(crate) fn was_used(&self, id: PathId) -> bool {
        id < self.next
    }

    /// True when a path of this id was there, or might begin once those before it have come and gone.
    pub(crate) fn is_near(&self, id: PathId) -> bool {
        id.0 < self.next.0.saturating_add(PATHS_MAX as u32)
    }

    /// The path has come and gone, whether or not anything was seen of it. Answers the first of those that had not been
    /// used before.
    pub(crate) fn pass(&mut self, id: PathId) -> PathId {
        let next = PathId(id.0.saturating_add(1)).max(self.next);
        core::mem::replace(&mut self.next, next)
    }

    /// A path begins; the corridor is not moved to it.
    pub(crate) fn add(&mut self, mut path: Path) {
        path.wrapping = self.padder.wrapping();
        path.mtud.restrict(self.padder.declared(), self.padder.wrapping());
        self.next = PathId(path.id.0.saturating_add(1)).max(self.next);
        self.others.push(Box::new(path));
    }

    /// A path that has just been added was nobody's: it is as if it had not been there.
    pub(crate) fn unadd(&mut self, id: PathId) {
        if self.remove(id).is_some() {
            self.next = id.min(self.next);
        }
    }

    /// The path is taken out; the last one stays. The corridor is at another one then.
    pub(crate) fn remove(&mut self, id: PathId) -> Option<Box<Path>> {
        if self.active.id == id {
            let next = self.others.pop()?;
            return Some(core::mem::replace(&mut self.active, next));
        }
        let place = self.others.iter().position(|path| path.id == id)?;
        Some(self.others.swap_remove(place))
    }

    /// The path that a datagram belongs to of a peer to whom we have given no ids: our own address tells,
    /// where it is known.
    // spec: PTH-6
    pub(crate) fn by_route(&self, route: &Route) -> PathId {
        let exact = self.iter().find(|path| path.route == *route);
        let alike = || self.iter().filter(|path| path.route.same_peer(route)).min_by_key(|p| p.id);
        let tried = || {
            let is_tried =
                |path: &&Path| path.candidate.as_ref().is_some_and(|c| c.route.same_peer(route));
            self.iter().find(is_tried)
        };
        exact.or_else(alike).or_else(tried).unwrap_or(&self.active).id
    }

    /// Where a packet stands among those that tell the order of messages: those of the first path. Others
    /// come after all.
    // spec: PTH-10
    pub(crate) fn order_of(&self, pn: u64) -> u64 {
        if self.active.id == PathId::FIRST { pn } else { u64::MAX }
    }

    /// Bytes came by this route to the path at hand, as they were on the wire: they buy budget there.
    pub(crate) fn on_received(&mut self, route: &Route, bytes: usize) {
        let path = &mut self.active;
        if path.route.same_peer(route) {
            path.budget.on_received(bytes);
        }
        if let Some(candidate) = &mut path.candidate
            && candidate.route.same_peer(route)
        {
            candidate.budget.on_received(bytes);
        }
    }
}
