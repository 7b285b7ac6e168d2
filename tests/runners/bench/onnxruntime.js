// onnxruntime-web on the CPU, in a dedicated Worker, for chromium.mjs.

import { asking } from "/bench/asking.js";

export async function create({ threads }) {
  const ask = asking("/bench/onnxruntime-worker.js");
  return { load: () => ask("load", threads), run: (argument) => ask("run", argument) };
}
