// The build with threads: for large models, where workers can share memory.
//
// Products are cut into pieces, and workers of this worker take some of them.
// The engine itself measures whether that pays and stops asking them when it
// does not, so all that is decided here is whether they are there.

import { startPoolWorker } from "#platform";
import { acceptsRelaxed } from "./engine.js";

/** Smaller models are as fast on one thread: a product takes little longer than to wake another. */
export const THREADS_BYTES_MIN = 48e6;
/** Memory is the limit of a token's speed, and few cores fill its bus. */
const WORKERS_MAX = 7;
/** A worker that has not come by then will not come. */
const PATIENCE_MS = 10_000;
/** As in runtime-wasm/browser/build.rs; workers of the pool need far less. */
const STACK_BYTES = 256 << 10;

// Written out, so that bundlers find the files.
const glue = () => import("../dist/threads/meetara_threads.js");
const wasm = new URL("../dist/threads/meetara_threads_bg.wasm", import.meta.url);

/**
 * Whether a model of so many bytes should have threads here.
 * @param {string | undefined} variant the build that was asked for
 * @param {number | null} bytes
 */
export function wantsThreads(variant, bytes) {
  const can = globalThis.crossOriginIsolated === true && navigator.hardwareConcurrency > 1 && acceptsRelaxed();
  return can && (variant === "threads" || (variant === undefined && bytes !== null && bytes >= THREADS_BYTES_MIN));
}

/** Loads the build and starts its workers; fails where any of it is missing. */
export async function loadThreads() {
  const classes = await glue();
  const module = await WebAssembly.compile(await (await fetch(wasm)).arrayBuffer());
  const { memory } = await classes.default({ module_or_path: module });
  const count = Math.min(navigator.hardwareConcurrency - 1, WORKERS_MAX);
  const start = () => startPoolWorker({ module, memory, stackBytes: STACK_BYTES }, PATIENCE_MS);
  await Promise.all(Array.from({ length: count }, start));
  return {
    variant: "threads",
    memory,
    ModelBuffer: classes.ModelBuffer,
    /** Also a view of shared memory must be made anew when it has grown. */
    view: (buffer) => new Uint8Array(memory.buffer, buffer.ptr, buffer.len_bytes),
  };
}
