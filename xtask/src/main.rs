//! Build, test, measure: cargo xtask <command>.

fn main() {}
