//! The server's side.

use super::client_auth::put_client_auth;
use super::codec::Reader;
use super::config::{ClientAuth, Kem, KemPolicy, ServerConfig};
use super::error::HandshakeError;
use super::messages::{
    ClientHello, EXTENSIONS, IDENTITY, SIG_NONE, ServerHello, ext, frame, peek_kind, put_extension,
    put_protocols, read_protocols, read_versions, versions_bytes,
};
use super::proof::{self, Claim};
use super::resume::{EarlySecrets, Resumption};
use super::secrets::{Outcome, Secrets, Transcript, early_secret};
use super::security::Mode;
use super::{Level, Output, PeerIdentity, Role, State, Step, grease};
use crate::identity::SignatureScheme;
use crate::primitives::HashAlg;
use crate::rng::{self, Rng};
use crate::schedule::Schedule;
use crate::secret::{Digest, Secret32};
use crate::suite::Suite;
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// A server that has seen nothing yet.
pub(super) struct Listening {
    config: Arc<ServerConfig>,
    params: Vec<u8>,
    resumption: Option<Box<Resumption>>,
}

/// A server whose flight is out.
pub(super) struct Waiting {
    config: Arc<ServerConfig>,
    secrets: Secrets,
    transcript: Transcript,
    outcome: Outcome,
}

/// What the server takes from the client's offers.
struct Choice {
    version: u32,
    suite: Suite,
    kem: Kem,
    protocol: Option<Vec<u8>>,
}

impl Listening {
    pub(super) fn new(
        config: Arc<ServerConfig>,
        params: Vec<u8>,
        resumption: Option<Resumption>,
    ) -> Self {
        Self { config, params, resumption: resumption.map(Box::new) }
    }

    pub(super) fn read_client_hello(
        self,
        message: &[u8],
        rng: &mut dyn Rng,
        outputs: &mut VecDeque<Output>,
    ) -> Step {
        match self.answer(message, rng) {
            Ok((waiting, answer)) => {
                outputs.extend(answer);
                Step::to(State::ServerWaiting(Box::new(waiting)))
            }
            Err(error) => Step::refuse(State::Failed, error),
        }
    }

    fn answer(
        self,
        message: &[u8],
        rng: &mut dyn Rng,
    ) -> Result<(Waiting, Vec<Output>), HandshakeError> {
        let hello = ClientHello::read(message)?;
        // spec: HS-8
        let peer_params = hello
            .extensions
            .get(ext::TRANSPORT_PARAMS)
            .ok_or(HandshakeError::Malformed("client hello"))?
            .to_vec();
        let choice = self.choose(&hello)?;
        let schedule = Schedule::new(self.config.backend, choice.suite, choice.version);
        let (server_hello, kem_shared, shared) = self.exchange(&hello, &choice, rng)?;
        let mut transcript = Transcript::new(schedule, message, &server_hello);
        let kem_shared = kem_shared.as_ref().map_or(&[][..], |secret| secret.as_slice());
        let psk = self.resumption.as_ref().map(|resumption| &resumption.contents.psk);
        let early = early_secret(&schedule, psk);
        let hash = transcript.hash();
        let secrets = Secrets::new(schedule, choice.suite, &early, kem_shared, &shared, &hash);
        let flight = self.flight(&choice, &secrets, &mut transcript, rng)?;
        let mut outputs = alloc::vec![
            Output::PeerParams(peer_params),
            Output::Send { level: Level::Initial, message: server_hello },
            Output::HandshakeKeys { candidate: 0, keys: secrets.handshake_keys(Role::Server) },
            Output::Send { level: Level::Handshake, message: flight },
        ];
        let (version, suite) = (choice.version, choice.suite);
        let outcome = self.outcome(choice, hello.core.features);
        if let Some(psk) = psk.filter(|_| outcome.early_data) {
            let early = EarlySecrets::new(self.config.backend, suite, version, psk);
            outputs.push(Output::EarlyKeys(early.packet_keys(message)));
            let th = transcript.hash();
            outputs.push(Output::DataKeys(secrets.data_keys(Role::Server, &th)));
            let exporter = secrets.exporter(&th);
            // What tickets come from is not known before the client's FINISHED.
            let resumption = Digest::zero(schedule.alg.len());
            let security = secrets.security(outcome.clone(), exporter, resumption);
            outputs.push(Output::Provisional(security));
        }
        Ok((Waiting { config: self.config, secrets, transcript, outcome }, outputs))
    }

    fn outcome(&self, choice: Choice, features: u64) -> Outcome {
        let contents = self.resumption.as_ref().map(|resumption| &resumption.contents);
        let peer = contents.and_then(|contents| contents.client);
        Outcome {
            version: choice.version,
            kem: choice.kem,
            peer,
            application_protocol: choice.protocol,
            features: self.config.features & features & !super::config::features::GREASE_MASK,
            awaits_verdict: false,
            mode: if contents.is_some() { Mode::Resumed } else { Mode::Full },
            early_data: self.accepts_early(),
            post_quantum: match contents {
                Some(contents) => contents.post_quantum,
                None => choice.kem.is_post_quantum(),
            },
        }
    }

    fn accepts_early(&self) -> bool {
        self.resumption.as_ref().is_some_and(|r| r.accept_early && r.wants_early())
    }

    fn choose(&self, hello: &ClientHello<'_>) -> Result<Choice, HandshakeError> {
        let core = &hello.core;
        let version = choose_version(&self.config, hello).ok_or(HandshakeError::NoCommonVersion)?;
        self.check_versions_seen(hello)?;
        let protocols = hello.extensions.get(ext::APPLICATION_PROTOCOLS);
        let protocol = choose_protocol(&self.config, protocols)?;
        if let Some(resumption) = &self.resumption {
            let (suite, kem) = (resumption.contents.suite, Kem::TicketX25519);
            return Ok(Choice { version, suite, kem, protocol });
        }
        // spec: HS-10
        let suite = core
            .suites
            .iter()
            .filter_map(|id| Suite::from_id(*id))
            .find(|suite| self.config.suites.contains(suite))
            .ok_or(HandshakeError::NoCommonSuite)?;
        let kem = self.choose_kem(core.kems)?;
        // spec: HS-104
        if !self.config.credential.suits(|scheme| core.signatures.contains(&scheme.id())) {
            return Err(HandshakeError::NoCommonSignature);
        }
        Ok(Choice { version, suite, kem, protocol })
    }

    /// A client that was told other versions must not have been told ours: had
    /// the packet been ours, the client would never have seen it.
    fn check_versions_seen(&self, hello: &ClientHello<'_>) -> Result<(), HandshakeError> {
        let Some(seen) = hello.extensions.get(ext::VERSIONS_SEEN) else { return Ok(()) };
        let seen = read_versions(seen).ok_or(HandshakeError::Malformed("client hello"))?;
        if seen.is_empty() {
            return Ok(());
        }
        // spec: HS-12
        let known = |version: &u32| seen.contains(version);
        if self.config.versions.iter().all(known) {
            Ok(())
        } else {
            Err(HandshakeError::Downgrade("the version negotiation packet was not this server's"))
        }
    }

    fn choose_kem(&self, offered: &[u8]) -> Result<Kem, HandshakeError> {
        let both = |kem: Kem| self.config.kem.kems().contains(&kem) && offered.contains(&kem.id());
        // spec: HS-11
        if both(Kem::X25519MlKem768) {
            Ok(Kem::X25519MlKem768)
        } else if both(Kem::X25519) && self.config.kem != KemPolicy::Hybrid {
            Ok(Kem::X25519)
        } else {
            Err(HandshakeError::NoCommonKem)
        }
    }

    /// The key exchange: `(server hello, ML-KEM secret, X25519 secret)`.
    #[allow(clippy::type_complexity, reason = "three values of one step")]
    fn exchange(
        &self,
        hello: &ClientHello<'_>,
        choice: &Choice,
        rng: &mut dyn Rng,
    ) -> Result<(Vec<u8>, Option<Secret32>, Secret32), HandshakeError> {
        let primitives = self.config.backend.primitives();
        let private = super::agreement_key(primitives, rng)?;
        let shared = private.agree(&hello.core.x25519).ok_or(HandshakeError::KeyShare)?;
        let (ciphertext, kem_shared) = match choice.kem {
            Kem::X25519 | Kem::TicketX25519 => (Vec::new(), None),
            Kem::X25519MlKem768 => {
                // spec: HS-20
                let hash: [u8; 32] = HashAlg::Sha256.hash(&[hello.ek]).prefix();
                if hash != hello.core.ek_hash {
                    return Err(HandshakeError::KeyShare);
                }
                // spec: HS-17
                let (ciphertext, secret) =
                    primitives.kem_encapsulate(hello.ek, rng).ok_or(HandshakeError::KeyShare)?;
                (ciphertext, Some(secret))
            }
        };
        let message = ServerHello {
            random: rng::array(rng),
            version: choice.version,
            suite: choice.suite.id(),
            kem: choice.kem.id(),
            signature: match choice.kem {
                Kem::TicketX25519 => SIG_NONE,
                _ => self.config.credential.scheme().id(),
            },
            x25519: private.public(),
            ciphertext: &ciphertext,
        }
        .to_message()
        .ok_or(HandshakeError::Backend)?;
        Ok((message, kem_shared, shared))
    }

    fn flight(
        &self,
        choice: &Choice,
        secrets: &Secrets,
        transcript: &mut Transcript,
        rng: &mut dyn Rng,
    ) -> Result<Vec<u8>, HandshakeError> {
        let too_long = || HandshakeError::Config("the flight is longer than 12288 bytes");
        let extensions = self
            .extensions(choice, rng)
            .ok_or(HandshakeError::Config("application protocols or parameters"))?;
        let mut flight = frame(EXTENSIONS, &extensions).ok_or_else(too_long)?;
        transcript.push(&flight);
        if self.resumption.is_none() {
            proof::write_identity(Role::Server, &self.config.credential, transcript, &mut flight)?;
        }
        proof::write_finished(Role::Server, secrets, transcript, &mut flight)?;
        if flight.len() > super::messages::MAX_FLIGHT_LEN {
            return Err(too_long());
        }
        Ok(flight)
    }

    fn extensions(&self, choice: &Choice, rng: &mut dyn Rng) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        put_extension(&mut out, ext::TRANSPORT_PARAMS, &self.params)?;
        if let Some(name) = &choice.protocol {
            let mut names = Vec::new();
            put_protocols(&mut names, core::iter::once(name.as_slice()))?;
            put_extension(&mut out, ext::APPLICATION_PROTOCOLS, &names)?;
        }
        let mut versions = self.config.versions.clone();
        versions.push(grease::version(rng));
        put_extension(&mut out, ext::VERSIONS, &versions_bytes(&versions))?;
        match &self.config.client_auth {
            _ if self.resumption.is_some() => {}
            ClientAuth::None => {}
            ClientAuth::Optional(_) => put_client_auth(&mut out, 1)?,
            ClientAuth::Required(_) => put_client_auth(&mut out, 2)?,
        }
        put_extension(&mut out, ext::FEATURES, &self.config.features.to_be_bytes())?;
        if self.accepts_early() {
            put_extension(&mut out, ext::EARLY_DATA, &[])?;
        }
        put_extension(&mut out, grease::extension(rng), &[])?;
        Some(out)
    }
}

/// The client's most wanted version that the server speaks.
// spec: HS-9
pub(super) fn choose_version(config: &ServerConfig, hello: &ClientHello<'_>) -> Option<u32> {
    hello.core.versions.iter().copied().find(|version| config.versions.contains(version))
}

pub(super) fn choose_protocol(
    config: &ServerConfig,
    offered: Option<&[u8]>,
) -> Result<Option<Vec<u8>>, HandshakeError> {
    let ours = &config.application_protocols;
    let offered =
        read_protocols(offered.unwrap_or(&[])).ok_or(HandshakeError::Malformed("client hello"))?;
    if ours.is_empty() {
        return Ok(None);
    }
    // spec: HS-16
    ours.iter()
        .find(|name| offered.contains(&name.as_slice()))
        .map(|name| Some(name.clone()))
        .ok_or(HandshakeError::NoCommonProtocol)
}

impl Waiting {
    pub(super) fn read_flight(
        mut self,
        message: &[u8],
        unix_seconds: u64,
        outputs: &mut VecDeque<Output>,
    ) -> Step {
        let th = self.transcript.hash();
        match self.verify(message, unix_seconds) {
            Ok(peer) => {
                // Until now they would have been a burden: who has not proved itself has many hellos.
                if !self.outcome.early_data {
                    outputs.push_back(Output::DataKeys(self.secrets.data_keys(Role::Server, &th)));
                }
                let exporter = self.secrets.exporter(&th);
                self.outcome.peer = self.outcome.peer.or(peer);
                let resumption = self.secrets.resumption(&self.transcript.hash());
                let security = self.secrets.security(self.outcome, exporter, resumption);
                outputs.push_back(Output::Complete(security));
                Step::to(State::Done)
            }
            // Only the client of this key exchange can have sent the flight:
            // there is nothing to wait for.
            Err(error) => Step::refuse(State::Failed, error),
        }
    }

    fn verify(
        &mut self,
        message: &[u8],
        unix_seconds: u64,
    ) -> Result<Option<PeerIdentity>, HandshakeError> {
        let malformed = || HandshakeError::Malformed("client flight");
        if message.len() > super::messages::MAX_FLIGHT_LEN {
            return Err(malformed());
        }
        let mut reader = Reader::new(message);
        let claim = if peek_kind(&reader) == Some(IDENTITY) {
            Some(Claim::read(&mut reader).ok_or_else(malformed)?)
        } else {
            None
        };
        let (finished_message, finished) =
            proof::read_finished(&mut reader).ok_or_else(malformed)?;
        let signed = claim.as_ref().map(|claim| claim.add_to(&mut self.transcript));
        // spec: HS-46
        if !self.secrets.finished_matches(Role::Client, &self.transcript.hash(), finished) {
            return Err(HandshakeError::Finished);
        }
        self.transcript.push(finished_message);
        let peer = match (&claim, &signed) {
            (Some(claim), Some(signed)) => {
                let known = &SignatureScheme::ALL;
                Some(claim.verify(Role::Client, &self.secrets, signed, known, unix_seconds)?)
            }
            _ => None,
        };
        self.check_peer(peer.as_ref())?;
        Ok(peer)
    }

    fn check_peer(&self, peer: Option<&PeerIdentity>) -> Result<(), HandshakeError> {
        // The ticket has said who the client is.
        // spec: HS-79
        if self.outcome.mode == Mode::Resumed {
            return if peer.is_none() { Ok(()) } else { Err(HandshakeError::Unexpected) };
        }
        // spec: HS-48
        match (&self.config.client_auth, peer) {
            (ClientAuth::None | ClientAuth::Optional(_), None) => Ok(()),
            (ClientAuth::None, Some(_)) => Err(HandshakeError::Unexpected),
            (ClientAuth::Required(_), None) => Err(HandshakeError::ClientIdentityRequired),
            (ClientAuth::Optional(verifier) | ClientAuth::Required(verifier), Some(peer)) => {
                verifier.verify(peer).map_err(|refusal| HandshakeError::IdentityRejected(refusal.0))
            }
        }
    }
}
