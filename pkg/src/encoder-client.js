// What TextClassifier and TextReader share: an encoder in a worker of its own, in the build of the engine for
// encoders, and how it is begun, asked and ended.

import { abortError } from "./errors.js";
import { orderOf } from "./order.js";
import { progressReporter } from "./progress.js";
import { Runtime } from "./runtime.js";

/** Known to `start` alone, so that nobody else constructs. */
const STARTED = Symbol("EncoderClient");

/**
 * Asks the worker of an encoder; ends when the encoder or `signal` does.
 * @type {(client: EncoderClient, op: string, body: object, signal?: AbortSignal) => Promise<any>}
 */
export let request;
/** What was loaded, as the worker tells it. Not a copy. */
export let loadedOf;

export class EncoderClient {
  #runtime;
  #destroyed = new AbortController();

  static {
    request = (client, op, body, signal) => client.#request(op, body, signal);
    loadedOf = (client) => client.#runtime.loaded;
  }

  constructor(token, runtime) {
    if (token !== STARTED) throw new TypeError(`Use ${new.target.name}.create().`);
    this.#runtime = runtime;
  }

  /** What the file says of itself, its heads among it. */
  get info() {
    return structuredClone(this.#runtime.loaded.info);
  }

  /** Where it came from, and whether it is kept for next time. */
  get source() {
    const { from, kept } = this.#runtime.loaded;
    return { from, kept };
  }

  /** Memory that the engine holds, in bytes. */
  get memoryBytes() {
    return this.#runtime.memoryBytes;
  }

  /** Gives the memory back. */
  destroy() {
    this.#end(abortError("The encoder was destroyed."));
  }

  #request(op, body, signal) {
    const both = signal ? AbortSignal.any([this.#destroyed.signal, signal]) : this.#destroyed.signal;
    return this.#runtime.request(op, body, { signal: both });
  }

  #end(reason) {
    if (this.#destroyed.signal.aborted) return;
    this.#destroyed.abort(reason);
    this.#runtime.release();
  }

  /** An encoder of the class `Client`, loaded by the worker `as` that; `options` are those of its `create`. */
  static async start(Client, as, options) {
    const { signal, monitor } = options;
    signal?.throwIfAborted();
    const progress = progressReporter(monitor);
    const runtime = await Runtime.start({ order: orderOf(options), as }, { signal, onProgress: progress?.onProgress });
    progress?.done();
    const client = new Client(STARTED, runtime);
    signal?.addEventListener("abort", () => client.#end(signal.reason), { once: true });
    return client;
  }
}
