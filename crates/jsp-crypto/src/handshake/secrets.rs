//! The secrets of one handshake, from key exchange to exporter.

use super::Role;
use super::security::{LastSecrets, Mode, Security};
use crate::packet::Keys;
use crate::primitives::{MacKey, RunningHash};
use crate::schedule::{DataKeys, Pair, Schedule};
use crate::secret::{Digest, constant_time_eq};
use crate::suite::Suite;
use crate::wiped::Wiped;
use alloc::vec::Vec;

/// The hash of the messages so far, in wire form and order.
#[derive(Clone)]
pub(super) struct Transcript(RunningHash);

impl Transcript {
    pub(super) fn new(schedule: Schedule, client_hello: &[u8], server_hello: &[u8]) -> Self {
        // spec: HS-29
        let mut hash = RunningHash::new(schedule.alg);
        hash.add(client_hello);
        hash.add(server_hello);
        Self(hash)
    }

    pub(super) fn push(&mut self, message: &[u8]) {
        self.0.add(message);
    }

    pub(super) fn hash(&self) -> Digest {
        self.0.digest()
    }
}

/// What follows from the key exchange and both hellos.
pub(super) struct Secrets {
    pub(super) schedule: Schedule,
    pub(super) suite: Suite,
    roots: Wiped<Roots>,
}

/// What keys are derived from, at a place of their own.
struct Roots {
    client: Digest,
    server: Digest,
    master: Digest,
}

impl Secrets {
    /// `early` is that of [`early_secret`]. `kem` is empty when X25519 is used
    /// alone. `transcript` is the hash over both hellos.
    pub(super) fn new(
        schedule: Schedule,
        suite: Suite,
        early: &Digest,
        kem: &[u8],
        x25519: &[u8; 32],
        transcript: &Digest,
    ) -> Self {
        // spec: HS-32
        let th = transcript.as_bytes();
        let zero = Digest::zero(schedule.alg.len());
        let salt = schedule.expand(early, "jsp1 derived", th);
        let handshake = schedule.extract(&salt, &[kem, x25519]);
        let handshake = schedule.expander(&handshake);
        let salt = handshake.secret("jsp1 derived", th);
        let roots = Roots {
            client: handshake.secret("jsp1 client handshake", th),
            server: handshake.secret("jsp1 server handshake", th),
            master: schedule.extract(&salt, &[zero.as_bytes()]),
        };
        Self { schedule, suite, roots: Wiped::new(roots) }
    }

    pub(super) fn handshake_keys(&self, role: Role) -> Keys {
        let pair = Pair::new(role, self.roots.client.clone(), self.roots.server.clone());
        self.schedule.keys(self.suite, &pair)
    }

    /// The Finished value of `sender` over a transcript hash.
    pub(super) fn finished(&self, sender: Role, transcript: &Digest) -> Digest {
        // spec: HS-36
        let (secret, label) = match sender {
            Role::Client => (&self.roots.client, "jsp1 client finished"),
            Role::Server => (&self.roots.server, "jsp1 server finished"),
        };
        let key = self.schedule.expand(secret, label, &[]);
        MacKey::new(self.schedule.alg, key.as_bytes()).mac(&[transcript.as_bytes()])
    }

    pub(super) fn finished_matches(&self, sender: Role, transcript: &Digest, value: &[u8]) -> bool {
        // spec: HS-33
        constant_time_eq(self.finished(sender, transcript).as_bytes(), value)
    }

    /// `transcript` is the hash up to and with the server's Finished.
    pub(super) fn data_keys(&self, role: Role, transcript: &Digest) -> DataKeys {
        // spec: HS-37
        let th = transcript.as_bytes();
        let master = self.schedule.expander(&self.roots.master);
        let client = master.secret("jsp1 client data", th);
        let server = master.secret("jsp1 server data", th);
        DataKeys::new(self.schedule, self.suite, Pair::new(role, client, server))
    }

    /// `transcript` is the hash up to and with the server's Finished.
    pub(super) fn exporter(&self, transcript: &Digest) -> Digest {
        self.schedule.expand(&self.roots.master, "jsp1 exporter", transcript.as_bytes())
    }

    /// `transcript` is the hash up to and with the client's Finished.
    pub(super) fn resumption(&self, transcript: &Digest) -> Digest {
        self.schedule.expand(&self.roots.master, "jsp1 resumption", transcript.as_bytes())
    }

    /// Joins the negotiated values with the last secrets.
    pub(super) fn security(
        &self,
        outcome: Outcome,
        exporter: Digest,
        resumption: Digest,
    ) -> Security {
        Security {
            version: outcome.version,
            suite: self.suite,
            kem: outcome.kem,
            peer: outcome.peer,
            application_protocol: outcome.application_protocol,
            features: outcome.features,
            awaits_verdict: outcome.awaits_verdict,
            mode: outcome.mode,
            early_data: outcome.early_data,
            post_quantum: outcome.post_quantum,
            hybrid: outcome.kem.is_post_quantum(),
            schedule: self.schedule,
            secrets: Wiped::new(LastSecrets { exporter, resumption }),
        }
    }
}

/// The secret that the schedule starts from: without a ticket, zeros stand for its key.
pub(super) fn early_secret(schedule: &Schedule, psk: Option<&[u8; 32]>) -> Digest {
    let zero = Digest::zero(schedule.alg.len());
    match psk {
        Some(psk) => schedule.extract(&zero, &[psk]),
        None => schedule.extract(&zero, &[zero.as_bytes()]),
    }
}

/// The public part of what a handshake has established.
#[derive(Clone)]
pub(super) struct Outcome {
    pub(super) version: u32,
    pub(super) kem: super::Kem,
    pub(super) peer: Option<super::PeerIdentity>,
    pub(super) application_protocol: Option<Vec<u8>>,
    pub(super) features: u64,
    pub(super) awaits_verdict: bool,
    pub(super) mode: Mode,
    pub(super) early_data: bool,
    pub(super) post_quantum: bool,
}
