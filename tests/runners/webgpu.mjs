// The build for the GPU in Debian's Chromium, whose WebGPU is SwiftShader: the same tokens as the CPU's, and the CPU
// takes over when there is no GPU, a wrong one, or one that is lost in the middle of a reply.
//
//   node tests/runners/webgpu.mjs
//
// Needs `cargo xtask wasm` and `web/dist`. The package is served as it lies in pkg/, under a few paths that differ in what a
// worker's GPU does; nothing in the package itself is made for the tests but the option that takes a software adapter.
// Where the browser gives no adapter at all, that is said, and only falling back is checked.

import assert from "node:assert/strict";
import { createReadStream, existsSync, readFileSync } from "node:fs";
import { createServer } from "node:http";
import { join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";

const root = fileURLToPath(new URL("../../", import.meta.url));
const SHIPPED = join(root, "models/pocket/meetara-pocket-q4_k_m.gguf");
const TINY = join(root, "tests/vectors/tiny/tiny-f32.gguf");
const MODELS = { shipped: existsSync(SHIPPED) ? SHIPPED : TINY, tiny: TINY, adapter: join(root, "tests/vectors/adapters/tiny-all.gguf") };
// Longer than one slice of prefill.
const QUESTION = [{ role: "user", content: "I slept badly again and I am tired all day long. My head hurts, and my work does not get done. How can I sleep better tonight?" }];
/** Tokens of the shipped model that are compared; a software GPU takes its time. */
const TOKENS = 6;
/** Of the logits' own unit: the CPU rounds activations to 8 bits, the GPU does not. */
const CLEAR_LEAD = 0.5;
const PATIENCE_MS = 120_000;

/** Takes the device away when told to. */
const LOSE = `
  const request = GPUAdapter.prototype.requestDevice;
  GPUAdapter.prototype.requestDevice = async function (...rest) {
    const device = await request.apply(this, rest);
    new BroadcastChannel("lose").onmessage = () => device.destroy();
    return device;
  };`;

/** What is put before the worker's script, by path. */
const WORKERS = {
  plain: "",
  lost: LOSE,
  // Turns queries and keys the wrong way.
  wrong: `
    const create = GPUDevice.prototype.createShaderModule;
    GPUDevice.prototype.createShaderModule = function ({ code, ...rest }) {
      return create.call(this, { ...rest, code: code.replace("a * angle.x - b * angle.y", "a * angle.x + b * angle.y") });
    };`,
  // A browser without relaxed SIMD.
  bare: "WebAssembly.validate = () => false;",
  // Its host has no build for the GPU, or there is no network and none was kept.
  gone: "",
  // The built page has no option for tests, so the adapter must pass for hardware.
  page: `
    for (const [name, value] of Object.entries({ vendor: "test", architecture: "", description: "", isFallbackAdapter: false })) {
      Object.defineProperty(GPUAdapterInfo.prototype, name, { get: () => value });
    }${LOSE}`,
};

const PAGE = join(root, "web/dist");

const TYPES = {
  css: "text/css", gguf: "application/octet-stream", html: "text/html", js: "text/javascript", svg: "image/svg+xml",
  txt: "text/plain", wasm: "application/wasm", webmanifest: "application/manifest+json", woff2: "font/woff2",
};

/** Serves the package and the models; counts requests by path. */
async function startServer() {
  const counts = new Map();
  const server = createServer((request, response) => {
    const { pathname } = new URL(request.url, "http://localhost");
    counts.set(pathname, (counts.get(pathname) ?? 0) + 1);
    if (pathname === "/") return response.setHeader("content-type", "text/html").end("<!doctype html><title>webgpu</title>");
    const [, place, folder, ...rest] = pathname.split("/");
    const name = pathname.slice(pathname.lastIndexOf("/") + 1);
    let path = null;
    if (place === "page") path = join(PAGE, folder || "index.html", ...rest);
    else if (place === "model") path = MODELS[folder];
    else if (place === "models") path = MODELS.tiny; // what the page takes for the shipped one
    else if (place in WORKERS && ["src", "dist"].includes(folder)) path = join(root, "pkg", folder, ...rest);
    if (place === "gone" && rest[0] === "webgpu") path = null;
    if (!path || !existsSync(path)) return response.writeHead(404).end();
    response.setHeader("content-type", TYPES[path.slice(path.lastIndexOf(".") + 1)]);
    const isWorker = /^worker[-.].*js$/.test(name);
    if (folder !== "src" && !isWorker) return createReadStream(path).pipe(response);
    // Node's name for the file that a bundler would choose.
    const text = readFileSync(path, "utf8").replaceAll('"#platform"', '"./platform-web.js"');
    response.end(isWorker ? WORKERS[place] + text : text);
  });
  await new Promise((listening) => server.listen(0, "127.0.0.1", listening));
  return {
    origin: `http://127.0.0.1:${server.address().port}/`,
    count: (path) => counts.get(path) ?? 0,
    close: () => server.close(),
  };
}

let passed = 0;
let failed = 0;

async function step(name, action) {
  const start = performance.now();
  try {
    const note = await action();
    passed += 1;
    console.log(`ok      ${name} (${((performance.now() - start) / 1000).toFixed(1)} s)${note ? `: ${note}` : ""}`);
  } catch (error) {
    failed += 1;
    console.log(`FAILED  ${name}\n${String(error?.stack ?? error).replace(/^/gm, "        ")}`);
  }
}

async function open(browser, origin) {
  const page = await browser.newPage();
  page.setDefaultTimeout(PATIENCE_MS);
  page.on("pageerror", (error) => console.log(`page: ${error}`));
  await page.goto(origin);
  return page;
}

/** A reply of `LanguageModel` from the package under `place`; with `loseAt` the device is taken away after so many pieces. */
function reply(page, place, options, { loseAt } = {}) {
  return page.evaluate(async ({ place, options, loseAt }) => {
    const { LanguageModel } = await import(`/${place}/src/index.js`);
    const model = await LanguageModel.create({ model: "/model/tiny", cache: false, temperature: 0, maxTokens: 24, ...options });
    const before = model.device;
    let changes = 0;
    model.ondevicechange = () => {
      changes += 1;
    };
    const pieces = [];
    const lose = new BroadcastChannel("lose");
    for await (const piece of model.promptStreaming("Hello")) {
      pieces.push(piece);
      if (pieces.length === loseAt) lose.postMessage(null);
    }
    lose.close();
    const { completionTokens } = model.lastReply;
    const result = { text: pieces.join(""), completionTokens, before, after: model.device, changes, variant: model.source.variant };
    model.destroy();
    return result;
  }, { place, options, loseAt });
}

/** Two turns of one conversation; with `lose` the device is taken away between them. */
function twoTurns(page, place, options, lose = false) {
  return page.evaluate(async ({ place, options, lose }) => {
    const { LanguageModel } = await import(`/${place}/src/index.js`);
    const model = await LanguageModel.create({ model: "/model/tiny", cache: false, temperature: 0, maxTokens: 8, ...options });
    const first = await model.prompt("Hello");
    const before = model.device.type;
    if (lose) {
      const channel = new BroadcastChannel("lose");
      channel.postMessage(null);
      await new Promise((done) => setTimeout(done, 200));
      channel.close();
    }
    const second = await model.prompt("And then?");
    const { cachedTokens } = model.lastReply;
    const { reason } = model.device;
    model.destroy();
    return { texts: [first, second], before, cachedTokens, reason };
  }, { place, options, lose });
}

/** Greedy tokens of both sides from one module, and how far the CPU's best logit leads at each. */
function bothSides(page, messages, tokens) {
  return page.evaluate(async ({ messages, tokens }) => {
    const { loadEngine } = await import("/plain/src/engine.js");
    const engine = await loadEngine({ variant: "webgpu" });
    const file = new Uint8Array(await (await fetch("/model/shipped")).arrayBuffer());
    const buffer = new engine.ModelBuffer(file.length);
    engine.view(buffer).set(file);
    const model = await buffer.into_model_on_gpu(true);
    const params = { temperature: 0, max_tokens: tokens };
    const lead = (logits) => {
      let [first, second] = [-Infinity, -Infinity];
      for (const logit of logits) {
        if (logit > first) [first, second] = [logit, first];
        else if (logit > second) second = logit;
      }
      return first - second;
    };
    const cpu = [];
    const session = model.session(256);
    session.start_chat(messages, params);
    for (;;) {
      const step = session.step();
      if (step.type === "done") break;
      if (step.type === "token") cpu.push({ id: step.id, lead: lead(session.logits()) });
    }
    session.free();
    const both = await model.session_on_gpu(256, false);
    const report = model.gpu_report();
    both.start_chat(messages, params);
    const gpu = [];
    const start = performance.now();
    for (;;) {
      const step = await both.step_on_gpu();
      if (step.type === "done") break;
      if (step.type === "token") gpu.push(step.id);
    }
    const result = { cpu, gpu, reason: both.gpu_reason(), report, ms: performance.now() - start, bytes: both.gpu_bytes(), fileBytes: file.length };
    both.free();
    model.free();
    return result;
  }, { messages, tokens });
}

async function withGpu(page, server, expected) {
  await step("the shipped model's greedy tokens are the CPU's", async () => {
    const { cpu, gpu, reason, report, bytes, fileBytes } = await bothSides(page, QUESTION, TOKENS);
    assert.equal(reason, undefined, JSON.stringify(reason));
    assert.ok(report.cosine > 0.995, `cosine ${report.cosine}`);
    assert.ok(bytes > fileBytes * 0.9, `${bytes} bytes on the GPU`);
    let compared = 0;
    for (const [i, { id, lead }] of cpu.entries()) {
      if (gpu[i] !== id) {
        assert.ok(lead < CLEAR_LEAD, `token ${i}: ${gpu[i]} on the GPU, ${id} on the CPU, whose lead is ${lead}`);
        break;
      }
      compared += 1;
    }
    assert.ok(compared >= TOKENS / 2, `only ${compared} tokens could be compared`);
    return `${compared} of ${cpu.length} tokens, cosine ${report.cosine.toFixed(5)}`;
  });

  await step("auto leaves a software GPU alone, says so, and fetches nothing for it", async () => {
    const result = await reply(page, "plain", { device: "auto" });
    assert.equal(result.before.type, "cpu");
    assert.equal(result.before.reason, "software_adapter");
    assert.match(result.before.message, /swiftshader/i);
    assert.notEqual(result.variant, "webgpu");
    assert.equal(result.text, expected.text);
    return result.before.message;
  });

  await step("so does gpu, without the testing option", async () => {
    const fetched = server.count("/bare/dist/webgpu/meetara_webgpu_bg.wasm");
    const { before, text } = await reply(page, "bare", { device: "gpu" });
    assert.equal(before.reason, "software_adapter");
    assert.equal(text, expected.text);
    assert.equal(server.count("/bare/dist/webgpu/meetara_webgpu_bg.wasm"), fetched);
  });

  await step("a browser without relaxed SIMD is told so", async () => {
    const { before, text } = await reply(page, "bare", { device: "gpu", testing: { softwareAdapter: true } });
    assert.equal(before.reason, "unsupported");
    assert.equal(text, expected.text);
  });

  await step("where the build for the GPU cannot be fetched the CPU does it", async () => {
    const { before, text, variant } = await reply(page, "gone", { device: "gpu", testing: { softwareAdapter: true } });
    assert.equal(before.reason, "failed");
    assert.match(before.message, /the build for the GPU could not be loaded/);
    assert.notEqual(variant, "webgpu");
    assert.equal(text, expected.text);
  });

  await step("a whole reply in the worker comes from the GPU", async () => {
    const result = await reply(page, "plain", { device: "gpu", testing: { softwareAdapter: true } });
    assert.equal(result.before.type, "gpu", result.before.message);
    assert.equal(result.variant, "webgpu");
    assert.ok(result.before.cosine > 0.999 && result.before.gpuMs > 0 && result.before.cpuMs > 0);
    assert.deepEqual([result.after, result.changes], [result.before, 0]);
    assert.equal(result.text, expected.text);
  });

  await step("on the GPU a reply is aborted, and a session destroyed in the middle of one, beside another", async () => {
    const texts = await page.evaluate(async () => {
      const { LanguageModel } = await import("/plain/src/index.js");
      const options = { model: "/model/tiny", cache: false, temperature: 0, maxTokens: 24, device: "gpu", testing: { softwareAdapter: true } };
      const one = await LanguageModel.create(options);
      const two = await one.clone();
      const results = [one.device.type, two.device.type];
      const abort = new AbortController();
      const read = async (model, act, signal) => {
        let pieces = 0;
        for await (const _ of model.promptStreaming("Goodbye", { signal })) if ((pieces += 1) === 3) act();
        return "whole";
      };
      results.push(await read(one, () => abort.abort(), abort.signal).catch((error) => error.name));
      results.push(await read(two, () => two.destroy()).catch((error) => error.name));
      results.push(await one.prompt("Hello"), one.device.type);
      one.destroy();
      return results;
    });
    assert.deepEqual(texts, ["gpu", "gpu", "AbortError", "AbortError", expected.text, "gpu"]);
  });

  await step("auto leaves a GPU alone that is slower", async () => {
    const { before, text, variant } = await reply(page, "plain", { device: "auto", testing: { softwareAdapter: true } });
    assert.equal(before.reason, "slower", before.message);
    assert.ok(before.gpuMs > before.cpuMs);
    assert.equal(variant, "webgpu");
    assert.equal(text, expected.text);
    return before.message;
  });

  await step("a wrong shader is noticed before the first token", async () => {
    const { before, text } = await reply(page, "wrong", { device: "gpu", testing: { softwareAdapter: true } });
    assert.equal(before.type, "cpu");
    assert.equal(before.reason, "wrong_result", before.message);
    assert.equal(text, expected.text);
    return before.message;
  });

  await step("a device that is lost in the middle of a reply costs no token", async () => {
    const result = await reply(page, "lost", { device: "gpu", testing: { softwareAdapter: true } }, { loseAt: 6 });
    assert.equal(result.before.type, "gpu", result.before.message);
    assert.equal(result.after.type, "cpu", "the reply was over before the device was lost");
    assert.equal(result.after.reason, "device_lost", result.after.message);
    assert.equal(result.changes, 1);
    assert.equal(result.text, expected.text);
    assert.equal(result.completionTokens, expected.completionTokens);
    return result.after.message;
  });

  await step("a second turn goes on from the first, also when the device was lost in between", async () => {
    const options = { device: "gpu", testing: { softwareAdapter: true } };
    const cpu = await twoTurns(page, "plain", {});
    const gpu = await twoTurns(page, "plain", options);
    const lost = await twoTurns(page, "lost", options, true);
    assert.deepEqual([cpu.before, gpu.before, lost.before], ["cpu", "gpu", "gpu"]);
    assert.deepEqual([cpu.reason, gpu.reason, lost.reason], [null, null, "device_lost"]);
    assert.ok(cpu.cachedTokens > 0 && cpu.texts[0] !== cpu.texts[1]);
    assert.deepEqual(gpu.texts, cpu.texts);
    assert.deepEqual(lost.texts, cpu.texts);
    assert.equal(gpu.cachedTokens, cpu.cachedTokens);
  });

  await step("a reply with an adapter comes from the CPU, which is told, and the next one from the GPU again", async () => {
    const cpu = await adapted(page, {});
    const gpu = await adapted(page, { device: "gpu", testing: { softwareAdapter: true } });
    assert.deepEqual(gpu.told, ["cpu adapters", "gpu null"]);
    assert.deepEqual([cpu.told, cpu.device, gpu.device], [[], "cpu", "gpu"]);
    assert.deepEqual([gpu.texts, gpu.chosen], [cpu.texts, cpu.chosen]);
    assert.notEqual(cpu.texts[1], cpu.texts[0]);
    assert.notDeepEqual(cpu.chosen[1], cpu.chosen[0]);
    assert.deepEqual([cpu.texts[2], cpu.texts[3]], [cpu.texts[1], cpu.texts[0]]);
  });
}

/** Replies without an adapter, with one, and without again, where they came from, and what was told of that. */
function adapted(page, options) {
  return page.evaluate(async (options) => {
    const { LanguageModel } = await import("/plain/src/index.js");
    const model = await LanguageModel.create({ model: "/model/tiny", cache: false, temperature: 0, maxTokens: 8, ...options });
    const told = [];
    model.ondevicechange = () => told.push(`${model.device.type} ${model.device.reason}`);
    await model.adapters.load("/model/adapter", { name: "all", cache: false });
    const texts = [];
    for (const adapters of [[], "all", "all", [{ name: "all", scale: 0 }]]) {
      await model.reset();
      texts.push(await model.prompt("Hello", { adapters }));
    }
    const scores = async (adapters) => (await model.choose("Hello", ["a", "b"], { adapters })).map(({ logprob }) => logprob);
    const result = { texts, told, chosen: [await scores([]), await scores("all")], device: model.device.type };
    model.destroy();
    return result;
  }, options);
}

/** The built page on what it takes for a GPU, which it then loses. */
async function onThePage(browser, server) {
  await step("the page says where it runs, and that the GPU was lost; the reply goes on", async () => {
    const page = await open(browser, `${server.origin}page/?device=gpu`);
    const state = (wanted) => page.waitForFunction((s) => document.body.dataset.state === s, wanted, { polling: 20 });
    await state("ready");
    assert.equal(await page.locator("#stat-device").innerText(), "GPU");
    assert.ok(await page.locator("#device-note").isHidden());
    await page.locator("#input").fill("Hello");
    await page.evaluate(() => new Promise((resolve) => {
      const observer = new MutationObserver(() => {
        if ((document.querySelector(".message.reply .text")?.textContent ?? "").length < 20) return;
        observer.disconnect();
        new BroadcastChannel("lose").postMessage(null);
        resolve();
      });
      observer.observe(document.querySelector("#messages"), { subtree: true, childList: true, characterData: true });
      document.querySelector("#composer").requestSubmit();
    }));
    await state("ready");
    assert.equal(await page.locator("#stat-device").innerText(), "CPU");
    assert.equal(await page.locator("#device-note").innerText(), "The GPU was lost; the CPU goes on from the same token.");
    assert.equal(await page.locator(".divider").innerText(), "The GPU was lost; the CPU goes on from the same token.");
    // The tiny model's replies end where its context does.
    assert.match(await page.locator("#stat-context").innerText(), /^256 of 256$/);
    assert.match(await page.locator(".message.reply .note").innerText(), /^\d+ tokens/);
    await page.close();
  });
}

async function withoutGpu(page) {
  await step("without WebGPU auto and gpu run on the CPU and say so", async () => {
    const cpu = await reply(page, "plain", {});
    assert.deepEqual([cpu.before.type, cpu.before.reason], ["cpu", null]);
    for (const device of ["auto", "gpu"]) {
      const { before, text } = await reply(page, "plain", { device, testing: { softwareAdapter: true } });
      assert.deepEqual([before.type, before.reason], ["cpu", "no_adapter"]);
      assert.equal(text, cpu.text);
    }
  });
  await step("another device is refused", async () => {
    const error = await reply(page, "plain", { device: "tpu" }).catch((error) => error);
    assert.match(error.message, /device must be one of auto, cpu, gpu/);
  });
}

async function main() {
  const wasm = join(root, "pkg/dist/webgpu/meetara_webgpu_bg.wasm");
  if (!existsSync(wasm)) throw new Error(`${relative(root, wasm)} is missing: run \`cargo xtask wasm\``);
  if (!existsSync(PAGE)) throw new Error("web/dist is missing: run `npm run build` in web/");
  if (MODELS.shipped === TINY) console.log(`NOTE: ${relative(root, SHIPPED)} is not there; a tiny model stands in for it`);
  const server = await startServer();
  const launch = (...args) => chromium.launch({ executablePath: "/usr/bin/chromium", headless: true, args: ["--no-sandbox", ...args] });
  const browser = await launch("--enable-unsafe-webgpu");
  try {
    const page = await open(browser, server.origin);
    const adapter = await page.evaluate(async () => (await navigator.gpu?.requestAdapter())?.info.architecture ?? null);
    if (adapter === null) console.log("NOTE: this browser gives no WebGPU adapter; only falling back is checked");
    else {
      await withGpu(page, server, await reply(page, "plain", { device: "cpu" }));
      await onThePage(browser, server);
    }
  } finally {
    await browser.close();
  }
  const bare = await launch("--disable-features=WebGPU");
  try {
    await withoutGpu(await open(bare, server.origin));
  } finally {
    await bare.close();
    server.close();
  }
}

try {
  await main();
} catch (error) {
  failed += 1;
  console.log(String(error?.stack ?? error));
}
console.log(`${passed} passed, ${failed} failed`);
process.exitCode = failed > 0 || passed === 0 ? 1 : 0;
