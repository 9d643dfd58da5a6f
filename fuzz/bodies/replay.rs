//! How a test replays the corpus of a fuzz target.

/// The sum of what a target answers to each of its inputs.
pub fn replay(target: &str, body: impl Fn(&[u8]) -> usize) -> usize {
    let folder = format!("{}/../../fuzz/corpus/{target}", env!("CARGO_MANIFEST_DIR"));
    let (mut count, mut sum) = (0, 0);
    for entry in std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{folder}: {e}")) {
        let path = entry.unwrap().path();
        println!("{}", path.display());
        let answer = body(&std::fs::read(path).unwrap());
        println!("  {answer}");
        sum += answer;
        count += 1;
    }
    assert!(count > 0, "{folder} is empty");
    sum
}
