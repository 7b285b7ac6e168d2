// The page's side of the worker: sends requests, hands out events and answers.

import { startWorker } from "#platform";
import { failure, fromWire } from "./errors.js";

/** A worker with one loaded model, shared by the sessions that were cloned from one another. */
export class Runtime {
  #worker;
  #nextId = 1;
  /** @type {Map<number, { resolve: Function, reject: Function, onEvent?: Function }>} */
  #pending = new Map();
  #holders = 1;
  /** What the worker said of the loaded model. */
  loaded = null;
  /** Size of the engine's memory, as last heard. */
  memoryBytes = 0;

  /**
   * Starts a worker and loads a model into it.
   * @param {{ order: object, variant?: string }} request
   * @param {{ signal?: AbortSignal, onProgress?: (bytes: number, total: number | null) => void }} options
   */
  static async start(request, { signal, onProgress } = {}) {
    signal?.throwIfAborted();
    const runtime = new Runtime();
    const { order, transfer } = await packed(request.order);
    try {
      runtime.#worker = startWorker(
        (message) => runtime.#receive(message),
        (error) => runtime.#fail(failure("stopped", `The worker of the model stopped: ${error.message}.`)),
      );
      runtime.loaded = await runtime.request("load", { ...request, order }, {
        signal,
        transfer,
        onEvent: ({ bytes, total }) => onProgress?.(bytes, total),
      });
      return runtime;
    } catch (error) {
      runtime.#close();
      throw error;
    }
  }

  /**
   * Sends one request.
   * @param {string} op
   * @param {object} body
   * @param {{ signal?: AbortSignal, onEvent?: (event: any) => void, transfer?: Transferable[] }} [options]
   */
  request(op, body, { signal, onEvent, transfer } = {}) {
    if (signal?.aborted) return Promise.reject(signal.reason);
    if (!this.#worker) return Promise.reject(failure("stopped", "This model was destroyed."));
    const id = this.#nextId++;
    return new Promise((resolve, reject) => {
      const onAbort = () => {
        this.#settle(id);
        this.#worker?.post({ id, op: "abort" });
        reject(signal.reason);
      };
      this.#worker.busy();
      this.#pending.set(id, {
        onEvent,
        resolve,
        reject,
        end: () => signal?.removeEventListener("abort", onAbort),
      });
      signal?.addEventListener("abort", onAbort, { once: true });
      try {
        this.#worker.post({ id, op, ...body }, transfer);
      } catch (error) {
        this.#settle(id);
        reject(error);
      }
    });
  }

  #settle(id) {
    const entry = this.#pending.get(id);
    this.#pending.delete(id);
    entry?.end();
    if (this.#pending.size === 0) this.#worker?.idle();
    return entry;
  }

  #receive({ id, event, result, error, memoryBytes, ...rest }) {
    if (memoryBytes) this.memoryBytes = memoryBytes;
    // What was aborted may still have had a message on its way.
    if (!this.#pending.has(id)) return;
    if (event) {
      this.#pending.get(id).onEvent?.({ event, ...rest });
      return;
    }
    const entry = this.#settle(id);
    if (error) entry.reject(fromWire(error));
    else entry.resolve(result);
  }

  #fail(error) {
    for (const id of [...this.#pending.keys()]) this.#settle(id).reject(error);
    this.#close();
  }

  #close() {
    this.#worker?.terminate();
    this.#worker = null;
  }

  /** One more session uses this model. */
  retain() {
    this.#holders += 1;
  }

  /** One session less; the last ends the worker and gives its memory back. */
  release() {
    this.#holders -= 1;
    if (this.#holders === 0) this.#fail(failure("aborted", "The model was destroyed."));
  }
}

/** An order as a worker can be sent it, and what goes over to the worker with it. */
export async function packed(given) {
  const order = { ...given };
  const transfer = [];
  if (order.data instanceof Blob && !clones(order.data)) {
    order.length = order.data.size;
    order.data = order.data.stream();
  }
  if (order.data instanceof ReadableStream) {
    if (streamsTransfer()) transfer.push(order.data);
    else order.data = await new Response(order.data).blob();
  }
  return { order, transfer };
}

/** Whether a Blob can be sent to a worker. (Node: not when a file is behind it.) */
function clones(blob) {
  try {
    structuredClone(blob);
    return true;
  } catch {
    return false;
  }
}

/** Whether a stream can be handed to a worker. (Safari: no.) */
function streamsTransfer() {
  const { port1 } = new MessageChannel();
  try {
    const stream = new ReadableStream();
    port1.postMessage(stream, [stream]);
    return true;
  } catch {
    return false;
  } finally {
    port1.close();
  }
}
