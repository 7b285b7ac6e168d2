/**
 * Small language models that run where this code runs.
 *
 * `LanguageModel` has the shape of the W3C Prompt API; what is added to it is
 * marked "Ours". `ChatClient` has the shape of OpenAI's client.
 */

import type { ProfileSpan } from "./engine.js";

export type { ProfileSpan };

/** What can be opened: an address, bytes in some form, or an entry of `models.list()`. */
export type ModelSource =
  | string
  | URL
  | Blob
  | ArrayBuffer
  | ArrayBufferView
  | ReadableStream<Uint8Array>
  | Pick<StoredModel, "key">;

export type Availability = "unavailable" | "downloadable" | "downloading" | "available";
export type Role = "system" | "user" | "assistant";
export type SamplingMode = "most-predictable" | "predictable" | "balanced" | "creative" | "most-creative";

export interface LanguageModelMessage {
  role: Role;
  content: string | { type: "text"; value: string }[];
}
export type LanguageModelPrompt = string | LanguageModelMessage[];

/** Fired while a model loads. `loaded` goes from 0 to 1; `total` is always 1. */
export interface DownloadProgressEvent extends Event {
  readonly loaded: number;
  readonly total: 1;
  readonly lengthComputable: true;
  /** Ours: bytes that have arrived. */
  readonly bytes: number;
  /** Ours: bytes of the whole file, null while unknown. */
  readonly bytesTotal: number | null;
}

export interface CreateMonitor extends EventTarget {
  ondownloadprogress: ((event: DownloadProgressEvent) => void) | null;
  addEventListener(
    type: "downloadprogress",
    listener: (event: DownloadProgressEvent) => void,
    options?: boolean | AddEventListenerOptions,
  ): void;
  addEventListener(
    type: string,
    listener: EventListenerOrEventListenerObject | null,
    options?: boolean | AddEventListenerOptions,
  ): void;
}

/** Ours: finer control of the reply; the names are the engine's, in camel case. */
export interface ReplyOptions {
  topP?: number;
  minP?: number;
  repeatPenalty?: number;
  repeatLastN?: number;
  presencePenalty?: number;
  frequencyPenalty?: number;
  /** The same seed, file and conversation give the same reply. Fresh for each reply when left out. */
  seed?: number;
  /** The most tokens of a reply; without it a reply may go on until the context is full. */
  maxTokens?: number;
  /** Strings that end the reply. They are not part of it. */
  stop?: string | string[];
  /**
   * Ask for each token's log-probability, and for those of so many likeliest ones at its place, at most 20 (`true`
   * is none): `lastReply.logprobs`. They are the model's own, before temperature, filters and bias.
   */
  logprobs?: boolean | number;
  /** Ids of tokens (see `tokenize`) and what is added to their logits, -100 to 100. */
  logitBias?: Record<number, number> | Iterable<[id: number, bias: number]>;
  /** Guess up to so many tokens at once from the text so far, at most 15: repetitive replies come faster, none differs. */
  draftMax?: number;
  /** A guess needs so many tokens in a row that occurred before, 1 to 8. Default 3. */
  lookupNgram?: number;
  /** When the context is full, leave out the oldest messages after the system prompt and go on. */
  contextShift?: boolean;
  /** Measure what the reply's time goes into: `lastReply.profile`. */
  profile?: boolean;
}

/** Ours: an adapter and what its part is multiplied by, 1 when left out. */
export interface AdapterUse {
  name: string;
  scale?: number;
}

/** Ours: one adapter, or several added up; an empty list is the model alone. */
export type AdapterMix = string | (string | AdapterUse)[];

/** Ours: an adapter of a model. */
export interface AdapterInfo {
  name: string;
  /** Length of its file. */
  bytes: number;
  /** The largest rank of its pairs. */
  rank: number;
  /** What its weights take while they are in memory. */
  memoryBytes: number;
  /** Whether they are; else its file is read again when it is used. */
  resident: boolean;
}

export interface AdapterLoadOptions {
  /** What it is called from now on. Default: the file's name without ".gguf"; bytes have none. */
  name?: string;
  /** As for a model: addresses are kept on this device by default, everything else under a key of your own. */
  cache?: boolean | string;
  /** The SHA-256 that the file must have, 64 hexadecimal digits. */
  sha256?: string;
  signal?: AbortSignal;
  monitor?: (monitor: CreateMonitor) => void;
}

/** Ours: the LoRA adapters (GGUF files) over one loaded model, and those that are on in one session. */
export interface Adapters {
  /**
   * Loads an adapter and puts it on nowhere yet. As many as fit `adapterBytesMax` stay in memory, the last used ones;
   * the others are read again, from this device or their address, when a request names them.
   */
  load(
    source: ModelSource,
    options?: AdapterLoadOptions,
  ): Promise<AdapterInfo & { from: "store" | "file" | "network" | "data"; kept: boolean }>;
  /** Forgets one. What is kept on this device stays: see `models.delete`. */
  unload(name: string): Promise<void>;
  /** All that were loaded; `scale` is the one in this session, null where it is off. */
  list(): Promise<(AdapterInfo & { scale: number | null })[]>;
  /** Puts these on in this session, from its next request on, and takes all others off. The conversation goes on. */
  use(mix: AdapterMix, options?: { signal?: AbortSignal }): Promise<void>;
  /** What is on in this session. */
  readonly active: Required<AdapterUse>[];
}

export interface LoadOptions {
  model: ModelSource;
  /**
   * Ours: whether to keep the model on this device. For an address the default is true and the key is the
   * address; a string is a key of your own, and the only way to keep a file, a buffer or a stream.
   */
  cache?: boolean | string;
  /** Ours: the name to show in `models.list()`. */
  name?: string;
  /** Ours: the SHA-256 that the file must have, 64 hexadecimal digits. */
  sha256?: string;
  /** Ours: the most tokens of context to take memory for. Default: the model's own, at most 4,096. */
  contextMax?: number;
  /** Ours: the most bytes that the weights of adapters take together. Default: 64 MiB. */
  adapterBytesMax?: number;
  /**
   * Ours: where tokens are computed. "cpu" is the default. "auto" takes the GPU when it gives the CPU's logits
   * and is faster; "gpu" when it gives them. Else, or when the GPU fails later, the CPU does it; `device` says why.
   */
  device?: "auto" | "cpu" | "gpu";
  /** Ours, for tests: the build of the engine for the CPU. Default: the fastest that runs here. */
  variant?: "relaxed" | "simd128" | "scalar" | "threads";
  /** Ours, for tests: take a program that plays a GPU, such as SwiftShader, for one. */
  testing?: { softwareAdapter?: boolean };
  signal?: AbortSignal;
  monitor?: (monitor: CreateMonitor) => void;
}

export interface LanguageModelCreateOptions extends LoadOptions, ReplyOptions {
  initialPrompts?: LanguageModelMessage[];
  /** Give either this, or `temperature` and `topK`. Default "balanced". */
  samplingMode?: SamplingMode;
  /** 0 takes the likeliest token every time. */
  temperature?: number;
  topK?: number;
  /** Ours: reads each message before it is answered. See `EmotionOptions`. */
  emotion?: EmotionOptions;
  expectedInputs?: { type: "text"; languages?: string[] }[];
  expectedOutputs?: { type: "text"; languages?: string[] }[];
}

/**
 * Ours: a text model that reads each message before it is answered (`models/emotion`). The session does not wait for
 * it; the first prompt does, if it is still on its way.
 *
 * With it a gate stands before each reply: where somebody may need help at once, a fixed help text is the reply. The
 * gate has no switch. `on` is about feelings alone.
 */
export interface EmotionOptions {
  /** The text model, from all that `model` of a session takes. Either this or `reader`. */
  model?: ModelSource;
  /** A reader that several sessions share and that is yours to end, or a function that gives one when it is wanted. */
  reader?: TextReader | Promise<TextReader> | (() => TextReader | Promise<TextReader>);
  cache?: boolean | string;
  name?: string;
  sha256?: string;
  monitor?: (monitor: CreateMonitor) => void;
  /** Whether feelings are read. Default false: ask the person first. Change it with `readsEmotion`. */
  on?: boolean;
  /**
   * Read them too in what belongs to business and education. Default false: in the EU it is prohibited to infer the
   * emotions of people at work and in education (AI Act, Art. 5(1)(f)).
   */
  inAllDomains?: boolean;
  /**
   * Tell the model how the person feels, in a line at the end of the system message. Default false. The line changes with
   * every turn, so the conversation is evaluated anew; not every model has a place for a system message.
   */
  tellModel?: boolean;
  /** A country's code, such as "DE", for the help text. Default: that of the browser's language; in Node null. */
  region?: string | null;
}

/** Ours: the seven classes that English emotion models share. */
export type EmotionName = "anger" | "disgust" | "fear" | "joy" | "neutral" | "sadness" | "surprise";

/** Ours: how somebody feels over the turns of a conversation. */
export interface Feelings {
  /** null where none is likely enough to be named. */
  primary_emotion: EmotionName | null;
  /** Smoothed over the turns, together 1; null where the last turn could not be read, as in another language. */
  emotion_scores: Record<EmotionName, number> | null;
  /** How far from neutral, 0 to 1. */
  intensity: number;
  /** The likeliest class's score, 0 to 1. */
  confidence: number;
  /** "unknown": too few turns. */
  trajectory: "unknown" | "steady" | "improving" | "worsening";
  /** A second one beside the first, when both are there. */
  mixed: EmotionName | null;
  /** Whether a reply should first answer to the feeling. */
  requires_empathy: boolean;
  /** Whether none is named. */
  abstained: boolean;
}

/** Ours: the feeling in one text. */
export interface TextEmotion {
  primary_emotion: EmotionName | null;
  emotion_scores: Record<EmotionName, number> | null;
  /** Those of GoEmotions' 28 feelings that are likely enough, the likeliest first. */
  labels: { name: string; probability: number }[];
  intensity: number;
  confidence: number;
  abstained: boolean;
  /** Why none is named. */
  reason: "empty" | "no_words" | "language_not_supported" | "unsure" | null;
}

/** Ours: which of the 62 domains a text belongs to. */
export interface DomainReading {
  /** The likeliest, or "out_of_scope"; null where the text could not be read. */
  name: string | null;
  probability: number;
  /** At most three, the likeliest first. */
  likely: { name: string; probability: number }[];
  category: "healthcare" | "daily_life" | "business" | "education" | "creative" | "technology" | "specialized" | null;
  empathy_level: "high" | "medium" | "low" | null;
  /** What must be shown beside the reply, in healthcare, legal and financial matters. */
  disclaimer: string | null;
  /** Whether feelings may be read there without your own decision; see `EmotionOptions.inAllDomains`. */
  emotion_default: boolean;
  /** Whose experts should answer, weights that sum to 1; none: the model alone. */
  route: { name: string; weight: number }[];
}

export type SafetyCategory = "mental_health" | "medical" | "abuse";

/** Ours: whether somebody may need help at once. */
export interface SafetyReading {
  flagged: boolean;
  /** The likeliest. */
  category: SafetyCategory | "none";
  /** Others that hold as well. */
  also: SafetyCategory[];
  by: "rules" | "classifier" | null;
  /** The classifier's probabilities; null where it could not read the text. */
  scores: Record<SafetyCategory, number> | null;
  /** `flagged: false` means little: the text is not in English, or has no words. */
  abstained: boolean;
}

/** Ours: what is said instead of a reply. */
export interface HelpText {
  text: string;
  /** The country whose numbers it names; null: none in particular. */
  region: string | null;
  /** When these numbers were last looked at. */
  checked: string | null;
}

/** Ours: what the gate says of the last message. */
export interface SafetyState extends SafetyReading {
  /** false: the message could not be read, and its reply was not held back. `error` says why. */
  checked: boolean;
  /** What was said, if it is flagged. */
  help: HelpText | null;
  error?: MeetaraError;
}

/** Ours: all that is read in a text, as `POST /v1/emotion/analyze` of the hosts gives it. */
export interface TextReading {
  text: TextEmotion;
  domain: DomainReading;
  safety: SafetyReading;
  /** How much of it was read. The gate's rules read all of it. */
  read: { characters: number; words: number; tokens: number; cut: boolean };
}

/** Ours: reads texts: feelings, domain, danger. It keeps nothing of what it read. Needs WebAssembly with SIMD. */
export class TextReader {
  private constructor();
  static create(options: Omit<LoadOptions, "adapterBytesMax" | "contextMax" | "device" | "testing" | "variant">): Promise<TextReader>;
  /** Reads a text; `before` are earlier messages of the same person, with which a short one is read together. */
  read(text: string, options?: { before?: string[]; emotion?: true; signal?: AbortSignal }): Promise<TextReading>;
  /** With `emotion: false` nothing is said of the feeling. */
  read(text: string, options: { before?: string[]; emotion: boolean; signal?: AbortSignal }): Promise<Omit<TextReading, "text"> & { text: TextEmotion | null }>;
  /** How somebody feels after the last of several readings of one conversation, the oldest first. */
  follow(readings: Pick<TextReading, "text" | "read">[], options?: { signal?: AbortSignal }): Promise<Feelings>;
  /** The help text of a category, for a country. */
  help(category: SafetyCategory, options?: { region?: string | null; signal?: AbortSignal }): Promise<HelpText>;
  /** Codes of the countries whose help lines are known. */
  readonly regions: string[];
  destroy(): void;
  readonly info: EncoderInfo;
  readonly source: Pick<LanguageModel["source"], "from" | "kept">;
  /** Memory of the engine, in bytes. */
  readonly memoryBytes: number;
}

export interface LanguageModelPromptOptions extends ReplyOptions {
  /** Aborts within one token; the prompt and its reply then leave the session. */
  signal?: AbortSignal;
  /** Ours: the adapters of this reply, in place of the session's. */
  adapters?: AdapterMix;
  /**
   * A JSON schema that the reply follows, also where it is cut off by `maxTokens` or the end of the context. It is not
   * shown to the model: say in the prompt what you want. Fetches `dist/constraint` (see README) when first used; not
   * together with `stop`.
   */
  responseConstraint?: object;
  /** Accepted: a schema is never added to the prompt. */
  omitResponseConstraintInput?: boolean;
}

/** Ours: what a model's file says of itself. */
export interface ModelInfo {
  name: string;
  architecture: string;
  /** Length of the file in bytes. */
  file_bytes: number;
  /** Number of weights. */
  parameters: number;
  /** The longest context that the model was made for, in tokens. */
  context_len: number;
  /** Whether the file carries a chat template. */
  chat: boolean;
}

/** Ours: a token and how likely it was. */
export interface TokenLogprob {
  id: number;
  /** The text of its bytes; these may be a part of a character. */
  token: string;
  logprob: number;
  bytes: number[];
}

/** Ours: one label of `choose`. */
export interface Choice {
  label: string;
  /** Its share among the labels. */
  probability: number;
  /** Sum of the log-probabilities of its tokens. Short labels are favoured: give labels of like length. */
  logprob: number;
}

/** Ours: what a reply cost. */
export interface ReplyStats {
  /**
   * "stop": the model ended its turn. "length": maxTokens or the end of the context was reached. "content_filter": help
   * stands in the place of a reply, because somebody may be in danger.
   */
  finish: "stop" | "length" | "content_filter";
  promptTokens: number;
  /** Tokens of the prompt that did not have to be evaluated again. */
  cachedTokens: number;
  completionTokens: number;
  /** From the start of the work to the first token. */
  firstTokenMs: number;
  /** Of the tokens after the first; null for a reply of one token. */
  tokensPerSecond: number | null;
  /** What the time went into, if `profile` was asked for; else null. */
  profile: { prompt: ProfileSpan[]; reply: ProfileSpan[] } | null;
  /** One for each token, if `logprobs` was asked for; else null. */
  logprobs: (TokenLogprob & { top: TokenLogprob[] })[] | null;
  /** Tokens that were guessed, and those guessed rightly (`draftMax`). */
  draftedTokens: number;
  acceptedTokens: number;
  /** Messages that were left out (`contextShift`). */
  droppedMessages: number;
  /** What the gate said of the prompt; null without a reader. A flagged one has no tokens: the help text is the reply. */
  safety: SafetyState | null;
}

/** Ours: where a session's tokens are computed. */
export interface DeviceState {
  type: "cpu" | "gpu";
  /** The GPU that was found, in the browser's words; null when none was asked for or there is none. */
  adapter: string | null;
  /** Why it is not the GPU that was asked for, as a stable word; null when it is, or none was. */
  reason: null | "no_adapter" | "software_adapter" | "unsupported" | "wrong_result" | "slower" | "device_lost" | "failed" | "adapters";
  /** The same as a sentence. */
  message: string | null;
  /** GPU memory of the weights and of this session. The weights stay in the engine's memory as well. */
  gpuBytes: number;
  /** The self-test's time for a token on each side; null when there was none. */
  gpuMs: number | null;
  cpuMs: number | null;
  /** The self-test's cosine of the two sides' logits. */
  cosine: number | null;
}

/**
 * Errors are DOMExceptions with the Prompt API's names (or a TypeError or RangeError for a wrong argument).
 * Ours: `reason` is a stable word, one of `invalid_model`, `unsupported_model`, `invalid_request`,
 * `invalid_constraint`, `context_overflow`, `out_of_memory`, `template`, `internal`, `network`, `incomplete`, `checksum`,
 * `not_found`, `aborted`, `stopped`. A QuotaExceededError has `requested` and `quota`, in tokens.
 */
export interface MeetaraError extends DOMException {
  readonly reason?: string;
  readonly requested?: number;
  readonly quota?: number;
}

export class LanguageModel extends EventTarget {
  private constructor();
  static availability(options: Omit<LanguageModelCreateOptions, "signal" | "monitor">): Promise<Availability>;
  static create(options: LanguageModelCreateOptions): Promise<LanguageModel>;

  prompt(input: LanguageModelPrompt, options?: LanguageModelPromptOptions): Promise<string>;
  /** The reply in pieces as they are made (not the text so far). Cancelling the stream aborts. */
  promptStreaming(input: LanguageModelPrompt, options?: LanguageModelPromptOptions): ReadableStream<string>;
  append(input: LanguageModelPrompt, options?: { signal?: AbortSignal }): Promise<void>;
  measureContextUsage(input: LanguageModelPrompt, options?: { signal?: AbortSignal }): Promise<number>;
  clone(options?: { signal?: AbortSignal }): Promise<LanguageModel>;
  destroy(): void;

  /**
   * Ours: how likely the model finds each label as its reply to `input`, in the order of `labels` (at most 256,
   * none twice). The conversation is looked at and not changed. On the CPU, also where replies come from the GPU.
   */
  choose(
    input: LanguageModelPrompt,
    labels: string[],
    options?: { signal?: AbortSignal; adapters?: AdapterMix },
  ): Promise<Choice[]>;
  /** Ours: the vector of a text, of length 1. A model made for chat tells topics apart, if less well than one made for it. */
  embed(
    text: string,
    options?: { pooling?: "mean" | "last"; signal?: AbortSignal; adapters?: AdapterMix },
  ): Promise<Float32Array>;
  /** Ours: the ids of a text's tokens; markers in it are read as such. */
  tokenize(text: string, options?: { signal?: AbortSignal }): Promise<number[]>;

  /** Ours: forgets the conversation but for the initial prompts. */
  reset(): Promise<void>;

  readonly contextUsage: number;
  readonly contextWindow: number;
  readonly temperature: number;
  readonly topK: number;
  readonly samplingMode: SamplingMode | null;
  oncontextoverflow: ((event: Event) => void) | null;

  /** Ours: the model's LoRA adapters. Clones of a session share them and put them on each for itself. */
  readonly adapters: Adapters;
  /** Ours: where tokens are computed. */
  readonly device: DeviceState;
  /**
   * Ours: fired when the GPU failed in the middle of a reply and the CPU goes on from the same token; and when a reply
   * with adapters, which run on the CPU, follows one from the GPU, or the other way round.
   */
  ondevicechange: ((event: Event) => void) | null;
  /** Ours: how the person feels after the last message; null while that is off, or was not read. */
  readonly emotion: Feelings | null;
  /** Ours: the feelings after each message that was read, the oldest first; none while that is off. */
  readonly emotionTurns: Feelings[];
  /** Ours: which domain the last message belongs to; null without a reader. */
  readonly domain: DomainReading | null;
  /** Ours: what the gate says of the last message; null without a reader. */
  readonly safety: SafetyState | null;
  /** Ours: the one switch for feelings. Off forgets what was read of them. The gate stays. */
  readsEmotion: boolean;
  /** Ours: the country whose help lines are named. */
  region: string | null;
  /** Ours: fired with `detail` when a message was read, before its reply; null when it was switched off. */
  onemotion: ((event: CustomEvent<Feelings | null>) => void) | null;
  /** Ours: fired when a message was read. */
  ondomain: ((event: CustomEvent<DomainReading>) => void) | null;
  /** Ours: fired when a message is flagged, and when it could not be read or means little (`checked`, `abstained`). */
  onsafety: ((event: CustomEvent<SafetyState>) => void) | null;
  /** Ours. */
  readonly info: ModelInfo;
  /** Ours: where the model came from, whether it is kept for next time, and the engine's build. */
  readonly source: {
    from: "store" | "file" | "network" | "data";
    kept: boolean;
    variant: "relaxed" | "simd128" | "scalar" | "webgpu" | "threads";
  };
  /** Ours: memory of the engine for this model and all its sessions, in bytes. */
  readonly memoryBytes: number;
  /** Ours: what the last reply cost. */
  readonly lastReply: ReplyStats | null;
}

/** One head of an encoder: a classifier with its labels. */
export interface EncoderHead {
  name: string;
  labels: string[];
  /** Whether several labels may be right at once; else one is, and probabilities add up to 1. */
  several: boolean;
  /** From which probability on a label counts, where the file says so. */
  thresholds: number[] | null | undefined;
}

/** What an encoder's file says of itself. */
export interface EncoderInfo {
  name: string;
  architecture: "bert";
  /** Length of the file in bytes. */
  file_bytes: number;
  /** Number of weights. */
  parameters: number;
  /** The most tokens of a text that are read. */
  tokens_max: number;
  /** Length of a vector. */
  width: number;
  heads: EncoderHead[];
}

export interface Classification {
  /** By the heads' names, in the order of their labels. */
  heads: Record<string, { label: string; probability: number; chosen: boolean }[]>;
  /** Tokens that were read. */
  tokens: number;
  /** Tokens at the end of the text that were not, because it is too long. */
  tokensCut: number;
}

/**
 * Ours: an encoder (a GGUF file of the architecture "bert": BERT, RoBERTa, MiniLM), which reads a text at once.
 * An empty text is an error with the reason `invalid_request`.
 */
export class TextClassifier {
  private constructor();
  static create(options: Omit<LoadOptions, "adapterBytesMax" | "contextMax" | "device" | "testing" | "variant">): Promise<TextClassifier>;
  /** What each of the file's heads says of a text; none for a file without heads. */
  classify(text: string, options?: { signal?: AbortSignal }): Promise<Classification>;
  /** The vector of a text, of length 1. */
  embed(text: string, options?: { signal?: AbortSignal }): Promise<Float32Array>;
  destroy(): void;
  readonly info: EncoderInfo;
  readonly source: Pick<LanguageModel["source"], "from" | "kept">;
  /** Memory of the engine, in bytes. */
  readonly memoryBytes: number;
}

/** A model, an adapter or an encoder, kept on this device. */
export interface StoredModel {
  /** The absolute address that it was fetched from, or the key given as `cache`. */
  key: string;
  name: string;
  bytes: number;
  sha256?: string;
  /** ISO 8601. */
  savedAt: string;
}

export const models: {
  /** All models, adapters or encoders (text models), the newest first. */
  list(options?: { kind?: "model" | "adapter" | "encoder" }): Promise<StoredModel[]>;
  has(key: string, options?: { kind?: "model" | "adapter" | "encoder" }): Promise<boolean>;
  delete(key: string): Promise<void>;
};

export interface ChatMessage {
  role: Role;
  content: string | { type: "text"; text: string }[];
}

export interface ChatRequest {
  /** Accepted and ignored: the client has one model. */
  model?: string;
  messages: ChatMessage[];
  stream?: boolean;
  stream_options?: { include_usage?: boolean };
  temperature?: number;
  top_p?: number;
  top_k?: number;
  min_p?: number;
  repeat_penalty?: number;
  repeat_last_n?: number;
  presence_penalty?: number;
  frequency_penalty?: number;
  seed?: number;
  max_tokens?: number;
  max_completion_tokens?: number;
  stop?: string | string[];
  logprobs?: boolean;
  /** At most 20; needs `logprobs`. */
  top_logprobs?: number;
  logit_bias?: Record<string, number>;
  /** An extension, which meetara-host has too: LoRA adapters over the model, by the names of `client.adapters`. */
  adapters?: AdapterMix;
  /** Not together with `stop`. */
  response_format?:
    | { type: "text" }
    | { type: "json_object" }
    | { type: "json_schema"; json_schema: { name?: string; description?: string; schema: object; strict?: boolean } };
}

export interface ChatLogprob {
  token: string;
  logprob: number;
  bytes: number[];
}

export interface ChatLogprobs {
  content: (ChatLogprob & { top_logprobs: ChatLogprob[] })[];
}

export interface ChatUsage {
  prompt_tokens: number;
  completion_tokens: number;
  total_tokens: number;
  prompt_tokens_details: { cached_tokens: number };
}

/** Ours: what the text model makes of the conversation. */
export interface ChatReading {
  domain: string | null;
  domain_confidence: number | null;
  /** null while that is off. */
  emotion: Feelings | null;
  safety: SafetyState | null;
}

export interface ChatCompletion {
  id: string;
  object: "chat.completion";
  created: number;
  model: string;
  choices: {
    index: 0;
    message: { role: "assistant"; content: string };
    logprobs: ChatLogprobs | null;
    finish_reason: "stop" | "length" | "content_filter";
  }[];
  usage: ChatUsage;
  /** Where the client was created with `emotion`. */
  meetara?: ChatReading;
}

export interface ChatCompletionChunk {
  id: string;
  object: "chat.completion.chunk";
  created: number;
  model: string;
  choices: {
    index: 0;
    delta: { role?: "assistant"; content?: string };
    logprobs: ChatLogprobs | null;
    finish_reason: "stop" | "length" | "content_filter" | null;
  }[];
  usage?: ChatUsage;
  /** In the chunk with the finish reason, where the client was created with `emotion`. */
  meetara?: ChatReading;
}

export class ChatClient {
  private constructor();
  static create(options: LoadOptions & { emotion?: EmotionOptions }): Promise<ChatClient>;
  readonly device: DeviceState;
  readonly adapters: Adapters;
  readonly chat: {
    readonly completions: {
      create(body: ChatRequest & { stream: true }, options?: { signal?: AbortSignal }): Promise<AsyncGenerator<ChatCompletionChunk>>;
      create(body: ChatRequest & { stream?: false }, options?: { signal?: AbortSignal }): Promise<ChatCompletion>;
    };
  };
  destroy(): void;
}
