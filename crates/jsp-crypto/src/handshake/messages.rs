//! The handshake's messages: layouts, and total parsing of them.

use super::codec::{Reader, put_vec8, put_vec16};
use super::error::HandshakeError;
use crate::primitives::CT_LEN;
use alloc::vec::Vec;

pub(crate) const CLIENT_HELLO: u8 = 1;
pub(super) const SERVER_HELLO: u8 = 2;
pub(super) const EXTENSIONS: u8 = 3;
pub(super) const IDENTITY: u8 = 4;
pub(super) const SIGNATURE: u8 = 5;
pub(super) const FINISHED: u8 = 6;

/// A server hello that resumes: nothing is signed.
pub(super) const SIG_NONE: u8 = 0;

/// The longest hello of a client, in bytes.
pub(super) const MAX_HELLO_LEN: usize = 4096;
/// The longest flight, in bytes: an online key of ML-DSA-65 and a delegation by
/// an identity of the same take 10.6 kB.
pub(super) const MAX_FLIGHT_LEN: usize = 12288;
/// The most extensions one message may carry.
const MAX_EXTENSIONS: usize = 32;

/// Extension identifiers: even ones are critical, odd ones may be ignored.
pub(super) mod ext {
    /// Transport parameters, opaque here (both hellos).
    pub(crate) const TRANSPORT_PARAMS: u16 = 0x0002;
    /// Application protocols: the client's list, the server's choice.
    pub(crate) const APPLICATION_PROTOCOLS: u16 = 0x0004;
    /// Versions named in a version negotiation packet (client only).
    pub(crate) const VERSIONS_SEEN: u16 = 0x0006;
    /// All versions of the server (server only).
    pub(crate) const VERSIONS: u16 = 0x0008;
    /// The server wants a client identity: 1 optional, 2 required (server only).
    pub(crate) const CLIENT_AUTH: u16 = 0x000a;
    /// The server's feature bits (server only).
    pub(crate) const FEATURES: u16 = 0x000c;
    /// A ticket: early data wanted 1, masked age 4, ticket (client only).
    pub(crate) const TICKET: u16 = 0x000e;
    /// Early data are accepted (server only).
    pub(crate) const EARLY_DATA: u16 = 0x0010;
    /// The ticket of a hello with early data that was refused (client only).
    pub(crate) const REFUSED_TICKET: u16 = 0x0012;
    /// Zeros that make a hello long enough for a long answer (client only).
    pub(crate) const PADDING: u16 = 0x0013;
}

/// One message with its type and two-byte length.
pub(crate) fn frame(kind: u8, body: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(body.len().saturating_add(3));
    out.push(kind);
    put_vec16(&mut out, body)?;
    Some(out)
}

/// Reads one message of the given kind: `(whole, body)`.
pub(crate) fn unframe<'a>(reader: &mut Reader<'a>, kind: u8) -> Option<(&'a [u8], &'a [u8])> {
    let start = reader.rest();
    if reader.u8()? != kind {
        return None;
    }
    let body = reader.vec16()?;
    let whole = start.get(..body.len().checked_add(3)?)?;
    Some((whole, body))
}

/// The kind of the next message.
pub(super) fn peek_kind(reader: &Reader<'_>) -> Option<u8> {
    reader.rest().first().copied()
}

/// Extensions read from a message: at most 32, no identifier twice.
pub(super) struct Extensions<'a>(Vec<(u16, &'a [u8])>);

impl<'a> Extensions<'a> {
    /// Refuses unknown critical extensions; `known` lists those the message may carry.
    pub(super) fn read(
        bytes: &'a [u8],
        known: &[u16],
        what: &'static str,
    ) -> Result<Self, HandshakeError> {
        let mut reader = Reader::new(bytes);
        let mut list: Vec<(u16, &'a [u8])> = Vec::new();
        while !reader.is_empty() {
            let malformed = HandshakeError::Malformed(what);
            let (Some(id), Some(body)) = (reader.u16(), reader.vec16()) else {
                return Err(malformed);
            };
            // spec: HS-6
            if list.len() >= MAX_EXTENSIONS || list.iter().any(|(seen, _)| *seen == id) {
                return Err(malformed);
            }
            // spec: HS-5
            if !known.contains(&id) && id & 1 == 0 {
                return Err(HandshakeError::UnknownExtension(id));
            }
            list.push((id, body));
        }
        Ok(Self(list))
    }

    pub(super) fn get(&self, id: u16) -> Option<&'a [u8]> {
        self.0.iter().find(|(seen, _)| *seen == id).map(|(_, body)| *body)
    }
}

pub(super) fn put_extension(out: &mut Vec<u8>, id: u16, body: &[u8]) -> Option<()> {
    out.extend_from_slice(&id.to_be_bytes());
    put_vec16(out, body)
}

/// Reads 32-bit version numbers; `None` when the length is no multiple of four.
pub(super) fn read_versions(bytes: &[u8]) -> Option<Vec<u32>> {
    let mut reader = Reader::new(bytes);
    let mut out = Vec::new();
    while !reader.is_empty() {
        out.push(reader.u32()?);
    }
    Some(out)
}

pub(super) fn versions_bytes(versions: &[u32]) -> Vec<u8> {
    versions.iter().flat_map(|version| version.to_be_bytes()).collect()
}

/// Reads a list of names of 1 to 255 bytes.
pub(super) fn read_protocols(bytes: &[u8]) -> Option<Vec<&[u8]>> {
    let mut reader = Reader::new(bytes);
    let mut out = Vec::new();
    while !reader.is_empty() {
        let name = reader.vec8()?;
        if name.is_empty() {
            return None;
        }
        out.push(name);
    }
    Some(out)
}

pub(super) fn put_protocols<'n>(
    out: &mut Vec<u8>,
    names: impl Iterator<Item = &'n [u8]>,
) -> Option<()> {
    for name in names {
        if name.is_empty() {
            return None;
        }
        put_vec8(out, name)?;
    }
    Some(())
}

/// The fixed start of a client hello, which lies whole in its first fragment.
pub(crate) struct Core<'a> {
    pub(super) random: [u8; 32],
    pub(super) versions: Vec<u32>,
    pub(super) suites: &'a [u8],
    pub(super) kems: &'a [u8],
    pub(super) signatures: &'a [u8],
    pub(super) x25519: [u8; 32],
    pub(super) ek_hash: [u8; 32],
    pub(super) features: u64,
}

impl<'a> Core<'a> {
    pub(crate) fn read(reader: &mut Reader<'a>) -> Option<Self> {
        let core = Self {
            random: reader.array()?,
            versions: read_versions(reader.vec8()?)?,
            suites: reader.vec8()?,
            kems: reader.vec8()?,
            signatures: reader.vec8()?,
            x25519: reader.array()?,
            ek_hash: reader.array()?,
            features: reader.u64()?,
        };
        // spec: HS-3
        let empty = core.versions.is_empty()
            || core.suites.is_empty()
            || core.kems.is_empty()
            || core.signatures.is_empty();
        (!empty).then_some(core)
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) -> Option<()> {
        out.extend_from_slice(&self.random);
        put_vec8(out, &versions_bytes(&self.versions))?;
        put_vec8(out, self.suites)?;
        put_vec8(out, self.kems)?;
        put_vec8(out, self.signatures)?;
        out.extend_from_slice(&self.x25519);
        out.extend_from_slice(&self.ek_hash);
        out.extend_from_slice(&self.features.to_be_bytes());
        Some(())
    }
}

/// A whole client hello.
pub(super) struct ClientHello<'a> {
    pub(super) core: Core<'a>,
    pub(super) extensions: Extensions<'a>,
    /// Empty when the hybrid is not offered.
    pub(super) ek: &'a [u8],
    /// What a hello with a ticket ends in: the message without it, and the binder.
    pub(super) binder: Option<(&'a [u8], &'a [u8])>,
}

impl<'a> ClientHello<'a> {
    const KNOWN: [u16; 5] = [
        ext::TRANSPORT_PARAMS,
        ext::APPLICATION_PROTOCOLS,
        ext::VERSIONS_SEEN,
        ext::TICKET,
        ext::REFUSED_TICKET,
    ];

    pub(super) fn read(message: &'a [u8]) -> Result<Self, HandshakeError> {
        const WHAT: &str = "client hello";
        let malformed = || HandshakeError::Malformed(WHAT);
        // spec: HS-2
        if message.len() > MAX_HELLO_LEN {
            return Err(malformed());
        }
        let mut outer = Reader::new(message);
        let (_, body) = unframe(&mut outer, CLIENT_HELLO).ok_or_else(malformed)?;
        let mut reader = Reader::new(body);
        let core = Core::read(&mut reader).ok_or_else(malformed)?;
        let extensions = reader.vec16().ok_or_else(malformed)?;
        let ek = reader.vec16().ok_or_else(malformed)?;
        let extensions = Extensions::read(extensions, &Self::KNOWN, WHAT)?;
        let mut binder = None;
        if extensions.get(ext::TICKET).is_some() {
            let end = message.len().checked_sub(reader.rest().len()).ok_or_else(malformed)?;
            let start = message.get(..end).ok_or_else(malformed)?;
            binder = Some((start, reader.vec8().ok_or_else(malformed)?));
        }
        // spec: HS-4
        if !outer.is_empty() || !reader.is_empty() {
            return Err(malformed());
        }
        Ok(Self { core, extensions, ek, binder })
    }
}

/// Length of a server hello with the hybrid, in bytes: no other is longer.
pub const SERVER_HELLO_LEN_MAX: usize = 3 + 71 + CT_LEN;

/// A server hello. It has no lists and no extensions: everything that need not
/// be in the clear waits for the encrypted flight.
pub(super) struct ServerHello<'a> {
    pub(super) random: [u8; 32],
    pub(super) version: u32,
    pub(super) suite: u8,
    pub(super) kem: u8,
    pub(super) signature: u8,
    pub(super) x25519: [u8; 32],
    /// 1088 bytes with the hybrid, else empty.
    pub(super) ciphertext: &'a [u8],
}

impl<'a> ServerHello<'a> {
    pub(super) fn read(message: &'a [u8]) -> Option<Self> {
        let mut outer = Reader::new(message);
        let (_, body) = unframe(&mut outer, SERVER_HELLO)?;
        let mut reader = Reader::new(body);
        let hello = Self {
            random: reader.array()?,
            version: reader.u32()?,
            suite: reader.u8()?,
            kem: reader.u8()?,
            signature: reader.u8()?,
            x25519: reader.array()?,
            ciphertext: reader.rest(),
        };
        let length_fits = hello.ciphertext.is_empty() || hello.ciphertext.len() == CT_LEN;
        (outer.is_empty() && length_fits).then_some(hello)
    }

    pub(super) fn to_message(&self) -> Option<Vec<u8>> {
        let mut body = Vec::with_capacity(CT_LEN.saturating_add(71));
        body.extend_from_slice(&self.random);
        body.extend_from_slice(&self.version.to_be_bytes());
        body.extend_from_slice(&[self.suite, self.kem, self.signature]);
        body.extend_from_slice(&self.x25519);
        body.extend_from_slice(self.ciphertext);
        frame(SERVER_HELLO, &body)
    }
}
