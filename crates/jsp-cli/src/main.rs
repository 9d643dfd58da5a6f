//! The jsp command line.
fn main() {}
