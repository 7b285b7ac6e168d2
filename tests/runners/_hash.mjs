// The hash of the logits behind a greedy reply, through the browser face of the engine. Runs unchanged in Node,
// Chromium and workerd; the native twin is runtime-wasm/engine/examples/logits_hash.rs.

/** FNV-1a, 64 bits, over the bytes that `add` is given. The products are made of 16-bit limbs: BigInt is slow. */
export class Fnv {
  #a = 0x2325;
  #b = 0x8422;
  #c = 0x9ce4;
  #d = 0xcbf2;

  /** @param {Uint8Array} bytes */
  add(bytes) {
    let [a, b, c, d] = [this.#a, this.#b, this.#c, this.#d];
    for (const byte of bytes) {
      a ^= byte;
      // times 0x100000001b3 = 2^40 + 0x1b3
      const e = a * 0x1b3;
      const f = b * 0x1b3 + (e >>> 16);
      const g = c * 0x1b3 + ((a & 0xff) << 8) + (f >>> 16);
      const h = d * 0x1b3 + ((b << 8) | (a >>> 8)) + (g >>> 16);
      [a, b, c, d] = [e & 0xffff, f & 0xffff, g & 0xffff, h & 0xffff];
    }
    [this.#a, this.#b, this.#c, this.#d] = [a, b, c, d];
  }

  /** 16 hexadecimal digits. */
  toString() {
    return [this.#d, this.#c, this.#b, this.#a].map((limb) => limb.toString(16).padStart(4, "0")).join("");
  }
}

/**
 * @param {any} glue the module that wasm-bindgen made
 * @param {WebAssembly.Memory} memory
 * @param {Uint8Array} file a GGUF file
 * @param {string} prompt
 * @param {number} maxTokens
 * @returns {{ hash: string, ids: number[] }}
 */
export function hashReply(glue, memory, file, prompt, maxTokens) {
  const buffer = new glue.ModelBuffer(file.length);
  new Uint8Array(memory.buffer, buffer.ptr, file.length).set(file);
  const model = buffer.into_model();
  const session = model.session();
  const fnv = new Fnv();
  const ids = [];
  session.start_text(prompt, { temperature: 0, max_tokens: maxTokens });
  for (;;) {
    const step = session.step();
    if (step.type === "done") break;
    if (step.type !== "token") continue;
    ids.push(step.id);
    fnv.add(new Uint8Array(session.logits().buffer));
  }
  session.free();
  model.free();
  return { hash: fnv.toString(), ids };
}

const CLASSES = ["anger", "disgust", "fear", "joy", "neutral", "sadness", "surprise"];

/**
 * The hash of what a text model reads in texts.
 * @param {any} glue the module that wasm-bindgen made
 * @param {WebAssembly.Memory} memory
 * @param {Uint8Array} file a GGUF file
 * @param {string[]} texts
 */
export function hashReadings(glue, memory, file, texts) {
  const buffer = new glue.ModelBuffer(file.length);
  new Uint8Array(memory.buffer, buffer.ptr, file.length).set(file);
  const reader = buffer.into_reader();
  const readings = texts.map((text) => reader.read([text]));
  reader.free();
  return hashOfReadings(readings);
}

/**
 * The hash of readings; the native twin is runtime-wasm/engine/examples/reading_hash.rs. Their numbers are 32-bit
 * floats, which JSON writes in as few digits as tell them apart: rounded to such floats they have the same bits again.
 */
export function hashOfReadings(readings) {
  const fnv = new Fnv();
  for (const { text, domain, safety } of readings) {
    const { emotion_scores: emotion, labels, intensity, confidence } = text;
    const { scores } = safety;
    const numbers = [
      ...(emotion ? CLASSES.map((name) => emotion[name]) : []),
      ...labels.map(({ probability }) => probability),
      intensity, confidence, domain.probability,
      ...domain.likely.map(({ probability }) => probability),
      ...(scores ? [scores.mental_health, scores.medical, scores.abuse] : []),
    ];
    fnv.add(new Uint8Array(Float32Array.from(numbers).buffer));
    fnv.add(new TextEncoder().encode(`${domain.name ?? "none"}${safety.category}`));
  }
  return fnv.toString();
}
