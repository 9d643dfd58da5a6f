//! Who this side is, and whom it trusts.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jsp_crypto::known_hosts::{KnownHosts, Lookup};
use jsp_crypto::{
    ClientConfig, ClientVerifier, Credential, Delegation, DelegationError, Fingerprint, IssueError,
    PeerIdentity, PublicIdentity, ServerIdentity, ServerVerifier, SignatureScheme, Signer,
    VerifierRejection,
};

use crate::clock;
use crate::error::{ConnectError, ConnectionError, IdentityError};

/// How long before its issue a delegation begins, as peers' clocks differ.
const CLOCKS_DIFFER: Duration = Duration::from_secs(3600);

/// A secret key that names its holder, or that speaks for another identity by a [`Delegation`]:
/// servers have one, clients may. Cheap to clone.
#[derive(Clone)]
pub struct Identity {
    key: Arc<jsp_crypto::Identity>,
    credential: Credential,
}

impl Identity {
    /// A new identity from the system's random generator. Clients that pin the old one of a server
    /// will refuse it: keep an identity with [`Identity::save`].
    ///
    /// # Panics
    /// When the system has no random generator.
    pub fn generate() -> Self {
        Self::generate_with(SignatureScheme::Ed25519)
    }

    /// As [`Identity::generate`], with another signature scheme. What ML-DSA-65 signs, no quantum computer
    /// is held to forge; handshakes under it take 5 kB more, and clients must accept it
    /// ([`Builder::signatures`](crate::Builder::signatures)).
    ///
    /// # Panics
    /// When the system has no random generator.
    pub fn generate_with(scheme: SignatureScheme) -> Self {
        Self::of_key(jsp_crypto::Identity::generate_with(scheme, &mut jsp_crypto::SystemRng))
    }

    /// The Ed25519 identity of a 32-byte secret seed. `None` when the cryptographic library refuses it,
    /// which no known one does.
    pub fn from_seed(seed: &[u8; 32]) -> Option<Self> {
        jsp_crypto::Identity::from_seed(seed).map(Self::of_key)
    }

    fn of_key(key: jsp_crypto::Identity) -> Self {
        let key = Arc::new(key);
        Self { credential: Credential::from(Arc::clone(&key)), key }
    }

    /// Reads an identity from a file that only its owner may read. Blocks on the disk.
    ///
    /// # Errors
    /// When the file is missing, damaged, or open to others.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, IdentityError> {
        Ok(Self::of_key(jsp_crypto::Identity::load(path.as_ref())?))
    }

    /// Reads an identity from a file, or makes one and writes the file if there is none. Blocks on
    /// the disk.
    ///
    /// # Errors
    /// As [`Identity::load`], and when the file cannot be written.
    pub fn load_or_generate(path: impl AsRef<Path>) -> Result<Self, IdentityError> {
        let path = path.as_ref();
        if path.symlink_metadata().is_ok() {
            return Self::load(path);
        }
        let identity = Self::generate();
        match identity.save(path) {
            Ok(()) => Ok(identity),
            // Another start was quicker.
            Err(_) if path.symlink_metadata().is_ok() => Self::load(path),
            Err(error) => Err(error),
        }
    }

    /// Writes the secret key to a new file that only its owner may read; a delegation has its own
    /// file ([`Delegation::save`]). Blocks on the disk.
    ///
    /// # Errors
    /// When a file is there already or cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), IdentityError> {
        Ok(self.key.save(path.as_ref())?)
    }

    /// Makes this an online key of the identity that gave `delegation`: peers see that identity and
    /// its fingerprint. The identity's own key is needed to issue delegations only, with [`delegate`],
    /// and may be kept in hardware or elsewhere.
    ///
    /// # Errors
    /// When the delegation is for another key, its signature is wrong, or now is outside its dates.
    pub fn delegated(self, delegation: Delegation) -> Result<Self, DelegationError> {
        let key = self.key;
        let signer = Arc::clone(&key) as Arc<dyn Signer>;
        delegation.verify(clock::unix_seconds())?;
        Ok(Self { credential: Credential::delegated(signer, delegation)?, key })
    }

    /// What peers know this identity by; with a delegation, that of the identity that gave it.
    pub fn fingerprint(&self) -> Fingerprint {
        self.credential.fingerprint()
    }

    /// The public half of the key at hand, without regard to a delegation: what another identity is
    /// asked to delegate to.
    pub fn public(&self) -> PublicIdentity {
        self.key.public()
    }

    /// The delegation, where there is one.
    pub fn delegation(&self) -> Option<&Delegation> {
        self.credential.delegation()
    }

    /// The key at hand, to sign with.
    pub fn signer(&self) -> &dyn Signer {
        &*self.key
    }

    /// What the stateless resets of a server at this address, shard of those that share tickets, are made with.
    pub(crate) fn reset_key(&self, addr: Option<SocketAddr>, shard: u16) -> [u8; 32] {
        self.key.reset_key(format!("{addr:?} {shard}").as_bytes())
    }

    pub(crate) fn credential(&self) -> Credential {
        self.credential.clone()
    }
}

/// Lets `online` speak for the identity in `signer` from an hour ago, as clocks differ, until
/// `valid_for` from now, 71 hours at most. Renew it well before it ends: from then on nobody accepts
/// it. The serial number is the time of issue in seconds since 1970 UTC.
///
/// Blocks as long as the signer does: call it from a thread that may.
///
/// ```
/// use std::time::Duration;
///
/// let (long_term, online) = (jsp::Identity::generate(), jsp::Identity::generate());
/// let day = Duration::from_secs(24 * 3600);
/// let delegation = jsp::delegate(long_term.signer(), online.public(), day)?;
/// let server = online.delegated(delegation)?;
/// assert_eq!(server.fingerprint(), long_term.fingerprint());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// See [`IssueError`].
pub fn delegate(
    signer: &dyn Signer,
    online: PublicIdentity,
    valid_for: Duration,
) -> Result<Delegation, IssueError> {
    let now = clock::unix_seconds();
    let until = now.saturating_add(valid_for.as_secs());
    Delegation::issue(signer, online, now.saturating_sub(CLOCKS_DIFFER.as_secs()), until, now)
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({})", self.fingerprint().short())
    }
}

/// Which server a client goes on with.
#[derive(Clone, Debug)]
pub enum Trust {
    /// The one with this fingerprint, and no other.
    Pinned(Fingerprint),
    /// The one met first under the same name and port, remembered in this file. Reading and writing
    /// the file blocks a moment.
    FirstUse(PathBuf),
    /// Whoever answers: safe from eavesdroppers, but not from somebody in between. For tests.
    Insecure,
}

impl Trust {
    /// What tickets of a server are kept under: one that was trusted more easily is of no use here.
    pub(crate) fn ticket_name(&self, host: &str) -> String {
        match self {
            Self::Pinned(fingerprint) => format!("{fingerprint} {host}"),
            Self::FirstUse(path) => format!("{} {host}", path.display()),
            Self::Insecure => format!("insecure {host}"),
        }
    }
}

impl From<Fingerprint> for Trust {
    fn from(fingerprint: Fingerprint) -> Self {
        Self::Pinned(fingerprint)
    }
}

/// Which clients a server goes on with.
#[derive(Clone, Default)]
pub enum ClientAuth {
    /// All; none is asked who it is.
    #[default]
    None,
    /// All that show no identity, and those that show one that passes.
    Optional(IdentityCheck),
    /// Those that show an identity that passes.
    Required(IdentityCheck),
}

/// Decides about an identity that its holder has proved, and how: by which signatures, itself or by an online key.
/// Runs inside the handshake, while the endpoint is locked: must be quick, must not block, and must not call the
/// endpoint or anything of it, which would wait for ever.
///
/// ```
/// use std::sync::Arc;
/// use jsp::{ClientAuth, Fingerprint};
///
/// fn operators(allowed: Vec<Fingerprint>) -> ClientAuth {
///     // Their own keys alone, which no quantum computer forges.
///     ClientAuth::Required(Arc::new(move |client| {
///         allowed.contains(&client.fingerprint) && client.is_post_quantum() && !client.delegated
///     }))
/// }
/// ```
pub type IdentityCheck = Arc<dyn Fn(&PeerIdentity) -> bool + Send + Sync>;

impl ClientAuth {
    /// Every client must show an identity, whichever.
    pub fn required() -> Self {
        Self::Required(Arc::new(|_| true))
    }

    /// Only clients with one of these fingerprints.
    pub fn only(allowed: impl IntoIterator<Item = Fingerprint>) -> Self {
        let allowed: Vec<Fingerprint> = allowed.into_iter().collect();
        Self::Required(Arc::new(move |shown| allowed.contains(&shown.fingerprint)))
    }

    pub(crate) fn to_crypto(&self) -> jsp_crypto::ClientAuth {
        match self {
            Self::None => jsp_crypto::ClientAuth::None,
            Self::Optional(check) => {
                jsp_crypto::ClientAuth::Optional(Box::new(Check(Arc::clone(check))))
            }
            Self::Required(check) => {
                jsp_crypto::ClientAuth::Required(Box::new(Check(Arc::clone(check))))
            }
        }
    }
}

impl fmt::Debug for ClientAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "ClientAuth::None",
            Self::Optional(_) => "ClientAuth::Optional",
            Self::Required(_) => "ClientAuth::Required",
        })
    }
}

struct Check(IdentityCheck);

impl ClientVerifier for Check {
    fn verify(&self, shown: &PeerIdentity) -> Result<(), VerifierRejection> {
        let refused = VerifierRejection("the server does not know this client");
        if (self.0)(shown) { Ok(()) } else { Err(refused) }
    }
}

/// The verifier of one attempt to connect: accepts one fingerprint, any, or none, and remembers
/// what it was shown.
#[derive(Clone)]
struct Witness {
    accepts: Accepts,
    shown: Arc<Mutex<Option<Fingerprint>>>,
}

#[derive(Clone, Copy)]
enum Accepts {
    Any,
    One(Fingerprint),
    None,
}

impl Witness {
    fn judge(&self, fingerprint: &Fingerprint) -> Result<(), VerifierRejection> {
        match self.accepts {
            Accepts::Any => Ok(()),
            Accepts::One(known) if known == *fingerprint => Ok(()),
            Accepts::One(_) => Err(VerifierRejection("it is not the identity met before")),
            Accepts::None => Err(VerifierRejection("only its identity was asked for")),
        }
    }
}

impl ServerVerifier for Witness {
    fn verify(&self, shown: &Fingerprint) -> Result<(), VerifierRejection> {
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = Some(*shown);
        self.judge(shown)
    }

    /// A ticket that a server has once given is not shown by it.
    // spec: HS-58
    fn would_accept(&self, known: &Fingerprint) -> bool {
        self.judge(known).is_ok()
    }
}

/// How one attempt to connect checks the server, and what is to be done afterwards.
pub(crate) struct Verification {
    pub(crate) crypto: ClientConfig,
    witness: Option<Witness>,
    store: Option<(PathBuf, String)>,
}

impl Verification {
    /// Prepares the check for the server named `host` (with its port). Blocks on the disk where
    /// the trust has a file.
    pub(crate) fn new(trust: &Trust, host: &str) -> Result<Self, ConnectError> {
        let (path, witness) = match trust {
            Trust::Pinned(fingerprint) => {
                let crypto = ClientConfig::new(ServerIdentity::Pinned(*fingerprint));
                return Ok(Self { crypto, witness: None, store: None });
            }
            Trust::Insecure => {
                let crypto = ClientConfig::new(ServerIdentity::AnyInsecure);
                return Ok(Self { crypto, witness: None, store: None });
            }
            Trust::FirstUse(path) => {
                let known = KnownHosts::open(path)
                    .map_err(|error| ConnectError::KnownHosts { path: path.clone(), error })?
                    .get(host);
                let accepts = known.map_or(Accepts::Any, |(known, _)| Accepts::One(known));
                (path, (Witness { accepts, shown: Arc::default() }, known.map(|(_, floor)| floor)))
            }
        };
        let (witness, floor) = witness;
        let expected = ServerIdentity::TrustOnFirstUse(Box::new(witness.clone()));
        let mut crypto = ClientConfig::new(expected);
        crypto.floor = floor.unwrap_or_default();
        Ok(Self { crypto, witness: Some(witness), store: Some((path.clone(), host.to_owned())) })
    }

    /// A check that no server passes: only to learn who answers.
    pub(crate) fn inquiry() -> Self {
        let witness = Witness { accepts: Accepts::None, shown: Arc::default() };
        let expected = ServerIdentity::TrustOnFirstUse(Box::new(witness.clone()));
        Self { crypto: ClientConfig::new(expected), witness: Some(witness), store: None }
    }

    /// What outlives the handshake with `remote`.
    pub(crate) fn split(self, remote: SocketAddr) -> (ClientConfig, Outcome) {
        let pinned = match self.crypto.expected {
            ServerIdentity::Pinned(fingerprint) => Some(fingerprint),
            _ => None,
        };
        (self.crypto, Outcome { remote, pinned, witness: self.witness, store: self.store })
    }
}

/// What the check of a server has shown.
#[derive(Clone)]
pub(crate) struct Outcome {
    remote: SocketAddr,
    pinned: Option<Fingerprint>,
    witness: Option<Witness>,
    store: Option<(PathBuf, String)>,
}

impl Outcome {
    /// The identity that the server has proved.
    pub(crate) fn shown(&self) -> Option<Fingerprint> {
        let witness = self.witness.as_ref()?;
        *witness.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The identity that was expected, and the other one that was shown.
    pub(crate) fn mismatch(&self) -> Option<(Fingerprint, Fingerprint)> {
        let Accepts::One(expected) = self.witness.as_ref()?.accepts else { return None };
        self.shown().filter(|shown| *shown != expected).map(|shown| (expected, shown))
    }

    /// Why there is no connection.
    pub(crate) fn explain(&self, error: ConnectionError) -> ConnectError {
        let remote = self.remote;
        if let Some((expected, got)) = self.mismatch() {
            return ConnectError::Identity { remote, expected, got: Some(got) };
        }
        match (self.pinned, error) {
            (Some(expected), ConnectionError::NotThePinnedServer) => {
                ConnectError::Identity { remote, expected, got: None }
            }
            (_, error) => ConnectError::new(remote, error),
        }
    }

    /// Remembers the server, where it was met for the first time. Blocks on the disk.
    pub(crate) fn remember(&self, floor: jsp_crypto::Floor) -> Result<(), ConnectError> {
        let (Some((path, host)), Some(shown)) = (&self.store, self.shown()) else { return Ok(()) };
        let failed = |error| ConnectError::KnownHosts { path: path.clone(), error };
        let mut store = KnownHosts::open(path).map_err(failed)?;
        if store.lookup(host, &shown) == Lookup::Match(floor) {
            return Ok(());
        }
        store.remember(host, shown, floor).map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    // spec-test: HS-58
    fn only_what_a_server_shows_is_another_identity() {
        let [known, other] = [1, 2].map(|_| Identity::generate().fingerprint());
        let witness = Witness { accepts: Accepts::One(known), shown: Arc::default() };
        let outcome = Outcome {
            remote: SocketAddr::from(([192, 0, 2, 1], 1)),
            pinned: None,
            witness: Some(witness.clone()),
            store: None,
        };
        assert!(witness.would_accept(&known) && !witness.would_accept(&other));
        assert_eq!((outcome.shown(), outcome.mismatch()), (None, None));
        assert!(witness.verify(&other).is_err());
        assert_eq!(outcome.mismatch(), Some((known, other)));
    }
}
