// `chat.completions.create` in the shape of OpenAI's client, over a model that
// runs here. Nothing is sent anywhere.

import { Adapters } from "./adapters.js";
import { abortError } from "./errors.js";
import { Listener, piecesOf, textsToHear } from "./listener.js";
import { orderOf, placeOf } from "./order.js";
import { biasPairs, canonicalPrompt, freshSeed, readable, refuseUnsupported, schemaText } from "./prompt.js";
import { progressReporter } from "./progress.js";
import { Runtime } from "./runtime.js";

/** Request fields that go to the engine under the same name. */
const SAMPLING = [
  "temperature", "top_p", "top_k", "min_p", "repeat_penalty", "repeat_last_n",
  "presence_penalty", "frequency_penalty", "seed", "max_tokens",
];
/** Fields that change nothing here. */
const IGNORED = new Set(["model", "user", "metadata", "store"]);
/** Fields that are read by name below. */
const READ = new Set([
  "messages", "stream", "stream_options", "stop", "max_completion_tokens", "tools", "response_format", "logprobs", "top_logprobs",
  "logit_bias", "adapters",
]);

export class ChatClient {
  #runtime;
  #session;
  #line = Promise.resolve();
  #device;
  #listening;

  constructor(runtime, { session, device }, listening) {
    this.#runtime = runtime;
    this.#session = session;
    this.#device = device;
    this.#listening = listening;
    // Behind the model, which is there sooner.
    listening?.hold.get().catch(() => {});
    /** The LoRA adapters of the model, and those that are on in requests that name none. */
    this.adapters = new Adapters(runtime);
    this.chat = { completions: { create: (body, options) => this.#create(body, options) } };
  }

  /** Loads a model; takes the same `model`, `cache`, `sha256`, `device`, `adapterBytesMax`, `emotion`, `signal` and `monitor` as LanguageModel.create. */
  static async create(options = {}) {
    const { signal, monitor, contextMax, adapterBytesMax } = options;
    const request = { order: orderOf(options), ...placeOf(options), adapterBytesMax };
    const listening = Listener.check(options.emotion);
    const progress = progressReporter(monitor);
    const runtime = await Runtime.start(request, { signal, onProgress: progress?.onProgress });
    try {
      progress?.done();
      return new ChatClient(runtime, await runtime.request("open", { contextMax }, { signal }), listening);
    } catch (error) {
      runtime.release();
      throw error;
    }
  }

  /** Where tokens are computed, and why not on the GPU if it was asked for. */
  get device() {
    return { ...this.#device };
  }

  /** Gives the model's memory back. */
  destroy() {
    this.#listening?.hold.release();
    this.#runtime.release();
  }

  async #create(body, { signal } = {}) {
    const { messages, stream = false, stream_options: streamOptions } = body;
    const adapters = this.adapters.for(body.adapters);
    const run = (onText, innerSignal) => this.#inTurn(async () => {
      const asked = chatMessages(messages);
      const heard = await this.#hear(asked, innerSignal);
      if (heard?.help) {
        for (const piece of piecesOf(heard.help)) onText(piece);
        return { finish: "content_filter", usage: NO_COST, meetara: heard.meetara };
      }
      const request = { session: this.#session, messages: heard?.messages ?? asked, params: paramsOf(body), adapters, schema: schemaOf(body) };
      const onEvent = (event) => {
        if (event.event === "device") this.#device = event.device;
        if (event.event === "text") onText(event.text, event.logprobs);
      };
      return { ...await this.#runtime.request("generate", request, { signal: innerSignal, onEvent }), meetara: heard?.meetara };
    });
    chatMessages(messages);
    paramsOf(body);
    schemaOf(body);
    const head = {
      id: `chatcmpl-${randomHex()}`,
      created: Math.floor(Date.now() / 1000),
      model: this.#runtime.loaded.info.name,
    };
    if (stream) return chunks(head, run, signal, streamOptions?.include_usage === true);
    let content = "";
    const tokens = [];
    const { finish, usage, meetara } = await run((text, found) => {
      content += text;
      if (found) tokens.push(found);
    }, signal);
    return {
      ...head,
      object: "chat.completion",
      choices: [{ index: 0, message: { role: "assistant", content }, logprobs: body.logprobs ? logprobsOf(tokens) : null, finish_reason: finish }],
      usage: usageOf(usage),
      ...(meetara && { meetara }),
    };
  }

  /** What the text model makes of a conversation, if there is one; `help` takes the reply's place. */
  async #hear(messages, signal = new AbortController().signal) {
    if (!this.#listening) return null;
    // Requests have nothing to do with one another.
    const listener = new Listener(new EventTarget(), this.#listening);
    const { help } = await listener.hear(textsToHear(messages), signal);
    const { emotion, domain, safety } = listener;
    return { help, messages: listener.told(messages), meetara: { domain: domain?.name ?? null, domain_confidence: domain?.probability ?? null, emotion, safety } };
  }

  #inTurn(action) {
    const result = this.#line.then(action);
    this.#line = result.catch(() => {});
    return result;
  }
}

function chatMessages(messages) {
  if (!Array.isArray(messages) || messages.length === 0) throw new TypeError("messages must be a list with at least one message.");
  return canonicalPrompt(messages, false);
}

function paramsOf(body) {
  refuseUnsupported({ tools: body.tools });
  for (const field of Object.keys(body)) {
    const known = SAMPLING.includes(field) || IGNORED.has(field) || READ.has(field);
    const one = field === "n" && body.n === 1;
    if (!known && !one) throw new TypeError(`${field} is not supported here; leave it out.`);
  }
  const params = {};
  for (const field of SAMPLING) if (body[field] != null) params[field] = body[field];
  if (body.max_completion_tokens != null) params.max_tokens = body.max_completion_tokens;
  if (body.stop != null) params.stop = [body.stop].flat();
  if (body.logprobs) params.top_logprobs = body.top_logprobs ?? 0;
  else if (body.top_logprobs) throw new TypeError("top_logprobs needs logprobs: true.");
  if (body.logit_bias != null) params.logit_bias = biasPairs(body.logit_bias);
  params.seed ??= freshSeed();
  return params;
}

/** The text of the schema that `response_format` asks for; undefined for none. */
function schemaOf({ response_format: format, stop }) {
  if (format == null || format.type === "text") return undefined;
  if (stop?.length) throw new TypeError("stop would end a reply before it follows its response_format.");
  if (format.type === "json_object") return schemaText({ type: "object" });
  if (format.type === "json_schema" && format.json_schema?.schema) return schemaText(format.json_schema.schema);
  throw new TypeError('response_format must be { type: "text" }, { type: "json_object" } or { type: "json_schema", json_schema: { name, schema } }.');
}

/** The engine's log-probabilities in OpenAI's words. */
function logprobsOf(found) {
  const entry = (of) => {
    const { token, logprob, bytes } = readable(of);
    return { token, logprob, bytes };
  };
  return { content: found.map(({ token, top }) => ({ ...entry(token), top_logprobs: top.map(entry) })) };
}

/** 96 random bits. (`crypto.randomUUID` is not there on plain http.) */
function randomHex() {
  return Array.from(crypto.getRandomValues(new Uint32Array(3)), (n) => n.toString(16).padStart(8, "0")).join("");
}

/** Of a reply that no model made. */
const NO_COST = { prompt_tokens: 0, completion_tokens: 0, cached_tokens: 0 };

function usageOf({ prompt_tokens, completion_tokens, cached_tokens }) {
  return {
    prompt_tokens,
    completion_tokens,
    total_tokens: prompt_tokens + completion_tokens,
    prompt_tokens_details: { cached_tokens },
  };
}

/** The chunks of a streamed reply. Leaving the loop early aborts the reply. */
async function* chunks(head, run, signal, includeUsage) {
  const left = new AbortController();
  const both = signal ? AbortSignal.any([signal, left.signal]) : left.signal;
  const chunk = (delta, finish_reason = null, found = undefined) => ({
    ...head,
    object: "chat.completion.chunk",
    choices: [{ index: 0, delta, logprobs: found ? logprobsOf([found]) : null, finish_reason }],
  });
  const queue = [];
  let wake = () => {};
  let ended = false;
  const whole = run((content, found) => {
    queue.push([{ content }, null, found]);
    wake();
  }, both).finally(() => {
    ended = true;
    wake();
  });
  whole.catch(() => {}); // it is awaited below
  try {
    yield chunk({ role: "assistant", content: "" });
    while (!ended || queue.length) {
      if (queue.length) yield chunk(...queue.shift());
      else await new Promise((resolve) => {
        wake = resolve;
      });
    }
    const { finish, usage, meetara } = await whole;
    yield { ...chunk({}, finish), ...(meetara && { meetara }) };
    if (includeUsage) yield { ...chunk({}), choices: [], usage: usageOf(usage) };
  } finally {
    left.abort(abortError());
  }
}
