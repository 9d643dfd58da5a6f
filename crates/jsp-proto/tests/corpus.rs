//! The corpora of the fuzz targets, replayed.

#[path = "../../../fuzz/bodies/connection_frames.rs"]
#[allow(unreachable_pub, reason = "shared with the fuzz target")]
mod connection_frames;
#[path = "../../../fuzz/bodies/endpoint.rs"]
#[allow(unreachable_pub, reason = "shared with the fuzz target")]
mod endpoint;
#[path = "../../../fuzz/bodies/fec.rs"]
#[allow(unreachable_pub, reason = "shared with the fuzz target")]
mod fec;
#[path = "../../../fuzz/bodies/frames.rs"]
#[allow(unreachable_pub, reason = "shared with the fuzz target")]
mod frames;
#[path = "../../../fuzz/bodies/host.rs"]
#[allow(unreachable_pub, reason = "shared with the fuzz target")]
mod host;
#[path = "../../../fuzz/bodies/ledger.rs"]
#[allow(unreachable_pub, reason = "shared with the fuzz target")]
mod ledger;
#[path = "../../../fuzz/bodies/mail.rs"]
#[allow(unreachable_pub, reason = "shared with the fuzz target")]
mod mail;
#[path = "../../../fuzz/bodies/packet.rs"]
#[allow(unreachable_pub, reason = "shared with the fuzz target")]
mod packet;
#[path = "../../../fuzz/bodies/parties.rs"]
#[allow(unreachable_pub, reason = "shared with the fuzz target")]
mod parties;
#[path = "../../../fuzz/bodies/replay.rs"]
#[allow(unreachable_pub, reason = "shared by the tests that replay corpora")]
mod replay;
#[path = "../../../fuzz/bodies/resumption.rs"]
#[allow(unreachable_pub, reason = "shared with the fuzz target")]
mod resumption;
#[path = "../../../fuzz/bodies/state_machine.rs"]
#[allow(unreachable_pub, reason = "shared with the fuzz target")]
mod state_machine;
#[path = "../../../fuzz/bodies/streams.rs"]
#[allow(unreachable_pub, reason = "shared with the fuzz target")]
mod streams;
#[path = "../../../fuzz/bodies/world.rs"]
#[allow(unreachable_pub, reason = "shared with the fuzz target")]
mod world;
#[path = "../../../fuzz/bodies/wrapper.rs"]
#[allow(unreachable_pub, reason = "shared with the fuzz target")]
mod wrapper;

use replay::replay;

#[test]
fn endpoint_datagram() {
    let opened = replay("endpoint_datagram", endpoint::datagrams);
    assert!(opened >= 4, "whole hellos open connections");
}

#[test]
fn fec_decoder() {
    let recovered = replay("fec_decoder", fec::repairs);
    assert!(recovered >= 4, "true repairs bring packets back");
}

#[test]
fn connection_frames() {
    let taken = replay("connection_frames", connection_frames::run);
    assert!(taken >= 40, "most of what a peer says is taken");
}

#[test]
fn state_machine() {
    let delivered = replay("state_machine", state_machine::run);
    assert!(delivered >= 40, "applications hear each other");
}

#[test]
fn ack_ranges() {
    let settled = replay("ack_ranges", ledger::acknowledge);
    assert!(settled >= 100, "packets have fates");
}

#[test]
fn stream_reassembly() {
    let delivered = replay("stream_reassembly", streams::reassemble);
    assert!(delivered >= 20, "what has come is delivered");
}

#[test]
fn resume_hello() {
    let early = replay("resume_hello", resumption::flights);
    assert!(early >= 4, "early data are taken");
}

#[test]
fn wrapper() {
    let answered = replay("wrapper", wrapper::datagrams);
    assert!(answered >= 4, "wrapped hellos are answered");
}
