// LoRA adapters over one model: the logits of the vectors, mixes, what must make room, files that do not fit.

import assert from "node:assert/strict";
import { openAsBlob, readFileSync } from "node:fs";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { acceptsRelaxed, loadEngine, supportedVariants } from "../src/engine.js";
import { ChatClient, LanguageModel } from "../src/index.js";
import { Fnv } from "../../tests/runners/_hash.mjs";
import { startHost, tinyBytes, tinyPath, tinyUrl } from "./support.mjs";

const folder = new URL("../../tests/vectors/adapters/", import.meta.url);
const bytesOf = (name) => readFileSync(new URL(name, folder));
const pathOf = (name) => fileURLToPath(new URL(name, folder));
const GREEDY = { model: tinyPath, temperature: 0, topK: 1, maxTokens: 12 };
const QUESTION = "What is the best way to learn a thing?";
/** What the weights of tiny-all.gguf take, and a little. */
const ONE_BYTES = 60_000;

function buffer(engine, bytes) {
  const memory = new engine.ModelBuffer(bytes.length);
  engine.view(memory).set(bytes);
  return memory;
}

function cosine(a, b) {
  const dot = (x, y) => x.reduce((sum, value, i) => sum + value * y[i], 0);
  return dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b));
}

describe("the engine with adapters", () => {
  const { cases } = JSON.parse(readFileSync(new URL("expected.json", folder), "utf8"));

  /** A session over the base of a case, with its adapters on. */
  function open(engine, { base, adapters }) {
    const model = buffer(engine, readFileSync(new URL(base, tinyUrl))).into_model();
    for (const [file] of adapters) model.load_adapter(file, buffer(engine, bytesOf(file)));
    const session = model.session();
    session.set_adapters(adapters.map(([file]) => file), Float32Array.from(adapters, ([, scale]) => scale));
    return { session, free: () => [session, model].forEach((object) => object.free()) };
  }

  test("all builds give the native engine's logits, bit by bit", async () => {
    // runtime-wasm/engine/tests/adapters.rs holds the native kernels to the same numbers.
    const { tokens, hashes } = JSON.parse(readFileSync(new URL("hashes.json", folder), "utf8"));
    for (const variant of [...supportedVariants(), ...(acceptsRelaxed() ? ["webgpu"] : [])]) {
      const engine = await loadEngine({ variant });
      const found = cases.map((one) => {
        const { session, free } = open(engine, one);
        const fnv = new Fnv();
        fnv.add(new Uint8Array(session.eval_tokens(Uint32Array.from(tokens)).buffer));
        free();
        return fnv.toString();
      });
      assert.deepEqual(found, hashes, variant);
    }
    assert.equal(new Set(hashes).size, cases.length);
  });

  test("the logits are llama.cpp's", async () => {
    const { prompts } = JSON.parse(readFileSync(new URL("expected.json", tinyUrl), "utf8"));
    const stored = bytesOf("logits.f32");
    const floats = new Float32Array(stored.buffer.slice(stored.byteOffset, stored.byteOffset + stored.length));
    const width = floats.length / cases.length / prompts.length;
    const engine = await loadEngine();
    cases.forEach((one, at) => {
      const { session, free } = open(engine, one);
      prompts.forEach(({ name, tokens }, index) => {
        const row = at * prompts.length + index;
        const agreement = cosine(session.eval_tokens(Uint32Array.from(tokens)), floats.subarray(row * width, (row + 1) * width));
        assert.ok(agreement > (one.base.endsWith("-f32.gguf") ? 0.9999 : 0.999), `${one.base} ${name}: ${agreement}`);
      });
      free();
    });
  });

  test("errors have a code and leave everything as it was", async () => {
    const engine = await loadEngine();
    const model = buffer(engine, tinyBytes).into_model();
    const session = model.session();
    const [rank, bytes] = model.load_adapter("all", buffer(engine, bytesOf("tiny-all.gguf")));
    assert.equal(rank, 4);
    assert.ok(bytes > 48_000 && bytes < ONE_BYTES, `${bytes}`);
    assert.throws(() => session.set_adapters(["none"], Float32Array.of(1)), { code: "invalid_request" });
    assert.throws(() => session.set_adapters(["all"], Float32Array.of()), { code: "invalid_request" });
    assert.throws(() => session.set_adapters(["all"], Float32Array.of(NaN)), { code: "invalid_request" });
    assert.throws(() => model.load_adapter("wide", buffer(engine, bytesOf("wide-q8.gguf"))), { code: "unsupported_model" });
    model.adapters_max(1000);
    assert.throws(() => model.load_adapter("all", buffer(engine, bytesOf("tiny-all.gguf"))), { code: "out_of_memory" });
    model.adapters_max(3 * ONE_BYTES);
    for (const name of ["a", "b", "c"]) model.load_adapter(name, buffer(engine, bytesOf("tiny-all.gguf")));
    assert.deepEqual(model.missing_adapters(["a", "d"]), ["d"]);
    model.load_adapter("d", buffer(engine, bytesOf("tiny-all.gguf")));
    assert.deepEqual(model.adapters(), ["c", "a", "d"]);
    assert.ok(model.unload_adapter("c") && !model.unload_adapter("c"));
    const fresh = model.session();
    const bits = (of) => Buffer.from(of.eval_tokens(Uint32Array.of(1, 2, 3)).buffer);
    assert.ok(bits(session).equals(bits(fresh)), "a refused adapter is on");
    [session, fresh, model].forEach((object) => object.free());
  });

  test("adapters come and go without a leak", async () => {
    const engine = await loadEngine();
    const model = buffer(engine, tinyBytes).into_model();
    const session = model.session();
    const swap = (name) => {
      model.load_adapter(name, buffer(engine, bytesOf("tiny-all.gguf")));
      session.set_adapters([name], Float32Array.of(1));
      session.set_adapters([], Float32Array.of());
      model.unload_adapter(name);
    };
    for (let i = 0; i < 5; i += 1) swap(`a${i}`);
    const before = engine.memory.buffer.byteLength;
    for (let i = 0; i < 200; i += 1) swap(`b${i}`);
    assert.equal(engine.memory.buffer.byteLength, before);
    [session, model].forEach((object) => object.free());
  });
});

describe("session.adapters", () => {
  let session;
  let base;
  /** Greedy replies of sessions that never had another mix. */
  const fresh = new Map();
  const MIXES = [[], ["all"], [{ name: "all", scale: 0.5 }], ["some"], [{ name: "all", scale: 0.6 }, { name: "some", scale: 1.2 }]];

  const loadBoth = async (to) => {
    await to.adapters.load(pathOf("tiny-all.gguf"), { name: "all" });
    await to.adapters.load(pathOf("tiny-some.gguf"), { name: "some" });
  };
  const answer = async (to, options) => {
    await to.reset();
    return to.prompt(QUESTION, options);
  };

  before(async () => {
    for (const mix of MIXES) {
      const alone = await LanguageModel.create(GREEDY);
      await loadBoth(alone);
      await alone.adapters.use(mix);
      fresh.set(mix, await answer(alone));
      alone.destroy();
    }
    base = fresh.get(MIXES[0]);
    assert.equal(new Set(fresh.values()).size, MIXES.length);
    session = await LanguageModel.create(GREEDY);
    await loadBoth(session);
  });
  after(() => session.destroy());

  test("a session's adapters are swapped, mixed and taken off, and leave nothing behind", async () => {
    for (const at of [0, 1, 0, 2, 1, 4, 3, 0]) {
      await session.adapters.use(MIXES[at]);
      assert.equal(await answer(session), fresh.get(MIXES[at]), `mix ${at}`);
      assert.equal(session.lastReply.cachedTokens, 0, "keys and values of another mix were used");
    }
    // A scale of 0 is the base, to the bit and with its cache.
    await session.adapters.use([{ name: "all", scale: 0 }]);
    assert.equal(await answer(session), base);
    assert.ok(session.lastReply.cachedTokens > 0);
    await session.adapters.use([]);
  });

  test("a request has its own, for itself only", async () => {
    assert.equal(await answer(session, { adapters: "all" }), fresh.get(MIXES[1]));
    assert.equal(await answer(session, { adapters: MIXES[4] }), fresh.get(MIXES[4]));
    assert.equal(await answer(session), base);
    await session.adapters.use("some");
    assert.equal(await answer(session, { adapters: [] }), base);
    assert.equal(await answer(session), fresh.get(MIXES[3]));
    assert.deepEqual(session.adapters.active, [{ name: "some", scale: 1 }]);
    await session.adapters.use([]);
  });

  test("a conversation goes on when the adapters change", async () => {
    await session.reset();
    await session.prompt("One", { maxTokens: 4 });
    const used = session.contextUsage;
    await session.prompt("Two", { maxTokens: 4, adapters: "all" });
    assert.ok(session.contextUsage > used + 4 && session.lastReply.promptTokens > used);
  });

  test("a clone begins with the same ones and goes its own way", async () => {
    await session.adapters.use("all");
    const clone = await session.clone();
    assert.equal(await answer(clone), fresh.get(MIXES[1]));
    await clone.adapters.use([]);
    const both = await Promise.all([answer(session), answer(clone)]);
    assert.deepEqual(both, [fresh.get(MIXES[1]), base]);
    clone.destroy();
    await session.adapters.use([]);
  });

  test("choices and vectors come from the adapted model", async () => {
    await session.reset();
    const labels = ["yes", "no"];
    const scores = async (options) => (await session.choose(QUESTION, labels, options)).map(({ logprob }) => logprob);
    const [plain, vector] = [await scores(), await session.embed("a text")];
    const [adapted, other] = [await scores({ adapters: "all" }), await session.embed("a text", { adapters: "all" })];
    assert.notDeepEqual(adapted, plain);
    assert.notDeepEqual(other, vector);
    await session.adapters.use("all");
    assert.deepEqual([await scores(), await session.embed("a text")], [adapted, other]);
    assert.deepEqual([await scores({ adapters: [] }), await session.embed("a text", { adapters: [] })], [plain, vector]);
    await session.adapters.use([]);
  });

  test("they are listed, and forgotten", async () => {
    const one = await LanguageModel.create(GREEDY);
    assert.deepEqual(await one.adapters.list(), []);
    const loaded = await one.adapters.load(pathOf("tiny-all.gguf"));
    assert.deepEqual([loaded.name, loaded.rank, loaded.bytes, loaded.from, loaded.kept], ["tiny-all", 4, 27328, "file", false]);
    await one.adapters.use([{ name: "tiny-all", scale: 0.5 }]);
    const [line] = await one.adapters.list();
    assert.deepEqual(line, {
      name: "tiny-all", bytes: 27328, rank: 4, memoryBytes: loaded.memoryBytes, resident: true, scale: 0.5,
    });
    await assert.rejects(one.adapters.load(pathOf("tiny-some.gguf"), { name: "tiny-all" }), { reason: "invalid_request" });
    const clone = await one.clone();
    await one.adapters.unload("tiny-all");
    assert.deepEqual([await one.adapters.list(), one.adapters.active], [[], []]);
    assert.equal(await answer(one), base);
    // The clone still names it, is told so, and goes on without.
    await assert.rejects(answer(clone), { name: "NotFoundError", reason: "not_found" });
    assert.equal(await answer(clone, { adapters: [] }), base);
    await assert.rejects(one.adapters.unload("tiny-all"), { reason: "not_found" });
    await one.adapters.load(pathOf("tiny-some.gguf"), { name: "tiny-all" });
    assert.equal(await answer(one, { adapters: "tiny-all" }), fresh.get(MIXES[3]));
    clone.destroy();
    one.destroy();
  });

  test("OpenAI's shape takes the host's field", async () => {
    const client = await ChatClient.create({ model: tinyPath });
    await loadBoth(client);
    const body = { messages: [{ role: "user", content: QUESTION }], temperature: 0, top_k: 1, max_tokens: 12 };
    const say = async (more) => (await client.chat.completions.create({ ...body, ...more })).choices[0].message.content;
    assert.equal(await say(), base);
    assert.equal(await say({ adapters: MIXES[4] }), fresh.get(MIXES[4]));
    let streamed = "";
    for await (const chunk of await client.chat.completions.create({ ...body, adapters: ["some"], stream: true })) {
      streamed += chunk.choices[0].delta.content ?? "";
    }
    assert.equal(streamed, fresh.get(MIXES[3]));
    assert.equal(await say(), base);
    await client.adapters.use("all");
    assert.equal(await say(), fresh.get(MIXES[1]));
    assert.equal(await say({ adapters: [] }), base);
    await assert.rejects(say({ adapters: [{ name: "none" }] }), { reason: "not_found" });
    await assert.rejects(say({ adapters: { name: "all" } }), TypeError);
    client.destroy();
  });

  test("where a GPU is asked for and there is none the reply is the same", async () => {
    const other = await LanguageModel.create({ ...GREEDY, device: "gpu" });
    await loadBoth(other);
    assert.equal(await answer(other, { adapters: MIXES[4] }), fresh.get(MIXES[4]));
    assert.equal(other.device.reason, "no_adapter");
    other.destroy();
  });

  test("sixty-two are listed; those used last are in memory, the others are read again", async () => {
    const host = await startHost();
    const many = await LanguageModel.create({ ...GREEDY, maxTokens: 4, adapterBytesMax: 10 * ONE_BYTES });
    const bytes = bytesOf("tiny-all.gguf");
    const sources = [
      () => pathOf("tiny-all.gguf"),
      () => host.url("/adapter.gguf"),
      () => new Blob([bytes]),
      () => openAsBlob(pathOf("tiny-all.gguf")),
      () => new Uint8Array(bytes),
      () => new Blob([bytes]).stream(),
    ];
    const names = Array.from({ length: 62 }, (_, n) => `domain${n}`);
    for (const [n, name] of names.entries()) await many.adapters.load(await sources[n % sources.length](), { name });
    const resident = async () => (await many.adapters.list()).filter((line) => line.resident).map(({ name }) => name);
    assert.deepEqual((await many.adapters.list()).map(({ name }) => name), names);
    const held = await resident();
    assert.ok(held.length >= 10 && held.length < 14, `${held.length} are in memory`);
    assert.deepEqual(held, names.slice(-held.length));
    const { memoryBytes } = many;
    const all = await answer(many, { adapters: names[61] });
    for (const name of names) assert.equal(await answer(many, { adapters: name }), all, name);
    assert.ok(many.memoryBytes <= memoryBytes + 2e6, `${memoryBytes} grew to ${many.memoryBytes}`);
    // One that is in memory but used longest ago, and others that must be read: all are there together.
    const oldest = (await resident())[0];
    const mix = [oldest, ...names.slice(0, 5)];
    await many.adapters.use(mix.map((name) => ({ name, scale: 0.1 })));
    assert.ok((await resident()).length >= mix.length);
    for (const name of mix) assert.ok((await resident()).includes(name), name);
    // More than there is room for is refused by name and number, and the next request works.
    await assert.rejects(answer(many, { adapters: names.slice(0, 20) }), { reason: "invalid_request", message: /not in memory.* bytes hold/ });
    assert.equal(await answer(many, { adapters: "domain3" }), all);
    many.destroy();
    await host.close();
  });
});

describe("an adapter that does not fit", () => {
  let session;
  let host;
  let base;
  before(async () => {
    host = await startHost();
    session = await LanguageModel.create(GREEDY);
    base = await session.prompt(QUESTION);
  });
  after(() => {
    session.destroy();
    return host.close();
  });

  const sound = bytesOf("tiny-all.gguf");
  const spoiled = (from, to) => {
    const bytes = new Uint8Array(sound);
    bytes.fill(0xff, from, to);
    return bytes;
  };
  /** The same file with another word of the same length in its header. */
  const reworded = (from, to) => {
    const bytes = new Uint8Array(sound);
    bytes.set(Buffer.from(to), sound.indexOf(from));
    return bytes;
  };
  const cases = [
    ["of another base", () => bytesOf("wide-q8.gguf"), { name: "NotSupportedError", reason: "unsupported_model", message: /another base/ }],
    ["a model instead", () => tinyBytes, { name: "DataError", reason: "invalid_model", message: /general\.type/ }],
    ["of another kind", () => reworded("lora", "dora"), { name: "DataError", reason: "invalid_model", message: /adapter\.type/ }],
    ["cut in its weights", () => sound.subarray(0, sound.length - 100), { name: "DataError", reason: "invalid_model" }],
    ["cut in its header", () => sound.subarray(0, 300), { name: "DataError", reason: "invalid_model" }],
    ["with counts beyond all bounds", () => spoiled(8, 24), { name: "DataError", reason: "invalid_model" }],
    ["with weights that are no numbers", () => spoiled(sound.length - 64, sound.length), { name: "DataError", reason: "invalid_model", message: /NaN/ }],
    ["empty", () => new Uint8Array(0), { name: "DataError", reason: "invalid_model" }],
    ["a page instead", () => host.url("/page.gguf"), { name: "DataError", reason: "invalid_model" }],
    ["at an address with nothing there", () => host.url("/none.gguf"), { name: "NetworkError", reason: "network" }],
    ["whose download is cut", () => host.url("/cut.gguf"), { name: "NetworkError", reason: "incomplete" }],
    ["at a path with nothing there", () => "/nowhere/adapter.gguf", { name: "NotFoundError", reason: "not_found" }],
    ["no longer kept", () => ({ key: "gone" }), { name: "NotFoundError", reason: "not_found", message: /adapter/ }],
  ];
  for (const [what, source, expected] of cases) {
    test(`${what}: a clear error, and the session goes on`, async () => {
      await assert.rejects(session.adapters.load(source(), { name: "x" }), expected);
      assert.deepEqual(await session.adapters.list(), []);
      await session.reset();
      assert.equal(await session.prompt(QUESTION), base);
    });
  }

  test("wrong arguments are named", async () => {
    await assert.rejects(session.adapters.load(sound), /needs a name/);
    await assert.rejects(session.adapters.load(7, { name: "x" }), TypeError);
    await assert.rejects(session.adapters.load(sound, { name: "x", sha256: "0".repeat(64) }), { reason: "checksum" });
    await assert.rejects(session.adapters.use(7), TypeError);
    await assert.rejects(session.adapters.use([{ scale: 1 }]), /adapters\[0\]\.name/);
    await assert.rejects(session.adapters.use([{ name: "x", scale: Infinity }]), /adapters\[0\]\.scale/);
    await assert.rejects(session.adapters.use("none"), { reason: "not_found", message: /none/ });
    await assert.rejects(session.prompt("Hi", { adapters: "none" }), { reason: "not_found", message: /none/ });
    await session.reset();
    assert.equal(await session.prompt(QUESTION), base);
  });

  test("an abort ends a load, and the name is free", async () => {
    const controller = new AbortController();
    const load = session.adapters.load(host.url("/slow.gguf"), { name: "x", signal: controller.signal });
    setTimeout(() => controller.abort(), 50);
    await assert.rejects(load, { name: "AbortError" });
    for (let attempt = 0; ; attempt += 1) {
      try {
        await session.adapters.load(sound, { name: "x" });
        break;
      } catch (error) {
        if (attempt === 50) throw error;
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
    }
    assert.notEqual(await session.prompt(QUESTION, { adapters: "x" }), base);
    await session.adapters.unload("x");
  });
});
