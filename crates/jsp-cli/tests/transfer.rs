//! Files between two processes of the built program.
#![allow(missing_docs, unreachable_pub)]

mod support;

use std::fs;
use std::io::{BufRead, Read};
use std::path::Path;
use std::process::{Child, Stdio};

use support::{Finished, Place, Server, begun, names, noise, wait_until_begun};

#[test]
fn files_and_a_tree_arrive_whole() {
    let place = Place::new("round-trip");
    let inbox = place.path("inbox");
    let big = noise(1, 3_000_000);
    let big_path = place.write("big.bin", &big);
    for number in 0..200 {
        place.write(&format!("tree/{}/{number}.txt", number % 7), &noise(2, number));
    }
    fs::create_dir_all(place.path("tree/empty")).unwrap();
    let mut server = Server::start(&place, &inbox, &["--once"]);
    let sent =
        place.run(["send", "--json", big_path.to_str().unwrap(), "tree", &server.uri]).left_with(0);
    let last: serde_json::Value = serde_json::from_str(sent.out.lines().last().unwrap()).unwrap();
    // Files, and the folders tree, tree/0 .. tree/6 and tree/empty.
    assert_eq!((last["event"].as_str(), last["stored"].as_u64()), (Some("sent"), Some(201 + 9)));
    assert_eq!(server.wait(), Some(0));
    assert_eq!(fs::read(inbox.join("big.bin")).unwrap(), big);
    for number in 0..200 {
        let path = inbox.join(format!("tree/{}/{number}.txt", number % 7));
        assert_eq!(fs::read(path).unwrap(), noise(2, number));
    }
    assert!(inbox.join("tree/empty").is_dir());
    assert_eq!(names(&inbox), ["big.bin", "tree"], "no unfinished file is left");
}

#[test]
fn a_file_goes_by_every_carrier() {
    let place = Place::new("carriers");
    let data = noise(3, 500_000);
    place.write("a.bin", &data);
    for carrier in ["tcp", "tls", "websocket"] {
        let inbox = place.path(carrier);
        let flags = ["--carrier", carrier, "--no-udp"];
        let mut server = Server::start(&place, &inbox, &["--once", flags[0], flags[1], flags[2]]);
        let send = ["send", flags[0], flags[1], flags[2], "a.bin", &server.uri];
        place.run(send).left_with(0);
        assert_eq!(server.wait(), Some(0));
        assert_eq!(fs::read(inbox.join("a.bin")).unwrap(), data);
    }
    let closed = ["ping", "--proxy", "http://127.0.0.1:1", "example.test"];
    let refused = place.run(closed).left_with(3);
    assert!(refused.err.contains("proxy"), "{}", refused.err);
}

#[test]
fn what_is_there_is_not_overwritten() {
    let place = Place::new("taken");
    let inbox = place.path("inbox");
    let (a, b) = (place.write("a.txt", b"new a"), place.write("b.txt", b"new b"));
    place.write("inbox/a.txt", b"old a");
    let server = Server::start(&place, &inbox, &[]);
    let files = [a.to_str().unwrap(), b.to_str().unwrap()];
    let sent = place.run(["send", files[0], files[1], &server.uri]);
    let sent = sent.left_with(5);
    assert!(sent.err.contains("there already"), "{}", sent.err);
    assert_eq!(fs::read(inbox.join("a.txt")).unwrap(), b"old a");
    assert_eq!(fs::read(inbox.join("b.txt")).unwrap(), b"new b");
    drop(server);

    let server = Server::start(&place, &inbox, &["--rename"]);
    place.run(["send", "a.txt", &server.uri]).left_with(0);
    assert_eq!(names(&inbox), ["a (1).txt", "a.txt", "b.txt"]);
    assert_eq!(fs::read(inbox.join("a (1).txt")).unwrap(), b"new a");
}

#[test]
fn an_unreadable_file_is_told_and_the_others_go_on() {
    let place = Place::new("unreadable");
    let inbox = place.path("inbox");
    place.write("good.txt", b"good");
    let server = Server::start(&place, &inbox, &[]);
    let sent = place.run(["send", "missing.txt", "good.txt", &server.uri]).left_with(5);
    assert!(sent.err.contains("missing.txt: it cannot be read"), "{}", sent.err);
    assert_eq!(fs::read(inbox.join("good.txt")).unwrap(), b"good");
}

#[cfg(target_os = "linux")]
#[test]
fn a_folder_that_takes_no_files_is_told_at_the_start() {
    let place = Place::new("no-inbox");
    let refused = place.run(["serve", "--bind", "127.0.0.1:0", "--dir", "/proc"]).left_with(5);
    assert!(refused.err.contains("cannot receive files"), "{}", refused.err);
}

#[test]
fn a_killed_receiver_leaves_nothing_under_the_final_name() {
    let place = Place::new("killed");
    let inbox = place.path("inbox");
    place.write("tree/first.txt", b"first");
    let big = place.write("tree/second.bin", &noise(3, 64 << 20));
    let mut server = Server::start(&place, &inbox, &[]);
    let mut sender = place
        .jsp()
        .args(["send", "--json", "--timeout", "2", "--retry", "0", "tree", &server.uri])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // The first file is stored and confirmed; the second is under way or about to be.
    let mut line = String::new();
    loop {
        line.clear();
        assert_ne!(server.out.read_line(&mut line).unwrap(), 0);
        if line.contains("received") {
            break;
        }
    }
    server.kill();
    let code = sender.wait().unwrap().code();
    let mut said = String::new();
    sender.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(code, Some(6), "{said}");
    assert!(said.contains("vanished"), "{said}");
    assert_eq!(fs::read(inbox.join("tree/first.txt")).unwrap(), b"first");
    let second = inbox.join("tree/second.bin");
    assert!(!second.exists() || fs::read(&second).unwrap() == fs::read(&big).unwrap());

    // After the next start the same command completes the tree, and nothing is left over.
    let server = Server::start(&place, &inbox, &[]);
    place.run(["send", "tree", &server.uri]).left_with(5);
    assert_eq!(fs::read(&second).unwrap(), fs::read(&big).unwrap());
    assert_eq!(names(&inbox), ["tree"]);
}

/// Length of the files that are broken off in the middle, and how much of them must be there then.
const LONG: usize = 96 << 20;
const ENOUGH: u64 = 8 << 20;

/// Starts to send `file` and returns once much of it, but not all, is in the inbox.
fn half_sent(place: &Place, inbox: &Path, file: &str, uri: &str) -> Child {
    let mut command = place.jsp();
    command.args(["send", "--json", "--timeout", "2", file, uri]);
    let mut sender = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait_until_begun(inbox, &mut sender, ENOUGH);
    sender
}

#[test]
fn a_killed_sender_goes_on_where_it_was() {
    let place = Place::new("resume");
    let inbox = place.path("inbox");
    let content = noise(4, LONG);
    place.write("long.bin", &content);
    let server = Server::start(&place, &inbox, &[]);
    let mut sender = half_sent(&place, &inbox, "long.bin", &server.uri);
    sender.kill().unwrap();
    sender.wait().unwrap();
    // The receiver has not noticed yet that the first sender is gone.
    let sent = place.run(["send", "--json", "long.bin", &server.uri]).left_with(0);
    let already = begun(&sent.out).unwrap();
    assert!((ENOUGH..LONG as u64).contains(&already), "{already}");
    assert!(fs::read(inbox.join("long.bin")).unwrap() == content);
    assert_eq!(names(&inbox), ["long.bin"]);
}

#[test]
#[cfg(unix)]
fn a_receiver_that_its_user_ends_is_not_waited_for() {
    let place = Place::new("ended");
    let inbox = place.path("inbox");
    place.write("tree/long.bin", &noise(6, LONG));
    let server = Server::start(&place, &inbox, &[]);
    let sender = half_sent(&place, &inbox, "tree", &server.uri);
    server.signal("-INT");
    let sent = Finished::of(sender.wait_with_output().unwrap()).left_with(6);
    assert!(!sent.err.contains("trying again"), "{}", sent.err);
    assert!(sent.err.contains("interrupted by its user"), "{}", sent.err);
}

#[test]
fn a_sender_outlives_its_receiver() {
    let place = Place::new("retry");
    let inbox = place.path("inbox");
    let content = noise(5, LONG);
    place.write("tree/a.txt", b"a");
    place.write("tree/long.bin", &content);
    let mut server = Server::start(&place, &inbox, &[]);
    let sender = half_sent(&place, &inbox, "tree", &server.uri);
    server.kill();
    let _server = Server::start_at(&place, &inbox, server.address());
    let sent = Finished::of(sender.wait_with_output().unwrap()).left_with(0);
    assert!(sent.err.contains("trying again"), "{}", sent.err);
    assert!(begun(&sent.out).unwrap() >= ENOUGH, "{}", sent.out);
    assert_eq!(fs::read(inbox.join("tree/a.txt")).unwrap(), b"a");
    assert!(fs::read(inbox.join("tree/long.bin")).unwrap() == content);
    assert_eq!(names(&inbox), ["tree"]);
}
