//! How tokens write Ed25519 down: there are several ways.

/// The curve's name as DER PrintableString (PKCS #11 3.0, section 2.3.10).
pub(crate) const CURVE_NAME: &[u8] = b"\x13\x0cedwards25519";
/// The curve's object identifier 1.3.101.112 in DER (RFC 8410, section 3).
pub(crate) const CURVE_OID: &[u8] = &[0x06, 0x03, 0x2b, 0x65, 0x70];

/// Whether CKA_EC_PARAMS names Ed25519. Ed448 is of the same key type.
pub(crate) fn is_ed25519(params: &[u8]) -> bool {
    params == CURVE_NAME || params == CURVE_OID
}

/// The public key of CKA_EC_POINT: bare as PKCS #11 3.0 wants it, in a DER OCTET STRING as SoftHSM
/// writes it, or in a BIT STRING.
pub(crate) fn public_key(point: &[u8]) -> Option<[u8; 32]> {
    let key = match point {
        [0x04, 0x20, key @ ..] if key.len() == 32 => key,
        [0x03, 0x21, 0x00, key @ ..] if key.len() == 32 => key,
        key => key,
    };
    key.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_a_point_is_read() {
        // A bare key that starts like a header is a bare key: the length tells.
        for first in [0x04, 0x03, 0x55] {
            let mut key = [0x20; 32];
            key[0] = first;
            let wrapped = |head: &[u8]| [head, &key].concat();
            assert_eq!(public_key(&key), Some(key));
            assert_eq!(public_key(&wrapped(&[0x04, 0x20])), Some(key));
            assert_eq!(public_key(&wrapped(&[0x03, 0x21, 0x00])), Some(key));
            assert_eq!(public_key(&wrapped(&[0x05, 0x20])), None);
            assert_eq!(public_key(&key[1..]), None);
        }
        assert_eq!(public_key(&[]), None);
    }

    #[test]
    fn only_one_curve_will_do() {
        assert!(is_ed25519(CURVE_NAME) && is_ed25519(CURVE_OID));
        // Ed448 by its identifier.
        assert!(!is_ed25519(&[0x06, 0x03, 0x2b, 0x65, 0x71]));
        assert!(!is_ed25519(&[]));
    }
}
