//! Ping, measurement, chat, keys and help of the built program.
#![allow(missing_docs, unreachable_pub)]

mod support;

use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;

use support::{Finished, Place, Server};

#[test]
fn pings_come_back() {
    let place = Place::new("ping");
    let server = Server::start(&place, &place.path("inbox"), &[]);
    let pinged = place.run(["ping", "--json", "-c", "5", "-i", "0.01", &server.uri]).left_with(0);
    let pongs = pinged.out.lines().filter(|line| line.contains(r#""event":"pong""#)).count();
    assert_eq!(pongs, 5, "{}", pinged.out);
    assert!(pinged.out.contains(r#""metric":"rtt_p50""#));
}

#[test]
fn a_server_that_hides_answers_who_knows_it() {
    let place = Place::new("obfuscate");
    let server = Server::start(&place, &place.path("inbox"), &["--obfuscate"]);
    let ping = |host: &str, option: &str| {
        place.run(["ping", "--json", "--timeout", "1", "-c", "2", "-i", "0.01", option, host])
    };
    let pinged = ping(&server.uri, "--obfuscate").left_with(0);
    assert_eq!(pinged.out.matches(r#""event":"pong""#).count(), 2, "{}", pinged.out);
    // Without the option the server is silent, and without the fingerprint there is no key.
    ping(&server.uri, "--quiet").left_with(3);
    let host = server.uri.rsplit_once('@').unwrap().1;
    ping(host, "--obfuscate").left_with(2);
}

#[test]
fn every_mode_is_measured() {
    let place = Place::new("perf");
    for (mode, way) in
        [("bytes", "--bidir"), ("messages", "--reverse"), ("unreliable", "-P2"), ("partial", "-P1")]
    {
        let args = ["perf", "--local", "--json", "--mode", mode, "-t", "1", way];
        let measured = place.run(args).left_with(0);
        let rates: Vec<f64> = measured
            .out
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
            .filter(|row| row["metric"] == "goodput")
            .map(|row| row["value"].as_f64().unwrap())
            .collect();
        assert_eq!(rates.len(), if mode == "bytes" { 2 } else { 1 }, "{}", measured.out);
        assert!(rates.iter().all(|rate| *rate > 0.0), "{}", measured.out);
    }
}

#[test]
fn lines_go_both_ways() {
    let place = Place::new("chat");
    let mut listen = place.jsp();
    listen.args(["chat", "--listen", "--bind", "127.0.0.1:0", "--json"]);
    listen.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut host = Server::spawn(listen);
    let mut guest = place
        .jsp()
        .args(["chat", "--json", &host.uri])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut says = guest.stdin.take().unwrap();
    says.write_all("hello \u{1f44b}\n".as_bytes()).unwrap();
    let mut line = String::new();
    while !line.contains("hello \u{1f44b}") {
        line.clear();
        assert_ne!(host.out.read_line(&mut line).unwrap(), 0);
    }
    host.say("welcome\n");
    let mut hears = BufReader::new(guest.stdout.take().unwrap());
    line.clear();
    hears.read_line(&mut line).unwrap();
    assert!(line.contains("welcome"), "{line}");
    drop(says);
    assert_eq!(guest.wait().unwrap().code(), Some(0));
}

#[cfg(unix)]
#[test]
fn an_interrupt_is_clean() {
    let place = Place::new("interrupt");
    let server = Server::start(&place, &place.path("inbox"), &[]);
    let mut ping = place
        .jsp()
        .args(["ping", "-c", "0", "-i", "0.01", "--json", &server.uri])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(ping.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    let id = ping.id().to_string();
    let killed = std::process::Command::new("kill").args(["-INT", &id]).status().unwrap();
    assert!(killed.success());
    let left = Finished::of(ping.wait_with_output().unwrap()).left_with(130);
    assert!(left.err.contains("interrupted"), "{}", left.err);
}

#[test]
fn help_completions_and_manual_are_there() {
    let place = Place::new("help");
    let help = place.run(["help", "send"]).left_with(0);
    assert!(help.out.contains("Examples:") && help.out.contains("Exit codes:"), "{}", help.out);
    assert!(!help.out.contains('\x1b'), "no colours in a pipe");
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        assert!(place.run(["completions", shell]).left_with(0).out.contains("perf"));
    }
    assert!(place.run(["man"]).left_with(0).out.contains(".TH"));
    place.run(["man", "--dir", "pages"]).left_with(0);
    assert!(place.path("pages/jsp-send.1").exists());
}

#[test]
fn the_demonstration_reports_its_bars() {
    let place = Place::new("demo");
    // A good link: what is checked here is the report, not the transport.
    let shown = place.run([
        "demo",
        "--json",
        "--seconds",
        "1",
        "--loss",
        "0",
        "--rtt",
        "20",
        "--rate",
        "20",
    ]);
    assert!(matches!(shown.code, Some(0 | 1)), "{shown:?}");
    let rows: Vec<serde_json::Value> =
        shown.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let passed = |case: &str, metric: &str| {
        let found = rows.iter().find(|row| row["case"] == case && row["metric"] == metric);
        found.and_then(|row| row["pass"].as_bool())
    };
    assert!(passed("voice", "latency_p99").is_some());
    assert_eq!(passed("chat", "complete_in_order"), Some(true));
    assert_eq!(passed("file", "hash_right"), Some(true));
    let all = rows.iter().all(|row| row["pass"] != false);
    assert_eq!(shown.code, Some(i32::from(!all)));
}

/// The value of a key in the one line of JSON that a command prints.
fn told(finished: &Finished, key: &str) -> String {
    let row: serde_json::Value = serde_json::from_str(finished.out.trim()).unwrap();
    row[key].as_str().unwrap().to_owned()
}

#[test]
fn a_server_runs_on_a_delegated_key() {
    let place = Place::new("delegate");
    let run = |args: &[&str]| place.run(["key", "--json"].iter().chain(args)).left_with(0);
    let pin = told(&run(&["new", "--out", "identity.key"]), "fingerprint");
    run(&["new", "--out", "online.key"]);
    let online = told(&run(&["public", "--key", "online.key"]), "public");
    let args = ["delegate", &online, "--key", "identity.key", "--out", "d", "--hours", "24"];
    assert_eq!(told(&run(&args), "fingerprint"), pin);

    let more = ["--key", "online.key", "--delegation", "d"];
    let mut server = Server::start(&place, &place.path("inbox"), &more);
    assert!(server.uri.starts_with(&format!("jsp://{pin}@")), "{}", server.uri);
    place.run(["ping", "-c", "1", &server.uri]).left_with(0);
    #[cfg(unix)]
    {
        run(&["delegate", &online, "--key", "identity.key", "--out", "d", "--hours", "71"]);
        server.signal("-HUP");
        let mut line = String::new();
        while !line.contains("renewed") {
            line.clear();
            assert_ne!(server.out.read_line(&mut line).unwrap(), 0);
        }
        place.run(["ping", "-c", "1", &server.uri]).left_with(0);
    }

    let wrong = place.run(["serve", "--key", "identity.key", "--delegation", "d"]).left_with(8);
    assert!(wrong.err.contains("another online key"), "{}", wrong.err);
    for hours in ["0", "72"] {
        let args = ["key", "delegate", &online, "--out", "d", "--hours", hours];
        place.run(args).left_with(2);
    }
}

#[test]
fn identities_of_ml_dsa() {
    let place = Place::new("ml-dsa");
    let key = |args: &[&str]| place.run(["key", "--json"].iter().chain(args)).left_with(0);
    let pin = told(&key(&["new", "--ml-dsa", "--out", "identity.key"]), "fingerprint");
    let server = Server::start(&place, &place.path("inbox"), &["--key", "identity.key"]);
    assert!(server.uri.starts_with(&format!("jsp://{pin}@")), "{}", server.uri);
    place.run(["ping", "--pq-identity", "-c", "1", &server.uri]).left_with(0);
    place.run(["ping", "-c", "1", &server.uri]).left_with(0);

    // An online key of another scheme serves all but those who want the strongest.
    key(&["new", "--out", "online.key"]);
    let online = told(&key(&["public", "--key", "online.key"]), "public");
    let args = ["delegate", &online, "--key", "identity.key", "--out", "d", "--hours", "24"];
    assert_eq!(told(&key(&args), "fingerprint"), pin);
    let more = ["--key", "online.key", "--delegation", "d"];
    let server = Server::start(&place, &place.path("inbox"), &more);
    place.run(["ping", "-c", "1", &server.uri]).left_with(0);
    let refused = place.run(["ping", "--pq-identity", "-c", "1", &server.uri]);
    assert_ne!(refused.code, Some(0), "{}", refused.err);
    let public = told(&key(&["public", "--key", "identity.key"]), "public");
    assert!(public.starts_with("jsp1mldsa65key-"));
    let args = ["delegate", &public, "--key", "identity.key", "--out", "e", "--hours", "24"];
    key(&args);
}
