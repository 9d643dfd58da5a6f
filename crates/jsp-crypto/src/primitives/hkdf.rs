//! HKDF (RFC 5869) over HMAC.

use super::{HashAlg, MacKey};
use crate::secret::Digest;

/// `HKDF-Extract(salt, ikm)`; `ikm` is given in parts.
pub(crate) fn extract(alg: HashAlg, salt: &[u8], ikm: &[&[u8]]) -> Digest {
    MacKey::new(alg, salt).mac(ikm)
}

/// `HKDF-Expand(prk, info, out.len())`; `info` is given in parts.
///
/// At most 255 blocks can be asked for; all callers ask for a few. Bytes past
/// the 255th block are left zero.
pub(crate) fn expand(prk: &MacKey, alg: HashAlg, info: &[&[u8]], out: &mut [u8]) {
    let mut previous = Digest::zero(0);
    for (counter, chunk) in (1..=u8::MAX).zip(out.chunks_mut(alg.len())) {
        let block = {
            let counter = [counter];
            let mut parts: [&[u8]; 8] = [&[]; 8];
            let sources = core::iter::once(previous.as_bytes())
                .chain(info.iter().copied())
                .chain(core::iter::once(counter.as_slice()));
            debug_assert!(info.len() <= 6, "info has more parts than fit");
            for (slot, source) in parts.iter_mut().zip(sources) {
                *slot = source;
            }
            prk.mac(&parts)
        };
        for (to, from) in chunk.iter_mut().zip(block.as_bytes()) {
            *to = *from;
        }
        previous = block;
    }
}
