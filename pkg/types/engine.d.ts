/**
 * The engine itself, in this thread: every call blocks until it is done.
 * For tests and for those who bring their own worker. Objects hold memory
 * until `free()`.
 */

import type { EncoderInfo, Feelings, HelpText, ModelInfo, TextReading } from "./index.js";

/** "encoder" (relaxed SIMD) and "encoder-simd128" have `ModelBuffer`, with `into_encoder` and `into_reader` for `into_model`, and no chat models. "webgpu" has the classes of the others and some methods for the GPU, which only `meetara` itself uses. */
export type Variant = "relaxed" | "simd128" | "scalar" | "webgpu" | "encoder" | "encoder-simd128";

export interface EngineMessage {
  role: string;
  content: string;
}

/** The engine's parameters; what is left out has the engine's default (plain sampling at temperature 1, seed 0). */
export interface GenerateParams {
  temperature?: number;
  top_k?: number;
  top_p?: number;
  min_p?: number;
  repeat_penalty?: number;
  repeat_last_n?: number;
  presence_penalty?: number;
  frequency_penalty?: number;
  seed?: number;
  max_tokens?: number;
  stop?: string[];
  logit_bias?: [id: number, bias: number][];
  top_logprobs?: number;
  draft_max?: number;
  lookup_ngram?: number;
  context_shift?: boolean;
}

export interface EngineLogprob {
  id: number;
  logprob: number;
  bytes: number[];
}

export interface EngineLogprobs {
  token: EngineLogprob;
  top: EngineLogprob[];
}

export interface Usage {
  prompt_tokens: number;
  completion_tokens: number;
  cached_tokens: number;
  drafted_tokens: number;
  accepted_tokens: number;
  dropped_messages: number;
}

export type Step =
  | { type: "prefill"; done: number; total: number }
  | { type: "token"; id: number; text: string; logprobs?: EngineLogprobs }
  | { type: "done"; finish: "stop" | "length"; text: string; usage: Usage; logprobs?: EngineLogprobs };

/** Errors thrown by these classes have the engine's word for their kind in `code`. */
export interface EngineError extends Error {
  readonly code: string;
}

/** Memory for a model's file: fill `engine.view(buffer)`, then `into_model()`. */
export declare class ModelBuffer {
  constructor(len: number);
  readonly ptr: number;
  readonly len_bytes: number;
  into_model(): Model;
  into_encoder(): Encoder;
  into_reader(): TextReader;
  free(): void;
}

export declare class Model {
  info(): ModelInfo;
  /** A conversation; at most `context_max` tokens of context. */
  session(context_max?: number): Session;
  /** Tokens of a chat; `reply`: with the words that begin a reply. */
  count_chat(messages: EngineMessage[], reply: boolean): number;
  /** Token ids of a plain text. */
  tokenize(text: string, special: boolean): Uint32Array;
  /** All tokens, as the module for schemas takes them. */
  vocabulary(): Uint8Array;
  /** The most bytes that adapters take together, 64 MiB at first; drops those that are loaded. */
  adapters_max(bytes: number): void;
  /**
   * Reads an adapter file and keeps it under `name`; the least recently used make room. The buffer is consumed. Gives
   * the largest rank of its pairs, and the bytes that its weights take.
   */
  load_adapter(name: string, file: ModelBuffer): Uint32Array;
  /** Drops an adapter; false when none of that name was in memory. */
  unload_adapter(name: string): boolean;
  /** Names of the adapters in memory, the least recently used first. */
  adapters(): string[];
  /** Those of `names` that must be loaded before they can be used; the others become the most recently used. */
  missing_adapters(names: string[]): string[];
  free(): void;
}

export declare class Encoder {
  info(): EncoderInfo;
  encode(text: string): Reading;
  free(): void;
}

export declare class TextReader {
  info(): EncoderInfo;
  /** Reads the last of somebody's messages, the oldest first. */
  read(turns: string[]): TextReading;
  free(): void;
}

export declare class Reading {
  /** Of length 1. */
  readonly embedding: Float32Array;
  /** Of each head in turn, one for each of its labels. */
  readonly probabilities: Float32Array;
  readonly tokens: number;
  readonly tokens_cut: number;
  free(): void;
}

export declare class Session {
  readonly context_len: number;
  start_chat(messages: EngineMessage[], params?: GenerateParams): { prompt_tokens: number; cached_tokens: number };
  start_text(text: string, params?: GenerateParams): { prompt_tokens: number; cached_tokens: number };
  step(): Step;
  /** Bars from the next step's token all ids but those whose bit is set in `mask`, 32 in each number. */
  allow(mask: Uint32Array): void;
  /** Of each label as the reply: its probability and its log-probability, in turn. */
  choose_chat(messages: EngineMessage[], labels: string[]): Float32Array;
  /** The vector of a text, of length 1; with `last` the last token's, else the mean. Forgets the conversation. */
  embed(text: string, last: boolean): Float32Array;
  /** Adds adapters in memory to the model, each times its scale; with other ones the session forgets its conversation. */
  set_adapters(names: string[], scales: Float32Array): void;
  /** Starts afresh, evaluates the tokens and gives the logits of the last, one for each token of the vocabulary. */
  eval_tokens(tokens: Uint32Array): Float32Array;
  /** Logits of the last evaluated token. */
  logits(): Float32Array;
  memory_bytes(): number;
  /** Measures from now on what the time goes into. */
  start_profile(): void;
  /** What has been measured since. */
  profile(): ProfileSpan[];
  free(): void;
}

/** The time that one kind of work took, over all layers and steps. */
export interface ProfileSpan {
  /** What was done, such as "attention"; "norm" includes the addition before it. */
  phase: string;
  /** The type of the weights, where there are some, such as "Q4_K"; else empty. */
  weights: string;
  ms: number;
  calls: number;
}

export interface Engine {
  readonly variant: Variant;
  readonly memory: WebAssembly.Memory;
  readonly ModelBuffer: typeof ModelBuffer;
  /** Of the builds for encoders alone: the help text of a category; null for none. */
  readonly help?: (category: string, region?: string) => HelpText | null;
  readonly help_regions?: () => string[];
  /** Feelings after turns of eight numbers each: seven scores, NaN where it was not read, and words. */
  readonly follow_feelings?: (turns: Float32Array) => Feelings;
  /** What a model is told of these feelings, at a level of empathy: "low", "medium" or "high". */
  readonly feelings_line?: (turns: Float32Array, level: string) => string | undefined;
  /** The buffer's bytes where they stand; the view ends when the memory grows. */
  view(buffer: ModelBuffer): Uint8Array;
}

/** Builds of the engine, the fastest first. */
export const VARIANTS: Variant[];
/** The fastest build that this JavaScript engine accepts. */
export function pickVariant(): Variant;
/** The faster build for encoders that this JavaScript engine accepts; none without SIMD. */
export function pickEncoderVariant(): Variant | undefined;
/** Loads one build; a second call gives the same instance. */
export function loadEngine(options?: { variant?: Variant }): Promise<Engine>;
