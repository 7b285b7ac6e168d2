// The engine's own classes, and the same bits from every build.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { describe, test } from "node:test";
import { VARIANTS, acceptsRelaxed, loadEngine, pickVariant, supportedVariants } from "../src/engine.js";
import { Fnv } from "../../tests/runners/_hash.mjs";
import { TINY_CONTEXT, tinyBytes, tinyUrl } from "./support.mjs";

function load(engine, bytes) {
  const buffer = new engine.ModelBuffer(bytes.length);
  engine.view(buffer).set(bytes);
  return buffer.into_model();
}

describe("engine", () => {
  test("all builds give the logits of the native engine, bit by bit", async () => {
    // runtime-wasm/engine/tests/conformance.rs holds the native kernels to the same numbers.
    const { tokens, hashes } = JSON.parse(readFileSync(new URL("hashes.json", tinyUrl), "utf8"));
    // Node takes relaxed SIMD from version 22 on; then also the CPU's half of the build for the GPU.
    const builds = [...supportedVariants(), ...(acceptsRelaxed() ? ["webgpu"] : [])];
    for (const variant of builds) {
      const engine = await loadEngine({ variant });
      for (const [name, wanted] of Object.entries(hashes)) {
        const model = load(engine, readFileSync(new URL(name, tinyUrl)));
        const session = model.session();
        const fnv = new Fnv();
        fnv.add(new Uint8Array(session.eval_tokens(Uint32Array.from(tokens)).buffer));
        assert.equal(fnv.toString(), wanted, `${name} on ${variant}`);
        session.free();
        model.free();
      }
    }
    assert.ok(Object.keys(hashes).length > 10);
  });

  test("the logits of all builds are the same bits", async () => {
    const logits = [];
    for (const variant of supportedVariants()) {
      const engine = await loadEngine({ variant });
      const model = load(engine, tinyBytes);
      const session = model.session();
      const tokens = model.tokenize("The river runs past the old mill", false);
      logits.push(Buffer.from(session.eval_tokens(tokens).buffer));
      assert.ok(new Float32Array(logits.at(-1).buffer).every(Number.isFinite));
      session.free();
      model.free();
    }
    assert.ok(logits.length >= 2);
    for (const other of logits) assert.ok(other.equals(logits[0]));
  });

  test("a step at a time", async () => {
    const model = load(await loadEngine(), tinyBytes);
    const session = model.session(64);
    assert.equal(session.context_len, 64);
    const started = session.start_chat([{ role: "user", content: "Hello" }], { temperature: 0, max_tokens: 3 });
    assert.equal(started.prompt_tokens, model.count_chat([{ role: "user", content: "Hello" }], true));
    const types = [];
    for (;;) {
      const step = session.step();
      types.push(step.type);
      if (step.type === "done") {
        assert.deepEqual(step.usage, {
          prompt_tokens: started.prompt_tokens,
          completion_tokens: 3,
          cached_tokens: 0,
          drafted_tokens: 0,
          accepted_tokens: 0,
          dropped_messages: 0,
        });
        assert.equal(step.finish, "length");
        break;
      }
    }
    assert.equal(types[0], "prefill");
    assert.ok(types.includes("token"));
    assert.throws(() => session.step(), { code: "invalid_request" });
  });

  test("errors carry a code, and the engine goes on", async () => {
    const engine = await loadEngine();
    assert.throws(() => load(engine, tinyBytes.subarray(0, 100)), { code: "invalid_model" });
    assert.throws(() => new engine.ModelBuffer(-1), { code: "invalid_request" });
    assert.throws(() => new engine.ModelBuffer(2 ** 40), { code: "out_of_memory" });
    const model = load(engine, tinyBytes);
    const session = model.session();
    assert.throws(() => session.start_chat([{ role: "user" }], {}), { code: "invalid_request" });
    assert.throws(() => session.start_chat([{ role: "user", content: "x" }], { temprature: 1 }), { code: "invalid_request" });
    assert.throws(() => session.start_chat([{ role: "user", content: "x ".repeat(TINY_CONTEXT * 2) }], {}), { code: "context_overflow" });
    assert.throws(() => session.eval_tokens(new Uint32Array([1e6])), { code: "invalid_request" });
  });

  test("memory that is refused is an error, and the engine goes on", () => {
    // 1,024 pages are 64 MiB.
    const script = `
      import { loadEngine } from ${JSON.stringify(new URL("../src/engine.js", import.meta.url).href)};
      const { ModelBuffer } = await loadEngine();
      try {
        new ModelBuffer(100e6);
      } catch (error) {
        console.log(error.code, new ModelBuffer(1e6).len_bytes);
      }`;
    const run = spawnSync(process.execPath, ["--wasm-max-mem-pages=1024", "--input-type=module", "-e", script], { encoding: "utf8" });
    assert.equal(run.stdout.trim(), "out_of_memory 1000000", run.stderr);
  });

  test("freed memory is used again", async () => {
    const engine = await loadEngine();
    for (let i = 0; i < 3; i += 1) load(engine, tinyBytes).free();
    const before = engine.memory.buffer.byteLength;
    for (let i = 0; i < 20; i += 1) {
      const model = load(engine, tinyBytes);
      model.session().free();
      model.free();
    }
    assert.ok(engine.memory.buffer.byteLength <= before + 2e6, `grew from ${before} to ${engine.memory.buffer.byteLength}`);
  });

  test("the fastest build is chosen", () => {
    // Relaxed SIMD is off in Node 20, on from Node 22.
    const wanted = Number(process.versions.node.split(".")[0]) >= 22 ? VARIANTS : VARIANTS.slice(1);
    assert.deepEqual(supportedVariants(), wanted);
    assert.equal(pickVariant(), wanted[0]);
  });
});
