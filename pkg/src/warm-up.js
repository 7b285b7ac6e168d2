// Work for an engine whose model is still on its way.
//
// Browsers compile a function of WebAssembly when it is first called. Those that open a model and make its first token
// take as long to compile as to run, so they are called once, with a model of no weight, while bytes arrive.

/** GGUF's numbers of its types of values, and of the blocks that our models have. */
const TYPE = { u32: 4, i32: 5, f32: 6, text: 8, array: 9 };
const F32 = { id: 0, weights: 1, bytes: 4 };
const Q4_K = { id: 12, weights: 256, bytes: 144 };
const Q6_K = { id: 14, weights: 256, bytes: 210 };

const ALIGNMENT = 32;
const EMBEDDING = 256;
const CONTROL = ["<|end|>", "<|user|>", "<|assistant|>"];
/** How its tokens are chosen: through all that usual settings go through. */
export const SAMPLED = { temperature: 0.8, top_k: 40, top_p: 0.95, repeat_penalty: 1.1, max_tokens: 3 };
const TEMPLATE = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}";

/** The characters that GPT-2 writes for the bytes 0 to 255. */
function byteTexts() {
  const shown = (byte) => (byte > 32 && byte < 127) || (byte > 160 && byte !== 173);
  let other = 256;
  return Array.from({ length: 256 }, (_, byte) => String.fromCharCode(shown(byte) ? byte : other++));
}

/** A llama of one layer, all zeros: `[name, dims, type]` of each tensor. */
function tensors(vocabulary) {
  const matrix = (name, rows, type) => [`blk.0.${name}.weight`, [EMBEDDING, rows], type];
  return [
    ["token_embd.weight", [EMBEDDING, vocabulary], Q6_K],
    ["output_norm.weight", [EMBEDDING], F32],
    ["blk.0.attn_norm.weight", [EMBEDDING], F32],
    ["blk.0.ffn_norm.weight", [EMBEDDING], F32],
    matrix("attn_q", 256, Q4_K),
    matrix("attn_k", 128, Q4_K),
    matrix("attn_v", 128, Q6_K),
    matrix("attn_output", 256, Q4_K),
    matrix("ffn_gate", 256, Q4_K),
    matrix("ffn_up", 256, Q4_K),
    matrix("ffn_down", 256, Q6_K),
  ];
}

/** The file of that model. */
export function weightlessModel() {
  const tokens = [...CONTROL, ...byteTexts(), "he"];
  const header = [];
  const word = (value) => header.push(value & 255, (value >>> 8) & 255, (value >>> 16) & 255, value >>> 24);
  const long = (value) => {
    word(value);
    word(0);
  };
  const text = (value) => {
    const bytes = new TextEncoder().encode(value);
    long(bytes.length);
    header.push(...bytes);
  };
  const put = {
    [TYPE.u32]: word,
    [TYPE.i32]: word,
    [TYPE.f32]: (value) => word(new Uint32Array(Float32Array.of(value).buffer)[0]),
    [TYPE.text]: text,
  };
  const metadata = [
    ["general.architecture", TYPE.text, "llama"],
    ["llama.context_length", TYPE.u32, 128],
    ["llama.embedding_length", TYPE.u32, EMBEDDING],
    ["llama.block_count", TYPE.u32, 1],
    ["llama.feed_forward_length", TYPE.u32, 256],
    ["llama.attention.head_count", TYPE.u32, 8],
    ["llama.attention.head_count_kv", TYPE.u32, 4],
    ["llama.attention.layer_norm_rms_epsilon", TYPE.f32, 1e-5],
    ["tokenizer.ggml.model", TYPE.text, "gpt2"],
    ["tokenizer.ggml.pre", TYPE.text, "smollm"],
    ["tokenizer.ggml.tokens", TYPE.text, tokens],
    ["tokenizer.ggml.token_type", TYPE.i32, tokens.map((_, id) => (id < CONTROL.length ? 3 : 1))],
    ["tokenizer.ggml.merges", TYPE.text, ["h e"]],
    ["tokenizer.ggml.eos_token_id", TYPE.u32, 0],
    ["tokenizer.chat_template", TYPE.text, TEMPLATE],
  ];
  const table = tensors(tokens.length);

  header.push(...new TextEncoder().encode("GGUF"));
  word(3);
  long(table.length);
  long(metadata.length);
  for (const [key, type, value] of metadata) {
    text(key);
    if (Array.isArray(value)) {
      word(TYPE.array);
      word(type);
      long(value.length);
      value.forEach(put[type]);
    } else {
      word(type);
      put[type](value);
    }
  }
  let dataBytes = 0;
  for (const [name, dims, { id, weights, bytes }] of table) {
    text(name);
    word(dims.length);
    dims.forEach(long);
    word(id);
    long(dataBytes);
    const count = dims.reduce((product, dim) => product * dim, 1);
    dataBytes += Math.ceil(((count / weights) * bytes) / ALIGNMENT) * ALIGNMENT;
  }
  const dataStart = Math.ceil(header.length / ALIGNMENT) * ALIGNMENT;
  const file = new Uint8Array(dataStart + dataBytes);
  file.set(header);
  return file;
}

/**
 * Has the browser compile what opens a model and makes its first tokens.
 * @param {any} engine of `loadEngine`
 */
export function warmUp(engine) {
  const file = weightlessModel();
  let model;
  let session;
  try {
    const buffer = new engine.ModelBuffer(file.length);
    engine.view(buffer).set(file);
    model = buffer.into_model();
    session = model.session(128);
    session.start_chat([{ role: "user", content: "hey" }], SAMPLED);
    while (session.step().type !== "done");
  } catch (error) {
    // Without memory for this there is none for the model, whose error then says so. A trap is another matter.
    if (error instanceof WebAssembly.RuntimeError) throw error;
  } finally {
    session?.free();
    model?.free();
  }
}
