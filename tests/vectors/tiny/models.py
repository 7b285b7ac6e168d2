"""The tiny models: every weight follows from a name, a seed and a shape.

Nothing here needs llama.cpp: `write_f32(spec, path)` makes the F32 GGUF with the `gguf` package.
`runtime-wasm/engine/tests/support/tiny.rs` holds the same generator in Rust, so that F32 files that are
too large to commit are made again at test time; the SHA-256 of the tensor data in `expected.json` proves
that both give the same bytes.

Weights. For tensor `name`, element `i` in memory order:

    z = splitmix64((fnv1a64(name) ^ seed) + (i + 1) * 0x9E3779B97F4A7C15)    (all modulo 2^64)
    s = (sum of the four 16-bit parts of z) - 131070                         (nearly normal, std 37837.2)
    w = f32(centre + s * (std / 37837.2))                                    (in f64, rounded once)

Scales are chosen so that the layers, not the embedding, decide the next token (a tied model with large
embeddings repeats its input), and so that control tokens never win (their rows are 1/16 as large), which
keeps generation running to its limit.

Each model's seed is the first, counted from SEED, that gives tests a firm ground (`make.py --seeds` searches, with
`seeds.py`), all by llama.cpp: in F32 the best logit leads by at least 0.01 at each greedy step of all prompts (a random
network has near ties, which an F16 key/value cache may decide the other way), and in Q4_K_M and Q5_K_M the logits
with an F16 cache have a cosine of at least 0.9995 to those with an F32 cache.
"""

import re
from collections import Counter
from dataclasses import dataclass

import gguf
import numpy as np

SEED = 0x6D65657461726131  # "meetara1"; a model's seed is SEED + its `seed`
STD_OF_SUM = 37837.2  # sqrt(4 * (2^32 - 1) / 12), rounded to one place: it is part of the definition
N_CONTROL = 16

CHAT_TEMPLATE = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)

# The merges are learned from these sentences, so they are ordinary English pieces.
TEXT = """
The river runs past the old mill and under the stone bridge, and in the morning the mist hangs over the water.
A kind word costs little and is worth much. When you feel tired, rest for a while, drink some water and breathe.
She asked how the bread was made, and he told her that flour, water, salt and time are all that it needs.
In 1984 there were 12 houses on this street; now there are 37, and the trees are taller than the roofs.
What is the best way to learn a thing? Do it, make mistakes, find out why, and then do it again with care.
If the door is open, come in; if it is closed, knock twice and wait. There is always someone at home here.
The children were running through the garden, laughing and calling to one another while the sun was setting.
I don't know whether it'll rain, but they've said that we're going to have a storm, so I'd take a coat.
"""


@dataclass(frozen=True)
class Scaling:
    """`{arch}.rope.scaling.*`. llama.cpp reads the betas of few architectures from the file; make.py hands them to it."""

    type: str
    factor: float
    original_len: int
    attn_factor: float = 1.0
    betas: tuple | None = None  # (fast, slow)


@dataclass(frozen=True)
class Spec:
    """One model's shape. Linear weights are [in, out] in GGUF's order (dims[0] is contiguous)."""

    name: str
    n_embd: int
    n_ff: int
    n_layer: int
    n_head: int
    n_head_kv: int
    tied: bool
    seed: int
    n_vocab: int = 512
    n_ctx: int = 256
    rope_base: float = 10000.0
    rms_eps: float = 1e-5
    arch: str = "llama"
    pre: str = "smollm"
    key_length: int = 0  # 0: n_embd / n_head, and the file does not say
    biases: tuple = ()  # the linear layers that have one
    rope_factors: bool = False  # whether there is a rope_freqs.weight
    scaling: Scaling | None = None

    @property
    def head_dim(self):
        return self.key_length or self.n_embd // self.n_head

    @property
    def qk_norm(self):
        return self.arch == "qwen3"


# tiny:   rows of 96 and 204: no multiple of 256, and 204 not of 32 or 8 either (fallback types, tails).
# wide:   rows of 256, so that every K-quant can be used.
# untied: an output.weight of its own, and n_ff != n_embd.
SPECS = {
    s.name: s
    for s in [
        Spec("tiny", n_embd=96, n_ff=204, n_layer=2, n_head=4, n_head_kv=2, tied=True, seed=137),
        Spec("wide", n_embd=256, n_ff=256, n_layer=2, n_head=4, n_head_kv=2, tied=True, seed=382),
        Spec("untied", n_embd=256, n_ff=512, n_layer=1, n_head=8, n_head_kv=2, tied=False, seed=9),
    ]
}


def fnv1a64(text):
    h = 0xCBF29CE484222325
    for b in text.encode():
        h = ((h ^ b) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return h


def weights(name, seed, count, centre, std):
    """`count` f32 values in memory order."""
    with np.errstate(over="ignore"):
        start = np.uint64(fnv1a64(name) ^ (SEED + seed))
        z = start + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    parts = sum(((z >> np.uint64(s)) & np.uint64(0xFFFF)).astype(np.int64) for s in (0, 16, 32, 48))
    s = (parts - 131070).astype(np.float64)
    return (centre + s * (std / STD_OF_SUM)).astype(np.float32)


def tensor_plan(spec):
    """(name, shape as [rows, row length], centre, std) of every tensor, in file order.

    `[rows, row length]` is numpy's order; GGUF's dims are the reverse. 1-D shapes are norms, biases and factors.
    """
    d, ff, q, kv = spec.n_embd, spec.n_ff, spec.n_head * spec.head_dim, spec.n_head_kv * spec.head_dim
    plan = [("token_embd.weight", [spec.n_vocab, d], 0.0, 0.1)]
    if spec.rope_factors:
        plan.append(("rope_freqs.weight", [spec.head_dim // 2], 2.0, 0.3))
    for i in range(spec.n_layer):
        b = f"blk.{i}."
        plan += [
            (b + "attn_norm.weight", [d], 1.0, 0.1),
            (b + "attn_q.weight", [q, d], 0.0, 1.3 / d**0.5),
            (b + "attn_k.weight", [kv, d], 0.0, 1.3 / d**0.5),
            (b + "attn_v.weight", [kv, d], 0.0, 1.0 / d**0.5),
            (b + "attn_output.weight", [d, q], 0.0, 1.0 / q**0.5),
            (b + "ffn_norm.weight", [d], 1.0, 0.1),
            (b + "ffn_gate.weight", [ff, d], 0.0, 1.2 / d**0.5),
            (b + "ffn_up.weight", [ff, d], 0.0, 1.2 / d**0.5),
            (b + "ffn_down.weight", [d, ff], 0.0, 1.5 / ff**0.5),
        ]
        rows = {"attn_q": q, "attn_k": kv, "attn_v": kv, "ffn_gate": ff, "ffn_up": ff}
        plan += [(f"{b}{part}.bias", [rows.get(part, d)], 0.0, 0.3) for part in spec.biases]
        if spec.qk_norm:
            plan += [(f"{b}attn_{side}_norm.weight", [spec.head_dim], 1.2, 0.2) for side in "qk"]
    plan.append(("output_norm.weight", [d], 3.0, 0.3))
    if not spec.tied:
        plan.append(("output.weight", [spec.n_vocab, d], 0.0, 0.1))
    return plan


def tensors(spec):
    """Yields (name, array). The rows of control tokens are 1/16 as large (an exact scaling)."""
    for name, shape, centre, std in tensor_plan(spec):
        w = weights(f"{spec.name}/{name}", spec.seed, int(np.prod(shape)), centre, std).reshape(shape)
        if name in ("token_embd.weight", "output.weight"):
            w[:N_CONTROL] *= np.float32(0.0625)
        yield name, w


def byte_alphabet():
    """GPT-2's printable stand-ins: byte value -> character."""
    keep = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    table, extra = {}, 0
    for b in range(256):
        if b in keep:
            table[b] = chr(b)
        else:
            table[b] = chr(256 + extra)
            extra += 1
    return table


def vocabulary(n_vocab):
    """(tokens, token types, merges): 16 control tokens, 256 bytes, then learned merges."""
    tokens = ["<|endoftext|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"]
    tokens += [f"<|reserved_{i}|>" for i in range(N_CONTROL - len(tokens))]
    types = [int(gguf.TokenType.CONTROL)] * N_CONTROL
    table = byte_alphabet()
    tokens += [table[b] for b in range(256)]
    # A simpler split than the pre-tokenizer's: it only decides which merges are learned.
    words = Counter(re.findall(r"'[a-z]+| ?[A-Za-z]+| ?[^\sA-Za-z0-9]+|\s+", TEXT))
    words = {tuple(table[b] for b in w.encode()): n for w, n in words.items()}
    merges = []
    while len(tokens) < n_vocab:
        pairs = Counter()
        for w, n in words.items():
            for pair in zip(w, w[1:]):
                pairs[pair] += n
        # Ties go to the pair that sorts first, so the result depends on nothing else.
        left, right = min(pairs, key=lambda p: (-pairs[p], p))
        merges.append(f"{left} {right}")
        tokens.append(left + right)
        merged = {}
        for w, n in words.items():
            out, i = [], 0
            while i < len(w):
                if i + 1 < len(w) and w[i] == left and w[i + 1] == right:
                    out.append(left + right)
                    i += 2
                else:
                    out.append(w[i])
                    i += 1
            merged[tuple(out)] = merged.get(tuple(out), 0) + n
        words = merged
    types += [int(gguf.TokenType.NORMAL)] * (n_vocab - N_CONTROL)
    assert len(set(tokens)) == n_vocab
    return tokens, types, merges


def write_f32(spec, path):
    w = gguf.GGUFWriter(path, spec.arch)
    w.add_type("model")
    w.add_name(f"meetara-{spec.name}-random")
    w.add_license("CC0-1.0")
    w.add_description("Random weights for tests; it cannot answer anything")
    w.add_context_length(spec.n_ctx)
    w.add_embedding_length(spec.n_embd)
    w.add_block_count(spec.n_layer)
    w.add_feed_forward_length(spec.n_ff)
    w.add_head_count(spec.n_head)
    w.add_head_count_kv(spec.n_head_kv)
    w.add_rope_dimension_count(spec.head_dim)
    w.add_rope_freq_base(spec.rope_base)
    if spec.key_length:
        w.add_key_length(spec.key_length)
        w.add_value_length(spec.key_length)
    if spec.scaling:
        key = f"{spec.arch}.rope.scaling."
        w.add_string(key + "type", spec.scaling.type)
        w.add_float32(key + "factor", spec.scaling.factor)
        w.add_uint32(key + "original_context_length", spec.scaling.original_len)
        w.add_float32(key + "attn_factor", spec.scaling.attn_factor)
        for name, beta in zip(("fast", "slow"), spec.scaling.betas or ()):
            w.add_float32(f"{key}yarn_beta_{name}", beta)
    w.add_layer_norm_rms_eps(spec.rms_eps)
    w.add_vocab_size(spec.n_vocab)
    w.add_file_type(int(gguf.LlamaFileType.ALL_F32))
    tokens, types, merges = vocabulary(spec.n_vocab)
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre(spec.pre)
    w.add_token_list(tokens)
    w.add_token_types(types)
    w.add_token_merges(merges)
    w.add_bos_token_id(0)
    w.add_eos_token_id(0)
    w.add_eot_token_id(4)
    w.add_pad_token_id(0)
    w.add_add_bos_token(True)
    w.add_chat_template(CHAT_TEMPLATE)
    for name, array in tensors(spec):
        w.add_tensor(name, array)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
