#!/usr/bin/env python3
"""What llama.cpp says about the shipped pocket model.

    pip install -r tests/vectors/requirements.txt
    python tests/vectors/pocket/make.py                          models/pocket/meetara-pocket-q4_k_m.gguf
    python tests/vectors/pocket/make.py --f32 runs/base/f32.gguf  and the F32 export it was quantised from

Opens the file in llama.cpp (which proves that it is one llama.cpp accepts), takes five prompts in the model's own
chat format, 64 greedy tokens (past the end of a short reply too), the margin of each, and the full logits after
the prompt. Writes expected.json and logits.f32 here. With `--f32`, llama.cpp also quantises the export to Q4_K_M
and the types of all tensors are compared with the shipped file's; a shipped file that used an importance
matrix has other bytes, so bytes are only counted, not demanded.

Then `cargo test --release -p meetara-engine --test llamacpp` compares the engine with these values; it looks for
the F32 export at target/models/meetara-pocket-f32.gguf and says so when it is not there.
"""

import argparse
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
sys.path[:0] = [str(HERE.parent)]

N_GREEDY = 64
N_CTX = 512


def chat(*turns):
    roles = ["user", "assistant"]
    text = "".join(f"<|{roles[i % 2]}|>{turn}<|end|>" for i, turn in enumerate(turns))
    return text + "<|assistant|>"


# `<|endoftext|>` (the BOS) is put in front by the tokenizer.
PROMPTS = [
    {"name": "hello", "text": chat("Hello! How are you today?")},
    {"name": "sad", "text": chat("I feel sad today and I do not know why.")},
    {"name": "sleep", "text": chat("What can I do to sleep better?")},
    {"name": "system", "text": "<|system|>You are a kind and patient helper.<|end|>" + chat("How do I boil an egg?")},
    {
        "name": "history",
        "text": chat("I want to learn to cook.", "That is a good idea. What do you like to eat?", "Soup, mostly."),
    },
]


def main():
    args = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    args.add_argument("--model", type=Path, default=ROOT / "models/pocket/meetara-pocket-q4_k_m.gguf")
    args.add_argument("--f32", type=Path, help="the F32 export of the same weights")
    args = args.parse_args()
    for path in [args.model, args.f32]:
        if path and not path.is_file():
            raise SystemExit(f"{path} is not there; name the file with --model or --f32")
    import llamacpp

    record, ids, rows = llamacpp.judge_file(args.model, N_CTX, PROMPTS, N_GREEDY, past_end=True)
    files, logits = [{"model": "pocket", "ftype": "q4_k_m", "kept": True, **record}], [rows]
    if args.f32:
        f32, f32_ids, rows = llamacpp.judge_file(args.f32, N_CTX, PROMPTS, N_GREEDY, past_end=True)
        assert f32_ids == ids, "the two files have different vocabularies"
        f32["file"] = "meetara-pocket-f32.gguf"
        files.append({"model": "pocket", "ftype": "f32", "kept": False, **f32})
        logits.append(rows)
        with tempfile.TemporaryDirectory() as scratch:
            theirs = Path(scratch) / "llamacpp-q4_k_m.gguf"
            llamacpp.quantize(args.f32, theirs, "q4_k_m")
            compare(record["tensors"], llamacpp.tensor_table(theirs))
    llamacpp.write_expected(HERE, "tests/vectors/pocket/make.py", PROMPTS, ids, files, logits)


def compare(ours, theirs):
    """Types of every tensor must agree; equal bytes are counted."""
    theirs = {name: (ty, sha) for name, ty, sha in theirs}
    wrong = [f"{name}: ours {ty}, llama.cpp {theirs[name][0]}" for name, ty, _ in ours if theirs[name][0] != ty]
    if wrong or len(ours) != len(theirs):
        raise SystemExit("tensor types differ from llama.cpp's Q4_K_M:\n" + "\n".join(wrong))
    same = sum(theirs[name][1] == sha for name, _, sha in ours)
    print(f"types equal for all {len(ours)} tensors; bytes equal for {same} (all, if no importance matrix was used)")


if __name__ == "__main__":
    main()
