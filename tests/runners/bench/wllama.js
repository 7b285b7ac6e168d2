// wllama (llama.cpp in WebAssembly), for chromium.mjs: greedy, nothing kept between prompts, ends of text ignored.

import { Wllama } from "/engine/esm/index.js";

const quiet = { debug() {}, log() {}, warn() {}, error: (...what) => console.error(...what) };

export async function create({ threads }) {
  const wllama = new Wllama({ default: new URL("/engine/esm/wasm/wllama.wasm", location.href).href }, { logger: quiet });
  return {
    /** `cold_ms`: from the model's bytes at hand to a loaded model, the engine's compilation included. */
    async load() {
      const bytes = await (await fetch("/model")).arrayBuffer();
      const began = performance.now();
      await wllama.loadModel([new Blob([bytes])], {
        n_threads: threads,
        n_ctx: 1024,
        n_batch: 512,
        n_ubatch: 512,
        n_parallel: 1,
        n_gpu_layers: 0,
      });
      const cold_ms = performance.now() - began;
      return { version: Wllama.getLibllamaVersion(), variant: wllama.isMultithread() ? "multi-thread" : "single-thread", load_ms: cold_ms, cold_ms };
    },

    /** As `run` of meetara-worker.js. */
    async run({ prompt, generate }) {
      const began = performance.now();
      let first = 0;
      let last = 0;
      let timings;
      await wllama.createCompletion({
        prompt,
        max_tokens: generate + 1,
        temperature: 0,
        top_k: 1,
        samplers: ["top_k"],
        ignore_eos: true,
        cache_prompt: false,
        stream: true,
        onData(chunk) {
          timings = chunk.timings ?? timings;
          if (chunk.choices?.[0]?.finish_reason) return;
          last = performance.now();
          first ||= last;
        },
      });
      if (generate > 0) return { tokens: generate, wall_s: (last - first) / 1e3 };
      if (!timings?.prompt_n) throw new Error("wllama does not say how many tokens the prompt had");
      return { tokens: timings.prompt_n, wall_s: (first - began) / 1e3 };
    },
  };
}
