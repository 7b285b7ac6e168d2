// What the package needs of a browser: a dedicated worker, its own .wasm files,
// and a moment in which messages can arrive.

/**
 * Starts the worker that holds the engine.
 * @param {(message: any) => void} onMessage
 * @param {(error: Error) => void} onFailure the worker could not start or died
 */
export function startWorker(onMessage, onFailure) {
  const worker = new Worker(new URL("./worker.js", import.meta.url), { type: "module", name: "meetara" });
  worker.addEventListener("message", (event) => onMessage(event.data));
  worker.addEventListener("error", (event) => {
    event.preventDefault();
    onFailure(new Error(event.message || "its script could not be loaded"));
  });
  return {
    post: (message, transfer = []) => worker.postMessage(message, transfer),
    terminate: () => worker.terminate(),
    // A page is not kept open by its workers.
    busy() {},
    idle() {},
  };
}

/**
 * Starts a worker that shares the memory of a module, from within a worker, with which it ends.
 * @param {object} message what it needs
 * @param {number} patienceMs
 */
export function startPoolWorker(message, patienceMs) {
  const worker = new Worker(new URL("./pool-worker.js", import.meta.url), { type: "module", name: "meetara-pool" });
  let timer;
  return new Promise((resolve, reject) => {
    timer = setTimeout(() => reject(new Error("a worker of the pool did not come")), patienceMs);
    worker.addEventListener("message", resolve, { once: true });
    worker.addEventListener("error", (event) => {
      event.preventDefault();
      reject(new Error(event.message || "the script of the pool could not be loaded"));
    });
    worker.postMessage(message);
  }).finally(() => clearTimeout(timer)).catch((error) => {
    worker.terminate();
    throw error;
  });
}

/** What `init` of the glue should be given: the address, so that it compiles while it streams. */
export async function wasmSource(url) {
  return url;
}

/** Files by path exist only in Node. */
export async function openFile() {
  return null;
}

/** The absolute address of a model, which is also its key in the store. */
export function resolveModelUrl(model) {
  return new URL(model, globalThis.location?.href).href;
}

/** Where the person may be, as an ISO 3166-1 code: the first language that names a region; null where none does. */
export function personsRegion() {
  for (const tag of navigator.languages ?? [navigator.language]) {
    try {
      const { region } = new Intl.Locale(tag);
      if (region?.length === 2) return region;
    } catch {
      // Not a language tag.
    }
  }
  return null;
}

const channel = new MessageChannel();
const waiting = [];
channel.port1.onmessage = () => waiting.shift()();

/** Lets messages in: resolves in a new task. (A timer would be held back to 4 ms.) */
export function turn() {
  return new Promise((resolve) => {
    waiting.push(resolve);
    channel.port2.postMessage(null);
  });
}
