// Encoders: what a text is about and how it sounds, as vectors and as the
// probabilities of labels. They have a build of the engine of their own, without
// chat models, which runs in a worker, as for LanguageModel.

import { abortError } from "./errors.js";
import { orderOf } from "./order.js";
import { progressReporter } from "./progress.js";
import { Runtime } from "./runtime.js";

const PRIVATE = Symbol("TextClassifier");

export class TextClassifier {
  #runtime;
  #destroyed = new AbortController();

  constructor(token, runtime) {
    if (token !== PRIVATE) throw new TypeError("Use TextClassifier.create().");
    this.#runtime = runtime;
  }

  /** Loads an encoder. See types/index.d.ts for the options. */
  static async create(options = {}) {
    const { signal, monitor } = options;
    signal?.throwIfAborted();
    const progress = progressReporter(monitor);
    const request = { order: orderOf(options), as: "encoder" };
    const runtime = await Runtime.start(request, { signal, onProgress: progress?.onProgress });
    progress?.done();
    const classifier = new TextClassifier(PRIVATE, runtime);
    signal?.addEventListener("abort", () => classifier.#end(signal.reason), { once: true });
    return classifier;
  }

  /** What the encoder's file says of itself, its heads among it. */
  get info() {
    return structuredClone(this.#runtime.loaded.info);
  }

  /** Where the encoder came from, and whether it is kept for next time. */
  get source() {
    const { from, kept } = this.#runtime.loaded;
    return { from, kept };
  }

  /** Memory that the engine holds, in bytes. */
  get memoryBytes() {
    return this.#runtime.memoryBytes;
  }

  /**
   * What each head says of a text: `{ heads: { NAME: [{ label, probability, chosen }] }, tokens, tokensCut }`.
   * Of the labels of one head that exclude one another the likeliest is chosen, else each above its threshold.
   */
  async classify(text, { signal } = {}) {
    const { probabilities, tokens, tokensCut } = await this.#encode(text, signal);
    const heads = {};
    let from = 0;
    for (const { name, labels, several, thresholds } of this.#runtime.loaded.info.heads) {
      const own = probabilities.subarray(from, (from += labels.length));
      const best = own.indexOf(Math.max(...own));
      heads[name] = labels.map((label, i) => ({
        label,
        probability: own[i],
        chosen: several ? own[i] >= (thresholds?.[i] ?? 0.5) : i === best,
      }));
    }
    return { heads, tokens, tokensCut };
  }

  /** The vector of a text, a Float32Array of length 1 (L2): texts of like meaning have a large product. */
  async embed(text, { signal } = {}) {
    return (await this.#encode(text, signal)).embedding;
  }

  #encode(text, signal) {
    if (typeof text !== "string") throw new TypeError("The text must be a string.");
    const both = signal ? AbortSignal.any([this.#destroyed.signal, signal]) : this.#destroyed.signal;
    return this.#runtime.request("encode", { text }, { signal: both });
  }

  /** Gives the memory back. */
  destroy() {
    this.#end(abortError("The classifier was destroyed."));
  }

  #end(reason) {
    if (this.#destroyed.signal.aborted) return;
    this.#destroyed.abort(reason);
    this.#runtime.release();
  }
}
