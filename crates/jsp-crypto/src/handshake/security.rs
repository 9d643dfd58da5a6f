//! What a finished handshake has established.

use super::config::Kem;
use crate::identity::{Fingerprint, SignatureScheme};
use crate::schedule::Schedule;
use crate::secret::Digest;
use crate::suite::Suite;
use crate::wiped::Wiped;
use alloc::vec::Vec;

/// The longest exported secret, in bytes: 255 blocks of the shortest hash
/// (RFC 5869, section 2.3).
const MAX_EXPORT_LEN: usize = 255 * 32;

/// The identity a peer has proved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerIdentity {
    /// The fingerprint of the long-term identity.
    pub fingerprint: Fingerprint,
    /// What the long-term identity signs with.
    pub scheme: SignatureScheme,
    /// What the handshake was signed with; in a resumed connection that of the
    /// connection that the ticket came from. Another than the identity's where
    /// an online key of another scheme spoke for it.
    pub signer: SignatureScheme,
    /// Whether an online key spoke for it, under a delegation.
    pub delegated: bool,
    /// When the delegation ends, in seconds since 1970 UTC.
    pub until: Option<u64>,
}

impl PeerIdentity {
    /// Whether a quantum computer is held to forge none of the signatures that
    /// proved the identity.
    pub fn is_post_quantum(&self) -> bool {
        self.scheme.is_post_quantum() && self.signer.is_post_quantum()
    }
}

/// How the keys of a connection came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// A full handshake: identities were proved by signatures.
    Full,
    /// Resumed by a ticket, whose secret stands for the identities of the
    /// connection that it came from.
    Resumed,
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
    /// How the keys came about.
    pub mode: Mode,
    /// Early data were accepted.
    pub early_data: bool,
    /// What this connection encrypts stays secret from a quantum computer: a
    /// hybrid exchange took part, here or in the connection that the ticket
    /// came from.
    pub post_quantum: bool,
    /// A hybrid exchange of this very connection is in its present keys, so that
    /// neither a stolen ticket nor a stolen ticket key opens it. False for a
    /// resumed connection until the in-band exchange is done.
    pub hybrid: bool,
    pub(crate) schedule: Schedule,
    pub(super) secrets: Wiped<LastSecrets>,
}

/// The secrets that are left when a handshake is over, but for those of packets.
pub(super) struct LastSecrets {
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
        let secret =
            self.schedule.expand(&self.secrets.exporter, "jsp1 export label", label.as_bytes());
        self.schedule.expander(&secret).fill("jsp1 export value", context.as_bytes(), out);
        Ok(())
    }

    /// The pre-shared key of a ticket with this nonce, for
    /// [`TicketContents::psk`](crate::ticket::TicketContents::psk). It binds the whole transcript.
    pub fn resumption_psk(&self, nonce: &[u8]) -> zeroize::Zeroizing<[u8; 32]> {
        let nonce = self.schedule.hash(&[nonce]);
        let mut out = zeroize::Zeroizing::new([0; 32]);
        let secret = self.schedule.expander(&self.secrets.resumption);
        secret.fill("jsp1 ticket", nonce.as_bytes(), out.as_mut_slice());
        out
    }

    /// What this connection adds to the server's floor.
    pub fn floor(&self) -> crate::identity::Floor {
        crate::identity::Floor { version: self.version, post_quantum: self.post_quantum }
    }

    /// The secret of an in-band exchange joins those that tickets come from.
    /// The exporter stays: what was bound to the connection stays bound.
    pub fn renew(&mut self, fresh: &crate::renewal::Fresh) {
        self.secrets.resumption = fresh.fold(&self.schedule, &self.secrets.resumption);
        self.post_quantum = true;
        self.hybrid = true;
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
            .field("mode", &self.mode)
            .field("early_data", &self.early_data)
            .field("hybrid", &self.hybrid)
            .finish_non_exhaustive()
    }
}
