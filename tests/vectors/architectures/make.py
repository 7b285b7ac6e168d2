#!/usr/bin/env python3
"""Makes what llama.cpp says about random models of every architecture that the engine runs.

    pip install -r tests/vectors/requirements.txt      (builds llama.cpp from source)
    python tests/vectors/architectures/make.py         writes expected.json and logits.f32 here

As tests/vectors/tiny/make.py, with three prompts, 32 greedy tokens and every second logit. No model is kept: the
generator of tests/vectors/tiny/models.py and its Rust twin make the F32 weights, our quantiser makes the other files,
and the SHA-256 of every tensor in expected.json proves that these are llama.cpp's bytes.
"""

import argparse
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "tiny"), str(HERE.parent)]
import llamacpp  # noqa: E402
import models  # noqa: E402
import seeds  # noqa: E402
from models import Scaling, Spec  # noqa: E402

N_GREEDY = 32
LOGITS_STRIDE = 2
ALL = ["f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "q5_0", "q5_1", "q4_k_m", "q5_k_m", "q6_k"]
QKV = ("attn_q", "attn_k", "attn_v")
LINEAR = (*QKV, "attn_output", "ffn_gate", "ffn_up", "ffn_down")

WIDE = {"n_embd": 256, "n_ff": 256, "n_layer": 2, "n_head": 4, "n_head_kv": 2, "tied": True}
SMALL = {"n_embd": 96, "n_ff": 160, "n_layer": 2, "n_head": 3, "n_head_kv": 1, "tied": True}
QWEN2 = {"arch": "qwen2", "pre": "qwen2", "biases": QKV, "rope_base": 1e6}
QWEN3 = {"arch": "qwen3", "pre": "qwen2", "key_length": 128, "rope_base": 1e6}
YARN = Scaling("yarn", 4.0, 64)

# llama itself, in every type: tests/vectors/tiny.
MODELS = [
    (Spec("qwen2", **WIDE, **QWEN2, seed=2), ALL),
    (Spec("qwen2-untied", **{**SMALL, "tied": False}, **QWEN2, seed=0), ["f32", "q8_0"]),
    (Spec("qwen2-plain", **SMALL, **{**QWEN2, "biases": ()}, seed=1), ["f32"]),
    (Spec("qwen2-yarn", **SMALL, **QWEN2, scaling=YARN, seed=4), ["f32"]),
    # Heads of 128 where n_embd / n_head is 64, as in Qwen3-0.6B.
    (Spec("qwen3", **WIDE, **QWEN3, seed=14), ALL),
    (Spec("qwen3-untied", **{**SMALL, "tied": False}, **QWEN3, seed=1), ["f32", "q8_0"]),
    (Spec("qwen3-bias", **SMALL, **QWEN3, biases=QKV, seed=0), ["f32"]),
    (Spec("qwen3-yarn", **SMALL, **QWEN3, scaling=Scaling("yarn", 4.0, 64, 0.8), seed=2), ["f32"]),
    # SmolLM2-135M a third as wide: rows that are no multiple of 256, three query heads on each key.
    (Spec("smollm2", **{**WIDE, "n_embd": 192, "n_ff": 512, "n_head": 3, "n_head_kv": 1}, rope_base=1e5, seed=4), ALL),
    (Spec("llama-bias", **SMALL, biases=LINEAR, seed=2), ["f32", "q8_0"]),
    (Spec("llama-factors", **SMALL, rope_factors=True, seed=1), ["f32"]),
    (Spec("llama-linear", **SMALL, scaling=Scaling("linear", 4.0, 64), seed=0), ["f32"]),
    (Spec("llama-yarn", **SMALL, scaling=YARN, seed=5), ["f32"]),
    (Spec("llama-betas", **SMALL, scaling=Scaling("yarn", 4.0, 256, 1.2, (8.0, 2.0)), seed=3), ["f32"]),
]

PROMPTS = [
    {"name": "chat", "text": "<|system|>Be kind.<|end|><|user|>I don't know what to do.<|end|><|assistant|>"},
    {
        "name": "long",  # more than two prefill slices of 32 tokens
        "text": "The river runs past the old mill and under the stone bridge. A kind word costs little and is worth "
        "much. She asked how the bread was made, and he told her that flour, water, salt and time are all that it "
        "needs. The children were running through the garden, laughing and calling to one another.",
    },
    {"name": "digits", "text": "12 + 5 = 17, and naïve 日本語 is 😀"},
]


def main():
    args = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    args.add_argument("--seeds", action="store_true", help="search the seeds that MODELS should hold, and stop")
    args = args.parse_args()
    if args.seeds:
        for spec, ftypes in MODELS:
            steady_in = [ftype for ftype in ("q4_k_m", "q5_k_m") if ftype in ftypes]
            print(f"{spec.name}: seed={seeds.find(spec, PROMPTS, N_GREEDY, steady_in)}", flush=True)
        return
    first_ids, files, logits = None, [], []
    with tempfile.TemporaryDirectory() as scratch:
        for spec, ftypes in MODELS:
            f32 = Path(scratch) / f"{spec.name}-f32.gguf"
            models.write_f32(spec, f32)
            betas = spec.scaling.betas if spec.scaling else None
            for ftype in ftypes:
                path = Path(scratch) / f"{spec.name}-{ftype}.gguf"
                if ftype != "f32":
                    llamacpp.quantize(f32, path, ftype)
                record, ids, rows = llamacpp.judge_file(
                    path, spec.n_ctx, PROMPTS, N_GREEDY, LOGITS_STRIDE, betas=betas
                )
                first_ids = first_ids or ids
                assert ids == first_ids, "the models share one vocabulary"
                assert all(len(g["tokens"]) == N_GREEDY for g in record["greedy"]), "control tokens must not win"
                files.append({"model": spec.name, "ftype": ftype, "kept": False, **record})
                logits.append(rows)
    llamacpp.write_expected(HERE, "tests/vectors/architectures/make.py", PROMPTS, first_ids, files, logits)


if __name__ == "__main__":
    main()
