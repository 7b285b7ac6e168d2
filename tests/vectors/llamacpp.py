"""llama.cpp as judge, through llama-cpp-python's low-level interface.

Used only to make expected values; the normal test run reads what it left behind.
One thread, F32 key/value cache, no flash attention: the plainest path, so that what is compared is the model
and not a cache format. Pinned: llama-cpp-python 0.3.36 (see requirements.txt).
"""

import ctypes
import hashlib
import json
from pathlib import Path

import gguf
import llama_cpp as L
import numpy as np

FTYPES = {
    "f32": L.LLAMA_FTYPE_ALL_F32,
    "f16": L.LLAMA_FTYPE_MOSTLY_F16,
    "bf16": L.LLAMA_FTYPE_MOSTLY_BF16,
    "q8_0": L.LLAMA_FTYPE_MOSTLY_Q8_0,
    "q4_0": L.LLAMA_FTYPE_MOSTLY_Q4_0,
    "q4_1": L.LLAMA_FTYPE_MOSTLY_Q4_1,
    "q5_0": L.LLAMA_FTYPE_MOSTLY_Q5_0,
    "q5_1": L.LLAMA_FTYPE_MOSTLY_Q5_1,
    "q4_k_m": L.LLAMA_FTYPE_MOSTLY_Q4_K_M,
    "q5_k_m": L.LLAMA_FTYPE_MOSTLY_Q5_K_M,
    "q6_k": L.LLAMA_FTYPE_MOSTLY_Q6_K,
}

L.llama_backend_init()


@L.llama_log_callback
def _quiet(level, text, _):
    if level in (3, 4):  # warnings and errors; 5 continues a line
        print("llama.cpp:", text.decode(errors="replace").rstrip())


L.llama_log_set(_quiet, ctypes.c_void_p(0))


def quantize(src, dst, ftype):
    """llama.cpp's own quantiser, one thread, no importance matrix."""
    params = L.llama_model_quantize_default_params()
    params.ftype = FTYPES[ftype]
    params.nthread = 1
    rc = L.llama_model_quantize(str(src).encode(), str(dst).encode(), ctypes.byref(params))
    if rc != 0:
        raise SystemExit(f"llama_model_quantize({src} -> {ftype}) failed with {rc}")


def tensor_table(path):
    """[name, type, SHA-256 of its bytes] of every tensor, in file order."""
    return [
        [t.name, t.tensor_type.name, hashlib.sha256(np.ascontiguousarray(t.data).tobytes()).hexdigest()]
        for t in gguf.GGUFReader(path).tensors
    ]


class Judge:
    """One model opened in llama.cpp. `betas` are YaRN's, where they are not llama.cpp's own."""

    def __init__(self, path, n_ctx, cache_type=L.GGML_TYPE_F32, betas=None):
        mp = L.llama_model_default_params()
        mp.n_gpu_layers = 0
        self.model = L.llama_model_load_from_file(str(path).encode(), mp)
        if not self.model:
            raise SystemExit(f"llama.cpp cannot open {path}")
        cp = L.llama_context_default_params()
        cp.n_ctx = n_ctx
        cp.n_batch = n_ctx
        cp.n_ubatch = n_ctx
        cp.n_threads = 1
        cp.n_threads_batch = 1
        cp.type_k = cache_type
        cp.type_v = cache_type
        if betas:
            cp.yarn_beta_fast, cp.yarn_beta_slow = betas
        cp.flash_attn_type = L.LLAMA_FLASH_ATTN_TYPE_DISABLED
        self.ctx = L.llama_init_from_model(self.model, cp)
        if not self.ctx:
            raise SystemExit(f"llama.cpp cannot make a context for {path}")
        self.vocab = L.llama_model_get_vocab(self.model)
        self.n_vocab = L.llama_vocab_n_tokens(self.vocab)

    def close(self):
        L.llama_free(self.ctx)
        L.llama_model_free(self.model)

    def tokenize(self, text, add_bos=True, special=True):
        raw = text.encode()
        buf = (L.llama_token * (len(raw) + 8))()
        n = L.llama_tokenize(self.vocab, raw, len(raw), buf, len(buf), add_bos, special)
        if n < 0:
            raise SystemExit("the token buffer is too small")
        return list(buf[:n])

    def is_end(self, token):
        return bool(L.llama_vocab_is_eog(self.vocab, token))

    def _decode(self, tokens, position):
        """Evaluates `tokens` at `position`; logits (n_vocab) after the last one."""
        batch = L.llama_batch_init(len(tokens), 0, 1)
        batch.n_tokens = len(tokens)
        for i, t in enumerate(tokens):
            batch.token[i] = t
            batch.pos[i] = position + i
            batch.n_seq_id[i] = 1
            batch.seq_id[i][0] = 0
            batch.logits[i] = i + 1 == len(tokens)
        rc = L.llama_decode(self.ctx, batch)
        L.llama_batch_free(batch)
        if rc != 0:
            raise SystemExit(f"llama_decode failed with {rc} at position {position}")
        row = L.llama_get_logits_ith(self.ctx, -1)
        return np.ctypeslib.as_array(row, shape=(self.n_vocab,)).astype(np.float32).copy()

    def greedy(self, prompt, n, past_end=False):
        """(logits after the prompt, n greedy tokens, margin of each: best minus second best logit).

        Stops early at an end-of-generation token, which is then the last of the list, unless `past_end`.
        """
        L.llama_memory_clear(L.llama_get_memory(self.ctx), True)
        logits = first = self._decode(prompt, 0)
        out, margins = [], []
        for i in range(n):
            token = int(np.argmax(logits))
            second, best = np.partition(logits, -2)[-2:]
            out.append(token)
            margins.append(float(best - second))
            if (self.is_end(token) and not past_end) or i + 1 == n:
                break
            logits = self._decode([token], len(prompt) + i)
        return first, out, margins


def cache_cosines(path, n_ctx, prompts):
    """For each prompt the cosine between the logits with an F32 and an F16 key/value cache: how much the model
    magnifies rounding."""
    rows = []
    for cache_type in (L.GGML_TYPE_F32, L.GGML_TYPE_F16):
        judge = Judge(path, n_ctx, cache_type)
        rows.append([judge.greedy(judge.tokenize(p["text"]), 1)[0].astype(np.float64) for p in prompts])
        judge.close()
    return [float(a @ b / np.sqrt((a @ a) * (b @ b))) for a, b in zip(*rows)]


def judge_file(path, n_ctx, prompts, n_greedy, logits_stride=1, past_end=False, betas=None):
    """What llama.cpp says about one file.

    `prompts` are dicts with `name` and `text`. Returns (record for expected.json, token ids of each prompt,
    f32 logits after each prompt as bytes: ids 0, logits_stride, 2 * logits_stride ...).
    """
    judge = Judge(path, n_ctx, betas=betas)
    ids = [judge.tokenize(p["text"]) for p in prompts]
    greedy, logits = [], b""
    for tokens in ids:
        row, out, margins = judge.greedy(tokens, n_greedy, past_end)
        logits += row[::logits_stride].astype("<f4").tobytes()
        greedy.append({"tokens": out, "margins": [float(f"{m:.6g}") for m in margins]})
    n_vocab = judge.n_vocab
    judge.close()
    data = Path(path).read_bytes()
    record = {
        "file": Path(path).name,
        "bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        "n_vocab": n_vocab,
        "logits_stride": logits_stride,
        "tensors": tensor_table(path),
        "greedy": greedy,
    }
    low = min(m for g in greedy for m in g["margins"])
    print(f"{record['file']:32} {len(data):10} bytes  smallest margin {low:.5f}")
    return record, ids, logits


def write_expected(folder, made_by, prompts, ids, files, logits):
    """expected.json, one line a prompt and a file so that a change shows where it is, and logits.f32."""
    rows = {"prompts": [{**p, "tokens": t} for p, t in zip(prompts, ids)], "files": files}
    body = f' "made_by": {json.dumps(made_by + " with llama-cpp-python 0.3.36")}'
    for key, values in rows.items():
        lines = ",\n".join("  " + json.dumps(v, ensure_ascii=False) for v in values)
        body += f",\n {json.dumps(key)}: [\n{lines}\n ]"
    (folder / "expected.json").write_text("{\n" + body + "\n}\n")
    (folder / "logits.f32").write_bytes(b"".join(logits))
