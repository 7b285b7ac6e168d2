//! Serves the sandboxed engine over HTTP.

fn main() {}
