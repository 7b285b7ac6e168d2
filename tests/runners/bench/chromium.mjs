// An engine in headless Chromium, as one side of a comparison: answers the turns of `cargo xtask bench`.
//
//   node chromium.mjs ENGINE FILE.gguf THREADS FOLDER
//
// ENGINE is `meetara`, with FOLDER the folder of its builds (pkg/dist), or `wllama`, with FOLDER the folder of that
// npm package; with an encoder as FILE it is `encoder` (ours) or `onnxruntime` (the npm package onnxruntime-web, FILE
// in its own format), which read each prompt and generate nothing. The lines in and out are described in
// xtask/src/bench/runtime/contestant.rs.
//
// CPU seconds are those of the browser's renderer processes, all their threads together, as Linux counts them; where
// there is no /proc they are the wall's seconds.

import { createReadStream, existsSync, mkdtempSync, readFileSync, readdirSync, rmSync, statSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { extname, join, resolve, sep } from "node:path";
import { createInterface } from "node:readline";
import { chromium } from "playwright-core";

const [engine, model, threads, folder] = process.argv.slice(2);
if (!folder) throw new Error("usage: chromium.mjs (meetara | wllama | encoder | onnxruntime) FILE THREADS FOLDER");
const BROWSERS = ["/usr/bin/chromium", "/usr/bin/google-chrome", "/usr/bin/chromium-browser"];
/** Builds of our engine, the fastest first. */
const VARIANTS = ["relaxed", "simd128", "scalar"];
const TYPES = { ".html": "text/html", ".js": "text/javascript", ".mjs": "text/javascript", ".wasm": "application/wasm" };

/** Files of adapters by the addresses that they are served at. */
let adapters = {};

/** Serves the page, the engine and the model; isolated, since wllama's threads need that. */
async function serve() {
  const mounts = { "/bench/": import.meta.dirname, "/engine/": resolve(folder), "/package/": resolve(folder, "../src") };
  const server = createServer((request, response) => {
    response.setHeader("cross-origin-opener-policy", "same-origin");
    response.setHeader("cross-origin-embedder-policy", "require-corp");
    response.setHeader("cache-control", "no-store");
    if (request.url === "/") return response.setHeader("content-type", "text/html").end("<!doctype html><title>bench</title>");
    const prefix = Object.keys(mounts).find((mount) => request.url.startsWith(mount));
    const file = request.url === "/model" ? model : adapters[request.url];
    const path = file ?? (prefix && resolve(mounts[prefix], request.url.slice(prefix.length)));
    const allowed = path && (file || path.startsWith(mounts[prefix] + sep));
    if (!allowed || !existsSync(path)) return response.writeHead(404).end();
    response.setHeader("content-type", TYPES[extname(path)] ?? "application/octet-stream");
    response.setHeader("content-length", statSync(path).size);
    createReadStream(path).pipe(response);
  });
  await new Promise((listening) => server.listen(0, "127.0.0.1", listening));
  return server;
}

const read = (path) => {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return ""; // The process or thread has ended.
  }
};

/** Processes of the browser whose profile is `profile` that run pages. */
function renderers(profile) {
  const processes = existsSync("/proc") ? readdirSync("/proc").filter((name) => /^\d+$/.test(name)) : [];
  const parents = new Map(processes.map((id) => [id, read(`/proc/${id}/stat`).split(") ").at(-1).split(" ")[1]]));
  const lines = new Map(processes.map((id) => [id, read(`/proc/${id}/cmdline`)]));
  const roots = processes.filter((id) => lines.get(id).includes(profile) && !lines.get(id).includes("--type="));
  const descends = (id) => roots.includes(id) || (parents.has(id) && descends(parents.get(id)));
  return processes.filter((id) => lines.get(id).includes("--type=renderer") && descends(id));
}

function cpuSeconds(profile) {
  const ids = renderers(profile);
  if (ids.length === 0) return performance.now() / 1e3;
  const tasks = ids.flatMap((id) => {
    try {
      return readdirSync(`/proc/${id}/task`).map((task) => `/proc/${id}/task/${task}/schedstat`);
    } catch {
      return [];
    }
  });
  return tasks.reduce((sum, path) => sum + Number(read(path).split(" ")[0]), 0) / 1e9;
}

const server = await serve();
const profile = mkdtempSync(join(tmpdir(), "bench-profile-"));
const context = await chromium.launchPersistentContext(profile, {
  executablePath: BROWSERS.find(existsSync),
  args: ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-component-update"],
});
try {
  const page = context.pages()[0] ?? (await context.newPage());
  await page.goto(`http://127.0.0.1:${server.address().port}/`);
  const variants = engine === "meetara" ? VARIANTS.filter((name) => existsSync(join(folder, name))) : [];
  await page.evaluate(
    async ({ engine, variants, threads }) => {
      const { create } = await import(`/bench/${engine}.js`);
      globalThis.contestant = await create({ variants, threads });
    },
    { engine, variants, threads: Number(threads) },
  );
  /** What `job` gives, with the CPU seconds it took. */
  const timed = async (job, argument) => {
    const before = cpuSeconds(profile);
    const result = await page.evaluate(([job, argument]) => globalThis.contestant[job](argument), [job, argument]);
    return { ...result, cpu_s: cpuSeconds(profile) - before };
  };
  const { cpu_s, ...ready } = await timed("load");
  console.log(JSON.stringify({ ...ready, load_cpu_ms: cpu_s * 1e3, browser: context.browser()?.version() ?? "" }));
  for await (const line of createInterface({ input: process.stdin })) {
    const turn = JSON.parse(line);
    if (turn.swaps) {
      adapters = { "/adapter/0": turn.adapters[0], "/adapter/1": turn.adapters[1] };
      const argument = { addresses: Object.keys(adapters), swaps: turn.swaps };
      console.log(JSON.stringify(await page.evaluate((argument) => globalThis.contestant.swap(argument), argument)));
      continue;
    }
    const total = { tokens: 0, wall_s: 0, cpu_s: 0 };
    for (let i = 0; total.wall_s < turn.wall_s_min || i === 0; i += 1) {
      const { text, ids } = turn.prompts[i % turn.prompts.length];
      const run = await timed("run", { prompt: text, ids, generate: turn.generate, context_max: turn.context_max });
      for (const key of Object.keys(total)) total[key] += run[key];
      if (run.memory_bytes) total.memory_bytes = run.memory_bytes;
    }
    console.log(JSON.stringify(total));
  }
} finally {
  await context.close();
  server.close();
  rmSync(profile, { recursive: true, force: true });
}
