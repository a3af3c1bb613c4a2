//! The methods that values have.

use super::value::Value;

/// Methods of text. Those in [`MISSING`] exist in Python; calling them is an error here.
const OF_TEXT: &[&str] = &[
    "capitalize",
    "casefold",
    "center",
    "count",
    "endswith",
    "expandtabs",
    "find",
    "format",
    "format_map",
    "index",
    "isalnum",
    "isalpha",
    "isascii",
    "isdecimal",
    "isdigit",
    "isidentifier",
    "islower",
    "isnumeric",
    "isprintable",
    "isspace",
    "istitle",
    "isupper",
    "join",
    "ljust",
    "lower",
    "lstrip",
    "partition",
    "removeprefix",
    "removesuffix",
    "replace",
    "rfind",
    "rindex",
    "rjust",
    "rpartition",
    "rsplit",
    "rstrip",
    "split",
    "splitlines",
    "startswith",
    "strip",
    "swapcase",
    "title",
    "upper",
    "zfill",
];

pub(super) const MISSING: &[&str] = &["encode", "maketrans", "translate"];
const OF_DICT: &[&str] = &["copy", "fromkeys", "get", "items", "keys", "values"];
const OF_LIST: &[&str] = &["copy", "count", "index"];
const OF_TUPLE: &[&str] = &["count", "index"];
const OF_INT: &[&str] = &["bit_length", "conjugate", "is_integer"];
const OF_FLOAT: &[&str] = &["conjugate", "is_integer"];
/// Methods that modify a value. The sandbox forbids them.
const CHANGE_DICT: &[&str] = &["clear", "pop", "popitem", "setdefault", "update"];
const CHANGE_LIST: &[&str] = &["append", "clear", "extend", "insert", "pop", "remove", "reverse", "sort"];

/// Returns true if a value has this method and a template may call it.
pub(super) fn exists(value: &Value, name: &str) -> bool {
    let names = match value {
        Value::Str(_) | Value::Markup(_) => return OF_TEXT.contains(&name) || MISSING.contains(&name),
        Value::Dict(_) => OF_DICT,
        Value::List(_) => OF_LIST,
        Value::Tuple(_) | Value::Range(_) => OF_TUPLE,
        Value::Int(_) | Value::Bool(_) => OF_INT,
        Value::Float(_) => OF_FLOAT,
        _ => return false,
    };
    names.contains(&name)
}

/// Returns true if this method would modify the value.
pub(super) fn changes(value: &Value, name: &str) -> bool {
    match value {
        Value::Dict(_) => CHANGE_DICT.contains(&name),
        Value::List(_) => CHANGE_LIST.contains(&name),
        _ => false,
    }
}
