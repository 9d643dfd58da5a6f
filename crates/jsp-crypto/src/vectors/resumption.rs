//! Vectors of tickets, resumed handshakes and in-band exchanges.

use super::{
    BACKEND, ED25519, Json, Recording, Shown, TIME, both_directions, configs, direction, drain,
    hex, results, sealed,
};
use crate::client_ticket::{ClientTicket, TicketGrant};
use crate::handshake::{Handshake, HandshakeError, KemPolicy, Level, Resumption, Security};
use crate::packet::DirectionKeys;
use crate::renewal::Renewal;
use crate::schedule::DataKeys;
use crate::suite::Suite;
use crate::test_rng::SeededRng;
use crate::ticket::{PathMemory, TicketContents, TicketKeys};
use alloc::vec::Vec;

/// The secret of the ticket keys, and the nonce of the ticket's secret.
const SECRET: [u8; 32] = [0x44; 32];
const NONCE: [u8; 8] = [0x33; 8];
/// How old the ticket is when it is used, in milliseconds.
const AGE_MS: u64 = 1234;

pub(super) fn resumptions() -> Result<Json, HandshakeError> {
    Ok(Json::List(alloc::vec![
        resumption(Suite::ChaCha20Poly1305, true)?,
        resumption(Suite::Aes256Gcm, false)?,
    ]))
}

/// A full handshake, for the secrets that tickets come from.
fn first(suite: Suite) -> Result<Security, HandshakeError> {
    let (client, server) = configs(suite, KemPolicy::Hybrid, ED25519, false)?;
    let mut rng = SeededRng(30);
    let mut client = Handshake::client(client, b"client parameters", &mut rng)?;
    let mut server = Handshake::server(server, b"server parameters".to_vec());
    let (mut of_client, mut of_server) = (Shown::default(), Shown::default());
    drain(&mut client, &mut of_client);
    for message in &of_client.sent {
        server.read(Level::Initial, message, TIME, &mut rng)?;
    }
    drain(&mut server, &mut of_server);
    for (message, level) in of_server.sent.iter().zip([Level::Initial, Level::Handshake]) {
        client.read(level, message, TIME, &mut rng)?;
    }
    drain(&mut client, &mut of_client);
    of_client.security.ok_or(HandshakeError::Failed)
}

fn contents(security: &Security) -> TicketContents {
    TicketContents {
        post_quantum: true,
        suite: security.suite,
        issued_ms: TIME.saturating_mul(1000),
        lifetime_s: 3600,
        home_shard: 5,
        uid: [0x55; 16],
        psk: *security.resumption_psk(&NONCE),
        params_hash: [0x66; 8],
        client: None,
        max_early_data: 16_384,
        prefix_hash: [0x77; 4],
        path: PathMemory { rate_kib: 1000, rtt_min_us: 60_000 },
    }
}

/// What both sides have put out by the end.
struct Resumed {
    client: Shown,
    server: Shown,
    client_rng: Recording,
    server_rng: Recording,
    early: Option<DirectionKeys>,
}

fn resume(
    suite: Suite,
    ticket: ClientTicket,
    keys: &TicketKeys,
    early: bool,
) -> Result<Resumed, HandshakeError> {
    let (client_config, server_config) = configs(suite, KemPolicy::Hybrid, ED25519, false)?;
    let now_ms = TIME.saturating_mul(1000).saturating_add(AGE_MS);
    let (mut client_rng, mut server_rng) = (Recording::new(40), Recording::new(50));
    let params = b"client parameters";
    let mut client =
        Handshake::client_resuming(client_config, ticket, early, params, now_ms, &mut client_rng)?;
    let (mut of_client, mut of_server) = (Shown::default(), Shown::default());
    drain(&mut client, &mut of_client);
    let hello = of_client.sent.first().cloned().unwrap_or_default();
    let checked = Resumption::check(keys, &server_config, &hello, now_ms);
    let mut resumption = checked.ok().flatten().ok_or(HandshakeError::Failed)?;
    resumption.accept_early = early;
    let params = b"server parameters".to_vec();
    let mut server = Handshake::server_resuming(server_config, params, Some(resumption));
    server.read(Level::Initial, &hello, TIME, &mut server_rng)?;
    drain(&mut server, &mut of_server);
    for (message, level) in of_server.sent.iter().zip([Level::Initial, Level::Handshake]) {
        client.read(level, message, TIME, &mut client_rng)?;
    }
    drain(&mut client, &mut of_client);
    for message in of_client.sent.iter().skip(1) {
        server.read(Level::Handshake, message, TIME, &mut server_rng)?;
    }
    drain(&mut server, &mut of_server);
    let early = of_client.early_keys.take();
    Ok(Resumed { client: of_client, server: of_server, client_rng, server_rng, early })
}

fn resumption(suite: Suite, early: bool) -> Result<Json, HandshakeError> {
    let security = first(suite)?;
    let (_, server_config) = configs(suite, KemPolicy::Hybrid, ED25519, false)?;
    let epoch = TicketKeys::epoch_at(TIME);
    let keys = TicketKeys::new(SECRET, epoch);
    let contents = contents(&security);
    let server = server_config.fingerprint();
    let sealed =
        keys.seal(&contents, &server, &mut SeededRng(60)).ok_or(HandshakeError::Backend)?;
    let (lifetime_s, max_early_data) = (contents.lifetime_s, contents.max_early_data);
    let grant = TicketGrant { lifetime_s, max_early_data, nonce: NONCE, ticket: sealed };
    let ticket = ClientTicket::keep(&grant, &security, None, b"limits", TIME.saturating_mul(1000))
        .ok_or(HandshakeError::Failed)?;
    let resumed = resume(suite, ticket, &keys, early)?;
    let message = |list: &[Vec<u8>], index| Json::Hex(list.get(index).cloned().unwrap_or_default());
    let mut fields = alloc::vec![
        ("suite", Json::Number(u64::from(suite.id()))),
        ("ticket_secret", hex(&SECRET)),
        ("ticket_epoch", Json::Number(u64::from(epoch))),
        ("server_fingerprint", hex(server.as_bytes())),
        ("ticket_contents", hex(&contents.to_bytes())),
        ("ticket_frame", hex(&grant.to_bytes())),
        ("psk", hex(&contents.psk)),
        ("age_ms", Json::Number(AGE_MS)),
        ("client_x25519_private", resumed.client_rng.draw(0)),
        ("server_x25519_private", resumed.server_rng.draw(0)),
        ("client_hello", message(&resumed.client.sent, 0)),
        ("server_hello", message(&resumed.server.sent, 0)),
        ("server_flight", message(&resumed.server.sent, 1)),
        ("client_flight", message(&resumed.client.sent, 1)),
    ];
    if let Some(early) = &resumed.early {
        fields.push(("early_keys", direction(early, 1)));
    }
    fields.push(("exchange", exchange(suite)?));
    fields.extend(results(resumed.client)?);
    Ok(Json::Object(fields))
}

/// An exchange over the first connection, and the phase with its secret in it.
fn exchange(suite: Suite) -> Result<Json, HandshakeError> {
    let mut security = first(suite)?;
    let (mut client_rng, mut server_rng) = (Recording::new(70), Recording::new(80));
    let (renewal, offer) = Renewal::begin(&security, 0, &mut client_rng)?;
    let (answer, _) = Renewal::answer(&security, 0, &offer, &mut server_rng)?;
    let fresh = renewal.finish(&answer)?;
    let schedule = crate::schedule::Schedule::new(BACKEND, suite, security.version);
    let secret = crate::secret::Digest::from_slice(&alloc::vec![0x0e; schedule.alg.len()]);
    let pair = crate::schedule::Pair { local: secret.clone(), remote: secret.clone() };
    let mut keys = DataKeys::new(schedule, suite, pair);
    let phase_0 = keys.take_keys().ok_or(HandshakeError::Failed)?;
    keys.next();
    let (folded, _) = keys.fold(&fresh);
    security.renew(&fresh);
    Ok(Json::Object(alloc::vec![
        ("client_x25519_private", client_rng.draw(0)),
        ("client_ml_kem_seed", client_rng.draw(1)),
        ("server_x25519_private", server_rng.draw(0)),
        ("server_ml_kem_message", server_rng.draw(1)),
        ("offer", hex(&offer)),
        ("answer", hex(&answer)),
        ("data_secret", hex(secret.as_bytes())),
        ("phase_0", both_directions(&phase_0)),
        ("phase_1_folded_sealed", sealed(&folded, 1)),
        ("resumption_psk_nonce_00", hex(security.resumption_psk(&[0]).as_slice())),
    ]))
}
