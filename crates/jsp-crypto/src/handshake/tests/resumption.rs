//! Tickets: taken, refused, changed on the way, and the exchange that follows.

use super::*;
use crate::client_ticket::TicketGrant;
use crate::handshake::resume::EarlySecrets;
use crate::identity::Floor;
use crate::renewal::Renewal;
use crate::ticket::{PathMemory, TicketContents, TicketError, TicketKeys};

const NOW_MS: u64 = NOW * 1000;

fn keys() -> TicketKeys {
    TicketKeys::new([5; 32], TicketKeys::epoch_at(NOW))
}

/// The ticket that a server gives over a finished handshake.
fn grant(ends: &Ends, keys: &TicketKeys, server: &ServerConfig) -> TicketGrant {
    let security = ends.from_server.security.as_ref().unwrap();
    let nonce = [6; 8];
    let contents = TicketContents {
        post_quantum: security.post_quantum,
        suite: security.suite,
        issued_ms: NOW_MS,
        lifetime_s: 3600,
        home_shard: 3,
        uid: [9; 16],
        psk: *security.resumption_psk(&nonce),
        params_hash: [2; 8],
        client: security.peer,
        max_early_data: 4000,
        prefix_hash: [7; 4],
        path: PathMemory { rate_kib: 1000, rtt_min_us: 60_000 },
    };
    let ticket = keys.seal(&contents, &server.fingerprint(), &mut SeededRng(9)).unwrap();
    TicketGrant { lifetime_s: 3600, max_early_data: 4000, nonce, ticket }
}

fn ticket_of(client: &ClientConfig, server: &ServerConfig) -> ClientTicket {
    let mut ends = Ends::shared(&Arc::new(clone(client)), &Arc::new(clone_server(server)), 1);
    ends.run(|_, _| {}).unwrap();
    let grant = grant(&ends, &keys(), server);
    let grant = TicketGrant::from_bytes(&grant.to_bytes()).unwrap();
    let security = ends.from_client.security.as_ref().unwrap();
    let own = client.credential.as_ref().map(|credential| credential.fingerprint());
    ClientTicket::keep(&grant, security, own, b"limits", NOW_MS).unwrap()
}

fn clone(config: &ClientConfig) -> ClientConfig {
    ClientConfig {
        suites: config.suites.clone(),
        kem: config.kem,
        credential: config.credential.clone(),
        application_protocols: config.application_protocols.clone(),
        floor: config.floor,
        ..client_config()
    }
}

fn clone_server(config: &ServerConfig) -> ServerConfig {
    ServerConfig {
        suites: config.suites.clone(),
        kem: config.kem,
        client_auth: match config.client_auth {
            ClientAuth::None => ClientAuth::None,
            _ => ClientAuth::Required(accept_only(3)),
        },
        application_protocols: config.application_protocols.clone(),
        ..server_config()
    }
}

fn check(server: &ServerConfig, hello: &[u8]) -> Result<Option<Resumption>, TicketError> {
    Resumption::check(&keys(), server, hello, NOW_MS + 500)
}

/// A client with the ticket and its hello, half a second after it got it.
fn resume(client: ClientConfig, ticket: &ClientTicket) -> (Ends, Vec<u8>) {
    resume_with(client, ticket, true)
}

fn resume_with(client: ClientConfig, ticket: &ClientTicket, early: bool) -> (Ends, Vec<u8>) {
    let mut rng = SeededRng(2);
    let (config, ticket) = (Arc::new(client), ticket.clone());
    let params = b"client params";
    let mut client =
        Handshake::client_resuming(config, ticket, early, params, NOW_MS + 500, &mut rng).unwrap();
    let mut from_client = Collected::default();
    from_client.drain(&mut client);
    let hello = from_client.sent[0].1.clone();
    let server = Handshake::server(Arc::new(server_config()), Vec::new());
    (Ends { client, server, from_client, from_server: Collected::default(), rng }, hello)
}

fn accept(ends: &mut Ends, server: &ServerConfig, hello: &[u8], early: bool) {
    let mut resumption = check(server, hello).unwrap().unwrap();
    resumption.accept_early = early;
    let config = Arc::new(clone_server(server));
    ends.server = Handshake::server_resuming(config, b"server params".to_vec(), Some(resumption));
}

// spec-test: HS-65, HS-67, HS-68, HS-69, HS-70, HS-78, HS-79
#[test]
fn a_ticket_resumes_with_and_without_early_data() {
    for suite in Suite::ALL {
        for early in [true, false] {
            let client = ClientConfig { suites: alloc::vec![suite], ..client_config() };
            let server = ServerConfig { suites: alloc::vec![suite], ..server_config() };
            let ticket = ticket_of(&client, &server);
            let stored = ClientTicket::from_bytes(&ticket.to_bytes()).unwrap();
            assert!(stored == ticket);
            let (mut ends, hello) = resume(client, &stored);
            assert!(ends.client.is_resuming());
            assert!(hello.len() < 520, "one datagram has room for early data: {}", hello.len());
            let resumption = check(&server, &hello).unwrap().unwrap();
            assert!(resumption.wants_early());
            assert_eq!((resumption.hello_ms(), resumption.uid()), (NOW_MS + 500, &[9; 16]));
            assert_eq!((resumption.home_shard(), resumption.max_early_data()), (3, 4000));
            assert_eq!((resumption.params_hash(), resumption.protocol()), (&[2; 8], None));
            assert_eq!(resumption.path_memory(&[7; 4]).unwrap().rtt_min_us, 60_000);
            assert!(resumption.path_memory(&[8; 4]).is_none());
            accept(&mut ends, &server, &hello, early);
            ends.run(|_, _| {}).unwrap();
            assert_established(&mut ends);
            let (of_client, of_server) = (&ends.from_client, &ends.from_server);
            let security = of_client.security.as_ref().unwrap();
            assert_eq!((security.mode, security.kem), (Mode::Resumed, Kem::TicketX25519));
            assert_eq!(security.early_data, early);
            assert!(security.post_quantum && !security.hybrid);
            assert_eq!(security.peer.unwrap().fingerprint, identity(1).fingerprint());
            assert_eq!(of_server.provisional.is_some(), early);
            let sealed_early = of_client.early_keys.as_ref().unwrap();
            if early {
                assert!(one_way(sealed_early, of_server.early_keys.as_ref().unwrap()));
                assert!(of_server.provisional.as_ref().unwrap().early_data);
            } else {
                assert!(of_server.early_keys.is_none());
            }
        }
    }
}

// spec-test: HS-67, HS-70, HS-209
#[test]
fn a_hello_with_any_bit_changed_is_refused_or_fails() {
    let (client, server) = (client_config(), server_config());
    let ticket = ticket_of(&client, &server);
    let (_, hello) = resume(client, &ticket);
    for at in 0..hello.len() {
        let mut changed = hello.clone();
        changed[at] ^= 1 << (at % 8);
        // What is no hello any more is none with a ticket either.
        assert!(!matches!(check(&server, &changed), Ok(Some(_))), "byte {at}");
    }
    // A ticket is of no use without its secret.
    let mut stolen = ticket.clone();
    stolen.psk = [0; 32];
    let (_, hello) = resume(client_config(), &stolen);
    assert_eq!(check(&server, &hello).err(), Some(TicketError::Invalid));
    let (_, hello) = resume(client_config(), &ticket);
    let late = Resumption::check(&keys(), &server, &hello, NOW_MS + 3_600_001);
    assert_eq!(late.err(), Some(TicketError::Expired));
    // Nor one that its client says is over: an hour is its life, the last millisecond included.
    let (mut short, mut long) = (ticket.clone(), ticket.clone());
    (short.received_ms, long.received_ms) = (NOW_MS + 500 - 3_600_000, NOW_MS + 500 - 3_600_001);
    (short.lifetime_s, long.lifetime_s) = (7_200, 7_200);
    let (_, hello) = resume(client_config(), &short);
    assert!(check(&server, &hello).is_ok());
    let (_, hello) = resume(client_config(), &long);
    assert_eq!(check(&server, &hello).err(), Some(TicketError::Expired));
    let (_, hello) = resume(client_config(), &ticket);
    let other = TicketKeys::new([6; 32], TicketKeys::epoch_at(NOW));
    assert_eq!(
        Resumption::check(&other, &server, &hello, NOW_MS).err(),
        Some(TicketError::Invalid)
    );
}

// spec-test: HS-33
#[test]
fn every_message_of_a_resumed_handshake_is_protected() {
    let (client, server) = (client_config(), server_config());
    let ticket = ticket_of(&client, &server);
    for message in [SERVER_HELLO, SERVER_FLIGHT, CLIENT_FLIGHT] {
        for at in (0..200).step_by(3) {
            let (mut ends, hello) = resume(client_config(), &ticket);
            accept(&mut ends, &server, &hello, true);
            let mut touched = false;
            let result = ends.run(|which, bytes| {
                if which == message && at < bytes.len() {
                    bytes[at] ^= 0x10;
                    touched = true;
                }
            });
            assert_eq!(result.is_err(), touched, "message {message} byte {at}");
        }
    }
}

// spec-test: HS-78
#[test]
fn a_server_that_resumes_keeps_to_the_parameters_of_the_ticket() {
    let (client, server) = (client_config(), server_config());
    let ticket = ticket_of(&client, &server);
    // Behind the frame's head and the random: version, suite, and, behind the key exchange, signature.
    let random_end = 3 + 32;
    for at in [random_end, random_end + 3, random_end + 4, random_end + 6] {
        let (mut ends, hello) = resume(client_config(), &ticket);
        accept(&mut ends, &server, &hello, false);
        let result = ends.run(|which, bytes| {
            if which == SERVER_HELLO {
                bytes[at] ^= 3;
            }
        });
        let refused = HandshakeError::NotOffered("other parameters than the ticket's");
        assert_eq!(result.err(), Some((Role::Client, refused)), "byte {at}");
    }
}

// spec-test: HS-71, HS-76
#[test]
fn a_client_that_is_refused_sends_a_full_hello_and_still_takes_either_answer() {
    for takes_ticket in [false, true] {
        let (client, server) = (client_config(), server_config());
        let ticket = ticket_of(&client, &server);
        let (mut ends, hello) = resume(client, &ticket);
        assert_eq!(ends.client.fall_back(&mut ends.rng), Ok(true));
        assert_eq!(ends.client.fall_back(&mut ends.rng), Ok(false));
        ends.from_client.drain(&mut ends.client);
        let full = ends.from_client.sent[1].1.clone();
        assert!(full.len() > 1200);
        let refused = Resumption::refused(&keys(), &server, &full);
        let hello_ms_max = NOW_MS + 3_600_000;
        let ticket =
            RefusedTicket { uid: [9; 16], home_shard: refused.unwrap().home_shard, hello_ms_max };
        assert_eq!(refused, Some(ticket));
        assert!(matches!(check(&server, &full), Ok(None)));
        if takes_ticket {
            accept(&mut ends, &server, &hello, true);
        } else {
            let config = Arc::new(server_config());
            ends.server = Handshake::server(config, b"server params".to_vec());
            ends.from_client.sent.remove(0);
        }
        ends.run(|_, _| {}).unwrap();
        ends.from_client.sent.clear();
        assert_established(&mut ends);
        let security = ends.from_client.security.as_ref().unwrap();
        let mode = if takes_ticket { Mode::Resumed } else { Mode::Full };
        assert_eq!((security.mode, security.early_data), (mode, takes_ticket));
    }
}

// spec-test: HS-66
#[test]
fn a_ticket_that_does_not_suit_is_not_used() {
    let ticket = ticket_of(&client_config(), &server_config());
    let resumes = |config: ClientConfig, ticket: &ClientTicket, now_ms| {
        let (config, ticket) = (Arc::new(config), ticket.clone());
        Handshake::client_resuming(config, ticket, true, b"", now_ms, &mut SeededRng(1))
            .unwrap()
            .is_resuming()
    };
    assert!(resumes(client_config(), &ticket, NOW_MS));
    assert!(!resumes(client_config(), &ticket, NOW_MS + 3_600_000));
    assert!(!resumes(client_config(), &ticket, NOW_MS - 1));
    let other = ServerIdentity::Pinned(identity(2).fingerprint());
    assert!(!resumes(ClientConfig::new(other), &ticket, NOW_MS));
    let siv = ClientConfig { suites: alloc::vec![Suite::Aes256GcmSiv], ..client_config() };
    assert!(!resumes(siv, &ticket, NOW_MS));
    let raised = ClientConfig {
        floor: Floor { version: VERSION_1 + 1, post_quantum: false },
        ..client_config()
    };
    assert!(!resumes(raised, &ticket, NOW_MS));
    let mut classical = ticket.clone();
    classical.post_quantum = false;
    assert!(resumes(client_config(), &classical, NOW_MS));
    let strict = ClientConfig { require_pq: true, ..client_config() };
    assert!(!resumes(strict, &classical, NOW_MS));
    let mut delegated = ticket;
    delegated.peer.until = Some(NOW + 100);
    let mut short = ticket_of(&client_config(), &server_config());
    short.lifetime_s = 100;
    assert!(!resumes(client_config(), &short, NOW_MS + 100_000));
}

// spec-test: HS-58
#[test]
fn a_verifier_is_asked_about_a_resumed_server_once_that_is_proved() {
    let (client, server) = (client_config(), server_config());
    let ticket = ticket_of(&client, &server);
    for (known, resumes) in [(1, true), (2, false)] {
        let asked = Arc::new(AtomicUsize::new(0));
        let verifier = Box::new(AcceptOnly(identity(known).fingerprint(), asked.clone()));
        let expected = ServerIdentity::TrustOnFirstUse(verifier);
        let (mut ends, hello) = resume(ClientConfig::new(expected), &ticket);
        assert_eq!((ends.client.is_resuming(), asked.load(Ordering::Relaxed)), (resumes, 0));
        if resumes {
            accept(&mut ends, &server, &hello, true);
            ends.run(|_, _| {}).unwrap();
            assert_eq!(ends.from_client.security.unwrap().mode, Mode::Resumed);
            assert_eq!(asked.load(Ordering::Relaxed), 1);
        }
    }
}

// spec-test: HS-79
#[test]
fn a_clients_identity_comes_with_its_ticket_and_can_be_refused() {
    let client = || ClientConfig { credential: Some(identity(3).into()), ..client_config() };
    let server =
        ServerConfig { client_auth: ClientAuth::Required(accept_only(3)), ..server_config() };
    let ticket = ticket_of(&client(), &server);
    let (mut ends, hello) = resume(client(), &ticket);
    accept(&mut ends, &server, &hello, true);
    ends.run(|_, _| {}).unwrap();
    let peer = ends.from_server.security.as_ref().unwrap().peer.unwrap();
    assert_eq!(peer.fingerprint, identity(3).fingerprint());
    let stricter =
        ServerConfig { client_auth: ClientAuth::Required(accept_only(4)), ..server_config() };
    assert_eq!(check(&stricter, &hello).err(), Some(TicketError::Invalid));
    assert_eq!(check(&server_config(), &hello).err(), Some(TicketError::Invalid));
    // An anonymous ticket does not open what wants to know its clients.
    let anonymous = ticket_of(&client_config(), &server_config());
    let (_, hello) = resume(client_config(), &anonymous);
    assert_eq!(check(&server, &hello).err(), Some(TicketError::Invalid));
}

#[test]
fn early_data_are_offered_where_the_application_wants_them_and_the_ticket_allows_some() {
    for (wanted, allowed) in [(true, 4000), (true, 0), (false, 4000), (false, 0)] {
        let mut ticket = ticket_of(&client_config(), &server_config());
        ticket.max_early_data = allowed;
        let (ends, hello) = resume_with(client_config(), &ticket, wanted);
        let offered = wanted && allowed > 0;
        assert_eq!(ends.from_client.early_keys.is_some(), offered, "{wanted} {allowed}");
        let resumption = check(&server_config(), &hello).unwrap().unwrap();
        assert_eq!(resumption.wants_early(), offered, "{wanted} {allowed}");
    }
}

// spec-test: HS-77
#[test]
fn early_data_are_not_sent_again_to_another_protocol() {
    let names = |names: &[&[u8]]| names.iter().map(|name| name.to_vec()).collect::<Vec<_>>();
    let client = || ClientConfig { application_protocols: names(&[b"a", b"b"]), ..client_config() };
    let server =
        |wanted: &[&[u8]]| ServerConfig { application_protocols: names(wanted), ..server_config() };
    let ticket = ticket_of(&client(), &server(&[b"a"]));
    let (mut ends, hello) = resume(client(), &ticket);
    let resumption = check(&server(&[b"a"]), &hello).unwrap().unwrap();
    assert_eq!(resumption.protocol(), Some(&b"a"[..]));
    ends.client.fall_back(&mut ends.rng).unwrap();
    ends.from_client.drain(&mut ends.client);
    ends.from_client.sent.remove(0);
    ends.server = Handshake::server(Arc::new(server(&[b"b"])), b"server params".to_vec());
    let error = ends.run(|_, _| {}).unwrap_err();
    assert_eq!(error, (Role::Client, HandshakeError::OtherProtocol));
}

#[test]
fn what_a_client_requires_is_enforced_before_anything_is_sent_or_trusted() {
    let start =
        |config: ClientConfig| Handshake::client(Arc::new(config), b"", &mut SeededRng(1)).err();
    let pin = ClientConfig { require_pin: true, ..ClientConfig::new(ServerIdentity::AnyInsecure) };
    assert_eq!(start(pin), Some(HandshakeError::PinRequired));
    assert_eq!(start(ClientConfig { require_pin: true, ..client_config() }), None);
    let classical =
        ClientConfig { require_pq: true, kem: KemPolicy::ClassicalOnly, ..client_config() };
    assert_eq!(start(classical), Some(HandshakeError::PostQuantumRequired));
    let lenient =
        ClientConfig { require_pq: true, kem: KemPolicy::AllowClassical, ..client_config() };
    let server = ServerConfig { kem: KemPolicy::ClassicalOnly, ..server_config() };
    let error = run(lenient, server).err().unwrap();
    assert_eq!(error, (Role::Client, HandshakeError::PostQuantumRequired));
}

// spec-test: HS-80, HS-81
#[test]
fn an_exchange_folds_the_same_secret_into_both_sides() {
    for (of_client, of_server) in all_backends() {
        let client = ClientConfig { backend: of_client, ..client_config() };
        let server = ServerConfig { backend: of_server, ..server_config() };
        let mut ends = run(client, server).unwrap();
        let mut client = ends.from_client.security.take().unwrap();
        let mut server = ends.from_server.security.take().unwrap();
        let psk = *client.resumption_psk(b"n");
        let (renewal, offer) = Renewal::begin(&client, 4, &mut ends.rng).unwrap();
        assert_eq!(renewal.round(), 4);
        assert!(Renewal::answer(&server, 5, &offer, &mut ends.rng).is_err());
        let (answer, of_server) = Renewal::answer(&server, 4, &offer, &mut ends.rng).unwrap();
        let of_client = renewal.finish(&answer).unwrap();
        let mut client_keys = ends.from_client.data_keys.take().unwrap();
        let mut server_keys = ends.from_server.data_keys.take().unwrap();
        let plain = client_keys.next();
        server_keys.next();
        let (seal, _) = client_keys.fold(&of_client);
        let (_, open) = server_keys.fold(&of_server);
        let mut packet = [0; 40];
        seal.seal_in_place(1, b"", &mut packet).unwrap();
        let mut copy = packet;
        assert!(open.open_in_place(1, b"", &mut packet).is_ok());
        assert!(plain.0.open_in_place(1, b"", &mut copy).is_err());
        client.renew(&of_client);
        server.renew(&of_server);
        assert!(client.hybrid && server.hybrid);
        assert_ne!(*client.resumption_psk(b"n"), psk);
        assert_eq!(client.resumption_psk(b"n"), server.resumption_psk(b"n"));
    }
}

// spec-test: HS-17, HS-80
#[test]
fn exchange_messages_that_were_changed_lead_to_other_keys_or_to_errors() {
    let mut ends = run(client_config(), server_config()).unwrap();
    let client = ends.from_client.security.take().unwrap();
    let server = ends.from_server.security.take().unwrap();
    let mut data = ends.from_client.data_keys.take().unwrap();
    data.next();
    for at in (0..1223).step_by(41) {
        let (renewal, mut offer) = Renewal::begin(&client, 0, &mut ends.rng).unwrap();
        offer[at] ^= 2;
        let Ok((answer, of_server)) = Renewal::answer(&server, 0, &offer, &mut ends.rng) else {
            continue;
        };
        let Ok(of_client) = renewal.finish(&answer) else { continue };
        let schedule = client.schedule;
        let secret = schedule.hash(&[b"secret"]);
        let same = of_client.fold(&schedule, &secret).as_bytes()
            == of_server.fold(&schedule, &secret).as_bytes();
        assert!(!same, "byte {at}");
    }
    let (_, offer) = Renewal::begin(&client, 0, &mut ends.rng).unwrap();
    for len in 0..offer.len() {
        assert!(Renewal::answer(&server, 0, &offer[..len], &mut ends.rng).is_err());
    }
}

// spec-test: HS-66
#[test]
fn a_ticket_is_kept_for_a_day_and_for_a_delegation_at_most() {
    let (client, server) = (client_config(), server_config());
    let mut ends = Ends::shared(&Arc::new(clone(&client)), &Arc::new(clone_server(&server)), 1);
    ends.run(|_, _| {}).unwrap();
    let grant = grant(&ends, &keys(), &server);
    let security = ends.from_client.security.as_mut().unwrap();
    let mut kept = |lifetime_s: u32, until: Option<u64>| {
        security.peer.as_mut().unwrap().until = until;
        let grant = TicketGrant { lifetime_s, ..grant.clone() };
        let ticket = ClientTicket::keep(&grant, security, None, b"limits", NOW_MS).unwrap();
        assert_eq!((ticket.received_ms, ticket.max_early_data), (NOW_MS, 4000));
        ticket.lifetime_s
    };
    assert_eq!(kept(3600, None), 3600);
    assert_eq!(kept(u32::MAX, None), 86_400);
    assert_eq!(kept(3600, Some(NOW + 60)), 60);
    assert_eq!(kept(3600, Some(NOW + 7200)), 3600);
    assert_eq!(kept(3600, Some(NOW - 1)), 0);
    assert_eq!(kept(3600, Some(u64::MAX)), 3600);
    security.peer = None;
    assert!(ClientTicket::keep(&grant, security, None, b"limits", NOW_MS).is_none());
}

// spec-test: HS-68
#[test]
fn a_ticket_cannot_be_told_by_its_age() {
    let secrets =
        |psk: [u8; 32]| EarlySecrets::new(Backend::preferred(), Suite::Aes128Gcm, VERSION_1, &psk);
    let one = secrets([1; 32]);
    let masks =
        [one.age_mask(&[1; 32]), one.age_mask(&[2; 32]), secrets([2; 32]).age_mask(&[1; 32])];
    assert!(masks[0] != masks[1] && masks[0] != masks[2], "{masks:x?}");
    assert_eq!(masks[0], one.age_mask(&[1; 32]));
}
