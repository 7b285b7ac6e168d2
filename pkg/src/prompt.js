// What callers may pass, checked and put into the engine's words.

import { failure } from "./errors.js";

const ROLES = new Set(["system", "user", "assistant"]);

/**
 * A prompt as a list of `{ role, content }` with text content.
 *
 * Follows "validate and canonicalize a prompt" of the Prompt API: a string is
 * one user message, a system message may only come first, neighbouring texts
 * are joined.
 * @param {string | object[]} input
 * @param {boolean} hasAppendedInput whether the conversation already has a message
 */
export function canonicalPrompt(input, hasAppendedInput) {
  if (typeof input === "string") return [{ role: "user", content: input }];
  if (!Array.isArray(input)) throw new TypeError("A prompt is a string or a list of messages { role, content }.");
  if (input.length === 0) return [{ role: "user", content: "" }];
  return input.map((message, index) => {
    const role = message?.role;
    if (!ROLES.has(role)) throw new TypeError(`messages[${index}].role must be "system", "user" or "assistant".`);
    if (role === "system" && (hasAppendedInput || index > 0)) {
      throw new TypeError(`messages[${index}]: a system message may only be the first of initialPrompts.`);
    }
    if (message.prefix) throw notSupported(`messages[${index}].prefix: a reply cannot be begun by the caller yet.`);
    return { role, content: textOf(message.content, index) };
  });
}

function textOf(content, index) {
  if (typeof content === "string") return content;
  if (!Array.isArray(content)) throw new TypeError(`messages[${index}].content must be a string or a list of { type, value }.`);
  return content.map((part) => {
    if (part?.type !== "text") throw notSupported(`messages[${index}].content: only type "text" is understood.`);
    // OpenAI's name for the same field is `text`.
    const value = part.value ?? part.text;
    if (typeof value !== "string") throw new TypeError(`messages[${index}].content: the value of a text must be a string.`);
    return value;
  }).join("");
}

function notSupported(message) {
  return failure("unsupported_model", message);
}

/** Refuses what this package does not do, rather than doing something else. */
export function refuseUnsupported({ expectedInputs, expectedOutputs, tools } = {}) {
  const onlyText = (list) => !list || list.every((expected) => expected.type === "text");
  if (!onlyText(expectedInputs) || !onlyText(expectedOutputs)) throw notSupported("Only text goes in and comes out.");
  if (tools?.length) throw notSupported("Tools are not supported.");
}

/**
 * The text of the JSON schema that a reply is to follow; undefined for none.
 * @param {unknown} schema a JSON schema as an object
 */
export function schemaText(schema) {
  if (schema === undefined || schema === null) return undefined;
  if (schema instanceof RegExp) throw notSupported("responseConstraint: a regular expression is not understood; give a JSON schema with a pattern.");
  if (typeof schema !== "object" || Array.isArray(schema)) throw new TypeError("responseConstraint must be a JSON schema, an object.");
  try {
    return JSON.stringify(schema);
  } catch {
    throw failure("invalid_constraint", "responseConstraint cannot be written as JSON: it is nested too deep, or holds itself.");
  }
}

/** Temperature, top-k and top-p of the Prompt API's sampling modes. */
const MODES = {
  "most-predictable": { temperature: 0 },
  predictable: { temperature: 0.4, top_k: 40, top_p: 0.9 },
  balanced: { temperature: 0.7, top_k: 40, top_p: 0.95 },
  creative: { temperature: 1, top_k: 60, top_p: 0.97 },
  "most-creative": { temperature: 1.3, top_k: 100, top_p: 0.98 },
};

export const DEFAULT_MODE = "balanced";

/** Options that go to the engine as they are, by its name for them. */
const DIRECT = {
  topP: "top_p",
  minP: "min_p",
  repeatPenalty: "repeat_penalty",
  repeatLastN: "repeat_last_n",
  presencePenalty: "presence_penalty",
  frequencyPenalty: "frequency_penalty",
  seed: "seed",
  maxTokens: "max_tokens",
  stop: "stop",
  draftMax: "draft_max",
  lookupNgram: "lookup_ngram",
  contextShift: "context_shift",
};

const TEMPERATURE_MAX = 100;
const TOP_K_MAX = 0xffff_ffff;

/**
 * The engine's parameters for the sampling options of `create` or `prompt`.
 * @returns {{ params: object, mode: string | null }} mode is null when temperature or topK was given
 */
export function samplingParams(options = {}) {
  const { samplingMode, temperature, topK } = options;
  const raw = temperature !== undefined || topK !== undefined;
  if (raw && samplingMode !== undefined) throw new TypeError("Give either samplingMode, or temperature and topK.");
  const mode = raw ? null : (samplingMode ?? DEFAULT_MODE);
  if (mode !== null && !Object.hasOwn(MODES, mode)) {
    throw new TypeError(`samplingMode must be one of ${Object.keys(MODES).join(", ")}.`);
  }
  const params = { ...MODES[mode ?? DEFAULT_MODE] };
  if (temperature !== undefined) {
    if (!(temperature >= 0)) throw new RangeError("temperature must be 0 or more.");
    params.temperature = Math.min(temperature, TEMPERATURE_MAX);
  }
  if (topK !== undefined) {
    if (!(topK >= 1)) throw new RangeError("topK must be 1 or more.");
    params.top_k = Math.trunc(Math.min(topK, TOP_K_MAX));
  }
  return { params: { ...params, ...directParams(options) }, mode };
}

/** Only what was given: to lay over the parameters of the session. */
export function directParams(options = {}) {
  const params = {};
  for (const [name, engineName] of Object.entries(DIRECT)) {
    if (options[name] !== undefined) params[engineName] = options[name];
  }
  if (typeof params.stop === "string") params.stop = [params.stop];
  if (options.logprobs !== undefined && options.logprobs !== false) params.top_logprobs = Number(options.logprobs === true ? 0 : options.logprobs);
  if (options.logitBias !== undefined) params.logit_bias = biasPairs(options.logitBias);
  return params;
}

/** `{ id: bias }`, or a Map or list of both, as the engine's list of pairs. */
export function biasPairs(bias) {
  const pairs = typeof bias?.[Symbol.iterator] === "function" ? [...bias] : Object.entries(bias ?? {});
  return pairs.map(([id, value]) => {
    if (!Number.isInteger(Number(id)) || typeof value !== "number") throw new TypeError("A bias is a number for the id of a token.");
    return [Number(id), value];
  });
}

/** A token's log-probability as the engine gives it, with the text of its bytes. */
export function readable({ id, logprob, bytes }) {
  return { id, token: new TextDecoder().decode(Uint8Array.from(bytes)), logprob, bytes };
}

/** A seed for requests that name none: the engine draws no randomness of its own. */
export function freshSeed() {
  return crypto.getRandomValues(new Uint32Array(1))[0];
}
