//! The key schedule: HKDF with labels that carry the version.

use crate::handshake::Role;
use crate::identity::Fingerprint;
use crate::packet::{DirectionKeys, HeaderKey, Keys, NONCE_LEN, PacketKey};
use crate::primitives::{Backend, HashAlg, MacKey, hkdf};
use crate::secret::Digest;
use crate::suite::Suite;
use crate::wiped::{Wiped, off_the_stack};
use alloc::boxed::Box;
use zeroize::Zeroizing;

/// Expands secrets of one connection: fixed backend, hash and version.
#[derive(Clone, Copy)]
pub(crate) struct Schedule {
    pub(crate) backend: Backend,
    pub(crate) alg: HashAlg,
    pub(crate) version: u32,
}

impl Schedule {
    pub(crate) fn new(backend: Backend, suite: Suite, version: u32) -> Self {
        Self { backend, alg: suite.hash(), version }
    }

    /// Expands this secret, once or several times.
    pub(crate) fn expander(&self, secret: &Digest) -> Expander {
        Expander { schedule: *self, key: MacKey::new(self.alg, secret.as_bytes()) }
    }

    /// A secret of hash length.
    pub(crate) fn expand(&self, secret: &Digest, label: &str, context: &[u8]) -> Digest {
        self.expander(secret).secret(label, context)
    }

    pub(crate) fn extract(&self, salt: &Digest, ikm: &[&[u8]]) -> Digest {
        hkdf::extract(self.alg, salt.as_bytes(), ikm)
    }

    pub(crate) fn hash(&self, parts: &[&[u8]]) -> Digest {
        self.alg.hash(parts)
    }

    pub(crate) fn packet_key(&self, suite: Suite, secret: &Digest) -> PacketKey {
        self.expander(secret).packet_key(suite)
    }

    pub(crate) fn direction(&self, suite: Suite, secret: &Digest) -> DirectionKeys {
        let secret = self.expander(secret);
        DirectionKeys { packet: secret.packet_key(suite), header: secret.header_key(suite) }
    }

    pub(crate) fn keys(&self, suite: Suite, secrets: &Pair) -> Keys {
        Keys {
            local: self.direction(suite, &secrets.local),
            remote: self.direction(suite, &secrets.remote),
        }
    }
}

/// A secret made ready to expand.
pub(crate) struct Expander {
    schedule: Schedule,
    key: MacKey,
}

impl Expander {
    /// `HKDF-Expand(secret, length 2 | version 4 | label length 1 | label |
    /// context length 1 | context)`.
    pub(crate) fn fill(&self, label: &str, context: &[u8], out: &mut [u8]) {
        // spec: HS-30
        let length = u16::try_from(out.len()).unwrap_or(u16::MAX).to_be_bytes();
        let label_len = [u8::try_from(label.len()).unwrap_or(u8::MAX)];
        let context_len = [u8::try_from(context.len()).unwrap_or(u8::MAX)];
        let version = self.schedule.version.to_be_bytes();
        let info: [&[u8]; 6] =
            [&length, &version, &label_len, label.as_bytes(), &context_len, context];
        hkdf::expand(&self.key, self.schedule.alg, &info, out);
    }

    /// A secret of hash length.
    pub(crate) fn secret(&self, label: &str, context: &[u8]) -> Digest {
        let mut out = Digest::zero(self.schedule.alg.len());
        self.fill(label, context, out.as_mut_bytes());
        out
    }

    fn packet_key(&self, suite: Suite) -> PacketKey {
        let mut key = Zeroizing::new([0; 32]);
        let key = key.get_mut(..suite.key_len()).unwrap_or(&mut []);
        let mut iv = Zeroizing::new([0; NONCE_LEN]);
        self.fill("jsp1 key", &[], key);
        self.fill("jsp1 iv", &[], iv.as_mut_slice());
        PacketKey::new(self.schedule.backend, suite, key, *iv)
    }

    fn header_key(&self, suite: Suite) -> HeaderKey {
        let mut key = Zeroizing::new([0; 32]);
        let key = key.get_mut(..suite.key_len()).unwrap_or(&mut []);
        self.fill("jsp1 hp", &[], key);
        HeaderKey::new(self.schedule.backend, suite, key)
    }
}

/// The traffic secrets of both directions, seen from one side.
#[derive(Clone)]
pub(crate) struct Pair {
    pub(crate) local: Digest,
    pub(crate) remote: Digest,
}

impl Pair {
    pub(crate) fn new(role: Role, client: Digest, server: Digest) -> Self {
        match role {
            Role::Client => Self { local: client, remote: server },
            Role::Server => Self { local: server, remote: client },
        }
    }
}

/// The keys of Initial packets, by the preferred backend.
///
/// They are derived from what the client's first packet shows (`version`, and
/// `dcid`, the destination connection id the client chose) and from the
/// server's fingerprint where the client knows it. They keep strangers out who
/// saw neither; they are no secret, and nothing that must be secret rests on them.
pub fn initial_keys(role: Role, version: u32, dcid: &[u8], pin: Option<&Fingerprint>) -> Keys {
    initial_keys_with(Backend::preferred(), role, version, dcid, pin)
}

/// [`initial_keys`] by a given backend.
pub fn initial_keys_with(
    backend: Backend,
    role: Role,
    version: u32,
    dcid: &[u8],
    pin: Option<&Fingerprint>,
) -> Keys {
    // spec: HS-31
    let suite = Suite::ChaCha20Poly1305;
    let schedule = Schedule::new(backend, suite, version);
    let salt = schedule.hash(&[b"JetStreamProto initial", &version.to_be_bytes()]);
    let zeros = [0; 32];
    let pin = pin.map_or(&zeros, Fingerprint::as_bytes);
    let secret = schedule.extract(&salt, &[dcid, pin]);
    let client = schedule.expand(&secret, "jsp1 client initial", &[]);
    let server = schedule.expand(&secret, "jsp1 server initial", &[]);
    schedule.keys(suite, &Pair::new(role, client, server))
}

/// The 1-RTT keys of a connection, which step from one key phase to the next.
///
/// [`DataKeys::take_keys`] gives the keys of phase 0 once, header keys among
/// them; each [`DataKeys::next`] then gives the packet keys of the following
/// phase, and the header keys stay. The secrets of phases already given out
/// are wiped.
pub struct DataKeys {
    schedule: Schedule,
    suite: Suite,
    /// The secrets of the newest phase given out.
    secrets: Wiped<Pair>,
    /// Apart, so that nothing of it stays once it is taken.
    first: Option<Box<Keys>>,
}

impl DataKeys {
    pub(crate) fn new(schedule: Schedule, suite: Suite, secrets: Pair) -> Self {
        let first = Some(Box::new(schedule.keys(suite, &secrets)));
        Self { schedule, suite, secrets: Wiped::new(secrets), first }
    }

    /// The keys of phase 0; `None` when they have been taken before.
    pub fn take_keys(&mut self) -> Option<Keys> {
        self.first.take().map(|keys| *keys)
    }

    /// Steps to the next phase: `(local, remote)` packet keys. Both directions
    /// step together; the caller decides when each is used.
    #[allow(clippy::should_implement_trait, reason = "an endless step, not an iterator")]
    pub fn next(&mut self) -> (PacketKey, PacketKey) {
        // spec: HS-39
        self.step(|schedule, secret| schedule.expand(secret, "jsp1 ku", &[]))
    }

    /// Folds the secret of an in-band exchange into the newest phase given out:
    /// `(local, remote)` packet keys that take the place of those that
    /// [`DataKeys::next`] gave for it.
    pub fn fold(&mut self, fresh: &crate::renewal::Fresh) -> (PacketKey, PacketKey) {
        self.step(|schedule, secret| fresh.fold(schedule, secret))
    }

    fn step(&mut self, to: impl Fn(&Schedule, &Digest) -> Digest) -> (PacketKey, PacketKey) {
        off_the_stack(|| {
            let Pair { local, remote } = &mut *self.secrets;
            for secret in [local, remote] {
                *secret = to(&self.schedule, secret);
            }
            let Pair { local, remote } = &*self.secrets;
            let key = |secret| self.schedule.packet_key(self.suite, secret);
            (key(local), key(remote))
        })
    }

    /// The suite of these keys.
    pub fn suite(&self) -> Suite {
        self.suite
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // spec-test: HS-31
    #[test]
    fn initial_keys_depend_on_version_dcid_and_pin() {
        let pin = Fingerprint::from_bytes([1; 32]);
        let open = |keys: &Keys| {
            let server = initial_keys(Role::Server, 1, b"12345678", Some(&pin));
            let mut packet = [0; 30];
            keys.local.packet.seal_in_place(0, b"", &mut packet).unwrap();
            let same_mask = keys.local.header.mask(&[0; 16]) == server.remote.header.mask(&[0; 16]);
            let opened = server.remote.packet.open_in_place(0, b"", &mut packet).is_ok();
            assert_eq!(opened, same_mask);
            opened
        };
        let client = Role::Client;
        for backend in [Backend::Native, Backend::Portable] {
            assert!(open(&initial_keys_with(backend, client, 1, b"12345678", Some(&pin))));
        }
        assert!(!open(&initial_keys(client, 2, b"12345678", Some(&pin))));
        assert!(!open(&initial_keys(client, 1, b"12345679", Some(&pin))));
        assert!(!open(&initial_keys(client, 1, b"12345678", None)));
        assert!(!open(&initial_keys(Role::Server, 1, b"12345678", Some(&pin))));
        // No pin is 32 zero bytes, and cannot run into the connection id.
        let zero = Fingerprint::from_bytes([0; 32]);
        let mut a = [0; 20];
        let mut b = [0; 20];
        let seal = |pin, dcid: &[u8], out: &mut [u8]| {
            let keys = initial_keys(client, 1, dcid, pin);
            keys.local.packet.seal_in_place(0, b"", out).unwrap();
        };
        seal(None, b"x", &mut a);
        seal(Some(&zero), b"x", &mut b);
        assert_eq!(a, b);
    }
}
