// The build with threads in Chromium: the same tokens as one thread, and one thread where it cannot be had.
//
//   node tests/runners/threads.mjs            what the tests run
//   node tests/runners/threads.mjs --bench    also tokens a second beside one thread, on a free and on a busy machine
//
// Needs `cargo xtask wasm relaxed threads`; with SmolLM2-135M (`cargo xtask model smollm2`) large models are tested too.
// The package is served as it is in the repository, isolated as meetara-host serves its page.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { existsSync, readFileSync, readdirSync, statSync } from "node:fs";
import { createServer } from "node:http";
import { availableParallelism } from "node:os";
import { extname, join, resolve, sep } from "node:path";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";

const root = fileURLToPath(new URL("../../", import.meta.url));
const pkg = join(root, "pkg");
const POCKET = join(root, "models/pocket/meetara-pocket-q4_k_m.gguf");
const TINY = join(root, "tests/vectors/tiny/tiny-f32.gguf");
const BROWSERS = ["/usr/bin/chromium", "/usr/bin/google-chrome", "/usr/bin/chromium-browser"];
const TYPES = { ".html": "text/html", ".js": "text/javascript", ".wasm": "application/wasm" };
/** Long enough for several passes, so that some of them are pooled. */
const PROMPT = "Tell me, step by step and in your own words, how a person who has never cooked can make a simple vegetable soup for four people. ".repeat(3);
/** A busy machine must not make threads slower than this share of one thread. */
const BUSY_SHARE_MIN = 0.9;

function findSmollm2() {
  const folder = join(resolve(root, process.env.CARGO_TARGET_DIR ?? "target"), "models");
  const found = existsSync(folder) ? readdirSync(folder, { recursive: true }) : [];
  const name = found.find((file) => /smollm2.*\.gguf$/i.test(file));
  return name && join(folder, name);
}

const models = { "/pocket.gguf": existsSync(POCKET) ? POCKET : TINY, "/smollm2.gguf": findSmollm2() };

/** The pool's worker with a module whose calls through the table trap: the first piece it takes stops it. */
function trapping(worker) {
  const start = "({ data: { module, memory, stackBytes } }) => {";
  assert.ok(worker.includes(start), "the pool's worker begins otherwise now");
  const without = `async ({ data: { memory, stackBytes } }) => {
  const whole = new Uint8Array(await (await fetch("/pkg/dist/threads/meetara_threads_bg.wasm")).arrayBuffer());
  const kept = [whole.subarray(0, 8)];
  for (let at = 8; at < whole.length; ) {
    let [length, shift, next] = [0, 0, at + 1];
    do length |= (whole[next] & 0x7f) << shift, shift += 7; while (whole[next++] & 0x80);
    if (whole[at] !== ELEMENTS) kept.push(whole.subarray(at, next + length));
    at = next + length;
  }
  const module = new WebAssembly.Module(await new Blob(kept).arrayBuffer());`;
  return worker.replace(start, without.replace("ELEMENTS", "9"));
}

/** Serves the package; `isolated` as browsers want it for shared memory. */
async function serve(isolated, broken) {
  const server = createServer((request, response) => {
    if (isolated) {
      response.setHeader("cross-origin-opener-policy", "same-origin");
      response.setHeader("cross-origin-embedder-policy", "require-corp");
    }
    if (request.url === "/") return response.setHeader("content-type", "text/html").end("<!doctype html><title>threads</title>");
    const path = models[request.url] ?? resolve(root, request.url.slice(1));
    const allowed = models[request.url] ?? (path.startsWith(pkg + sep) && existsSync(path));
    if (!allowed) return response.writeHead(404).end();
    response.setHeader("content-type", TYPES[extname(path)] ?? "application/octet-stream");
    response.setHeader("content-length", statSync(path).size);
    let bytes = readFileSync(path);
    if (extname(path) === ".js") {
      // What a bundler does with the package's own imports.
      let text = bytes.toString().replaceAll('"#platform"', '"/pkg/src/platform-web.js"');
      if (broken && request.url.endsWith("/pool-worker.js")) text = trapping(text);
      bytes = Buffer.from(text);
      response.setHeader("content-length", bytes.length);
    }
    response.end(bytes);
  });
  await new Promise((listening) => server.listen(0, "127.0.0.1", listening));
  return server;
}

const browser = await chromium.launch({ executablePath: BROWSERS.find(existsSync), args: ["--no-sandbox", "--disable-gpu"] });

/** A page of a server, in which `reply` runs. */
async function openPage(isolated, broken = false) {
  const server = await serve(isolated, broken);
  const context = await browser.newContext();
  const page = await context.newPage();
  await page.goto(`http://127.0.0.1:${server.address().port}/`);
  const reply = (model, variant, tokens) =>
    page.evaluate(
      async ({ model, variant, tokens, prompt }) => {
        const { LanguageModel } = await import("/pkg/src/index.js");
        const session = await LanguageModel.create({ model, variant, cache: false, samplingMode: "most-predictable" });
        const text = await session.prompt(prompt, { maxTokens: tokens });
        const { tokensPerSecond, firstTokenMs } = session.lastReply;
        const used = session.source.variant;
        session.destroy();
        return { text, used, tokensPerSecond, firstTokenMs };
      },
      { model, variant, tokens, prompt: PROMPT },
    );
  const close = async () => {
    await context.close();
    server.close();
  };
  return { reply, close };
}

async function sameText(page, model, tokens, variant) {
  const one = await page.reply(model, "relaxed", tokens);
  const many = await page.reply(model, variant, tokens);
  assert.equal(one.used, "relaxed");
  assert.equal(many.used, "threads", `${model} did not get threads`);
  assert.ok(many.text.length > 0);
  assert.equal(many.text, one.text, `${model} says something else with threads`);
  return { one, many };
}

/** A worker of the pool that traps ends the reply with an error; nobody waits for it. */
async function workerTraps() {
  const page = await openPage(true, true);
  const patience = new Promise((late) => setTimeout(late, 20_000, "still waiting").unref());
  const reply = page.reply("/pocket.gguf", "threads", 200).then(({ used }) => `an answer by ${used}`, ({ message }) => message);
  assert.match(await Promise.race([reply, patience]), /stopped at a fault of its own/);
  await page.close();
}

const median = (values) => values.toSorted((a, b) => a - b)[values.length >> 1];

/** Tokens a second with threads over those of one thread, in turns; also the prompt's. */
async function compare(page, what) {
  const ratios = { decode: [], prefill: [] };
  for (let round = 0; round < 3; round += 1) {
    const { one, many } = await sameText(page, "/smollm2.gguf", 64, undefined);
    ratios.decode.push(many.tokensPerSecond / one.tokensPerSecond);
    ratios.prefill.push(one.firstTokenMs / many.firstTokenMs);
  }
  const [decode, prefill] = [median(ratios.decode), median(ratios.prefill)];
  console.log(`${what}: threads decode ${decode.toFixed(2)} and prefill ${prefill.toFixed(2)} times as fast as one thread`);
  return { decode, prefill };
}

async function bench(page) {
  await compare(page, "free machine");
  const busy = Array.from({ length: availableParallelism() }, () => spawn(process.execPath, ["-e", "for (;;);"]));
  try {
    const { decode, prefill } = await compare(page, "busy machine");
    assert.ok(decode > BUSY_SHARE_MIN && prefill > BUSY_SHARE_MIN, "threads are slower than one on a busy machine");
  } finally {
    for (const child of busy) child.kill();
  }
}

try {
  const glue = join(pkg, "dist/threads/meetara_threads.js");
  if (!existsSync(glue)) throw new Error("pkg/dist/threads is missing: run `cargo xtask wasm threads`");
  if (readFileSync(glue, "utf8").startsWith("throw ")) {
    console.log("threads: SKIPPED, the package was built without them; `cargo xtask wasm threads` says why");
  } else if (availableParallelism() < 2) {
    console.log("threads: SKIPPED, this machine has one core");
  } else {
    const page = await openPage(true);
    await sameText(page, "/pocket.gguf", 48, "threads");
    assert.equal((await page.reply("/pocket.gguf", undefined, 4)).used, "relaxed", "a small model needs no threads");
    if (models["/smollm2.gguf"]) await sameText(page, "/smollm2.gguf", 24, undefined);
    else console.log("NOTE: SmolLM2 is not there; only the small model was tried");
    if (process.argv.includes("--bench")) await bench(page);
    await page.close();
    await workerTraps();

    const plain = await openPage(false);
    assert.equal((await plain.reply("/pocket.gguf", "threads", 4)).used, "relaxed", "a page that is not isolated has no threads");
    await plain.close();
    console.log("threads: the same tokens as one thread, and one thread where they cannot be had");
  }
} finally {
  await browser.close();
}
