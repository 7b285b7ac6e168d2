// The models and adapters kept on this device.

import { kindOf, openStore } from "./store.js";

/** Lists and deletes the models that `LanguageModel.create`, and the adapters that `adapters.load` has kept. */
export const models = {
  /**
   * All of them, the newest first. Pass one to `create({ model })` to open it; with `kind: "adapter"` these are the
   * adapters, for `adapters.load`.
   */
  async list({ kind = "model" } = {}) {
    const store = await openStore();
    const records = store ? await store.list() : [];
    const wanted = records.filter((record) => kindOf(record) === kind);
    return wanted.map(({ key, name, bytes, sha256, savedAt }) => ({ key, name, bytes, sha256, savedAt }));
  },

  /** Whether one is kept under `key`, the absolute address for models fetched by URL. */
  async has(key, { kind = "model" } = {}) {
    const store = await openStore();
    const record = await store?.find(key);
    return record ? kindOf(record) === kind : false;
  },

  /** Deletes one by its `key`; nothing happens when there is none. */
  async delete(key) {
    const store = await openStore();
    await store?.delete(key);
  },
};
