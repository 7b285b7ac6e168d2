"""Searches the seeds of random models that give tests a firm ground; `models.py` says what that is."""

import dataclasses
import itertools
import tempfile
from pathlib import Path

import llamacpp
import models

MARGIN_MIN = 0.01  # of F32 logits whose standard deviation is 3 to 5
CACHE_COSINE_MIN = 0.9995


def find(spec, prompts, n_greedy, steady_in):
    """The first seed without a near tie in F32 and, in the types `steady_in`, without a prompt that magnifies rounding."""
    with tempfile.TemporaryDirectory() as scratch:
        path, rounded = Path(scratch) / "candidate.gguf", Path(scratch) / "rounded.gguf"
        for seed in itertools.count():
            models.write_f32(dataclasses.replace(spec, seed=seed), path)
            betas = spec.scaling.betas if spec.scaling else None
            judge = llamacpp.Judge(path, spec.n_ctx, betas=betas)
            replies = (judge.greedy(judge.tokenize(p["text"]), n_greedy) for p in prompts)
            clear = all(len(tokens) == n_greedy and min(margins) >= MARGIN_MIN for _, tokens, margins in replies)
            judge.close()
            if clear and all(steady(spec, path, rounded, ftype, prompts) for ftype in steady_in):
                return seed


def steady(spec, path, rounded, ftype, prompts):
    llamacpp.quantize(path, rounded, ftype)
    return min(llamacpp.cache_cosines(rounded, spec.n_ctx, prompts)) >= CACHE_COSINE_MIN
