//! Tells the linker how large the module's stack is.

/// Bytes of the stack, a quarter of the linker's default of 1 MiB: a page counts every one of them,
/// used or not. Chats use 12 kB; a template nested as deep as the parser allows uses 235 kB.
/// `pkg/test/stack.test.mjs` measures both.
const STACK_BYTES: usize = 256 << 10;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_FAMILY").is_ok_and(|family| family == "wasm") {
        println!("cargo::rustc-link-arg-cdylib=-zstack-size={STACK_BYTES}");
    }
}
