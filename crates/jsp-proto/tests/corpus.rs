//! The corpora of the fuzz targets, replayed.

#[path = "../../../fuzz/bodies/endpoint.rs"]
#[allow(unreachable_pub, reason = "shared with the fuzz target")]
mod endpoint;
#[path = "../../../fuzz/bodies/fec.rs"]
#[allow(unreachable_pub, reason = "shared with the fuzz target")]
mod fec;

/// The sum of what a target answers to each of its inputs.
fn replay(target: &str, body: fn(&[u8]) -> usize) -> usize {
    let folder = format!("{}/../../fuzz/corpus/{target}", env!("CARGO_MANIFEST_DIR"));
    let (mut count, mut sum) = (0, 0);
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        println!("{}", path.display());
        sum += body(&std::fs::read(path).unwrap());
        count += 1;
    }
    assert!(count > 0, "{folder} is empty");
    sum
}

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
