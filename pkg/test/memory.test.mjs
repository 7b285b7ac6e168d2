// A page that gets no more memory: an error that says how much was wanted, and what is open stays of use.
//
// The module's own memory has no upper bound, so one is written into it here. As the bound rises by a page (64 KiB)
// at a time, memory is refused to another part of loading and replying each time.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { supportedVariants } from "../src/engine.js";
import { tinyBytes, TINY_CONTEXT } from "./support.mjs";

const PAGE_BYTES = 64 << 10;
const dist = new URL(`../dist/${supportedVariants()[0]}/`, import.meta.url);
const wasm = readFileSync(new URL("meetara_browser_bg.wasm", dist));

/** A number as LEB128, and the number that stands so at `at`, with the place behind it. */
function leb(number) {
  const bytes = [];
  for (; number > 127; number >>>= 7) bytes.push((number & 127) | 128);
  return [...bytes, number];
}
function readLeb(bytes, at) {
  let [number, shift] = [0, 0];
  for (;;) {
    const byte = bytes[at++];
    number |= (byte & 127) << shift;
    shift += 7;
    if (byte < 128) return [number, at];
  }
}

/** The module whose memory, `[minimum]` pages, may grow to `maximum` pages; and that minimum. */
function bounded(maximum) {
  for (let at = 8; at < wasm.length; ) {
    const [size, start] = readLeb(wasm, at + 1);
    if (wasm[at] === 5) {
      assert.deepEqual([wasm[start], wasm[start + 1]], [1, 0], "one memory without a bound");
      const [minimum] = readLeb(wasm, start + 2);
      if (maximum === undefined) return minimum;
      const section = [1, 1, ...leb(minimum), ...leb(maximum)];
      return Buffer.concat([wasm.subarray(0, at), Buffer.from([5, ...leb(section.length), ...section]), wasm.subarray(start + size)]);
    }
    at = start + size;
  }
  throw new Error("the module has no memory");
}

let instances = 0;
async function engineWith(maximum) {
  // Another address is another instance of the glue, which keeps one of the module.
  const glue = await import(new URL(`meetara_browser.js?${instances++}`, dist));
  const { memory } = await glue.default({ module_or_path: bounded(maximum) });
  return { glue, memory };
}

/** What became of `action`: "ok", or the engine's word for its error; a trap fails the test. */
function outcome(what, action) {
  try {
    action();
    return "ok";
  } catch (error) {
    assert.ok(!(error instanceof WebAssembly.RuntimeError), `${what}: ${error.stack}`);
    assert.equal(typeof error.code, "string", `${what}: ${error.stack}`);
    if (error.code === "out_of_memory") assert.match(error.message, /\d+ bytes/);
    return error.code;
  }
}

const GREEDY = { temperature: 0.8, top_k: 40, repeat_penalty: 1.1, max_tokens: 200 };
const say = (text) => [{ role: "user", content: text }];

function reply(session, messages, params = GREEDY) {
  session.start_chat(messages, params);
  while (session.step().type !== "done");
}

test("memory refused anywhere is an error, and what is open stays of use", async () => {
  const minimum = bounded(undefined);
  const seen = { buffer: 0, load: 0, open: 0, reply: 0, long: 0, usable: 0, ok: 0 };
  const needed = Math.ceil(tinyBytes.length / PAGE_BYTES);
  // With no page at all to grow by there is not even room for the words of an error.
  for (let maximum = minimum + 1; seen.ok < 8; maximum += 1) {
    assert.ok(maximum < minimum + needed + 200, `${JSON.stringify(seen)} at ${maximum} pages`);
    const { glue, memory } = await engineWith(maximum);
    const at = `${maximum} pages`;
    let buffer;
    if (outcome(at, () => (buffer = new glue.ModelBuffer(tinyBytes.length))) !== "ok") {
      seen.buffer += 1;
      continue;
    }
    new Uint8Array(memory.buffer, buffer.ptr, buffer.len_bytes).set(tinyBytes);
    let model;
    if (outcome(at, () => (model = buffer.into_model())) !== "ok") {
      seen.load += 1;
      continue;
    }
    let session;
    if (outcome(at, () => (session = model.session())) !== "ok") {
      seen.open += 1;
      continue;
    }
    const first = outcome(at, () => reply(session, say("Hello there, how is it going?")));
    assert.ok(["ok", "out_of_memory"].includes(first), `${at}: ${first}`);
    // Far more than the context holds: refused for the one reason or the other, and then all is as before.
    const long = outcome(at, () => reply(session, say("word é ".repeat(40_000))));
    assert.ok(["context_overflow", "out_of_memory"].includes(long), `${at}: ${long}`);
    if (long === "out_of_memory") seen.long += 1;
    const short = outcome(at, () => reply(session, say("Hi"), { temperature: 0, max_tokens: 1 }));
    assert.ok(["ok", "out_of_memory"].includes(short), `${at}: ${short}`);
    if (long === "out_of_memory" && short === "ok") seen.usable += 1;
    seen[first === "ok" ? "ok" : "reply"] += 1;
    assert.equal(session.context_len, TINY_CONTEXT);
    assert.ok(memory.buffer.byteLength <= maximum * PAGE_BYTES);
  }
  assert.ok(seen.buffer > 5 && seen.load + seen.open + seen.reply > 1, JSON.stringify(seen));
  assert.ok(seen.long > 5 && seen.usable >= seen.long - 2, JSON.stringify(seen));
});
