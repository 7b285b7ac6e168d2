// One hash: what the text model reads in a text is bitwise the same natively, in Node, in Chromium and in wasmtime.
//
//   node tests/runners/one_reading.mjs
//
// Native with every set of kernels that this CPU has; both builds for encoders, the one with relaxed SIMD in Chromium
// only; and what meetara-host answers. Needs `cargo xtask wasm encoder encoder-simd128 component`, meetara-host, and the
// example that `cargo test` builds. `edge.mjs` holds the Worker to the numbers that Node reads.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { copyFileSync, createReadStream, existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { chromium } from "playwright-core";
import { hashOfReadings, hashReadings } from "./_hash.mjs";
import { startHost } from "./_host.mjs";

const root = fileURLToPath(new URL("../../", import.meta.url));
const MODEL = join(root, "models/emotion/text-emotion.gguf");
const VARIANTS = ["encoder", "encoder-simd128"];
/** Of one column and of many, with and without columns left over; unread ones; danger. */
const TEXTS = [
  "ok",
  "I am so happy today!",
  "I feel so sad and lonely since she left me, I cry every night.",
  "How should I give feedback to an employee in the yearly performance review with HR?",
  "My chest hurts badly and my left arm is numb, I cannot breathe",
  "I want to kill myself",
  "Ich weiß heute nicht, was ich tun soll.",
  "😀😀",
  "The weather was bad, the train was late, and then my phone broke, so I laughed. ".repeat(12),
];

const bundle = (variant, file) => join(root, "pkg/dist", variant, file);

function native() {
  const program = join(resolve(root, process.env.CARGO_TARGET_DIR ?? "target"), "release/examples/reading_hash");
  if (!existsSync(program)) throw new Error(`${program} is missing: run \`cargo build --release -p meetara-engine --examples\``);
  const lines = execFileSync(program, [MODEL, ...TEXTS], { encoding: "utf8", stdio: ["ignore", "pipe", "inherit"] }).trim().split("\n");
  return lines.map((line) => JSON.parse(line)).map(({ kernels, hash }) => [`native ${kernels}`, hash]);
}

async function node() {
  const wasm = readFileSync(bundle("encoder-simd128", "meetara_encoder_bg.wasm"));
  const glue = await import(pathToFileURL(bundle("encoder-simd128", "meetara_encoder.js")));
  const { memory } = glue.initSync({ module: wasm });
  return [["Node encoder-simd128", hashReadings(glue, memory, readFileSync(MODEL), TEXTS)]];
}

async function inChromium() {
  const types = { ".js": "text/javascript", ".mjs": "text/javascript", ".wasm": "application/wasm" };
  const served = new Map([["/_hash.mjs", join(root, "tests/runners/_hash.mjs")], ["/model", MODEL]]);
  for (const variant of VARIANTS) {
    for (const name of ["meetara_encoder.js", "meetara_encoder_bg.wasm"]) served.set(`/${variant}/${name}`, bundle(variant, name));
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
      const hash = await page.evaluate(async ({ variant, texts }) => {
        const [{ hashReadings }, glue] = await Promise.all([import("/_hash.mjs"), import(`/${variant}/meetara_encoder.js`)]);
        const { memory } = await glue.default({ module_or_path: fetch(`/${variant}/meetara_encoder_bg.wasm`) });
        const model = new Uint8Array(await (await fetch("/model")).arrayBuffer());
        return hashReadings(glue, memory, model, texts);
      }, { variant, texts: TEXTS });
      results.push([`Chromium ${variant}`, hash]);
    }
    return results;
  } finally {
    await browser.close();
    server.close();
  }
}

/** The component in wasmtime, over REST. */
async function inTheHost() {
  const models = mkdtempSync(join(tmpdir(), "meetara-reading-"));
  let host;
  try {
    copyFileSync(MODEL, join(models, "text-emotion.gguf"));
    copyFileSync(join(root, "tests/vectors/tiny/tiny-q8_0.gguf"), join(models, "tiny.gguf"));
    host = await startHost("rest", ["--models", models]);
    const readings = [];
    for (const text of TEXTS) {
      const response = await fetch(`${host.address}/v1/emotion/analyze`, { method: "POST", body: JSON.stringify({ text }) });
      assert.equal(response.status, 200, "the host reads the text");
      readings.push(await response.json());
    }
    return [["wasmtime", hashOfReadings(readings)]];
  } finally {
    await host?.stop();
    rmSync(models, { recursive: true, force: true });
  }
}

const results = [...native(), ...(await node()), ...(await inChromium()), ...(await inTheHost())];
for (const [place, hash] of results) console.log(`${hash}  ${place}`);
assert.ok(results.length >= 5, "too few places");
assert.equal(new Set(results.map(([, hash]) => hash)).size, 1, "there is more than one hash");
console.log(`one_reading: ${TEXTS.length} texts, ${results.length} places, one hash`);
