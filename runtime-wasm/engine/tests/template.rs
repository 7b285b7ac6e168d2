//! Chat templates: the formats in use, what `transformers` offers to them, and templates that mean harm.

mod tokenizer_support;

use std::path::{Path, PathBuf};
use std::time::Instant;

use meetara_engine::template::{ChatTemplate, Message};
use meetara_engine::tokenizer::{Special, Tokenizer};
use meetara_engine::{Error, ErrorKind};
use meetara_format::{Gguf, Value};
use tokenizer_support::{bpe, gguf, with};

fn template(source: &str) -> Result<ChatTemplate, Error> {
    ChatTemplate::new(source, &Tokenizer::from_gguf(&gguf(bpe())).unwrap())
}

fn chat(turns: &[(&str, &str)]) -> Vec<Message> {
    turns
        .iter()
        .map(|&(role, content)| Message::new(role, content))
        .collect()
}

/// What `source` makes of `turns`, with the assistant to answer.
fn render(source: &str, turns: &[(&str, &str)]) -> Result<String, Error> {
    template(source)?.render(&chat(turns), true)
}

const OURS: &str = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}\
    {% if add_generation_prompt %}<|assistant|>{% endif %}";

#[test]
fn our_own_format() {
    let metadata = with(bpe(), "tokenizer.chat_template", Some(Value::from(OURS)));
    let file = gguf(metadata);
    let tokenizer = Tokenizer::from_gguf(&file).unwrap();
    let template = ChatTemplate::from_gguf(&file, &tokenizer).unwrap().unwrap();
    let turns = chat(&[
        ("system", "Be kind."),
        ("user", "he\n"),
        ("assistant", "hell"),
        ("user", "<b>&</b>"),
    ]);
    let text = template.render(&turns, true).unwrap();
    let expected = "<|system|>Be kind.<|end|><|user|>he\n<|end|><|assistant|>hell<|end|><|user|><b>&</b><|end|>";
    assert_eq!(text, format!("{expected}<|assistant|>"));
    assert_eq!(template.render(&turns, false).unwrap(), expected);
    let ids = tokenizer
        .encode("<|user|>he<|end|><|assistant|>", Special::Parse)
        .unwrap();
    assert_eq!(ids, [2, 261, 4, 3]);
    assert_eq!(template.render(&[], true).unwrap(), "<|assistant|>");
    assert!(
        ChatTemplate::from_gguf(&gguf(bpe()), &tokenizer)
            .unwrap()
            .is_none()
    );
}

#[test]
fn chatml_with_a_default_system_text() {
    let source = "{% for message in messages %}\
        {% if loop.first and messages[0]['role'] != 'system' %}\
        {{ '<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n' }}\
        {% endif %}\
        {{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}\
        {% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";
    assert_eq!(
        render(source, &[("user", "Hi")]).unwrap(),
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n\
         <|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    );
    assert_eq!(
        render(
            source,
            &[("system", "S"), ("user", "U"), ("assistant", "A")]
        )
        .unwrap(),
        "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nU<|im_end|>\n<|im_start|>assistant\nA<|im_end|>\n\
         <|im_start|>assistant\n"
    );
}

#[test]
fn the_format_of_llama_3() {
    let source = "{% set loop_messages = messages %}{% for message in loop_messages %}\
        {% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' + message['content'] | trim + '<|eot_id|>' %}\
        {% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}\
        {% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}";
    assert_eq!(
        render(source, &[("system", " S\n"), ("user", "U")]).unwrap(),
        "<|endoftext|><|start_header_id|>system<|end_header_id|>\n\nS<|eot_id|>\
         <|start_header_id|>user<|end_header_id|>\n\nU<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
    );
}

/// Tools, as Qwen writes them; without tools, its plain form. Also tests white space control over lines.
#[test]
fn the_format_of_qwen_2() {
    let source = r#"
{%- if tools %}
    {{- 'never' + (tools | tojson) }}
{%- else %}
    {%- if messages[0].role == 'system' %}
        {{- '<|im_start|>system\n' + messages[0].content + '<|im_end|>\n' }}
    {%- endif %}
{%- endif %}
{%- set ns = namespace(multi_step_tool=true, last_query_index=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.multi_step_tool and message.role == "user" and message.content is string and not(message.content.startswith('<tool_response>') and message.content.endswith('</tool_response>')) %}
        {%- set ns.multi_step_tool = false %}
        {%- set ns.last_query_index = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) %}
        {{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>' + '\n' }}
    {%- elif message.role == "assistant" %}
        {%- set content = message.content %}
        {%- if '</think>' in message.content %}
            {%- set content = message.content.split('</think>')[-1].lstrip('\n') %}
        {%- endif %}
        {{- '<|im_start|>' + message.role }}
        {%- if message.tool_calls %}
            {{- 'never' }}
        {%- endif %}
        {{- '\n' + content + '<|im_end|>\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\n\n</think>\n\n' }}
    {%- endif %}
{%- endif %}
"#;
    let turns = [
        ("system", "S"),
        ("user", "U"),
        ("assistant", "<think>\nhm\n</think>\n\nA"),
        ("user", "V"),
    ];
    assert_eq!(
        render(source, &turns).unwrap(),
        "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nU<|im_end|>\n<|im_start|>assistant\nA<|im_end|>\n\
         <|im_start|>user\nV<|im_end|>\n<|im_start|>assistant\n"
    );
}

#[test]
fn what_templates_expect_of_transformers() {
    let cases = [
        // trim_blocks, lstrip_blocks, and the last line break dropped
        ("{% if true %}\n  x\n  {% endif %}\ny\n", "  x\ny"),
        (
            "{{ eos_token }}|{{ nothing }}|{{ nothing is defined }}",
            "<|endoftext|>||False",
        ),
        (
            "{{ tools is none }}{{ documents is none }}{{ messages | length }}",
            "TrueTrue2",
        ),
        (
            "{{ ' a '.strip() }}{{ 'xay'.lstrip('x').rstrip('y') }}{{ 'ab'.upper() }}{{ 'a'.replace('a', 'c') }}",
            "aaABc",
        ),
        (
            "{{ 'a b'.split(' ')[1] }}{{ messages[-1]['content'] }}{{ messages[1:][0].role }}",
            "bUuser",
        ),
        (
            "{% for m in messages %}{{ loop.index }}{{ loop.last }}{% if not loop.first %}{{ loop.previtem.role }}{% endif %};{% endfor %}",
            "1False;2Truesystem;",
        ),
        (
            "{% for k, v in messages[0].items() %}{{ k }}={{ v }};{% endfor %}",
            "role=system;content=S;",
        ),
        (
            "{{ messages[0].get('name', 'none') }}{{ 'role' in messages[0] }}",
            "noneTrue",
        ),
        (
            "{% for m in messages %}{% if loop.first %}{% continue %}{% endif %}{{ m.role }}{% break %}{% endfor %}",
            "user",
        ),
        (
            "{% macro turn(m, end='!') %}{{ m.content }}{{ end }}{% endmacro %}{{ turn(messages[1]) }}",
            "U!",
        ),
        (
            "{% generation %}a{% endgeneration %}{%- generation -%} b {%- endgeneration -%} c",
            "abc",
        ),
        ("{% set generation = 1 %}{{ generation }}", "1"),
        (
            "{{ {'a': [1, 2.5, none, true], 'b': '<é\"'} | tojson }}",
            "{\"a\": [1, 2.5, null, true], \"b\": \"<é\\\"\"}",
        ),
        (
            "{{ {'a': [1, {}], 'b': []} | tojson(indent=2) }}",
            "{\n  \"a\": [\n    1,\n    {}\n  ],\n  \"b\": []\n}",
        ),
        (
            "{% if strftime_now is defined %}{{ strftime_now('%Y') }}{% else %}no clock{% endif %}",
            "no clock",
        ),
        (
            "{{ messages | selectattr('role', 'equalto', 'user') | map(attribute='content') | join(',') }}",
            "U",
        ),
        (
            "{{ 'yes' if messages[0]['role'] == 'system' else 'no' }}",
            "yes",
        ),
        ("{{ '%s-%s' | format('a', 'b') }}{{ 'a' ~ 1 }}", "a-ba1"),
    ];
    for (source, expected) in cases {
        let rendered = render(source, &[("system", "S"), ("user", "U")]);
        assert_eq!(rendered.as_deref(), Ok(expected), "{source}");
    }
}

#[test]
fn a_refusal_of_the_template_is_an_error_with_its_words() {
    let source = "{% if messages[0].role != 'system' %}\n{{ raise_exception('The first message must be of the system') }}{% endif %}";
    let error = render(source, &[("user", "my secret")]).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Template);
    assert!(
        error
            .message()
            .contains("The first message must be of the system"),
        "{error}"
    );
    assert!(error.message().contains("line 2"), "{error}");
}

#[test]
fn errors_say_what_is_missing_and_never_what_was_said() {
    let cases = [
        ("{{ strftime_now('%d') }}", "no clock"),
        ("x\n{{ nonsense() }}", "nonsense"),
        ("{{ messages | nonsense }}", "nonsense"),
        ("{{ messages[0].content.nonsense() }}", "nonsense"),
        ("{% if %}", "line 1"),
        ("{% for m in messages %}", "line 1"),
        ("{{ nothing.at.all }}", "undefined"),
        ("{{ raise_exception(messages[0].content) }}", "refuses"),
        (
            "{{ raise_exception('about ' + messages[0].content) }}",
            "refuses",
        ),
        ("{{ messages[0].content + 1 }}", "failed"),
        ("{{ messages[0].content | int }}", "failed"),
        ("{% include messages[0].content %}", "not found"),
    ];
    for (source, expected) in cases {
        let error = render(source, &[("user", "my secret")]).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Template, "{source}");
        assert!(error.message().contains(expected), "{source}: {error}");
        assert!(
            !format!("{error:?}").contains("secret"),
            "{source}: {error}"
        );
    }
}

#[test]
fn a_role_cannot_write_a_marker() {
    for role in ["end", "endoftext", "user|>x<|end", ""] {
        let error = render(OURS, &[("user", "a"), (role, "b")]).unwrap_err();
        assert_eq!(error.kind, ErrorKind::InvalidRequest);
        assert!(error.message().contains("messages[1].role"), "{error}");
    }
}

#[test]
fn a_template_cannot_run_for_ever() {
    let nested = format!("{}{}", "(".repeat(100_000), ")".repeat(100_000));
    let cases = [
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}".to_owned(),
        "{% for a in range(99999) %}{{ messages[0].content }}{% endfor %}".to_owned(),
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}".to_owned(),
        "{{ 'x' * 99999999999 }}".to_owned(),
        "{{ range(99999999999) | list }}".to_owned(),
        format!("{{{{ {nested} }}}}"),
        format!("{{{{ {}1 }}}}", "not ".repeat(100_000)),
        "{% if true %}".repeat(100_000),
        format!(
            "{{% if 1 %}}{}{{% endif %}}",
            "{% elif 1 %}".repeat(100_000)
        ),
        format!("{{{{ {}1 }}}}", "-".repeat(100_000)),
        format!("{{{{ 1{} }}}}", "+1".repeat(100_000)),
        format!("{{{{ 1{} }}}}", " if 1 else 1".repeat(100_000)),
        format!("{{{{ messages{} }}}}", "[0]".repeat(100_000)),
        format!("{{{{ 1{} }}}}", " is defined".repeat(100_000)),
        format!("{{{{ 'a'{} }}}}", "~'}}{{'".repeat(100_000)),
        format!("{{{{ {{'a': {{}}}}{} }}}}", "|length".repeat(100_000)),
        format!(
            "{{% raw %}}{{{{ ' {{% endraw %}}{{{{ {}1 }}}}",
            "-".repeat(100_000)
        ),
    ];
    for source in cases {
        let start = Instant::now();
        let error = render(&source, &[("user", &"long ".repeat(1_000))]).unwrap_err();
        let (seconds, beginning) = (
            start.elapsed().as_secs_f64(),
            &source[..source.len().min(40)],
        );
        assert_eq!(error.kind, ErrorKind::Template, "{beginning}");
        assert!(seconds < 5.0, "{beginning} took {seconds} s");
    }
}

/// The template and tokens of the real SmolLM2, if its file is at hand.
#[test]
fn smollm2() {
    let default = || {
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../target/models/SmolLM2-135M-Instruct.Q4_1.gguf")
    };
    let path = std::env::var_os("MEETARA_SMOLLM2").map_or_else(default, PathBuf::from);
    let Ok(bytes) = std::fs::read(&path) else {
        eprintln!(
            "\n!!! SKIPPED: no model at {}; set MEETARA_SMOLLM2 to run this test !!!\n",
            path.display()
        );
        return;
    };
    let file = Gguf::parse(&bytes, bytes.len() as u64).unwrap();
    let tokenizer = Tokenizer::from_gguf(&file).unwrap();
    let template = ChatTemplate::from_gguf(&file, &tokenizer).unwrap().unwrap();
    let text = template
        .render(&chat(&[("user", "How do I boil an egg?")]), true)
        .unwrap();
    let ids = [
        &[
            1, 9690, 198, 2683, 359, 253, 5356, 5646, 11173, 3365, 3511, 308, 34519, 28, 7018, 411,
            407, 19712, 8182, 2, 198,
        ],
        &[1, 4093, 198][..],
        &[2020, 536, 339, 17663, 354, 3785, 47],
        &[2, 198, 1, 520, 9531, 198],
    ];
    assert_eq!(
        tokenizer.encode(&text, Special::Parse).unwrap(),
        ids.concat()
    );
}

/// Each of these nests a value by one level more in every turn of a loop, or in every line; dropped,
/// printed or made JSON, thousands of levels overflow a stack.
#[test]
fn values_nested_thousands_deep_end_in_an_error() {
    let in_a_loop = [
        "[ns.v]",
        "{'a': ns.v}",
        "(ns.v,)",
        "dict(a=ns.v)",
        "dict(a=ns.v).items()|list",
        "{'a': ns.v}|items",
        "[ns.v] + [ns.v]",
        "namespace(v=ns.v)",
        "[[[[[[[[ns.v]]]]]]]]",
    ];
    let ends = [
        "",
        "{{ ns.v }}",
        "{{ ns.v|tojson }}",
        "{{ ns.v ~ '' }}",
        "{{ ns.v == [ns.v] }}",
    ];
    let mut sources = Vec::new();
    for nested in in_a_loop {
        for end in ends {
            sources.push(format!(
                "{{% set ns = namespace(v=1) %}}{{% for i in range(9000) %}}{{% set ns.v = {nested} %}}{{% endfor %}}{end}"
            ));
        }
    }
    sources.push(format!(
        "{{% set x = 1 %}}{}{{{{ x }}}}",
        "{% set x = [x] %}".repeat(9000)
    ));
    sources.push(format!(
        "{{% set x = 1 %}}{}",
        "{% macro m() %}{{ x }}{% endmacro %}{% set x = [m] %}".repeat(3000)
    ));
    // A namespace that holds itself, and a chain of them that grows at its end.
    sources.push("{% set ns = namespace() %}{% set ns.v = ns %}{{ ns }}".to_owned());
    sources.push("{% set ns = namespace(l=[1]) %}{% set ns.v = [ns] %}{{ ns|tojson }}".to_owned());
    sources.push(
        "{% set ns = namespace(tail=1) %}{% for i in range(9000) %}{% set t = namespace() %}{% set t.n = ns %}{% endfor %}{{ ns }}"
            .to_owned(),
    );
    // Few lists, more paths through them than can be walked.
    sources.push(
        "{% set ns = namespace(v=[1]) %}{% for i in range(40) %}{% set ns.v = [ns.v, ns.v] %}{% endfor %}{{ ns.v|tojson }}"
            .to_owned(),
    );
    sources.push(format!("{{{{ {}1{} }}}}", "[".repeat(100), "]".repeat(100)));
    for source in sources {
        let shown = &source[..source.len().min(300)];
        let error = render(&source, &[("user", "secret")]).expect_err(shown);
        assert_eq!(error.kind, ErrorKind::Template, "{shown}: {error}");
        assert!(!error.message().contains("secret"), "{error}");
    }
}

#[test]
fn what_templates_assign_stays_what_it_is() {
    let source = "{% set ns = namespace(a=[], b={'c': [1, {'d': 2}]}) %}{% for m in messages %}{% set ns.a = ns.a + [m.content] %}\
        {% set x, y = m.role, 1 if loop.first else 2 %}{{ x }}{{ y }} {% endfor %}{% set z = ns.a|join('-') if true else 0 %}{{ z }} {{ ns.b|tojson }} {{ ns.a }}";
    let text = render(source, &[("user", "p"), ("assistant", "q")]).unwrap();
    assert_eq!(
        text,
        "user1 assistant2 p-q {\"c\": [1, {\"d\": 2}]} [\"p\", \"q\"]"
    );
}

#[test]
fn texts_and_lists_are_walked_backwards_also_where_they_are_empty() {
    let rendered = |source: &str| render(source, &[("user", "abcé")]).unwrap();
    for (source, expected) in [
        (
            "{{ ''[::-1] }}{{ [][::-1]|length }}{{ messages[1:][::-1]|length }}",
            "00",
        ),
        ("{{ messages[0].content[::-1] }}", "écba"),
        ("{{ messages[0].content[1:3][::-1] }}", "cb"),
        ("{{ [1, 2, 3][::-1][0] }}{{ [1, 2, 3][::-1]|length }}", "33"),
        (
            "{% for m in (messages + messages)[::-1] %}{{ loop.index }}{{ m.role }}{% endfor %}",
            "1user2user",
        ),
        (
            "{% for i in range(5)[::2] %}{{ i }}{% endfor %}{{ 'abcde'[1::3] }}",
            "024be",
        ),
        ("{% set a = [1, 2][::-1] %}{{ a[1] }}", "1"),
    ] {
        assert_eq!(rendered(source), expected, "{source}");
    }
    for refused in [
        "{{ 'a'[::0] }}",
        "{{ 'a'[::-2] }}",
        "{{ 'a'[0::messages] }}",
        "{{ 7[::-1] }}",
    ] {
        let error = render(refused, &[("user", "a")]).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Template, "{refused}");
    }
}
