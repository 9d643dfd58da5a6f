//! What a finished handshake has established.

use super::config::Kem;
use crate::identity::{Fingerprint, PublicIdentity};
use crate::schedule::Schedule;
use crate::secret::Digest;
use crate::suite::Suite;
use alloc::vec::Vec;

/// The longest exported secret, in bytes: 255 blocks of the shortest hash
/// (RFC 5869, section 2.3).
const MAX_EXPORT_LEN: usize = 255 * 32;

/// The identity a peer has proved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerIdentity {
    /// The long-term identity.
    pub identity: PublicIdentity,
    /// Its fingerprint.
    pub fingerprint: Fingerprint,
    /// Whether an online key spoke for it, under a delegation.
    pub delegated: bool,
}

/// What was negotiated and proved, and the exporter.
pub struct Security {
    /// The protocol version.
    pub version: u32,
    /// The cipher suite.
    pub suite: Suite,
    /// The key exchange.
    pub kem: Kem,
    /// The peer; on a server `None` for an anonymous client.
    pub peer: Option<PeerIdentity>,
    /// The application protocol, where one was negotiated.
    pub application_protocol: Option<Vec<u8>>,
    /// Feature bits that both sides offered.
    pub features: u64,
    /// True for a client that has shown its identity: the server has still to accept it.
    pub awaits_verdict: bool,
    pub(super) schedule: Schedule,
    pub(super) exporter: Digest,
    pub(super) resumption: Digest,
}

/// More than 8160 bytes were asked of the exporter. Export a key and expand it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExportTooLong;

impl core::fmt::Display for ExportTooLong {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("at most 8160 bytes can be exported; export a key and expand it")
    }
}

impl core::error::Error for ExportTooLong {}

impl Security {
    /// Fills `out` with secret bytes that both sides of this connection, and
    /// nobody else, get for the same label and context (as RFC 8446, section 7.5).
    /// For channel binding, for example of an end-to-end session.
    pub fn export(&self, label: &str, context: &[u8], out: &mut [u8]) -> Result<(), ExportTooLong> {
        // spec: HS-38
        if out.len() > MAX_EXPORT_LEN {
            return Err(ExportTooLong);
        }
        let label = self.schedule.hash(&[label.as_bytes()]);
        let context = self.schedule.hash(&[context]);
        let secret = self.schedule.expand(&self.exporter, "jsp1 export label", label.as_bytes());
        self.schedule.expand_into(secret.as_bytes(), "jsp1 export value", context.as_bytes(), out);
        Ok(())
    }

    /// The pre-shared key of a ticket with this nonce, for
    /// [`TicketContents::psk`](crate::ticket::TicketContents::psk). It binds the whole transcript.
    pub fn resumption_psk(&self, nonce: &[u8]) -> zeroize::Zeroizing<[u8; 32]> {
        let nonce = self.schedule.hash(&[nonce]);
        let mut out = zeroize::Zeroizing::new([0; 32]);
        self.schedule.expand_into(
            self.resumption.as_bytes(),
            "jsp1 ticket",
            nonce.as_bytes(),
            out.as_mut_slice(),
        );
        out
    }

    /// What this connection adds to the server's floor.
    pub fn floor(&self) -> crate::identity::Floor {
        crate::identity::Floor { version: self.version, post_quantum: self.kem.is_post_quantum() }
    }
}

impl core::fmt::Debug for Security {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Security")
            .field("version", &self.version)
            .field("suite", &self.suite)
            .field("kem", &self.kem)
            .field("peer", &self.peer)
            .field("application_protocol", &self.application_protocol)
            .field("features", &self.features)
            .finish_non_exhaustive()
    }
}
