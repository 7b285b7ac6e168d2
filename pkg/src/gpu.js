// Whether this browser's GPU is worth a try. Asked in the worker, before a byte
// of the build for the GPU is fetched.
//
// What comes after is the engine's part: it compares the GPU's logits with the
// CPU's, takes the time of both, and goes on on the CPU when the GPU fails.

import { acceptsRelaxed } from "./engine.js";

/** Programs that play a GPU, as they call themselves. */
const SOFTWARE = /swiftshader|llvmpipe|lavapipe|software|basic render/i;

/**
 * @param {{ softwareAdapter?: boolean }} [testing] take a program that plays a GPU as well
 * @returns {Promise<{ adapter: string } | { adapter: string | null, reason: string, message: string }>} the second when the
 *   CPU has to do; the words are those of the engine's reasons
 */
export async function findAdapter({ softwareAdapter = false } = {}) {
  let adapter = null;
  try {
    adapter = await globalThis.navigator?.gpu?.requestAdapter({ powerPreference: "high-performance" });
  } catch {
    // As good as none.
  }
  if (!adapter) {
    return { adapter: null, reason: "no_adapter", message: "there is no GPU that this program can reach; the CPU is used" };
  }
  // The first browsers with WebGPU did not tell who the adapter is; the engine relies on it.
  if (!adapter.info) {
    return { adapter: null, reason: "unsupported", message: "this browser's WebGPU is too old for the kernels; the CPU is used" };
  }
  const { vendor, architecture, description, isFallbackAdapter } = adapter.info;
  const name = [vendor, architecture, description].filter(Boolean).join(" ") || "without a name";
  const software = (isFallbackAdapter ?? adapter.isFallbackAdapter ?? false) || SOFTWARE.test(name);
  if (software && !softwareAdapter) {
    return { adapter: name, reason: "software_adapter", message: `the only adapter, ${name}, is software; the CPU is used` };
  }
  if (!acceptsRelaxed()) {
    return { adapter: name, reason: "unsupported", message: "this browser has no relaxed SIMD, which the GPU's build needs; the CPU is used" };
  }
  return { adapter: name };
}
