// Reads what people write: how they feel, which domain it belongs to, and
// whether somebody may need help at once. The text model runs in a worker of
// its own, in the build for encoders.
//
// A reader keeps nothing of what it read: how somebody feels over a conversation
// follows from the readings of its turns, which whoever holds it keeps.

import { abortError } from "./errors.js";
import { orderOf } from "./order.js";
import { progressReporter } from "./progress.js";
import { Runtime } from "./runtime.js";

const PRIVATE = Symbol("TextReader");

/** The classes in the order of the engine's scores. */
const CLASSES = ["anger", "disgust", "fear", "joy", "neutral", "sadness", "surprise"];

export class TextReader {
  #runtime;
  #destroyed = new AbortController();

  constructor(token, runtime) {
    if (token !== PRIVATE) throw new TypeError("Use TextReader.create().");
    this.#runtime = runtime;
  }

  /** Loads the text model. See types/index.d.ts for the options. */
  static async create(options = {}) {
    const { signal, monitor } = options;
    signal?.throwIfAborted();
    const progress = progressReporter(monitor);
    const request = { order: orderOf(options), as: "reader" };
    const runtime = await Runtime.start(request, { signal, onProgress: progress?.onProgress });
    progress?.done();
    const reader = new TextReader(PRIVATE, runtime);
    signal?.addEventListener("abort", () => reader.#end(signal.reason), { once: true });
    return reader;
  }

  /** What the model's file says of itself. */
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

  /** Countries, as codes of two letters, whose help lines are known. */
  get regions() {
    return [...this.#runtime.loaded.regions];
  }

  /**
   * Reads a text: `{ text, domain, safety, read }`. `before` are earlier messages of the same person, the oldest first:
   * a short text is read together with them. With `emotion: false` nothing is said of the feeling, and `text` is null.
   */
  async read(text, { before = [], emotion = true, signal } = {}) {
    const turns = [...before, text];
    if (turns.some((turn) => typeof turn !== "string")) throw new TypeError("The text, and those before it, must be strings.");
    return this.#request("read", { turns, emotion: emotion === true }, signal);
  }

  /** How somebody feels after the last of several readings of one conversation, the oldest first. */
  async follow(readings, { signal } = {}) {
    return (await this.followFor(readings, null, signal)).feelings;
  }

  /** The same, and the line for a model that replies at this level of empathy. For sessions. */
  followFor(readings, empathy, signal) {
    return this.#request("follow", { turns: Float32Array.from(readings.flatMap(turnOf)), empathy }, signal);
  }

  /** What is said, and whom it names, when somebody may need help at once: `{ text, region, checked }`. */
  async help(category, { region = null, signal } = {}) {
    const help = await this.#request("help", { category, region: region ?? undefined }, signal);
    if (!help.text) throw new TypeError('category must be "mental_health", "medical" or "abuse".');
    return help;
  }

  #request(op, body, signal) {
    const both = signal ? AbortSignal.any([this.#destroyed.signal, signal]) : this.#destroyed.signal;
    return this.#runtime.request(op, body, { signal: both });
  }

  /** Gives the memory back. */
  destroy() {
    this.#end(abortError("The reader was destroyed."));
  }

  #end(reason) {
    if (this.#destroyed.signal.aborted) return;
    this.#destroyed.abort(reason);
    this.#runtime.release();
  }
}

/** A reading as the engine follows it: seven scores and a number of words. */
function turnOf({ text, read }) {
  const scores = text?.emotion_scores;
  return [...CLASSES.map((name) => scores?.[name] ?? NaN), read.words];
}
