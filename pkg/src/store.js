// Models kept on this device.
//
// The origin private file system (OPFS) is used where it exists, else the
// Cache API, else nothing is kept. In both a model is two things:
//
//   <key hash>-<random>.gguf   the bytes, written while they arrive
//   <key hash>.json            the record: { key, kind, name, file, bytes, sha256, savedAt }
//
// The record is written last, after the length (and hash, when one was given)
// were right and the engine took the model. A model exists if and only if its
// record does, so a download cut at any moment leaves nothing that could be
// mistaken for a model. What such a cut leaves behind is swept later.

const DIRECTORY = "meetara-models";

/** A file without a record is left alone for this long: another tab may be about to write its record. */
const SWEEP_AFTER_MS = 10 * 60 * 1000;

/** What a record is of: "model", "adapter" or "encoder". (Records had no kind before there were adapters.) */
export function kindOf(record) {
  return record.kind ?? "model";
}

/** The store of this origin, or null where nothing can be kept. */
export async function openStore() {
  try {
    const root = await navigator.storage.getDirectory();
    return new OpfsStore(await root.getDirectoryHandle(DIRECTORY, { create: true }));
  } catch {
    // No OPFS here (old browser, private window, Node): try the next.
  }
  try {
    return new CacheStore(await caches.open(DIRECTORY));
  } catch {
    return null;
  }
}

async function hashOf(key) {
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(key));
  return Array.from(new Uint8Array(digest, 0, 16), (b) => b.toString(16).padStart(2, "0")).join("");
}

const randomName = (hash) => `${hash}-${crypto.randomUUID().slice(0, 8)}.gguf`;

function parseRecord(text) {
  try {
    const record = JSON.parse(text);
    const sound = typeof record.key === "string" && typeof record.file === "string" && Number.isSafeInteger(record.bytes);
    return sound ? record : null;
  } catch {
    return null;
  }
}

class OpfsStore {
  #dir;

  constructor(dir) {
    this.#dir = dir;
  }

  /** The record of `key` whose file is whole, or null. */
  async find(key) {
    return this.#record(`${await hashOf(key)}.json`);
  }

  async #record(name) {
    try {
      const record = parseRecord(await (await this.#file(name)).text());
      return record && (await this.#file(record.file)).size === record.bytes ? record : null;
    } catch {
      return null;
    }
  }

  async #file(name) {
    return (await this.#dir.getFileHandle(name)).getFile();
  }

  /** All records, the newest first. */
  async list() {
    const records = [];
    for await (const name of this.#dir.keys()) {
      if (!name.endsWith(".json")) continue;
      const record = await this.#record(name);
      if (record) records.push(record);
    }
    await this.#sweep(records);
    return records.sort((a, b) => String(b.savedAt).localeCompare(String(a.savedAt)));
  }

  async #sweep(records) {
    const known = new Set(records.map((record) => record.file));
    for await (const name of this.#dir.keys()) {
      if (!name.endsWith(".gguf") || known.has(name)) continue;
      try {
        const { lastModified } = await this.#file(name);
        if (Date.now() - lastModified > SWEEP_AFTER_MS) await this.#dir.removeEntry(name);
      } catch {
        // Open in another tab: still being written.
      }
    }
  }

  async delete(key) {
    const name = `${await hashOf(key)}.json`;
    const record = await this.#record(name);
    // The record first: without it the file is no model any more.
    await this.#dir.removeEntry(name).catch(() => {});
    if (record) await this.#dir.removeEntry(record.file).catch(() => {});
  }

  /** Bytes of a stored model: `{ size, read(view, at) -> bytes read, close() }`. */
  async open(record) {
    const handle = await this.#dir.getFileHandle(record.file);
    try {
      // Readers share the file where the mode is known; elsewhere one tab holds it alone.
      const access = await handle.createSyncAccessHandle({ mode: "read-only" });
      return {
        size: access.getSize(),
        read: async (view, at) => access.read(view, { at }),
        close: async () => access.close(),
      };
    } catch {
      const file = await handle.getFile();
      return {
        size: file.size,
        read: async (view, at) => {
          const part = await file.slice(at, at + Math.min(view.length, 1 << 22)).arrayBuffer();
          view.set(new Uint8Array(part));
          return part.byteLength;
        },
        close: async () => {},
      };
    }
  }

  /** Starts keeping a model under `key`. */
  async begin(key) {
    const hash = await hashOf(key);
    const file = randomName(hash);
    const handle = await this.#dir.getFileHandle(file, { create: true });
    let access = await handle.createSyncAccessHandle();
    let at = 0;
    const close = () => {
      access?.close();
      access = null;
    };
    return {
      write(chunk) {
        let done = 0;
        while (done < chunk.length) {
          const n = access.write(chunk.subarray(done), { at: at + done });
          if (!(n > 0)) throw new Error("the disk took no more bytes");
          done += n;
        }
        at += done;
      },
      async finish() {
        access.flush();
        close();
      },
      commit: async (details) => {
        const before = await this.find(key);
        await this.#writeText(`${hash}.json`, JSON.stringify({ ...details, key, file, bytes: at }));
        if (before && before.file !== file) await this.#dir.removeEntry(before.file).catch(() => {});
      },
      discard: async () => {
        close();
        await this.#dir.removeEntry(file).catch(() => {});
      },
    };
  }

  async #writeText(name, text) {
    const handle = await this.#dir.getFileHandle(name, { create: true });
    if (handle.createWritable) {
      // Swapped in whole when it is closed.
      const writable = await handle.createWritable();
      await writable.write(text);
      await writable.close();
      return;
    }
    const access = await handle.createSyncAccessHandle();
    try {
      const bytes = new TextEncoder().encode(text);
      access.truncate(bytes.length);
      access.write(bytes, { at: 0 });
      access.flush();
    } finally {
      access.close();
    }
  }
}

class CacheStore {
  #cache;

  constructor(cache) {
    this.#cache = cache;
  }

  #url(name) {
    return new URL(`/.${DIRECTORY}/${name}`, globalThis.location.href).href;
  }

  async find(key) {
    return this.#record(this.#url(`${await hashOf(key)}.json`));
  }

  async #record(url) {
    const response = await this.#cache.match(url);
    const record = response && parseRecord(await response.text());
    return record && (await this.#cache.match(this.#url(record.file))) ? record : null;
  }

  async list() {
    const records = [];
    for (const request of await this.#cache.keys()) {
      const record = request.url.endsWith(".json") ? await this.#record(request.url) : null;
      if (record) records.push(record);
    }
    return records.sort((a, b) => String(b.savedAt).localeCompare(String(a.savedAt)));
  }

  async delete(key) {
    const record = await this.find(key);
    await this.#cache.delete(this.#url(`${await hashOf(key)}.json`));
    if (record) await this.#cache.delete(this.#url(record.file));
  }

  async open(record) {
    const response = await this.#cache.match(this.#url(record.file));
    const blob = await response.blob();
    return {
      size: blob.size,
      read: async (view, at) => {
        const part = await blob.slice(at, at + Math.min(view.length, 1 << 22)).arrayBuffer();
        view.set(new Uint8Array(part));
        return part.byteLength;
      },
      close: async () => {},
    };
  }

  async begin(key) {
    const hash = await hashOf(key);
    const file = randomName(hash);
    let bytes = 0;
    return {
      write() {},
      // Kept in one piece, from where the bytes stand in the engine's memory; a Blob refuses shared memory.
      finish: async (view) => {
        bytes = view.length;
        await this.#cache.put(this.#url(file), new Response(new Blob([view.buffer instanceof ArrayBuffer ? view : view.slice()])));
      },
      commit: async (details) => {
        const before = await this.find(key);
        const record = JSON.stringify({ ...details, key, file, bytes });
        await this.#cache.put(this.#url(`${hash}.json`), new Response(record));
        if (before && before.file !== file) await this.#cache.delete(this.#url(before.file));
      },
      discard: async () => {
        await this.#cache.delete(this.#url(file));
      },
    };
  }
}
