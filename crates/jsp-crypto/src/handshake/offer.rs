//! A client's hellos: the full one, and the one with a ticket.

use super::codec::{put_vec8, put_vec16};
use super::config::{ClientConfig, Kem, features};
use super::error::HandshakeError;
use super::grease;
use super::key_share::KeyShare;
use super::messages::{
    CLIENT_HELLO, Core, MAX_HELLO_LEN, ext, frame, put_extension, put_protocols, versions_bytes,
};
use super::resume::{self, EarlySecrets};
use crate::client_ticket::ClientTicket;
use crate::primitives::{Agree, Decapsulate, HashAlg};
use crate::rng::{self, Rng};
use crate::secret::Secret32;
use crate::suite::Suite;
use alloc::boxed::Box;
use alloc::vec::Vec;

/// A hello with the keys that belong to it.
pub(super) struct Offer {
    pub(super) hello: Vec<u8>,
    pub(super) private: Box<dyn Agree>,
    pub(super) decapsulation: Option<Box<dyn Decapsulate>>,
    pub(super) ticket: Option<Box<OfferedTicket>>,
}

/// The ticket of a hello.
pub(super) struct OfferedTicket {
    pub(super) ticket: ClientTicket,
    pub(super) early: bool,
    pub(super) secrets: EarlySecrets,
}

impl Offer {
    pub(super) fn full(
        config: &ClientConfig,
        params: &[u8],
        versions_seen: &[u32],
        share: KeyShare,
        refused_ticket: Option<&[u8]>,
        rng: &mut dyn Rng,
    ) -> Result<Self, HandshakeError> {
        let KeyShare { x25519: private, decapsulation, ek, .. } = share;
        let public = private.public();
        let mut extensions = write_extensions(config, params, versions_seen, rng).ok_or(UNFIT)?;
        if let Some(ticket) = refused_ticket {
            put_extension(&mut extensions, ext::REFUSED_TICKET, ticket).ok_or(UNFIT)?;
        }
        let core = CoreParts { suites: &config.suites, kems: config.kem.kems(), x25519: &public };
        let body = write_hello(config, &core, &ek, extensions, rng)?;
        let hello = finish_hello(body)?;
        Ok(Self { hello, private, decapsulation, ticket: None })
    }

    pub(super) fn resuming(
        config: &ClientConfig,
        ticket: ClientTicket,
        early: bool,
        params: &[u8],
        now_ms: u64,
        rng: &mut dyn Rng,
    ) -> Result<Self, HandshakeError> {
        let primitives = config.backend.primitives();
        let private = super::agreement_key(primitives, rng)?;
        let public = private.public();
        let secrets = EarlySecrets::new(config.backend, ticket.suite, ticket.version, &ticket.psk);
        let random: [u8; 32] = rng::array(rng);
        let age = now_ms.saturating_sub(ticket.received_ms);
        let age = u32::try_from(age).unwrap_or(u32::MAX) ^ secrets.age_mask(&random);
        let mut extensions = write_extensions(config, params, &[], rng).ok_or(UNFIT)?;
        let offer = resume::offer(early, age, &ticket.ticket);
        put_extension(&mut extensions, ext::TICKET, &offer).ok_or(UNFIT)?;
        let suites = [ticket.suite];
        let core = CoreParts { suites: &suites, kems: &[Kem::TicketX25519], x25519: &public };
        let mut body = write_hello_with(config, &core, &[], &extensions, random, rng)?;
        // The length that the message will have stands before what the binder covers.
        let binder_len = secrets.secret().as_bytes().len();
        let whole = body.len().saturating_add(binder_len).saturating_add(1);
        let len = u16::try_from(whole).map_err(|_| UNFIT)?.to_be_bytes();
        let mut start = alloc::vec![CLIENT_HELLO];
        start.extend_from_slice(&len);
        start.extend_from_slice(&body);
        put_vec8(&mut body, secrets.binder(&start).as_bytes()).ok_or(UNFIT)?;
        let hello = finish_hello(body)?;
        let ticket = Some(Box::new(OfferedTicket { ticket, early, secrets }));
        Ok(Self { hello, private, decapsulation: None, ticket })
    }

    pub(super) fn decapsulate(
        &self,
        kem: Kem,
        ciphertext: &[u8],
    ) -> Result<Option<Secret32>, HandshakeError> {
        // spec: HS-17
        match kem {
            Kem::X25519 | Kem::TicketX25519 if ciphertext.is_empty() => Ok(None),
            Kem::X25519MlKem768 => {
                let key = self.decapsulation.as_ref().ok_or(HandshakeError::KeyShare)?;
                Ok(Some(key.decapsulate(ciphertext).ok_or(HandshakeError::KeyShare)?))
            }
            _ => Err(HandshakeError::KeyShare),
        }
    }
}

/// What a hello that offers ML-DSA-65 has at least, in bytes: more than two
/// datagrams of 1200 bytes hold.
const LONG_HELLO_LEN: usize = 2400;

const UNFIT: HandshakeError = HandshakeError::Config("application protocols or parameters");

/// What differs in the core of a full hello and one with a ticket.
struct CoreParts<'a> {
    suites: &'a [Suite],
    kems: &'a [Kem],
    x25519: &'a [u8; 32],
}

fn write_hello(
    config: &ClientConfig,
    parts: &CoreParts<'_>,
    ek: &[u8],
    mut extensions: Vec<u8>,
    rng: &mut dyn Rng,
) -> Result<Vec<u8>, HandshakeError> {
    let random = rng::array(rng);
    // The core has 140 bytes without its lists, and these have a few.
    let least = if config.signatures.schemes().iter().any(|scheme| scheme.is_post_quantum()) {
        LONG_HELLO_LEN
    } else {
        0
    };
    let len = ek.len().saturating_add(extensions.len());
    // spec: HS-103
    if let Some(missing) = least.checked_sub(len) {
        put_extension(&mut extensions, ext::PADDING, &alloc::vec![0; missing]).ok_or(TOO_LONG)?;
    }
    write_hello_with(config, parts, ek, &extensions, random, rng)
}

/// The body of a hello, less the binder.
fn write_hello_with(
    config: &ClientConfig,
    parts: &CoreParts<'_>,
    ek: &[u8],
    extensions: &[u8],
    random: [u8; 32],
    rng: &mut dyn Rng,
) -> Result<Vec<u8>, HandshakeError> {
    let ek_hash = if ek.is_empty() { [0; 32] } else { HashAlg::Sha256.hash(&[ek]).prefix() };
    if config.versions.is_empty() || parts.suites.is_empty() {
        return Err(HandshakeError::Config("no version or no cipher suite"));
    }
    // spec: HS-7
    let mut versions = config.versions.clone();
    versions.push(grease::version(rng));
    let mut suites: Vec<u8> = parts.suites.iter().map(|suite| suite.id()).collect();
    suites.push(grease::id8(rng));
    let mut kems: Vec<u8> = parts.kems.iter().map(|kem| kem.id()).collect();
    kems.push(grease::id8(rng));
    let mut signatures: Vec<u8> =
        config.signatures.schemes().iter().map(|scheme| scheme.id()).collect();
    signatures.push(grease::id8(rng));
    let core = Core {
        random,
        versions,
        suites: &suites,
        kems: &kems,
        signatures: &signatures,
        x25519: *parts.x25519,
        ek_hash,
        features: (config.features & !features::GREASE_MASK)
            | (u64::from_be_bytes(rng::array(rng)) & features::GREASE_MASK),
    };
    let mut body = Vec::with_capacity(1500);
    core.write(&mut body).ok_or(TOO_LONG)?;
    put_vec16(&mut body, extensions).ok_or(TOO_LONG)?;
    put_vec16(&mut body, ek).ok_or(TOO_LONG)?;
    Ok(body)
}

const TOO_LONG: HandshakeError = HandshakeError::Config("the hello is longer than 4096 bytes");

fn finish_hello(body: Vec<u8>) -> Result<Vec<u8>, HandshakeError> {
    let message = frame(CLIENT_HELLO, &body).ok_or(TOO_LONG)?;
    // spec: HS-1
    if message.len() > MAX_HELLO_LEN { Err(TOO_LONG) } else { Ok(message) }
}

fn write_extensions(
    config: &ClientConfig,
    params: &[u8],
    versions_seen: &[u32],
    rng: &mut dyn Rng,
) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    put_extension(&mut out, ext::TRANSPORT_PARAMS, params)?;
    if !config.application_protocols.is_empty() {
        let mut names = Vec::new();
        let noise = grease::protocol(rng);
        let ours = config.application_protocols.iter().map(Vec::as_slice);
        put_protocols(&mut names, ours.chain(core::iter::once(noise.as_slice())))?;
        put_extension(&mut out, ext::APPLICATION_PROTOCOLS, &names)?;
    }
    put_extension(&mut out, ext::VERSIONS_SEEN, &versions_bytes(versions_seen))?;
    let [len] = rng::array::<1>(rng);
    let noise = alloc::vec![0; usize::from(len & 7)];
    put_extension(&mut out, grease::extension(rng), &noise)?;
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    // spec-test: HS-1
    #[test]
    fn a_hello_has_4096_bytes_at_most() {
        let head_len = finish_hello(Vec::new()).unwrap().len();
        let longest = alloc::vec![0; MAX_HELLO_LEN - head_len];
        assert_eq!(finish_hello(longest.clone()).unwrap().len(), MAX_HELLO_LEN);
        let too_long = [longest, alloc::vec![0]].concat();
        assert!(matches!(finish_hello(too_long), Err(HandshakeError::Config(_))));
    }
}
