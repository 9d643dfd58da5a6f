//! Whole handshakes: right, wrong, changed on the way, and downgraded.

mod identities;
mod negotiation;
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
}

impl ClientVerifier for AcceptOnly {
    fn verify(&self, found: &Fingerprint) -> Result<(), VerifierRejection> {
        self.decide(found)
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

// spec-test: HS-29
// spec-test: HS-32
// spec-test: HS-36
// spec-test: HS-37
// spec-test: HS-30
#[test]
fn every_suite_between_every_pair_of_backends() {
    for suite in Suite::ALL {
        for (of_client, of_server) in all_backends() {
            let mut client = client_config();
            let mut server = server_config();
            (client.backend, server.backend) = (of_client, of_server);
            (client.suites, server.suites) = (alloc::vec![suite], alloc::vec![suite]);
            let mut ends = run(client, server).unwrap_or_else(|e| panic!("{suite:?} {e:?}"));
            assert_established(&mut ends);
            let security = ends.from_client.security.unwrap();
            assert_eq!(security.suite, suite);
            assert!(security.kem.is_post_quantum());
            assert_eq!(security.peer.unwrap().fingerprint, identity(1).fingerprint());
        }
    }
}

// spec-test: HS-39
#[test]
fn key_updates_stay_in_step_and_change_the_keys() {
    let mut ends = run(client_config(), server_config()).unwrap();
    let mut client = ends.from_client.data_keys.take().unwrap();
    let mut server = ends.from_server.data_keys.take().unwrap();
    let mut earlier: Vec<[u8; 20]> = Vec::new();
    for _ in 0..5 {
        let (client_local, client_remote) = client.next();
        let (server_local, server_remote) = server.next();
        for (seal, open) in [(client_local, server_remote), (server_local, client_remote)] {
            let mut packet = [0; 20];
            seal.seal_in_place(0, b"", &mut packet).unwrap();
            assert!(!earlier.contains(&packet));
            earlier.push(packet);
            assert_eq!(open.open_in_place(0, b"", &mut packet), Ok(4));
        }
    }
}

// spec-test: HS-38
#[test]
fn exports_depend_on_label_context_and_connection() {
    let first = run(client_config(), server_config()).unwrap().from_client.security.unwrap();
    let mut other = Ends::new(client_config(), server_config(), 2);
    other.run(|_, _| {}).unwrap();
    let other = other.from_client.security.unwrap();
    let export = |security: &Security, label, context| {
        let mut out = [0; 32];
        security.export(label, context, &mut out).unwrap();
        out
    };
    let value = export(&first, "a", b"b");
    assert_eq!(value, export(&first, "a", b"b"));
    assert_ne!(value, export(&first, "b", b"b"));
    assert_ne!(value, export(&first, "a", b"c"));
    assert_ne!(value, export(&other, "a", b"b"));
    assert_eq!(first.export("a", b"", &mut [0; 8161]), Err(ExportTooLong));
}

/// Every bit of every message, the two ML-KEM values by one bit of each byte
/// (their other bits are alike, and the whole takes a minute).
// spec-test: HS-33
// spec-test: HS-20
// spec-test: HS-46
#[test]
fn every_flipped_bit_is_rejected() {
    let client = Arc::new(ClientConfig {
        credential: Some(identity(3).into()),
        application_protocols: alloc::vec![b"chat".to_vec()],
        ..client_config()
    });
    let server = Arc::new(ServerConfig {
        client_auth: ClientAuth::Required(accept_only(3)),
        application_protocols: alloc::vec![b"chat".to_vec()],
        ..server_config()
    });
    let mut lengths = [0; 4];
    Ends::shared(&client, &server, 1).run(|which, bytes| lengths[which] = bytes.len()).unwrap();
    for (which, length) in lengths.into_iter().enumerate() {
        for bit in 0..length * 8 {
            let ml_kem = match which {
                HELLO => bit / 8 >= length - 1184,
                SERVER_HELLO => bit / 8 >= length - 1088,
                _ => false,
            };
            if ml_kem && bit % 8 != (bit / 8) % 8 {
                continue;
            }
            let mut ends = Ends::shared(&client, &server, 1);
            let result = ends.run(|index, bytes| {
                if index == which {
                    bytes[bit / 8] ^= 1 << (bit % 8);
                }
            });
            let (_, error) = result.expect_err("a changed message passed");
            assert_eq!(error.close_code(), close::HANDSHAKE_FAILED);
            assert!(!ends.server.is_complete(), "message {which} bit {bit}");
            assert!(ends.from_server.security.is_none());
            assert_eq!(ends.client.is_complete(), which == CLIENT_FLIGHT);
        }
    }
}

// spec-test: HS-4
#[test]
fn truncated_and_lengthened_messages_are_rejected() {
    for which in [HELLO, SERVER_HELLO, SERVER_FLIGHT, CLIENT_FLIGHT] {
        let mut length = 0;
        let mut ends = Ends::new(client_config(), server_config(), 1);
        ends.run(|index, bytes| {
            if index == which {
                length = bytes.len();
            }
        })
        .unwrap();
        let step = if length > 400 { 7 } else { 1 };
        for cut in (0..length).step_by(step).chain([length + 1, length + 300]) {
            let mut ends = Ends::new(client_config(), server_config(), 1);
            let result = ends.run(|index, bytes| {
                if index == which {
                    bytes.resize(cut, 0);
                }
            });
            assert!(result.is_err(), "message {which} cut to {cut}");
            assert!(!ends.server.is_complete());
        }
    }
}

// spec-test: HS-2
#[test]
fn a_hello_of_more_than_4096_bytes_is_refused() {
    let mut ends = Ends::new(client_config(), server_config(), 1);
    let mut hello = ends.from_client.take_message(Level::Initial).unwrap();
    hello.resize(4097, 0);
    let refused = Err(HandshakeError::Malformed("client hello"));
    assert_eq!(ends.give_server(Level::Initial, &hello), refused);
}

// spec-test: HS-1
#[test]
fn a_configuration_that_does_not_fit_is_refused_at_once() {
    let mut rng = SeededRng(1);
    let config = Arc::new(client_config());
    assert!(Handshake::client(config.clone(), &[0; 2700], &mut rng).is_ok());
    assert!(Handshake::client(config.clone(), &[0; 2900], &mut rng).is_err());
    assert!(Handshake::client(config, &[0; 70_000], &mut rng).is_err());
    let empty = ClientConfig { suites: Vec::new(), ..client_config() };
    assert!(Handshake::client(Arc::new(empty), &[], &mut rng).is_err());
    for name in [Vec::new(), alloc::vec![b'x'; 256]] {
        let config = ClientConfig { application_protocols: alloc::vec![name], ..client_config() };
        assert!(Handshake::client(Arc::new(config), &[], &mut rng).is_err());
    }
}

// spec-test: HS-42
// spec-test: HS-43
// spec-test: HS-44
#[test]
fn four_false_servers_do_not_keep_the_true_one_out() {
    let mut ends = Ends::new(client_config(), server_config(), 1);
    let hello = ends.from_client.take_message(Level::Initial).unwrap();
    for byte in 10..14 {
        let mut fake =
            Handshake::server(Arc::new(ServerConfig::new(identity(byte))), b"fake params".to_vec());
        let mut out = Collected::default();
        fake.read(Level::Initial, &hello, NOW, &mut ends.rng).unwrap();
        out.drain(&mut fake);
        let server_hello = out.take_message(Level::Initial).unwrap();
        ends.give_client(Level::Initial, &server_hello).unwrap();
        assert_eq!(ends.give_client(Level::Initial, &server_hello), Err(HandshakeError::Duplicate));
        if byte % 2 == 0 {
            let flight = out.take_message(Level::Handshake).unwrap();
            let error = ends.give_client(Level::Handshake, &flight).unwrap_err();
            assert!(matches!(error, HandshakeError::PinMismatch { .. }));
            assert_eq!(
                ends.give_client(Level::Initial, &server_hello),
                Err(HandshakeError::Duplicate),
                "a burnt candidate stays burnt"
            );
        }
        assert!(!ends.client.is_failed());
    }
    // Junk of every kind is ignored as well.
    for junk in [&b""[..], b"\x02\x00\x00", &[2; 1162], &[0xff; 4096]] {
        assert!(ends.give_client(Level::Initial, junk).is_err());
        assert!(ends.give_client(Level::Handshake, junk).is_err());
        assert!(ends.give_client(Level::Data, junk).is_err());
    }
    ends.give_server(Level::Initial, &hello).unwrap();
    let server_hello = ends.from_server.take_message(Level::Initial).unwrap();
    ends.give_client(Level::Initial, &server_hello).unwrap();
    let mut sixth = server_hello.clone();
    sixth[5] ^= 1;
    assert_eq!(ends.give_client(Level::Initial, &sixth), Err(HandshakeError::TooManyCandidates));
    let flight = ends.from_server.take_message(Level::Handshake).unwrap();
    ends.give_client(Level::Handshake, &flight).unwrap();
    let finished = ends.from_client.take_message(Level::Handshake).unwrap();
    ends.give_server(Level::Handshake, &finished).unwrap();
    assert_eq!(ends.from_client.committed, Some(4));
    assert_established(&mut ends);
}

// spec-test: HS-7
#[test]
fn noise_differs_from_hello_to_hello_and_never_counts() {
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..40 {
        let client = ClientConfig { features: 0b110, ..client_config() };
        let server = ServerConfig { features: 0b011 | features::GREASE_MASK, ..server_config() };
        let mut ends = Ends::new(client, server, seed);
        let hello = ends.from_client.sent[0].1.clone();
        for (start, length) in lists(&hello) {
            seen.insert((start, hello[start + length - 1]));
            assert_eq!(hello[start + length - 1] & 0x0f, 0x0a);
        }
        ends.run(|_, _| {}).unwrap();
        assert_eq!(ends.from_client.security.unwrap().features & 0xff, 0b010);
        assert_eq!(ends.from_server.security.unwrap().features, 0b010);
    }
    assert!(seen.len() > 20, "{seen:?}");
}

// spec-test: HS-3
// spec-test: HS-5
// spec-test: HS-6
// spec-test: HS-8
#[test]
fn malformed_lists_and_extensions_are_refused() {
    use super::messages::{ClientHello, Extensions};
    let read = |bytes: &[u8]| Extensions::read(bytes, &[2], "test").map(|_| ());
    assert_eq!(read(&[0, 2, 0, 0, 0x0a, 0x0b, 0, 1, 7]), Ok(()));
    assert_eq!(read(&[0, 4, 0, 0]), Err(HandshakeError::UnknownExtension(4)));
    assert!(read(&[0, 2, 0, 0, 0, 2, 0, 0]).is_err(), "twice");
    assert!(read(&[0, 2, 0, 1]).is_err(), "cut");
    assert!(read(&[0]).is_err(), "cut");
    let many: Vec<u8> = (0..33u8).flat_map(|n| [n, 1, 0, 0]).collect();
    assert!(read(&many).is_err(), "33 extensions");
    assert!(read(&many[4..]).is_ok(), "32 extensions");

    let mut ends = Ends::new(client_config(), server_config(), 1);
    let hello = ends.from_client.take_message(Level::Initial).unwrap();
    assert!(ClientHello::read(&hello).is_ok());
    for (start, length) in lists(&hello) {
        let mut empty = hello.clone();
        empty.drain(start..start + length);
        empty[start - 1] = 0;
        let body = u16::try_from(empty.len() - 3).unwrap();
        empty[1..3].copy_from_slice(&body.to_be_bytes());
        assert!(ClientHello::read(&empty).is_err());
    }
    // Without transport parameters: their identifier becomes an ignorable one.
    let mut without = hello;
    let at = x25519_offset(&without) + 32 + 32 + 8 + 2;
    assert_eq!(without[at..at + 2], [0, 2]);
    without[at + 1] = 3;
    let refused = Err(HandshakeError::Malformed("client hello"));
    assert_eq!(ends.give_server(Level::Initial, &without), refused);
}

#[test]
fn messages_out_of_place_are_refused() {
    let mut ends = Ends::new(client_config(), server_config(), 1);
    let hello = ends.from_client.sent[0].1.clone();
    assert_eq!(ends.give_server(Level::Handshake, &hello), Err(HandshakeError::Unexpected));
    assert!(!ends.server.is_failed());
    ends.run(|_, _| {}).unwrap();
    for level in [Level::Initial, Level::Handshake, Level::Data] {
        assert_eq!(ends.give_server(level, &hello), Err(HandshakeError::Unexpected));
        assert_eq!(ends.give_client(level, &hello), Err(HandshakeError::Unexpected));
    }
    assert!(ends.client.is_complete() && ends.server.is_complete());
    let mut failed = Ends::new(client_config(), server_config(), 1);
    assert!(failed.give_server(Level::Initial, b"junk").is_err());
    assert!(failed.server.is_failed());
    let hello = failed.from_client.sent[0].1.clone();
    assert_eq!(failed.give_server(Level::Initial, &hello), Err(HandshakeError::Failed));
}

// spec-test: HS-19
// spec-test: HS-34
// spec-test: HS-35
#[test]
fn a_signature_for_one_role_or_key_serves_no_other() {
    let signature = identity(1).sign("server", b"hash").unwrap();
    assert!(identity(1).public().verify("server", b"hash", &signature));
    assert!(!identity(1).public().verify("client", b"hash", &signature));
    assert!(!identity(1).public().verify("server", b"hash2", &signature));
    assert!(!identity(2).public().verify("server", b"hash", &signature));
    let message = crate::identity::signed_message("server", b"hash");
    assert!(message.starts_with(&[b' '; 64]) && message[64..] == *b"JSP1 server\0hash");

    // A server that shows a key it does not hold: the flight is made with
    // another signer than the identity it names.
    struct Thief(Arc<Identity>, PublicIdentity);
    impl crate::identity::Signer for Thief {
        fn public(&self) -> PublicIdentity {
            self.1.clone()
        }
        fn sign_message(&self, message: &[u8]) -> Result<Vec<u8>, crate::identity::SignError> {
            crate::identity::Signer::sign_message(&*self.0, message)
        }
    }
    let thief = Thief(identity(6), identity(1).public());
    let server = ServerConfig::new(Credential::new(Arc::new(thief)));
    assert_eq!(run(client_config(), server).err(), Some((Role::Client, HandshakeError::Signature)));
}

#[test]
fn sizes_are_as_designed() {
    let mut lengths = [0; 4];
    let mut ends = Ends::new(client_config(), server_config(), 1);
    // The test's parameters are 13 bytes; real ones are about 64.
    ends.run(|which, bytes| lengths[which] = bytes.len()).unwrap();
    assert!((1320..=1420).contains(&lengths[HELLO]), "{lengths:?}");
    assert_eq!(lengths[SERVER_HELLO], 1162);
    assert!((170..=368).contains(&lengths[SERVER_FLIGHT]), "{lengths:?}");
    assert_eq!(lengths[CLIENT_FLIGHT], 35);
}

// spec-test: HS-45
#[test]
fn the_peer_learns_one_code_for_all_failures() {
    for error in [
        HandshakeError::Signature,
        HandshakeError::Finished,
        HandshakeError::NoCommonSuite,
        HandshakeError::Malformed("x"),
        HandshakeError::ClientIdentityRequired,
    ] {
        assert_eq!(error.close_code(), 0x10);
    }
}

// spec-test: HS-21
// spec-test: HS-22
#[test]
fn the_core_of_a_hello_is_found_in_its_first_fragment() {
    let ends = Ends::new(client_config(), server_config(), 1);
    let hello = &ends.from_client.sent[0].1;
    let core_end = x25519_offset(hello) + 32 + 32 + 8;
    let expected = crate::hello_core_hash(hello).unwrap();
    for end in 0..hello.len() {
        let hash = crate::hello_core_hash(&hello[..end]);
        assert_eq!(hash, (end >= core_end).then_some(expected), "{end}");
    }
    for at in 3..hello.len() {
        let mut changed = hello.clone();
        changed[at] ^= 1;
        assert_eq!(crate::hello_core_hash(&changed) == Some(expected), at >= core_end, "{at}");
        assert_ne!(crate::hello_id(&changed), crate::hello_id(hello));
    }
}

/// Values change threads: shards own connections.
#[test]
fn everything_may_move_between_threads() {
    fn is_send<T: Send>() {}
    fn is_shared<T: Send + Sync>() {}
    is_send::<Handshake>();
    is_send::<Output>();
    is_shared::<Keys>();
    is_shared::<DataKeys>();
    is_shared::<ClientConfig>();
    is_shared::<ServerConfig>();
    is_shared::<Identity>();
}

/// Random changes of every kind: nothing panics, nothing passes, and a client
/// that was given junk still completes with the right messages.
#[test]
fn random_damage_neither_panics_nor_passes() {
    let client = Arc::new(ClientConfig {
        application_protocols: alloc::vec![b"chat".to_vec()],
        ..client_config()
    });
    let server = Arc::new(server_config());
    let mut rng = SeededRng(99);
    let mut pick = move |below: usize| {
        let bytes: [u8; 8] = crate::rng::array(&mut rng);
        usize::try_from(u64::from_be_bytes(bytes) % below as u64).unwrap()
    };
    let mut damage = move |bytes: &mut Vec<u8>| {
        for _ in 0..=pick(4) {
            let at = pick(bytes.len().max(1));
            match pick(5) {
                0 if !bytes.is_empty() => bytes[at] = pick(256) as u8,
                1 => bytes.insert(at.min(bytes.len()), pick(256) as u8),
                2 if !bytes.is_empty() => drop(bytes.remove(at)),
                3 => bytes.truncate(at),
                _ => {
                    let end = (at + pick(40)).min(bytes.len());
                    let copy: Vec<u8> = bytes[at.min(end)..end].to_vec();
                    bytes.splice(at.min(bytes.len())..at.min(bytes.len()), copy);
                }
            }
        }
    };
    for seed in 0..400 {
        let mut ends = Ends::shared(&client, &server, seed);
        let right = ends.from_client.take_message(Level::Initial).unwrap();
        for _ in 0..25 {
            let mut hello = right.clone();
            damage(&mut hello);
            let mut victim = Handshake::server(server.clone(), Vec::new());
            let result = victim.read(Level::Initial, &hello, NOW, &mut ends.rng);
            assert_eq!(result.is_err(), victim.is_failed());
            let _ = crate::hello_core_hash(&hello);
        }
        ends.give_server(Level::Initial, &right).unwrap();
        let hello = ends.from_server.take_message(Level::Initial).unwrap();
        let flight = ends.from_server.take_message(Level::Handshake).unwrap();
        ends.give_client(Level::Initial, &hello).unwrap();
        for _ in 0..4 {
            let mut wrong = hello.clone();
            damage(&mut wrong);
            if wrong != hello {
                let _ = ends.give_client(Level::Initial, &wrong);
            }
        }
        for _ in 0..25 {
            let mut wrong = flight.clone();
            damage(&mut wrong);
            if wrong != flight {
                assert!(ends.give_client(Level::Handshake, &wrong).is_err());
            }
        }
        ends.give_client(Level::Handshake, &flight).unwrap();
        let finished = ends.from_client.take_message(Level::Handshake).unwrap();
        let mut wrong = finished.clone();
        damage(&mut wrong);
        if seed % 2 == 0 && wrong != finished {
            assert!(ends.give_server(Level::Handshake, &wrong).is_err());
        } else {
            ends.give_server(Level::Handshake, &finished).unwrap();
            assert_established(&mut ends);
        }
    }
}
