//! Attributes and items of values.

use super::fault::{Fault, Outcome, fault};
use super::interpreter::Interpreter;
use super::numbers::index_of;
use super::value::{Callable, Loop, Value};
use super::{method_names, text};
use std::rc::Rc;
use std::sync::Arc;

/// The undefined value for an attribute that does not exist.
fn no_attribute(value: &Value, name: &str) -> Value {
    Value::undefined(format!("'{} object' has no attribute '{name}'", value.type_name()))
}

fn method(value: &Value, name: &Arc<str>) -> Value {
    Value::Callable(Rc::new(Callable::Method(value.clone(), name.clone())))
}

/// `value.name`: an attribute of the value's type, or else an entry.
pub(super) fn attribute(run: &mut Interpreter<'_>, value: &Value, name: &Arc<str>) -> Outcome<Value> {
    run.pay_bytes(name.len())?;
    match value {
        Value::Undefined(message) => return fault(&**message),
        Value::Namespace(dict) => {
            return Ok(dict.borrow().get_str(name).cloned().unwrap_or_else(|| {
                Value::undefined(format!("'jinja2.utils.Namespace object' has no attribute '{name}'"))
            }));
        }
        Value::Loop(state) => return loop_attribute(run, state, name),
        Value::Cycler(cycler) if &**name == "current" => {
            return Ok(cycler.items.items.get(cycler.at.get()).cloned().unwrap_or(Value::None));
        }
        Value::Cycler(_) if matches!(&**name, "next" | "reset") => return Ok(method(value, name)),
        Value::Tuple(items) => {
            if let Some(at) = items.names.iter().position(|known| *known == &**name) {
                return Ok(items.items.get(at).cloned().unwrap_or(Value::None));
            }
        }
        Value::Range(range) => match &**name {
            "start" => return Ok(Value::Int(range.start)),
            "stop" => return Ok(Value::Int(range.stop)),
            "step" => return Ok(Value::Int(range.step)),
            _ => {}
        },
        Value::Callable(callable) => {
            if let (Callable::Macro(index, _), "name") = (&**callable, &**name) {
                let node = run.program.macros.get(*index);
                return Ok(node.map_or(Value::None, |node| Value::Str(node.name.clone())));
            }
        }
        Value::Int(_) | Value::Bool(_) if matches!(&**name, "real" | "numerator") => {
            return Ok(Value::Int(value.as_int().unwrap_or_default()));
        }
        _ => {}
    }
    if method_names::changes(value, name) {
        let kind = value.type_name();
        return Ok(Value::undefined(format!("access to attribute '{name}' of '{kind}' object is unsafe.")));
    }
    if method_names::exists(value, name) {
        return Ok(method(value, name));
    }
    if let Value::Dict(dict) = value
        && let Some(found) = dict.get_str(name)
    {
        return Ok(found.clone());
    }
    Ok(no_attribute(value, name))
}

/// `value[key]`: an entry, or else an attribute.
pub(super) fn item(run: &mut Interpreter<'_>, value: &Value, key: &Value) -> Outcome<Value> {
    let found = match (value, key) {
        (Value::Undefined(message), _) => return fault(&**message),
        (Value::Dict(dict), key) => match run.key(key) {
            Ok(place) => dict.get(&place).cloned(),
            // A value that cannot be a key is not in the dict.
            Err(fault) if matches!(*fault, Fault::Failed { .. }) => None,
            Err(fault) => return Err(fault),
        },
        (Value::List(items) | Value::Tuple(items), key) => key
            .as_int()
            .and_then(|index| index_of(index, items.items.len()))
            .and_then(|index| items.items.get(index).cloned()),
        (Value::Str(text) | Value::Markup(text), key) => match key.as_int() {
            Some(index) => {
                run.pay_bytes(text.len())?;
                let index = if text.is_ascii() {
                    index_of(index, text.len())
                } else {
                    index_of(index, text.chars().count())
                };
                let character = index.and_then(|index| {
                    if text.is_ascii() {
                        text.as_bytes().get(index).map(|byte| char::from(*byte))
                    } else {
                        text.chars().nth(index)
                    }
                });
                character.map(|character| Value::str(String::from(character)))
            }
            None => None,
        },
        (Value::Range(range), key) => key.as_int().and_then(|index| {
            let index = if index < 0 { index + range.len() } else { index };
            (0..range.len()).contains(&index).then(|| Value::Int(range.at(index)))
        }),
        _ => None,
    };
    match (found, key.as_str()) {
        (Some(found), _) => Ok(found),
        (None, Some(name)) if matches!(value, Value::Dict(_)) && !method_names::exists(value, name) => {
            Ok(no_attribute(value, name))
        }
        (None, Some(name)) => attribute(run, value, name),
        (None, None) => {
            let key = text::repr(run, key)?;
            Ok(Value::undefined(format!("{} object has no element {key}", value.type_name())))
        }
    }
}

/// Looks up a path of attributes such as `a.b.0`, as filters do.
pub(super) fn path(
    run: &mut Interpreter<'_>,
    value: &Value,
    path: &Value,
    default: Option<&Value>,
) -> Outcome<Value> {
    let mut found = value.clone();
    let parts = match path {
        Value::None => Vec::new(),
        _ => match path.as_str() {
            Some(text) => {
                run.pay_items(text.len())?;
                text.split('.')
                    .map(|part| {
                        let number = part
                            .bytes()
                            .all(|byte| byte.is_ascii_digit())
                            .then(|| part.parse().ok())
                            .flatten();
                        number.map_or_else(|| Value::str(part), Value::Int)
                    })
                    .collect()
            }
            None => vec![path.clone()],
        },
    };
    for part in parts {
        run.pay(1)?;
        found = item(run, &found, &part)?;
        if let (true, Some(default)) = (found.is_undefined(), default) {
            found = default.clone();
        }
    }
    Ok(found)
}

fn loop_attribute(run: &mut Interpreter<'_>, state: &Rc<Loop>, name: &Arc<str>) -> Outcome<Value> {
    let int = |number: usize| Ok(Value::Int(number as i128));
    let index = state.index.get();
    match &**name {
        "index0" => int(index),
        "index" => int(index + 1),
        "first" => Ok(Value::Bool(index == 0)),
        "depth0" => int(state.depth),
        "depth" => int(state.depth + 1),
        "length" => {
            let length = loop_length(run, state)?;
            int(length)
        }
        "revindex" => {
            let length = loop_length(run, state)?;
            int(length - index)
        }
        "revindex0" => {
            let length = loop_length(run, state)?;
            int(length - index - 1)
        }
        "last" => Ok(Value::Bool(peek(run, state)?.is_none())),
        "nextitem" => Ok(peek(run, state)?.unwrap_or_else(|| Value::undefined("there is no next item"))),
        "previtem" => {
            let before = if index == 0 { None } else { state.before.borrow().clone() };
            Ok(before.unwrap_or_else(|| Value::undefined("there is no previous item")))
        }
        "cycle" | "changed" => Ok(method(&Value::Loop(state.clone()), name)),
        _ => Ok(Value::undefined(format!("'jinja2.runtime.LoopContext object' has no attribute '{name}'"))),
    }
}

fn peek(run: &mut Interpreter<'_>, state: &Rc<Loop>) -> Outcome<Option<Value>> {
    let peeked = state.peeked.borrow().clone();
    match peeked {
        Some(item) => Ok(item),
        None => {
            let item = run.next_item(state)?;
            *state.peeked.borrow_mut() = Some(item.clone());
            Ok(item)
        }
    }
}

/// Returns the length of a loop. A loop with a condition reads all remaining items for it.
fn loop_length(run: &mut Interpreter<'_>, state: &Rc<Loop>) -> Outcome<usize> {
    if let Some(length) = state.length.get() {
        return Ok(length);
    }
    let mut rest = Vec::new();
    if let Some(item) = peek(run, state)? {
        while let Some(item) = run.next_item(state)? {
            rest.push(item);
        }
        rest.insert(0, item);
    }
    let length = state.index.get() + 1 + rest.len();
    // The items read have passed the condition, so they are queued and not tested again. The next one counts as peeked.
    state.length.set(Some(length));
    let mut rest = rest.into_iter();
    *state.peeked.borrow_mut() = Some(rest.next());
    state.passed(rest.collect());
    Ok(length)
}
