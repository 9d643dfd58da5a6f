//! What `jsp netcheck` finds out from coordinators on this machine.
#![allow(missing_docs, unreachable_pub)]

mod support;

use support::{Coordinator, Finished, Place, Server, address_of};

fn found(finished: &Finished) -> serde_json::Value {
    serde_json::from_str(finished.out.trim()).unwrap()
}

#[test]
fn a_network_that_lets_udp_through() {
    let place = Place::new("netcheck");
    let coordinator = Coordinator::start();
    let run = |more: &[&str]| {
        let args = ["netcheck", "--timeout", "5", "--coordinator", &coordinator.uri];
        place.run(args.iter().chain(more)).left_with(0)
    };
    let other = Coordinator::start_at("127.0.0.2:0");
    let all = found(&run(&["--json", "--stun", address_of(&other.uri)]));
    assert_eq!(all["udp_ipv4"]["result"], "works", "{all}");
    assert!(all["udp_ipv4"]["connected_ms"].as_f64().unwrap() > 0.0);
    assert_eq!(all["udp_ipv6"]["result"], "no_address");
    for carrier in ["tcp", "tls_443", "tls", "websocket"] {
        assert_eq!(all[carrier]["result"], "refused", "{all}");
    }
    assert_eq!(all["own_address"], all["mapped_address"]);
    assert_eq!(all["mapping"], "none");
    assert_eq!(all["filtering"], "endpoint_independent");
    assert_eq!(all["direct_paths"], "likely");
    assert_eq!(all["udp_payload_max"], 1472);
    assert!(all["relay_round_trip_ms"].as_f64().unwrap() > 0.0);

    let told = run(&[]);
    for row in ["UDP, IPv4     works", "mapping       none", "path MTU      1500 bytes", "relay   "]
    {
        assert!(told.out.contains(row), "{}", told.out);
    }
}

#[test]
fn a_network_without_udp() {
    let place = Place::new("netcheck-tcp");
    // In the coordinator's place: what is asked here is only whether it is reached.
    let server = Server::start(&place, &place.path("inbox"), &["--carrier", "tcp", "--no-udp"]);
    let run = |uri: &str| place.run(["netcheck", "--json", "--timeout", "1", "--coordinator", uri]);
    let some = found(&run(&server.uri).left_with(1));
    assert_eq!(some["tcp"]["result"], "works", "{some}");
    assert_ne!(some["udp_ipv4"]["result"], "works", "{some}");
    assert!(some.get("mapping").is_none());
    let uri = server.uri.clone();
    drop(server);
    let none = found(&run(&uri).left_with(3));
    assert_eq!(none["tcp"]["result"], "refused", "{none}");
}

#[test]
fn what_is_missing_is_said() {
    let place = Place::new("netcheck-alone");
    let alone = place.run(["netcheck"]).left_with(2);
    assert!(alone.err.contains("runs `jspd`"), "{}", alone.err);
    // Too long for a name, so that no name service is asked.
    let name = "a".repeat(300);
    let nowhere = place.run(["netcheck", "--coordinator", &name]).left_with(3);
    assert!(nowhere.err.contains("does not resolve"), "{}", nowhere.err);
}
