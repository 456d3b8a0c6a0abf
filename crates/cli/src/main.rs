//! The `worldline` command.
fn main() {}
