//! Bad input: each a sentence and an exit code of its own.
#![allow(missing_docs, unreachable_pub)]

mod support;

use std::net::UdpSocket;

use support::{Place, Server};

/// Another fingerprint than any server's here.
const STRANGER: [u8; 32] = [9; 32];

#[test]
fn another_identity_leaves_with_4() {
    let place = Place::new("identity");
    place.write("a.txt", b"a");
    let server = Server::start(&place, &place.path("inbox"), &[]);
    let stranger = jsp::Fingerprint::from_bytes(STRANGER);
    let pinned = format!("jsp://{stranger}@{}", server.address());
    let refused = place.run(["send", "a.txt", &pinned]).left_with(4);
    assert!(refused.err.contains("WRONG IDENTITY"), "{}", refused.err);

    // Trust on first use: remembered as somebody else.
    place.run(["key", "trust", server.address(), &stranger.to_string()]).left_with(0);
    let refused = place.run(["ping", "-c", "1", server.address()]).left_with(4);
    assert!(refused.err.contains("IDENTITY HAS CHANGED"), "{}", refused.err);
    place.run(["key", "forget", server.address()]).left_with(0);
    let met = place.run(["ping", "-c", "1", server.address()]).left_with(0);
    assert!(met.err.contains("first time"), "{}", met.err);
    let met = place.run(["ping", "-c", "1", server.address()]).left_with(0);
    assert!(met.err.is_empty(), "{}", met.err);
    let list = place.run(["key", "list"]).left_with(0);
    assert!(list.out.contains(server.address()), "{}", list.out);
}

#[test]
fn nobody_leaves_with_3() {
    let place = Place::new("nobody");
    // A socket that never answers.
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let refused = place.run(["ping", "--timeout", "0.5", &address]).left_with(3);
    assert!(refused.err.contains("does not answer"), "{}", refused.err);
    let refused = place.run(["ping", "name.invalid"]).left_with(3);
    assert!(refused.err.contains("does not resolve"), "{}", refused.err);
}

#[test]
fn a_port_in_use_leaves_with_9() {
    let place = Place::new("port");
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let refused = place.run(["serve", "--bind", &address]).left_with(9);
    assert!(refused.err.contains("in use"), "{}", refused.err);
}

#[test]
fn a_service_that_is_not_offered_leaves_with_7() {
    let place = Place::new("refused");
    let server = Server::start(&place, &place.path("inbox"), &[]);
    let mut chat = place.jsp();
    chat.args(["chat", &server.uri]).stdin(std::process::Stdio::piped());
    let child = chat
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    use std::io::Write;
    let _ = child.stdin.as_ref().unwrap().write_all(b"hello\n");
    let refused = support::Finished::of(child.wait_with_output().unwrap()).left_with(7);
    assert!(refused.err.contains("does not offer"), "{}", refused.err);

    let stranger = jsp::Fingerprint::from_bytes(STRANGER).to_string();
    let server = Server::start(&place, &place.path("inbox"), &["--allow", &stranger]);
    let nameless = Place::new("nameless");
    let refused = nameless.run(["ping", "-c", "1", &server.uri]).left_with(7);
    assert!(refused.err.contains("jsp key show"), "{}", refused.err);
    let refused = place.run(["ping", "-c", "1", &server.uri]).left_with(7);
    assert!(refused.err.contains("does not accept this side's identity"), "{}", refused.err);
}

#[test]
fn nonsense_leaves_with_2() {
    let place = Place::new("usage");
    for args in [
        vec!["nonsense"],
        vec!["send", "a.txt"],
        vec!["send", "a.txt", "host:99999"],
        vec!["ping", "jsp://jsp1wrong@host"],
        vec!["demo", "--loss", "101"],
    ] {
        place.run(&args).left_with(2);
    }
}

#[test]
fn keys_are_never_replaced() {
    let place = Place::new("keys");
    let made = place.run(["key", "new"]).left_with(0);
    assert!(made.out.contains("fingerprint jsp1"), "{}", made.out);
    place.run(["key", "new"]).left_with(8);
    let shown = place.run(["key", "fingerprint"]).left_with(0);
    assert!(made.out.contains(shown.out.trim()));
    place.write("damaged.key", b"nonsense");
    let refused = place.run(["serve", "--key", "damaged.key", "--bind", "127.0.0.1:0"]);
    refused.left_with(8);
}
