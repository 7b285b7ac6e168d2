// The Worker of meetara.js: loads a model and runs turns, a token a call as `meetara` does it.

import { answering } from "/bench/asking.js";

const TOKENS_AT_ONCE_MAX = 4096;
let memory;
let glue;
let model;
let session;

const jobs = {
  /**
   * `start_ms`: fetching (from this machine) and compiling the engine, room for the model, and what the package does
   * while the model is on its way. `load_ms`: from the model's bytes at hand to a session that can give its first token.
   * `cold_ms`: both.
   */
  async load(variant) {
    const { warmUp } = await import("/package/warm-up.js");
    const response = await fetch("/model");
    const began = performance.now();
    glue = await import(`/engine/${variant}/meetara_browser.js`);
    ({ memory } = await glue.default({ module_or_path: fetch(`/engine/${variant}/meetara_browser_bg.wasm`) }));
    const buffer = new glue.ModelBuffer(Number(response.headers.get("content-length")));
    const view = (buffer) => new Uint8Array(memory.buffer, buffer.ptr, buffer.len_bytes);
    warmUp({ ModelBuffer: glue.ModelBuffer, view });
    const start_ms = performance.now() - began;
    const bytes = new Uint8Array(await response.arrayBuffer());
    const atHand = performance.now();
    view(buffer).set(bytes);
    model = buffer.into_model();
    session = model.session();
    const load_ms = performance.now() - atHand;
    return { variant, start_ms, load_ms, cold_ms: start_ms + load_ms };
  },

  /**
   * Without `generate`: from the text to the first token, which is when the prompt has been evaluated. With it: from
   * the first token to the last; a reply that ends before is gone on with. With `context_max` a conversation that has so
   * many tokens ends the run.
   */
  run({ prompt, generate, context_max = Infinity }) {
    const params = { temperature: 0, max_tokens: TOKENS_AT_ONCE_MAX };
    let began = performance.now();
    const started = session.start_text(prompt, params);
    let text = prompt;
    let tokens = -1; // The first token comes with the prompt's logits.
    let context = started.prompt_tokens;
    while (tokens < generate && context < context_max) {
      const step = session.step();
      text += step.text ?? "";
      if (step.type === "token") {
        tokens += 1;
        context += 1;
        if (tokens === 0 && generate > 0) began = performance.now();
      } else if (step.type === "done") {
        text += " and";
        context = session.start_text(text, params).prompt_tokens;
      }
    }
    const wall_s = (performance.now() - began) / 1e3;
    if (generate === 0) tokens = started.prompt_tokens - started.cached_tokens;
    return { tokens, wall_s, memory_bytes: memory.buffer.byteLength };
  },

  /** The mean time to put another mix on: one adapter, the other, both, none, in turn, each time after a conversation. */
  async swap({ addresses, swaps }) {
    for (const address of addresses) {
      model.load_adapter(address, bufferOf(new Uint8Array(await (await fetch(address)).arrayBuffer())));
    }
    const [one, other] = addresses;
    const mixes = [[[one], [1]], [[other], [1]], [addresses, [0.6, 0.4]], [[], []]];
    let swap_ms = 0;
    for (let i = 0; i < swaps; i += 1) {
      session.eval_tokens(new Uint32Array(4));
      const [names, scales] = mixes[i % mixes.length];
      const began = performance.now();
      session.set_adapters(names, Float32Array.from(scales));
      swap_ms += performance.now() - began;
    }
    return { swap_ms: swap_ms / swaps };
  },
};

/** Bytes in the engine's memory. */
function bufferOf(bytes) {
  const buffer = new glue.ModelBuffer(bytes.length);
  new Uint8Array(memory.buffer, buffer.ptr, bytes.length).set(bytes);
  return buffer;
}

answering(jobs);
