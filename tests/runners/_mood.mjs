// A small schema that replies are held to, and the check that one keeps it.

import assert from "node:assert/strict";

const schema = {
  type: "object",
  properties: { mood: { enum: ["calm", "sad"] }, words: { type: "array", items: { type: "string", maxLength: 8 }, minItems: 1, maxItems: 2 } },
  required: ["mood", "words"],
  additionalProperties: false,
};

export const moodFormat = { type: "json_schema", json_schema: { name: "mood", strict: true, schema } };

/** Asserts that `text` is JSON of that schema. */
export function assertMood(text) {
  const { mood, words, ...rest } = JSON.parse(text);
  assert.ok(["calm", "sad"].includes(mood));
  assert.ok(words.length >= 1 && words.length <= 2 && words.every((word) => [...word].length <= 8));
  assert.deepEqual(rest, {});
}
