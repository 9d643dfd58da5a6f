//! The corpus of a fuzz target, replayed.

#[path = "../../../fuzz/bodies/handshake.rs"]
#[allow(unreachable_pub, reason = "shared with the fuzz target")]
mod bodies;

#[test]
fn handshake_message() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/corpus/handshake_message");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        println!("{}", path.display());
        bodies::message(&std::fs::read(path).unwrap());
        count += 1;
    }
    assert!(count > 0, "{folder} is empty");
}
