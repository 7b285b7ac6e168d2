// The worker's side of adapters: where each file can be had again, and which are in memory.
//
// The engine keeps the weights of the adapters used last, as many as fit its
// budget. All others are only listed: their files lie in the store, at their
// address, or in a Blob, and are read again when a request names them.

import { failure } from "./errors.js";
import { loadModel } from "./source.js";
import { openStore } from "./store.js";

/** Files are read again so often when others push them out meanwhile; then the mix is taken for too large. */
const ATTEMPTS = 3;

/**
 * @typedef {{ name: string, scale: number }} Use
 * @typedef {object} Entry
 * @property {object} order how to read it again
 * @property {number} bytes of its file
 * @property {number} rank
 * @property {number} memoryBytes
 */

export class AdapterShelf {
  #engine;
  #model;
  /** @type {Map<string, Entry>} */
  #entries = new Map();
  /** Names of those that are loaded for the first time. */
  #coming = new Set();

  constructor(engine, model, bytesMax) {
    this.#engine = engine;
    this.#model = model;
    if (bytesMax !== undefined) model.adapters_max(bytesMax);
  }

  /** Loads an adapter under a name that no other has. */
  async load(name, order, progress) {
    if (this.#entries.has(name) || this.#coming.has(name)) {
      throw failure("invalid_request", `There is an adapter ${name} already; unload it first, or choose another name.`);
    }
    this.#coming.add(name);
    try {
      const { entry, from, kept } = await this.#read(name, order, progress);
      this.#entries.set(name, entry);
      return { ...this.#line(name, entry), from, kept };
    } finally {
      this.#coming.delete(name);
    }
  }

  /** Forgets one; sessions that use it go on with it until their next request. */
  unload(name) {
    this.#entry(name);
    this.#entries.delete(name);
    this.#model.unload_adapter(name);
  }

  /** All of them, in the order in which they came. */
  list() {
    return Array.from(this.#entries, ([name, entry]) => this.#line(name, entry));
  }

  #line(name, { bytes, rank, memoryBytes }) {
    return { name, bytes, rank, memoryBytes, resident: this.#model.adapters().includes(name) };
  }

  #entry(name) {
    const entry = this.#entries.get(name);
    if (!entry) throw failure("not_found", `There is no adapter ${name}; load it first.`);
    return entry;
  }

  /**
   * Runs `action` once all adapters of `mix` are in memory, before anything else can push one out.
   * @template T
   * @param {Use[]} mix
   * @param {() => T} action
   * @returns {Promise<T>}
   */
  async with(mix, action) {
    const names = mix.map(({ name }) => name);
    for (let attempt = 0; ; attempt += 1) {
      for (const name of names) this.#entry(name);
      const missing = names.length ? this.#model.missing_adapters(names) : [];
      // What is still missing in the end the engine names when it is put on.
      if (missing.length === 0 || attempt === ATTEMPTS) return action();
      for (const name of new Set(missing)) await this.#read(name, this.#entry(name).order, () => {});
    }
  }

  /** Puts `mix` on a session, in the action of `with`. */
  static put(session, mix) {
    session.set_adapters(mix.map(({ name }) => name), Float32Array.from(mix, ({ scale }) => scale));
  }

  async #read(name, order, progress) {
    let again = order;
    const take = (buffer) => {
      const bytes = buffer.len_bytes;
      // What came once and is kept nowhere must be held here.
      if (order.data && !(order.data instanceof Blob)) again = { ...order, data: new Blob([this.#engine.view(buffer).slice()]) };
      const [rank, memoryBytes] = this.#model.load_adapter(name, buffer);
      return { bytes, rank, memoryBytes };
    };
    const store = order.key || order.stored ? await openStore() : null;
    const context = { engineFor: () => this.#engine, store, take, progress, kind: "adapter" };
    const { model: loaded, from, kept } = await loadModel(context, order);
    if (kept && order.key && order.data) again = { stored: order.key, name: order.name };
    return { entry: { order: again, ...loaded }, from, kept };
  }
}
