// The Worker of onnxruntime.js: loads a graph of text_encoder_onnx.py and runs it.

import { answering } from "/bench/asking.js";
import * as ort from "/engine/dist/ort.wasm.bundle.min.mjs";

/** As in encoder-worker.js. */
const READINGS = 40;

let session;

answering({
  /** `cold_ms`: from the model's bytes at hand to a session, the engine's compilation included. */
  async load(threads) {
    const bytes = new Uint8Array(await (await fetch("/model")).arrayBuffer());
    const began = performance.now();
    ort.env.wasm.wasmPaths = "/engine/dist/";
    ort.env.wasm.numThreads = threads;
    session = await ort.InferenceSession.create(bytes, { executionProviders: ["wasm"], graphOptimizationLevel: "all" });
    const cold_ms = performance.now() - began;
    return { version: ort.env.versions.web, variant: "wasm", load_ms: cold_ms, cold_ms };
  },

  /** From the ids of the tokens to the labels: it has no tokenizer. */
  async run({ ids }) {
    const began = performance.now();
    for (let i = 0; i < READINGS; i += 1) {
      const tensor = (values) => new ort.Tensor("int32", values, [1, ids.length]);
      const { labels } = await session.run({ ids: tensor(Int32Array.from(ids)), types: tensor(new Int32Array(ids.length)) });
      if (!(labels.data[0] > 0 && labels.data[0] < 1)) throw new Error("the graph does not give probabilities");
    }
    return { tokens: READINGS * ids.length, wall_s: (performance.now() - began) / 1e3 };
  },
});
