//! Proof of identity: the messages IDENTITY, SIGNATURE and FINISHED.

use super::codec::Reader;
use super::error::HandshakeError;
use super::messages::{FINISHED, IDENTITY, SIGNATURE, frame, unframe};
use super::secrets::{Secrets, Transcript};
use super::{PeerIdentity, Role};
use crate::identity::{Credential, Delegation, PublicIdentity, SignatureScheme};
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
            credential.identity().write(&mut body);
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
    signature: &'a [u8],
    identity_message: &'a [u8],
    signature_message: &'a [u8],
}

impl<'a> Claim<'a> {
    pub(super) fn read(reader: &mut Reader<'a>) -> Option<Self> {
        let (identity_message, identity) = unframe(reader, IDENTITY)?;
        let (signature_message, signature) = unframe(reader, SIGNATURE)?;
        let (kind, body) = identity.split_first()?;
        Some(Self { kind: *kind, body, signature, identity_message, signature_message })
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
    /// `known` are the schemes that the sender was told may be used.
    pub(super) fn verify(
        &self,
        sender: Role,
        secrets: &Secrets,
        signed: &crate::secret::Digest,
        known: &[SignatureScheme],
        unix_seconds: u64,
    ) -> Result<PeerIdentity, HandshakeError> {
        let (identity, signer, until) = self.keys(known, unix_seconds)?;
        // spec: HS-35
        let backend = secrets.schedule.backend;
        if !signer.verify_with(backend, purpose(sender), signed.as_bytes(), self.signature) {
            return Err(HandshakeError::Signature);
        }
        let (scheme, fingerprint) = (identity.scheme(), identity.fingerprint());
        let signer = signer.scheme();
        Ok(PeerIdentity { fingerprint, scheme, signer, delegated: until.is_some(), until })
    }

    /// `(identity, signing key, end of the delegation)`.
    fn keys(
        &self,
        known: &[SignatureScheme],
        unix_seconds: u64,
    ) -> Result<(PublicIdentity, PublicIdentity, Option<u64>), HandshakeError> {
        // spec: HS-101
        let check = |key: &PublicIdentity| match known.contains(&key.scheme()) {
            true => Ok(()),
            false => Err(HandshakeError::NotOffered("signature scheme")),
        };
        match self.kind {
            KIND_RAW => {
                let mut reader = Reader::new(self.body);
                let key = PublicIdentity::read(&mut reader)
                    .filter(|_| reader.is_empty())
                    .ok_or(HandshakeError::Malformed("identity"))?;
                check(&key)?;
                Ok((key.clone(), key, None))
            }
            KIND_DELEGATED => {
                let delegation = Delegation::from_bytes(self.body)?;
                check(&delegation.identity())?;
                check(&delegation.online())?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Identity;
    use crate::identity::SignatureScheme::{Ed25519, MlDsa65};

    const NOW: u64 = 1000;

    // spec-test: HS-34
    #[test]
    fn each_role_signs_for_its_own_purpose() {
        assert_eq!((purpose(Role::Client), purpose(Role::Server)), ("client", "server"));
    }

    fn identity(scheme: SignatureScheme, byte: u8) -> Identity {
        Identity::from_seed_with(scheme, &[byte; 32]).unwrap()
    }

    fn keys(body: &[u8], known: &[SignatureScheme]) -> Result<(), HandshakeError> {
        let (kind, body) = body.split_first().unwrap();
        let claim = Claim {
            kind: *kind,
            body,
            signature: &[],
            identity_message: &[],
            signature_message: &[],
        };
        claim.keys(known, NOW).map(|_| ())
    }

    /// The server has ignored what was offered, or somebody plays one.
    // spec-test: HS-101
    #[test]
    fn keys_of_schemes_that_were_not_offered_are_refused() {
        let all = &SignatureScheme::ALL;
        for own in *all {
            let mut raw = alloc::vec![KIND_RAW];
            identity(own, 1).public().write(&mut raw);
            for known in *all {
                let expected = (known == own).then_some(()).ok_or(REFUSED);
                assert_eq!(keys(&raw, &[known]), expected);
            }
            assert_eq!(keys(&raw, all), Ok(()));
            for online in *all {
                let online = identity(online, 2).public();
                let scheme = online.scheme();
                let issued =
                    Delegation::issue(&identity(own, 1), online, NOW - 1, NOW + 1, 1).unwrap();
                let mut body = alloc::vec![KIND_DELEGATED];
                body.extend_from_slice(&issued.to_bytes());
                assert_eq!(keys(&body, all), Ok(()));
                for known in *all {
                    let suits = known == own && known == scheme;
                    assert_eq!(keys(&body, &[known]), suits.then_some(()).ok_or(REFUSED));
                }
            }
        }
    }

    const REFUSED: HandshakeError = HandshakeError::NotOffered("signature scheme");

    // spec-test: HS-102
    #[test]
    fn a_key_has_a_known_scheme_and_its_length() {
        let malformed = Err(HandshakeError::Malformed("identity"));
        for own in [Ed25519, MlDsa65] {
            let mut raw = alloc::vec![KIND_RAW];
            identity(own, 1).public().write(&mut raw);
            assert_eq!(raw.len(), 2 + own.key_len());
            let cut = raw.get(..raw.len() - 1).unwrap();
            assert_eq!(keys(cut, &SignatureScheme::ALL), malformed);
            let mut long = raw.clone();
            long.push(0);
            assert_eq!(keys(&long, &SignatureScheme::ALL), malformed);
            for id in [0, 3, 0x0a, 0xff, 3 - own.id()] {
                raw[1] = id;
                assert_eq!(keys(&raw, &SignatureScheme::ALL), malformed);
            }
        }
    }
}
