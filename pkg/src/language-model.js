// The W3C Prompt API's `LanguageModel` over our own runtime.
//
// The conversation is held here as a list of messages. Each prompt sends the
// whole list; the engine finds what its KV cache already holds and evaluates
// only the rest. One prompt runs at a time in a session, the others wait.

import { openFile } from "#platform";
import { Adapters } from "./adapters.js";
import { abortError, quotaExceeded } from "./errors.js";
import { Listener, piecesOf, textsToHear } from "./listener.js";
import { models } from "./models.js";
import { orderOf, placeOf } from "./order.js";
import { canonicalPrompt, directParams, freshSeed, readable, refuseUnsupported, samplingParams, schemaText } from "./prompt.js";
import { progressReporter, withHandlerProperty } from "./progress.js";
import { Runtime } from "./runtime.js";

const PRIVATE = Symbol("LanguageModel");

export class LanguageModel extends EventTarget {
  #runtime;
  #session;
  #initial;
  #history;
  #sampling;
  #options;
  #contextWindow;
  #contextUsage = 0;
  #tail = Promise.resolve();
  #destroyed = new AbortController();
  #lastReply = null;
  #device;
  #adapters;
  #listener;
  /** So many messages of the history were read, if there is a reader. */
  #heard;

  constructor(token, parts) {
    if (token !== PRIVATE) throw new TypeError("Use LanguageModel.create().");
    super();
    withHandlerProperty(this, "contextoverflow");
    withHandlerProperty(this, "devicechange");
    this.#device = parts.device;
    this.#runtime = parts.runtime;
    this.#adapters = new Adapters(parts.runtime, parts.adapters);
    this.#session = parts.session;
    this.#contextWindow = parts.contextWindow;
    this.#initial = parts.initial;
    this.#history = [...parts.history];
    this.#sampling = parts.sampling;
    this.#options = parts.options;
    this.#contextUsage = parts.contextUsage ?? 0;
    this.#listener = parts.listener && new Listener(this, parts.listener);
    this.#heard = parts.heard ?? 0;
  }

  /**
   * "available" when a model can be opened without the network, "downloadable"
   * when it must be fetched, "unavailable" when this place cannot run it.
   */
  static async availability(options = {}) {
    try {
      refuseUnsupported(options);
      samplingParams(options);
    } catch (error) {
      if (error instanceof DOMException) return "unavailable";
      throw error;
    }
    const order = orderOf(options);
    if (typeof WebAssembly !== "object") return "unavailable";
    if (order.data) return "available";
    const key = order.stored ?? order.key;
    if (key && (await models.has(key))) return "available";
    if (order.stored) return "unavailable";
    const file = await openFile(order.url).catch(() => null);
    await file?.close();
    return file ? "available" : order.url.startsWith("file:") ? "unavailable" : "downloadable";
  }

  /** Loads a model and opens a session with it. See types/index.d.ts for the options. */
  static async create(options = {}) {
    refuseUnsupported(options);
    const { signal, monitor, initialPrompts = [], contextMax, adapterBytesMax } = options;
    signal?.throwIfAborted();
    const sampling = samplingParams(options);
    const initial = initialPrompts.length ? canonicalPrompt(initialPrompts, false) : [];
    const listener = Listener.check(options.emotion);
    const request = { order: orderOf(options), ...placeOf(options), adapterBytesMax };
    const progress = progressReporter(monitor);
    const runtime = await Runtime.start(request, { signal, onProgress: progress?.onProgress });
    try {
      progress?.done();
      const model = await LanguageModel.#open({ runtime, initial, history: [], sampling, listener, options: { contextMax } }, signal);
      // Behind the model, which is there sooner.
      model.#listener?.begin();
      signal?.addEventListener("abort", () => model.#end(signal.reason), { once: true });
      return model;
    } catch (error) {
      runtime.release();
      throw error;
    }
  }

  static async #open(parts, signal) {
    const { contextMax } = parts.options;
    const opened = await parts.runtime.request("open", { contextMax }, { signal });
    const model = new LanguageModel(PRIVATE, { ...parts, ...opened });
    if (parts.initial.length && parts.contextUsage === undefined) {
      model.#contextUsage = await model.#measure(parts.initial, false, signal);
      if (model.#contextUsage >= model.#contextWindow) {
        throw model.#quotaError("The initial prompts fill the whole context", model.#contextUsage);
      }
    }
    return model;
  }

  /** Tokens of the context that the conversation takes. */
  get contextUsage() {
    return this.#contextUsage;
  }

  /** Tokens that the context holds. */
  get contextWindow() {
    return this.#contextWindow;
  }

  get temperature() {
    return this.#sampling.params.temperature;
  }

  get topK() {
    return this.#sampling.params.top_k;
  }

  get samplingMode() {
    return this.#sampling.mode;
  }

  /** What the model's file says of itself. */
  get info() {
    return { ...this.#runtime.loaded.info };
  }

  /** Where the model came from: "store", "file", "network" or "data"; and whether it is kept for next time. */
  get source() {
    const { from, kept, variant } = this.#runtime.loaded;
    return { from, kept, variant };
  }

  /** Where this session's tokens are computed, and why not on the GPU if it was asked for. See types/index.d.ts. */
  get device() {
    return { ...this.#device };
  }

  /** The LoRA adapters of the model, and those that are on in this session. */
  get adapters() {
    return this.#adapters;
  }

  /** How the person feels, as far as it was read; null while that is off, or nothing was read. */
  get emotion() {
    return structuredClone(this.#listener?.emotion ?? null);
  }

  /** The feelings after each message that was read, the oldest first. */
  get emotionTurns() {
    return structuredClone(this.#listener?.emotionTurns ?? []);
  }

  /** Which domain the last message belongs to; null where nothing was read. */
  get domain() {
    return structuredClone(this.#listener?.domain ?? null);
  }

  /** What the gate says of the last message; null where there is no reader. */
  get safety() {
    const safety = this.#listener?.safety;
    return safety ? { ...safety } : null;
  }

  /** Whether feelings are read. Set to false, what was read of them is forgotten. */
  get readsEmotion() {
    return this.#listener?.on ?? false;
  }

  set readsEmotion(on) {
    if (!this.#listener) throw new TypeError("The session was created without emotion: { model }.");
    this.#listener.on = on;
  }

  /** The region, such as "DE", whose help lines are named; null for none in particular. */
  get region() {
    return this.#listener?.region ?? null;
  }

  set region(region) {
    if (!this.#listener) throw new TypeError("The session was created without emotion: { model }.");
    this.#listener.region = region;
  }

  /** Memory that the engine holds for this model and all its sessions, in bytes. */
  get memoryBytes() {
    return this.#runtime.memoryBytes;
  }

  /** What the last reply cost, or null. */
  get lastReply() {
    return this.#lastReply;
  }

  /** Asks and waits for the whole reply. */
  async prompt(input, options = {}) {
    let text = "";
    await this.#ask(input, options, (delta) => {
      text += delta;
    });
    return text;
  }

  /** Asks; the stream gives the reply piece by piece. Cancelling it aborts. */
  promptStreaming(input, options = {}) {
    const cancel = new AbortController();
    const signal = options.signal ? AbortSignal.any([options.signal, cancel.signal]) : cancel.signal;
    return new ReadableStream({
      start: (controller) => {
        this.#ask(input, { ...options, signal }, (delta) => controller.enqueue(delta)).then(
          () => controller.close(),
          (error) => {
            if (!cancel.signal.aborted) controller.error(error);
          },
        );
      },
      cancel: () => cancel.abort(abortError()),
    }, { highWaterMark: Infinity });
  }

  /** Adds messages without asking for a reply. */
  append(input, { signal } = {}) {
    return this.#inTurn(signal, async (both) => {
      const messages = [...this.#history, ...canonicalPrompt(input, this.#hasMessages())];
      const usage = await this.#measure([...this.#initial, ...messages], false, both);
      if (usage >= this.#contextWindow && !this.#sampling.params.context_shift) throw this.#overflow(usage);
      this.#history = messages;
      this.#contextUsage = Math.min(usage, this.#contextWindow);
    });
  }

  /**
   * How likely the model finds each label as its reply to `input`: `{ label, probability, logprob }` in the order of
   * `labels`; the probabilities add up to 1. The conversation is looked at and not changed.
   */
  choose(input, labels, { signal, adapters } = {}) {
    const added = canonicalPrompt(input, this.#hasMessages());
    if (!Array.isArray(labels) || labels.some((label) => typeof label !== "string")) throw new TypeError("labels must be a list of strings.");
    const mix = this.#adapters.for(adapters);
    return this.#inTurn(signal, async (both) => {
      const messages = [...this.#initial, ...this.#history, ...added];
      try {
        const { scores } = await this.#runtime.request("choose", { session: this.#session, messages, labels, adapters: mix }, { signal: both });
        return labels.map((label, index) => ({ label, probability: scores[2 * index], logprob: scores[2 * index + 1] }));
      } catch (error) {
        if (error?.reason !== "context_overflow") throw error;
        throw this.#overflow(await this.#measure(messages, true, both));
      }
    });
  }

  /**
   * The vector of a text, of length 1: the mean over its tokens' states, or with `pooling: "last"` the last token's.
   * The conversation has no part in it.
   */
  embed(text, { pooling = "mean", signal, adapters } = {}) {
    if (typeof text !== "string") throw new TypeError("The text to embed must be a string.");
    if (pooling !== "mean" && pooling !== "last") throw new TypeError('pooling must be "mean" or "last".');
    const mix = this.#adapters.for(adapters);
    return this.#inTurn(signal, async (both) => {
      const request = { text, last: pooling === "last", contextMax: this.#options.contextMax, adapters: mix };
      return (await this.#runtime.request("embed", request, { signal: both })).embedding;
    });
  }

  /** The ids of a text's tokens, such as `logitBias` takes. */
  async tokenize(text, { signal } = {}) {
    if (typeof text !== "string") throw new TypeError("The text must be a string.");
    return [...(await this.#runtime.request("tokenize", { text }, { signal: this.#signals(signal) })).ids];
  }

  /** Tokens that `input` would add to the context. */
  async measureContextUsage(input, options = {}) {
    refuseUnsupported(options);
    const added = canonicalPrompt(input, this.#hasMessages());
    const before = [...this.#initial, ...this.#history];
    const all = await this.#measure([...before, ...added], false, options.signal);
    return all - (before.length ? await this.#measure(before, false, options.signal) : 0);
  }

  /** A session with the same conversation that goes its own way. */
  async clone({ signal } = {}) {
    const both = this.#signals(signal);
    both.throwIfAborted();
    this.#runtime.retain();
    const listener = this.#listener?.copy();
    try {
      return await LanguageModel.#open({
        runtime: this.#runtime,
        initial: this.#initial,
        history: this.#history,
        sampling: this.#sampling,
        options: this.#options,
        adapters: this.#adapters.active,
        contextUsage: this.#contextUsage,
        listener,
        heard: this.#heard,
      }, both);
    } catch (error) {
      listener?.hold.release();
      this.#runtime.release();
      throw error;
    }
  }

  /** Forgets the conversation but for the initial prompts. The engine's memory is kept for the next one. */
  reset() {
    return this.#inTurn(undefined, async (signal) => {
      const usage = this.#initial.length ? await this.#measure(this.#initial, false, signal) : 0;
      this.#history = [];
      this.#contextUsage = usage;
      this.#lastReply = null;
      this.#heard = 0;
      this.#listener?.forget();
    });
  }

  /** Ends the session; the last session of a model gives its memory back. */
  destroy() {
    this.#end(abortError("The session was destroyed."));
  }

  #end(reason) {
    if (this.#destroyed.signal.aborted) return;
    this.#destroyed.abort(reason);
    this.#listener?.release();
    this.#runtime.request("close", { session: this.#session }).catch(() => {}).finally(() => this.#runtime.release());
  }

  #hasMessages() {
    return this.#initial.length + this.#history.length > 0;
  }

  #signals(signal) {
    return signal ? AbortSignal.any([this.#destroyed.signal, signal]) : this.#destroyed.signal;
  }

  /** Runs `action` after everything that was asked before; an abort takes it out of the line. */
  #inTurn(signal, action) {
    const both = this.#signals(signal);
    const result = this.#tail.then(() => {
      both.throwIfAborted();
      return action(both);
    });
    this.#tail = result.catch(() => {});
    return both.aborted ? Promise.reject(both.reason) : rejectOnAbort(result, both);
  }

  async #measure(messages, reply, signal) {
    const { tokens } = await this.#runtime.request("measure", { messages, reply }, { signal });
    return tokens;
  }

  #quotaError(what, requested) {
    const quota = this.#contextWindow;
    return quotaExceeded(`${what}: ${requested} tokens of ${quota}. Shorten it or start a new session.`, { requested, quota });
  }

  #overflow(requested) {
    this.dispatchEvent(new Event("contextoverflow"));
    return this.#quotaError("The conversation no longer fits the context", requested);
  }

  async #ask(input, options, onText) {
    refuseUnsupported(options);
    const schema = schemaText(options.responseConstraint);
    const added = canonicalPrompt(input, this.#hasMessages());
    const params = { ...this.#sampling.params, ...directParams(options) };
    params.seed ??= freshSeed();
    const adapters = this.#adapters.for(options.adapters);
    if (schema !== undefined && params.stop?.length) throw new TypeError("stop would end a reply before it follows its responseConstraint.");
    return this.#inTurn(options.signal, async (signal) => {
      const history = [...this.#history, ...added];
      const heard = await this.#listener?.hear(textsToHear(history.slice(this.#heard)), signal);
      if (heard?.help) return this.#giveHelp(history, heard.help, onText);
      try {
        await this.#generate(history, { params, adapters, schema, profile: options.profile === true }, onText, signal);
      } catch (error) {
        heard?.undo();
        throw error;
      }
      if (heard) this.#heard = this.#history.length;
    });
  }

  /** The fixed text in place of the model's reply. */
  async #giveHelp(history, help, onText) {
    for (const piece of piecesOf(help)) onText(piece);
    this.#history = [...history, { role: "assistant", content: HELP_GIVEN }];
    this.#heard = this.#history.length;
    this.#lastReply = { ...NO_COST, safety: this.safety };
    // Who needs help has it, whatever comes of this.
    const usage = await this.#measure([...this.#initial, ...this.#history], false).catch(() => 0);
    this.#contextUsage = Math.min(usage, this.#contextWindow);
  }

  async #generate(history, { params, adapters, schema, profile }, onText, signal) {
    const all = [...this.#initial, ...history];
    const messages = this.#listener?.told(all) ?? all;
    let text = "";
    const logprobs = [];
    const onEvent = (event) => {
      if (event.event === "device") {
        this.#device = event.device;
        this.dispatchEvent(new Event("devicechange"));
      }
      if (event.event !== "text") return;
      if (event.logprobs) logprobs.push({ ...readable(event.logprobs.token), top: event.logprobs.top.map(readable) });
      text += event.text;
      if (event.text) onText(event.text);
    };
    let reply;
    try {
      const request = { session: this.#session, messages, params, adapters, schema, profile };
      reply = await this.#runtime.request("generate", request, { signal, onEvent });
    } catch (error) {
      if (error?.reason !== "context_overflow") throw error;
      throw this.#overflow(await this.#measure(messages, true, signal));
    }
    const { finish, usage, firstTokenMs, decodeMs } = reply;
    // The pair enters the conversation as a whole, or not at all.
    this.#history = [...history, { role: "assistant", content: text }];
    // The last token of a reply is not in the context yet, so the sum may be one more than fits.
    this.#contextUsage = Math.min(usage.prompt_tokens + usage.completion_tokens, this.#contextWindow);
    this.#lastReply = {
      finish,
      promptTokens: usage.prompt_tokens,
      cachedTokens: usage.cached_tokens,
      completionTokens: usage.completion_tokens,
      firstTokenMs,
      tokensPerSecond: usage.completion_tokens > 1 ? ((usage.completion_tokens - 1) * 1000) / decodeMs : null,
      profile: reply.profile ?? null,
      logprobs: params.top_logprobs === undefined ? null : logprobs,
      draftedTokens: usage.drafted_tokens,
      acceptedTokens: usage.accepted_tokens,
      droppedMessages: usage.dropped_messages,
      safety: this.safety,
    };
    if (finish === "length" && this.#contextUsage >= this.#contextWindow) {
      this.dispatchEvent(new Event("contextoverflow"));
    }
  }
}

/** What the model sees of a help text, which is longer than its context may be. */
const HELP_GIVEN = "I have shown you people you can call right now. Please call one of them, and keep writing to me if it helps.";

/** What a reply cost that no model made. */
const NO_COST = {
  finish: "content_filter",
  promptTokens: 0,
  cachedTokens: 0,
  completionTokens: 0,
  firstTokenMs: 0,
  tokensPerSecond: null,
  profile: null,
  logprobs: null,
  draftedTokens: 0,
  acceptedTokens: 0,
  droppedMessages: 0,
};

/** `promise`, or the signal's reason as soon as it aborts. */
function rejectOnAbort(promise, signal) {
  return new Promise((resolve, reject) => {
    const onAbort = () => reject(signal.reason);
    signal.addEventListener("abort", onAbort, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener("abort", onAbort));
  });
}
