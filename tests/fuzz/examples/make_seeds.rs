//! Writes the seeds anew: `cargo run --release -p meetara-fuzz-targets --example make_seeds`.
//!
//! Files of every block type that rows of 8 and 32 fit, adapters, encoders, vocabularies, texts, the chat templates'
//! idioms and hostile ones, and bodies of each route.

use std::fs;
use std::io::Result;
use std::path::PathBuf;

use meetara_format::GgmlType;
use meetara_fuzz_targets::{SEPARATOR, tiny};

fn main() -> Result<()> {
    let models = [
        (GgmlType::F32, 8),
        (GgmlType::F16, 8),
        (GgmlType::BF16, 8),
        (GgmlType::Q8_0, 32),
        (GgmlType::Q4_0, 32),
        (GgmlType::Q4_1, 32),
        (GgmlType::Q5_0, 32),
        (GgmlType::Q5_1, 32),
    ];
    for (ty, width) in models {
        let file = tiny::model(ty, width).map_err(std::io::Error::other)?;
        put("gguf", &ty.to_string().to_lowercase(), &file)?;
    }
    let adapters: [(&str, usize, &[&str], GgmlType); 3] = [
        ("one", 1, &["attn_q"], GgmlType::F32),
        ("some", 2, &["attn_k", "ffn_down"], GgmlType::F16),
        (
            "all",
            4,
            &[
                "attn_q",
                "attn_k",
                "attn_v",
                "attn_output",
                "ffn_gate",
                "ffn_up",
                "ffn_down",
            ],
            GgmlType::F32,
        ),
    ];
    for (name, rank, weights, ty) in adapters {
        let file = tiny::adapter(rank, weights, ty).map_err(std::io::Error::other)?;
        put("adapter", name, &file)?;
    }
    use tiny::{HeadsOf, Pieces};
    let encoders = [
        (
            "words_f32",
            GgmlType::F32,
            8,
            Pieces::WordPiece,
            HeadsOf::Reader,
        ),
        (
            "bytes_f16",
            GgmlType::F16,
            8,
            Pieces::Bytes,
            HeadsOf::Classifier,
        ),
        (
            "bytes_q8_0",
            GgmlType::Q8_0,
            32,
            Pieces::Bytes,
            HeadsOf::Classifier,
        ),
        (
            "words_q5_0",
            GgmlType::Q5_0,
            32,
            Pieces::WordPiece,
            HeadsOf::Classifier,
        ),
    ];
    for (name, ty, width, pieces, heads) in encoders {
        let file = tiny::encoder(ty, width, pieces, heads).map_err(std::io::Error::other)?;
        put("encoder", name, &file)?;
    }
    for (name, turns) in READINGS {
        put("reading", name, &join(turns))?;
    }
    for (name, parts) in TOKENIZERS {
        put("tokenizer", name, &join(parts))?;
    }
    for (name, parts) in TEMPLATES {
        put("template", name, &join(parts))?;
    }
    for (name, parts) in ENDLESS_TEMPLATES {
        // Slow on purpose: not for the fuzzer to begin with.
        write("regressions/template", name, &join(parts))?;
    }
    for (name, body) in REQUESTS {
        put("request", name, body.as_bytes())?;
    }
    for (name, rule) in CONSTRAINTS {
        put("constraint", name, rule.as_bytes())?;
    }
    Ok(())
}

/// Writes one seed.
fn put(target: &str, name: &str, bytes: &[u8]) -> Result<()> {
    write(&format!("seeds/{target}"), name, bytes)
}

fn write(folder: &str, name: &str, bytes: &[u8]) -> Result<()> {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(folder);
    fs::create_dir_all(&dir)?;
    fs::write(dir.join(name), bytes)
}

fn join(parts: &[&str]) -> Vec<u8> {
    let parts: Vec<&[u8]> = parts.iter().map(|part| part.as_bytes()).collect();
    parts.join(&SEPARATOR)
}

const TOKENIZERS: [(&str, &[&str]); 7] = [
    (
        "bpe",
        &[
            "gpt2 smollm",
            "<|end|>\nh\ne\nl\no\nhe\nll\nĠ\nĠhe",
            "h e\nl l\nĠ he",
            "\x03\x01\x01",
            "he<|end|>llo",
            " he 12 ✨",
        ],
    ),
    (
        "bpe_full",
        &[
            "gpt2 llama3 full",
            "he\nll\nhell\nĠa",
            "h e\nl l\nhe ll\nĠ a",
            "",
            "hello  a\n\n don't 1234 é😀",
        ],
    ),
    (
        "bpe_gpt2",
        &[
            "gpt2 gpt-2 full",
            "'s\nthe",
            "' s\nt h\nth e",
            "",
            "it's the\t\r\n  end ½",
        ],
    ),
    (
        "bpe_qwen",
        &["gpt2 qwen2 full", "", "", "", "12 x!\n\ny \u{a0}é e\u{301}"],
    ),
    (
        "bpe_default",
        &["gpt2 default full", "", "", "", "a, b  c 3.14"],
    ),
    (
        "spm",
        &[
            "llama",
            "<unk>\n<s>\n</s>\n▁\na\nb\nab\n▁ab\n<x>",
            "",
            "\x02\x03\x03\x01\x01\x01\x20\x30\x04",
            "ab ab<x>",
            "a<s>b",
        ],
    ),
    (
        "spm_full",
        &["llama full", "▁\na\n▁a\naa", "", "", "a aa é😀\0"],
    ),
];

/// Cries for help, what only sounds like one, other languages, and what is no text.
const READINGS: [(&str, &[&str]); 8] = [
    (
        "turns",
        &["I am so sad", "and now it is not", "hello!", "why"],
    ),
    (
        "help",
        &["I don't want to be here any more.", "i want to die"],
    ),
    ("idiom", &["I am dying to see it, my feet are killing me"]),
    (
        "medical",
        &["my chest hurts and I cannot breathe, call 911"],
    ),
    (
        "spelled",
        &["k.i.l.l mys3lf", "K I L L \u{200d} m\u{443}self", "su1c1de"],
    ),
    (
        "german",
        &["Ich bin heute sehr traurig und weiß nicht weiter"],
    ),
    ("signs", &["😀😀 \u{0}\u{feff}", "???!!!", "", " \n\t"]),
    (
        "scripts",
        &[
            "私はとても悲しいです",
            "أنا حزين",
            "I\u{301} a\u{308}m ﬁne Ⅷ",
        ],
    ),
];

const TEMPLATES: [(&str, &[&str]); 9] = [
    (
        "plain",
        &[
            "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}",
            "Be kind.",
            "hello",
            "a",
            "b",
        ],
    ),
    (
        "chatml",
        &[
            "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ 'x' }}{% endif %}{{'<|im_start|>' + message['role'] + '\\n' + message['content'] | trim + '<|im_end|>'}}{% endfor %}",
            "S",
            " U ",
        ],
    ),
    (
        "namespace",
        &[
            "{%- set ns = namespace(n=0) %}{%- for m in messages[::-1] %}{%- set ns.n = ns.n + loop.index0 %}{%- if m.role == \"user\" and m.content is string and not m.content.startswith('<') %}{{- m.content.split(' ')[-1].strip() }}{%- elif loop.last %}{%- break %}{%- else %}{%- continue %}{%- endif %}{%- endfor %}{{ ns.n }}",
            "",
            "a b c",
        ],
    ),
    (
        "macro",
        &[
            "{% macro m(x, y=1) %}{{ x | tojson(indent=2) }}{{ y }}{% endmacro %}{{ m(messages, y='é') }}{{ m({'a': [1, none, true]}) }}",
            "q\"\n",
        ],
    ),
    (
        "raise",
        &[
            "{{ raise_exception('no system' ~ messages | length) }}",
            "a",
        ],
    ),
    (
        "generation",
        &[
            "{% generation %}{{ bos_token }}{% endgeneration %}{% raw %}{{ }}{% endraw %}{# c #}",
            "a",
        ],
    ),
    (
        "filters",
        &[
            "{{ messages | map(attribute='role') | join(',') | upper | replace('S', 's') | indent(2) | default('x') }}{{ messages | selectattr('role', 'eq', 'user') | list | length }}",
            "a",
            "b",
        ],
    ),
    (
        "deep",
        &[
            "{% if 1 %}{% if 1 %}{% if 1 %}{{ ((((((((1)))))))) }}{{ [[[[[[[[1]]]]]]]] }}{% endif %}{% endif %}{% endif %}",
            "",
        ],
    ),
    ("syntax", &["{% for %}{{ a. }}{% endif %}{{ 'x", ""]),
];

const ENDLESS_TEMPLATES: [(&str, &[&str]); 7] = [
    (
        "nested_thousands_deep",
        &[
            "{% set ns = namespace(v=1) %}{% for i in range(9000) %}{% set ns.v = [ns.v] %}{% endfor %}",
            "a",
        ],
    ),
    (
        "nested_as_json",
        &[
            "{% set ns = namespace(v=1) %}{% for i in range(9000) %}{% set ns.v = {'a': ns.v} %}{% endfor %}{{ ns.v | tojson }}",
            "a",
        ],
    ),
    (
        "holds_itself",
        &[
            "{% set ns = namespace(v=1) %}{% set ns.v = [ns] %}{{ ns }}",
            "a",
        ],
    ),
    (
        "many_paths",
        &[
            "{% set ns = namespace(v=[1]) %}{% for i in range(40) %}{% set ns.v = [ns.v, ns.v] %}{% endfor %}{{ ns.v | tojson }}",
            "a",
        ],
    ),
    (
        "endless_loop",
        &[
            "{% for a in range(99999) %}{% for b in range(99999) %}x{% endfor %}{% endfor %}",
            "a",
        ],
    ),
    (
        "endless_macro",
        &["{% macro m(x) %}{{ m(x) }}{% endmacro %}{{ m(1) }}", "a"],
    ),
    (
        "much_output",
        &[
            "{% for a in range(9999) %}{{ messages[0].content * 9 }}{% endfor %}",
            "aaaaaaaaaaaaaaaa",
        ],
    ),
];

/// Schemas and grammars in use, and small ones that ask for much.
const CONSTRAINTS: [(&str, &str); 9] = [
    (
        "object",
        r#"s{"type":"object","properties":{"a":{"enum":["x","é"]},"b":{"type":"array","items":{"type":"integer","minimum":3},"maxItems":2}},"required":["b"],"additionalProperties":false}"#,
    ),
    (
        "tree",
        r##"s{"$ref":"#/$defs/n","$defs":{"n":{"type":"object","properties":{"c":{"type":"array","items":{"$ref":"#/$defs/n"}}},"required":["c"]}}}"##,
    ),
    (
        "pattern",
        r#"s{"type":"string","pattern":"^[A-Z]{2}-\\d{1,3}$","format":"date"}"#,
    ),
    (
        "any_of",
        r#"s{"anyOf":[{"const":1.5},{"type":["null","boolean"]}],"not":{}}"#,
    ),
    (
        "ambiguous",
        r#"s{"type":"string","pattern":"^(a*)*(a*)*(a*)*b$"}"#,
    ),
    ("itself", r##"s{"$ref":"#"}"##),
    ("lark", "lstart: (\"yes\" | /n[o]+/) \".\"?\n%ignore / /"),
    ("lark_nested", "lstart: \"a\" start \"b\" | \"c\""),
    ("lark_repeated", "lstart: a~100\na: b~100\nb: \"x\"~100"),
];

const REQUESTS: [(&str, &str); 10] = [
    ("analyze", r#"{"text":"I am sad","region":"DE"}"#),
    (
        "chat",
        r#"{"model":"m","messages":[{"role":"system","content":"s"},{"role":"user","content":[{"type":"text","text":"é\u0000"}]}]}"#,
    ),
    (
        "chat_all",
        r#"{"model":"m","messages":[{"role":"developer","content":"a","name":"n"}],"max_tokens":9,"max_completion_tokens":7,"temperature":0.5,"top_p":0.5,"top_k":3,"min_p":0.1,"repeat_penalty":1.25,"presence_penalty":-2,"frequency_penalty":2,"seed":-1,"stop":["END"],"n":4,"stream":true,"stream_options":{"include_usage":true},"logprobs":true,"top_logprobs":20,"logit_bias":{"7":-100,"3":1.5},"draft_max":8,"lookup_ngram":2,"context_shift":true}"#,
    ),
    (
        "chat_form",
        r#"{"model":"m","messages":[{"role":"user","content":"a"}],"response_format":{"type":"json_schema","json_schema":{"name":"n","schema":{"type":"object"}}},"grammar":null}"#,
    ),
    (
        "chat_refused",
        r#"{"model":"m","messages":[{"role":"tool","content":""}],"tools":[{"type":"function"}],"response_format":{"type":"json_object"}}"#,
    ),
    (
        "text",
        r#"{"model":"m","prompt":["once"],"echo":false,"best_of":1,"max_tokens":3,"stop":"."}"#,
    ),
    (
        "embeddings",
        r#"{"model":"m","input":["a","b"],"encoding_format":"base64","user":"u"}"#,
    ),
    (
        "choose",
        r#"{"model":"m","prompt":"is it?","labels":["yes","no"]}"#,
    ),
    (
        "engine",
        r#"{"temperature":1.5,"top_k":2,"top_p":0.1,"min_p":0.5,"repeat_penalty":2,"repeat_last_n":3,"seed":18446744073709551615,"max_tokens":1,"stop":["a"],"logit_bias":[[1,-100.0]],"top_logprobs":3,"draft_max":3}"#,
    ),
    (
        "broken",
        "{\"model\": \"\\ud800\", \"messages\": [[[[[1e999",
    ),
];
