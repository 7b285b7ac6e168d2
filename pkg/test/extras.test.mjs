// Choices, vectors, log-probabilities, biases, guessed tokens and context shift, with the shipped model.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { ChatClient, LanguageModel } from "../src/index.js";
import { TINY_CONTEXT, tinyPath } from "./support.mjs";

const pocket = new URL("../../models/pocket/meetara-pocket-q4_k_m.gguf", import.meta.url);
const GREEDY = { temperature: 0, topK: 1 };
const QUESTION = "I cannot sleep at night. What can I do?";

describe("extras", () => {
  let session;
  before(async () => {
    session = await LanguageModel.create({ model: pocket, ...GREEDY });
  });
  after(() => session.destroy());

  test("log-probabilities are those of the tokens of the reply", async () => {
    await session.reset();
    const text = await session.prompt(QUESTION, { maxTokens: 8, logprobs: 3 });
    const { logprobs } = session.lastReply;
    assert.equal(logprobs.length, 8);
    assert.equal(Buffer.concat(logprobs.map(({ bytes }) => Buffer.from(bytes))).toString(), text);
    for (const { id, logprob, top } of logprobs) {
      assert.equal(top.length, 3);
      assert.deepEqual([top[0].id, top[0].logprob], [id, logprob]); // drawn greedily
      assert.ok(top[0].logprob <= 0 && top[0].logprob >= top[1].logprob && top[1].logprob >= top[2].logprob);
      assert.ok(top.reduce((sum, other) => sum + Math.exp(other.logprob), 0) <= 1 + 1e-5);
    }
    await session.reset();
    assert.equal(await session.prompt(QUESTION, { maxTokens: 8 }), text);
    assert.equal(session.lastReply.logprobs, null);
  });

  test("a choice has the log-probabilities of its tokens, and changes nothing", async () => {
    await session.reset();
    const text = await session.prompt(QUESTION, { maxTokens: 1, logprobs: 20 });
    const { top } = session.lastReply.logprobs[0];
    await session.reset();
    const whole = [];
    for (const token of top) {
      const ids = await session.tokenize(token.token);
      if (ids.length === 1 && ids[0] === token.id) whole.push(token);
    }
    assert.ok(whole.length >= 2, `${whole.length} of 20 tokens are texts of their own`);
    const used = session.contextUsage;
    const choices = await session.choose(QUESTION, whole.map(({ token }) => token));
    assert.equal(session.contextUsage, used);
    choices.forEach(({ label, logprob }, index) => {
      assert.equal(label, whole[index].token);
      assert.ok(Math.abs(logprob - whole[index].logprob) < 1e-4, `${logprob} and ${whole[index].logprob}`);
    });
    const sum = choices.reduce((all, { probability }) => all + probability, 0);
    assert.ok(Math.abs(sum - 1) < 1e-5, `${sum}`);
    assert.equal(await session.prompt(QUESTION, { maxTokens: 1 }), text);
    await assert.rejects(session.choose(QUESTION, ["yes", "yes"]), { reason: "invalid_request" });
    await assert.rejects(session.choose(QUESTION, []), { reason: "invalid_request" });
    assert.throws(() => session.choose(QUESTION, "yes"), TypeError);
  });

  test("vectors have length 1 and lie nearer for nearer texts", async () => {
    await session.reset();
    await session.prompt(QUESTION, { maxTokens: 4 });
    const dot = (a, b) => a.reduce((sum, x, i) => sum + x * b[i], 0);
    const [a, again, near, far] = await Promise.all([
      "I am so tired, I did not sleep.", "I am so tired, I did not sleep.", "I am tired because I slept badly.",
      "def add(a, b): return a + b",
    ].map((text) => session.embed(text)));
    assert.equal(a.length, 256);
    assert.ok(Math.abs(dot(a, a) - 1) < 1e-5);
    assert.deepEqual(a, again);
    assert.ok(dot(a, near) > dot(a, far), `${dot(a, near)} and ${dot(a, far)}`);
    assert.notDeepEqual(await session.embed("I am so tired, I did not sleep.", { pooling: "last" }), a);
    assert.throws(() => session.embed(7), TypeError);
    // The conversation is still in the cache.
    await session.prompt("Go on.", { maxTokens: 4 });
    assert.ok(session.lastReply.cachedTokens > 10);
  });

  test("a bias bars a token or asks for it", async () => {
    const first = async (logitBias) => {
      await session.reset();
      await session.prompt(QUESTION, { maxTokens: 1, logprobs: true, logitBias });
      return session.lastReply.logprobs[0].id;
    };
    const plain = await first();
    const other = await first({ [plain]: -100 });
    assert.notEqual(other, plain);
    assert.equal(await first([[other, 100]]), other);
    await assert.rejects(session.prompt("Hi", { logitBias: { one: 1 } }), TypeError);
    await assert.rejects(session.prompt("Hi", { logitBias: { 100000: 1 } }), { reason: "invalid_request" });
  });

  test("guessed tokens change no reply", async () => {
    const input = "Say this again: one two three four five six seven eight. one two three four five six seven eight.";
    await session.reset();
    const plain = await session.prompt(input, { maxTokens: 48 });
    assert.equal(session.lastReply.draftedTokens, 0);
    await session.reset();
    assert.equal(await session.prompt(input, { maxTokens: 48, draftMax: 8, lookupNgram: 2 }), plain);
    const { draftedTokens, acceptedTokens } = session.lastReply;
    assert.ok(draftedTokens > 0 && acceptedTokens <= draftedTokens, `${acceptedTokens} of ${draftedTokens}`);
  });

  test("a shifted conversation goes on where the context is full", async () => {
    const shifted = await LanguageModel.create({ model: tinyPath, ...GREEDY, contextShift: true, maxTokens: 24 });
    let dropped = 0;
    for (let turn = 0; turn < 12; turn += 1) {
      await shifted.prompt("Hello again, how is it going?");
      dropped += shifted.lastReply.droppedMessages;
    }
    assert.ok(dropped > 0 && shifted.contextUsage <= TINY_CONTEXT, `${dropped}, ${shifted.contextUsage}`);
    shifted.destroy();
  });

  test("the OpenAI shape has log-probabilities and biases too", async () => {
    const client = await ChatClient.create({ model: pocket });
    const { completions } = client.chat;
    const body = { messages: [{ role: "user", content: QUESTION }], temperature: 0, max_tokens: 4 };
    const { choices } = await completions.create({ ...body, logprobs: true, top_logprobs: 2 });
    const { content } = choices[0].logprobs;
    assert.equal(content.map(({ token }) => token).join(""), choices[0].message.content);
    assert.ok(content.every(({ top_logprobs: top }) => top.length === 2));
    const streamed = [];
    for await (const chunk of await completions.create({ ...body, logprobs: true, stream: true })) {
      streamed.push(...(chunk.choices[0].logprobs?.content ?? []));
    }
    assert.deepEqual(streamed.map(({ token, logprob }) => [token, logprob]), content.map(({ token, logprob }) => [token, logprob]));
    const [id] = await session.tokenize(content[0].token);
    const barred = await completions.create({ ...body, logit_bias: { [id]: -100 } });
    assert.equal(barred.choices[0].logprobs, null);
    assert.notEqual(barred.choices[0].message.content, choices[0].message.content);
    await assert.rejects(completions.create({ ...body, top_logprobs: 2 }), TypeError);
    client.destroy();
  });
});
