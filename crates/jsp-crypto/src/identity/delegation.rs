//! Delegations: an identity signs a short-lived online key.

use super::{PublicIdentity, SignError, Signer};
use crate::handshake::codec::Reader;
use alloc::vec::Vec;
use core::fmt;

/// The longest validity of a delegation: 72 hours, in seconds. A stolen online
/// key must be useless soon.
pub const MAX_DELEGATION_SECONDS: u64 = 72 * 3600;

/// An identity's word that an online key may speak for it for a while.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delegation {
    identity: PublicIdentity,
    online: PublicIdentity,
    not_before: u64,
    not_after: u64,
    serial: u64,
    signature: Vec<u8>,
}

/// Why a delegation is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DelegationError {
    /// The bytes are no delegation.
    Malformed,
    /// It ends before it begins, or lasts longer than 72 hours.
    Period,
    /// It begins later. Check both clocks.
    NotYetValid,
    /// It has ended. Issue a new one.
    Expired,
    /// The identity did not sign it.
    Signature,
    /// It names another online key than the one at hand.
    OtherKey,
}

impl fmt::Display for DelegationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "the delegation is malformed",
            Self::Period => "a delegation must last at most 72 hours and end after it begins",
            Self::NotYetValid => "the delegation is not valid yet; check the clocks",
            Self::Expired => "the delegation has expired; issue a new one",
            Self::Signature => "the identity did not sign this delegation",
            Self::OtherKey => "the delegation is for another online key",
        })
    }
}

impl core::error::Error for DelegationError {}

/// Why a delegation was not issued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IssueError {
    /// It would end before it begins, or last longer than 72 hours.
    Period,
    /// The identity's signer gave no signature.
    Signer(SignError),
    /// The signer's signature is not of its public key: its key store is set up wrongly.
    Signature,
}

impl fmt::Display for IssueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Period => DelegationError::Period.fmt(f),
            Self::Signer(error) => error.fmt(f),
            Self::Signature => f.write_str(
                "the signer's signature does not fit its public key: the key store holds another \
                 private key under this name, or signs another way",
            ),
        }
    }
}

impl core::error::Error for IssueError {}

impl From<SignError> for IssueError {
    fn from(error: SignError) -> Self {
        Self::Signer(error)
    }
}

impl Delegation {
    /// Lets `identity` sign `online` from `not_before` to `not_after`, both
    /// inclusive, in seconds since 1970 UTC. Begin an hour early, as peers'
    /// clocks differ. `serial` tells delegations apart in logs. Blocks as long
    /// as the signer does.
    ///
    /// # Errors
    /// See [`IssueError`].
    pub fn issue(
        identity: &dyn Signer,
        online: PublicIdentity,
        not_before: u64,
        not_after: u64,
        serial: u64,
    ) -> Result<Self, IssueError> {
        let mut delegation = Self {
            identity: identity.public(),
            online,
            not_before,
            not_after,
            serial,
            signature: Vec::new(),
        };
        delegation.check_period().map_err(|_| IssueError::Period)?;
        let message = super::signed_message("delegation", &delegation.signed_part());
        delegation.signature = identity.sign_message(&message)?;
        // spec: HS-100
        if !delegation.is_signed() {
            return Err(IssueError::Signature);
        }
        Ok(delegation)
    }

    /// The wire form.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = self.signed_part();
        out.extend_from_slice(&self.signature);
        out
    }

    /// Reads the wire form. The signature and the dates are checked by
    /// [`Delegation::verify`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DelegationError> {
        Self::read(bytes).ok_or(DelegationError::Malformed)
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        let delegation = Self {
            identity: PublicIdentity::read(&mut reader)?,
            online: PublicIdentity::read(&mut reader)?,
            not_before: reader.u64()?,
            not_after: reader.u64()?,
            serial: reader.u64()?,
            signature: reader.rest().to_vec(),
        };
        let len = delegation.identity.scheme().signature_len();
        (delegation.signature.len() == len).then_some(delegation)
    }

    /// Whether the delegation holds at `unix_seconds`.
    pub fn verify(&self, unix_seconds: u64) -> Result<(), DelegationError> {
        // spec: HS-56
        self.check_period()?;
        if unix_seconds < self.not_before {
            return Err(DelegationError::NotYetValid);
        }
        if unix_seconds > self.not_after {
            return Err(DelegationError::Expired);
        }
        // spec: HS-55
        if !self.is_signed() {
            return Err(DelegationError::Signature);
        }
        Ok(())
    }

    fn is_signed(&self) -> bool {
        self.identity.verify("delegation", &self.signed_part(), &self.signature)
    }

    fn check_period(&self) -> Result<(), DelegationError> {
        match self.not_after.checked_sub(self.not_before) {
            Some(seconds) if seconds <= MAX_DELEGATION_SECONDS => Ok(()),
            _ => Err(DelegationError::Period),
        }
    }

    fn signed_part(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.identity.write(&mut out);
        self.online.write(&mut out);
        out.extend_from_slice(&self.not_before.to_be_bytes());
        out.extend_from_slice(&self.not_after.to_be_bytes());
        out.extend_from_slice(&self.serial.to_be_bytes());
        out
    }

    /// The identity that delegates.
    pub fn identity(&self) -> PublicIdentity {
        self.identity.clone()
    }

    /// The key that may speak for it.
    pub fn online(&self) -> PublicIdentity {
        self.online.clone()
    }

    /// First and last second of validity, since 1970 UTC.
    pub fn period(&self) -> (u64, u64) {
        (self.not_before, self.not_after)
    }

    /// The issuer's number for this delegation.
    pub fn serial(&self) -> u64 {
        self.serial
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Identity;

    fn identity(byte: u8) -> Identity {
        Identity::from_seed(&[byte; 32]).unwrap()
    }

    // spec-test: HS-56
    #[test]
    fn dates_are_held_to() {
        let online = identity(2).public();
        let delegation = Delegation::issue(&identity(1), online.clone(), 1000, 2000, 7).unwrap();
        assert_eq!((delegation.period(), delegation.serial()), ((1000, 2000), 7));
        assert_eq!(delegation.verify(999), Err(DelegationError::NotYetValid));
        assert_eq!(delegation.verify(1000), Ok(()));
        assert_eq!(delegation.verify(2000), Ok(()));
        assert_eq!(delegation.verify(2001), Err(DelegationError::Expired));
        assert_eq!(delegation.verify(u64::MAX), Err(DelegationError::Expired));
        for (from, to) in [(2000, 1000), (0, MAX_DELEGATION_SECONDS + 1), (0, u64::MAX)] {
            assert_eq!(
                Delegation::issue(&identity(1), online.clone(), from, to, 0),
                Err(IssueError::Period)
            );
        }
    }

    /// A key store whose private key does not belong to the public one, or that refuses.
    struct Broken(Option<Identity>);

    impl Signer for Broken {
        fn public(&self) -> PublicIdentity {
            identity(1).public()
        }

        fn sign_message(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
            self.0.as_ref().ok_or_else(|| SignError::new("locked"))?.sign_message(message)
        }
    }

    // spec-test: HS-100
    #[test]
    fn a_broken_key_store_issues_nothing() {
        let online = identity(2).public();
        let other = Delegation::issue(&Broken(Some(identity(3))), online.clone(), 1000, 2000, 7);
        assert_eq!(other, Err(IssueError::Signature));
        let refused = Delegation::issue(&Broken(None), online.clone(), 1000, 2000, 7).unwrap_err();
        assert!(alloc::format!("{refused}").contains("locked"), "{refused}");
        assert!(Delegation::issue(&Broken(Some(identity(1))), online, 1000, 2000, 7).is_ok());
    }

    // spec-test: HS-55
    #[test]
    fn every_bit_is_signed() {
        let online = identity(2).public();
        let delegation = Delegation::issue(&identity(1), online.clone(), 1000, 2000, 7).unwrap();
        let mut bytes = delegation.to_bytes();
        assert_eq!(bytes.len(), 154);
        assert_eq!(Delegation::from_bytes(&bytes).as_ref(), Ok(&delegation));
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            let read = Delegation::from_bytes(&bytes);
            assert!(read.and_then(|read| read.verify(1500)).is_err(), "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        assert!(Delegation::from_bytes(&bytes[1..]).is_err());
        bytes.push(0);
        assert!(Delegation::from_bytes(&bytes).is_err());
    }
}
