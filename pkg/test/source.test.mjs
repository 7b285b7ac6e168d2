// Where models come from, and what happens when they do not arrive whole.

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { openAsBlob } from "node:fs";
import { after, before, describe, test } from "node:test";
import { loadEngine } from "../src/engine.js";
import { LanguageModel } from "../src/index.js";
import { loadModel } from "../src/source.js";
import { startHost, tinyBytes, tinyPath, tinyUrl } from "./support.mjs";

const sha256 = createHash("sha256").update(tinyBytes).digest("hex");

async function answers(options) {
  const events = [];
  const session = await LanguageModel.create({
    temperature: 0,
    ...options,
    monitor(monitor) {
      monitor.addEventListener("downloadprogress", ({ loaded, total, bytes }) => events.push({ loaded, total, bytes }));
    },
  });
  const text = await session.prompt("Hello", { maxTokens: 8 });
  session.destroy();
  assert.ok(text.length > 0);
  assert.deepEqual(events[0], { loaded: 0, total: 1, bytes: 0 });
  assert.deepEqual(events.at(-1), { loaded: 1, total: 1, bytes: tinyBytes.length });
  const loaded = events.map((event) => event.loaded);
  assert.deepEqual(loaded, [...loaded].sort((a, b) => a - b));
  return text;
}

describe("a model", () => {
  let host;
  let expected;
  before(async () => {
    host = await startHost();
    expected = await answers({ model: tinyPath });
  });
  after(() => host.close());

  const sources = {
    "a file: address": () => tinyUrl,
    "an http: address": () => host.url("/model.gguf"),
    "an http: address without a length": () => host.url("/chunked.gguf"),
    "a Blob": () => openAsBlob(tinyPath),
    "an ArrayBuffer": () => tinyBytes.buffer.slice(tinyBytes.byteOffset, tinyBytes.byteOffset + tinyBytes.length),
    "a view": () => tinyBytes,
    "a ReadableStream": async () => (await openAsBlob(tinyPath)).stream(),
  };
  for (const [name, source] of Object.entries(sources)) {
    test(`comes from ${name}`, async () => {
      assert.equal(await answers({ model: await source() }), expected);
    });
  }

  test("is checked against its SHA-256", async () => {
    assert.equal(await answers({ model: host.url("/model.gguf"), sha256 }), expected);
    const wrong = sha256.replace(/^./, (c) => (c === "0" ? "1" : "0"));
    for (const model of [host.url("/model.gguf"), tinyPath]) {
      await assert.rejects(LanguageModel.create({ model, sha256: wrong }), { name: "DataError", reason: "checksum" });
    }
  });
});

describe("bad days", () => {
  let host;
  before(async () => {
    host = await startHost();
  });
  after(() => host.close());

  const cut = (length) => new Uint8Array(tinyBytes.subarray(0, length));
  const spoiled = () => {
    const bytes = new Uint8Array(tinyBytes);
    bytes.fill(0xff, 8, 24); // the numbers of tensors and of metadata entries
    return bytes;
  };
  const cases = [
    ["a download that is cut", () => host.url("/cut.gguf"), { name: "NetworkError", reason: "incomplete" }],
    ["a page instead of a model", () => host.url("/page.gguf"), { name: "DataError", reason: "invalid_model" }],
    ["an address with nothing there", () => host.url("/none.gguf"), { name: "NetworkError", reason: "network" }],
    ["a host that does not answer", () => "http://127.0.0.1:1/model.gguf", { name: "NetworkError", reason: "network" }],
    ["a path with nothing there", () => "/nowhere/model.gguf", { name: "NotFoundError", reason: "not_found" }],
    ["a file cut in its weights", () => cut(tinyBytes.length - 1000), { name: "DataError", reason: "invalid_model" }],
    ["a file cut in its header", () => cut(1000), { name: "DataError", reason: "invalid_model" }],
    ["an empty file", () => cut(0), { name: "DataError", reason: "invalid_model" }],
    ["counts beyond all bounds", spoiled, { name: "DataError", reason: "invalid_model" }],
    ["a model no longer kept", () => ({ key: "gone" }), { name: "NotFoundError", reason: "not_found" }],
    ["a stream of zeros", () => new Blob([new Uint8Array(8)]).stream(), { name: "DataError", reason: "invalid_model" }],
  ];
  for (const [what, source, expected] of cases) {
    test(`${what}: a clear error, and the next model opens`, async () => {
      await assert.rejects(LanguageModel.create({ model: source() }), (error) => {
        assert.equal(error.name, expected.name, error.message);
        assert.equal(error.reason, expected.reason, error.message);
        assert.match(error.message, /\.$|\d|gguf/i);
        return true;
      });
    });
  }

  test("a stream of another length than announced is refused, shorter or longer", async () => {
    const context = { engineFor: () => loadEngine(), store: null, progress() {} };
    for (const difference of [-1000, 1000]) {
      const order = { data: (await openAsBlob(tinyPath)).stream(), length: tinyBytes.length + difference };
      await assert.rejects(loadModel(context, order), { name: "NetworkError", reason: "incomplete" });
    }
  });

  test("the next model opens", async () => {
    await answers({ model: host.url("/model.gguf") });
  });
});

describe("availability", () => {
  test("tells what is here from what must be fetched", async () => {
    assert.equal(await LanguageModel.availability({ model: tinyPath }), "available");
    assert.equal(await LanguageModel.availability({ model: "/nowhere/model.gguf" }), "unavailable");
    assert.equal(await LanguageModel.availability({ model: "http://127.0.0.1:1/model.gguf" }), "downloadable");
    assert.equal(await LanguageModel.availability({ model: tinyBytes }), "available");
    assert.equal(await LanguageModel.availability({ model: tinyPath, expectedInputs: [{ type: "audio" }] }), "unavailable");
    await assert.rejects(LanguageModel.availability({}), TypeError);
  });
});
