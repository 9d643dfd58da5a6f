//! The client's side.

use super::codec::Reader;
use super::config::{ClientConfig, Kem, ServerIdentity, features};
use super::error::HandshakeError;
use super::messages::{
    CLIENT_HELLO, Core, EXTENSIONS, Extensions, SIG_ED25519, ServerHello, ext, frame,
    put_extension, put_protocols, read_protocols, read_versions, unframe, versions_bytes,
};
use super::proof::{self, Claim};
use super::secrets::{Outcome, Secrets, Transcript};
use super::{Level, Output, PeerIdentity, Role, State, Step, grease};
use crate::primitives::{CT_LEN, Decapsulate, HashAlg};
use crate::rng::{self, Rng};
use crate::schedule::Schedule;
use crate::secret::{Digest, Secret32};
use crate::suite::Suite;
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;
use zeroize::Zeroizing;

/// How many different server hellos a client tries for one hello of its own:
/// four wrong ones and the right one.
pub const MAX_CANDIDATES: usize = 5;

/// A client whose hello is out. The hello and its keys never change; server
/// hellos only add candidates, until one of them commits.
pub(super) struct Waiting {
    config: Arc<ClientConfig>,
    hello: Vec<u8>,
    private: Secret32,
    decapsulation: Option<Box<dyn Decapsulate>>,
    candidates: Vec<Candidate>,
    rejection: Option<HandshakeError>,
}

/// One server hello with the secrets it leads to. A candidate whose flight was
/// refused keeps its place without secrets, so that it cannot come back.
struct Candidate {
    message: Vec<u8>,
    version: u32,
    kem: Kem,
    secrets: Option<Secrets>,
}

/// A server flight taken apart.
struct Flight<'a> {
    extensions_message: &'a [u8],
    extensions: &'a [u8],
    claim: Claim<'a>,
    finished_message: &'a [u8],
    finished: &'a [u8],
}

/// What the server's extensions say.
struct ServerExtensions {
    params: Vec<u8>,
    protocol: Option<Vec<u8>>,
    features: u64,
    client_auth: Option<ClientAuthRequest>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum ClientAuthRequest {
    Optional,
    Required,
}

impl Waiting {
    pub(super) fn start(
        config: Arc<ClientConfig>,
        transport_params: &[u8],
        versions_seen: &[u32],
        rng: &mut dyn Rng,
        outputs: &mut VecDeque<Output>,
    ) -> Result<Self, HandshakeError> {
        let primitives = config.backend.primitives();
        let private: Secret32 = Zeroizing::new(rng::array(rng));
        let public = primitives.x25519_public(&private).ok_or(HandshakeError::Backend)?;
        let (decapsulation, ek) = if config.kem.kems().contains(&Kem::X25519MlKem768) {
            let (key, ek) = primitives.kem_generate(rng).ok_or(HandshakeError::Backend)?;
            (Some(key), ek)
        } else {
            (None, Vec::new())
        };
        let hello = write_hello(&config, &public, &ek, transport_params, versions_seen, rng)?;
        outputs.push_back(Output::Send { level: Level::Initial, message: hello.clone() });
        Ok(Self { config, hello, private, decapsulation, candidates: Vec::new(), rejection: None })
    }

    pub(super) fn live_candidates(&self) -> usize {
        self.candidates.iter().filter(|candidate| candidate.secrets.is_some()).count()
    }

    pub(super) fn last_rejection(&self) -> Option<&HandshakeError> {
        self.rejection.as_ref()
    }

    /// Adds a candidate. Whatever is wrong with the message, the client goes
    /// on waiting: it may come from anybody.
    pub(super) fn read_server_hello(
        mut self: Box<Self>,
        message: &[u8],
        outputs: &mut VecDeque<Output>,
    ) -> Step {
        // spec: HS-42
        match self.candidate(message) {
            Ok((candidate, keys)) => {
                let index = u8::try_from(self.candidates.len()).unwrap_or(u8::MAX);
                self.candidates.push(candidate);
                outputs.push_back(Output::HandshakeKeys { candidate: index, keys });
                Step::to(State::ClientWaiting(self))
            }
            Err(error) => Step::refuse(State::ClientWaiting(self), error),
        }
    }

    fn candidate(
        &self,
        message: &[u8],
    ) -> Result<(Candidate, crate::packet::Keys), HandshakeError> {
        if self.candidates.iter().any(|known| known.message == message) {
            return Err(HandshakeError::Duplicate);
        }
        // spec: HS-43
        if self.candidates.len() >= MAX_CANDIDATES {
            return Err(HandshakeError::TooManyCandidates);
        }
        let hello = ServerHello::read(message).ok_or(HandshakeError::Malformed("server hello"))?;
        let (suite, kem) = self.check_choice(&hello)?;
        let primitives = self.config.backend.primitives();
        let shared =
            primitives.x25519(&self.private, &hello.x25519).ok_or(HandshakeError::KeyShare)?;
        let kem_shared = self.decapsulate(kem, hello.ciphertext)?;
        let kem_shared = kem_shared.as_ref().map_or(&[][..], |secret| secret.as_slice());
        let schedule = Schedule::new(self.config.backend, suite, hello.version);
        let th = Transcript::new(schedule, &self.hello, message).hash();
        let secrets = Secrets::new(schedule, suite, kem_shared, &shared, &th);
        let keys = secrets.handshake_keys(Role::Client);
        let message = message.to_vec();
        let version = hello.version;
        Ok((Candidate { message, version, kem, secrets: Some(secrets) }, keys))
    }

    /// Whether everything chosen was offered, and nothing is below the floor.
    fn check_choice(&self, hello: &ServerHello<'_>) -> Result<(Suite, Kem), HandshakeError> {
        // spec: HS-13
        let suite = Suite::from_id(hello.suite)
            .filter(|suite| self.config.suites.contains(suite))
            .ok_or(HandshakeError::NotOffered("cipher suite"))?;
        let kem = Kem::from_id(hello.kem)
            .filter(|kem| self.config.kem.kems().contains(kem))
            .ok_or(HandshakeError::NotOffered("key exchange"))?;
        if hello.signature != SIG_ED25519 {
            return Err(HandshakeError::NotOffered("signature scheme"));
        }
        if !self.config.versions.contains(&hello.version) {
            return Err(HandshakeError::NotOffered("version"));
        }
        // spec: HS-14
        if hello.version < self.config.floor.version {
            return Err(HandshakeError::Downgrade("an older version than this server had before"));
        }
        if self.config.floor.post_quantum && !kem.is_post_quantum() {
            return Err(HandshakeError::Downgrade(
                "this server had a post-quantum exchange before",
            ));
        }
        Ok((suite, kem))
    }

    fn decapsulate(&self, kem: Kem, ciphertext: &[u8]) -> Result<Option<Secret32>, HandshakeError> {
        // spec: HS-17
        match kem {
            Kem::X25519 if ciphertext.is_empty() => Ok(None),
            Kem::X25519MlKem768 if ciphertext.len() == CT_LEN => {
                let key = self.decapsulation.as_ref().ok_or(HandshakeError::KeyShare)?;
                Ok(Some(key.decapsulate(ciphertext).ok_or(HandshakeError::KeyShare)?))
            }
            _ => Err(HandshakeError::KeyShare),
        }
    }

    /// Finds the candidate whose keys the flight's Finished proves, then
    /// checks everything else. A refused flight burns its candidate and
    /// nothing more.
    pub(super) fn read_flight(
        mut self: Box<Self>,
        message: &[u8],
        unix_seconds: u64,
        outputs: &mut VecDeque<Output>,
    ) -> Step {
        let Some(flight) = Flight::read(message) else {
            let malformed = HandshakeError::Malformed("server flight");
            return Step::refuse(State::ClientWaiting(self), malformed);
        };
        let Some((index, secrets, transcript, signed)) = self.match_finished(&flight) else {
            return Step::refuse(State::ClientWaiting(self), HandshakeError::Finished);
        };
        match self.accept(index, &secrets, &flight, &signed, unix_seconds) {
            Ok((extensions, peer)) => {
                let Some(candidate) = self.candidates.get(index) else {
                    return Step::refuse(State::Failed, HandshakeError::Failed);
                };
                let outcome = Outcome {
                    version: candidate.version,
                    kem: candidate.kem,
                    peer: Some(peer),
                    application_protocol: extensions.protocol.clone(),
                    features: extensions.features & self.config.features,
                    awaits_verdict: self.shows_identity(&extensions),
                };
                let index = u8::try_from(index).unwrap_or(u8::MAX);
                match self.finish(index, &secrets, transcript, extensions, outcome, outputs) {
                    Ok(()) => Step::to(State::Done),
                    Err(error) => Step::refuse(State::Failed, error),
                }
            }
            Err(error) => {
                // spec: HS-44
                self.rejection = Some(error.clone());
                Step::refuse(State::ClientWaiting(self), error)
            }
        }
    }

    /// Takes the secrets out of the candidate that the Finished value fits,
    /// with the transcript through Finished and the hash that was signed.
    fn match_finished(
        &mut self,
        flight: &Flight<'_>,
    ) -> Option<(usize, Secrets, Transcript, Digest)> {
        for (index, candidate) in self.candidates.iter_mut().enumerate() {
            let Some(secrets) = &candidate.secrets else { continue };
            let mut transcript = Transcript::new(secrets.schedule, &self.hello, &candidate.message);
            transcript.push(flight.extensions_message);
            let signed = flight.claim.add_to(&mut transcript);
            if secrets.finished_matches(Role::Server, &transcript.hash(), flight.finished) {
                transcript.push(flight.finished_message);
                return Some((index, candidate.secrets.take()?, transcript, signed));
            }
        }
        None
    }

    fn accept(
        &self,
        index: usize,
        secrets: &Secrets,
        flight: &Flight<'_>,
        signed: &Digest,
        unix_seconds: u64,
    ) -> Result<(ServerExtensions, PeerIdentity), HandshakeError> {
        let peer = flight.claim.verify(Role::Server, secrets, signed, unix_seconds)?;
        self.check_identity(&peer)?;
        let version = self.candidates.get(index).ok_or(HandshakeError::Failed)?.version;
        let extensions = self.read_extensions(flight.extensions, version)?;
        let wanted = extensions.client_auth == Some(ClientAuthRequest::Required);
        if wanted && self.config.credential.is_none() {
            return Err(HandshakeError::ClientIdentityRequired);
        }
        Ok((extensions, peer))
    }

    fn check_identity(&self, peer: &PeerIdentity) -> Result<(), HandshakeError> {
        match &self.config.expected {
            // spec: HS-57
            ServerIdentity::Pinned(pin) if *pin == peer.fingerprint => Ok(()),
            ServerIdentity::Pinned(pin) => {
                Err(HandshakeError::PinMismatch { expected: *pin, found: peer.fingerprint })
            }
            // spec: HS-58
            ServerIdentity::TrustOnFirstUse(verifier) => verifier
                .verify(&peer.identity, &peer.fingerprint)
                .map_err(|refusal| HandshakeError::IdentityRejected(refusal.0)),
            ServerIdentity::AnyInsecure => Ok(()),
        }
    }

    fn read_extensions(
        &self,
        bytes: &[u8],
        version: u32,
    ) -> Result<ServerExtensions, HandshakeError> {
        const WHAT: &str = "server extensions";
        const KNOWN: [u16; 5] = [
            ext::TRANSPORT_PARAMS,
            ext::APPLICATION_PROTOCOLS,
            ext::VERSIONS,
            ext::CLIENT_AUTH,
            ext::FEATURES,
        ];
        let malformed = || HandshakeError::Malformed(WHAT);
        let list = Extensions::read(bytes, &KNOWN, WHAT)?;
        // spec: HS-8
        let params = list.get(ext::TRANSPORT_PARAMS).ok_or_else(malformed)?.to_vec();
        let features = list.get(ext::FEATURES).ok_or_else(malformed)?;
        let features = u64::from_be_bytes(features.try_into().map_err(|_| malformed())?);
        let versions = list.get(ext::VERSIONS).and_then(read_versions).ok_or_else(malformed)?;
        // spec: HS-15
        let best = self.config.versions.iter().find(|version| versions.contains(version));
        if best != Some(&version) {
            return Err(HandshakeError::Downgrade("both sides know a better version"));
        }
        let client_auth = match list.get(ext::CLIENT_AUTH) {
            None => None,
            Some([1]) => Some(ClientAuthRequest::Optional),
            Some([2]) => Some(ClientAuthRequest::Required),
            Some(_) => return Err(malformed()),
        };
        let protocol = self.read_protocol(list.get(ext::APPLICATION_PROTOCOLS))?;
        Ok(ServerExtensions { params, protocol, features, client_auth })
    }

    fn read_protocol(&self, chosen: Option<&[u8]>) -> Result<Option<Vec<u8>>, HandshakeError> {
        let Some(chosen) = chosen else { return Ok(None) };
        let names = read_protocols(chosen).ok_or(HandshakeError::Malformed("server extensions"))?;
        // spec: HS-16
        match names.as_slice() {
            [name] if self.config.application_protocols.iter().any(|ours| ours == name) => {
                Ok(Some(name.to_vec()))
            }
            _ => Err(HandshakeError::NotOffered("application protocol")),
        }
    }

    // spec: HS-47
    fn shows_identity(&self, extensions: &ServerExtensions) -> bool {
        extensions.client_auth.is_some() && self.config.credential.is_some()
    }

    fn finish(
        &self,
        candidate: u8,
        secrets: &Secrets,
        mut transcript: Transcript,
        extensions: ServerExtensions,
        outcome: Outcome,
        outputs: &mut VecDeque<Output>,
    ) -> Result<(), HandshakeError> {
        let server_finished = transcript.hash();
        let mut message = Vec::new();
        if self.shows_identity(&extensions)
            && let Some(credential) = &self.config.credential
        {
            proof::write_identity(Role::Client, credential, &mut transcript, &mut message)?;
        }
        proof::write_finished(Role::Client, secrets, &mut transcript, &mut message)?;
        let exporter = secrets.exporter(&server_finished);
        let resumption = secrets.resumption(&transcript.hash());
        outputs.push_back(Output::Committed { candidate });
        outputs.push_back(Output::PeerParams(extensions.params));
        outputs.push_back(Output::Send { level: Level::Handshake, message });
        outputs.push_back(Output::DataKeys(secrets.data_keys(Role::Client, &server_finished)));
        outputs.push_back(Output::Complete(secrets.security(outcome, exporter, resumption)));
        Ok(())
    }
}

impl<'a> Flight<'a> {
    fn read(message: &'a [u8]) -> Option<Self> {
        if message.len() > super::messages::MAX_MESSAGE_LEN {
            return None;
        }
        let mut reader = Reader::new(message);
        let (extensions_message, extensions) = unframe(&mut reader, EXTENSIONS)?;
        let claim = Claim::read(&mut reader)?;
        let (finished_message, finished) = proof::read_finished(&mut reader)?;
        Some(Self { extensions_message, extensions, claim, finished_message, finished })
    }
}

fn write_hello(
    config: &ClientConfig,
    x25519: &[u8; 32],
    ek: &[u8],
    params: &[u8],
    versions_seen: &[u32],
    rng: &mut dyn Rng,
) -> Result<Vec<u8>, HandshakeError> {
    let ek_hash = if ek.is_empty() {
        [0; 32]
    } else {
        config.backend.primitives().hash(HashAlg::Sha256, &[ek]).prefix()
    };
    if config.versions.is_empty() || config.suites.is_empty() {
        return Err(HandshakeError::Config("no version or no cipher suite"));
    }
    // spec: HS-7
    let mut versions = config.versions.clone();
    versions.push(grease::version(rng));
    let mut suites: Vec<u8> = config.suites.iter().map(|suite| suite.id()).collect();
    suites.push(grease::id8(rng));
    let mut kems: Vec<u8> = config.kem.kems().iter().map(|kem| kem.id()).collect();
    kems.push(grease::id8(rng));
    let core = Core {
        random: rng::array(rng),
        versions,
        suites: &suites,
        kems: &kems,
        signatures: &[SIG_ED25519, grease::id8(rng)],
        x25519: *x25519,
        ek_hash,
        features: (config.features & !features::GREASE_MASK)
            | (u64::from_be_bytes(rng::array(rng)) & features::GREASE_MASK),
    };
    let too_long = || HandshakeError::Config("the hello is longer than 4096 bytes");
    let mut body = Vec::with_capacity(1500);
    core.write(&mut body).ok_or_else(too_long)?;
    let extensions = write_extensions(config, params, versions_seen, rng)
        .ok_or(HandshakeError::Config("application protocols or parameters"))?;
    super::codec::put_vec16(&mut body, &extensions).ok_or_else(too_long)?;
    super::codec::put_vec16(&mut body, ek).ok_or_else(too_long)?;
    let message = frame(CLIENT_HELLO, &body).ok_or_else(too_long)?;
    // spec: HS-1
    if message.len() > super::messages::MAX_MESSAGE_LEN {
        return Err(too_long());
    }
    Ok(message)
}

fn write_extensions(
    config: &ClientConfig,
    params: &[u8],
    versions_seen: &[u32],
    rng: &mut dyn Rng,
) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    put_extension(&mut out, ext::TRANSPORT_PARAMS, params)?;
    if !config.application_protocols.is_empty() {
        let mut names = Vec::new();
        let noise = grease::protocol(rng);
        let ours = config.application_protocols.iter().map(Vec::as_slice);
        put_protocols(&mut names, ours.chain(core::iter::once(noise.as_slice())))?;
        put_extension(&mut out, ext::APPLICATION_PROTOCOLS, &names)?;
    }
    put_extension(&mut out, ext::VERSIONS_SEEN, &versions_bytes(versions_seen))?;
    let [len] = rng::array::<1>(rng);
    let noise = alloc::vec![0; usize::from(len & 7)];
    put_extension(&mut out, grease::extension(rng), &noise)?;
    Some(out)
}
