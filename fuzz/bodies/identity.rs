//! What must hold of texts and structures that name identities: what reads is what was written.

use jsp_crypto::{Delegation, Fingerprint, Identity, fuzzing};

/// The first byte says what the rest is. Answers 1 when it could be read.
pub fn text(data: &[u8]) -> usize {
    let Some((choice, rest)) = data.split_first() else { return 0 };
    let read = match choice % 5 {
        0 => String::from_utf8(rest.to_vec()).is_ok_and(|text| fingerprint(&text)),
        1 => String::from_utf8(rest.to_vec()).is_ok_and(|text| key_file(&text)),
        2 => known_hosts(rest),
        3 => delegation(rest),
        _ => typed(rest),
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
    assert!(read.verify(1_800_000_000).is_err(), "nobody has signed this");
    true
}

/// One that is true in the beginning, with bytes changed.
fn typed(changes: &[u8]) -> bool {
    let Some((seed, changes)) = changes.split_first_chunk::<4>() else { return false };
    let mut whole = [7; 32];
    whole[..4].copy_from_slice(seed);
    let Some(identity) = Identity::from_seed(&whole) else { return false };
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
