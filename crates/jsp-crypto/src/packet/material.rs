//! What keys are expanded from: few bytes, for connections that rest or wait.

use super::{
    Aead, DirectionKeys, HeaderKey, HeaderKeyParts, KEY_LEN_MAX, Keys, Mask, NONCE_LEN, PacketKey,
    PacketKeyParts, padded,
};
use crate::primitives::Backend;
use crate::suite::Suite;
use crate::wiped::{Wiped, off_the_stack};

/// What a [`PacketKey`] is expanded from: a tenth of its bytes, for a connection that rests.
/// Wiped when dropped.
#[derive(Clone)]
pub struct PacketMaterial {
    /// The key, zeros behind a short one, and the IV.
    secret: Wiped<([u8; KEY_LEN_MAX], [u8; NONCE_LEN])>,
    pub(super) suite: Suite,
    backend: Backend,
}

impl PacketMaterial {
    pub(super) fn new(backend: Backend, suite: Suite, key: &[u8], iv: [u8; NONCE_LEN]) -> Self {
        Self { secret: Wiped::new((padded(key), iv)), suite, backend }
    }

    /// The key, as it was.
    pub fn expand(&self) -> PacketKey {
        off_the_stack(|| self.clone().into_key())
    }

    pub(super) fn into_key(self) -> PacketKey {
        let key = self.secret.0.get(..self.suite.key_len()).unwrap_or_default();
        let aead = Aead::new(self.backend, self.suite, key);
        PacketKey(Wiped::new(PacketKeyParts { aead, iv: self.secret.1, material: self }))
    }
}

/// What a [`HeaderKey`] is expanded from. Wiped when dropped.
#[derive(Clone)]
pub struct HeaderMaterial {
    /// Zeros stand behind a short key.
    key: Wiped<[u8; KEY_LEN_MAX]>,
    suite: Suite,
    backend: Backend,
}

impl HeaderMaterial {
    pub(super) fn new(backend: Backend, suite: Suite, key: &[u8]) -> Self {
        Self { key: Wiped::new(padded(key)), suite, backend }
    }

    /// The key, as it was.
    pub fn expand(&self) -> HeaderKey {
        off_the_stack(|| self.clone().into_key())
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
        let direction = |keys: &DirectionKeys| {
            let (key, iv) = *keys.packet.material().secret;
            (key, iv, *keys.header.material().key)
        };
        let PacketMaterial { suite, backend, .. } = *self.local.packet.material();
        off_the_stack(|| {
            let secrets = [direction(&self.local), direction(&self.remote)];
            KeysMaterial { secrets: Wiped::new(secrets), suite, backend }
        })
    }
}
