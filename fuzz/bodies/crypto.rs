//! What must hold of the two backends: they answer alike, whatever they are given.

use arbitrary::{Result, Unstructured};
use jsp_crypto::{Backend, SignatureScheme, Suite, TAG_LEN, fuzzing};

const BOTH: [Backend; 2] = [Backend::Native, Backend::Portable];

/// The one answer of both backends.
fn agreed<T: PartialEq + std::fmt::Debug>(ask: impl Fn(Backend) -> T) -> T {
    let [native, portable] = BOTH.map(ask);
    assert_eq!(native, portable, "the backends disagree");
    native
}

/// Bytes of the input.
fn some<'a>(u: &mut Unstructured<'a>, max: usize) -> Result<&'a [u8]> {
    let len = u.int_in_range(0..=max)?.min(u.len());
    u.bytes(len)
}

/// The first byte chooses what is compared; the rest are keys and texts. Answers 1 when it was enough.
pub fn compare(data: &[u8]) -> usize {
    let mut u = Unstructured::new(data);
    let outcome = u.int_in_range(0..=11u8).and_then(|choice| match choice {
        0..=3 => packets(&mut u),
        4 => masks(&mut u),
        5 => hashes(&mut u),
        6 | 7 => agreement(&mut u),
        8 | 9 => signatures(&mut u),
        11 => ml_dsa(&mut u),
        _ => kem(&mut u),
    });
    usize::from(outcome.is_ok())
}

/// A packet sealed by one is opened by the other; changed, by none.
fn packets(u: &mut Unstructured<'_>) -> Result<()> {
    let suite = *u.choose(&Suite::ALL)?;
    let (key, iv, pn): ([u8; 32], [u8; 12], u64) = (u.arbitrary()?, u.arbitrary()?, u.arbitrary()?);
    let change: Option<u16> = u.arbitrary()?;
    let (header, text) = (some(u, 40)?, some(u, 1500)?);
    let with = |backend| fuzzing::packet_key(backend, suite, &key, iv);
    let sealed = agreed(|backend| {
        let mut packet = [text, &[0; TAG_LEN]].concat();
        with(backend).seal_in_place(pn, header, &mut packet).map(|()| packet)
    });
    let Ok(mut packet) = sealed else {
        assert!(pn >= 1 << 62, "a packet was not sealed");
        // What cannot be sealed cannot be opened either.
        assert!(agreed(|backend| with(backend).open_in_place(pn, header, &mut [0; 40])).is_err());
        return Ok(());
    };
    if let Some(place) = change {
        let bit = usize::from(place) % (packet.len() * 8);
        packet[bit / 8] ^= 1 << (bit % 8);
    }
    let opened = agreed(|backend| {
        let mut packet = packet.clone();
        let len = with(backend).open_in_place(pn, header, &mut packet).ok()?;
        Some(packet[..len].to_vec())
    });
    assert_eq!(opened.as_deref(), change.is_none().then_some(text));
    // A header that is one byte longer is another one; a packet without its tag is none.
    let longer = [header, &[0]].concat();
    let mut other = packet.clone();
    assert!(agreed(|b| with(b).open_in_place(pn, &longer, &mut other.clone())).is_err());
    other.truncate(TAG_LEN - 1);
    assert!(agreed(|b| with(b).open_in_place(pn, header, &mut other.clone())).is_err());
    Ok(())
}

fn masks(u: &mut Unstructured<'_>) -> Result<()> {
    let suite = *u.choose(&Suite::ALL)?;
    let (key, sample): ([u8; 32], [u8; 16]) = (u.arbitrary()?, u.arbitrary()?);
    agreed(|backend| fuzzing::header_key(backend, suite, &key).mask(&sample));
    Ok(())
}

fn hashes(u: &mut Unstructured<'_>) -> Result<()> {
    let (long, len): (bool, u16) = (u.arbitrary()?, u.arbitrary()?);
    let (one, two, three) = (some(u, 300)?, some(u, 300)?, some(u, 300)?);
    let whole = fuzzing::hash(long, &[one, two, three]);
    assert_eq!(whole, fuzzing::library_hash(long, &[one, two, three].concat()));
    let joined = [two, three].concat();
    assert_eq!(fuzzing::hmac(long, one, &[two, three]), fuzzing::library_hmac(long, one, &joined));
    let len = usize::from(len) % 600;
    let out = fuzzing::hkdf(long, one, two, three, len);
    let more = fuzzing::hkdf(long, one, two, three, len + 1);
    assert_eq!(out, more[..len], "what is asked for first does not depend on how much follows");
    Ok(())
}

/// Points of small order and others that an attacker would choose.
const POINTS: [[u8; 32]; 5] = {
    let mut points = [[0; 32]; 5];
    points[1][0] = 1;
    // 2^255 - 19, which is 0, and that less one.
    points[2] = [0xff; 32];
    points[2][0] = 0xed;
    points[2][31] = 0x7f;
    points[3] = points[2];
    points[3][0] = 0xec;
    points[4] = [
        0xe0, 0xeb, 0x7a, 0x7c, 0x3b, 0x41, 0xb8, 0xae, 0x16, 0x56, 0xe3, 0xfa, 0xf1, 0x9f, 0xc4,
        0x6a, 0xda, 0x09, 0x8d, 0xeb, 0x9c, 0x32, 0xb1, 0xfd, 0x86, 0x62, 0x05, 0x16, 0x5f, 0x49,
        0xb8, 0x00,
    ];
    points
};

fn point(u: &mut Unstructured<'_>) -> Result<[u8; 32]> {
    let mut point = if u.ratio(1u8, 3)? { *u.choose(&POINTS)? } else { u.arbitrary()? };
    if u.ratio(1u8, 4)? {
        point[31] ^= 0x80;
    }
    Ok(point)
}

fn agreement(u: &mut Unstructured<'_>) -> Result<()> {
    let (a, b): ([u8; 32], [u8; 32]) = (u.arbitrary()?, u.arbitrary()?);
    let any = point(u)?;
    agreed(|backend| fuzzing::x25519(backend, &a, &any));
    let (public_a, public_b) = (
        agreed(|backend| fuzzing::x25519_public(backend, &a)).expect("a public key"),
        agreed(|backend| fuzzing::x25519_public(backend, &b)).expect("a public key"),
    );
    let one = agreed(|backend| fuzzing::x25519(backend, &a, &public_b));
    let other = agreed(|backend| fuzzing::x25519(backend, &b, &public_a));
    assert!(one.is_some());
    assert_eq!(one, other);
    Ok(())
}

fn signatures(u: &mut Unstructured<'_>) -> Result<()> {
    let seed: [u8; 32] = u.arbitrary()?;
    let how: u8 = u.arbitrary()?;
    let place: u16 = u.arbitrary()?;
    let any = point(u)?;
    let message = some(u, 300)?;
    let ed25519 = SignatureScheme::Ed25519;
    let (mut public, mut signature) =
        agreed(|backend| fuzzing::sign(backend, ed25519, &seed, message)).expect("a key");
    let verify = |public: &[u8], signature: &[u8]| {
        agreed(|backend| fuzzing::verify(backend, ed25519, public, message, signature))
    };
    assert!(verify(&public, &signature));
    match how % 5 {
        0 => signature[usize::from(place / 8) % 64] ^= 1 << (place % 8),
        1 => public[usize::from(place / 8) % 32] ^= 1 << (place % 8),
        2 => public = any.to_vec(),
        3 => signature[..32].copy_from_slice(&any),
        _ => {
            // The scalar and the order of the group: the same modulo the order, and malleable.
            const ORDER: [u8; 32] = [
                0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9,
                0xde, 0x14, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
            ];
            let mut carry = 0;
            for (byte, order) in signature[32..].iter_mut().zip(ORDER) {
                let sum = u16::from(*byte) + u16::from(order) + carry;
                *byte = sum as u8;
                carry = sum >> 8;
            }
        }
    }
    assert!(!verify(&public, &signature), "a signature that was changed is taken");
    Ok(())
}

fn ml_dsa(u: &mut Unstructured<'_>) -> Result<()> {
    let seed: [u8; 32] = u.arbitrary()?;
    let (place, mask): (u16, u8) = (u.arbitrary()?, u.arbitrary()?);
    let message = some(u, 300)?;
    let scheme = SignatureScheme::MlDsa65;
    let verify = |public: &[u8], signature: &[u8]| {
        agreed(|backend| fuzzing::verify(backend, scheme, public, message, signature))
    };
    // Signing draws in one backend and not in the other: the signatures differ, and both hold.
    let made = BOTH.map(|backend| fuzzing::sign(backend, scheme, &seed, message).expect("a key"));
    let [(public, _), (other, _)] = &made;
    assert_eq!(public, other);
    for (mut public, mut signature) in made {
        assert!(verify(&public, &signature));
        if mask == 0 {
            let at = usize::from(place) % public.len();
            public[at] ^= 1;
            assert!(!verify(&public, &signature));
            continue;
        }
        let at = usize::from(place) % signature.len();
        signature[at] ^= mask;
        assert!(!verify(&public, &signature), "a signature that was changed is taken");
        signature.truncate(at);
        assert!(!verify(&public, &signature));
    }
    Ok(())
}

fn kem(u: &mut Unstructured<'_>) -> Result<()> {
    let (seed, message): ([u8; 64], [u8; 32]) = (u.arbitrary()?, u.arbitrary()?);
    let place: u16 = u.arbitrary()?;
    let mut ek = fuzzing::kem_public(seed);
    let [native, portable] = BOTH.map(|backend| {
        fuzzing::kem_encapsulate(backend, &ek, message).expect("a key that was made")
    });
    for (mut ct, secret) in [native, portable] {
        let found = agreed(|backend| fuzzing::kem_decapsulate(backend, seed, &ct));
        assert_eq!(found, Some(secret));
        let bit = usize::from(place) % (ct.len() * 8);
        ct[bit / 8] ^= 1 << (bit % 8);
        let found = agreed(|backend| fuzzing::kem_decapsulate(backend, seed, &ct));
        assert!(found.is_some_and(|found| found != secret), "a changed ciphertext");
        ct.truncate(usize::from(place) % ct.len());
        assert_eq!(agreed(|backend| fuzzing::kem_decapsulate(backend, seed, &ct)), None);
    }
    // A key that is changed is refused by both or by none: which coefficients are too large.
    let at = usize::from(place) % ek.len();
    ek[at] |= 0xf0;
    ek[(at + 1) % 1184] |= 0x0f;
    agreed(|backend| fuzzing::kem_encapsulate(backend, &ek, message).is_some());
    ek.pop();
    assert!(!agreed(|backend| fuzzing::kem_encapsulate(backend, &ek, message).is_some()));
    Ok(())
}
