//! Errors as JavaScript sees them, `Error` with a `code`; and values as it sees them.

use js_sys::Reflect;
use meetara_engine::Error;
use serde::Serialize;
use wasm_bindgen::JsValue;

/// A `Result` whose error is a JavaScript `Error`.
pub(crate) type JsResult<T> = Result<T, JsValue>;

/// The engine's error as a JavaScript `Error` with `code` and `message`.
#[allow(
    clippy::needless_pass_by_value,
    reason = "taken by value so that it fits `map_err`"
)]
pub(crate) fn to_js(error: Error) -> JsValue {
    let value = js_sys::Error::new(error.message());
    // Setting a property of an object made on the line above cannot fail.
    let _ = Reflect::set(&value, &"code".into(), &error.code().into());
    value.into()
}

/// What JavaScript passed as `what` has the wrong type or an unknown field.
///
/// The message of serde names fields and types; it holds no text of a user,
/// since strings are accepted wherever a string may stand.
#[allow(
    clippy::needless_pass_by_value,
    reason = "taken by value so that it fits `map_err`"
)]
pub(crate) fn bad_argument(what: &str, error: serde_wasm_bindgen::Error) -> JsValue {
    to_js(Error::invalid_request(format!("{what}: {error}")))
}

/// A plain JavaScript object: structs become objects, 64-bit numbers become numbers.
pub(crate) fn to_value<T: Serialize>(value: &T) -> JsResult<JsValue> {
    let serializer = serde_wasm_bindgen::Serializer::json_compatible();
    value
        .serialize(&serializer)
        .map_err(|e| bad_argument("result", e))
}
