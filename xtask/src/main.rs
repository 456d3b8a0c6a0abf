//! Project tasks: play, test, tidy.
fn main() {}
