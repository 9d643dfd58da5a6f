//! Resumption tickets as their server makes and reads them.
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 4 | key epoch |
//! | 4 | 12 | nonce |
//! | 16 | 121 | sealed contents |
//! | 137 | 16 | AES-256-GCM-SIV tag |
//!
//! The epoch and the server's fingerprint are authenticated. A repeated nonce
//! reveals only whether two tickets have equal contents (RFC 8452), and each
//! has a random `uid`.

use crate::PeerIdentity;
use crate::handshake::codec::Reader;
use crate::identity::{Fingerprint, SignatureScheme};
use crate::packet::TAG_LEN;
use crate::prf::Prf;
use crate::rng::{self, Rng};
use crate::suite::Suite;
use aes_gcm_siv::aead::{AeadInOut, inout::InOutBuf};
use aes_gcm_siv::{Aes256GcmSiv, KeyInit};
use alloc::vec::Vec;
use core::fmt;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// Length of a sealed ticket, in bytes.
pub const TICKET_LEN: usize = 153;
/// Length of the contents before sealing, in bytes.
const CONTENTS_LEN: usize = 121;
/// Version of the layout, the first byte of the contents.
const LAYOUT: u8 = 1;
/// How long tickets are sealed under one key, in seconds. A ticket opens for
/// as long again, so that its longest life is between once and twice this.
pub const TICKET_KEY_SECONDS: u64 = 12 * 3600;
/// Keys that are stepped over at most when the clock has leapt ahead: five years.
const STEPS_MAX: u32 = 4096;

/// Contents flag: the pre-shared key has a post-quantum secret in it.
const POST_QUANTUM: u8 = 1;
/// Contents flag: an online key spoke for the client.
const CLIENT_DELEGATED: u8 = 1 << 1;
/// Contents flag: the client's identity is of ML-DSA-65.
const CLIENT_ML_DSA: u8 = 1 << 2;
/// Contents flag: the client signed by ML-DSA-65.
const CLIENT_SIGNED_ML_DSA: u8 = 1 << 3;

/// What a connection's path was like, for the next one on it (RFC 9959).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PathMemory {
    /// Delivery rate in KiB per second; 0 for unknown.
    pub rate_kib: u32,
    /// Minimum round-trip time in microseconds; 0 for unknown.
    pub rtt_min_us: u32,
}

/// What a ticket holds. Wiped when dropped; has no `Debug`.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
#[cfg_attr(test, derive(PartialEq, Eq))]
pub struct TicketContents {
    /// The pre-shared key has a post-quantum secret in it.
    pub post_quantum: bool,
    /// The suite of the connection that issued it.
    #[zeroize(skip)]
    pub suite: Suite,
    /// When it was issued, in milliseconds since 1970 UTC.
    pub issued_ms: u64,
    /// How long it is valid, in seconds.
    pub lifetime_s: u32,
    /// The shard that alone accepts its early data.
    pub home_shard: u16,
    /// The ticket's own number: each ticket serves once.
    pub uid: [u8; 16],
    /// The pre-shared key.
    pub psk: [u8; 32],
    /// Hash of what early data rely on: limits and application protocol.
    pub params_hash: [u8; 8],
    /// The client that it was given to; `None` for an anonymous one. Where an
    /// online key spoke for it, its end is that of the ticket once it is opened:
    /// a ticket is given for no longer than the delegation.
    #[zeroize(skip)]
    pub client: Option<PeerIdentity>,
    /// The most early data accepted, in bytes of 0-RTT packets.
    pub max_early_data: u32,
    /// Hash of the client's network prefix.
    pub prefix_hash: [u8; 4],
    /// What the path was like.
    #[zeroize(skip)]
    pub path: PathMemory,
}

/// Why a ticket is refused. The handshake then goes on in full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TicketError {
    /// It has the wrong length, is sealed under a key that is gone, was
    /// changed, has an unknown layout, or its holder cannot prove to hold it.
    /// One answer for all: there is nothing to learn from it.
    Invalid,
    /// Its life is over, or has not begun.
    Expired,
}

impl fmt::Display for TicketError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Invalid => "the ticket is not valid here",
            Self::Expired => "the ticket is too old",
        })
    }
}

impl core::error::Error for TicketError {}

/// The current and the previous ticket key.
///
/// Keys follow each other by a hash chain, twelve hours each: servers that are
/// given the same secret for the same epoch share their tickets without
/// another word, and nobody can go back to the keys of the past.
#[derive(Clone)]
pub struct TicketKeys {
    epoch: u32,
    secret: Zeroizing<[u8; 32]>,
    current: Zeroizing<[u8; 32]>,
    previous: Option<Zeroizing<[u8; 32]>>,
}

impl TicketKeys {
    /// The keys that begin with this secret, uniformly random, in this epoch
    /// (see [`TicketKeys::epoch_at`]).
    pub fn new(secret: [u8; 32], epoch: u32) -> Self {
        let secret = Zeroizing::new(secret);
        let current = key_of(&secret);
        Self { epoch, secret, current, previous: None }
    }

    /// The epoch of a time in seconds since 1970 UTC.
    pub fn epoch_at(unix_seconds: u64) -> u32 {
        u32::try_from(unix_seconds / TICKET_KEY_SECONDS).unwrap_or(u32::MAX)
    }

    /// Milliseconds since 1970 UTC at which no ticket that was sealed under these keys is good any more.
    pub fn void_ms(&self) -> u64 {
        u64::from(self.epoch).saturating_add(2).saturating_mul(TICKET_KEY_SECONDS * 1000)
    }

    /// Whether [`TicketKeys::advance`] has nothing to do at this time.
    pub fn are_of(&self, unix_seconds: u64) -> bool {
        Self::epoch_at(unix_seconds) <= self.epoch
    }

    /// Steps to the key of this time, given in seconds since 1970 UTC. Tickets
    /// sealed under other keys than the last two are void from then on.
    // spec: HS-64
    pub fn advance(&mut self, unix_seconds: u64) {
        let target = Self::epoch_at(unix_seconds);
        let steps = target.saturating_sub(self.epoch).min(STEPS_MAX);
        for _ in 0..steps {
            let next = Prf::new(*self.secret).derive("ticket next", &[]);
            self.secret = Zeroizing::new(next);
            let current = key_of(&self.secret);
            self.previous = Some(core::mem::replace(&mut self.current, current));
        }
        self.epoch = self.epoch.max(target);
    }

    /// Seals a ticket of the server with this fingerprint. `None` only when the
    /// cipher fails, which it does not for contents of this length.
    // spec: HS-63
    pub fn seal(
        &self,
        contents: &TicketContents,
        server: &Fingerprint,
        rng: &mut dyn Rng,
    ) -> Option<[u8; TICKET_LEN]> {
        let epoch = self.epoch.to_be_bytes();
        let nonce: [u8; 12] = rng::array(rng);
        let mut text = contents.to_bytes();
        let cipher = Aes256GcmSiv::new(&(*self.current).into());
        let tag = cipher
            .encrypt_inout_detached(
                &nonce.into(),
                &aad(epoch, server),
                InOutBuf::from(text.as_mut_slice()),
            )
            .ok()?;
        let mut out = [0; TICKET_LEN];
        let parts: [&[u8]; 4] = [&epoch, &nonce, &text, &tag];
        for (to, from) in out.iter_mut().zip(parts.into_iter().flatten()) {
            *to = *from;
        }
        Some(out)
    }

    /// Opens a ticket of the server with this fingerprint and checks that it is
    /// valid at `now_ms` (milliseconds since 1970 UTC). Whether its `uid` was
    /// used before is the caller's check.
    pub fn open(
        &self,
        ticket: &[u8],
        server: &Fingerprint,
        now_ms: u64,
    ) -> Result<TicketContents, TicketError> {
        let contents = self.unseal(ticket, server).ok_or(TicketError::Invalid)?;
        if (contents.issued_ms..=contents.ends_ms()).contains(&now_ms) {
            Ok(contents)
        } else {
            Err(TicketError::Expired)
        }
    }

    /// Opens a ticket, be it valid now or not.
    pub(crate) fn unseal(&self, ticket: &[u8], server: &Fingerprint) -> Option<TicketContents> {
        let mut reader = Reader::new(ticket);
        let epoch: [u8; 4] = reader.array()?;
        let nonce: [u8; 12] = reader.array()?;
        let mut text = Zeroizing::new(reader.array::<CONTENTS_LEN>()?);
        let tag: [u8; TAG_LEN] = reader.array()?;
        let number = u32::from_be_bytes(epoch);
        let key = if number == self.epoch {
            &self.current
        } else if number.checked_add(1) == Some(self.epoch) {
            self.previous.as_ref()?
        } else {
            return None;
        };
        if !reader.is_empty() {
            return None;
        }
        Aes256GcmSiv::new(&(**key).into())
            .decrypt_inout_detached(
                &nonce.into(),
                &aad(epoch, server),
                InOutBuf::from(text.as_mut_slice()),
                &tag.into(),
            )
            .ok()?;
        TicketContents::from_bytes(text.as_slice())
    }
}

fn key_of(secret: &[u8; 32]) -> Zeroizing<[u8; 32]> {
    Zeroizing::new(Prf::new(*secret).derive("ticket key", &[]))
}

fn aad(epoch: [u8; 4], server: &Fingerprint) -> [u8; 47] {
    let mut out = [0; 47];
    let parts: [&[u8]; 3] = [b"jsp1 ticket", &epoch, server.as_bytes()];
    for (to, from) in out.iter_mut().zip(parts.into_iter().flatten()) {
        *to = *from;
    }
    out
}

fn client_flags(client: &PeerIdentity) -> u8 {
    let delegated = if client.delegated { CLIENT_DELEGATED } else { 0 };
    let scheme = if client.scheme.is_post_quantum() { CLIENT_ML_DSA } else { 0 };
    let signer = if client.signer.is_post_quantum() { CLIENT_SIGNED_ML_DSA } else { 0 };
    delegated | scheme | signer
}

/// `None` for an anonymous client. An online key spoke for it until the ticket
/// ends, at the latest.
// spec: HS-210
fn client_of(flags: u8, fingerprint: [u8; 32], ends_ms: u64) -> Option<PeerIdentity> {
    let delegated = flags & CLIENT_DELEGATED != 0;
    let scheme = |flag| match flags & flag != 0 {
        true => SignatureScheme::MlDsa65,
        false => SignatureScheme::Ed25519,
    };
    (fingerprint != [0; 32]).then(|| PeerIdentity {
        fingerprint: Fingerprint::from_bytes(fingerprint),
        scheme: scheme(CLIENT_ML_DSA),
        signer: scheme(CLIENT_SIGNED_ML_DSA),
        delegated,
        until: delegated.then_some(ends_ms / 1000),
    })
}

/// The last moment of a ticket's life, in milliseconds since 1970 UTC.
fn end_of(issued_ms: u64, lifetime_s: u32) -> u64 {
    issued_ms.saturating_add(u64::from(lifetime_s).saturating_mul(1000))
}

impl TicketContents {
    /// The last moment of its life, in milliseconds since 1970 UTC.
    pub(crate) fn ends_ms(&self) -> u64 {
        end_of(self.issued_ms, self.lifetime_s)
    }

    pub(crate) fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let mut flags = if self.post_quantum { POST_QUANTUM } else { 0 };
        flags |= self.client.as_ref().map_or(0, client_flags);
        let mut out = Zeroizing::new(Vec::with_capacity(CONTENTS_LEN));
        out.extend_from_slice(&[LAYOUT, flags, self.suite.id()]);
        out.extend_from_slice(&self.issued_ms.to_be_bytes());
        out.extend_from_slice(&self.lifetime_s.to_be_bytes());
        out.extend_from_slice(&self.home_shard.to_be_bytes());
        out.extend_from_slice(&self.uid);
        out.extend_from_slice(&self.psk);
        out.extend_from_slice(&self.params_hash);
        out.extend_from_slice(
            &self.client.map_or([0; 32], |client| *client.fingerprint.as_bytes()),
        );
        out.extend_from_slice(&self.max_early_data.to_be_bytes());
        out.extend_from_slice(&self.prefix_hash);
        out.extend_from_slice(&self.path.rate_kib.to_be_bytes());
        out.extend_from_slice(&self.path.rtt_min_us.to_be_bytes());
        out
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        if reader.u8()? != LAYOUT {
            return None;
        }
        let flags = reader.u8()?;
        let suite = Suite::from_id(reader.u8()?)?;
        let (issued_ms, lifetime_s) = (reader.u64()?, reader.u32()?);
        let contents = Self {
            post_quantum: flags & POST_QUANTUM != 0,
            suite,
            issued_ms,
            lifetime_s,
            home_shard: reader.u16()?,
            uid: reader.array()?,
            psk: reader.array()?,
            params_hash: reader.array()?,
            client: client_of(flags, reader.array()?, end_of(issued_ms, lifetime_s)),
            max_early_data: reader.u32()?,
            prefix_hash: reader.array()?,
            path: PathMemory { rate_kib: reader.u32()?, rtt_min_us: reader.u32()? },
        };
        reader.is_empty().then_some(contents)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_rng::SeededRng;

    const SERVER: Fingerprint = Fingerprint::from_bytes([9; 32]);
    const ENDS_MS: u64 = 1_060_000;

    fn contents() -> TicketContents {
        TicketContents {
            post_quantum: true,
            suite: Suite::Aes256Gcm,
            issued_ms: 1_000_000,
            lifetime_s: 60,
            home_shard: 0x1234,
            uid: [1; 16],
            psk: [2; 32],
            params_hash: [3; 8],
            client: client_of(0, [4; 32], ENDS_MS),
            max_early_data: 14_000,
            prefix_hash: [5; 4],
            path: PathMemory { rate_kib: 12_000, rtt_min_us: 60_000 },
        }
    }

    // spec-test: HS-63, HS-64
    #[test]
    fn a_ticket_opens_for_its_life_and_two_epochs() {
        let mut rng = SeededRng(1);
        let mut keys = TicketKeys::new([7; 32], 10);
        let ticket = keys.seal(&contents(), &SERVER, &mut rng).unwrap();
        assert_eq!(contents().to_bytes().len(), CONTENTS_LEN);
        assert!(keys.open(&ticket, &SERVER, 1_000_000) == Ok(contents()));
        assert!(keys.open(&ticket, &SERVER, 1_060_000) == Ok(contents()));
        for time in [0, 999_999, 1_060_001, u64::MAX] {
            assert!(keys.open(&ticket, &SERVER, time) == Err(TicketError::Expired));
        }
        keys.advance(10 * TICKET_KEY_SECONDS);
        keys.advance(11 * TICKET_KEY_SECONDS - 1);
        assert!(keys.are_of(0) && keys.are_of(11 * TICKET_KEY_SECONDS - 1));
        assert!(!keys.are_of(11 * TICKET_KEY_SECONDS));
        assert!(keys.open(&ticket, &SERVER, 1_000_000) == Ok(contents()));
        keys.advance(11 * TICKET_KEY_SECONDS);
        // The clock may go back; keys do not.
        keys.advance(0);
        assert!(keys.open(&ticket, &SERVER, 1_000_000) == Ok(contents()));
        keys.advance(12 * TICKET_KEY_SECONDS);
        assert!(keys.open(&ticket, &SERVER, 1_000_000) == Err(TicketError::Invalid));
    }

    #[test]
    fn servers_with_one_secret_share_their_tickets() {
        let mut rng = SeededRng(1);
        let mut one = TicketKeys::new([7; 32], 10);
        let mut two = TicketKeys::new([7; 32], 10);
        one.advance(13 * TICKET_KEY_SECONDS);
        let ticket = one.seal(&contents(), &SERVER, &mut rng).unwrap();
        assert!(two.open(&ticket, &SERVER, 1_000_000) == Err(TicketError::Invalid));
        two.advance(12 * TICKET_KEY_SECONDS);
        two.advance(14 * TICKET_KEY_SECONDS);
        assert!(two.open(&ticket, &SERVER, 1_000_000) == Ok(contents()));
        let anonymous = TicketContents { client: None, ..contents() };
        let ticket = two.seal(&anonymous, &SERVER, &mut rng).unwrap();
        assert!(two.open(&ticket, &SERVER, 1_000_000) == Ok(anonymous));
        // A leap of the clock costs a bounded number of steps.
        two.advance(u64::MAX);
    }

    #[test]
    fn bounds_are_those_that_are_told() {
        assert_eq!((TICKET_KEY_SECONDS, STEPS_MAX), (43_200, 4096));
        assert_eq!(TicketKeys::epoch_at(43_199), 0);
        assert_eq!(TicketKeys::epoch_at(43_200), 1);
        assert_eq!(TicketKeys::epoch_at(u64::MAX), u32::MAX);
    }

    // spec-test: HS-210
    #[test]
    fn all_that_a_ticket_holds_comes_back() {
        let keys = TicketKeys::new([7; 32], 5);
        let delegated = client_of(CLIENT_DELEGATED, [4; 32], ENDS_MS).unwrap();
        assert_eq!(delegated.until, Some(1_060), "the end of the ticket");
        // It may have been given for less than the delegation was good for.
        let longer = Some(PeerIdentity { until: Some(9_999), ..delegated });
        let ticket = TicketContents { client: longer, ..contents() };
        let ticket = keys.seal(&ticket, &SERVER, &mut SeededRng(1)).unwrap();
        let opened = keys.open(&ticket, &SERVER, 1_000_000).ok().unwrap();
        assert_eq!(opened.client, Some(delegated));
        let with = |change: fn(&mut TicketContents)| {
            let mut contents = contents();
            change(&mut contents);
            contents
        };
        let forms = [
            with(|contents| contents.post_quantum = false),
            with(|contents| contents.client = client_of(CLIENT_DELEGATED, [4; 32], ENDS_MS)),
            with(|contents| contents.client = client_of(CLIENT_ML_DSA, [4; 32], ENDS_MS)),
            with(|contents| {
                contents.post_quantum = false;
                let flags = CLIENT_DELEGATED | CLIENT_SIGNED_ML_DSA;
                contents.client = client_of(flags, [4; 32], ENDS_MS);
            }),
            with(|contents| contents.suite = Suite::ChaCha20Poly1305),
            with(|contents| contents.path = PathMemory::default()),
        ];
        for form in forms {
            let ticket = keys.seal(&form, &SERVER, &mut SeededRng(1)).unwrap();
            assert!(keys.open(&ticket, &SERVER, 1_000_000) == Ok(form));
        }
    }

    #[test]
    fn a_ticket_tells_clients_of_every_kind_apart() {
        use SignatureScheme::{Ed25519, MlDsa65};
        let keys = TicketKeys::new([7; 32], 5);
        for delegated in [false, true] {
            for (scheme, signer) in
                [(Ed25519, Ed25519), (Ed25519, MlDsa65), (MlDsa65, Ed25519), (MlDsa65, MlDsa65)]
            {
                let fingerprint = Fingerprint::from_bytes([4; 32]);
                let until = delegated.then_some(1_060);
                let client = Some(PeerIdentity { fingerprint, scheme, signer, delegated, until });
                let given = TicketContents { client, ..contents() };
                let ticket = keys.seal(&given, &SERVER, &mut SeededRng(1)).unwrap();
                let opened = keys.open(&ticket, &SERVER, 1_000_000).ok().unwrap();
                assert_eq!((opened.client, opened.post_quantum), (client, true));
            }
        }
    }

    // spec-test: HS-63
    #[test]
    fn every_bit_is_authenticated() {
        let mut rng = SeededRng(1);
        let keys = TicketKeys::new([7; 32], 5);
        let mut ticket = keys.seal(&contents(), &SERVER, &mut rng).unwrap();
        let refused =
            |ticket: &[u8]| keys.open(ticket, &SERVER, 1_000_000) == Err(TicketError::Invalid);
        for bit in 0..TICKET_LEN * 8 {
            ticket[bit / 8] ^= 1 << (bit % 8);
            assert!(refused(&ticket), "bit {bit}");
            ticket[bit / 8] ^= 1 << (bit % 8);
        }
        for len in 0..TICKET_LEN {
            assert!(refused(&ticket[..len]));
        }
        let mut long = ticket.to_vec();
        long.push(0);
        assert!(refused(&long));
        let other = TicketKeys::new([8; 32], 5);
        assert!(other.open(&ticket, &SERVER, 1_000_000) == Err(TicketError::Invalid));
        let elsewhere = Fingerprint::from_bytes([8; 32]);
        assert!(keys.open(&ticket, &elsewhere, 1_000_000) == Err(TicketError::Invalid));
    }
}
