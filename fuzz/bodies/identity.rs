//! What must hold of texts and structures that name identities: what reads is what was written.

use std::sync::OnceLock;

use jsp_crypto::{
    Delegation, DelegationError, Fingerprint, Identity, PublicIdentity, SignatureScheme, fuzzing,
};

/// Everything that an identity can sign with.
const SCHEMES: [SignatureScheme; 2] = [SignatureScheme::Ed25519, SignatureScheme::MlDsa65];
/// A second within what is delegated here, since 1970 UTC.
const NOW: u64 = 1_800_000_000;

/// The first byte says what the rest is. Answers 1 when it could be read.
pub fn text(data: &[u8]) -> usize {
    let Some((choice, rest)) = data.split_first() else { return 0 };
    let read = match choice % 8 {
        0 => String::from_utf8(rest.to_vec()).is_ok_and(|text| fingerprint(&text)),
        1 => String::from_utf8(rest.to_vec()).is_ok_and(|text| key_file(&text)),
        2 => known_hosts(rest),
        3 => delegation(rest),
        4 => typed(rest),
        5 => String::from_utf8(rest.to_vec()).is_ok_and(|text| delegation_file(&text)),
        6 => issued(rest),
        _ => public(rest),
    };
    usize::from(read)
}

fn fingerprint(text: &str) -> bool {
    let Ok(fingerprint) = text.parse::<Fingerprint>() else { return false };
    assert_eq!(fingerprint.to_string(), text.to_ascii_lowercase());
    true
}

fn key_file(text: &str) -> bool {
    let Ok(identity) = Identity::from_text(text) else { return false };
    let again = identity.to_text();
    // Ends of lines, cases of letters and what follows may differ.
    assert!(Identity::from_text(&again).is_ok_and(|read| read.seed() == identity.seed()));
    assert!(text.to_ascii_lowercase().contains(&identity.fingerprint().to_string()));
    true
}

/// A store: writing what was read changes nothing that counts, and no line is lost.
fn known_hosts(bytes: &[u8]) -> bool {
    let (entries, problems, written) = fuzzing::known_hosts(bytes);
    let (again, problems_again, rewritten) = fuzzing::known_hosts(&written);
    assert_eq!(entries, again);
    assert_eq!(problems, problems_again);
    assert_eq!(written, rewritten);
    let count = |bytes: &[u8]| bytes.iter().filter(|byte| **byte == b'\n').count();
    assert!(count(&written) >= count(bytes) && count(&written) <= count(bytes) + 1);
    for (at, (host, _)) in entries.iter().enumerate() {
        assert!(!host.is_empty() && host.bytes().all(|byte| byte.is_ascii_graphic()));
        assert!(entries.iter().skip(at + 1).all(|(other, _)| other != host));
    }
    !entries.is_empty()
}

fn delegation(bytes: &[u8]) -> bool {
    let Ok(read) = Delegation::from_bytes(bytes) else { return false };
    assert_eq!(read.to_bytes(), bytes);
    assert!(read.verify(NOW).is_err(), "nobody has signed this");
    true
}

fn delegation_file(text: &str) -> bool {
    let Ok(read) = Delegation::from_text(text) else { return false };
    assert_eq!(Delegation::from_text(&read.to_text()), Ok(read));
    true
}

/// A public key of each scheme: its bytes alone say nothing of who holds it.
fn public(bytes: &[u8]) -> bool {
    let mut read = false;
    for scheme in SCHEMES {
        let Some(key) = PublicIdentity::from_key(scheme, bytes) else { continue };
        assert_eq!((key.scheme(), key.key()), (scheme, bytes));
        let signature = vec![0; scheme.signature_len()];
        assert!(!key.verify("purpose", b"content", &signature), "nobody has signed this");
        read = true;
    }
    read
}

/// True delegations, by identities and to online keys of each scheme.
fn delegations() -> &'static [Delegation] {
    static DELEGATIONS: OnceLock<Vec<Delegation>> = OnceLock::new();
    DELEGATIONS.get_or_init(|| {
        let identity =
            |scheme, byte| Identity::from_seed_with(scheme, &[byte; 32]).expect("a seed");
        let pairs = SCHEMES.into_iter().flat_map(|of| SCHEMES.map(|to| (of, to)));
        let issue = |(of, to)| {
            let online = identity(to, 2).public();
            Delegation::issue(&identity(of, 1), online, NOW - 3600, NOW + 3600, 7)
        };
        pairs.map(|pair| issue(pair).expect("a delegation")).collect()
    })
}

/// A true delegation of which bytes are changed or cut: the place in two bytes, and what is added to it.
fn issued(changes: &[u8]) -> bool {
    let Some((which, changes)) = changes.split_first() else { return false };
    let all = delegations();
    let original = &all[usize::from(*which) % all.len()];
    let mut bytes = original.to_bytes();
    for change in changes.chunks_exact(3) {
        let place = usize::from(u16::from_be_bytes([change[0], change[1]]));
        match bytes.get_mut(place) {
            Some(byte) => *byte ^= change[2],
            None if place % 2 == 0 => bytes.push(change[2]),
            None => bytes.truncate(bytes.len().saturating_sub(usize::from(change[2]))),
        }
    }
    let Ok(read) = Delegation::from_bytes(&bytes) else {
        assert!(bytes != original.to_bytes());
        return false;
    };
    assert_eq!(read.to_bytes(), bytes);
    let verdict = read.verify(NOW);
    assert_eq!(verdict.is_ok(), read == *original, "what was changed holds: {verdict:?}");
    if verdict.is_ok() {
        assert_eq!(read.verify(NOW + 3601), Err(DelegationError::Expired));
        assert_eq!(read.verify(NOW - 3601), Err(DelegationError::NotYetValid));
        return delegation_file(&read.to_text());
    }
    false
}

/// One that is true in the beginning, with bytes changed.
fn typed(changes: &[u8]) -> bool {
    let Some((seed, changes)) = changes.split_first_chunk::<4>() else { return false };
    let mut whole = [7; 32];
    whole[..4].copy_from_slice(seed);
    // Keys of ML-DSA are made slowly: one in eight.
    let scheme = SCHEMES[usize::from(seed[0] % 8 == 7)];
    let Some(identity) = Identity::from_seed_with(scheme, &whole) else { return false };
    let mut text = identity.to_text().as_bytes().to_vec();
    let original = text.clone();
    for change in changes.chunks_exact(2) {
        let place = usize::from(change[0]) % text.len();
        text[place] = change[1];
    }
    let Ok(text) = String::from_utf8(text) else { return false };
    if let Ok(read) = Identity::from_text(&text) {
        assert!(read.seed() == &whole, "a typing error makes another identity");
    } else {
        assert!(text.as_bytes() != original);
    }
    let mut hosts = b"a.example:1 ".to_vec();
    let print = text.lines().nth(1).and_then(|line| line.strip_prefix("fingerprint "));
    hosts.extend_from_slice(print.unwrap_or_default().as_bytes());
    hosts.extend_from_slice(b" 4a535001 pq\n");
    known_hosts(&hosts)
}
