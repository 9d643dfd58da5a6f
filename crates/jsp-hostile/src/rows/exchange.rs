//! Attacks on the key exchange: changed messages, borrowed identities, bad keys.

use std::sync::Arc;

use jsp_crypto::identity::SignError;
use jsp_crypto::{
    ClientConfig, Credential, Floor, Handshake, HandshakeError, Identity, KemPolicy, Level, Output,
    PublicIdentity, ServerConfig, ServerIdentity, Signer, VERSION_1, close,
};
use sha2::{Digest, Sha256};

use crate::peer::{Random, UNIX_SECONDS};
use crate::row::{Figure, Run};
use crate::victim::{identity, pinned};

/// What came of an exchange with somebody in between.
#[derive(Default)]
struct Outcome {
    client_done: bool,
    server_done: bool,
    errors: Vec<HandshakeError>,
}

/// Messages in their order: hello, server hello, server flight, client flight.
const MESSAGES: usize = 4;

/// Runs an exchange; `change` may alter each message by its place in [`MESSAGES`].
fn exchange(
    client: Result<Handshake, HandshakeError>,
    server: ServerConfig,
    random: &mut Random,
    mut change: impl FnMut(usize, &mut Vec<u8>),
) -> Outcome {
    let mut outcome = Outcome::default();
    let mut client = client.expect("a hello");
    let mut server = Handshake::server(Arc::new(server), vec![1, 2, 3]);
    let mut place = 0;
    for _ in 0..MESSAGES {
        for to_server in [true, false] {
            let (from, to) =
                if to_server { (&mut client, &mut server) } else { (&mut server, &mut client) };
            for output in std::iter::from_fn(|| from.poll()) {
                let Output::Send { level, mut message } = output else { continue };
                change(place, &mut message);
                place += 1;
                if let Err(error) = to.read(level, &message, UNIX_SECONDS, random) {
                    outcome.errors.push(error);
                }
            }
        }
    }
    outcome.client_done = client.is_complete();
    outcome.server_done = server.is_complete();
    outcome
}

fn client(config: ClientConfig, random: &mut Random) -> Result<Handshake, HandshakeError> {
    Handshake::client(Arc::new(config), b"params", random)
}

fn server() -> ServerConfig {
    ServerConfig::new(identity())
}

/// Row 15: every byte of every message, one at a time.
pub(super) fn transcript(run: &mut Run) -> Figure {
    let random = &mut run.random.clone();
    let mut lengths = Vec::new();
    exchange(client(pinned(), random), server(), random, |_, bytes| lengths.push(bytes.len()));
    let step = run.count(23, 1) as usize;
    let (mut changed, mut passed, mut other_codes) = (0u64, 0u64, 0u64);
    for (place, len) in lengths.iter().enumerate() {
        for at in (0..*len).step_by(step).chain([len - 1]) {
            let bit = 1 << random.below(8);
            let outcome = exchange(client(pinned(), random), server(), random, |n, bytes| {
                if n == place
                    && let Some(byte) = bytes.get_mut(at)
                {
                    *byte ^= bit;
                }
            });
            changed += 1;
            // With its last message a client is done; the server must not be.
            let is_last = place + 1 == MESSAGES;
            passed += u64::from(outcome.server_done || (outcome.client_done && !is_last));
            let generic = |error: &HandshakeError| error.close_code() == close::HANDSHAKE_FAILED;
            other_codes += u64::from(!outcome.errors.iter().all(generic));
        }
    }
    let held = passed == 0 && other_codes == 0 && lengths.len() == MESSAGES;
    Figure::new(
        held,
        format!("{changed} changes, {passed} passed, {other_codes} told by another code"),
    )
}

/// Where the lists of offers stand in a hello: versions, suites, key exchanges, signatures.
fn offers(hello: &[u8]) -> std::ops::Range<usize> {
    let start = 3 + 32;
    let end = (0..4).fold(start, |at, _| at + 1 + usize::from(hello[at]));
    start..end
}

/// Row 14: less than what both could do.
pub(super) fn downgrade(run: &mut Run) -> Figure {
    let random = &mut run.random.clone();
    let mut hello = Vec::new();
    exchange(client(pinned(), random), server(), random, |n, bytes| {
        if n == 0 {
            hello.clone_from(bytes);
        }
    });
    let (mut tries, mut passed) = (0u64, 0u64);
    // Each byte of the offers becomes each other value, or every tenth of them.
    for at in offers(&hello) {
        for value in (0..=255u8).step_by(run.count(51, 1) as usize) {
            let mut is_change = false;
            let outcome = exchange(client(pinned(), random), server(), random, |n, bytes| {
                if n == 0 {
                    is_change = bytes[at] != value;
                    bytes[at] = value;
                }
            });
            tries += u64::from(is_change);
            passed += u64::from(is_change && (outcome.client_done || outcome.server_done));
        }
    }
    // Forced to X25519 alone, where one side does not allow it, or the server was better before.
    let classical = || {
        let mut config = server();
        config.kem = KemPolicy::ClassicalOnly;
        config
    };
    let allow = |floor| {
        let mut config = pinned();
        config.kem = KemPolicy::AllowClassical;
        config.floor = floor;
        config
    };
    let known = Floor { version: VERSION_1, post_quantum: true };
    for config in [pinned(), allow(known)] {
        let outcome = exchange(client(config, random), classical(), random, |_, _| {});
        tries += 1;
        passed += u64::from(outcome.client_done);
    }
    // Both allow it and nothing better is known: the control.
    let control = exchange(client(allow(Floor::default()), random), classical(), random, |_, _| {});
    // A list of versions that is not the server's, and a floor above what it says.
    let forged =
        Handshake::client_after_negotiation(Arc::new(pinned()), b"params", &[0x0b0b_0b0b], random);
    let outcome = exchange(forged, server(), random, |_, _| {});
    passed += u64::from(outcome.client_done);
    let mut higher = pinned();
    higher.floor = Floor { version: VERSION_1 + 1, post_quantum: true };
    passed += u64::from(exchange(client(higher, random), server(), random, |_, _| {}).client_done);
    tries += 2;
    let (with_tickets, not_found_out) = super::tickets::downgrades(run);
    tries += with_tickets;
    passed += not_found_out;
    let held = passed == 0 && control.client_done;
    Figure::new(held, format!("{tries} attempts, {passed} not found out"))
}

/// u-coordinates of small order on Curve25519 and its twist (RFC 7748, section 7; libsodium's list).
const SMALL_X25519: [[u8; 32]; 7] = {
    let mut list = [[0; 32]; 7];
    list[1][0] = 1;
    list[2] = hex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800");
    list[3] = hex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157");
    list[4] = hex("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f");
    list[5] = hex("edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f");
    list[6] = hex("eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f");
    list
};

/// Points of small order on Ed25519, and encodings that are not canonical (Chalkias, Garillot and
/// Nikolaenko, 2020, table 6a).
const SMALL_ED25519: [[u8; 32]; 8] = [
    hex("0100000000000000000000000000000000000000000000000000000000000000"),
    hex("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
    hex("0000000000000000000000000000000000000000000000000000000000000080"),
    hex("0000000000000000000000000000000000000000000000000000000000000000"),
    hex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"),
    hex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"),
    hex("0100000000000000000000000000000000000000000000000000000000000080"),
    hex("eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
];

const fn hex(text: &str) -> [u8; 32] {
    const fn digit(byte: u8) -> u8 {
        if byte <= b'9' { byte - b'0' } else { byte - b'a' + 10 }
    }
    let text = text.as_bytes();
    let mut out = [0; 32];
    let mut at = 0;
    while at < 32 {
        out[at] = digit(text[2 * at]) << 4 | digit(text[2 * at + 1]);
        at += 1;
    }
    out
}

/// Signs with what it likes under any name.
struct Impostor {
    public: PublicIdentity,
    signature: Option<Vec<u8>>,
    own: Arc<Identity>,
}

impl Signer for Impostor {
    fn public(&self) -> PublicIdentity {
        self.public.clone()
    }

    fn sign_message(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
        self.signature.clone().map_or_else(|| self.own.sign_message(message), Ok)
    }
}

fn impostor(public: PublicIdentity, signature: Option<Vec<u8>>) -> ServerConfig {
    let own = Arc::new(Identity::from_seed(&[66; 32]).expect("a seed"));
    let signer: Arc<dyn Signer> = Arc::new(Impostor { public, signature, own });
    ServerConfig::new(Credential::new(signer))
}

/// Row 16: keys that a sound implementation refuses.
pub(super) fn bad_keys(run: &mut Run) -> Figure {
    let random = &mut run.random.clone();
    let anybody = || ClientConfig::new(ServerIdentity::AnyInsecure);
    let (mut tries, mut accepted) = (0u64, 0u64);
    for point in SMALL_X25519 {
        for high_bit in [0, 0x80] {
            let mut point = point;
            point[31] |= high_bit;
            for place in [0, 1] {
                // The hello's key, then the server hello's: the secret must not be made at all.
                let mut heard = false;
                let outcome = exchange(client(anybody(), random), server(), random, |n, bytes| {
                    heard |= n == 2;
                    if n == place {
                        let at = if n == 0 { offers(bytes).end } else { 3 + 32 + 7 };
                        bytes[at..at + 32].copy_from_slice(&point);
                    }
                });
                let refused = outcome.errors.contains(&HandshakeError::KeyShare);
                tries += 1;
                accepted += u64::from(!refused || (place == 0 && heard));
            }
        }
    }
    // Encapsulation keys with a coefficient that is not reduced, named truly by the core.
    for at in [0usize, 3, 381, 1149] {
        let outcome = exchange(client(anybody(), random), server(), random, |n, bytes| {
            if n == 0 {
                let ek = bytes.len() - 1184;
                bytes[ek + at..ek + at + 2].copy_from_slice(&[0xff, 0xff]);
                let hash = Sha256::digest(&bytes[ek..]);
                let core = offers(bytes).end + 32;
                bytes[core..core + 32].copy_from_slice(&hash);
            }
        });
        tries += 1;
        accepted += u64::from(outcome.errors.first() != Some(&HandshakeError::KeyShare));
    }
    // Identities of small order: with R of small order and S zero a lax check passes.
    for key in SMALL_ED25519 {
        for nonce in SMALL_ED25519 {
            let mut signature = vec![0; 64];
            signature[..32].copy_from_slice(&nonce);
            let config = impostor(PublicIdentity::ed25519(key), Some(signature));
            tries += 1;
            let outcome = exchange(client(anybody(), random), config, random, |_, _| {});
            accepted += u64::from(outcome.client_done);
        }
    }
    Figure::new(accepted == 0, format!("{tries} keys and signatures, {accepted} accepted"))
}

/// Row 17: the name of one, the key of another.
pub(super) fn borrowed_identity(run: &mut Run) -> Figure {
    let random = &mut run.random.clone();
    let tries = run.count(20, 5_000);
    let (mut accepted, mut clients) = (0u64, 0u64);
    for _ in 0..tries {
        let config = impostor(identity().public(), None);
        let outcome = exchange(client(pinned(), random), config, random, |_, _| {});
        accepted += u64::from(outcome.client_done);
        // A client that shows somebody else's identity to a server that wants one.
        let mut asking = server();
        asking.client_auth = jsp_crypto::ClientAuth::Required(Box::new(Anybody));
        let own = Arc::new(Identity::from_seed(&[66; 32]).expect("a seed"));
        let victim = Identity::from_seed(&[9; 32]).expect("a seed").public();
        let signer: Arc<dyn Signer> = Arc::new(Impostor { public: victim, signature: None, own });
        let mut config = pinned();
        config.credential = Some(Credential::new(signer));
        let outcome = exchange(client(config, random), asking, random, |_, _| {});
        clients += u64::from(outcome.server_done);
    }
    let held = accepted == 0 && clients == 0;
    Figure::new(
        held,
        format!("{tries} servers and as many clients, {} accepted", accepted + clients),
    )
}

/// Accepts every client that has proved who it is.
struct Anybody;

impl jsp_crypto::ClientVerifier for Anybody {
    fn verify(&self, _: &jsp_crypto::PeerIdentity) -> Result<(), jsp_crypto::VerifierRejection> {
        Ok(())
    }
}

/// A client's machine after `count` different server hellos to one hello: how many it tried.
pub(super) fn hellos_tried(count: usize, random: &mut Random) -> usize {
    let mut client = client(pinned(), random).expect("a hello");
    let Some(Output::Send { message, .. }) = client.poll() else { return 0 };
    for _ in 0..count {
        let other = Arc::new(impostor(identity().public(), None));
        let mut server = Handshake::server(other, vec![1]);
        server.read(Level::Initial, &message, UNIX_SECONDS, random).expect("a true hello");
        for output in std::iter::from_fn(|| server.poll()) {
            if let Output::Send { level: Level::Initial, message } = output {
                let _ = client.read(Level::Initial, &message, UNIX_SECONDS, random);
            }
        }
    }
    std::iter::from_fn(|| client.poll())
        .filter(|output| matches!(output, Output::HandshakeKeys { .. }))
        .count()
}
