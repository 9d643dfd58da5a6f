//! Writes the test vectors into the directory named on the command line:
//! `cargo run -p jsp-crypto --features vectors --example write_vectors -- vectors`.

use std::path::PathBuf;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let directory: PathBuf =
        std::env::args_os().nth(1).ok_or("name the directory for the vectors")?.into();
    for (name, contents) in jsp_crypto::vectors::files()? {
        std::fs::write(directory.join(name), contents)?;
        eprintln!("{name}");
    }
    Ok(())
}
