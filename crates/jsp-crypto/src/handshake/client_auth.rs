//! The extension by which a server asks who its client is.

use super::messages::{ext, put_extension};
use crate::identity::{Credential, SignatureScheme};
use alloc::vec::Vec;

/// Says that the server wants a client identity, and the schemes that it can verify.
pub(super) fn put_client_auth(out: &mut Vec<u8>, how: u8) -> Option<()> {
    let mut body = alloc::vec![how];
    body.extend(SignatureScheme::ALL.iter().map(|scheme| scheme.id()));
    put_extension(out, ext::CLIENT_AUTH, &body)
}

/// The server's wish to know its client.
pub(super) struct ClientAuthRequest {
    pub(super) required: bool,
    /// Identifiers of the signature schemes that the server can verify.
    schemes: Vec<u8>,
}

impl ClientAuthRequest {
    pub(super) fn read(body: &[u8]) -> Option<Self> {
        match body {
            [how @ (1 | 2), schemes @ ..] if !schemes.is_empty() => {
                Some(Self { required: *how == 2, schemes: schemes.to_vec() })
            }
            _ => None,
        }
    }

    /// Whether the server can verify all that the credential would prove itself with.
    // spec: HS-105
    pub(super) fn suits(&self, credential: &Credential) -> bool {
        credential.suits(|scheme| self.schemes.contains(&scheme.id()))
    }
}
