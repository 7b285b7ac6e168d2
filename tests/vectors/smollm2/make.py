#!/usr/bin/env python3
"""What llama.cpp says about SmolLM2-135M-Instruct.Q4_1.gguf, a file that nobody here made.

    pip install -r tests/vectors/requirements.txt
    cargo xtask models smollm2
    python tests/vectors/smollm2/make.py

Five prompts in the model's own chat format, with the system text that its template puts in front. Of the
logits after each prompt every eighth is kept (49,152 ids would be one megabyte).
"""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
sys.path[:0] = [str(HERE.parent)]
import llamacpp  # noqa: E402

MODEL = ROOT / "target/models/SmolLM2-135M-Instruct.Q4_1.gguf"
LOGITS_STRIDE = 8
SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"

USER_TEXTS = [
    ("cat", "Write one sentence about a cat."),
    ("egg", "How do I boil an egg?"),
    ("sad", "I feel sad today."),
    ("sum", "What is 7 plus 5?"),
    ("capital", "What is the capital of France?"),
]


def main():
    if not MODEL.is_file():
        raise SystemExit(f"{MODEL} is not there; fetch it with `cargo xtask models smollm2`")
    prompts = [
        {
            "name": name,
            "user": user,
            "text": f"<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\n{user}<|im_end|>\n"
            "<|im_start|>assistant\n",
        }
        for name, user in USER_TEXTS
    ]
    record, ids, rows = llamacpp.judge_file(MODEL, 512, prompts, 64, LOGITS_STRIDE)
    files = [{"model": "smollm2", "ftype": "q4_1", "kept": False, **record}]
    llamacpp.write_expected(HERE, "tests/vectors/smollm2/make.py", prompts, ids, files, [rows])


if __name__ == "__main__":
    main()
