// OpenAI's own client library, unchanged, talks to meetara-host.
//
// Needs `cargo build --release -p meetara-host` and `cargo xtask wasm component`; uses the tiny
// random-weight model, whose greedy replies always run to their limit.

import assert from "node:assert/strict";
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

import { startHost } from "./_host.mjs";
import { assertMood, moodFormat } from "./_mood.mjs";
import OpenAI, { APIError, BadRequestError, NotFoundError } from "openai";

const root = join(dirname(fileURLToPath(import.meta.url)), "../..");
const model = "meetara:tiny";
const messages = [
  { role: "system", content: "Be brief." },
  { role: "user", content: [{ type: "text", text: "What is the best way to learn a thing?" }] },
];
const greedy = { model, messages, temperature: 0, max_completion_tokens: 24 };

const checks = {
  async "models are listed and found"(client) {
    const ids = [];
    for await (const found of client.models.list()) ids.push(found.id);
    assert.deepEqual(ids, [model, "meetara:auto"]);
    assert.equal((await client.models.retrieve(model)).object, "model");
  },

  async "a whole reply"(client) {
    const reply = await client.chat.completions.create(greedy);
    assert.equal(reply.object, "chat.completion");
    assert.equal(reply.choices[0].finish_reason, "length");
    assert.equal(reply.choices[0].message.role, "assistant");
    assert.ok(reply.choices[0].message.content.length > 0);
    assert.equal(reply.usage.completion_tokens, 24);
    assert.equal(reply.usage.total_tokens, reply.usage.prompt_tokens + 24);
    assert.match(reply._request_id, /^req_/);
  },

  async "a stream says the same"(client) {
    const whole = await client.chat.completions.create(greedy);
    const stream = await client.chat.completions.create({ ...greedy, stream: true, stream_options: { include_usage: true } });
    let text = "";
    let finish = null;
    let usage = null;
    for await (const chunk of stream) {
      text += chunk.choices[0]?.delta?.content ?? "";
      finish = chunk.choices[0]?.finish_reason ?? finish;
      usage = chunk.usage ?? usage;
    }
    assert.equal(text, whole.choices[0].message.content);
    assert.equal(finish, "length");
    assert.equal(usage.completion_tokens, 24);
  },

  async "the library's own accumulator agrees"(client) {
    const whole = await client.chat.completions.create(greedy);
    const runner = client.chat.completions.stream(greedy);
    const final = await runner.finalChatCompletion();
    assert.equal(final.choices[0].message.content, whole.choices[0].message.content);
    assert.equal(final.choices[0].finish_reason, "length");
  },

  async "an aborted stream leaves the model free"(client) {
    const stream = await client.chat.completions.create({ model, messages, stream: true });
    for await (const _ of stream) {
      stream.controller.abort();
      break;
    }
    const reply = await client.chat.completions.create(greedy, { timeout: 10_000 });
    assert.equal(reply.usage.completion_tokens, 24);
  },

  async "extensions pass through"(client) {
    const reply = await client.chat.completions.create({ ...greedy, temperature: 1.5, seed: 3, top_k: 1, min_p: 0.05, repeat_penalty: 1.1, n: 2 });
    assert.equal(reply.choices.length, 2);
    assert.equal(reply.choices[0].message.content, reply.choices[1].message.content);
  },

  async "an answer follows its schema, whole, streamed and cut off"(client) {
    for (const [max_completion_tokens, reason] of [[160, "stop"], [3, "length"]]) {
      const body = { ...greedy, max_completion_tokens, response_format: moodFormat };
      const whole = await client.chat.completions.create(body);
      assertMood(whole.choices[0].message.content);
      assert.equal(whole.choices[0].finish_reason, reason);
      let text = "";
      for await (const chunk of await client.chat.completions.create({ ...body, stream: true })) text += chunk.choices[0]?.delta?.content ?? "";
      assert.equal(text, whole.choices[0].message.content);
    }
    const parsed = await client.chat.completions.parse({ ...greedy, max_completion_tokens: 160, response_format: moodFormat });
    assertMood(JSON.stringify(parsed.choices[0].message.parsed));
    JSON.parse((await client.chat.completions.create({ ...greedy, response_format: { type: "json_object" } })).choices[0].message.content);
    const said = await client.chat.completions.create({ ...greedy, grammar: "start: \"yes\" | \"no\"" });
    assert.match(said.choices[0].message.content, /^(yes|no)$/);
    const bad = { type: "json_schema", json_schema: { name: "bad", schema: { properties: { a: { not: {} } } } } };
    await assert.rejects(client.chat.completions.create({ ...greedy, response_format: bad }), (error) => error instanceof BadRequestError && error.param === "response_format" && error.message.includes("properties[0]"));
  },

  async "what was read comes with the reply, whole and streamed"(client) {
    const asked = { ...greedy, model: "meetara:auto", meetara: { emotion: true }, messages: [{ role: "user", content: "I miss my dad so much, I cry every day." }] };
    const whole = await client.chat.completions.create(asked);
    assert.equal(whole.meetara.emotion.primary_emotion, "sadness");
    assert.equal(whole.meetara.safety.flagged, false);
    const final = await client.chat.completions.stream(asked).finalChatCompletion();
    assert.deepEqual(final.meetara, whole.meetara);
    assert.equal(final.choices[0].message.content, whole.choices[0].message.content);
  },

  async "danger is answered with help"(client) {
    const asked = { ...greedy, meetara: { region: "DE" }, messages: [{ role: "user", content: "I want to kill myself" }] };
    const whole = await client.chat.completions.create(asked);
    assert.equal(whole.choices[0].finish_reason, "content_filter");
    assert.match(whole.choices[0].message.content, /112/);
    const final = await client.chat.completions.stream(asked).finalChatCompletion();
    assert.equal(final.choices[0].message.content, whole.choices[0].message.content);
    assert.equal(final.meetara.safety.category, "mental_health");
  },

  async "errors are the library's own classes"(client) {
    await assert.rejects(client.chat.completions.create({ ...greedy, model: "meetara:none" }), (error) => error instanceof NotFoundError && error.code === "model_not_found" && error.param === "model");
    const long = [{ role: "user", content: "far too long ".repeat(300) }];
    for (const stream of [false, true]) {
      await assert.rejects(client.chat.completions.create({ ...greedy, messages: long, stream }), (error) => error instanceof BadRequestError && error.code === "context_length_exceeded");
    }
    await assert.rejects(client.chat.completions.create({ ...greedy, model: "meetara:broken" }), (error) => error instanceof APIError && error.status === 503 && error.code === "model_unavailable");
  },
};

const folder = mkdtempSync(join(tmpdir(), "meetara-openai-"));
let host;
try {
  const models = join(folder, "models");
  mkdirSync(models);
  copyFileSync(join(root, "tests/vectors/tiny/tiny-q8_0.gguf"), join(models, "tiny.gguf"));
  copyFileSync(join(root, "models/emotion/text-emotion.gguf"), join(models, "text-emotion.gguf"));
  writeFileSync(join(models, "broken.gguf"), "GGUF, but not really");
  host = await startHost("rest", ["--models", models]);
  const client = new OpenAI({ baseURL: `${host.address}/v1`, apiKey: "unused", maxRetries: 0, timeout: 60_000 });
  for (const [name, check] of Object.entries(checks)) {
    await check(client);
    console.log(`ok  ${name}`);
  }
  assert.equal(await host.stop(), 0, "the host ends cleanly");
  console.log(`openai_client: ${Object.keys(checks).length} checks passed`);
} finally {
  await host?.stop();
  rmSync(folder, { recursive: true, force: true });
}
