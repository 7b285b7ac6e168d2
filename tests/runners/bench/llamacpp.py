"""llama.cpp, as one side of a comparison: answers the turns of `cargo xtask bench`.

    llamacpp.py FILE.gguf THREADS

A line when the model is ready, then a line for each line of input, as described in
xtask/src/bench/runtime/contestant.rs. A turn feeds known tokens through llama_decode; nothing is
sampled. Python does one call a token, some microseconds; the arrays are filled beforehand.
"""

import ctypes
import itertools
import json
import sys
import time

import llama_cpp as ll

CONTEXT_LEN = 1024


def quiet(level, text, user_data):
    pass


log = ll.llama_log_callback(quiet)
ll.llama_log_set(log, ctypes.c_void_p(0))


def load(path, threads):
    """A context over the model, computed on the CPU by `threads` threads."""
    ll.llama_backend_init()
    model_params = ll.llama_model_default_params()
    model_params.n_gpu_layers = 0
    model = ll.llama_model_load_from_file(path.encode(), model_params)
    if not model:
        sys.exit(f"llama.cpp cannot load {path}")
    params = ll.llama_context_default_params()
    params.n_ctx = CONTEXT_LEN
    params.n_batch = params.n_ubatch = 512
    params.n_threads = params.n_threads_batch = threads
    context = ll.llama_init_from_model(model, params)
    if not context:
        sys.exit(f"llama.cpp cannot make a context over {path}")
    return context


def decode(context, ids, first, count):
    """Evaluates `count` ids from `first` on, with the logits of the last."""
    at = ctypes.cast(
        ctypes.byref(ids, first * ctypes.sizeof(ctypes.c_int32)), ctypes.POINTER(ctypes.c_int32)
    )
    status = ll.llama_decode(context, ll.llama_batch_get_one(at, count))
    if status != 0:
        sys.exit(f"llama_decode failed with {status}")


def clocks():
    return time.perf_counter(), time.process_time()


def measure(context, turn):
    tokens, wall_s, cpu_s = 0, 0.0, 0.0
    for prompt in itertools.cycle(turn["prompts"]):
        ids = prompt["ids"]
        array = (ctypes.c_int32 * len(ids))(*ids)
        ll.llama_memory_clear(ll.llama_get_memory(context), True)
        began = clocks()
        decode(context, array, 0, len(ids))
        ll.llama_synchronize(context)
        if turn["generate"] == 0:
            tokens += len(ids)
        else:
            began = clocks()
            for i in range(turn["generate"]):
                decode(context, array, i % len(ids), 1)
            ll.llama_synchronize(context)
            tokens += turn["generate"]
        ended = clocks()
        wall_s += ended[0] - began[0]
        cpu_s += ended[1] - began[1]
        if wall_s >= turn["wall_s_min"]:
            return {"tokens": tokens, "wall_s": wall_s, "cpu_s": cpu_s}


def main():
    path, threads = sys.argv[1], int(sys.argv[2])
    began = clocks()
    context = load(path, threads)
    ended = clocks()
    ready = {
        "version": ll.__version__,
        "variant": ll.llama_print_system_info().decode().strip(" |"),
        "load_ms": (ended[0] - began[0]) * 1e3,
        "load_cpu_ms": (ended[1] - began[1]) * 1e3,
    }
    print(json.dumps(ready), flush=True)
    for line in sys.stdin:
        print(json.dumps(measure(context, json.loads(line))), flush=True)


main()
