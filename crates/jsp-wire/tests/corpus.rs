//! The corpora of the fuzz targets, replayed.

#[path = "../../../fuzz/bodies/wire.rs"]
#[allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]
mod bodies;

fn replay(target: &str, body: fn(&[u8])) {
    let folder = format!("{}/../../fuzz/corpus/{target}", env!("CARGO_MANIFEST_DIR"));
    let mut count = 0;
    for entry in std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{folder}: {e}")) {
        let path = entry.unwrap().path();
        println!("{}", path.display());
        body(&std::fs::read(path).unwrap());
        count += 1;
    }
    assert!(count > 0, "{folder} is empty");
}

#[test]
fn wire_header() {
    replay("wire_header", bodies::header);
}

#[test]
fn wire_frames() {
    replay("wire_frames", bodies::frames);
}

#[test]
fn wire_shapes() {
    replay("wire_shapes", bodies::shapes);
}

#[test]
fn wire_params() {
    replay("wire_params", bodies::params);
}

#[test]
fn wire_roundtrip() {
    replay("wire_roundtrip", bodies::roundtrip);
}
