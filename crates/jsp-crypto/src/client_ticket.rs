//! Resumption tickets as clients keep them.

use crate::PeerIdentity;
use crate::handshake::codec::{Reader, put_vec8, put_vec16};
use crate::handshake::{ClientConfig, Security, SignaturePolicy};
use crate::identity::{Fingerprint, SignatureScheme};
use crate::suite::Suite;
use crate::ticket::TICKET_LEN;
use alloc::vec::Vec;
use core::fmt;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// The longest life that a client believes, in seconds: a day.
pub const TICKET_LIFETIME_MAX: u32 = 24 * 3600;
/// Version of the stored form, its first byte.
const STORED: u8 = 2;
/// Length of what a TICKET frame carries.
const GRANT_LEN: usize = 16 + TICKET_LEN;

/// What a TICKET frame carries: the ticket and what its holder must know of it.
#[derive(Clone, PartialEq, Eq)]
pub struct TicketGrant {
    /// How long it is valid, in seconds.
    pub lifetime_s: u32,
    /// The most early data accepted with it, in bytes of 0-RTT packets.
    pub max_early_data: u32,
    /// The nonce of its pre-shared key.
    pub nonce: [u8; 8],
    /// The sealed ticket.
    pub ticket: [u8; TICKET_LEN],
}

impl TicketGrant {
    /// The frame's data.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(GRANT_LEN);
        out.extend_from_slice(&self.lifetime_s.to_be_bytes());
        out.extend_from_slice(&self.max_early_data.to_be_bytes());
        out.extend_from_slice(&self.nonce);
        out.extend_from_slice(&self.ticket);
        out
    }

    /// Reads a frame's data; `None` when it has another form.
    // spec: HS-65
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        let grant = Self {
            lifetime_s: reader.u32()?,
            max_early_data: reader.u32()?,
            nonce: reader.array()?,
            ticket: reader.array()?,
        };
        reader.is_empty().then_some(grant)
    }
}

/// A ticket with the secret that it stands for: good for one connection. Wiped
/// when dropped; its `Debug` form shows no secret.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
#[cfg_attr(test, derive(PartialEq, Eq))]
pub struct ClientTicket {
    pub(crate) version: u32,
    #[zeroize(skip)]
    pub(crate) suite: Suite,
    pub(crate) post_quantum: bool,
    pub(crate) received_ms: u64,
    pub(crate) lifetime_s: u32,
    pub(crate) max_early_data: u32,
    pub(crate) psk: [u8; 32],
    pub(crate) ticket: Vec<u8>,
    #[zeroize(skip)]
    pub(crate) peer: PeerIdentity,
    /// The client's own identity when it was given.
    #[zeroize(skip)]
    pub(crate) own: Option<Fingerprint>,
    pub(crate) protocol: Option<Vec<u8>>,
    pub(crate) params: Vec<u8>,
}

impl ClientTicket {
    /// Keeps a grant that came over a connection with this `security`, at
    /// `now_ms` (milliseconds since 1970 UTC). `own` is the identity that the
    /// client has shown there; `params` are the server's transport parameters,
    /// which early data will rely on. `None` when the server is not known.
    pub fn keep(
        grant: &TicketGrant,
        security: &Security,
        own: Option<Fingerprint>,
        params: &[u8],
        now_ms: u64,
    ) -> Option<Self> {
        let peer = security.peer?;
        let mut lifetime_s = grant.lifetime_s.min(TICKET_LIFETIME_MAX);
        // What an online key has proved is worth no more than its delegation.
        // spec: HS-66
        if let Some(until) = peer.until {
            let left = until.saturating_sub(now_ms / 1000);
            lifetime_s = lifetime_s.min(u32::try_from(left).unwrap_or(u32::MAX));
        }
        Some(Self {
            version: security.version,
            suite: security.suite,
            post_quantum: security.post_quantum,
            received_ms: now_ms,
            lifetime_s,
            max_early_data: grant.max_early_data,
            psk: *security.resumption_psk(&grant.nonce),
            ticket: grant.ticket.to_vec(),
            peer,
            own,
            protocol: security.application_protocol.clone(),
            params: params.to_vec(),
        })
    }

    /// The server that it is for.
    pub fn peer(&self) -> &PeerIdentity {
        &self.peer
    }

    /// The client's own identity when it was given, if it had shown one.
    pub fn own(&self) -> Option<Fingerprint> {
        self.own
    }

    /// The server's transport parameters when it was given.
    pub fn params(&self) -> &[u8] {
        &self.params
    }

    /// The most early data that may go with it, in bytes of 0-RTT packets.
    pub fn max_early_data(&self) -> u32 {
        self.max_early_data
    }

    /// Whether it may still be used at this time, in milliseconds since 1970 UTC.
    pub fn is_valid_at(&self, now_ms: u64) -> bool {
        let lifetime_ms = u64::from(self.lifetime_s).saturating_mul(1000);
        now_ms.checked_sub(self.received_ms).is_some_and(|age| age < lifetime_ms)
    }

    /// Whether a client with this configuration may use it: everything that
    /// the ticket's connection had is still wanted.
    pub(crate) fn suits(&self, config: &ClientConfig) -> bool {
        let wants_post_quantum = config.require_pq || config.floor.post_quantum;
        let own = config.credential.as_ref().map(|credential| credential.fingerprint());
        config.versions.contains(&self.version)
            && config.floor.version <= self.version
            && config.suites.contains(&self.suite)
            && (self.post_quantum || !wants_post_quantum)
            && (self.own.is_none() || self.own == own)
            && self.suits_signatures(config.signatures)
            && match &self.protocol {
                Some(name) => config.application_protocols.contains(name),
                None => true,
            }
    }

    /// Whether the server has proved itself strongly enough for this policy: what
    /// signed is no longer to be read, so weaker schemes need not be offered now.
    // spec: HS-66
    fn suits_signatures(&self, policy: SignaturePolicy) -> bool {
        policy != SignaturePolicy::PostQuantum || self.peer.is_post_quantum()
    }

    /// A form to be stored. It contains the secret: keep it as a key is kept.
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let mut out = Zeroizing::new(Vec::with_capacity(512));
        let post_quantum = u8::from(self.post_quantum);
        let delegated = u8::from(self.peer.delegated);
        let (scheme, signer) = (self.peer.scheme.id(), self.peer.signer.id());
        out.extend_from_slice(&[STORED, self.suite.id(), post_quantum, delegated, scheme, signer]);
        out.extend_from_slice(&self.version.to_be_bytes());
        out.extend_from_slice(&self.received_ms.to_be_bytes());
        out.extend_from_slice(&self.lifetime_s.to_be_bytes());
        out.extend_from_slice(&self.max_early_data.to_be_bytes());
        out.extend_from_slice(&self.peer.until.unwrap_or(0).to_be_bytes());
        out.extend_from_slice(&self.psk);
        out.extend_from_slice(self.peer.fingerprint.as_bytes());
        out.extend_from_slice(&self.own.map_or([0; 32], |own| *own.as_bytes()));
        // None of them is longer than its length can say: they came in messages.
        let _ = put_vec16(&mut out, &self.ticket);
        let _ = put_vec16(&mut out, &self.params);
        let _ = put_vec8(&mut out, self.protocol.as_deref().unwrap_or(&[]));
        out
    }

    /// Reads the stored form; `None` when it is damaged or from another version.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        if reader.u8()? != STORED {
            return None;
        }
        let suite = Suite::from_id(reader.u8()?)?;
        let (post_quantum, delegated) = (reader.u8()? != 0, reader.u8()? != 0);
        let scheme = SignatureScheme::from_id(reader.u8()?)?;
        let signer = SignatureScheme::from_id(reader.u8()?)?;
        let version = reader.u32()?;
        let received_ms = reader.u64()?;
        let (lifetime_s, max_early_data) = (reader.u32()?, reader.u32()?);
        let until = Some(reader.u64()?).filter(|until| *until != 0);
        let psk = reader.array()?;
        let fingerprint = Fingerprint::from_bytes(reader.array()?);
        let own = Some(reader.array::<32>()?).filter(|key| *key != [0; 32]);
        let (ticket, params) = (reader.vec16()?.to_vec(), reader.vec16()?.to_vec());
        let protocol = Some(reader.vec8()?).filter(|name| !name.is_empty());
        reader.is_empty().then(|| Self {
            version,
            suite,
            post_quantum,
            received_ms,
            lifetime_s,
            max_early_data,
            psk,
            ticket,
            peer: PeerIdentity { fingerprint, scheme, signer, delegated, until },
            own: own.map(Fingerprint::from_bytes),
            protocol: protocol.map(<[u8]>::to_vec),
            params,
        })
    }
}

impl fmt::Debug for ClientTicket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientTicket").field("peer", &self.peer).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handshake::ServerIdentity;
    use crate::identity::{Credential, Floor, Identity};
    use alloc::sync::Arc;
    use alloc::vec;

    const NOW_MS: u64 = 1_800_000_000_000;

    fn own() -> Arc<Identity> {
        Arc::new(Identity::from_seed(&[5; 32]).unwrap())
    }

    fn ticket() -> ClientTicket {
        ClientTicket {
            version: 0x4a53_5001,
            suite: Suite::Aes128Gcm,
            post_quantum: true,
            received_ms: NOW_MS,
            lifetime_s: 3600,
            max_early_data: 14_000,
            psk: [7; 32],
            ticket: vec![8; TICKET_LEN],
            peer: PeerIdentity {
                fingerprint: Fingerprint::from_bytes([4; 32]),
                scheme: SignatureScheme::MlDsa65,
                signer: SignatureScheme::Ed25519,
                delegated: true,
                until: Some(1_800_003_600),
            },
            own: Some(own().fingerprint()),
            protocol: Some(b"chat".to_vec()),
            params: b"limits".to_vec(),
        }
    }

    fn with(change: fn(&mut ClientTicket)) -> ClientTicket {
        let mut ticket = ticket();
        change(&mut ticket);
        ticket
    }

    #[test]
    fn bounds_are_those_that_are_told() {
        assert_eq!((TICKET_LIFETIME_MAX, GRANT_LEN), (86_400, 169));
    }

    #[test]
    // spec-test: HS-65
    fn a_grant_reads_as_it_was_written_and_in_no_other_form() {
        let ticket = [8; TICKET_LEN];
        let grant = TicketGrant { lifetime_s: 7, max_early_data: 9, nonce: [6; 8], ticket };
        let bytes = grant.to_bytes();
        assert_eq!(bytes.len(), GRANT_LEN);
        assert!(TicketGrant::from_bytes(&bytes) == Some(grant));
        assert!((0..bytes.len()).all(|len| TicketGrant::from_bytes(&bytes[..len]).is_none()));
        assert!(TicketGrant::from_bytes(&[&bytes[..], &[0]].concat()).is_none());
    }

    #[test]
    fn a_stored_ticket_reads_as_it_was_and_in_no_other_form() {
        let forms = [
            ticket(),
            with(|ticket| ticket.post_quantum = false),
            with(|ticket| (ticket.peer.delegated, ticket.peer.until) = (false, None)),
            with(|ticket| ticket.own = None),
            with(|ticket| (ticket.protocol, ticket.params) = (None, Vec::new())),
        ];
        for form in forms {
            let bytes = form.to_bytes();
            assert!(ClientTicket::from_bytes(&bytes).unwrap() == form);
            assert!((0..bytes.len()).all(|len| ClientTicket::from_bytes(&bytes[..len]).is_none()));
            assert!(ClientTicket::from_bytes(&[&bytes[..], &[0]].concat()).is_none());
        }
        for place in [0, 1] {
            let mut other = ticket().to_bytes();
            other[place] = 99;
            assert!(ClientTicket::from_bytes(&other).is_none(), "version or suite");
        }
    }

    #[test]
    fn a_ticket_tells_what_it_was_given() {
        let ticket = ticket();
        assert_eq!(*ticket.peer(), ticket.peer);
        assert_eq!((ticket.own(), ticket.params()), (ticket.own, &b"limits"[..]));
        assert_eq!(ticket.max_early_data(), 14_000);
        assert_eq!(with(|ticket| ticket.own = None).own(), None);
    }

    #[test]
    fn a_ticket_is_valid_for_its_life_and_not_before() {
        let ticket = ticket();
        let at = |ms: u64| ticket.is_valid_at(ms);
        assert!(at(NOW_MS) && at(NOW_MS + 3_599_999));
        assert!(!at(NOW_MS - 1) && !at(NOW_MS + 3_600_000) && !at(u64::MAX));
    }

    #[test]
    fn a_ticket_suits_who_still_wants_all_that_it_had() {
        let config = || {
            let mut config = ClientConfig::new(ServerIdentity::Pinned(ticket().peer.fingerprint));
            config.credential = Some(Credential::from(own()));
            config.application_protocols = vec![b"mail".to_vec(), b"chat".to_vec()];
            config
        };
        let suits = |ticket: &ClientTicket, change: fn(&mut ClientConfig)| {
            let mut config = config();
            change(&mut config);
            ticket.suits(&config)
        };
        let (whole, classical) = (ticket(), with(|ticket| ticket.post_quantum = false));
        assert!(suits(&whole, |_| {}) && suits(&classical, |_| {}));
        assert!(!suits(&whole, |config| config.versions = vec![2]));
        assert!(!suits(&whole, |config| config.suites = vec![Suite::Aes256Gcm]));
        let raise = |config: &mut ClientConfig| config.floor.version = 0x4a53_5002;
        assert!(!suits(&whole, raise));
        let same = |config: &mut ClientConfig| {
            config.floor = Floor { version: 0x4a53_5001, post_quantum: true };
        };
        assert!(suits(&whole, same) && !suits(&classical, same));
        let require = |config: &mut ClientConfig| config.require_pq = true;
        assert!(suits(&whole, require) && !suits(&classical, require));
        let signed = |config: &mut ClientConfig| config.signatures = SignaturePolicy::PostQuantum;
        let strong = with(|ticket| ticket.peer.signer = SignatureScheme::MlDsa65);
        assert!(!suits(&whole, signed) && suits(&strong, signed));
        let nobody = |config: &mut ClientConfig| config.credential = None;
        assert!(!suits(&whole, nobody) && suits(&with(|ticket| ticket.own = None), nobody));
        assert!(!suits(&whole, |config| config.application_protocols = vec![b"mail".to_vec()]));
        let free = with(|ticket| ticket.protocol = None);
        assert!(suits(&free, |config| config.application_protocols.clear()));
    }
}
