//! No code is built in: no symbol is made, and none is asked for.

use core::convert::Infallible;

use super::Geometry;

/// The code is not built in.
pub(crate) const IS_PRESENT: bool = false;

/// Is never made.
#[derive(Debug)]
pub(in crate::streams) struct Encoder(Infallible);

impl Encoder {
    pub(in crate::streams) fn new(_geometry: Geometry, _payload: &[u8]) -> Option<Self> {
        None
    }

    pub(in crate::streams) fn symbol(&self, _index: u32) -> Option<Vec<u8>> {
        match self.0 {}
    }
}

pub(in crate::streams) fn decode(
    _geometry: Geometry,
    _symbols: impl Iterator<Item = (u32, Vec<u8>)>,
) -> Option<Vec<u8>> {
    None
}

pub(in crate::streams) fn suffices(_geometry: Geometry, _ids: impl Iterator<Item = u32>) -> bool {
    false
}
