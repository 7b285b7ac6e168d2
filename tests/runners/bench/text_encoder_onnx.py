"""Writes encoders in the shape of models/emotion/text-emotion.gguf for onnxruntime: random weights, the same work.

    python text_encoder_onnx.py FOLDER      needs onnx and onnxruntime; writes FOLDER/float32.onnx and FOLDER/int8.onnx

The graph has onnxruntime's own fused operators (EmbedLayerNormalization, Attention, SkipLayerNormalization, BiasGelu),
which are what its optimiser for transformers makes of an exported BERT: the best that it can be given. `int8.onnx` is
that file after its dynamic quantisation, a scale a column. Inputs `ids`, `types` (1 x tokens, int32); output `mean`
(1 x WIDTH), the mean over the rows, and `labels` (1 x LABELS), as the heads have it.
"""

import sys
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper, save
from onnxruntime.quantization import QuantType, quantize_dynamic

VOCABULARY, POSITIONS, WIDTH, HEADS, INNER, BLOCKS = 8192, 128, 384, 12, 1536, 4
LABELS = 28 + 7 + 63 + 3  # feelings, classes, domains and none, dangers
EPSILON = 1e-12

random = np.random.default_rng(7)
initializers, nodes = [], []


def weight(name, *shape, mean=0.0, deviation=0.05):
    values = random.normal(mean, deviation, shape).astype(np.float32)
    initializers.append(numpy_helper.from_array(values, name))
    return name


def norm(name):
    return [weight(f"{name}.weight", WIDTH, mean=1.0), weight(f"{name}.bias", WIDTH)]


def node(operator, inputs, output, **attributes):
    own = operator in ("EmbedLayerNormalization", "Attention", "SkipLayerNormalization", "BiasGelu")
    nodes.append(helper.make_node(operator, inputs, [output], name=output, domain="com.microsoft" if own else "", **attributes))
    return output


def product(name, rows, source, inputs, outputs):
    return node("MatMul", [rows, weight(f"{name}.weight", inputs, outputs)], source)


tables = [weight("words", VOCABULARY, WIDTH), weight("positions", POSITIONS, WIDTH), weight("type", 2, WIDTH)]
nodes.append(helper.make_node(
    "EmbedLayerNormalization", ["ids", "types", *tables, *norm("embedding_norm")], ["rows", "mask_index"],
    name="embedding", domain="com.microsoft", epsilon=EPSILON,
))
rows = "rows"
for block in range(BLOCKS):
    at = f"block{block}"
    qkv = [weight(f"{at}.qkv.weight", WIDTH, 3 * WIDTH), weight(f"{at}.qkv.bias", 3 * WIDTH)]
    mixed = node("Attention", [rows, *qkv], f"{at}.attention", num_heads=HEADS)
    projected = product(f"{at}.output", mixed, f"{at}.projected", WIDTH, WIDTH)
    rows = node(
        "SkipLayerNormalization", [projected, rows, *norm(f"{at}.norm1"), weight(f"{at}.output.bias", WIDTH)],
        f"{at}.rows1", epsilon=EPSILON,
    )
    up = product(f"{at}.up", rows, f"{at}.raised", WIDTH, INNER)
    bent = node("BiasGelu", [up, weight(f"{at}.up.bias", INNER)], f"{at}.bent")
    down = product(f"{at}.down", bent, f"{at}.lowered", INNER, WIDTH)
    rows = node(
        "SkipLayerNormalization", [down, rows, *norm(f"{at}.norm2"), weight(f"{at}.down.bias", WIDTH)],
        f"{at}.rows2", epsilon=EPSILON,
    )
node("ReduceMean", [rows], "mean", axes=[1], keepdims=0)
scores = product("labels", "mean", "scores", WIDTH, LABELS)
node("Add", [scores, weight("labels.bias", LABELS)], "logits")
node("Sigmoid", ["logits"], "labels")

tokens = [1, "tokens"]
graph = helper.make_graph(
    nodes, "encoder",
    [helper.make_tensor_value_info(name, TensorProto.INT32, tokens) for name in ("ids", "types")],
    [helper.make_tensor_value_info("mean", TensorProto.FLOAT, [1, WIDTH]), helper.make_tensor_value_info("labels", TensorProto.FLOAT, [1, LABELS])],
    initializers,
)
opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
folder = Path(sys.argv[1])
folder.mkdir(parents=True, exist_ok=True)
save(helper.make_model(graph, opset_imports=opsets, ir_version=9), folder / "float32.onnx")
quantize_dynamic(
    folder / "float32.onnx", folder / "int8.onnx", weight_type=QuantType.QInt8, per_channel=True,
    extra_options={"DefaultTensorType": TensorProto.FLOAT},
)
