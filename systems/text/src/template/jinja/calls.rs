//! Attributes, items, and calls of functions, methods and macros.

use super::interpreter::Interpreter;
use super::numbers::index_of;
use super::value::{Callable, Cycler, Dict, Function, Loop, Range, Sequence, Value};
use super::{Fault, Outcome, fault, methods, operators, text};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

/// The longest range that the sandbox allows.
const MAX_RANGE: i128 = 100_000;

/// What a call is given.
#[derive(Debug, Default)]
pub(super) struct Args {
    pub(super) positional: Vec<Value>,
    pub(super) named: Vec<(Arc<str>, Value)>,
}

impl Args {
    /// The arguments of these names, the first `required` of which have to be there.
    pub(super) fn bind<const N: usize>(
        self,
        what: &str,
        names: [&str; N],
        required: usize,
    ) -> Outcome<[Option<Value>; N]> {
        let given = self.positional.len();
        if given > N {
            return fault(format!("{what}() takes at most {N} argument(s) ({given} given)"));
        }
        let mut values = [const { None }; N];
        for (slot, value) in values.iter_mut().zip(self.positional) {
            *slot = Some(value);
        }
        for (name, value) in self.named {
            let Some(at) = names.iter().position(|known| **known == *name) else {
                return fault(format!("{what}() got an unexpected keyword argument '{name}'"));
            };
            if values[at].replace(value).is_some() {
                return fault(format!("{what}() got multiple values for argument '{name}'"));
            }
        }
        if let Some(at) = values.iter().take(required).position(Option::is_none) {
            return fault(format!("{what}() misses its argument '{}'", names[at]));
        }
        Ok(values)
    }

    /// No arguments.
    pub(super) fn none(self, what: &str) -> Outcome<()> {
        self.bind(what, [], 0).map(|[]| ())
    }
}

/// What is said of an attribute that is not there.
fn no_attribute(value: &Value, name: &str) -> Value {
    Value::undefined(format!("'{} object' has no attribute '{name}'", value.type_name()))
}

fn method(value: &Value, name: &Arc<str>) -> Value {
    Value::Callable(Rc::new(Callable::Method(value.clone(), name.clone())))
}

/// `value.name`: an attribute of its type, else an entry.
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
    if methods::changes(value, name) {
        let kind = value.type_name();
        return Ok(Value::undefined(format!("access to attribute '{name}' of '{kind}' object is unsafe.")));
    }
    if methods::exists(value, name) {
        return Ok(method(value, name));
    }
    if let Value::Dict(dict) = value
        && let Some(found) = dict.get_str(name)
    {
        return Ok(found.clone());
    }
    Ok(no_attribute(value, name))
}

/// `value[key]`: an entry, else an attribute.
pub(super) fn item(run: &mut Interpreter<'_>, value: &Value, key: &Value) -> Outcome<Value> {
    let found = match (value, key) {
        (Value::Undefined(message), _) => return fault(&**message),
        (Value::Dict(dict), key) => match run.key(key) {
            Ok(place) => dict.get(&place).cloned(),
            // What can be no key is none of this dict.
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
        (None, Some(name)) if matches!(value, Value::Dict(_)) && !methods::exists(value, name) => {
            Ok(no_attribute(value, name))
        }
        (None, Some(name)) => attribute(run, value, name),
        (None, None) => {
            let key = text::repr(run, key)?;
            Ok(Value::undefined(format!("{} object has no element {key}", value.type_name())))
        }
    }
}

/// Looks an attribute up by a path such as `a.b.0`, as filters do.
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

/// The length of a loop; one with a condition reads all that is still to come.
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
    // What has passed the condition is gone through without it from here on: it is queued as looked at.
    state.length.set(Some(length));
    let mut rest = rest.into_iter();
    *state.peeked.borrow_mut() = Some(rest.next());
    state.passed(rest.collect());
    Ok(length)
}

/// Calls a value.
pub(super) fn call(run: &mut Interpreter<'_>, callee: &Value, args: Args) -> Outcome<Value> {
    run.pay(1)?;
    match callee {
        Value::Undefined(message) => fault(&**message),
        Value::Callable(callable) => match &**callable {
            Callable::Macro(index, scope) => run.call_macro(*index, *scope, args),
            Callable::Method(receiver, name) => methods::call(run, receiver, name, args),
            Callable::Function(function) => call_function(run, *function, args),
            Callable::Joiner(separator, used) => {
                args.none("joiner")?;
                Ok(if used.replace(true) { Value::Str(separator.clone()) } else { Value::str("") })
            }
        },
        Value::Loop(state) => {
            let [items] = args.bind("loop", ["iterable"], 1)?;
            let recursive = run.program.loops.get(state.node).is_some_and(|node| node.recursive);
            if !recursive {
                return fault("The loop must have the 'recursive' marker to be called recursively.");
            }
            let items = items.unwrap_or(Value::None);
            run.captured(|run| run.iterate(state.node, state.scope, &items, state.depth + 1))
        }
        _ => fault(format!("'{}' object is not callable", callee.type_name())),
    }
}

/// What `loop` and cyclers can be asked to do.
pub(super) fn call_object(
    run: &mut Interpreter<'_>,
    receiver: &Value,
    name: &str,
    args: Args,
) -> Outcome<Value> {
    match (receiver, name) {
        (Value::Loop(state), "cycle") => {
            if args.positional.is_empty() {
                return fault("no items for cycling given");
            }
            let at = state.index.get() % args.positional.len();
            Ok(args.positional.into_iter().nth(at).unwrap_or(Value::None))
        }
        (Value::Loop(state), "changed") => {
            let last = state.changed.borrow().clone();
            let same = match last {
                Some(last) if last.len() == args.positional.len() => {
                    let mut same = true;
                    for (a, b) in last.iter().zip(&args.positional) {
                        same = same && operators::equal(run, a, b)?;
                    }
                    same
                }
                _ => false,
            };
            *state.changed.borrow_mut() = Some(args.positional);
            Ok(Value::Bool(!same))
        }
        (Value::Cycler(cycler), "next") => {
            let at = cycler.at.get();
            cycler.at.set((at + 1) % cycler.items.items.len().max(1));
            Ok(cycler.items.items.get(at).cloned().unwrap_or(Value::None))
        }
        (Value::Cycler(cycler), "reset") => {
            cycler.at.set(0);
            Ok(Value::None)
        }
        _ => fault(format!("'{}' object has no attribute '{name}'", receiver.type_name())),
    }
}

fn call_function(run: &mut Interpreter<'_>, function: Function, args: Args) -> Outcome<Value> {
    match function {
        Function::Range => {
            let mut numbers = Vec::new();
            for value in args.positional {
                match value.as_int() {
                    Some(number) => numbers.push(number),
                    None => {
                        let kind = value.type_name();
                        return fault(format!("'{kind}' object cannot be interpreted as an integer"));
                    }
                }
            }
            let (start, stop, step) = match numbers.as_slice() {
                [stop] => (0, *stop, 1),
                [start, stop] => (*start, *stop, 1),
                [start, stop, step] => (*start, *stop, *step),
                _ => return fault(format!("range expected 1 to 3 arguments, got {}", numbers.len())),
            };
            if step == 0 {
                return fault("range() arg 3 must not be zero");
            }
            if [start, stop, step].iter().any(|number| number.unsigned_abs() > 1 << 100) {
                return fault("range() is given a number that is too large");
            }
            let range = Range { start, stop, step };
            if range.len() > MAX_RANGE {
                return fault(format!(
                    "Range too big. The sandbox blocks ranges larger than MAX_RANGE ({MAX_RANGE})."
                ));
            }
            Ok(Value::Range(range))
        }
        Function::Dict | Function::Namespace => {
            let dict = dict_of(run, args)?;
            if function == Function::Dict {
                return Ok(Value::Dict(Rc::new(dict)));
            }
            for (_, value) in &dict.entries {
                run.check_holds_no_namespace(value)?;
            }
            Ok(Value::Namespace(Rc::new(RefCell::new(dict))))
        }
        Function::Cycler => {
            if args.positional.is_empty() {
                return fault("at least one item has to be provided");
            }
            let items = Sequence::new(args.positional, &[])?;
            Ok(Value::Cycler(Rc::new(Cycler { items, at: Cell::new(0) })))
        }
        Function::Joiner => {
            let [separator] = args.bind("joiner", ["sep"], 0)?;
            let separator = match separator {
                Some(separator) => text::text(run, &separator)?,
                None => ", ".into(),
            };
            Ok(Value::Callable(Rc::new(Callable::Joiner(separator, Cell::new(false)))))
        }
        Function::Lipsum => fault("`lipsum` is not supported: it gives random text"),
        Function::RaiseException => {
            let [message] = args.bind("raise_exception", ["message"], 1)?;
            let message = text::text(run, &message.unwrap_or(Value::None))?;
            Err(Box::new(Fault::Raised(message.to_string())))
        }
        Function::StrftimeNow => {
            let [format] = args.bind("strftime_now", ["format"], 1)?;
            let Some(format) = format.as_ref().and_then(Value::as_str) else {
                return fault("strftime_now() needs a format");
            };
            run.pay_bytes(format.len().saturating_mul(16))?;
            Ok(Value::str(run.now.map(|now| now.format(format)).unwrap_or_default()))
        }
    }
}

/// A dict of another one or pairs, and of arguments by name.
fn dict_of(run: &mut Interpreter<'_>, args: Args) -> Outcome<Dict> {
    let Args { positional, named } = args;
    let mut dict = match positional.as_slice() {
        [] => Dict::default(),
        [Value::Dict(dict)] => run.copy(dict)?,
        [pairs] => {
            let mut dict = Dict::default();
            for pair in run.items(pairs)? {
                let pair = run.items(&pair)?;
                let [key, value] = pair.as_slice() else {
                    return fault("a dict is made of pairs of a key and a value");
                };
                run.insert(&mut dict, key.clone(), value.clone())?;
            }
            dict
        }
        more => return fault(format!("dict expected at most 1 argument, got {}", more.len())),
    };
    for (name, value) in named {
        run.insert(&mut dict, Value::Str(name), value)?;
    }
    Ok(dict)
}
