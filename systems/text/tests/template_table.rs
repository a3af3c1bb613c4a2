//! A table of small templates renders as Jinja2 renders them in Hugging Face's environment.

#![expect(clippy::unwrap_used, reason = "a test fails where its data is not as expected")]

use flate2::read::GzDecoder;
use serde_json::{Value, json};
use std::io::Read;
use std::path::PathBuf;
use weft_text::{ChatTemplate, CivilTime, TemplateVars};

/// 26 July 2024, the date of the golden data.
const NOW: i64 = 1_721_952_000;

#[test]
fn jinja2_renders_the_same() {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../assets/golden/templates/jinja.json.gz");
    let mut text = String::new();
    GzDecoder::new(std::fs::read(file).unwrap().as_slice()).read_to_string(&mut text).unwrap();
    let table: Value = serde_json::from_str(&text).unwrap();
    let mut extra = table["variables"].as_object().unwrap().clone();
    // Messages are an argument of their own. Variables that the table does not set are undefined for Jinja2 too.
    let messages = extra.shift_remove("messages").unwrap();
    let vars = TemplateVars { extra, now: Some(CivilTime::from_unix(NOW, 0)), ..TemplateVars::default() };
    let rows = table["rows"].as_array().unwrap();
    assert!(rows.len() > 2000);
    let mut wrong = Vec::new();
    for row in rows {
        let source = row["t"].as_str().unwrap();
        let got = ChatTemplate::new(source).and_then(|template| template.render(&messages, &vars));
        let right = match row["ok"].as_str() {
            Some(expected) => got.as_deref() == Ok(expected),
            None => got.is_err(),
        };
        if !right {
            wrong.push(format!("{source:?}:\n  {got:?} for\n  {:?}", row["ok"]));
        }
    }
    assert!(wrong.is_empty(), "{} of {} wrong\n{}", wrong.len(), rows.len(), wrong.join("\n"));
}

fn render(source: &str, vars: &TemplateVars) -> String {
    ChatTemplate::new(source).unwrap().render(&json!([{"role": "user", "content": "Hi"}]), vars).unwrap()
}

#[test]
fn what_is_not_given_is_none_or_undefined() {
    let none = TemplateVars::default();
    assert_eq!(render("{{ tools is none }}{{ documents is none }}", &none), "TrueTrue");
    assert_eq!(render("{{ bos_token is defined }}{{ eos_token }}", &none), "False");
    let bos = TemplateVars { bos_token: Some("<s>".to_owned()), ..TemplateVars::default() };
    assert_eq!(render("{{ bos_token }}", &bos), "<s>");
}

#[test]
fn named_templates_are_chosen_by_tools() {
    let template = |source: &str| ChatTemplate::new(source).unwrap();
    let named =
        vec![("tool_use".to_owned(), template("T{{ tools|length }}")), ("rag".to_owned(), template("R"))];
    let whole = template("D").with_named(named);
    let messages = json!([{"role": "user", "content": "Hi"}]);
    let tools = Some(json!([{"type": "function"}]));
    let say = |vars: &TemplateVars| whole.render(&messages, vars).unwrap();
    assert_eq!(say(&TemplateVars::default()), "D");
    assert_eq!(say(&TemplateVars { tools: tools.clone(), ..TemplateVars::default() }), "T1");
    let extra = json!({"tools": tools}).as_object().unwrap().clone();
    assert_eq!(say(&TemplateVars { extra, ..TemplateVars::default() }), "T1");
    let extra = json!({"tools": null}).as_object().unwrap().clone();
    assert_eq!(say(&TemplateVars { extra, ..TemplateVars::default() }), "D");
    assert_eq!(whole.named("rag").unwrap().render(&messages, &TemplateVars::default()).unwrap(), "R");
    assert!(whole.named("other").is_none());
}

#[test]
fn long_templates_are_read() {
    let entries: Vec<String> = (0..5000).map(|n| format!("'q{n}': 'Tongue {n}'")).collect();
    let source = format!("{{% set names = {{{}}} %}}{{{{ names['q4321'] }}}}", entries.join(", "));
    assert_eq!(render(&source, &TemplateVars::default()), "Tongue 4321");
    let elifs: String = (0..3000).map(|n| format!("{{% elif n == {n} %}}{n}")).collect();
    let source = format!("{{% set n = 2999 %}}{{% if false %}}{elifs}{{% endif %}}");
    assert_eq!(render(&source, &TemplateVars::default()), "2999");
    let sum = format!("{{{{ {}0 }}}}", "1 + ".repeat(5000));
    assert_eq!(render(&sum, &TemplateVars::default()), "5000");
}

#[test]
fn deep_templates_are_refused_and_overflow_no_stack() {
    let nested =
        |open: &str, close: &str, count: usize| format!("{}{}", open.repeat(count), close.repeat(count));
    for source in [
        format!("{{{{ {}1{} }}}}", "(".repeat(5000), ")".repeat(5000)),
        format!("{{{{ {}1 }}}}", "-".repeat(5000)),
        format!("{{{{ {}1 }}}}", "not ".repeat(5000)),
        format!("{{{{ {}1{} }}}}", "[".repeat(5000), "]".repeat(5000)),
        format!("{{{{ 1 {} }}}}", "if 1 ".repeat(5000)),
        format!("{{{{ 1 {} }}}}", "if 1 else 1 ".repeat(5000)),
        nested("{% if true %}", "{% endif %}", 5000),
        nested("{% for x in [1] %}", "{% endfor %}", 5000),
    ] {
        assert!(ChatTemplate::new(&source).is_err(), "{}", &source[..40]);
    }
    // The deepest expression that the parser accepts, in calls as deep as the interpreter allows.
    let deep = format!("{}f(){}", "(".repeat(90), ")".repeat(90));
    let source = format!("{{% macro f() %}}{{{{ {deep} }}}}{{% endmacro %}}{{{{ f() }}}}");
    let template = ChatTemplate::new(&source).unwrap();
    assert!(template.render(&json!([]), &TemplateVars::default()).is_err());
}

#[test]
fn deep_values_are_refused_and_overflow_no_stack() {
    for step in [
        "{%set x=cycler(x)%}",
        "{%set x=[x]|unique%}",
        "{%set x=[x]|map('default')%}",
        "{%set x=[x]|reverse%}",
        "{%set x=[x]|batch(1)%}",
        "{%set x=[x]|slice(1)%}",
        "{%set x={1:x}.values()%}",
        "{%set x=cycler([x].index)%}",
        "{%set x=(x,)%}",
        "{%set x={(x,):1}%}",
    ] {
        let source = format!("{{%set x=()%}}{}", step.repeat(50_000));
        let template = ChatTemplate::new(&source).unwrap();
        assert!(template.render(&json!([]), &TemplateVars::default()).is_err(), "{step}");
    }
    // Printing a namespace that contains itself would not end.
    for held in ["{ns: 1}", "{(ns,): 1}", "[ns]|unique", "ns", "{1: ns}.items()"] {
        let source = format!("{{% set ns = namespace() %}}{{% set ns.x = {held} %}}{{{{ ns }}}}");
        let template = ChatTemplate::new(&source).unwrap();
        assert!(template.render(&json!([]), &TemplateVars::default()).is_err(), "{held}");
    }
}

#[test]
fn numbers_at_the_limits_are_right_or_refused() {
    for (source, expected) in [
        ("{{ '%.65535g' % 0.0002 }}", None),
        ("{{ '%.65534e' % 0.0002 }}", None),
        ("{{ '{:.65534g}'.format(0.0002) }}", None),
        ("{{ '{:.65535}'.format(0.0002) }}", None),
        ("{{ ('%.32768g' % 0.0002)|length }}", Some("67")),
        ("{{ ('%.32768f' % 1e300)|length }}", Some("33070")),
        ("{{ '%d' % 1e300 }}", None),
        ("{{ range(0, 10, 2)[::10**38] }}", None),
        ("{{ range(0, 10, 2)[::2] }}{{ range(0, 10, 2)[::-1] }}", Some("range(0, 10, 4)range(8, -2, -2)")),
        ("{{ range(10)[2:5] }}{{ range(10)[7:3:-2]|list }}", Some("range(2, 5)[7, 5]")),
        ("{{ range(1, 3, 2**99)[::2**27]|length }}", Some("1")),
        (
            "{{ range(1, 3, 2**99)[::2**27] }}",
            Some("range(1, 633825300114114700748351602689, 85070591730234615865843651857942052864)"),
        ),
        ("{{ range(1, 3, 2**99)[::2**27][::2] }}", None),
        ("{{ (10**38-1)|round(-38) }}", Some("100000000000000000000000000000000000000")),
        ("{{ (17*10**37)|round(-38) }}{{ (-17*10**37)|round(-38) }}", None),
        ("{{ (15*10**37)|round(-38) }}", None),
        (
            "{{ (-5*10**37)|round(-38) }} {{ (5*10**37)|round(-38) }} {{ 15|round(-1) }} {{ 25|round(-1) }}",
            Some("0 0 20 20"),
        ),
        ("{{ (-26)|round(-1) }} {{ (-15)|round(-1) }} {{ 3|round(-50) }}", Some("-30 -20 0")),
    ] {
        let template = ChatTemplate::new(source).unwrap();
        let got = template.render(&json!([]), &TemplateVars::default());
        assert_eq!(got.as_deref().ok(), expected, "{source}: {got:?}");
    }
}
