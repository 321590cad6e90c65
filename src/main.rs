//! Arguments, environment and exit codes.
fn main() {}
