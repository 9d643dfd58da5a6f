//! What names a connection to the receiver of a packet.

use core::fmt;
use core::hash::{Hash, Hasher};

use crate::limits;

/// A connection id: up to 20 bytes that name a connection to its receiver.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConnectionId {
    len: u8,
    bytes: [u8; limits::CONNECTION_ID_LEN_MAX],
}

/// Bytes beyond the length are zero, and need not be looked at: ids are looked up datagram by datagram.
impl Hash for ConnectionId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u8(self.len);
        state.write(self.as_bytes());
    }
}

impl ConnectionId {
    /// The id of no bytes.
    pub const EMPTY: Self = Self { len: 0, bytes: [0; limits::CONNECTION_ID_LEN_MAX] };

    /// An id of these bytes; `None` when there are more than 20.
    pub fn new(id: &[u8]) -> Option<Self> {
        let mut bytes = [0; limits::CONNECTION_ID_LEN_MAX];
        bytes.get_mut(..id.len())?.copy_from_slice(id);
        Some(Self { len: id.len() as u8, bytes })
    }

    /// The id's bytes.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }

    /// Number of bytes.
    pub const fn len(&self) -> usize {
        self.len as usize
    }

    /// True for the id of no bytes.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl fmt::Debug for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_bytes().iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
