// Replies that follow a JSON schema, with the shipped model and with one of random weights.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { ChatClient, LanguageModel } from "../src/index.js";
import { piecesOf, tinyPath } from "./support.mjs";

const pocket = new URL("../../models/pocket/meetara-pocket-q4_k_m.gguf", import.meta.url);
const QUESTION = "Describe somebody, as JSON.";

/** Schemas, and whether a value follows each. */
const CASES = [
  [
    { type: "object", properties: { mood: { enum: ["calm", "sad", "glad é"] } }, required: ["mood"], additionalProperties: false },
    (value) => ["calm", "sad", "glad é"].includes(value.mood) && Object.keys(value).length === 1,
  ],
  [
    {
      type: "object",
      properties: { name: { type: "string", maxLength: 12 }, home: { type: "object", properties: { number: { type: "integer" } }, required: ["number"], additionalProperties: false } },
      required: ["name", "home"],
      additionalProperties: false,
    },
    (value) => [...value.name].length <= 12 && Number.isInteger(value.home.number) && Object.keys(value).join() === "name,home",
  ],
  [
    { type: "array", items: { type: "string" }, minItems: 2, maxItems: 3 },
    (value) => [2, 3].includes(value.length) && value.every((item) => typeof item === "string"),
  ],
  [{ type: "string", pattern: "^[A-Z]{2}-[0-9]{2,3}$" }, (value) => /^[A-Z]{2}-[0-9]{2,3}$/.test(value)],
  [{ type: "number", minimum: 0, maximum: 9.5 }, (value) => value >= 0 && value <= 9.5],
];

for (const [name, model, variant] of [["pocket", pocket, undefined], ["random weights", tinyPath, undefined]]) {
  describe(`responseConstraint, ${name}`, () => {
    let session;
    before(async () => {
      session = await LanguageModel.create({ model, variant, temperature: 1, topK: 200 });
    });
    after(() => session.destroy());

    test("every reply follows its schema, also where it is cut off", async () => {
      let cut = 0;
      for (const [schema, follows] of CASES) {
        for (const maxTokens of [1, 3, 7, 60]) {
          await session.reset();
          const text = await session.prompt(QUESTION, { responseConstraint: schema, maxTokens, seed: maxTokens });
          assert.ok(follows(JSON.parse(text)), text);
          assert.ok(session.lastReply.completionTokens <= maxTokens);
          cut += session.lastReply.finish === "length" ? 1 : 0;
        }
      }
      assert.ok(cut > 5, `${cut} were cut off`);
    });

    test("a stream gives the same, and the next reply is free again", async () => {
      await session.reset();
      const options = { responseConstraint: CASES[1][0], maxTokens: 50, seed: 2 };
      const whole = await session.prompt(QUESTION, options);
      await session.reset();
      assert.equal((await piecesOf(session.promptStreaming(QUESTION, options))).join(""), whole);
      const free = await session.prompt("Go on.", { maxTokens: 8, seed: 3 });
      assert.throws(() => JSON.parse(free));
    });

    test("a schema that cannot be followed is refused, saying where, and the session goes on", async () => {
      const bad = { properties: { a: {}, secret: { pattern: "(secret" } } };
      await assert.rejects(session.prompt(QUESTION, { responseConstraint: bad }), (error) => {
        assert.equal(error.name, "NotSupportedError");
        assert.equal(error.reason, "invalid_constraint");
        assert.match(error.message, /properties\[1\]/);
        return !error.message.includes("secret");
      });
      const deep = Array.from({ length: 5000 }).reduce((items) => ({ type: "array", items }), { type: "null" });
      await assert.rejects(session.prompt(QUESTION, { responseConstraint: deep }), { reason: "invalid_constraint" });
      await assert.rejects(session.prompt(QUESTION, { responseConstraint: {}, stop: "}" }), TypeError);
      assert.ok((await session.prompt("Hello", { maxTokens: 4 })).length >= 0);
    });
  });
}

test("the deepest schema that is allowed fits the module's stack", async () => {
  const session = await LanguageModel.create({ model: tinyPath, temperature: 0, topK: 1 });
  const deepest = Array.from({ length: 63 }).reduce((items) => ({ type: "array", items, minItems: 1, maxItems: 1 }), { type: "null" });
  const text = await session.prompt(QUESTION, { responseConstraint: deepest, maxTokens: 100 });
  assert.equal(text, `${"[".repeat(63)}null${"]".repeat(63)}`);
  session.destroy();
});

test("OpenAI's response_format", async () => {
  const client = await ChatClient.create({ model: tinyPath });
  const body = { messages: [{ role: "user", content: QUESTION }], temperature: 0, max_tokens: 40 };
  const { completions } = client.chat;
  const object = await completions.create({ ...body, response_format: { type: "json_object" } });
  assert.equal(typeof JSON.parse(object.choices[0].message.content), "object");
  const response_format = { type: "json_schema", json_schema: { name: "mood", schema: CASES[0][0] } };
  let text = "";
  for await (const chunk of await completions.create({ ...body, response_format, stream: true })) text += chunk.choices[0].delta.content ?? "";
  assert.ok(CASES[0][1](JSON.parse(text)), text);
  await assert.rejects(completions.create({ ...body, response_format: { type: "xml" } }), TypeError);
  client.destroy();
});
