// What the package needs of Node: a worker thread, its own .wasm files, models
// by path, and a moment in which messages can arrive.

import { open, readFile } from "node:fs/promises";
import { pathToFileURL } from "node:url";
import { Worker } from "node:worker_threads";

/**
 * Starts the worker that holds the engine.
 * @param {(message: any) => void} onMessage
 * @param {(error: Error) => void} onFailure the worker could not start or died
 */
export function startWorker(onMessage, onFailure) {
  const worker = new Worker(new URL("./worker-node.js", import.meta.url), { name: "meetara" });
  worker.on("message", onMessage);
  worker.on("error", onFailure);
  // Only a request under way keeps the process alive, not a model at rest.
  worker.unref();
  return {
    post: (message, transfer = []) => worker.postMessage(message, transfer),
    terminate: () => void worker.terminate(),
    busy: () => worker.ref(),
    idle: () => worker.unref(),
  };
}

/** What `init` of the glue should be given: the bytes, since Node's fetch reads no files. */
export async function wasmSource(url) {
  return readFile(url);
}

/**
 * Opens a model by `file:` address.
 * @returns {Promise<null | { size: number, read(view: Uint8Array, at: number): Promise<number>, close(): Promise<void> }>}
 */
export async function openFile(url) {
  if (!url.startsWith("file:")) return null;
  const handle = await open(new URL(url), "r");
  const { size } = await handle.stat();
  return {
    size,
    read: async (view, at) => (await handle.read(view, 0, view.length, at)).bytesRead,
    close: () => handle.close(),
  };
}

/** The absolute address of a model: an `http(s):` or `file:` URL, or a path. */
export function resolveModelUrl(model) {
  const text = String(model);
  return /^(https?|file):/.test(text) ? text : pathToFileURL(text).href;
}

/** Who writes may be anywhere else than this machine. */
export function personsRegion() {
  return null;
}

/** Lets messages in: resolves in a new task. */
export function turn() {
  return new Promise((resolve) => setImmediate(resolve));
}

/** Node has no pool: `crossOriginIsolated` is not set there, so this is not asked for. */
export async function startPoolWorker() {
  throw new Error("there are no shared workers in Node");
}
