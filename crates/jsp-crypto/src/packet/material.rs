//! What keys are expanded from: few bytes, for connections that rest or wait.

use super::{
    Aead, DirectionKeys, HeaderKey, HeaderKeyParts, KEY_LEN_MAX, Keys, Mask, NONCE_LEN, PacketKey,
    PacketKeyParts, padded,
};
use crate::primitives::Backend;
use crate::suite::Suite;
use crate::wiped::{Wiped, off_the_stack};
use alloc::boxed::Box;

/// The secrets of a direction's packets: the key, zeros behind a short one, and the IV.
type PacketSecret = ([u8; KEY_LEN_MAX], [u8; NONCE_LEN]);

/// What a [`PacketKey`] is expanded from: a tenth of its bytes. Wiped when dropped.
pub(super) struct PacketMaterial {
    secret: Wiped<PacketSecret>,
    pub(super) suite: Suite,
    backend: Backend,
}

impl PacketMaterial {
    pub(super) fn new(backend: Backend, suite: Suite, key: &[u8], iv: [u8; NONCE_LEN]) -> Self {
        Self { secret: Wiped::new((padded(key), iv)), suite, backend }
    }

    pub(super) fn into_key(self) -> PacketKey {
        let key = self.secret.0.get(..self.suite.key_len()).unwrap_or_default();
        let aead = Aead::new(self.backend, self.suite, key);
        PacketKey(Wiped::new(PacketKeyParts { aead, iv: self.secret.1, material: self }))
    }
}

/// What a [`HeaderKey`] is expanded from. Wiped when dropped.
pub(super) struct HeaderMaterial {
    /// Zeros stand behind a short key.
    key: Wiped<[u8; KEY_LEN_MAX]>,
    suite: Suite,
    backend: Backend,
}

impl HeaderMaterial {
    pub(super) fn new(backend: Backend, suite: Suite, key: &[u8]) -> Self {
        Self { key: Wiped::new(padded(key)), suite, backend }
    }

    pub(super) fn into_key(self) -> HeaderKey {
        let key = self.key.get(..self.suite.key_len()).unwrap_or_default();
        let mask = Mask::new(self.backend, self.suite, key);
        HeaderKey(Wiped::new(HeaderKeyParts { mask, material: self }))
    }
}

/// What [`Keys`] are expanded from: at one place, for connections that wait are many.
pub struct KeysMaterial {
    secrets: Wiped<[DirectionSecrets; 2]>,
    suite: Suite,
    backend: Backend,
}

/// The secrets of a direction: of its packets the key and the IV, and the key of its headers. Zeros stand behind short
/// keys.
type DirectionSecrets = ([u8; KEY_LEN_MAX], [u8; NONCE_LEN], [u8; KEY_LEN_MAX]);

impl KeysMaterial {
    /// The keys, as they were.
    pub fn expand(&self) -> Keys {
        let Self { suite, backend, .. } = *self;
        let direction = |(key, iv, header): &DirectionSecrets| DirectionKeys {
            packet: PacketMaterial::new(backend, suite, key, *iv).into_key(),
            header: HeaderMaterial::new(backend, suite, header).into_key(),
        };
        let [local, remote] = &*self.secrets;
        off_the_stack(|| Keys { local: direction(local), remote: direction(remote) })
    }
}

impl Keys {
    /// What these keys can be expanded from again.
    pub fn material(&self) -> KeysMaterial {
        let PacketMaterial { suite, backend, .. } = self.local.packet.0.material;
        // From one place to the other, and not by the stack.
        let blank = ([0; KEY_LEN_MAX], [0; NONCE_LEN], [0; KEY_LEN_MAX]);
        let mut secrets = Wiped::new([blank; 2]);
        for (to, keys) in secrets.iter_mut().zip([&self.local, &self.remote]) {
            let (key, iv) = &*keys.packet.0.material.secret;
            to.0 = *key;
            to.1 = *iv;
            to.2 = *keys.header.0.material.key;
        }
        KeysMaterial { secrets, suite, backend }
    }
}

/// The keys of a connection that runs: of this generation, of the next one, and those that packets of the last one
/// are opened with.
pub struct RunningKeys {
    /// Of our headers, in all generations.
    pub local_header: HeaderKey,
    /// Of the peer's headers.
    pub remote_header: HeaderKey,
    /// Of our packets.
    pub local: PacketKey,
    /// Of the peer's packets.
    pub remote: PacketKey,
    /// Both after the next update.
    pub next: (PacketKey, PacketKey),
    /// Of the peer's packets before the last update.
    pub previous: Option<Box<PacketKey>>,
}

/// What [`RunningKeys`] are expanded from, at one place and in a tenth of their bytes: for connections that rest. Wiped
/// when dropped.
pub struct RunningMaterial {
    secrets: Wiped<RunningSecrets>,
    has_previous: bool,
    suite: Suite,
    backend: Backend,
}

/// In the order of [`RunningKeys`]; zeros where there is no previous key.
struct RunningSecrets {
    headers: [[u8; KEY_LEN_MAX]; 2],
    packets: [PacketSecret; 5],
}

impl RunningMaterial {
    /// The keys, as they were.
    pub fn expand(&self) -> RunningKeys {
        let Self { suite, backend, .. } = *self;
        let header = |key: &[u8]| HeaderMaterial::new(backend, suite, key).into_key();
        let packet =
            |(key, iv): &PacketSecret| PacketMaterial::new(backend, suite, key, *iv).into_key();
        let RunningSecrets {
            headers: [our, their],
            packets: [local, remote, next, their_next, previous],
        } = &*self.secrets;
        off_the_stack(|| RunningKeys {
            local_header: header(our),
            remote_header: header(their),
            local: packet(local),
            remote: packet(remote),
            next: (packet(next), packet(their_next)),
            previous: self.has_previous.then(|| Box::new(packet(previous))),
        })
    }
}

impl RunningKeys {
    /// What these keys can be expanded from again.
    pub fn material(&self) -> RunningMaterial {
        let Self { local, remote, next, .. } = self;
        let PacketMaterial { suite, backend, .. } = local.0.material;
        let mut secrets = Wiped::new(RunningSecrets {
            headers: [[0; KEY_LEN_MAX]; 2],
            packets: [([0; KEY_LEN_MAX], [0; NONCE_LEN]); 5],
        });
        let headers = [&self.local_header, &self.remote_header];
        for (to, key) in secrets.headers.iter_mut().zip(headers) {
            *to = *key.0.material.key;
        }
        let packets = [local, remote, &next.0, &next.1].into_iter().chain(self.previous.as_deref());
        for (to, key) in secrets.packets.iter_mut().zip(packets) {
            *to = *key.0.material.secret;
        }
        RunningMaterial { secrets, has_previous: self.previous.is_some(), suite, backend }
    }
}
