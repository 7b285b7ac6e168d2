// The Worker of encoder.js: loads an encoder and reads texts with it.

import { answering } from "/bench/asking.js";

/** How often a text is read in one run, so that asking for it does not count. */
const READINGS = 40;

let memory;
let encoder;

answering({
  /** The times are those of meetara-worker.js. */
  async load() {
    const bytes = new Uint8Array(await (await fetch("/model")).arrayBuffer());
    const began = performance.now();
    const glue = await import("/engine/encoder/meetara_encoder.js");
    ({ memory } = await glue.default({ module_or_path: fetch("/engine/encoder/meetara_encoder_bg.wasm") }));
    const started = performance.now();
    const buffer = new glue.ModelBuffer(bytes.length);
    new Uint8Array(memory.buffer, buffer.ptr, bytes.length).set(bytes);
    encoder = buffer.into_encoder();
    const ended = performance.now();
    return { variant: "encoder", load_ms: ended - started, cold_ms: ended - began };
  },

  /** From the text to what the heads say of it: the tokenizer is part of it. */
  run({ prompt, ids }) {
    const began = performance.now();
    for (let i = 0; i < READINGS; i += 1) {
      const reading = encoder.encode(prompt);
      if (reading.tokens !== ids.length) throw new Error(`the text has ${reading.tokens} tokens, not ${ids.length}`);
      reading.free();
    }
    const wall_s = (performance.now() - began) / 1e3;
    return { tokens: READINGS * ids.length, wall_s, memory_bytes: memory.buffer.byteLength };
  },
});
