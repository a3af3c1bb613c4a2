//! Chat templates render as Jinja2 renders them with Hugging Face's environment.

#![expect(clippy::unwrap_used, reason = "a test fails where its data is not as expected")]

use flate2::read::GzDecoder;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::io::Read;
use std::path::PathBuf;
use weft_text::{ChatTemplate, CivilTime, Message, TemplateError, TemplateVars};

/// 26 July 2024, the date of the golden data.
const NOW: i64 = 1_721_952_000;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../assets/golden/templates")
}

/// Splits the variables of a golden case into messages and template variables.
fn split(vars: &Value) -> (Value, TemplateVars) {
    let mut extra = vars.as_object().unwrap().clone();
    let mut take = |name: &str| extra.shift_remove(name);
    let messages = take("messages").unwrap();
    let text = |value: Option<Value>| value.map(|v| v.as_str().unwrap().to_owned());
    let vars = TemplateVars {
        add_generation_prompt: take("add_generation_prompt").unwrap().as_bool().unwrap(),
        bos_token: text(take("bos_token")),
        eos_token: text(take("eos_token")),
        special_tokens: Vec::new(),
        tools: take("tools"),
        documents: take("documents"),
        now: Some(CivilTime::from_unix(NOW, 0)),
        extra,
    };
    (messages, vars)
}

#[test]
fn eight_real_templates() {
    let mut text = String::new();
    let packed = std::fs::read(folder().join("cases.json.gz")).unwrap();
    GzDecoder::new(packed.as_slice()).read_to_string(&mut text).unwrap();
    let cases: Vec<Value> = serde_json::from_str(&text).unwrap();
    assert_eq!(cases.len(), 48);
    let mut templates = HashMap::new();
    let mut wrong = Vec::new();
    for case in &cases {
        let name = case["template"].as_str().unwrap();
        let template = templates.entry(name).or_insert_with(|| {
            ChatTemplate::new(&std::fs::read_to_string(folder().join(name)).unwrap()).unwrap()
        });
        let (messages, vars) = split(&case["vars"]);
        let got = template.render(&messages, &vars);
        let expected = match case["expected"].as_str() {
            Some(expected) => Ok(expected.to_owned()),
            None => {
                let message = case["error"].as_str().unwrap_or_default().to_owned();
                Err(TemplateError::Raised { message })
            }
        };
        // Python fails on some cases too, for example on a loop over tools that are missing.
        let fails = case["fails"].is_string() && matches!(got, Err(TemplateError::Render { .. }));
        if !fails && got != expected {
            wrong.push(format!("{name} {}:\n{got:?}\n{expected:?}", case["case"]));
        }
    }
    assert!(wrong.is_empty(), "{} wrong\n{}", wrong.len(), wrong.join("\n"));
}

fn render(source: &str, vars: &TemplateVars) -> Result<String, TemplateError> {
    ChatTemplate::new(source)?.render(&[Message::new("user", "Hi")], vars)
}

fn with(extra: Value) -> TemplateVars {
    TemplateVars { extra: extra.as_object().unwrap().clone(), ..TemplateVars::default() }
}

/// Small templates. The results were taken from Jinja2 3.1 with Hugging Face's environment.
#[test]
fn as_python_does_it() {
    let vars = with(json!({
        "x": {"b": 1, "a": [1.0, 1e-7, true, null, "é<&'\"\n\u{7f}"], "e": {}, "l": []},
        "s": " a\u{1c} ", "n": null, "t": true,
    }));
    for (source, expected) in [
        (
            "{{ x | tojson }}",
            "{\"b\": 1, \"a\": [1.0, 1e-07, true, null, \"é<&'\\\"\\n\u{7f}\"], \"e\": {}, \"l\": []}",
        ),
        (
            "{{ x.e | tojson(indent=2) }}{{ [1,{'a':2}] | tojson(indent=2) }}",
            "{}[\n  1,\n  {\n    \"a\": 2\n  }\n]",
        ),
        (
            "{{ {'b':1,'a':'é'} | tojson(sort_keys=true, ensure_ascii=true, separators=(',',':')) }}",
            "{\"a\":\"\\u00e9\",\"b\":1}",
        ),
        ("{{ n }} {{ t }} {{ 1.0 }} {{ nothing }}|", "None True 1.0 |"),
        ("{{ x.a[:2] }} {{ {'k': 'v'} }}", "[1.0, 1e-07] {'k': 'v'}"),
        ("[{{ s.strip() }}] [{{ s | trim }}]", "[a] [a]"),
        (
            "{{ 'a-b-c'.partition('-')[2] }} {{ 'abc'.removeprefix('a') }} {{ 'a b  c'.split() }}",
            "b-c bc ['a', 'b', 'c']",
        ),
        (
            "{% for i in range(9) %}{% if i == 2 %}{% continue %}{% endif %}{% if i > 3 %}{% break %}{% endif %}{{ i }}{% endfor %}",
            "013",
        ),
        ("  {% if true %}\n  a\n  {% endif %}\nb\n", "  a\nb"),
        ("{%- generation %}a{{ messages[0].content }}{% endgeneration -%}\n", "aHi"),
        ("{{ messages[-1]['role'].upper() ~ 1 }}{{ (1, 2) | list | length }}", "USER12"),
        ("{{ strftime_now is defined }}", "False"),
        ("{{ '{:>4}|{:.2f}|{n}'.format('e', 1.005, n=7) }} {{ '-'.join(['a', 'b']) }}", "   e|1.00|7 a-b"),
        ("{{ '%s-%d' | format('a', 3) }} {{ 7 // 2 }} {{ 2 ** 3 }} {{ -7 % 3 }}", "a-3 3 8 2"),
    ] {
        assert_eq!(render(source, &vars), Ok(expected.to_owned()), "{source}");
    }
    let now = TemplateVars { now: Some(CivilTime::from_unix(NOW, 0)), ..TemplateVars::default() };
    assert_eq!(render("{{ strftime_now('%d %b %Y') }}", &now), Ok("26 Jul 2024".to_owned()));
}

#[test]
fn failures_are_typed() {
    let none = TemplateVars::default();
    assert!(matches!(ChatTemplate::new("{% if %}"), Err(TemplateError::Syntax { .. })));
    assert!(matches!(ChatTemplate::new(&" ".repeat(5 << 20)), Err(TemplateError::TooLong { .. })));
    assert!(matches!(render("{{ a.b.c }}", &none), Err(TemplateError::Render { .. })));
    assert!(
        matches!(render("{{ raise_exception('no') }}", &none), Err(TemplateError::Raised { message }) if message == "no")
    );
    assert!(matches!(render("{% include 'x' %}", &none), Err(TemplateError::Render { .. })));
}

#[test]
fn hostile_templates_end_in_an_error() {
    let none = TemplateVars::default();
    let range = "range(99999)";
    for source in [
        format!("{{% for a in {range} %}}{{% for b in {range} %}}{{% endfor %}}{{% endfor %}}"),
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}".to_owned(),
        "{% set ns = namespace(x='aaaaaaaa') %}{% for i in range(64) %}{% set ns.x = ns.x + ns.x %}{% endfor %}{{ ns.x }}".to_owned(),
        "{% set ns = namespace(x='aaaaaaaa') %}{% for i in range(64) %}{% set ns.x = ns.x.replace('a', 'aaaaaaaa') %}{% endfor %}{{ ns.x }}".to_owned(),
        "{% set ns = namespace(x='aaaaaaaa') %}{% for i in range(64) %}{% set ns.x = ns.x.join([ns.x, ns.x, ns.x]) %}{% endfor %}{{ ns.x }}".to_owned(),
        "{% set ns = namespace(x=[1]) %}{% for i in range(64) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x | tojson }}".to_owned(),
        "{% set ns = namespace(x=[1]) %}{% for i in range(64) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x }}".to_owned(),
        "{% set ns = namespace(x=[1]) %}{% for i in range(64) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x | string | length }}".to_owned(),
        format!("{{% set ns = namespace(x=[1]) %}}{{% for i in {range} %}}{{% set ns.x = [ns.x] %}}{{% endfor %}}{{{{ ns.x }}}}"),
        "{{ 'a' * 10000000000 }}".to_owned(),
        "{{ '%999999999999d' | format(1) }}".to_owned(),
        "{{ '{:>18446744073709551615}'.format('x') }}".to_owned(),
        "{{ '{:>999999999999}'.format('x') }}".to_owned(),
        "{{ '{:.999999999999f}'.format(1.5) }}".to_owned(),
        "{{ ('{0}' * 100000).format('a' * 1000000) }}".to_owned(),
        "{% set x = 'a' * 50000000 %}{{ ''.join([x] * 100000) }}".to_owned(),
        "{{ ('a' * 10000000) | trim('b' * 10000000 ~ 'a') }}".to_owned(),
        "{{ ('a' * 10000000).strip('b' * 10000000 ~ 'a') }}".to_owned(),
        format!("{}1{}", "{{ ".to_owned() + &"(".repeat(60_000), ")".repeat(60_000) + " }}"),
        format!("{}{}", "{% if true %}".repeat(10_000), "{% endif %}".repeat(10_000)),
        format!("{{{{ {}1 }}}}", "not ".repeat(60_000)),
        format!("{{{{ x{} }}}}", ".a".repeat(60_000)),
        "{% set ns = namespace() %}{% set ns.x = ns %}{{ ns }}".to_owned(),
        "{% set ns = namespace() %}{% set ns.x = [namespace(y=ns)] %}{{ ns == ns.x }}".to_owned(),
        format!("{{% set ns = namespace(x=[]) %}}{{% for i in {range} %}}{{% set ns.x = {{'a': ns.x}}.items() %}}{{% endfor %}}"),
        format!("{{% set ns = namespace(x=[]) %}}{{% for i in {range} %}}{{% set ns.x = [ns.x] | map('list') %}}{{% endfor %}}"),
        "{% set x = [] %}".to_owned() + &"{% set x = [x] %}".repeat(10_000),
        "{% macro f(x) %}{{ f([[[[[[[[x]]]]]]]]) }}{% endmacro %}{{ f(1) }}".to_owned(),
    ] {
        let result = render(&source, &none);
        assert!(result.is_err(), "{}: {:?}", &source[..60.min(source.len())], result.map(|text| text.len()));
    }
}

#[test]
fn memory_is_paid_for() {
    let none = TemplateVars::default();
    for source in [
        "{% set x = [0] * 10000000 %}",
        "{% set x = (0,) * 10000000 %}",
        "{% set x = [] | slice(5000000) %}",
        "{% set x = [0] | batch(20000000, 0) %}",
        "{% set x = ('a ' * 20000000).split() %}",
        "{% set x = ('a ' * 20000000).split(' ') %}",
        "{% set x = ('\n' * 20000000).splitlines() %}",
        "{% set x = ('a ' * 20000000) | wordwrap %}",
        "{% set x = ('a' * 20000000) | list %}",
    ] {
        let result = render(source, &none).map(|text| text.len());
        assert!(matches!(result, Err(TemplateError::OutOfFuel { .. })), "{source}: {result:?}");
    }
    // Each bracket of a field is read once.
    assert!(render("{{ ('{' ~ '[' * 10000000).format() }}", &none).is_err());
}

#[test]
fn many_names_are_found_as_few_are() {
    let none = TemplateVars::default();
    let count = 90_000;
    let mut source: String = (0..count).map(|n| format!("{{%set a{n}={n}%}}")).collect();
    source.extend((0..count).map(|n| format!("{{{{a{n}}}}}")));
    let expected: String = (0..count).map(|n| n.to_string()).collect();
    assert_eq!(render(&source, &none), Ok(expected));
    let sets: String = (0..40).map(|n| format!("{{% set a{n} = {n} %}}")).collect();
    let source = format!(
        "{sets}{{% set a3 = 'x' %}}{{% for i in [1] %}}{{% set a39 = 'y' %}}{{{{ a3 ~ a16 ~ a17 ~ a39 }}}}{{% endfor %}}{{{{ a39 }}}}"
    );
    assert_eq!(render(&source, &none), Ok("x1617y39".to_owned()));
}
