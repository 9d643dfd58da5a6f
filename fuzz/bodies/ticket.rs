//! What must hold of tickets: what they hold comes back, for their life and their key's and in no other
//! form; who redeems one has its secret and sends the hello as it was made.

use std::sync::{Arc, OnceLock};

use arbitrary::{Result, Unstructured};
use jsp_crypto::{
    ClientConfig, ClientTicket, Fingerprint, Handshake, Level, Mode, Output, PathMemory,
    PeerIdentity, Resumption, Security, ServerIdentity, SignatureScheme, Suite, TicketContents,
    TicketError, TicketGrant, TicketKeys, fuzzing,
};

use super::parties::{Parties, Seeded, parties};

/// When the ticket is given, in milliseconds since 1970 UTC.
const GIVEN_MS: u64 = 1_800_000_000_000;
/// The life of the ticket that is redeemed, in seconds.
const LIFETIME_S: u32 = 3600;
/// The epoch in which the keys of made-up tickets begin.
const EPOCH: u32 = 100;
/// Seconds of one epoch.
const EPOCH_SECONDS: u64 = jsp_crypto::ticket::TICKET_KEY_SECONDS;

/// The first byte says what the rest is. Answers 1 when it was of use to whoever reads it.
pub fn tickets(data: &[u8]) -> usize {
    let Some((choice, rest)) = data.split_first() else { return 0 };
    let used = match choice % 6 {
        0 => contents(rest),
        1 => grant(rest),
        2 => stored(rest),
        3 => life(&mut Unstructured::new(rest)).unwrap_or(false),
        4 => hello(rest),
        _ => redeem(&mut Unstructured::new(rest)).unwrap_or(false),
    };
    usize::from(used)
}

/// What stands in a ticket under its seal: only a server's own words, but of any version.
fn contents(bytes: &[u8]) -> bool {
    let Some(written) = fuzzing::ticket_contents(bytes) else { return false };
    assert_eq!(written.len(), bytes.len(), "another length is read");
    // Flags that mean nothing here are not kept; the rest is.
    assert_eq!(written[2..], bytes[2..]);
    assert_eq!(fuzzing::ticket_contents(&written), Some(written));
    true
}

fn grant(bytes: &[u8]) -> bool {
    let Some(grant) = TicketGrant::from_bytes(bytes) else { return false };
    assert_eq!(grant.to_bytes(), bytes);
    true
}

fn stored(bytes: &[u8]) -> bool {
    let Some(ticket) = ClientTicket::from_bytes(bytes) else { return false };
    let written = ticket.to_bytes();
    assert_eq!(written.len(), bytes.len());
    let again = ClientTicket::from_bytes(&written).expect("what was written");
    assert_eq!(*again.to_bytes(), *written);
    let config = Arc::new(ClientConfig::new(ServerIdentity::Pinned(ticket.peer().fingerprint)));
    // Whatever is stored, a client starts with it or without.
    let client =
        Handshake::client_resuming(config, ticket, true, b"params", GIVEN_MS, &mut Seeded(3));
    assert!(client.is_ok());
    true
}

/// A ticket over time and changes of keys: a plain model says whether it opens.
fn life(u: &mut Unstructured<'_>) -> Result<bool> {
    let client: Option<[u8; 32]> = u.arbitrary()?;
    let scheme = [SignatureScheme::Ed25519, SignatureScheme::MlDsa65];
    let client = client.filter(|key| *key != [0; 32]).map(Fingerprint::from_bytes);
    let (scheme, signer, delegated) = (*u.choose(&scheme)?, *u.choose(&scheme)?, u.arbitrary()?);
    let contents = TicketContents {
        post_quantum: u.arbitrary()?,
        suite: *u.choose(&Suite::ALL)?,
        issued_ms: if u.ratio(1u8, 8)? { u.arbitrary()? } else { GIVEN_MS },
        lifetime_s: if u.ratio(1u8, 4)? { u.arbitrary()? } else { LIFETIME_S },
        home_shard: u.arbitrary()?,
        uid: u.arbitrary()?,
        psk: u.arbitrary()?,
        params_hash: u.arbitrary()?,
        client: client.map(|fingerprint| PeerIdentity {
            fingerprint,
            scheme,
            signer,
            delegated,
            until: None,
        }),
        max_early_data: u.arbitrary()?,
        prefix_hash: u.arbitrary()?,
        path: PathMemory { rate_kib: u.arbitrary()?, rtt_min_us: u.arbitrary()? },
    };
    let server = Fingerprint::from_bytes([9; 32]);
    let mut keys = TicketKeys::new([7; 32], EPOCH);
    let (before, after) = (u.int_in_range(0..=2u32)?, u.int_in_range(0..=3u32)?);
    keys.advance(u64::from(EPOCH + before) * EPOCH_SECONDS);
    let mut ticket = keys.seal(&contents, &server, &mut Seeded(5)).expect("a seal").to_vec();
    keys.advance(u64::from(EPOCH + before + after) * EPOCH_SECONDS);
    let now_ms = match u.int_in_range(0..=3u8)? {
        0 => u.arbitrary()?,
        _ => contents.issued_ms.wrapping_add_signed(i64::from(u.arbitrary::<i32>()?)),
    };
    let is_changed = change(u, &mut ticket)?;
    let server = if u.ratio(1u8, 8)? { Fingerprint::from_bytes([8; 32]) } else { server };
    let is_ours = server == Fingerprint::from_bytes([9; 32]);
    let age = now_ms.checked_sub(contents.issued_ms);
    let is_alive = age.is_some_and(|age| age <= u64::from(contents.lifetime_s) * 1000);
    match keys.open(&ticket, &server, now_ms) {
        Err(TicketError::Invalid) => assert!(is_changed || !is_ours || after > 1),
        Err(TicketError::Expired) => assert!(!is_changed && is_ours && after <= 1 && !is_alive),
        Ok(read) => {
            assert!(!is_changed && is_ours && after <= 1 && is_alive);
            assert!(read.uid == contents.uid && read.psk == contents.psk);
            assert_eq!((read.post_quantum, read.suite), (contents.post_quantum, contents.suite));
            assert_eq!(
                (read.issued_ms, read.lifetime_s),
                (contents.issued_ms, contents.lifetime_s)
            );
            assert_eq!(read.client, contents.client);
            assert_eq!((read.params_hash, read.path), (contents.params_hash, contents.path));
            assert_eq!(
                (read.home_shard, read.prefix_hash),
                (contents.home_shard, contents.prefix_hash)
            );
            assert_eq!(read.max_early_data, contents.max_early_data);
            return Ok(true);
        }
    }
    Ok(false)
}

/// Changes bytes, or their number; answers whether something is other than it was.
fn change(u: &mut Unstructured<'_>, bytes: &mut Vec<u8>) -> Result<bool> {
    let original = bytes.clone();
    for _ in 0..u.int_in_range(0..=2u8)? {
        match u.int_in_range(0..=5u8)? {
            0 => bytes.truncate(u.int_in_range(0..=bytes.len())?),
            1 => bytes.push(u.arbitrary()?),
            _ if bytes.is_empty() => {}
            _ => {
                let at = u.choose_index(bytes.len())?;
                bytes[at] ^= u.arbitrary::<u8>()?;
            }
        }
    }
    Ok(*bytes != original)
}

/// A ticket that the server gave to the client, and its name.
struct Given {
    ticket: ClientTicket,
    uid: [u8; 16],
}

fn keys() -> TicketKeys {
    TicketKeys::new([7; 32], TicketKeys::epoch_at(GIVEN_MS / 1000))
}

fn given() -> &'static Given {
    static GIVEN: OnceLock<Given> = OnceLock::new();
    GIVEN.get_or_init(|| {
        let Parties { client, server } = parties();
        let ours = Handshake::client(client.clone(), b"params", &mut Seeded(99));
        let theirs = Handshake::server(server.clone(), b"params".to_vec());
        let [ours, theirs] = run(ours.expect("a client starts"), theirs);
        let (ours, theirs) = (ours.expect("a handshake"), theirs.expect("a handshake"));
        let (nonce, uid) = ([1; 8], [2; 16]);
        let contents = TicketContents {
            post_quantum: theirs.post_quantum,
            suite: theirs.suite,
            issued_ms: GIVEN_MS,
            lifetime_s: LIFETIME_S,
            home_shard: 0,
            uid,
            psk: *theirs.resumption_psk(&nonce),
            params_hash: [0; 8],
            client: None,
            max_early_data: 4000,
            prefix_hash: [0; 4],
            path: PathMemory::default(),
        };
        let sealed = keys().seal(&contents, &server.fingerprint(), &mut Seeded(5)).expect("a seal");
        let grant =
            TicketGrant { lifetime_s: LIFETIME_S, max_early_data: 4000, nonce, ticket: sealed };
        let ticket = ClientTicket::keep(&grant, &ours, None, b"params", GIVEN_MS);
        Given { ticket: ticket.expect("the server is known"), uid }
    })
}

/// What a side wants sent; what it has agreed on goes to `security`.
fn sent(side: &mut Handshake, security: &mut Option<Security>) -> Vec<(Level, Vec<u8>)> {
    let mut messages = Vec::new();
    while let Some(output) = side.poll() {
        match output {
            Output::Send { level, message } => messages.push((level, message)),
            Output::Complete(agreed) => *security = Some(agreed),
            _ => {}
        }
    }
    messages
}

/// Both sides until neither has anything to say: what they agreed on.
fn run(mut client: Handshake, mut server: Handshake) -> [Option<Security>; 2] {
    let [mut ours, mut theirs] = [None, None];
    for _ in 0..3 {
        for (level, message) in sent(&mut client, &mut ours) {
            let _refused = server.read(level, &message, GIVEN_MS / 1000, &mut Seeded(7));
        }
        for (level, message) in sent(&mut server, &mut theirs) {
            let _refused = client.read(level, &message, GIVEN_MS / 1000, &mut Seeded(8));
        }
    }
    [ours, theirs]
}

/// Any bytes as a hello: no ticket of it is good, for nobody has its secret.
fn hello(bytes: &[u8]) -> bool {
    let (server, Given { uid, .. }) = (&parties().server, given());
    let check = Resumption::check(&keys(), server, bytes, GIVEN_MS);
    assert!(!matches!(check, Ok(Some(_))), "a binder by chance");
    // A refused ticket is named in clear: whoever has seen it can.
    let refused = Resumption::refused(&keys(), server, bytes);
    assert!(refused.is_none_or(|refused| refused.uid == *uid));
    check.is_err() || refused.is_some()
}

/// The true hello, changed or not, sooner or later.
fn redeem(u: &mut Unstructured<'_>) -> Result<bool> {
    let (Parties { client, server }, Given { ticket, uid }) = (parties(), given());
    let early: bool = u.arbitrary()?;
    let client_ms = GIVEN_MS + u64::from(u.int_in_range(0..=2 * LIFETIME_S)?) * 1000;
    let server_ms = client_ms.wrapping_add_signed(i64::from(u.arbitrary::<i16>()?) * 100);
    let seed = 1 + u64::from(u.arbitrary::<u8>()?);
    let params = u.arbitrary::<[u8; 4]>()?;
    let (config, rng) = (client.clone(), &mut Seeded(seed));
    let machine =
        Handshake::client_resuming(config, ticket.clone(), early, &params, client_ms, rng);
    let mut machine = machine.expect("a client starts");
    let is_resuming = machine.is_resuming();
    assert_eq!(is_resuming, ticket.is_valid_at(client_ms));
    let mut flight = sent(&mut machine, &mut None);
    let mut hello = flight.swap_remove(0).1;
    let is_changed = change(u, &mut hello)?;
    let check = Resumption::check(&keys(), server, &hello, server_ms);
    let lives =
        server_ms.checked_sub(GIVEN_MS).is_some_and(|age| age <= u64::from(LIFETIME_S) * 1000);
    let is_good = is_resuming && !is_changed && lives;
    let Ok(Some(mut resumption)) = check else {
        assert!(!is_good, "a good ticket is refused");
        return Ok(false);
    };
    assert!(is_good, "a ticket is redeemed that is none");
    assert_eq!((resumption.uid(), resumption.wants_early()), (uid, early));
    assert!(resumption.hello_ms().abs_diff(client_ms) <= 1);
    resumption.accept_early = early;
    let mut other =
        Handshake::server_resuming(server.clone(), b"params".to_vec(), Some(resumption));
    let read = other.read(Level::Initial, &hello, GIVEN_MS / 1000, &mut Seeded(7));
    assert!(read.is_ok());
    for agreed in run(machine, other) {
        let agreed = agreed.expect("both hold the secret");
        assert_eq!((agreed.mode, agreed.early_data), (Mode::Resumed, early));
    }
    Ok(true)
}
