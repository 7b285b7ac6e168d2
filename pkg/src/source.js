// Brings the bytes of a model, or of an adapter, to their place in the engine's memory.
//
//   store   -> read straight into place
//   file    -> read straight into place (Node)
//   network -> each chunk into place, and into the store
//   Blob, buffer, stream -> likewise; kept only if a key was given
//
// Each source ends in `load`, which checks the length and the hash, lets the
// engine take the bytes, and only then makes what was stored count.

import { openFile } from "#platform";
import { failure } from "./errors.js";
import { kindOf } from "./store.js";

const MAGIC = "GGUF";

/**
 * @typedef {object} Order
 * @property {string} [url] absolute address
 * @property {Blob | ArrayBuffer | Uint8Array | ReadableStream<Uint8Array>} [data]
 * @property {number} [length] of a stream, where it is known
 * @property {string} [stored] key of a model in the store
 * @property {string} [key] key under which to keep it; none: do not keep
 * @property {string} [name] name to show in lists
 * @property {string} [sha256] expected hash, hex
 */

/**
 * Loads a model.
 * @param {{ engineFor: (bytes: number | null) => Promise<any>, store: any, take: (buffer: any) => any, progress: (bytes: number, total: number | null) => void, kind?: "model" | "adapter" | "encoder", meanwhile?: (engine: any) => void }} context
 *   `take` makes the model of a filled buffer; `kind` says what is loaded; `meanwhile` is done while the network brings it
 * @param {Order} order
 * @returns {Promise<{ model: any, from: "store" | "file" | "network" | "data", kept: boolean }>}
 */
export async function loadModel(context, order) {
  const { kind = "model" } = context;
  const key = order.stored ?? order.key;
  const found = key && context.store ? await context.store.find(key) : null;
  const record = found && kindOf(found) === kind ? found : null;
  if (record && (!order.sha256 || !order.url || record.sha256 === order.sha256.toLowerCase())) {
    try {
      return await fromReader(context, order, await context.store.open(record), "store");
    } catch (error) {
      // A stored file that the engine no longer takes is of no use to anyone.
      if (error.code !== "invalid_model" && error.reason !== "checksum") throw error;
      await context.store.delete(key);
      if (!order.url) throw error;
    }
  }
  if (order.stored) throw failure("not_found", `This ${kind} is no longer kept on this device. Open it again from its file or address.`);
  if (order.url) {
    const file = await openFile(order.url).catch((error) => {
      throw failure("not_found", `The ${kind} file could not be opened: ${error.code ?? error.message}.`);
    });
    if (file) return fromReader(context, order, file, "file");
    return fromStream(context, order, ...(await fetchBody(order.url)), "network");
  }
  const data = order.data;
  if (data instanceof Blob) return fromStream(context, order, data.stream(), data.size, "data");
  if (data instanceof ReadableStream) return fromStream(context, order, data, order.length ?? null, "data");
  const bytes = ArrayBuffer.isView(data) ? new Uint8Array(data.buffer, data.byteOffset, data.byteLength) : new Uint8Array(data);
  return fromStream(context, order, [bytes], bytes.length, "data");
}

/** The body at `url` and its length, null where the host does not say. */
async function fetchBody(url) {
  let response;
  try {
    // `no-store`: the bytes are kept once, by us, not a second time by the HTTP cache.
    response = await fetch(url, { cache: "no-store", credentials: "same-origin" });
  } catch {
    throw failure("network", `No answer from ${url}. Check the network and the address; another site must allow this page to read from it.`);
  }
  if (!response.ok) throw failure("network", `The host answered ${response.status} for ${url}. Check the address.`);
  // With an encoding the header counts the bytes on the wire, not those of the file.
  const length = response.headers.get("content-encoding") ? null : Number(response.headers.get("content-length")) || null;
  return [response.body, length];
}

async function fromReader({ engineFor, take, progress }, order, reader, from) {
  let buffer = null;
  try {
    const { size } = reader;
    progress(0, size);
    const engine = await engineFor(size);
    buffer = new engine.ModelBuffer(size);
    let at = 0;
    while (at < size) {
      const n = await reader.read(engine.view(buffer).subarray(at), at);
      if (!(n > 0)) throw failure("incomplete", `The file ended after ${at} of ${size} bytes. Open it again.`);
      at += n;
    }
    progress(at, size);
    checkMagic(engine.view(buffer));
    await checkHash(engine.view(buffer), order.sha256);
    const whole = buffer;
    buffer = null;
    return { model: await take(whole), from, kept: from === "store" };
  } finally {
    buffer?.free();
    await reader.close();
  }
}

async function fromStream({ engineFor, store, take, progress, kind = "model", meanwhile }, order, chunks, length, from) {
  let writer = await begin(store, order.key);
  let buffer = null;
  try {
    const parts = []; // only where the length is not known in advance
    let at = 0;
    const engine = await engineFor(length);
    if (length !== null) buffer = new engine.ModelBuffer(length);
    progress(0, length);
    if (from === "network") meanwhile?.(engine);
    for await (const chunk of each(chunks)) {
      if (at === 0 && chunk.length >= MAGIC.length) checkMagic(chunk);
      if (length !== null && at + chunk.length > length) {
        throw failure("incomplete", `The host sent more than the ${length} bytes that it announced. Try again.`);
      }
      if (buffer) engine.view(buffer).set(chunk, at);
      else parts.push(chunk);
      at += chunk.length;
      writer = await keep(writer, (w) => w.write(chunk));
      progress(at, length);
    }
    if (length !== null && at < length) {
      throw failure("incomplete", `The download stopped after ${at} of ${length} bytes. Try again.`);
    }
    progress(at, at);
    if (!buffer) {
      buffer = new engine.ModelBuffer(at);
      let offset = 0;
      for (const part of parts) {
        engine.view(buffer).set(part, offset);
        offset += part.length;
      }
      parts.length = 0;
    }
    checkMagic(engine.view(buffer));
    await checkHash(engine.view(buffer), order.sha256);
    writer = await keep(writer, (w) => w.finish(engine.view(buffer)));
    const whole = buffer;
    buffer = null;
    const model = await take(whole);
    writer = await keep(writer, (w) => w.commit({
      name: order.name ?? model.info().name,
      kind,
      sha256: order.sha256?.toLowerCase(),
      savedAt: new Date().toISOString(),
    }));
    return { model, from, kept: writer !== null };
  } catch (error) {
    await writer?.discard();
    throw error;
  } finally {
    buffer?.free();
  }
}

async function begin(store, key) {
  if (!store || !key) return null;
  return store.begin(key).catch(() => null);
}

/** Does one thing with the writer; a disk that refuses ends the keeping, not the loading. */
async function keep(writer, action) {
  if (!writer) return null;
  try {
    await action(writer);
    return writer;
  } catch {
    await writer.discard();
    return null;
  }
}

/** The chunks of a list or a stream. (Not every browser iterates streams.) */
async function* each(chunks) {
  if (Array.isArray(chunks)) {
    yield* chunks;
    return;
  }
  const reader = chunks.getReader();
  let ended = false;
  try {
    for (;;) {
      const { done, value } = await reader.read().catch(() => {
        throw failure("incomplete", "The bytes of the file stopped before their end. Check the network and try again.");
      });
      if (done) break;
      yield value;
    }
    ended = true;
  } finally {
    if (!ended) await reader.cancel().catch(() => {});
  }
}

function checkMagic(bytes) {
  const found = String.fromCharCode(...bytes.subarray(0, MAGIC.length));
  if (found === MAGIC) return;
  throw failure("invalid_model", `This is not a GGUF file: it does not begin with "${MAGIC}". Choose a file that ends in .gguf.`);
}

async function checkHash(bytes, expected) {
  if (!expected) return;
  if (!globalThis.crypto?.subtle) {
    throw failure("checksum", "The SHA-256 cannot be checked here: the page needs https or localhost.");
  }
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", unshared(bytes)));
  const found = Array.from(digest, (b) => b.toString(16).padStart(2, "0")).join("");
  if (found !== expected.toLowerCase()) {
    throw failure("checksum", `The file's SHA-256 is ${found}, not ${expected}. It was changed or damaged; nothing was kept.`);
  }
}

/** `bytes`, or a copy where they are in shared memory, which some interfaces refuse. */
export function unshared(bytes) {
  return bytes.buffer instanceof ArrayBuffer ? bytes : bytes.slice();
}
