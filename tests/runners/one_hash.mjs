// One hash: the CPU logits of the same files are bitwise the same wherever the engine runs.
//
//   node tests/runners/one_hash.mjs [FILE.gguf...]
//
// Places: native (every set of kernels that this CPU has), wasmtime, Node, Chromium, workerd; in the last three both
// browser bundles: scalar, simd128 and, but for Node 20, relaxed. Needs `cargo xtask wasm`, and the examples that `cargo test` builds. Without arguments the files are the tiny models of
// tests/vectors, which use every block type, and the shipped model when it is there.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { createReadStream, existsSync, readFileSync, readdirSync } from "node:fs";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { basename, join, relative, resolve } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { chromium } from "playwright-core";
import { Fnv, hashReply } from "./_hash.mjs";

const root = fileURLToPath(new URL("../../", import.meta.url));
const TINY = join(root, "tests/vectors/tiny");
const SHIPPED = join(root, "models/pocket/meetara-pocket-q4_k_m.gguf");
const VARIANTS = ["scalar", "simd128", "relaxed"];
/** Long enough for three slices of prefill. */
const PROMPT = JSON.parse(readFileSync(join(TINY, "expected.json"), "utf8")).prompts.find((p) => p.name === "long").text;
const MAX_TOKENS = 8;

/** Whether a place has to be left out, and why. */
class Missing extends Error {}

const bundle = (variant, file) => join(root, "pkg/dist", variant, file);

function needBundles() {
  for (const variant of VARIANTS) {
    const wasm = bundle(variant, "meetara_browser_bg.wasm");
    if (!existsSync(wasm)) throw new Error(`${relative(root, wasm)} is missing: run \`cargo xtask wasm\``);
  }
}

function filesToHash() {
  if (process.argv.length > 2) return process.argv.slice(2).map((file) => resolve(file));
  const tiny = readdirSync(TINY).filter((name) => name.endsWith(".gguf")).sort();
  if (!existsSync(SHIPPED)) console.log(`NOTE: ${relative(root, SHIPPED)} is not there; only the tiny models are hashed`);
  return [...tiny.map((name) => join(TINY, name)), ...(existsSync(SHIPPED) ? [SHIPPED] : [])];
}

const target = resolve(root, process.env.CARGO_TARGET_DIR ?? "target");

/** Runs an example that `cargo test` has built; one object for each of its lines. */
function runExample(name, first, files) {
  const program = join(target, "release/examples", name);
  if (!existsSync(program)) throw new Error(`${program} is missing: run \`cargo build --release -p meetara-engine -p meetara-host --examples\``);
  const out = execFileSync(program, [...first, PROMPT, String(MAX_TOKENS), ...files], {
    encoding: "utf8",
    stdio: ["ignore", "pipe", "inherit"],
  });
  return out.trim().split("\n").map((line) => JSON.parse(line));
}

async function native(files) {
  return runExample("logits_hash", [], files).map((r) => ({ place: `native ${r.kernels}`, ...r }));
}

async function wasmtime(files) {
  const component = process.env.MEETARA_COMPONENT ?? join(target, "wasm/meetara_component.wasm");
  if (!existsSync(component)) throw new Error(`${component} is missing: run \`cargo xtask wasm component\``);
  return runExample("logits_hash_wasmtime", [component], files).map((r) => ({ place: "wasmtime relaxed", ...r }));
}

async function node(files) {
  const results = [];
  for (const variant of VARIANTS) {
    if (!WebAssembly.validate(readFileSync(bundle(variant, "meetara_browser_bg.wasm")))) {
      console.log(`Node ${process.version} has no ${variant} SIMD; Chromium, workerd and wasmtime have`);
      continue;
    }
    const glue = await import(pathToFileURL(bundle(variant, "meetara_browser.js")));
    const { memory } = glue.initSync({ module: readFileSync(bundle(variant, "meetara_browser_bg.wasm")) });
    for (const file of files) {
      const reply = hashReply(glue, memory, readFileSync(file), PROMPT, MAX_TOKENS);
      results.push({ place: `Node ${variant}`, file, ...reply });
    }
  }
  return results;
}

async function inChromium(files) {
  const types = { ".js": "text/javascript", ".mjs": "text/javascript", ".wasm": "application/wasm" };
  const served = new Map([["/_hash.mjs", join(root, "tests/runners/_hash.mjs")]]);
  files.forEach((file, i) => served.set(`/model/${i}`, file));
  for (const variant of VARIANTS) {
    for (const name of ["meetara_browser.js", "meetara_browser_bg.wasm"]) served.set(`/${variant}/${name}`, bundle(variant, name));
  }
  const server = createServer((request, response) => {
    const path = served.get(request.url);
    if (request.url === "/") return response.setHeader("content-type", "text/html").end("<!doctype html><title>hash</title>");
    if (!path) return response.writeHead(404).end();
    response.setHeader("content-type", types[path.slice(path.lastIndexOf("."))] ?? "application/octet-stream");
    createReadStream(path).pipe(response);
  });
  await new Promise((listening) => server.listen(0, "127.0.0.1", listening));
  const browser = await chromium.launch({ executablePath: "/usr/bin/chromium", args: ["--no-sandbox"] });
  try {
    const page = await browser.newPage();
    await page.goto(`http://127.0.0.1:${server.address().port}/`);
    const results = [];
    for (const variant of VARIANTS) {
      for (const [i, file] of files.entries()) {
        const reply = await page.evaluate(
          async ({ variant, i, prompt, maxTokens }) => {
            const [{ hashReply }, glue] = await Promise.all([import("/_hash.mjs"), import(`/${variant}/meetara_browser.js`)]);
            const { memory } = await glue.default({ module_or_path: fetch(`/${variant}/meetara_browser_bg.wasm`) });
            const model = new Uint8Array(await (await fetch(`/model/${i}`)).arrayBuffer());
            return hashReply(glue, memory, model, prompt, maxTokens);
          },
          { variant, i, prompt: PROMPT, maxTokens: MAX_TOKENS },
        );
        results.push({ place: `Chromium ${variant}`, file, ...reply });
      }
    }
    return results;
  } finally {
    await browser.close();
    server.close();
  }
}

/** A Worker that answers a model in the body of a request with its hash. */
const WORKER = `
import * as glue from "./meetara_browser.js";
import module from "./engine.wasm";
import { hashReply } from "./_hash.mjs";
const { memory } = glue.initSync({ module });
export default {
  async fetch(request) {
    const { prompt, maxTokens } = JSON.parse(decodeURIComponent(request.headers.get("x-order")));
    const model = new Uint8Array(await request.arrayBuffer());
    return Response.json(hashReply(glue, memory, model, prompt, maxTokens));
  },
};
`;

async function workerd(files) {
  const edge = createRequire(join(root, "host/edge/package.json"));
  let Miniflare;
  try {
    ({ Miniflare } = edge("miniflare"));
  } catch {
    throw new Missing("workerd is not installed: run `npm ci` in host/edge");
  }
  const text = (path) => readFileSync(path, "utf8");
  const results = [];
  for (const variant of VARIANTS) {
    const miniflare = new Miniflare({
      compatibilityDate: "2026-04-01",
      modules: [
        { type: "ESModule", path: "worker.mjs", contents: WORKER },
        { type: "ESModule", path: "meetara_browser.js", contents: text(bundle(variant, "meetara_browser.js")) },
        { type: "ESModule", path: "_hash.mjs", contents: text(join(root, "tests/runners/_hash.mjs")) },
        { type: "CompiledWasm", path: "engine.wasm", contents: readFileSync(bundle(variant, "meetara_browser_bg.wasm")) },
      ],
    });
    try {
      const order = encodeURIComponent(JSON.stringify({ prompt: PROMPT, maxTokens: MAX_TOKENS }));
      for (const file of files) {
        const response = await miniflare.dispatchFetch("http://worker/", {
          method: "POST",
          body: readFileSync(file),
          headers: { "x-order": order },
        });
        assert.equal(response.status, 200, await response.clone().text());
        results.push({ place: `workerd ${variant}`, file, ...(await response.json()) });
      }
    } finally {
      await miniflare.dispose();
    }
  }
  return results;
}

/** The hash function itself, against values of its definition's authors. */
function checkFnv() {
  for (const [text, hash] of [["", "cbf29ce484222325"], ["a", "af63dc4c8601ec8c"], ["foobar", "85944171f73967e8"]]) {
    const fnv = new Fnv();
    fnv.add(new TextEncoder().encode(text));
    assert.equal(fnv.toString(), hash);
  }
}

checkFnv();
needBundles();
const files = filesToHash();
const byFile = new Map(files.map((file) => [file, []]));
const places = new Set();
const missing = [];
for (const run of [native, wasmtime, node, inChromium, workerd]) {
  try {
    for (const result of await run(files)) {
      byFile.get(result.file).push(result);
      places.add(result.place);
    }
  } catch (error) {
    if (!(error instanceof Missing)) throw error;
    missing.push(error.message);
    console.log(`MISSING: ${error.message}`);
  }
}
let differing = 0;
for (const [file, results] of byFile) {
  const hashes = new Set(results.map((r) => `${r.hash} ${r.ids}`));
  assert.equal(results.length, places.size, `${file}: not hashed in every place`);
  assert.equal(results[0].ids.length, MAX_TOKENS, `${file}: a reply of ${MAX_TOKENS} tokens is expected`);
  if (hashes.size === 1) {
    console.log(`${results[0].hash}  ${basename(file)}`);
  } else {
    differing += 1;
    for (const r of results) console.log(`${r.hash}  ${basename(file)}  ${r.place}  ${r.ids}`);
  }
}
console.log(`places: ${[...places].join(", ")}`);
assert.equal(differing, 0, `${differing} files have more than one hash`);
assert.equal(missing.length, 0, missing.join("; "));
assert.equal(new Set([...byFile.values()].map(([first]) => first.hash)).size, files.length, "each file has a hash of its own");
console.log(`one_hash: ${files.length} files, ${places.size} places, one hash each`);
