//! What may be written to a byte stream.

use bytes::Bytes;

/// Bytes to be written. [`Bytes`], `Vec<u8>` and `String` are taken without a copy; slices are
/// copied once.
pub trait IntoChunk {
    /// The bytes, owned.
    fn into_chunk(self) -> Bytes;
}

impl IntoChunk for Bytes {
    fn into_chunk(self) -> Bytes {
        self
    }
}

impl IntoChunk for &Bytes {
    fn into_chunk(self) -> Bytes {
        self.clone()
    }
}

impl IntoChunk for Vec<u8> {
    fn into_chunk(self) -> Bytes {
        self.into()
    }
}

impl IntoChunk for String {
    fn into_chunk(self) -> Bytes {
        self.into()
    }
}

impl IntoChunk for &[u8] {
    fn into_chunk(self) -> Bytes {
        Bytes::copy_from_slice(self)
    }
}

impl<const N: usize> IntoChunk for &[u8; N] {
    fn into_chunk(self) -> Bytes {
        Bytes::copy_from_slice(self)
    }
}

impl IntoChunk for &Vec<u8> {
    fn into_chunk(self) -> Bytes {
        Bytes::copy_from_slice(self)
    }
}

impl IntoChunk for &str {
    fn into_chunk(self) -> Bytes {
        Bytes::copy_from_slice(self.as_bytes())
    }
}
