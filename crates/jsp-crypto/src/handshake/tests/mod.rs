//! Whole handshakes: right, wrong, changed on the way, and downgraded.

mod completion;
mod damage;
mod hello;
mod identities;
mod negotiation;
mod refusal;
mod resumption;

use super::*;
use crate::identity::{Credential, Delegation, Fingerprint, Floor, Identity, PublicIdentity};
use crate::suite::Suite;
use crate::test_rng::SeededRng;
use alloc::boxed::Box;
use std::sync::atomic::{AtomicUsize, Ordering};

const NOW: u64 = 1_800_000_000;

fn identity(byte: u8) -> Arc<Identity> {
    Arc::new(Identity::from_seed(&[byte; 32]).unwrap())
}

fn server_config() -> ServerConfig {
    ServerConfig::new(identity(1))
}

fn client_config() -> ClientConfig {
    ClientConfig::new(ServerIdentity::Pinned(identity(1).fingerprint()))
}

struct AcceptOnly(Fingerprint, Arc<AtomicUsize>);

impl AcceptOnly {
    fn decide(&self, fingerprint: &Fingerprint) -> Result<(), VerifierRejection> {
        self.1.fetch_add(1, Ordering::Relaxed);
        if *fingerprint == self.0 { Ok(()) } else { Err(VerifierRejection("not the one known")) }
    }
}

impl ServerVerifier for AcceptOnly {
    fn verify(&self, found: &Fingerprint) -> Result<(), VerifierRejection> {
        self.decide(found)
    }

    fn would_accept(&self, known: &Fingerprint) -> bool {
        *known == self.0
    }
}

impl ClientVerifier for AcceptOnly {
    fn verify(&self, found: &PeerIdentity) -> Result<(), VerifierRejection> {
        self.decide(&found.fingerprint)
    }
}

fn accept_only(byte: u8) -> Box<AcceptOnly> {
    Box::new(AcceptOnly(identity(byte).fingerprint(), Arc::default()))
}

/// What one side has put out.
#[derive(Default)]
struct Collected {
    sent: Vec<(Level, Vec<u8>)>,
    handshake_keys: Vec<(u8, Keys)>,
    committed: Option<u8>,
    data_keys: Option<DataKeys>,
    params: Option<Vec<u8>>,
    security: Option<Security>,
    early_keys: Option<DirectionKeys>,
    provisional: Option<Security>,
}

impl Collected {
    fn drain(&mut self, handshake: &mut Handshake) {
        while let Some(output) = handshake.poll() {
            match output {
                Output::Send { level, message } => self.sent.push((level, message)),
                Output::HandshakeKeys { candidate, keys } => {
                    self.handshake_keys.push((candidate, keys));
                }
                Output::Committed { candidate } => self.committed = Some(candidate),
                Output::DataKeys(keys) => self.data_keys = Some(keys),
                Output::PeerParams(params) => self.params = Some(params),
                Output::Complete(security) => self.security = Some(security),
                Output::EarlyKeys(keys) => self.early_keys = Some(keys),
                Output::Provisional(security) => self.provisional = Some(security),
            }
        }
    }

    fn take_message(&mut self, level: Level) -> Option<Vec<u8>> {
        let at = self.sent.iter().position(|(sent, _)| *sent == level)?;
        Some(self.sent.remove(at).1)
    }
}

struct Ends {
    client: Handshake,
    server: Handshake,
    from_client: Collected,
    from_server: Collected,
    rng: SeededRng,
}

/// Which message of a handshake: for tampering.
const HELLO: usize = 0;
const SERVER_HELLO: usize = 1;
const SERVER_FLIGHT: usize = 2;
const CLIENT_FLIGHT: usize = 3;

impl Ends {
    fn new(client: ClientConfig, server: ServerConfig, seed: u64) -> Self {
        Self::shared(&Arc::new(client), &Arc::new(server), seed)
    }

    fn shared(client: &Arc<ClientConfig>, server: &Arc<ServerConfig>, seed: u64) -> Self {
        let mut rng = SeededRng(seed);
        let mut client = Handshake::client(client.clone(), b"client params", &mut rng).unwrap();
        let server = Handshake::server(server.clone(), b"server params".to_vec());
        let mut from_client = Collected::default();
        from_client.drain(&mut client);
        Self { client, server, from_client, from_server: Collected::default(), rng }
    }

    fn give_server(&mut self, level: Level, message: &[u8]) -> Result<(), HandshakeError> {
        let result = self.server.read(level, message, NOW, &mut self.rng);
        self.from_server.drain(&mut self.server);
        result
    }

    fn give_client(&mut self, level: Level, message: &[u8]) -> Result<(), HandshakeError> {
        let result = self.client.read(level, message, NOW, &mut self.rng);
        self.from_client.drain(&mut self.client);
        result
    }

    /// Runs to the end; `tamper` may change each message on the way.
    fn run(
        &mut self,
        mut tamper: impl FnMut(usize, &mut Vec<u8>),
    ) -> Result<(), (Role, HandshakeError)> {
        let mut message = self.from_client.take_message(Level::Initial).unwrap();
        tamper(HELLO, &mut message);
        self.give_server(Level::Initial, &message).map_err(|e| (Role::Server, e))?;
        let mut message = self.from_server.take_message(Level::Initial).unwrap();
        tamper(SERVER_HELLO, &mut message);
        self.give_client(Level::Initial, &message).map_err(|e| (Role::Client, e))?;
        let mut message = self.from_server.take_message(Level::Handshake).unwrap();
        tamper(SERVER_FLIGHT, &mut message);
        self.give_client(Level::Handshake, &message).map_err(|e| (Role::Client, e))?;
        let mut message = self.from_client.take_message(Level::Handshake).unwrap();
        tamper(CLIENT_FLIGHT, &mut message);
        self.give_server(Level::Handshake, &message).map_err(|e| (Role::Server, e))
    }
}

fn run(client: ClientConfig, server: ServerConfig) -> Result<Ends, (Role, HandshakeError)> {
    let mut ends = Ends::new(client, server, 1);
    ends.run(|_, _| {})?;
    Ok(ends)
}

/// Seals with one side's keys, opens with the other's.
fn keys_agree(sender: &Keys, receiver: &Keys) -> bool {
    one_way(&sender.local, &receiver.remote) && one_way(&receiver.local, &sender.remote)
}

fn one_way(seal: &DirectionKeys, open: &DirectionKeys) -> bool {
    let mut packet = *b"some text and sixteen bytes.....";
    seal.packet.seal_in_place(7, b"header", &mut packet).unwrap();
    let same_mask = seal.header.mask(&[3; 16]) == open.header.mask(&[3; 16]);
    let opened = open.packet.open_in_place(7, b"header", &mut packet);
    same_mask && opened == Ok(16) && packet.starts_with(b"some text and si")
}

fn assert_established(ends: &mut Ends) {
    assert!(ends.client.is_complete() && ends.server.is_complete());
    let committed = ends.from_client.committed.unwrap();
    let (_, client_keys) =
        ends.from_client.handshake_keys.iter().find(|(index, _)| *index == committed).unwrap();
    assert!(keys_agree(client_keys, &ends.from_server.handshake_keys[0].1));
    let client = ends.from_client.data_keys.as_mut().unwrap();
    let server = ends.from_server.data_keys.as_mut().unwrap();
    let (client_phase_0, server_phase_0) =
        (client.take_keys().unwrap(), server.take_keys().unwrap());
    assert!(keys_agree(&client_phase_0, &server_phase_0));
    assert!(client.take_keys().is_none());
    assert_eq!(ends.from_client.params.as_deref(), Some(&b"server params"[..]));
    assert_eq!(ends.from_server.params.as_deref(), Some(&b"client params"[..]));
    let client = ends.from_client.security.as_ref().unwrap();
    let server = ends.from_server.security.as_ref().unwrap();
    assert_eq!((client.suite, client.kem), (server.suite, server.kem));
    assert_eq!(client.application_protocol, server.application_protocol);
    let mut exported = ([0; 100], [0; 100]);
    client.export("label", b"context", &mut exported.0).unwrap();
    server.export("label", b"context", &mut exported.1).unwrap();
    assert_eq!(exported.0, exported.1);
    assert_eq!(client.resumption_psk(b"n"), server.resumption_psk(b"n"));
}

/// Where the lists of a client hello lie: `(start of list, length)` of
/// versions, suites, key exchanges and signatures, in this order.
fn lists(hello: &[u8]) -> [(usize, usize); 4] {
    let mut at = 3 + 32;
    [(); 4].map(|()| {
        let length = usize::from(hello[at]);
        let list = (at + 1, length);
        at += 1 + length;
        list
    })
}

fn x25519_offset(hello: &[u8]) -> usize {
    let (start, length) = lists(hello)[3];
    start + length
}

fn all_backends() -> [(Backend, Backend); 4] {
    let (n, p) = (Backend::Native, Backend::Portable);
    [(n, n), (n, p), (p, n), (p, p)]
}
