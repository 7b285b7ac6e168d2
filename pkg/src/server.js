// The worker's side: holds the engine and one model, answers requests.
//
//   request   { id, op, ... }      op: load, open, close, measure, tokenize, generate, choose, embed, abort,
//                                  adapter_load, adapter_unload, adapter_list, adapter_ready, encode,
//                                  read, follow, help
//   events    { id, event, ... }   event: progress, prefill, text, device
//   answers   { id, result, memoryBytes } or { id, error, memoryBytes }
//
// Generation goes in steps of one token; between two steps messages are let
// in, so an abort takes effect within one token. Requests to generate are
// answered one after the other, in the order in which they came.
//
// With the GPU a step is a promise, and its session is in use until it settles.
// The GPU knows the base only: replies with adapters come from the CPU.

import { turn } from "#platform";
import { AdapterShelf } from "./adapter-shelf.js";
import { Follower, vocabularyOf } from "./constraint.js";
import { loadEngine, pickEncoderVariant } from "./engine.js";
import { abortError, failure, toWire } from "./errors.js";
import { findAdapter } from "./gpu.js";
import { loadModel } from "./source.js";
import { openStore } from "./store.js";
import { loadThreads, wantsThreads } from "./threads.js";
import { warmUp } from "./warm-up.js";

/** Between two progress events at least this much time passes. */
const PROGRESS_EVERY_MS = 50;

/** Why a session that has a GPU does not use it now. */
const ADAPTED = { code: "adapters", message: "adapters run on the CPU; without them the GPU goes on" };

/**
 * @param {(message: object) => void} post
 * @param {(receive: (message: any) => void) => void} listen
 */
export function serve(post, listen) {
  let engine = null;
  let model = null;
  let shelf = null;
  /** What was found when the GPU was asked for: `{ adapter, reason?, message? }`. */
  let gpu = null;
  /** Whether the engine is the build for the GPU, and whether it must be faster than the CPU. */
  let onGpu = false;
  let mustBeFaster = true;
  let dead = false;
  let nextSession = 1;
  /** @type {Map<number, any>} */
  const sessions = new Map();
  /** Where the page was last told that each session runs: "cpu" or "gpu". */
  const told = new Map();
  /** The session whose step has not settled. */
  let stepping = null;
  /** Ids of requests under way, and of those among them that were aborted. */
  const active = new Set();
  const aborted = new Set();
  let line = Promise.resolve();
  /** The model's tokens for replies that follow a schema; a promise once one was asked for. */
  let vocabulary = null;

  const ops = {
    async load(id, { variant, order, device = "cpu", testing, adapterBytesMax, as = "model" }) {
      const encoder = as !== "model";
      if (device !== "cpu") gpu = await findAdapter(testing);
      mustBeFaster = device === "auto";
      if (gpu && !gpu.reason) {
        try {
          engine = await loadEngine({ variant: "webgpu" });
          onGpu = true;
        } catch (error) {
          gpu.reason = "failed";
          gpu.message = `the build for the GPU could not be loaded (${error.message}); the CPU is used`;
        }
      }
      if (encoder) {
        const build = pickEncoderVariant();
        if (!build) throw failure("unsupported_model", "Encoders need WebAssembly with SIMD, which this browser lacks. Use a newer one.");
        engine = await loadEngine({ variant: build });
      }
      // Begun before the model's size is known; nearly all models need no other.
      const usual = engine ? null : loadEngine({ variant: variant === "threads" ? undefined : variant });
      usual?.catch(() => {});
      const engineFor = async (bytes) => {
        if (!engine && wantsThreads(variant, bytes)) {
          // Without it the model runs on one thread, which is no fault.
          engine = await loadThreads().catch(() => null);
        }
        engine ??= await usual;
        return engine;
      };
      const take = (buffer) => {
        if (encoder) return as === "reader" ? buffer.into_reader() : buffer.into_encoder();
        return onGpu ? buffer.into_model_on_gpu(testing?.softwareAdapter === true) : buffer.into_model();
      };
      const store = order.key || order.stored ? await openStore() : null;
      const kind = encoder ? "encoder" : "model";
      const meanwhile = encoder || onGpu ? undefined : warmUp;
      const loaded = await loadModel({ engineFor, store, take, kind, progress: progressOf(id), meanwhile }, order);
      model = loaded.model;
      if (!encoder) shelf = new AdapterShelf(engine, model, adapterBytesMax);
      const regions = as === "reader" ? engine.help_regions() : undefined;
      return { info: model.info(), from: loaded.from, kept: loaded.kept, variant: engine.variant, regions };
    },

    async open(_id, { contextMax }) {
      const session = onGpu ? await model.session_on_gpu(contextMax, mustBeFaster) : model.session(contextMax);
      sessions.set(nextSession, session);
      const device = deviceOf(session);
      told.set(nextSession, device.type);
      return { session: nextSession++, contextWindow: session.context_len, device };
    },

    close(_id, { session: number }) {
      const session = sessions.get(number);
      sessions.delete(number);
      told.delete(number);
      if (session !== stepping) session?.free();
    },

    measure(_id, { messages, reply }) {
      return { tokens: model.count_chat(messages, reply) };
    },

    tokenize(_id, { text }) {
      return { ids: model.tokenize(text, true) };
    },

    generate: (id, request) => inLine(() => generate(id, request)),

    choose: (id, { session: number, messages, labels, adapters }) => inLine(async () => {
      await startOf(id);
      // A session on the GPU has its conversation there, so another one answers.
      if (onGpu) return aside(opened(number).context_len, adapters, (other) => ({ scores: other.choose_chat(messages, labels) }));
      return shelf.with(adapters, () => {
        const session = opened(number);
        AdapterShelf.put(session, adapters);
        return { scores: session.choose_chat(messages, labels) };
      });
    }),

    encode: (id, { text }) => inLine(async () => {
      await startOf(id);
      const reading = model.encode(text);
      const { embedding, probabilities, tokens, tokens_cut: tokensCut } = reading;
      reading.free();
      return { embedding, probabilities, tokens, tokensCut };
    }),

    read: (id, { turns, emotion }) => inLine(async () => {
      await startOf(id);
      const reading = model.read(turns);
      // What nobody asked for does not leave this worker.
      return emotion ? reading : { ...reading, text: null };
    }),

    follow: (_id, { turns, empathy }) => ({
      feelings: engine.follow_feelings(turns),
      line: (empathy && engine.feelings_line(turns, empathy)) ?? null,
    }),
    help: (_id, { category, region }) => engine.help(category, region),

    // In a session of its own, as it would make this one forget its conversation.
    embed: (id, { text, last, contextMax, adapters }) => inLine(async () => {
      await startOf(id);
      return aside(contextMax, adapters, (other) => ({ embedding: other.embed(text, last) }));
    }),

    async adapter_load(id, { name, order }) {
      const loaded = await shelf.load(name, order, stoppable(id, progressOf(id)));
      // Aborted in the last moment: nobody waits for it.
      if (aborted.has(id)) shelf.unload(name);
      return loaded;
    },

    adapter_unload: (_id, { name }) => shelf.unload(name),
    adapter_list: () => shelf.list(),
    adapter_ready: (_id, { adapters }) => shelf.with(adapters, () => {}),
  };

  /** The session of that number, as long as it is open. */
  function opened(number) {
    const session = sessions.get(number);
    if (dead || !session) throw failure("stopped", "This session is closed.");
    return session;
  }

  /** Progress of a load that ends with the request's abort. */
  function stoppable(id, progress) {
    return (bytes, total) => {
      if (aborted.has(id)) throw abortError();
      progress(bytes, total);
    };
  }

  /** Runs `action` after all that was asked before. */
  function inLine(action) {
    const result = line.then(action);
    line = result.catch(() => {});
    return result;
  }

  /** Lets messages in, then stops a request that was aborted in line. */
  async function startOf(id) {
    await turn();
    if (aborted.has(id)) throw abortError();
    if (dead) throw failure("stopped", "The engine has stopped. Create the model again to go on.");
  }

  /** What `action` makes of a session with these adapters that only it uses. */
  function aside(contextMax, adapters, action) {
    return shelf.with(adapters, () => {
      const session = model.session(contextMax);
      try {
        AdapterShelf.put(session, adapters);
        return action(session);
      } finally {
        session.free();
      }
    });
  }

  async function generate(id, request) {
    await startOf(id);
    const follower = request.schema === undefined ? null : await followerOf(request.schema);
    try {
      return await reply(id, request, follower);
    } finally {
      follower?.free();
    }
  }

  /** What holds a reply to a schema. */
  async function followerOf(schema) {
    vocabulary ??= vocabularyOf(model);
    // Another try may find the files.
    vocabulary.catch(() => {
      vocabulary = null;
    });
    return new Follower(await vocabulary, schema);
  }

  async function reply(id, { session: number, messages, params, adapters, profile }, follower) {
    const began = performance.now();
    const spans = profile ? {} : undefined;
    const session = await shelf.with(adapters, () => {
      if (aborted.has(id)) throw abortError();
      const session = opened(number);
      AdapterShelf.put(session, adapters);
      if (profile) session.start_profile();
      session.start_chat(messages, params);
      return session;
    });
    follower?.guide(session);
    const adapted = adapters.some(({ scale }) => scale !== 0);
    let first = 0;
    const tell = () => {
      const device = deviceOf(session, adapted);
      if (device.type === told.get(number)) return;
      told.set(number, device.type);
      post({ id, event: "device", device });
    };
    if (onGpu) tell();
    for (;;) {
      const step = onGpu ? await stepOnGpu(session, number) : session.step();
      if (told.get(number) === "gpu") tell();
      if (step.type === "prefill") {
        post({ id, event: "prefill", done: step.done, total: step.total });
      } else {
        if (profile && !first) {
          spans.prompt = session.profile();
          session.start_profile();
        }
        first ||= performance.now();
        if (follower && step.type === "token") {
          follower.accept(step.id);
          follower.guide(session);
        }
        if (follower && step.finish === "length") step.text = follower.close(step.text);
        if (step.text || step.logprobs) post({ id, event: "text", text: step.text, logprobs: step.logprobs });
      }
      if (step.type === "done") {
        const ended = performance.now();
        if (profile) spans.reply = session.profile();
        return {
          profile: spans,
          finish: step.finish,
          usage: step.usage,
          firstTokenMs: first - began,
          decodeMs: ended - first,
        };
      }
      await turn();
      if (aborted.has(id)) throw abortError();
      if (!sessions.has(number)) throw failure("stopped", "This session is closed.");
    }
  }

  async function stepOnGpu(session, number) {
    stepping = session;
    let step;
    try {
      step = await session.step_on_gpu();
    } finally {
      stepping = null;
    }
    if (sessions.has(number)) return step;
    session.free();
    throw failure("stopped", "This session is closed.");
  }

  /** Where a session's tokens are computed, and why not on the GPU if it was asked for. */
  function deviceOf(session, adapted = false) {
    const found = (onGpu && (session.gpu_reason() || (adapted && ADAPTED))) || gpu;
    const report = (onGpu && model.gpu_report()) || {};
    const reason = found?.code ?? found?.reason ?? null;
    return {
      type: onGpu && reason === null ? "gpu" : "cpu",
      adapter: gpu?.adapter ?? null,
      reason,
      message: found?.message ?? null,
      gpuBytes: onGpu ? session.gpu_bytes() : 0,
      gpuMs: report.gpu_ms ?? null,
      cpuMs: report.cpu_ms ?? null,
      cosine: report.cosine ?? null,
    };
  }

  function memoryBytes() {
    return engine?.memory.buffer.byteLength ?? 0;
  }

  function progressOf(id) {
    let last = -Infinity;
    return (bytes, total) => {
      const now = performance.now();
      if (bytes !== total && now - last < PROGRESS_EVERY_MS) return;
      last = now;
      post({ id, event: "progress", bytes, total });
    };
  }

  listen(async ({ id, op, ...request }) => {
    if (op === "abort") {
      if (active.has(id)) aborted.add(id);
      return;
    }
    active.add(id);
    try {
      if (dead) throw failure("stopped", "The engine has stopped. Create the model again to go on.");
      if (op !== "load" && !model) throw failure("stopped", "No model is loaded.");
      const result = (await ops[op](id, request)) ?? {};
      post({ id, result, memoryBytes: memoryBytes() });
    } catch (error) {
      // After a trap the memory of the module is in an unknown state.
      if (error instanceof WebAssembly.RuntimeError) dead = true;
      post({ id, error: toWire(error), memoryBytes: memoryBytes() });
    } finally {
      active.delete(id);
      aborted.delete(id);
    }
  });
}
