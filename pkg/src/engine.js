// Loads the engine's WebAssembly into this thread.
//
// `meetara/engine` is the low door: the classes of the .wasm themselves, which
// block the thread that calls them. Pages use `meetara`, which keeps them in a
// worker.

import { wasmSource } from "#platform";

/** Builds of the engine, the fastest first. */
export const VARIANTS = ["relaxed", "simd128", "scalar"];

/** A module with one function: `i8x16.popcnt(i8x16.splat(0))`. */
const SIMD128_PROBE = Uint8Array.of(
  0, 97, 115, 109, 1, 0, 0, 0, // magic, version
  1, 5, 1, 96, 0, 1, 123, // type: () -> v128
  3, 2, 1, 0, // one function
  10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11, // i32.const 0; i8x16.splat; i8x16.popcnt; end
);

/** A module with one function: `i16x8.relaxed_dot_i8x16_i7x16_s(i8x16.splat(0), i8x16.splat(0))`. */
const RELAXED_PROBE = Uint8Array.of(
  0, 97, 115, 109, 1, 0, 0, 0,
  1, 5, 1, 96, 0, 1, 123,
  3, 2, 1, 0,
  10, 15, 1, 13, 0, 65, 0, 253, 15, 65, 0, 253, 15, 253, 146, 2, 11,
);

const PROBES = { relaxed: RELAXED_PROBE, simd128: SIMD128_PROBE };

/** The builds that this JavaScript engine accepts, the fastest first. */
export function supportedVariants() {
  return VARIANTS.filter((variant) => !PROBES[variant] || WebAssembly.validate(PROBES[variant]));
}

/** The fastest build that this JavaScript engine accepts. */
export function pickVariant() {
  return supportedVariants()[0];
}

// Written out, one address each, so that bundlers find the files.
const BUILDS = {
  relaxed: {
    glue: () => import("../dist/relaxed/meetara_browser.js"),
    wasm: new URL("../dist/relaxed/meetara_browser_bg.wasm", import.meta.url),
  },
  simd128: {
    glue: () => import("../dist/simd128/meetara_browser.js"),
    wasm: new URL("../dist/simd128/meetara_browser_bg.wasm", import.meta.url),
  },
  scalar: {
    glue: () => import("../dist/scalar/meetara_browser.js"),
    wasm: new URL("../dist/scalar/meetara_browser_bg.wasm", import.meta.url),
  },
  // The engine with relaxed SIMD, and the GPU's half of it.
  webgpu: {
    glue: () => import("../dist/webgpu/meetara_webgpu.js"),
    wasm: new URL("../dist/webgpu/meetara_webgpu_bg.wasm", import.meta.url),
  },
  // Encoders alone, with relaxed SIMD and with SIMD.
  encoder: {
    glue: () => import("../dist/encoder/meetara_encoder.js"),
    wasm: new URL("../dist/encoder/meetara_encoder_bg.wasm", import.meta.url),
  },
  "encoder-simd128": {
    glue: () => import("../dist/encoder-simd128/meetara_encoder.js"),
    wasm: new URL("../dist/encoder-simd128/meetara_encoder_bg.wasm", import.meta.url),
  },
};

/** The build for encoders that this JavaScript engine accepts, the faster one first; none without SIMD. */
export function pickEncoderVariant() {
  return { relaxed: "encoder", simd128: "encoder-simd128" }[pickVariant()];
}

/** Whether this JavaScript engine accepts relaxed SIMD, as the builds for the GPU and with threads need it. */
export function acceptsRelaxed() {
  return WebAssembly.validate(RELAXED_PROBE);
}

/**
 * Loads one build of the engine; a second call gives the same instance.
 * @param {{ variant?: "relaxed" | "simd128" | "scalar" | "webgpu" | "encoder" | "encoder-simd128" }} [options] without `variant` the fastest of those
 *   for the CPU is taken
 */
export async function loadEngine({ variant = pickVariant() } = {}) {
  const build = BUILDS[variant];
  if (!build) throw new TypeError(`no build of the engine is called ${variant}; there are ${Object.keys(BUILDS).join(", ")}`);
  const glue = await build.glue();
  const { memory } = await glue.default({ module_or_path: await wasmSource(build.wasm) });
  return {
    variant,
    memory,
    ModelBuffer: glue.ModelBuffer,
    /** Of the build for encoders only. */
    help: glue.help,
    help_regions: glue.help_regions,
    follow_feelings: glue.follow_feelings,
    feelings_line: glue.feelings_line,
    /** The bytes of `buffer` as they stand now; the view ends when the memory grows. */
    view: (buffer) => new Uint8Array(memory.buffer, buffer.ptr, buffer.len_bytes),
  };
}
