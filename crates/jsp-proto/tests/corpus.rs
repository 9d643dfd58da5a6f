//! The corpus of a fuzz target, replayed.

#[path = "../../../fuzz/bodies/endpoint.rs"]
#[allow(unreachable_pub, reason = "shared with the fuzz target")]
mod bodies;

#[test]
fn endpoint_datagram() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/corpus/endpoint_datagram");
    let (mut count, mut opened) = (0, 0);
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        println!("{}", path.display());
        opened += bodies::datagrams(&std::fs::read(path).unwrap());
        count += 1;
    }
    assert!(count > 0, "{folder} is empty");
    assert!(opened >= 4, "whole hellos open connections");
}
