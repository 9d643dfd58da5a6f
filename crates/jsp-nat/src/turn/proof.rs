//! What requests are proved by: a user, and what the server has said.

use std::fmt;

use super::message::{Realm, TAG_LEN};
use super::{CHALLENGES_MAX, STALE_NONCE, Transaction, UNAUTHORIZED};

/// A user of a server, and what proves it: HMAC-SHA-1 under the key of RFC 8489, section 9.2.2, which takes the
/// realm.
pub struct Login {
    pub(super) username: String,
    tag: Box<Mac>,
}

/// The tag of a message in a realm: what it is made of is the caller's.
type Mac = dyn Fn(&[u8], &[u8]) -> [u8; TAG_LEN] + Send + Sync;

impl Login {
    /// A user; `tag` takes the realm and a message.
    pub fn new(
        username: String,
        tag: impl Fn(&[u8], &[u8]) -> [u8; TAG_LEN] + Send + Sync + 'static,
    ) -> Self {
        Self { username, tag: Box::new(tag) }
    }

    pub(super) fn tag(&self, realm: &[u8], message: &[u8]) -> [u8; TAG_LEN] {
        (self.tag)(realm, message)
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Login")
    }
}

/// What requests are proved by, as the server has said.
#[derive(Debug)]
pub(super) struct Proof {
    pub(super) login: Login,
    /// Takes the place of that when the server does not take it any more.
    pub(super) next: Option<Login>,
    pub(super) realm: Vec<u8>,
    nonce: Vec<u8>,
}

impl Proof {
    pub(super) fn new(login: Login) -> Self {
        Self { login, next: None, realm: Vec::new(), nonce: Vec::new() }
    }

    /// True when there is another login, which is used from then on.
    pub(super) fn take_next(&mut self) -> bool {
        self.next.take().map(|login| self.login = login).is_some()
    }

    pub(super) fn realm(&self) -> Option<Realm<'_>> {
        let (login, realm, nonce) = (&self.login, &self.realm[..], &self.nonce[..]);
        (!nonce.is_empty()).then_some(Realm { login, realm, nonce })
    }

    /// Takes what a server wants for a request to be proved by; false when it does not take the proof, or asks too
    /// often.
    // spec: RDV-42
    pub(super) fn challenge(
        &mut self,
        request: &Transaction,
        code: u16,
        asked: [Option<&[u8]>; 2],
    ) -> bool {
        let [realm, nonce] = asked;
        let Some(nonce) = nonce.filter(|nonce| !nonce.is_empty()) else { return false };
        let is_fresh = match code {
            UNAUTHORIZED => !request.is_proved && realm.is_some(),
            _ => code == STALE_NONCE,
        };
        if !is_fresh || request.challenges >= CHALLENGES_MAX {
            return false;
        }
        self.realm = realm.map_or(std::mem::take(&mut self.realm), <[u8]>::to_vec);
        self.nonce = nonce.to_vec();
        true
    }
}
