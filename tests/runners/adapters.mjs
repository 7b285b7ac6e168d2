// LoRA adapters of the npm package in Debian's Chromium: 62 of them, kept in OPFS, a few in memory at a time.
//
//   node tests/runners/adapters.mjs
//
// Needs `cargo xtask wasm scalar simd128 relaxed`. The package is served as it lies in pkg/.

import assert from "node:assert/strict";
import { createReadStream, existsSync, readFileSync } from "node:fs";
import { createServer } from "node:http";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";

const root = fileURLToPath(new URL("../../", import.meta.url));
const MODEL = join(root, "tests/vectors/tiny/tiny-f32.gguf");
const ADAPTERS = ["tiny-all", "tiny-some"].map((name) => join(root, `tests/vectors/adapters/${name}.gguf`));
const COUNT = 62;
/** Room for some ten of them. */
const BYTES_MAX = 600_000;
const TYPES = { html: "text/html", js: "text/javascript", wasm: "application/wasm" };

/** Serves the package, the model, and an adapter under 62 names; counts those it sends. */
async function startServer() {
  const sent = new Map();
  const server = createServer((request, response) => {
    const { pathname } = new URL(request.url, "http://localhost");
    if (pathname === "/") return response.setHeader("content-type", "text/html").end("<!doctype html><title>adapters</title>");
    const [, adapter] = /^\/adapter\/domain(\d+)\.gguf$/.exec(pathname) ?? [];
    const path = adapter ? ADAPTERS[adapter % 2] : pathname === "/model.gguf" ? MODEL : join(root, "pkg", pathname);
    if (!existsSync(path)) return response.writeHead(404).end();
    sent.set(pathname, (sent.get(pathname) ?? 0) + 1);
    response.setHeader("content-type", TYPES[path.split(".").at(-1)] ?? "application/octet-stream");
    // Node's name for the file that a bundler would choose.
    if (pathname.startsWith("/src/")) return response.end(readFileSync(path, "utf8").replaceAll('"#platform"', '"./platform-web.js"'));
    createReadStream(path).pipe(response);
  });
  await new Promise((listening) => server.listen(0, "127.0.0.1", listening));
  return {
    origin: `http://127.0.0.1:${server.address().port}/`,
    adaptersSent: () => [...sent].filter(([path]) => path.startsWith("/adapter/")).reduce((sum, [, count]) => sum + count, 0),
    close: () => server.close(),
  };
}

let passed = 0;
let failed = 0;

async function step(name, action) {
  try {
    const note = await action();
    passed += 1;
    console.log(`ok      ${name}${note ? `: ${note}` : ""}`);
  } catch (error) {
    failed += 1;
    console.log(`FAILED  ${name}\n${String(error?.stack ?? error).replace(/^/gm, "        ")}`);
  }
}

const server = await startServer();
const browser = await chromium.launch({ executablePath: "/usr/bin/chromium", headless: true, args: ["--no-sandbox"] });
try {
  const page = await (await browser.newContext()).newPage();
  page.on("pageerror", (error) => console.log(`page: ${error}`));
  /** A model in the page, with what the steps ask of it. */
  const open = async () => {
    await page.goto(server.origin);
    await page.evaluate(async (adapterBytesMax) => {
      const { LanguageModel, models } = await import("/src/index.js");
      const model = await LanguageModel.create({ model: "/model.gguf", temperature: 0, maxTokens: 4, adapterBytesMax });
      const say = async (adapters) => {
        await model.reset();
        return model.prompt("Hello", { adapters });
      };
      Object.assign(globalThis, { model, models, say });
    }, BYTES_MAX);
  };
  await open();

  await step(`${COUNT} adapters are fetched once, kept on the device and listed; a few are in memory`, async () => {
    const { list, kept, stored, models } = await page.evaluate(async (count) => {
      const loaded = [];
      for (let n = 0; n < count; n += 1) loaded.push(await model.adapters.load(`/adapter/domain${n}.gguf`));
      return {
        list: await model.adapters.list(),
        kept: loaded.every((one) => one.kept && one.from === "network"),
        stored: (await globalThis.models.list({ kind: "adapter" })).length,
        models: (await globalThis.models.list()).map(({ name }) => name),
      };
    }, COUNT);
    assert.deepEqual(list.map(({ name }) => name), Array.from({ length: COUNT }, (_, n) => `domain${n}`));
    const resident = list.filter((line) => line.resident);
    assert.ok(resident.length >= 8 && resident.length < 32, `${resident.length} are in memory`);
    assert.ok(resident.reduce((sum, { memoryBytes }) => sum + memoryBytes, 0) <= BYTES_MAX);
    assert.ok(kept, "one was not kept");
    assert.equal(stored, COUNT);
    assert.deepEqual(models, ["model.gguf"], "an adapter is among the models");
    assert.equal(server.adaptersSent(), COUNT);
    return `${resident.length} in memory`;
  });

  await step("those that had to make room come from OPFS when they are used, and say the same", async () => {
    const { texts, base, evenOdd } = await page.evaluate(async (count) => {
      const texts = [];
      for (let n = 0; n < count; n += 1) texts.push(await say(`domain${n}`));
      const evenOdd = await say([{ name: "domain0", scale: 0.5 }, { name: "domain1", scale: 0.5 }]);
      return { texts, base: await say([]), evenOdd };
    }, COUNT);
    assert.equal(new Set([base, evenOdd, ...texts.slice(0, 2)]).size, 4);
    texts.forEach((text, n) => assert.equal(text, texts[n % 2], `domain${n}`));
    assert.equal(server.adaptersSent(), COUNT, "one was fetched again");
  });

  await step("after a reload they are opened from the device by their keys", async () => {
    await open();
    const { from, same } = await page.evaluate(async () => {
      const stored = await models.list({ kind: "adapter" });
      const from = [];
      for (const record of stored.slice(0, 3)) from.push((await model.adapters.load(record)).from);
      const first = await say((await model.adapters.list())[0].name);
      return { from, same: first !== (await say([])) };
    });
    assert.deepEqual(from, ["store", "store", "store"]);
    assert.ok(same, "the adapter changes nothing");
    assert.equal(server.adaptersSent(), COUNT);
  });

  await step("one that is deleted from the device is fetched again from its address, or said to be gone", async () => {
    const { from, error, text } = await page.evaluate(async () => {
      const [record] = await models.list({ kind: "adapter" });
      await models.delete(record.key);
      const { from } = await model.adapters.load(record.key, { name: "again" });
      const [, other] = await models.list({ kind: "adapter" });
      await models.delete(other.key);
      const error = await model.adapters.load(other, { name: "gone" }).catch(({ reason, message }) => ({ reason, message }));
      return { from, error, text: await say("again") };
    });
    assert.equal(from, "network");
    assert.equal(error.reason, "not_found");
    assert.match(error.message, /This adapter is no longer kept/);
    assert.ok(text.length > 0);
    assert.equal(server.adaptersSent(), COUNT + 1);
  });

  await step("an adapter's address as a model's, and a model's as an adapter's, are refused and lose nothing", async () => {
    const { errors, adapters, models: left } = await page.evaluate(async () => {
      const { LanguageModel } = await import("/src/index.js");
      const word = ({ reason }) => reason;
      const errors = [
        await LanguageModel.create({ model: "/adapter/domain7.gguf" }).catch(word),
        await model.adapters.load("/model.gguf", { name: "model" }).catch(word),
      ];
      return { errors, adapters: (await models.list({ kind: "adapter" })).length, models: (await models.list()).length };
    });
    assert.deepEqual(errors, ["invalid_model", "invalid_model"]);
    assert.deepEqual([adapters, left], [COUNT - 1, 1]);
  });
} catch (error) {
  failed += 1;
  console.log(String(error?.stack ?? error));
} finally {
  await browser.close();
  server.close();
}
console.log(`${passed} passed, ${failed} failed`);
process.exitCode = failed > 0 || passed === 0 ? 1 : 0;
