// The errors of the package: DOMExceptions with the names that the Prompt API
// gives them, and in `reason` a stable word for what happened.
//
// Errors cross from the worker as `{ name, message, reason, quota, requested }`,
// since a DOMException keeps no properties of its own when it is cloned.

/** DOMException name for each word that the engine has for an error. */
const NAME_OF_REASON = {
  invalid_model: "DataError",
  unsupported_model: "NotSupportedError",
  invalid_request: "TypeError",
  invalid_constraint: "NotSupportedError",
  context_overflow: "QuotaExceededError",
  out_of_memory: "OperationError",
  template: "OperationError",
  internal: "UnknownError",
  network: "NetworkError",
  incomplete: "NetworkError",
  checksum: "DataError",
  not_found: "NotFoundError",
  aborted: "AbortError",
  stopped: "InvalidStateError",
};

/**
 * An error with the DOMException name that belongs to `reason`.
 * @param {string} reason one of the keys of NAME_OF_REASON
 * @param {string} message what was wrong, where, and what to do
 */
export function failure(reason, message) {
  return fromWire({ name: NAME_OF_REASON[reason] ?? "UnknownError", message, reason });
}

/**
 * The context is too small for what was asked.
 * @param {string} message
 * @param {{ requested: number, quota: number }} sizes in tokens
 */
export function quotaExceeded(message, { requested, quota }) {
  return fromWire({ name: "QuotaExceededError", message, reason: "context_overflow", requested, quota });
}

/** What an abort without a reason of its own gives. */
export function abortError(message = "The request was aborted.") {
  return failure("aborted", message);
}

/** An error as plain data, for postMessage. */
export function toWire(error) {
  if (error instanceof WebAssembly.RuntimeError) {
    return {
      name: "UnknownError",
      message: "The engine stopped at a fault of its own. Create the model again to go on.",
      reason: "internal",
    };
  }
  // The engine's errors carry their word in `code`; a DOMException's `code` is an old number.
  const reason = error.reason ?? (typeof error.code === "string" ? error.code : undefined);
  const name = NAME_OF_REASON[reason] ?? error.name ?? "UnknownError";
  return { name, message: String(error.message ?? error), reason, requested: error.requested, quota: error.quota };
}

/** The error that `toWire` made plain. */
export function fromWire({ name, message, reason, requested, quota }) {
  let error;
  if (name === "TypeError") error = new TypeError(message);
  else if (name === "RangeError") error = new RangeError(message);
  else if (name === "QuotaExceededError") error = makeQuotaExceeded(message, requested, quota);
  else error = new DOMException(message, name);
  if (reason !== undefined) Object.defineProperty(error, "reason", { value: reason });
  return error;
}

function makeQuotaExceeded(message, requested, quota) {
  // A class of its own in newer engines, only a name in older ones.
  if (typeof globalThis.QuotaExceededError === "function") {
    return new globalThis.QuotaExceededError(message, { requested, quota });
  }
  const error = new DOMException(message, "QuotaExceededError");
  Object.defineProperties(error, {
    requested: { value: requested ?? null, enumerable: true },
    quota: { value: quota ?? null, enumerable: true },
  });
  return error;
}
