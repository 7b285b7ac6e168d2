#!/usr/bin/env python3
"""Makes LoRA adapters over the tiny models and what llama.cpp says with them.

    pip install -r tests/vectors/requirements.txt      (builds llama.cpp from source)
    python tests/vectors/adapters/make.py              writes *.gguf, expected.json, logits.f32 here

Each case is a base of `tests/vectors/tiny`, some adapters with their scales, and for every prompt of that folder
the logits after it, in logits.f32 as little-endian f32 of shape (cases, prompts, n_vocab).

The weights are random (the generator of the tiny models), so large that an adapter turns the reply: a test that
forgot one would not pass. Scales stay moderate over quantised bases, since a random network with a large random
change magnifies rounding: at scale 2 over wide-q6_k two correct engines differ by a cosine of 0.998.
"""

import ctypes
import json
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
TINY = HERE.parent / "tiny"
sys.path[:0] = [str(TINY), str(HERE.parent)]
import gguf  # noqa: E402
import llama_cpp as L  # noqa: E402
import llamacpp  # noqa: E402
import models  # noqa: E402
import numpy as np  # noqa: E402

LINEARS = ["attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"]

# name: (model, rank, alpha, type, linears of each layer, whether output.weight too)
ADAPTERS = {
    "tiny-all": ("tiny", 4, 8.0, "F16", LINEARS, False),
    "tiny-some": ("tiny", 3, 0.0, "F32", ["attn_v", "ffn_down"], False),  # alpha 0: the scale alone counts
    "wide-q8": ("wide", 32, 16.0, "Q8_0", ["attn_v", "attn_output"], False),
    "untied-out": ("untied", 5, 5.0, "BF16", ["attn_k", "ffn_up"], True),
}

# (base file, [(adapter, scale)])
CASES = [
    ("tiny-f32.gguf", [("tiny-all", 1.0)]),
    ("tiny-f32.gguf", [("tiny-all", -0.5)]),
    ("tiny-f32.gguf", [("tiny-some", 0.7)]),
    ("tiny-f32.gguf", [("tiny-all", 0.6), ("tiny-some", 1.2)]),
    ("tiny-q8_0.gguf", [("tiny-all", 1.0)]),
    ("tiny-q4_k_m.gguf", [("tiny-all", 0.6), ("tiny-some", 1.2)]),
    ("wide-q4_k_m.gguf", [("wide-q8", 0.6)]),
    ("wide-q6_k.gguf", [("wide-q8", -0.6)]),
    ("untied-q4_k_m.gguf", [("untied-out", 1.0)]),
]


def write_adapter(name):
    model, rank, alpha, kind, linears, output = ADAPTERS[name]
    spec = models.SPECS[model]
    d, ff, kv = spec.n_embd, spec.n_ff, spec.n_head_kv * spec.head_dim
    shapes = {  # (n_out, n_in)
        "attn_q": (d, d), "attn_k": (kv, d), "attn_v": (kv, d), "attn_output": (d, d),
        "ffn_gate": (ff, d), "ffn_up": (ff, d), "ffn_down": (d, ff),
    }  # fmt: skip
    plan = [(f"blk.{i}.{linear}.weight", shapes[linear]) for i in range(spec.n_layer) for linear in linears]
    if output:
        plan.append(("output.weight", (spec.n_vocab, d)))
    ty = gguf.GGMLQuantizationType[kind]
    w = gguf.GGUFWriter(HERE / f"{name}.gguf", "llama")
    w.add_type("adapter")
    w.add_name(f"meetara-{name}-random")
    w.add_license("CC0-1.0")
    w.add_string("adapter.type", "lora")
    w.add_float32("adapter.lora.alpha", alpha)
    for weight, (n_out, n_in) in plan:
        std = 0.4 / (alpha / rank if alpha else 1.0)
        a = models.weights(f"{name}/{weight}.lora_a", 0, rank * n_in, 0.0, 1 / n_in**0.5).reshape(rank, n_in)
        b = models.weights(f"{name}/{weight}.lora_b", 0, n_out * rank, 0.0, std / rank**0.5).reshape(n_out, rank)
        if weight == "output.weight":
            b *= np.float32(0.25)
        for suffix, values in (("lora_a", a), ("lora_b", b)):
            data = values if kind == "F32" else gguf.quants.quantize(values, ty)
            w.add_tensor(f"{weight}.{suffix}", data, raw_dtype=None if kind == "F32" else ty)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def judge(base, adapters, prompts):
    """Logits after each prompt: (prompts, n_vocab), and how far the adapters moved them."""
    judge = llamacpp.Judge(TINY / base, 256)
    rows = []
    for _ in range(2):
        for tokens in prompts:
            rows.append(judge.greedy(tokens, 1)[0])
        if len(rows) == len(prompts):
            handles = [L.llama_adapter_lora_init(judge.model, str(HERE / f"{n}.gguf").encode()) for n, _ in adapters]
            assert all(handles), "llama.cpp does not take the adapter"
            array = (L.llama_adapter_lora_p_ctypes * len(handles))(*handles)
            scales = (ctypes.c_float * len(handles))(*[scale for _, scale in adapters])
            assert L.llama_set_adapters_lora(judge.ctx, array, len(handles), scales) == 0
    judge.close()
    plain, adapted = np.array(rows[: len(prompts)]), np.array(rows[len(prompts) :])
    cosines = (plain * adapted).sum(1) / np.linalg.norm(plain, axis=1) / np.linalg.norm(adapted, axis=1)
    return adapted, float(cosines.max())


def main():
    for name in ADAPTERS:
        write_adapter(name)
    prompts = [p["tokens"] for p in json.loads((TINY / "expected.json").read_text())["prompts"]]
    cases, logits = [], b""
    for base, adapters in CASES:
        rows, moved = judge(base, adapters, prompts)
        print(f"{base:20} {adapters} cosine to the base at most {moved:.3f}")
        assert moved < 0.98, "the adapters hardly matter"
        logits += rows.astype("<f4").tobytes()
        cases.append({"base": base, "adapters": [[f"{n}.gguf", scale] for n, scale in adapters]})
    lines = ",\n".join("  " + json.dumps(case) for case in cases)
    made_by = "tests/vectors/adapters/make.py with llama-cpp-python 0.3.36"
    (HERE / "expected.json").write_text(f'{{\n "made_by": "{made_by}",\n "cases": [\n{lines}\n ]\n}}\n')
    (HERE / "logits.f32").write_bytes(logits)


if __name__ == "__main__":
    main()
