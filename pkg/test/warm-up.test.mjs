// What is done while a model is on its way: it leaves nothing behind, and the model says what it would have said.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { loadEngine } from "../src/engine.js";
import { LanguageModel } from "../src/index.js";
import { SAMPLED, warmUp, weightlessModel } from "../src/warm-up.js";
import { startHost, tinyPath } from "./support.mjs";

const QUESTION = "Hello there, how is it going?";
const GREEDY = { cache: false, samplingMode: "most-predictable" };

let host;
before(async () => {
  host = await startHost();
});
after(() => host.close());

test("the model of no weight takes a prompt, and makes token after token", async () => {
  const engine = await loadEngine();
  const file = weightlessModel();
  const buffer = new engine.ModelBuffer(file.length);
  engine.view(buffer).set(file);
  const model = buffer.into_model();
  const session = model.session();
  const { prompt_tokens: promptTokens } = session.start_chat([{ role: "user", content: "hey" }], SAMPLED);
  assert.ok(promptTokens > 2);
  let tokens = 0;
  for (let step; step?.type !== "done"; tokens += step.type === "token" ? 1 : 0) step = session.step();
  assert.ok(tokens > 1, `${tokens} tokens`);
  session.free();
  model.free();
});

test("it takes no memory for good", async () => {
  const engine = await loadEngine();
  warmUp(engine);
  const bytes = engine.memory.buffer.byteLength;
  for (let i = 0; i < 20; i += 1) warmUp(engine);
  assert.equal(engine.memory.buffer.byteLength, bytes);
});

test("a model from the network says the same as one from a file", async () => {
  const replies = [];
  for (const model of [host.url("/model.gguf"), tinyPath]) {
    const session = await LanguageModel.create({ ...GREEDY, model });
    replies.push(await session.prompt(QUESTION, { maxTokens: 24 }));
    session.destroy();
  }
  assert.ok(replies[0].length > 0);
  assert.equal(replies[0], replies[1]);
});
