// Encoders: scores and vectors, the same bits as from the native engine.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { TextClassifier } from "../src/index.js";
import { loadEngine, pickEncoderVariant } from "../src/engine.js";
import { Fnv } from "../../tests/runners/_hash.mjs";
import { tinyPath } from "./support.mjs";

const folder = new URL("../../tests/vectors/encoders/", import.meta.url);
const bertPath = fileURLToPath(new URL("bert-q8_0.gguf", folder));
const expected = JSON.parse(readFileSync(new URL("expected.json", folder), "utf8"));
const { texts, hashes } = JSON.parse(readFileSync(new URL("hashes.json", folder), "utf8"));

const cosine = (a, b) => {
  const dot = (x, y) => x.reduce((sum, value, i) => sum + value * y[i], 0);
  return dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b));
};

describe("TextClassifier", () => {
  // Chromium takes the build with relaxed SIMD too: tests/runners/page.mjs.
  for (const variant of new Set(["encoder-simd128", pickEncoderVariant()])) {
    test(`the build ${variant} gives the scores of the native engine, bit by bit`, async () => {
      // runtime-wasm/engine/tests/encoder.rs holds the native kernels to the same numbers.
      const engine = await loadEngine({ variant });
      for (const [name, wanted] of Object.entries(hashes)) {
        const bytes = readFileSync(new URL(name, folder));
        const buffer = new engine.ModelBuffer(bytes.length);
        engine.view(buffer).set(bytes);
        const encoder = buffer.into_encoder();
        const fnv = new Fnv();
        for (const text of texts) {
          const reading = encoder.encode(text);
          for (const part of [reading.embedding, reading.probabilities]) fnv.add(new Uint8Array(part.buffer));
          reading.free();
        }
        encoder.free();
        assert.equal(fnv.toString(), wanted, name);
      }
      assert.ok(Object.keys(hashes).length >= 2 && texts.length >= 9);
    });
  }

  test("labels, vectors and what was cut are as transformers has them", async () => {
    const classifier = await TextClassifier.create({ model: bertPath });
    const { labels } = expected.bert;
    assert.deepEqual(classifier.info.heads.map(({ name, labels, several }) => [name, labels, several]), [["classifier", labels, true]]);
    assert.equal(classifier.info.tokens_max, 256);
    for (const { text, ids, tokens_cut: cut, probabilities, embedding } of expected.bert.texts) {
      const { heads, tokens, tokensCut } = await classifier.classify(text);
      assert.deepEqual([tokens, tokensCut], [ids.length, cut]);
      heads.classifier.forEach(({ label, probability, chosen }, i) => {
        assert.equal(label, labels[i]);
        assert.equal(chosen, probability >= 0.5);
        // Q8_0 of a random network against F32.
        assert.ok(Math.abs(probability - probabilities[i]) < 0.03, `${text}: ${label} ${probability}, not ${probabilities[i]}`);
      });
      const found = await classifier.embed(text);
      assert.equal(found.length, classifier.info.width);
      assert.ok(cosine(found, embedding) > 0.999, `${text}: ${cosine(found, embedding)}`);
    }
    assert.ok(classifier.memoryBytes > classifier.info.file_bytes);
    classifier.destroy();
    await assert.rejects(classifier.classify("x"), { name: "AbortError" });
  });

  test("of labels that exclude one another one is chosen", async () => {
    const model = readFileSync(new URL("roberta-q5_1.gguf", folder));
    const classifier = await TextClassifier.create({ model });
    const { heads } = await classifier.classify("I feel so happy today!");
    const sum = heads.classifier.reduce((all, { probability }) => all + probability, 0);
    assert.ok(Math.abs(sum - 1) < 1e-6);
    const chosen = heads.classifier.filter((label) => label.chosen);
    assert.equal(chosen.length, 1);
    assert.ok(heads.classifier.every(({ probability }) => probability <= chosen[0].probability));
    classifier.destroy();
  });

  test("what it cannot do is an error that says why", async () => {
    assert.throws(() => new TextClassifier(), TypeError);
    await assert.rejects(TextClassifier.create({ model: tinyPath }), { name: "NotSupportedError", reason: "unsupported_model" });
    const classifier = await TextClassifier.create({ model: bertPath });
    await assert.rejects(classifier.classify(" \n"), { name: "TypeError", reason: "invalid_request" });
    await assert.rejects(async () => classifier.embed(7), TypeError);
    const aborted = AbortSignal.abort();
    await assert.rejects(classifier.classify("x", { signal: aborted }), { name: "AbortError" });
    // It goes on after all of that.
    assert.equal((await classifier.classify("x")).tokens, 3);
    classifier.destroy();
  });
});
