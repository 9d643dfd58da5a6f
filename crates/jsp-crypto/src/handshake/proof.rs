//! Proof of identity: the messages IDENTITY, SIGNATURE and FINISHED.

use super::codec::Reader;
use super::error::HandshakeError;
use super::messages::{FINISHED, IDENTITY, SIGNATURE, frame, unframe};
use super::secrets::{Secrets, Transcript};
use super::{PeerIdentity, Role};
use crate::identity::{Credential, Delegation, PublicIdentity};
use alloc::vec::Vec;

/// An IDENTITY message that holds a raw key.
const KIND_RAW: u8 = 1;
/// An IDENTITY message that holds a delegation.
const KIND_DELEGATED: u8 = 2;

fn purpose(role: Role) -> &'static str {
    match role {
        Role::Client => "client",
        Role::Server => "server",
    }
}

/// Appends IDENTITY and SIGNATURE to the flight and to the transcript.
pub(super) fn write_identity(
    role: Role,
    credential: &Credential,
    transcript: &mut Transcript,
    flight: &mut Vec<u8>,
) -> Result<(), HandshakeError> {
    let mut body = Vec::new();
    match credential.delegation() {
        None => {
            body.push(KIND_RAW);
            body.extend_from_slice(credential.identity().as_bytes());
        }
        Some(delegation) => {
            body.push(KIND_DELEGATED);
            body.extend_from_slice(&delegation.to_bytes());
        }
    }
    let too_long = || HandshakeError::Config("identity");
    let identity = frame(IDENTITY, &body).ok_or_else(too_long)?;
    transcript.push(&identity);
    flight.extend_from_slice(&identity);
    // spec: HS-34
    let signature = credential
        .sign(purpose(role), transcript.hash().as_bytes())
        .map_err(|_| HandshakeError::Signer)?;
    let signature = frame(SIGNATURE, &signature).ok_or_else(too_long)?;
    transcript.push(&signature);
    flight.extend_from_slice(&signature);
    Ok(())
}

/// Appends FINISHED to the flight and to the transcript.
pub(super) fn write_finished(
    role: Role,
    secrets: &Secrets,
    transcript: &mut Transcript,
    flight: &mut Vec<u8>,
) -> Result<(), HandshakeError> {
    let value = secrets.finished(role, &transcript.hash());
    let message = frame(FINISHED, value.as_bytes()).ok_or(HandshakeError::Config("finished"))?;
    transcript.push(&message);
    flight.extend_from_slice(&message);
    Ok(())
}

/// IDENTITY and SIGNATURE as read, not yet verified.
pub(super) struct Claim<'a> {
    kind: u8,
    body: &'a [u8],
    signature: [u8; 64],
    identity_message: &'a [u8],
    signature_message: &'a [u8],
}

impl<'a> Claim<'a> {
    pub(super) fn read(reader: &mut Reader<'a>) -> Option<Self> {
        let (identity_message, identity) = unframe(reader, IDENTITY)?;
        let (signature_message, signature) = unframe(reader, SIGNATURE)?;
        let (kind, body) = identity.split_first()?;
        Some(Self {
            kind: *kind,
            body,
            signature: signature.try_into().ok()?,
            identity_message,
            signature_message,
        })
    }

    /// Adds both messages to the transcript and gives the hash that the
    /// signature covers: everything up to and with IDENTITY.
    pub(super) fn add_to(&self, transcript: &mut Transcript) -> crate::secret::Digest {
        transcript.push(self.identity_message);
        let signed = transcript.hash();
        transcript.push(self.signature_message);
        signed
    }

    /// Whom the claim proves, `signed` being the hash from [`Claim::add_to`].
    pub(super) fn verify(
        &self,
        sender: Role,
        secrets: &Secrets,
        signed: &crate::secret::Digest,
        unix_seconds: u64,
    ) -> Result<PeerIdentity, HandshakeError> {
        let (identity, signer, until) = self.keys(unix_seconds)?;
        // spec: HS-35
        let backend = secrets.schedule.backend;
        if !signer.verify_with(backend, purpose(sender), signed.as_bytes(), &self.signature) {
            return Err(HandshakeError::Signature);
        }
        let delegated = until.is_some();
        Ok(PeerIdentity { identity, fingerprint: identity.fingerprint(), delegated, until })
    }

    /// `(identity, signing key, end of the delegation)`.
    fn keys(
        &self,
        unix_seconds: u64,
    ) -> Result<(PublicIdentity, PublicIdentity, Option<u64>), HandshakeError> {
        match self.kind {
            KIND_RAW => {
                let key = <[u8; 32]>::try_from(self.body)
                    .map_err(|_| HandshakeError::Malformed("identity"))?;
                let key = PublicIdentity::from_bytes(key);
                Ok((key, key, None))
            }
            KIND_DELEGATED => {
                let delegation = Delegation::from_bytes(self.body)?;
                delegation.verify(unix_seconds)?;
                let (_, until) = delegation.period();
                Ok((delegation.identity(), delegation.online(), Some(until)))
            }
            _ => Err(HandshakeError::Malformed("identity")),
        }
    }
}

/// Reads FINISHED, the last message of a flight: `(whole, value)`.
pub(super) fn read_finished<'a>(reader: &mut Reader<'a>) -> Option<(&'a [u8], &'a [u8])> {
    let finished = unframe(reader, FINISHED)?;
    reader.is_empty().then_some(finished)
}
