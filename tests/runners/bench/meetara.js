// Our engine in a dedicated Worker, for chromium.mjs.

/** The first of `variants` that this browser accepts. */
async function pick(variants) {
  for (const variant of variants) {
    const response = await fetch(`/engine/${variant}/meetara_browser_bg.wasm`);
    if (WebAssembly.validate(await response.arrayBuffer())) return variant;
  }
  throw new Error("no build of the engine is there: run `cargo xtask wasm`");
}

export async function create({ variants }) {
  const variant = await pick(variants);
  const worker = new Worker("/bench/meetara-worker.js", { type: "module" });
  const ask = (job, argument) =>
    new Promise((done, failed) => {
      worker.onmessage = ({ data }) => (data.error ? failed(new Error(data.error)) : done(data.result));
      worker.onerror = (event) => failed(new Error(event.message || "the worker does not start"));
      worker.postMessage({ job, argument });
    });
  return { load: () => ask("load", variant), run: (argument) => ask("run", argument), swap: (argument) => ask("swap", argument) };
}
