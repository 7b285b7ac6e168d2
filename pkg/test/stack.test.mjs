// How much of its stack the engine needs: runtime-wasm/browser/build.rs gives it a quarter of the usual size.
//
// The stack lies at the start of memory, grows downwards, and is zero where it was never used.

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { loadEngine, supportedVariants } from "../src/engine.js";
import { tinyBytes, withTemplate } from "./support.mjs";

/** As in build.rs. */
const STACK_BYTES = 256 << 10;
/** Must stay unused at the deepest. */
const SPARE_BYTES = 8 << 10;

const usedBytes = (engine) => {
  const stack = new Uint8Array(engine.memory.buffer, 0, STACK_BYTES);
  const first = stack.findIndex((byte) => byte !== 0);
  return first < 0 ? 0 : STACK_BYTES - first;
};

/** A reply of the tiny model with another chat template. */
function chat(engine, template) {
  const bytes = template === undefined ? tinyBytes : withTemplate(tinyBytes, template);
  const buffer = new engine.ModelBuffer(bytes.length);
  engine.view(buffer).set(bytes);
  const model = buffer.into_model();
  const session = model.session();
  try {
    session.start_chat([{ role: "user", content: "Hello" }], { temperature: 0.8, top_k: 20, top_p: 0.9, max_tokens: 8 });
    while (session.step().type !== "done");
  } finally {
    session.free();
    model.free();
  }
}

const nested = (open, depth, close) => `${open.repeat(depth)}1${close.repeat(depth)}`;

/** What costs the parser most, as deep as it goes, and one that is deeper. */
const DEEP = [
  (depth) => `{{ ${nested("range(", depth, ")")} }}`,
  (depth) => `{{ ${nested("{'a':", depth, "}")} }}`,
  (depth) => nested("{% if true %}", depth, "{% endif %}"),
  (depth) => nested("{% for m in messages %}", depth, "{% endfor %}"),
];

describe("stack", () => {
  test("a chat uses little of it, and the deepest template leaves some", async () => {
    for (const variant of supportedVariants()) {
      const engine = await loadEngine({ variant });
      chat(engine);
      const usual = usedBytes(engine);
      assert.ok(usual > 1024 && usual < STACK_BYTES / 8, `a chat takes ${usual} bytes on ${variant}`);
      for (const template of DEEP) {
        for (const depth of [70, 145, 160, 590]) {
          try {
            chat(engine, template(depth));
          } catch (error) {
            // An error of the engine is in order, a trap is not.
            const inOrder = ["template", "context_overflow"].includes(error.code);
            assert.ok(inOrder, `${template(1)} at ${depth} on ${variant}: ${error}`);
          }
        }
      }
      const deepest = usedBytes(engine);
      assert.ok(deepest > usual && deepest <= STACK_BYTES - SPARE_BYTES, `templates take ${deepest} bytes on ${variant}`);
    }
  });
});
