#!/usr/bin/env python3
"""Makes the tiny models and what llama.cpp says about them.

    pip install -r tests/vectors/requirements.txt      (builds llama.cpp from source)
    python tests/vectors/tiny/make.py                  writes *.gguf, expected.json, logits.f32 here
    python tests/vectors/tiny/make.py --f32-only       only tiny-f32.gguf; needs no llama.cpp

For every file: five prompts (token ids by llama.cpp's tokenizer), its 64 greedy tokens with their margins
(best minus second best logit), and the full logits after the prompt, in logits.f32 as little-endian f32 of
shape (files, prompts, n_vocab) in the order of `files` and `prompts` in expected.json.
Files over one megabyte are not kept: `models.py` and its Rust twin make the F32 ones again, and F16 and BF16
follow from these by rounding; the SHA-256 of every tensor is in expected.json.
"""

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]
import models  # noqa: E402

KEPT_BYTES_MAX = 1_000_000
N_GREEDY = 64
STEADY_IN = ["q4_k_m", "q5_k_m"]

# wide takes every type; tiny shows the types that llama.cpp falls back to; untied has an output.weight.
FILES = {
    "tiny": ["f32", "f16", "bf16", "q8_0", "q4_k_m", "q5_k_m"],
    "wide": ["f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "q5_0", "q5_1", "q4_k_m", "q5_k_m", "q6_k"],
    "untied": ["f32", "q4_k_m"],
}

PROMPTS = [
    {"name": "short", "text": "What is the best way to learn a thing?"},
    {"name": "chat", "text": "<|system|>Be kind.<|end|><|user|>I don't know what to do.<|end|><|assistant|>"},
    {
        "name": "long",  # more than two prefill slices of 32 tokens
        "text": "The river runs past the old mill and under the stone bridge. A kind word costs little and is worth "
        "much. She asked how the bread was made, and he told her that flour, water, salt and time are all that it "
        "needs. The children were running through the garden, laughing and calling to one another.",
    },
    {"name": "digits", "text": "1234 + 567 = 1801;\n\n  x = 3.14\t(approx)\n"},
    {"name": "utf8", "text": "naïve café, 日本語, 😀 and Ω"},
]


def main():
    args = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    args.add_argument("--f32-only", action="store_true", help="write tiny-f32.gguf and stop")
    args.add_argument("--seeds", action="store_true", help="search the seeds that models.py should hold, and stop")
    args = args.parse_args()
    if args.f32_only:
        models.write_f32(models.SPECS["tiny"], HERE / "tiny-f32.gguf")
        return
    import llamacpp

    if args.seeds:
        import seeds

        for spec in models.SPECS.values():
            print(f"{spec.name}: seed={seeds.find(spec, PROMPTS, N_GREEDY, STEADY_IN)}")
        return
    first_ids, files, logits = None, [], []
    with tempfile.TemporaryDirectory() as scratch:
        for name, ftypes in FILES.items():
            spec = models.SPECS[name]
            f32 = Path(scratch) / f"{name}-f32.gguf"
            models.write_f32(spec, f32)
            for ftype in ftypes:
                path = Path(scratch) / f"{name}-{ftype}.gguf"
                if ftype != "f32":
                    llamacpp.quantize(f32, path, ftype)
                record, ids, rows = llamacpp.judge_file(path, spec.n_ctx, PROMPTS, N_GREEDY)
                first_ids = first_ids or ids
                assert ids == first_ids, "the models share one vocabulary"
                assert all(len(g["tokens"]) == N_GREEDY for g in record["greedy"]), "control tokens must not win"
                kept = record["bytes"] < KEPT_BYTES_MAX
                if kept:
                    shutil.copyfile(path, HERE / path.name)
                files.append({"model": name, "ftype": ftype, "kept": kept, **record})
                logits.append(rows)
    llamacpp.write_expected(HERE, "tests/vectors/tiny/make.py", PROMPTS, first_ids, files, logits)


if __name__ == "__main__":
    main()
