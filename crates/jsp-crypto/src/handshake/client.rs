//! The client's side.

use super::client_auth::ClientAuthRequest;
use super::config::{ClientConfig, Kem, ServerIdentity};
use super::error::HandshakeError;
use super::flight::Flight;
use super::key_share::KeyShare;
use super::messages::{Extensions, SIG_NONE, ServerHello, ext, read_protocols, read_versions};
use super::offer::{Offer, OfferedTicket};
use super::proof;
use super::secrets::{Outcome, Secrets, Transcript, early_secret};
use super::security::Mode;
use super::{Level, Output, PeerIdentity, Role, State, Step};
use crate::client_ticket::ClientTicket;
use crate::identity::Credential;
use crate::rng::Rng;
use crate::schedule::Schedule;
use crate::secret::Digest;
use crate::suite::Suite;
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// How many different server hellos a client tries for one hello of its own:
/// four wrong ones and the right one.
pub const MAX_CANDIDATES: usize = 5;

/// A client whose hello is out. A hello and its keys never change; server
/// hellos only add candidates, until one of them commits.
pub(super) struct Waiting {
    config: Arc<ClientConfig>,
    params: Vec<u8>,
    /// The hello, and a full one besides when the server cannot use its ticket.
    offers: Vec<Offer>,
    candidates: Vec<Candidate>,
    rejection: Option<HandshakeError>,
}

/// One server hello with the secrets it leads to. A candidate whose flight was
/// refused keeps its place without secrets, so that it cannot come back.
struct Candidate {
    message: Vec<u8>,
    /// Which hello it answers.
    offer: usize,
    version: u32,
    kem: Kem,
    signature: u8,
    /// Through both hellos.
    transcript: Transcript,
    secrets: Option<Secrets>,
}

/// What the server's extensions say.
struct ServerExtensions {
    params: Vec<u8>,
    protocol: Option<Vec<u8>>,
    features: u64,
    client_auth: Option<ClientAuthRequest>,
    early_data: bool,
}

impl Waiting {
    pub(super) fn start(
        config: Arc<ClientConfig>,
        transport_params: &[u8],
        versions_seen: &[u32],
        share: Option<KeyShare>,
        rng: &mut dyn Rng,
        outputs: &mut VecDeque<Output>,
    ) -> Result<Self, HandshakeError> {
        config.check()?;
        let share = match share.filter(|share| share.suits(&config)) {
            Some(share) => share,
            None => KeyShare::for_client(&config, rng)?,
        };
        let offer = Offer::full(&config, transport_params, versions_seen, share, None, rng)?;
        let message = offer.hello.clone();
        outputs.push_back(Output::Send { level: Level::Initial, message });
        let params = transport_params.to_vec();
        let offers = alloc::vec![offer];
        Ok(Self { config, params, offers, candidates: Vec::new(), rejection: None })
    }

    pub(super) fn resume(
        config: Arc<ClientConfig>,
        ticket: ClientTicket,
        early: bool,
        transport_params: &[u8],
        now_ms: u64,
        rng: &mut dyn Rng,
        outputs: &mut VecDeque<Output>,
    ) -> Result<Self, HandshakeError> {
        config.check()?;
        let early = early && ticket.max_early_data > 0;
        let offer = Offer::resuming(&config, ticket, early, transport_params, now_ms, rng)?;
        let message = offer.hello.clone();
        outputs.push_back(Output::Send { level: Level::Initial, message });
        if let (true, Some(ticket)) = (early, &offer.ticket) {
            outputs.push_back(Output::EarlyKeys(ticket.secrets.packet_keys(&offer.hello)));
        }
        let params = transport_params.to_vec();
        let offers = alloc::vec![offer];
        Ok(Self { config, params, offers, candidates: Vec::new(), rejection: None })
    }

    pub(super) fn is_resuming(&self) -> bool {
        self.offers.first().is_some_and(|offer| offer.ticket.is_some())
    }

    // spec: HS-71
    pub(super) fn fall_back(
        &mut self,
        rng: &mut dyn Rng,
        outputs: &mut VecDeque<Output>,
    ) -> Result<bool, HandshakeError> {
        let [Offer { ticket: Some(ticket), .. }] = self.offers.as_slice() else {
            return Ok(false);
        };
        // spec: HS-76
        let refused = ticket.early.then_some(ticket.ticket.ticket.as_slice());
        let share = KeyShare::for_client(&self.config, rng)?;
        let offer = Offer::full(&self.config, &self.params, &[], share, refused, rng)?;
        let message = offer.hello.clone();
        self.offers.push(offer);
        outputs.push_back(Output::Send { level: Level::Initial, message });
        Ok(true)
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
            Err(error) => {
                if error == HandshakeError::PostQuantumRequired {
                    self.rejection = Some(error.clone());
                }
                Step::refuse(State::ClientWaiting(self), error)
            }
        }
    }

    fn candidate(
        &self,
        message: &[u8],
    ) -> Result<(Candidate, crate::packet::Keys), HandshakeError> {
        if self.candidates.iter().any(|known| known.message == message) {
            return Err(HandshakeError::Duplicate);
        }
        let hello = ServerHello::read(message).ok_or(HandshakeError::Malformed("server hello"))?;
        let resumes = hello.kem == Kem::TicketX25519.id();
        let place = self.offers.iter().position(|offer| offer.ticket.is_some() == resumes);
        let (place, offer) = place
            .and_then(|place| Some((place, self.offers.get(place)?)))
            .ok_or(HandshakeError::NotOffered("key exchange"))?;
        // spec: HS-43
        let tried = self.candidates.iter().filter(|candidate| candidate.offer == place).count();
        if tried >= MAX_CANDIDATES {
            return Err(HandshakeError::TooManyCandidates);
        }
        let (suite, kem) = self.check_choice(&hello, offer.ticket.as_deref())?;
        let shared = offer.private.agree(&hello.x25519).ok_or(HandshakeError::KeyShare)?;
        let kem_shared = offer.decapsulate(kem, hello.ciphertext)?;
        let kem_shared = kem_shared.as_ref().map_or(&[][..], |secret| secret.as_slice());
        let schedule = Schedule::new(self.config.backend, suite, hello.version);
        let transcript = Transcript::new(schedule, &offer.hello, message);
        let early = match &offer.ticket {
            Some(ticket) => ticket.secrets.secret().clone(),
            None => early_secret(&schedule, None),
        };
        let secrets =
            Secrets::new(schedule, suite, &early, kem_shared, &shared, &transcript.hash());
        let keys = secrets.handshake_keys(Role::Client);
        let candidate = Candidate {
            message: message.to_vec(),
            offer: place,
            version: hello.version,
            kem,
            signature: hello.signature,
            transcript,
            secrets: Some(secrets),
        };
        Ok((candidate, keys))
    }

    /// Whether everything chosen was offered, and nothing is below the floor.
    fn check_choice(
        &self,
        hello: &ServerHello<'_>,
        ticket: Option<&OfferedTicket>,
    ) -> Result<(Suite, Kem), HandshakeError> {
        if let Some(OfferedTicket { ticket, .. }) = ticket {
            // spec: HS-78
            let same = hello.version == ticket.version && hello.suite == ticket.suite.id();
            let same = same && hello.signature == SIG_NONE;
            return same
                .then_some((ticket.suite, Kem::TicketX25519))
                .ok_or(HandshakeError::NotOffered("other parameters than the ticket's"));
        }
        // spec: HS-13
        let suite = Suite::from_id(hello.suite)
            .filter(|suite| self.config.suites.contains(suite))
            .ok_or(HandshakeError::NotOffered("cipher suite"))?;
        let kem = Kem::from_id(hello.kem)
            .filter(|kem| self.config.kem.kems().contains(kem))
            .ok_or(HandshakeError::NotOffered("key exchange"))?;
        let mut schemes = self.config.signatures.schemes().iter();
        if !schemes.any(|scheme| scheme.id() == hello.signature) {
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
        if self.config.require_pq && !kem.is_post_quantum() {
            return Err(HandshakeError::PostQuantumRequired);
        }
        Ok((suite, kem))
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
        match self.accept(index, &secrets, &flight, signed.as_ref(), unix_seconds) {
            Ok((extensions, peer)) => {
                let Some(outcome) = self.outcome(index, &extensions, peer) else {
                    return Step::refuse(State::Failed, HandshakeError::Failed);
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

    fn outcome(
        &self,
        index: usize,
        extensions: &ServerExtensions,
        peer: PeerIdentity,
    ) -> Option<Outcome> {
        let candidate = self.candidates.get(index)?;
        let ticket = self.offers.get(candidate.offer)?.ticket.as_deref();
        Some(Outcome {
            version: candidate.version,
            kem: candidate.kem,
            peer: Some(peer),
            application_protocol: extensions.protocol.clone(),
            features: extensions.features & self.config.features,
            awaits_verdict: self.identity_to_show(extensions).is_some(),
            mode: if ticket.is_some() { Mode::Resumed } else { Mode::Full },
            early_data: extensions.early_data,
            post_quantum: match ticket {
                Some(offered) => offered.ticket.post_quantum,
                None => candidate.kem.is_post_quantum(),
            },
        })
    }

    /// Takes the secrets out of the candidate that the Finished value fits,
    /// with the transcript through Finished and the hash that was signed.
    fn match_finished(
        &mut self,
        flight: &Flight<'_>,
    ) -> Option<(usize, Secrets, Transcript, Option<Digest>)> {
        for (index, candidate) in self.candidates.iter_mut().enumerate() {
            let Some(secrets) = &candidate.secrets else { continue };
            let mut transcript = candidate.transcript.clone();
            transcript.push(flight.extensions_message);
            let signed = flight.claim.as_ref().map(|claim| claim.add_to(&mut transcript));
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
        signed: Option<&Digest>,
        unix_seconds: u64,
    ) -> Result<(ServerExtensions, PeerIdentity), HandshakeError> {
        let candidate = self.candidates.get(index).ok_or(HandshakeError::Failed)?;
        let offer = self.offers.get(candidate.offer).ok_or(HandshakeError::Failed)?;
        let peer = match (&offer.ticket, &flight.claim, signed) {
            // Whoever holds the ticket's secret is the server that it came from.
            // spec: HS-79
            (Some(offered), None, _) => offered.ticket.peer,
            (None, Some(claim), Some(signed)) => {
                let known = self.config.signatures.schemes();
                let peer = claim.verify(Role::Server, secrets, signed, known, unix_seconds)?;
                // spec: HS-106
                if peer.signer.id() != candidate.signature {
                    return Err(HandshakeError::Malformed("identity"));
                }
                peer
            }
            _ => return Err(HandshakeError::Malformed("server flight")),
        };
        check_identity(&self.config, &peer)?;
        let extensions = self.read_extensions(flight.extensions, candidate.version)?;
        let has_early = offer.ticket.as_ref().is_some_and(|offered| offered.early);
        let wrong_early = extensions.early_data && !has_early;
        if wrong_early || (offer.ticket.is_some() && extensions.client_auth.is_some()) {
            return Err(HandshakeError::Malformed("server extensions"));
        }
        self.check_early_protocol(&extensions)?;
        let is_required = extensions.client_auth.as_ref().is_some_and(|request| request.required);
        if is_required && self.identity_to_show(&extensions).is_none() {
            return Err(HandshakeError::ClientIdentityRequired);
        }
        Ok((extensions, peer))
    }

    /// What was sent early is sent again where it was refused: never to
    /// another application protocol than it was meant for.
    // spec: HS-77
    fn check_early_protocol(&self, extensions: &ServerExtensions) -> Result<(), HandshakeError> {
        let other = |offered: &OfferedTicket| {
            offered.early && offered.ticket.protocol != extensions.protocol
        };
        let is_other = self.offers.iter().filter_map(|offer| offer.ticket.as_deref()).any(other);
        if is_other { Err(HandshakeError::OtherProtocol) } else { Ok(()) }
    }

    fn read_extensions(
        &self,
        bytes: &[u8],
        version: u32,
    ) -> Result<ServerExtensions, HandshakeError> {
        const WHAT: &str = "server extensions";
        const KNOWN: [u16; 6] = [
            ext::TRANSPORT_PARAMS,
            ext::APPLICATION_PROTOCOLS,
            ext::VERSIONS,
            ext::CLIENT_AUTH,
            ext::FEATURES,
            ext::EARLY_DATA,
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
            Some(body) => Some(ClientAuthRequest::read(body).ok_or_else(malformed)?),
        };
        let protocol = self.read_protocol(list.get(ext::APPLICATION_PROTOCOLS))?;
        let early_data = match list.get(ext::EARLY_DATA) {
            None => false,
            Some([]) => true,
            Some(_) => return Err(malformed()),
        };
        Ok(ServerExtensions { params, protocol, features, client_auth, early_data })
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

    /// The identity that a server which asks for one is shown: one that it can verify.
    // spec: HS-47
    fn identity_to_show(&self, extensions: &ServerExtensions) -> Option<&Credential> {
        let request = extensions.client_auth.as_ref()?;
        let credential = self.config.credential.as_ref()?;
        request.suits(credential).then_some(credential)
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
        if let Some(credential) = self.identity_to_show(&extensions) {
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

/// Whether a client with this configuration may use the ticket now.
pub(super) fn accepts_ticket(config: &ClientConfig, ticket: &ClientTicket, now_ms: u64) -> bool {
    let peer = &ticket.peer;
    let is_expected = match &config.expected {
        // Nothing is proved yet.
        // spec: HS-58
        ServerIdentity::TrustOnFirstUse(verifier) => verifier.would_accept(&peer.fingerprint),
        ServerIdentity::Pinned(_) | ServerIdentity::AnyInsecure => {
            check_identity(config, peer).is_ok()
        }
    };
    is_expected && ticket.is_valid_at(now_ms) && ticket.suits(config)
}

fn check_identity(config: &ClientConfig, peer: &PeerIdentity) -> Result<(), HandshakeError> {
    match &config.expected {
        // spec: HS-57
        ServerIdentity::Pinned(pin) if *pin == peer.fingerprint => Ok(()),
        ServerIdentity::Pinned(pin) => {
            Err(HandshakeError::PinMismatch { expected: *pin, found: peer.fingerprint })
        }
        // spec: HS-58
        ServerIdentity::TrustOnFirstUse(verifier) => verifier
            .verify(&peer.fingerprint)
            .map_err(|refusal| HandshakeError::IdentityRejected(refusal.0)),
        ServerIdentity::AnyInsecure => Ok(()),
    }
}
