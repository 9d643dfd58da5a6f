//! Frames of a connection with several paths.

use core::fmt;

use super::kind;
use crate::cursor::{DecodeError, Full, Reader, Writer};

/// The number of a path, unique in the life of a connection. Path 0 is that of the handshake.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct PathId(pub u32);

impl PathId {
    /// The path of the handshake.
    pub const FIRST: Self = Self(0);

    // spec: PTH-4
    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        reader.varint()?.try_into().map(Self).map_err(|_| DecodeError::Invalid)
    }
}

impl fmt::Display for PathId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The end of a path: `type | path | code`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PathAbandon {
    /// Which.
    pub path: PathId,
    /// Why: 0 because it was asked for, 1 because nothing came back.
    pub code: u64,
}

impl PathAbandon {
    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { path: PathId::read(reader)?, code: reader.varint()? })
    }

    pub(super) fn write(&self, writer: &mut Writer<'_>) -> Result<(), Full> {
        writer.varint(kind::PATH_ABANDON)?;
        writer.varint(self.path.0.into())?;
        writer.varint(self.code)
    }
}

/// What a path is to be used for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum PathUse {
    /// Whatever there is.
    #[default]
    Available,
    /// Nothing, until no available path works.
    Standby,
    /// Nothing: what is sent there does not arrive.
    Down,
}

/// What the sender wants a path used for: `type | path | sequence | use`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PathStatus {
    /// Which.
    pub path: PathId,
    /// Later frames about a path win; counts from 0.
    pub sequence: u64,
    /// For what.
    pub usage: PathUse,
}

impl PathStatus {
    // spec: PTH-4
    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let (path, sequence) = (PathId::read(reader)?, reader.varint()?);
        let usage = match reader.u8()? {
            0 => PathUse::Available,
            1 => PathUse::Standby,
            2 => PathUse::Down,
            _ => return Err(DecodeError::Invalid),
        };
        Ok(Self { path, sequence, usage })
    }

    pub(super) fn write(&self, writer: &mut Writer<'_>) -> Result<(), Full> {
        writer.varint(kind::PATH_STATUS)?;
        writer.varint(self.path.0.into())?;
        writer.varint(self.sequence)?;
        writer.u8(match self.usage {
            PathUse::Available => 0,
            PathUse::Standby => 1,
            PathUse::Down => 2,
        })
    }
}
