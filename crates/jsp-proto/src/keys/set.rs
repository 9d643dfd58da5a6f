//! Keys and what they are expanded from: few bytes, for a connection that rests or waits.

use jsp_crypto::{KeysMaterial, RunningKeys, RunningMaterial};

use super::{Data, Keyring};
use crate::bounded::Bounded;

/// The keys themselves, and what they are expanded from: all that a connection has of them that rests.
pub(super) struct KeySet {
    material: RunningMaterial,
    expanded: Option<Box<RunningKeys>>,
}

impl KeySet {
    pub(super) fn new(keys: RunningKeys) -> Self {
        Self { material: keys.material(), expanded: Some(Box::new(keys)) }
    }

    /// All of them are expanded at once: how long that takes tells nothing of the packet it is for.
    // spec: CON-69
    pub(super) fn expand(&mut self) -> &mut RunningKeys {
        let Self { material, expanded } = self;
        expanded.get_or_insert_with(|| Box::new(material.expand()))
    }

    pub(super) fn change(&mut self, change: impl FnOnce(&mut RunningKeys)) {
        let keys = self.expand();
        change(keys);
        self.material = keys.material();
    }

    /// Only what they are expanded from is kept until they are asked for.
    pub(super) fn pack(&mut self) {
        self.expanded = None;
    }
}

/// The keys of a connection that rests: those of 1-RTT packets.
pub(crate) struct RestingKeys(Option<Data>);

impl RestingKeys {
    /// The keys as they were.
    pub(crate) fn into_keyring(self) -> Keyring {
        Keyring {
            initial: None,
            earlier_initial: Bounded::default(),
            handshake: Vec::new(),
            early: None,
            data: self.0,
        }
    }
}

impl Keyring {
    /// True when there are no keys but those of 1-RTT packets.
    pub(crate) fn can_rest(&self) -> bool {
        let is_over = self.initial.is_none() && self.handshake.is_empty() && self.early.is_none();
        is_over && self.earlier_initial.is_empty()
    }

    /// The same in few bytes: see [`Keyring::can_rest`].
    pub(crate) fn into_resting(mut self) -> RestingKeys {
        self.rest();
        RestingKeys(self.data)
    }
}

/// What the keys of both levels of a handshake are expanded from.
pub(crate) struct UnheardKeys {
    initial: Option<KeysMaterial>,
    handshake: Option<KeysMaterial>,
}

impl UnheardKeys {
    /// The keys, as they were at a server.
    pub(crate) fn expand(&self) -> Keyring {
        let mut keys = Keyring {
            initial: self.initial.as_ref().map(|keys| Box::new(keys.expand())),
            earlier_initial: Bounded::default(),
            handshake: Vec::new(),
            early: None,
            data: None,
        };
        if let Some(handshake) = &self.handshake {
            keys.add_handshake(0, handshake.expand());
        }
        keys
    }
}

impl Keyring {
    /// True when there are the keys of a server whose client was not heard again, and no others.
    pub(crate) fn are_unheard(&self) -> bool {
        let are_both = self.initial.is_some() && self.handshake.len() == 1;
        let is_all = self.data.is_none() && self.early.is_none() && self.earlier_initial.is_empty();
        are_both && is_all
    }

    /// What they are expanded from: see [`Keyring::are_unheard`].
    pub(crate) fn unheard(&self) -> UnheardKeys {
        UnheardKeys {
            initial: self.initial.as_ref().map(|keys| keys.material()),
            handshake: self.handshake.first().map(|(_, keys)| keys.material()),
        }
    }
}
