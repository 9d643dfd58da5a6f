//! Checks and runners of the workspace.
fn main() {}
