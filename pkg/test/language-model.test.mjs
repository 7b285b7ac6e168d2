// The Prompt API over the real engine, in Node.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { pickVariant } from "../src/engine.js";
import { LanguageModel } from "../src/index.js";
import { TINY_CONTEXT, piecesOf, tinyBytes, tinyPath, tinyUrl } from "./support.mjs";

const GREEDY = { model: tinyPath, temperature: 0, topK: 1 };

describe("LanguageModel", () => {
  let session;
  before(async () => {
    session = await LanguageModel.create(GREEDY);
  });
  after(() => session.destroy());

  test("says what it opened", () => {
    assert.equal(session.info.name, "meetara-tiny-random");
    assert.equal(session.info.architecture, "llama");
    assert.equal(session.info.file_bytes, tinyBytes.length);
    assert.equal(session.info.context_len, TINY_CONTEXT);
    assert.ok(session.info.parameters > 200_000 && session.info.parameters < 230_000, `${session.info.parameters}`);
    assert.equal(session.contextWindow, TINY_CONTEXT);
    assert.equal(session.contextUsage, 0);
    assert.equal(session.source.from, "file");
    assert.equal(session.source.variant, pickVariant());
    assert.ok(session.memoryBytes > tinyBytes.length && session.memoryBytes < 16e6, `${session.memoryBytes}`);
  });

  test("runs on the CPU, and says why where a GPU is asked for", async () => {
    assert.deepEqual([session.device.type, session.device.reason, session.device.message], ["cpu", null, null]);
    for (const device of ["auto", "gpu"]) {
      // Node has no WebGPU.
      const other = await LanguageModel.create({ ...GREEDY, device });
      assert.deepEqual([other.device.type, other.device.reason], ["cpu", "no_adapter"]);
      assert.match(other.device.message, /no GPU/);
      assert.equal(other.source.variant, pickVariant());
      other.destroy();
    }
    await assert.rejects(LanguageModel.create({ ...GREEDY, device: "tpu" }), /device must be one of auto, cpu, gpu/);
  });

  test("streams the same text that it gives as a whole", async () => {
    await session.reset();
    const pieces = await piecesOf(session.promptStreaming("Hello", { maxTokens: 24 }));
    assert.ok(pieces.length > 5, `${pieces.length} pieces`);
    const stats = session.lastReply;
    assert.equal(stats.finish, "length");
    assert.equal(stats.completionTokens, 24);
    assert.ok(stats.firstTokenMs > 0 && stats.tokensPerSecond > 0);
    await session.reset();
    assert.equal(await session.prompt("Hello", { maxTokens: 24 }), pieces.join(""));
  });

  test("says what a reply's time went into when asked to", async () => {
    await session.reset();
    const text = await session.prompt("Hello", { maxTokens: 4, profile: true });
    const { profile, firstTokenMs } = session.lastReply;
    const phases = (spans) => new Set(spans.map((span) => span.phase));
    for (const phase of ["embedding", "norm", "rope", "attention", "ffn_down", "logits", "sampling"]) {
      assert.ok(phases(profile.prompt).has(phase) && phases(profile.reply).has(phase), phase);
    }
    const sum = profile.prompt.reduce((ms, span) => ms + span.ms, 0);
    assert.ok(sum > 0 && sum <= firstTokenMs, `${sum} of ${firstTokenMs} ms`);
    assert.equal(profile.reply.find((span) => span.phase === "logits").calls, 3);
    await session.reset();
    assert.equal(await session.prompt("Hello", { maxTokens: 4 }), text);
    assert.equal(session.lastReply.profile, null);
  });

  test("remembers the conversation, and the engine its cache", async () => {
    await session.reset();
    await session.prompt("One", { maxTokens: 4 });
    const used = session.contextUsage;
    await session.prompt("Two", { maxTokens: 4 });
    assert.ok(session.contextUsage > used + 4);
    assert.ok(session.lastReply.cachedTokens > 0);
  });

  test("a seed repeats a drawn reply, another seed does not", async () => {
    const reply = async (seed) => {
      const drawn = await LanguageModel.create({ model: tinyUrl, temperature: 1, topK: 50 });
      try {
        return await drawn.prompt("Hello", { seed, maxTokens: 16 });
      } finally {
        drawn.destroy();
      }
    };
    const [a, b, c] = [await reply(1), await reply(1), await reply(2)];
    assert.equal(a, b);
    assert.notEqual(a, c);
  });

  test("measures what a prompt would take", async () => {
    await session.reset();
    const short = await session.measureContextUsage("Hi");
    const long = await session.measureContextUsage("Hi ".repeat(20));
    assert.ok(short > 0 && long > short);
    await session.append("Hi");
    assert.equal(session.contextUsage, short);
  });

  test("a clone goes its own way", async () => {
    await session.reset();
    await session.append([{ role: "user", content: "Hello" }, { role: "assistant", content: "Hi" }]);
    const clone = await session.clone();
    assert.equal(clone.contextUsage, session.contextUsage);
    await clone.prompt("More", { maxTokens: 4 });
    assert.ok(clone.contextUsage > session.contextUsage);
    clone.destroy();
    assert.equal(typeof (await session.prompt("Still here?", { maxTokens: 2 })), "string");
  });

  test("prompts wait for one another", async () => {
    await session.reset();
    const order = [];
    await Promise.all([1, 2, 3].map((n) => session.prompt(`n${n}`, { maxTokens: 3 }).then(() => order.push(n))));
    assert.deepEqual(order, [1, 2, 3]);
  });
});

describe("aborting", () => {
  let session;
  before(async () => {
    session = await LanguageModel.create(GREEDY);
  });
  after(() => session.destroy());

  test("takes effect within one token and takes the pair out of the session", async () => {
    const controller = new AbortController();
    const pieces = [];
    const stream = session.promptStreaming("Go on", { signal: controller.signal });
    await assert.rejects(async () => {
      for await (const piece of stream) {
        pieces.push(piece);
        if (pieces.length === 3) controller.abort();
      }
    }, { name: "AbortError" });
    assert.ok(pieces.length <= 5, `${pieces.length} pieces came`);
    assert.equal(session.contextUsage, 0);
    assert.equal(typeof (await session.prompt("Again", { maxTokens: 2 })), "string");
  });

  test("ends the work in the worker too", async () => {
    const timed = async (action) => {
      const began = performance.now();
      await action();
      return performance.now() - began;
    };
    await session.reset();
    const whole = await timed(() => session.prompt("Go on"));
    await session.reset();
    const controller = new AbortController();
    const reader = session.promptStreaming("Go on", { signal: controller.signal }).getReader();
    await reader.read();
    controller.abort();
    await assert.rejects(reader.read(), { name: "AbortError" });
    // Were the worker still at it, this would wait for some 200 tokens.
    const next = await timed(() => session.prompt("Again", { maxTokens: 2 }));
    assert.ok(next < whole / 2, `${next} ms after an abort, ${whole} ms for a whole reply`);
    await session.reset();
  });

  test("a prompt in the line leaves it", async () => {
    const controller = new AbortController();
    const first = session.prompt("First", { maxTokens: 8 });
    const second = session.prompt("Second", { signal: controller.signal });
    controller.abort();
    await assert.rejects(second, { name: "AbortError" });
    assert.equal(typeof (await first), "string");
  });

  test("cancelling the stream aborts", async () => {
    const reader = session.promptStreaming("Go on").getReader();
    await reader.read();
    await reader.cancel();
    assert.equal(typeof (await session.prompt("Again", { maxTokens: 2 })), "string");
  });

  test("the given reason is the error", async () => {
    const reason = new Error("enough");
    await assert.rejects(session.prompt("x", { signal: AbortSignal.abort(reason) }), (error) => error === reason);
  });

  test("destroying ends what is under way, and creating can be aborted", async () => {
    const other = await LanguageModel.create(GREEDY);
    const pending = other.prompt("Go on");
    other.destroy();
    await assert.rejects(pending, { name: "AbortError" });
    await assert.rejects(other.prompt("x"), { name: "AbortError" });
    await assert.rejects(LanguageModel.create({ ...GREEDY, signal: AbortSignal.abort() }), { name: "AbortError" });
  });
});

describe("a full context", () => {
  test("is an error with numbers, loses nothing, and fires the event", async () => {
    const session = await LanguageModel.create(GREEDY);
    let events = 0;
    session.oncontextoverflow = () => {
      events += 1;
    };
    await session.prompt("Hello", { maxTokens: 8 });
    const used = session.contextUsage;
    await assert.rejects(session.prompt("word ".repeat(400)), (error) => {
      assert.equal(error.name, "QuotaExceededError");
      assert.equal(error.quota, TINY_CONTEXT);
      assert.ok(error.requested > TINY_CONTEXT);
      return true;
    });
    assert.equal(events, 1);
    assert.equal(session.contextUsage, used);
    await session.prompt("Short", { maxTokens: 4 });
    session.destroy();
  });

  test("ends a reply with finish length", async () => {
    const session = await LanguageModel.create({ ...GREEDY, contextMax: 64 });
    assert.equal(session.contextWindow, 64);
    let events = 0;
    session.addEventListener("contextoverflow", () => {
      events += 1;
    });
    await session.prompt("Hello");
    assert.equal(session.lastReply.finish, "length");
    assert.equal(session.contextUsage, 64);
    assert.equal(events, 1);
    session.destroy();
  });

  test("initial prompts that fill it are refused", async () => {
    const initialPrompts = [{ role: "system", content: "word ".repeat(400) }];
    await assert.rejects(LanguageModel.create({ ...GREEDY, initialPrompts }), { name: "QuotaExceededError" });
  });
});

describe("initial prompts", () => {
  test("are there from the start and stay after a reset", async () => {
    const initialPrompts = [
      { role: "system", content: "Be kind." },
      { role: "user", content: [{ type: "text", value: "Hel" }, { type: "text", value: "lo" }] },
      { role: "assistant", content: "Hi" },
    ];
    const session = await LanguageModel.create({ ...GREEDY, initialPrompts });
    const used = session.contextUsage;
    assert.ok(used > 0);
    await session.prompt("More", { maxTokens: 2 });
    await session.reset();
    assert.equal(session.contextUsage, used);
    session.destroy();
  });
});

describe("wrong arguments", () => {
  const cases = [
    ["no model", {}, TypeError],
    ["a temperature below 0", { ...GREEDY, temperature: -1 }, RangeError],
    ["a topK below 1", { ...GREEDY, topK: 0 }, RangeError],
    ["a mode and a temperature", { ...GREEDY, samplingMode: "creative" }, TypeError],
    ["an unknown mode", { model: tinyPath, samplingMode: "wild" }, TypeError],
    ["a late system message", { ...GREEDY, initialPrompts: [{ role: "user", content: "a" }, { role: "system", content: "b" }] }, TypeError],
    ["an unknown role", { ...GREEDY, initialPrompts: [{ role: "robot", content: "a" }] }, TypeError],
    ["images", { ...GREEDY, expectedInputs: [{ type: "image" }] }, "NotSupportedError"],
    ["tools", { ...GREEDY, tools: [{ name: "t" }] }, "NotSupportedError"],
    ["a broken sha256", { ...GREEDY, sha256: "12" }, TypeError],
  ];
  for (const [what, options, expected] of cases) {
    test(`${what}: refused`, async () => {
      await assert.rejects(LanguageModel.create(options), typeof expected === "string" ? { name: expected } : expected);
    });
  }

  test("parameters out of range are named by the engine", async () => {
    const session = await LanguageModel.create(GREEDY);
    await assert.rejects(session.prompt("x", { topP: 2 }), (error) => error instanceof TypeError && /top_p/.test(error.message));
    await assert.rejects(session.prompt("x", { responseConstraint: /x/ }), { name: "NotSupportedError" });
    await assert.rejects(session.prompt("x", { responseConstraint: "{}" }), TypeError);
    await assert.rejects(session.prompt([{ role: "user", content: [{ type: "image", value: 1 }] }]), { name: "NotSupportedError" });
    assert.throws(() => new LanguageModel(), TypeError);
    session.destroy();
  });
});
