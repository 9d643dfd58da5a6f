//! What the transport needs to know of a client hello before it has all of it.

use crate::handshake::codec::Reader;
use crate::handshake::messages::{CLIENT_HELLO, Core};
use crate::primitives::HashAlg;

/// The identifier that ties the fragments of a message together: the first 8
/// bytes of its SHA-256.
pub fn hello_id(message: &[u8]) -> [u8; 8] {
    // spec: HS-21
    HashAlg::Sha256.hash(&[message]).prefix()
}

/// SHA-256 of the core of a client hello (random, offers, X25519 key, hash of
/// the ML-KEM key, features), for binding a cookie to it. `first_fragment` is
/// any prefix of the hello that holds the whole core; `None` when it does not,
/// or when it is no client hello.
pub fn hello_core_hash(first_fragment: &[u8]) -> Option<[u8; 32]> {
    // spec: HS-22
    let mut reader = Reader::new(first_fragment);
    if reader.u8()? != CLIENT_HELLO {
        return None;
    }
    reader.u16()?;
    let start = reader.rest();
    Core::read(&mut reader)?;
    let core = start.get(..start.len().checked_sub(reader.rest().len())?)?;
    Some(HashAlg::Sha256.hash(&[core]).prefix())
}
