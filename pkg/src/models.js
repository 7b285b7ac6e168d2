// The models kept on this device.

import { openStore } from "./store.js";

/** Lists and deletes the models that `LanguageModel.create` has kept. */
export const models = {
  /** All of them, the newest first. Pass one to `create({ model })` to open it. */
  async list() {
    const store = await openStore();
    const records = store ? await store.list() : [];
    return records.map(({ key, name, bytes, sha256, savedAt }) => ({ key, name, bytes, sha256, savedAt }));
  },

  /** Whether one is kept under `key`, the absolute address for models fetched by URL. */
  async has(key) {
    const store = await openStore();
    return store ? (await store.find(key)) !== null : false;
  },

  /** Deletes one by its `key`; nothing happens when there is none. */
  async delete(key) {
    const store = await openStore();
    await store?.delete(key);
  },
};
