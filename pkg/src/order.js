// From the `model` option to an order that the worker can carry out.

import { resolveModelUrl } from "#platform";

/**
 * @param {object} options `model`, and for what is to be kept: `cache`, `name`, `sha256`
 * @returns {import("./source.js").Order}
 */
export function orderOf({ model, cache, name, sha256 } = {}) {
  if (sha256 !== undefined && !/^[0-9a-f]{64}$/i.test(sha256)) {
    throw new TypeError("sha256 must be 64 hexadecimal digits.");
  }
  const common = { name, sha256 };
  if (typeof model === "string" || model instanceof URL) {
    const url = resolveModelUrl(model);
    const key = cache === false ? undefined : typeof cache === "string" ? cache : url;
    return { ...common, url, key, name: name ?? fileNameOf(url) };
  }
  const key = typeof cache === "string" ? cache : undefined;
  if (model instanceof Blob) return { ...common, data: model, key, name: name ?? model.name };
  if (model instanceof ArrayBuffer || ArrayBuffer.isView(model) || model instanceof ReadableStream) {
    return { ...common, data: model, key };
  }
  if (typeof model?.key === "string") return { ...common, stored: model.key };
  throw new TypeError(
    "model must be an address, a File or Blob, an ArrayBuffer, a ReadableStream, or an entry of models.list().",
  );
}

function fileNameOf(url) {
  const last = new URL(url).pathname.split("/").pop();
  try {
    return decodeURIComponent(last);
  } catch {
    return last;
  }
}

/** Where tokens may be computed. */
const DEVICES = ["auto", "cpu", "gpu"];

/**
 * The part of a `load` request that says where to run.
 * @param {object} options `device`, `testing`, `variant`
 */
export function placeOf({ device = "cpu", testing, variant } = {}) {
  if (!DEVICES.includes(device)) throw new TypeError(`device must be one of ${DEVICES.join(", ")}.`);
  return { device, testing: { softwareAdapter: testing?.softwareAdapter === true }, variant };
}
