//! Deterministic test vectors for other implementations, as JSON text.
//!
//! All values come from the portable backend with fixed seeds. Byte strings
//! are in hexadecimal.

mod resumption;

use crate::cookie::CookieKeys;
use crate::handshake::{
    ClientAuth, ClientConfig, ClientVerifier, Handshake, HandshakeError, KemPolicy, Level, Output,
    PeerIdentity, Role, ServerConfig, ServerIdentity, SignaturePolicy, VERSION_1,
    VerifierRejection,
};
use crate::identity::{Delegation, Fingerprint, Identity, SignatureScheme};
use crate::packet::{DirectionKeys, Keys, PacketKey, TAG_LEN};
use crate::primitives::Backend;
use crate::rng::Rng;
use crate::schedule::{DataKeys, Schedule, initial_keys_with};
use crate::secret::Digest;
use crate::suite::Suite;
use crate::test_rng::SeededRng;
use crate::{reset_token, retry_integrity_tag};
use alloc::boxed::Box;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;

/// The backend of all vectors.
const BACKEND: Backend = Backend::Portable;
/// The time of the vectors, seconds since 1970 UTC.
const TIME: u64 = 1_800_000_000;
/// 192.0.2.1, a client of whom reset tokens are.
const RESET_HOST: [u8; 4] = [192, 0, 2, 1];
/// The destination connection id of the vectors.
const DCID: [u8; 8] = [0x83, 0x94, 0xc8, 0xf0, 0x3e, 0x51, 0x57, 0x08];

/// A JSON value.
enum Json {
    Hex(Vec<u8>),
    Text(String),
    Number(u64),
    List(Vec<Json>),
    Object(Vec<(&'static str, Json)>),
}

fn hex(bytes: &[u8]) -> Json {
    Json::Hex(bytes.to_vec())
}

fn text(text: &str) -> Json {
    Json::Text(text.to_string())
}

impl Json {
    fn write(&self, indent: usize, out: &mut String) {
        match self {
            Self::Hex(bytes) => {
                out.push('"');
                for byte in bytes {
                    out.push_str(&alloc::format!("{byte:02x}"));
                }
                out.push('"');
            }
            // The vectors' texts hold nothing that JSON escapes.
            Self::Text(text) => out.push_str(&alloc::format!("\"{text}\"")),
            Self::Number(number) => out.push_str(&number.to_string()),
            Self::List(items) => {
                let items = items.iter().map(|item| (None, item));
                write_block('[', ']', items, indent, out);
            }
            Self::Object(fields) => {
                let fields = fields.iter().map(|(name, value)| (Some(*name), value));
                write_block('{', '}', fields, indent, out);
            }
        }
    }
}

fn write_block<'j>(
    open: char,
    close: char,
    items: impl Iterator<Item = (Option<&'static str>, &'j Json)>,
    indent: usize,
    out: &mut String,
) {
    let inner = indent.saturating_add(2);
    out.push(open);
    for (index, (name, value)) in items.enumerate() {
        out.push_str(if index == 0 { "\n" } else { ",\n" });
        out.push_str(&" ".repeat(inner));
        if let Some(name) = name {
            out.push_str(&alloc::format!("\"{name}\": "));
        }
        value.write(inner, out);
    }
    out.push('\n');
    out.push_str(&" ".repeat(indent));
    out.push(close);
}

/// Every vector file: its name and its contents. An error would mean that the
/// handshake does not work at all.
pub fn files() -> Result<Vec<(&'static str, String)>, HandshakeError> {
    let files = [
        ("crypto-labels.json", labels()),
        ("crypto-initial.json", initial()),
        ("crypto-seal.json", seal()),
        ("crypto-stateless.json", stateless()),
        ("crypto-identity.json", identities()?),
        ("crypto-transcript.json", transcripts()?),
        ("crypto-resumption.json", resumption::resumptions()?),
    ];
    Ok(files
        .into_iter()
        .map(|(name, value)| {
            let mut out = String::new();
            value.write(0, &mut out);
            out.push('\n');
            (name, out)
        })
        .collect())
}

fn labels() -> Json {
    let list = [Suite::ChaCha20Poly1305, Suite::Aes256Gcm].into_iter().flat_map(|suite| {
        let schedule = Schedule::new(BACKEND, suite, VERSION_1);
        let secret = Digest::from_slice(&alloc::vec![0x0b; schedule.alg.len()]);
        let context = Digest::from_slice(&alloc::vec![0x0c; schedule.alg.len()]);
        ["jsp1 derived", "jsp1 client handshake", "jsp1 key", "jsp1 iv", "jsp1 hp", "jsp1 ku"].map(
            move |label| {
                Json::Object(alloc::vec![
                    ("suite", Json::Number(u64::from(suite.id()))),
                    ("version", Json::Number(u64::from(VERSION_1))),
                    ("secret", hex(secret.as_bytes())),
                    ("label", text(label)),
                    ("context", hex(context.as_bytes())),
                    ("out", hex(schedule.expand(&secret, label, context.as_bytes()).as_bytes())),
                ])
            },
        )
    });
    Json::List(list.collect())
}

/// A short packet sealed under `key` with number `pn`.
fn sealed(key: &PacketKey, pn: u64) -> Json {
    let mut buf = b"packet text".to_vec();
    buf.resize(buf.len().saturating_add(TAG_LEN), 0);
    // Neither the number nor the length is out of range.
    let _ = key.seal_in_place(pn, b"packet header", &mut buf);
    Json::Hex(buf)
}

/// What shows that a direction's keys are right: a packet and a mask.
fn direction(keys: &DirectionKeys, pn: u64) -> Json {
    Json::Object(alloc::vec![
        ("pn", Json::Number(pn)),
        ("header", hex(b"packet header")),
        ("plaintext", hex(b"packet text")),
        ("sealed", sealed(&keys.packet, pn)),
        ("mask_sample", hex(&[0x5a; 16])),
        ("mask", hex(&keys.header.mask(&[0x5a; 16]))),
    ])
}

fn both_directions(keys: &Keys) -> Json {
    Json::Object(alloc::vec![
        ("client", direction(&keys.local, 1)),
        ("server", direction(&keys.remote, 1)),
    ])
}

fn initial() -> Json {
    let pin = Fingerprint::from_bytes([0x77; 32]);
    let list = [None, Some(&pin)].map(|pin| {
        let keys = initial_keys_with(BACKEND, Role::Client, VERSION_1, &DCID, pin);
        Json::Object(alloc::vec![
            ("version", Json::Number(u64::from(VERSION_1))),
            ("dcid", hex(&DCID)),
            ("pin", hex(pin.map_or(&[][..], |pin| pin.as_bytes()))),
            ("keys", both_directions(&keys)),
        ])
    });
    Json::List(list.into())
}

fn seal() -> Json {
    let list = Suite::ALL.map(|suite| {
        let schedule = Schedule::new(BACKEND, suite, VERSION_1);
        let secret = Digest::from_slice(&alloc::vec![0x0d; schedule.alg.len()]);
        Json::Object(alloc::vec![
            ("suite", Json::Number(u64::from(suite.id()))),
            ("secret", hex(secret.as_bytes())),
            ("keys", direction(&schedule.direction(suite, &secret), 0x1234_5678_9abc)),
        ])
    });
    Json::List(list.into())
}

fn stateless() -> Json {
    let mut rng = SeededRng(1);
    let mut key = [0; 32];
    SeededRng(1).fill(&mut key);
    let keys = CookieKeys::new(&mut rng);
    let address = [192, 0, 2, 1, 0x11, 0x51];
    let core = [0x66; 32];
    Json::Object(alloc::vec![
        ("cookie_key", hex(&key)),
        ("address", hex(&address)),
        ("odcid", hex(&DCID)),
        ("core_hash", hex(&core)),
        ("time", Json::Number(TIME)),
        ("cookie", hex(&keys.mint(&address, &DCID, Some(&core), TIME))),
        ("cookie_unbound", hex(&keys.mint(&address, &DCID, None, TIME))),
        ("retry_version", Json::Number(u64::from(VERSION_1))),
        ("retry_packet", hex(b"retry packet")),
        ("retry_tag", hex(&retry_integrity_tag(VERSION_1, &DCID, b"retry packet"))),
        ("reset_key", hex(&[0x22; 32])),
        ("reset_host", hex(&RESET_HOST)),
        ("reset_token", hex(&reset_token(&[0x22; 32], &DCID, &RESET_HOST))),
    ])
}

/// Of the backend that signs deterministically.
fn identity_of(scheme: SignatureScheme, byte: u8) -> Result<Identity, HandshakeError> {
    Identity::of_backend(BACKEND, scheme, &[byte; 32]).ok_or(HandshakeError::Backend)
}

fn identities() -> Result<Json, HandshakeError> {
    let (ed25519, ml_dsa) = (SignatureScheme::Ed25519, SignatureScheme::MlDsa65);
    Ok(Json::List(alloc::vec![
        identity(ed25519, ed25519)?,
        identity(ml_dsa, ed25519)?,
        identity(ml_dsa, ml_dsa)?,
    ]))
}

fn identity(scheme: SignatureScheme, online: SignatureScheme) -> Result<Json, HandshakeError> {
    let identity = identity_of(scheme, 1)?;
    let online = identity_of(online, 2)?;
    let until = TIME.saturating_add(86_400);
    let delegation = Delegation::issue(&identity, online.public(), TIME, until, 3)
        .map_err(|_| HandshakeError::Signer)?;
    let signature = identity.sign("example", b"content").map_err(|_| HandshakeError::Signer)?;
    Ok(Json::Object(alloc::vec![
        ("scheme", Json::Number(u64::from(scheme.id()))),
        ("seed", hex(identity.seed())),
        ("public", hex(identity.public().key())),
        ("fingerprint", hex(identity.fingerprint().as_bytes())),
        ("fingerprint_text", text(&identity.fingerprint().to_string())),
        ("purpose", text("example")),
        ("content", hex(b"content")),
        ("signature", hex(&signature)),
        ("online_scheme", Json::Number(u64::from(online.scheme().id()))),
        ("online_seed", hex(online.seed())),
        ("not_before", Json::Number(TIME)),
        ("not_after", Json::Number(until)),
        ("serial", Json::Number(3)),
        ("delegation", hex(&delegation.to_bytes())),
    ]))
}

/// Keeps what it gives out, so that the vectors can name the private keys.
struct Recording {
    rng: SeededRng,
    draws: Vec<Vec<u8>>,
}

impl Recording {
    fn new(seed: u64) -> Self {
        Self { rng: SeededRng(seed), draws: Vec::new() }
    }

    fn draw(&self, index: usize) -> Json {
        Json::Hex(self.draws.get(index).cloned().unwrap_or_default())
    }
}

impl Rng for Recording {
    fn fill(&mut self, out: &mut [u8]) {
        self.rng.fill(out);
        self.draws.push(out.to_vec());
    }
}

struct AcceptAll;

impl ClientVerifier for AcceptAll {
    fn verify(&self, _: &PeerIdentity) -> Result<(), VerifierRejection> {
        Ok(())
    }
}

const ED25519: SignatureScheme = SignatureScheme::Ed25519;

fn transcripts() -> Result<Json, HandshakeError> {
    Ok(Json::List(alloc::vec![
        transcript(Suite::ChaCha20Poly1305, KemPolicy::Hybrid, ED25519, false)?,
        transcript(Suite::Aes256Gcm, KemPolicy::Hybrid, ED25519, true)?,
        transcript(Suite::Aes128Gcm, KemPolicy::ClassicalOnly, ED25519, false)?,
        transcript(Suite::ChaCha20Poly1305, KemPolicy::Hybrid, SignatureScheme::MlDsa65, true)?,
    ]))
}

/// The parts of a client's output that the vectors show.
#[derive(Default)]
struct Shown {
    sent: Vec<Vec<u8>>,
    handshake_keys: Option<Keys>,
    data_keys: Option<DataKeys>,
    security: Option<crate::Security>,
    early_keys: Option<DirectionKeys>,
}

fn drain(handshake: &mut Handshake, shown: &mut Shown) {
    while let Some(output) = handshake.poll() {
        match output {
            Output::Send { message, .. } => shown.sent.push(message),
            Output::HandshakeKeys { keys, .. } => shown.handshake_keys = Some(keys),
            Output::DataKeys(keys) => shown.data_keys = Some(keys),
            Output::Complete(security) => shown.security = Some(security),
            Output::EarlyKeys(keys) => shown.early_keys = Some(keys),
            Output::Committed { .. } | Output::PeerParams(_) | Output::Provisional(_) => {}
        }
    }
}

fn configs(
    suite: Suite,
    kem: KemPolicy,
    scheme: SignatureScheme,
    client_auth: bool,
) -> Result<(Arc<ClientConfig>, Arc<ServerConfig>), HandshakeError> {
    let identity = Arc::new(identity_of(scheme, 1)?);
    let protocols = alloc::vec![b"example".to_vec()];
    let client = ClientConfig {
        backend: BACKEND,
        suites: alloc::vec![suite],
        kem,
        credential: if client_auth { Some(Arc::new(identity_of(scheme, 3)?).into()) } else { None },
        application_protocols: protocols.clone(),
        signatures: match scheme {
            SignatureScheme::Ed25519 => SignaturePolicy::Ed25519,
            SignatureScheme::MlDsa65 => SignaturePolicy::Any,
        },
        ..ClientConfig::new(ServerIdentity::Pinned(identity.fingerprint()))
    };
    let server = ServerConfig {
        backend: BACKEND,
        suites: alloc::vec![suite],
        kem,
        client_auth: match client_auth {
            true => ClientAuth::Required(Box::new(AcceptAll)),
            false => ClientAuth::None,
        },
        application_protocols: protocols,
        ..ServerConfig::new(identity)
    };
    Ok((Arc::new(client), Arc::new(server)))
}

fn transcript(
    suite: Suite,
    kem: KemPolicy,
    scheme: SignatureScheme,
    client_auth: bool,
) -> Result<Json, HandshakeError> {
    let (client_config, server_config) = configs(suite, kem, scheme, client_auth)?;
    let (mut client_rng, mut server_rng) = (Recording::new(10), Recording::new(20));
    let mut client = Handshake::client(client_config, b"client parameters", &mut client_rng)?;
    let mut server = Handshake::server(server_config, b"server parameters".to_vec());
    let (mut of_client, mut of_server) = (Shown::default(), Shown::default());
    drain(&mut client, &mut of_client);
    for message in &of_client.sent {
        server.read(Level::Initial, message, TIME, &mut server_rng)?;
    }
    drain(&mut server, &mut of_server);
    for (message, level) in of_server.sent.iter().zip([Level::Initial, Level::Handshake]) {
        client.read(level, message, TIME, &mut client_rng)?;
    }
    drain(&mut client, &mut of_client);
    for message in of_client.sent.iter().skip(1) {
        server.read(Level::Handshake, message, TIME, &mut server_rng)?;
    }
    let message = |list: &[Vec<u8>], index| Json::Hex(list.get(index).cloned().unwrap_or_default());
    let mut fields = alloc::vec![
        ("suite", Json::Number(u64::from(suite.id()))),
        ("time", Json::Number(TIME)),
        ("scheme", Json::Number(u64::from(scheme.id()))),
        ("server_seed", hex(&[1; 32])),
        ("client_x25519_private", client_rng.draw(0)),
        ("server_x25519_private", server_rng.draw(0)),
    ];
    if kem != KemPolicy::ClassicalOnly {
        fields.push(("client_ml_kem_seed", client_rng.draw(1)));
        fields.push(("server_ml_kem_message", server_rng.draw(1)));
    }
    if client_auth {
        fields.push(("client_seed", hex(&[3; 32])));
    }
    fields.extend([
        ("client_hello", message(&of_client.sent, 0)),
        ("server_hello", message(&of_server.sent, 0)),
        ("server_flight", message(&of_server.sent, 1)),
        ("client_flight", message(&of_client.sent, 1)),
    ]);
    fields.extend(results(of_client)?);
    Ok(Json::Object(fields))
}

fn results(shown: Shown) -> Result<Vec<(&'static str, Json)>, HandshakeError> {
    let missing = HandshakeError::Failed;
    let (Some(handshake), Some(mut data), Some(security)) =
        (shown.handshake_keys, shown.data_keys, shown.security)
    else {
        return Err(missing);
    };
    let phase_0 = data.take_keys().ok_or(missing)?;
    let (client, server) = data.next();
    let mut exported = [0; 32];
    // 32 bytes are within the exporter's limit.
    let _ = security.export("example", b"context", &mut exported);
    Ok(alloc::vec![
        ("handshake_keys", both_directions(&handshake)),
        ("data_keys", both_directions(&phase_0)),
        ("phase_1_client_sealed", sealed(&client, 1)),
        ("phase_1_server_sealed", sealed(&server, 1)),
        ("export_example_context", hex(&exported)),
        ("resumption_psk_nonce_00", hex(security.resumption_psk(&[0]).as_slice())),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_repeat_and_match_the_files() {
        let made = files().unwrap();
        assert_eq!(made, files().unwrap());
        let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../vectors");
        for (name, contents) in made {
            assert!(contents.len() > 200, "{name}");
            match std::fs::read_to_string(directory.join(name)) {
                Ok(stored) => assert_eq!(stored, contents, "{name} has changed"),
                Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::NotFound),
            }
        }
    }
}
