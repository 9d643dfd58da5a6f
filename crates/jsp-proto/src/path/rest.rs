//! A path whose connection rests, in few bytes.

use jsp_wire::Route;

use super::{Path, Rhythm};
use crate::fec::PathFec;
use crate::pack::{Pack, Packer, Unpacker};
use crate::path::memory::PastPaths;
use crate::path::refuge::Refuge;
use crate::spaces::SpaceApart;

/// A path, but for what is packed: where it leads, and what most paths do not have.
pub(crate) struct RestingPath {
    route: Route,
    refuge: Option<Box<Refuge>>,
    rhythm: Option<Box<Rhythm>>,
    past: Option<Box<PastPaths>>,
    fec: Option<Box<PathFec>>,
    apart: SpaceApart,
}

impl Path {
    /// True when nothing is on trial or under way, and nothing is lost by packing it.
    pub(super) fn can_rest(&self) -> bool {
        let is_quiet = self.numbers.recovery.is_quiet() && !self.probes.any();
        self.candidate.is_none() && is_quiet && self.congestion.can_be_packed()
    }

    /// The same in few bytes: see [`Path::can_rest`].
    pub(super) fn into_resting(mut self, packer: &mut Packer) -> RestingPath {
        let resting = RestingPath {
            route: self.route,
            refuge: self.refuge.take(),
            rhythm: self.rhythm.take(),
            past: self.past.take(),
            fec: self.fec.take(),
            apart: self.numbers.take_apart(),
        };
        self.pack(packer);
        resting
    }
}

impl RestingPath {
    /// The path as it was.
    pub(super) fn into_path(self, packed: &mut Unpacker<'_>) -> Path {
        let mut path = Path::unpack(packed);
        path.route = self.route;
        (path.refuge, path.rhythm) = (self.refuge, self.rhythm);
        (path.past, path.fec) = (self.past, self.fec);
        path.numbers.put_back(self.apart);
        path
    }
}
