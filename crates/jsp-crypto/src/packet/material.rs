//! What keys are expanded from: few bytes, for connections that rest or wait.

use super::{Aead, DirectionKeys, HeaderKey, KEY_LEN_MAX, Keys, Mask, NONCE_LEN, PacketKey};
use crate::primitives::Backend;
use crate::suite::Suite;
use zeroize::Zeroizing;

/// What a [`PacketKey`] is expanded from: a tenth of its bytes, for a connection that rests.
/// Wiped when dropped.
#[derive(Clone)]
pub struct PacketMaterial {
    pub(super) key: Zeroizing<[u8; KEY_LEN_MAX]>,
    pub(super) iv: Zeroizing<[u8; NONCE_LEN]>,
    pub(super) suite: Suite,
    pub(super) backend: Backend,
}

impl PacketMaterial {
    /// The key, as it was.
    pub fn expand(&self) -> PacketKey {
        let key = self.key.get(..self.suite.key_len()).unwrap_or_default();
        PacketKey { aead: Aead::new(self.backend, self.suite, key), material: self.clone() }
    }
}

/// What a [`HeaderKey`] is expanded from. Wiped when dropped.
#[derive(Clone)]
pub struct HeaderMaterial {
    pub(super) key: Zeroizing<[u8; KEY_LEN_MAX]>,
    pub(super) suite: Suite,
    pub(super) backend: Backend,
}

impl HeaderMaterial {
    /// The key, as it was.
    pub fn expand(&self) -> HeaderKey {
        let key = self.key.get(..self.suite.key_len()).unwrap_or_default();
        HeaderKey { mask: Mask::new(self.backend, self.suite, key), material: self.clone() }
    }
}

/// What [`Keys`] are expanded from.
pub struct KeysMaterial {
    local: (PacketMaterial, HeaderMaterial),
    remote: (PacketMaterial, HeaderMaterial),
}

impl KeysMaterial {
    /// The keys, as they were.
    pub fn expand(&self) -> Keys {
        let direction = |(packet, header): &(PacketMaterial, HeaderMaterial)| DirectionKeys {
            packet: packet.expand(),
            header: header.expand(),
        };
        Keys { local: direction(&self.local), remote: direction(&self.remote) }
    }
}

impl Keys {
    /// What these keys can be expanded from again.
    pub fn material(&self) -> KeysMaterial {
        let direction =
            |keys: &DirectionKeys| (keys.packet.material().clone(), keys.header.material().clone());
        KeysMaterial { local: direction(&self.local), remote: direction(&self.remote) }
    }
}
