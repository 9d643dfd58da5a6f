//! The corpora of the fuzz targets, replayed.

#[path = "../../../fuzz/bodies/cookie.rs"]
#[allow(unreachable_pub, reason = "shared with the fuzz target")]
mod cookie;
#[path = "../../../fuzz/bodies/crypto.rs"]
#[allow(unreachable_pub, reason = "shared with the fuzz target")]
mod crypto;
#[path = "../../../fuzz/bodies/handshake.rs"]
#[allow(unreachable_pub, reason = "shared with the fuzz target")]
mod handshake;
#[path = "../../../fuzz/bodies/identity.rs"]
#[allow(unreachable_pub, reason = "shared with the fuzz target")]
mod identity;
#[path = "../../../fuzz/bodies/parties.rs"]
#[allow(unreachable_pub, reason = "shared with the fuzz target")]
mod parties;
#[path = "../../../fuzz/bodies/replay.rs"]
#[allow(unreachable_pub, reason = "shared by the tests that replay corpora")]
mod replay;
#[path = "../../../fuzz/bodies/ticket.rs"]
#[allow(unreachable_pub, reason = "shared with the fuzz target")]
mod ticket;

use replay::replay;

#[test]
fn handshake_message() {
    replay("handshake_message", |data| {
        handshake::message(data);
        1
    });
}

#[test]
fn crypto_backends() {
    assert!(replay("crypto_backends", crypto::compare) >= 8);
}

#[test]
fn identity_text() {
    assert!(replay("identity_text", identity::text) >= 4, "true texts can be read");
}

#[test]
fn cookie() {
    assert!(replay("cookie", cookie::cookies) >= 4, "true cookies are taken");
}

#[test]
fn ticket() {
    assert!(replay("ticket", ticket::tickets) >= 8, "true tickets are of use");
}
