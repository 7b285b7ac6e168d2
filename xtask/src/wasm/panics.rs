//! Makes every panic of a module trap at once.
//!
//! With `panic = "abort"` a panic ends in a trap, and on `wasm32-unknown-unknown` its message goes
//! nowhere before: there is no standard error, and we set no hook. What formats the message is
//! still in the module, and so is, wherever an index is checked, the code that hands it over.
//! When the functions that begin a panic hold nothing but the trap, wasm-opt makes it the caller's
//! own and drops all that led to it: 7 kB gzip. rustc can do the same by itself, but only when the
//! standard library is compiled anew, which the stable compiler does not offer.

use anyhow::{Result, ensure};
use walrus::{FunctionBuilder, FunctionId, FunctionKind, Module};
use wasm_bindgen_cli_support::Output;

/// What the names of functions that never return begin with, without the hashes of their crates.
const BEGINNINGS: [&str; 14] = [
    "core::panicking::",
    "core::option::unwrap_failed",
    "core::option::expect_failed",
    "core::result::unwrap_failed",
    "core::cell::panic_already",
    "core::str::slice_error_fail",
    "core::slice::index::slice_index_fail",
    "core::slice::copy_from_slice_impl::len_mismatch_fail",
    "alloc::raw_vec::capacity_overflow",
    "alloc::raw_vec::handle_error",
    "alloc::alloc::handle_alloc_error",
    "std::panicking::",
    "<std::panicking::",
    "std::alloc::rust_oom",
];

/// What the names of those begin with that are among them and do return.
const RETURNING: [&str; 6] = [
    "std::panicking::catch_unwind",
    "std::panicking::panic_count",
    "std::panicking::panicking",
    "std::panicking::set_hook",
    "std::panicking::take_hook",
    "std::panicking::update_hook",
];

/// Replaces the bodies of those functions.
///
/// # Errors
/// When there is none: a new standard library has other names for them, and the list must follow.
pub fn trap_at_once(output: &mut Output) -> Result<()> {
    let module = output.wasm_mut();
    let found: Vec<FunctionId> = module
        .funcs
        .iter_local()
        .map(|(id, _)| id)
        .filter(|&id| {
            module
                .funcs
                .get(id)
                .name
                .as_deref()
                .is_some_and(begins_panic)
        })
        .collect();
    ensure!(
        !found.is_empty(),
        "no function that begins a panic was found by its name in the module: \
         compare the list in xtask/src/wasm/panics.rs with the names in this standard library"
    );
    for id in found {
        trap(module, id);
    }
    Ok(())
}

/// Whether the function called `name` does nothing but panic.
fn begins_panic(name: &str) -> bool {
    let name = without_hashes(name);
    let begins = |list: &[&str]| list.iter().any(|beginning| name.starts_with(beginning));
    begins(&BEGINNINGS) && !begins(&RETURNING)
}

/// `core[c5930c85a12de822]::panicking::panic` is `core::panicking::panic`.
fn without_hashes(name: &str) -> String {
    let mut parts = name.split('[');
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        plain.push_str(part.split_once(']').map_or(part, |(_, rest)| rest));
    }
    plain
}

/// Leaves a function its type, and `unreachable` for a body.
fn trap(module: &mut Module, id: FunctionId) {
    let ty = module.types.get(module.funcs.get(id).ty());
    let (params, results) = (ty.params().to_vec(), ty.results().to_vec());
    let arguments = params.iter().map(|&ty| module.locals.add(ty)).collect();
    let mut builder = FunctionBuilder::new(&mut module.types, &params, &results);
    builder.func_body().unreachable();
    module.funcs.get_mut(id).kind = FunctionKind::Local(builder.local_func(arguments));
}

#[cfg(test)]
mod tests {
    use super::begins_panic;

    #[test]
    fn names_are_known_with_their_hashes() {
        for name in [
            "core[c5930c85a12de822]::panicking::panic_bounds_check",
            "core[c5930c85a12de822]::option::unwrap_failed",
            "<std[a543996e6e7dbf1e]::panicking::panic_handler::FormatStringPayload as core[c5930c85a12de822]::panic::PanicPayload>::get",
        ] {
            assert!(begins_panic(name), "{name}");
        }
        for name in [
            "core[c5930c85a12de822]::fmt::write",
            "std[a543996e6e7dbf1e]::panicking::catch_unwind::<(), llguidance::f>::do_call",
            "std[a543996e6e7dbf1e]::panicking::take_hook",
            "minijinja::vm::Vm::eval_impl::h59a2f7a9e3c13cd2",
            "core::ptr::drop_in_place::<std[a543996e6e7dbf1e]::panicking::panic_handler::FormatStringPayload>",
        ] {
            assert!(!begins_panic(name), "{name}");
        }
    }
}
