// Our encoder in a dedicated Worker, for chromium.mjs.

import { asking } from "/bench/asking.js";

export async function create() {
  const ask = asking("/bench/encoder-worker.js");
  return { load: () => ask("load"), run: (argument) => ask("run", argument) };
}
