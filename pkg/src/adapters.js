// The page's side of adapters: those of a loaded model, and those that one
// session has on. Sessions that were cloned from one another share the first
// and have the second each for itself.

import { orderOf } from "./order.js";
import { progressReporter } from "./progress.js";
import { packed } from "./runtime.js";

export class Adapters {
  #runtime;
  #active;

  /**
   * @param {import("./runtime.js").Runtime} runtime
   * @param {{ name: string, scale: number }[]} [active]
   */
  constructor(runtime, active = []) {
    this.#runtime = runtime;
    this.#active = active;
  }

  /** Loads an adapter file over the model. See types/index.d.ts for the options. */
  async load(source, { name, cache, sha256, signal, monitor } = {}) {
    signal?.throwIfAborted();
    const order = orderOf({ model: source, cache, sha256, name: source?.name });
    const called = name ?? nameOf(order.name);
    if (typeof called !== "string" || called === "") throw new TypeError("An adapter from bytes needs a name: load(bytes, { name }).");
    order.name ??= called;
    const progress = progressReporter(monitor);
    const { order: sent, transfer } = await packed(order);
    const loaded = await this.#runtime.request("adapter_load", { name: called, order: sent }, {
      signal,
      transfer,
      onEvent: ({ bytes, total }) => progress?.onProgress(bytes, total),
    });
    progress?.done();
    return loaded;
  }

  /** Forgets an adapter; here it is taken off as well. */
  async unload(name) {
    await this.#runtime.request("adapter_unload", { name });
    this.#active = this.#active.filter((used) => used.name !== name);
  }

  /** All adapters of the model, and with which scale each is on here. */
  async list() {
    const lines = await this.#runtime.request("adapter_list", {});
    const scaleOf = (name) => this.#active.find((used) => used.name === name)?.scale ?? null;
    return lines.map((line) => ({ ...line, scale: scaleOf(line.name) }));
  }

  /** Puts these on, for this session and from the next request on, and takes all others off. */
  async use(mix, { signal } = {}) {
    const wanted = mixOf(mix);
    await this.#runtime.request("adapter_ready", { adapters: wanted }, { signal });
    this.#active = wanted;
  }

  /** What is on here. */
  get active() {
    return this.#active.map((used) => ({ ...used }));
  }

  /** What a request uses: its own mix, where it has one. */
  for(mix) {
    return mix == null ? this.active : mixOf(mix);
  }
}

/** A name, or a list of names and of `{ name, scale }`, as a list of the latter. */
function mixOf(mix) {
  const list = typeof mix === "string" ? [mix] : mix;
  if (!Array.isArray(list)) throw new TypeError("adapters must be a name, or a list of names or { name, scale }.");
  return list.map((used, index) => {
    const { name, scale = 1 } = typeof used === "string" ? { name: used } : (used ?? {});
    if (typeof name !== "string") throw new TypeError(`adapters[${index}].name must be a string.`);
    if (!Number.isFinite(scale)) throw new TypeError(`adapters[${index}].scale must be a number.`);
    return { name, scale };
  });
}

/** The name of a file without what all such files end in. */
function nameOf(file) {
  return file?.replace(/(\.adapter)?\.gguf$/i, "");
}
