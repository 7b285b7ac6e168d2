// Our engine in a dedicated Worker, for chromium.mjs.

import { asking } from "/bench/asking.js";

/** The first of `variants` that this browser accepts. */
async function pick(variants) {
  for (const variant of variants) {
    const response = await fetch(`/engine/${variant}/meetara_browser_bg.wasm`);
    if (WebAssembly.validate(await response.arrayBuffer())) return variant;
  }
  throw new Error("no build of the engine is there: run `cargo xtask wasm`");
}

export async function create({ variants }) {
  const variant = await pick(variants);
  const ask = asking("/bench/meetara-worker.js");
  return { load: () => ask("load", variant), run: (argument) => ask("run", argument), swap: (argument) => ask("swap", argument) };
}
