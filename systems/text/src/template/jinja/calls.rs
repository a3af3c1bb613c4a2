//! Calls of functions, methods and macros.

use super::args::Args;
use super::fault::{Fault, Outcome, fault};
use super::interpreter::Interpreter;
use super::value::{Callable, Cycler, Dict, Function, Range, Sequence, Value};
use super::{methods, operators, text};
use std::cell::{Cell, RefCell};
use std::rc::Rc;

/// The longest range that the sandbox allows.
const MAX_RANGE: i128 = 100_000;

/// Calls a value.
pub(super) fn call(run: &mut Interpreter<'_>, callee: &Value, args: Args) -> Outcome<Value> {
    run.pay(1)?;
    match callee {
        Value::Undefined(message) => fault(&**message),
        Value::Callable(callable) => match &**callable {
            Callable::Macro(index, scope) => run.call_macro(*index, *scope, args),
            Callable::Method(receiver, name) => match receiver {
                Value::Loop(_) | Value::Cycler(_) => call_object(run, receiver, name, args),
                _ => methods::call(run, receiver, name, args),
            },
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

/// Calls a method of `loop` or of a cycler.
fn call_object(run: &mut Interpreter<'_>, receiver: &Value, name: &str, args: Args) -> Outcome<Value> {
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
                return fault("an argument of range() is too large");
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
        Function::Lipsum => fault("`lipsum` is not supported: it returns random text"),
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

/// Makes a dict of another dict or of pairs, and of the arguments by name.
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
