// `chat.completions.create` in OpenAI's shape.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { ChatClient } from "../src/index.js";
import { tinyPath } from "./support.mjs";

const messages = [{ role: "system", content: "Be kind." }, { role: "user", content: "Hello" }];

describe("ChatClient", () => {
  let client;
  before(async () => {
    client = await ChatClient.create({ model: tinyPath });
  });
  after(() => client.destroy());

  test("completes", async () => {
    const reply = await client.chat.completions.create({ model: "any", messages, temperature: 0, max_tokens: 8 });
    assert.equal(reply.object, "chat.completion");
    assert.match(reply.id, /^chatcmpl-/);
    assert.equal(reply.model, "meetara-tiny-random");
    const [choice] = reply.choices;
    assert.equal(choice.finish_reason, "length");
    assert.equal(choice.message.role, "assistant");
    assert.ok(choice.message.content.length > 0);
    assert.equal(reply.usage.completion_tokens, 8);
    assert.equal(reply.usage.total_tokens, reply.usage.prompt_tokens + 8);
  });

  test("streams the same text", async () => {
    const body = { messages, temperature: 0, max_completion_tokens: 8 };
    const whole = await client.chat.completions.create(body);
    const stream = await client.chat.completions.create({ ...body, stream: true, stream_options: { include_usage: true } });
    const chunks = [];
    for await (const chunk of stream) chunks.push(chunk);
    assert.deepEqual(chunks[0].choices[0].delta, { role: "assistant", content: "" });
    const text = chunks.map((chunk) => chunk.choices[0]?.delta.content ?? "").join("");
    assert.equal(text, whole.choices[0].message.content);
    assert.equal(chunks.at(-2).choices[0].finish_reason, "length");
    assert.deepEqual(chunks.at(-1).choices, []);
    assert.equal(chunks.at(-1).usage.completion_tokens, 8);
    assert.ok(chunks.every((chunk) => chunk.object === "chat.completion.chunk" && chunk.id === chunks[0].id));
  });

  test("leaving a stream early stops the reply", async () => {
    const stream = await client.chat.completions.create({ messages, stream: true });
    let count = 0;
    for await (const _chunk of stream) if (++count === 4) break;
    const next = await client.chat.completions.create({ messages, max_tokens: 2 });
    assert.equal(next.usage.completion_tokens, 2);
  });

  test("a stop string ends the reply and is not in it", async () => {
    const body = { messages, temperature: 0, max_tokens: 40 };
    const { content } = (await client.chat.completions.create(body)).choices[0].message;
    const stop = content.slice(5, 8);
    const cut = (await client.chat.completions.create({ ...body, stop })).choices[0];
    assert.equal(cut.finish_reason, "stop");
    assert.equal(cut.message.content, content.slice(0, content.indexOf(stop)));
  });

  test("an abort is an AbortError", async () => {
    const controller = new AbortController();
    const stream = await client.chat.completions.create({ messages, stream: true }, { signal: controller.signal });
    await assert.rejects(async () => {
      let count = 0;
      for await (const _chunk of stream) if (++count === 3) controller.abort();
    }, { name: "AbortError" });
  });

  test("what is not supported is named", async () => {
    const create = (extra) => client.chat.completions.create({ messages, ...extra });
    await assert.rejects(create({ functions: [] }), /functions is not supported/);
    await assert.rejects(create({ top_logprobs: 2 }), /logprobs/);
    await assert.rejects(create({ n: 2 }), /n is not supported/);
    await assert.rejects(create({ tools: [{}] }), { name: "NotSupportedError" });
    await assert.rejects(create({ messages: [] }), /messages/);
    await assert.rejects(create({ top_p: 7 }), /top_p/);
    await assert.rejects(create({ max_tokens: 0 }), /max_tokens/);
  });
});
