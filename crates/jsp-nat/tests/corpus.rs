//! The corpora of the fuzz targets, replayed.

#[path = "../../../fuzz/bodies/nat.rs"]
#[allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]
mod bodies;

fn replay(target: &str, body: impl Fn(&[u8])) {
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
fn nat_messages() {
    replay("nat_messages", bodies::messages);
}

#[test]
fn nat_machines() {
    replay("nat_machines", |data| {
        bodies::machines(data);
    });
    // What a fuzzer does, in small.
    let mut state = 1u64;
    for _ in 0..3000 {
        let input: Vec<u8> = (0..300)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 33) as u8
            })
            .collect();
        bodies::machines(&input);
    }
}
