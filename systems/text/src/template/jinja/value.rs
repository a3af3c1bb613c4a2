//! Values of a template: Python's types, as far as templates use them.
//!
//! Lists and dicts are immutable, since the sandbox of Hugging Face's environment forbids changing them. So a value is
//! a tree. Every container knows its depth, which is at most [`MAX_DEPTH`], so recursion over values needs no other
//! bound on the stack. Namespaces are mutable. A namespace cannot contain another, so no value can contain itself.

use super::fault::{Fault, Outcome, fault};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

/// How deep a value may be nested: twice the depth allowed for the input.
pub(super) const MAX_DEPTH: u16 = 256;

/// A value.
#[derive(Debug, Clone)]
pub(super) enum Value {
    /// A value that does not exist, with the message of an error about it.
    Undefined(Rc<str>),
    None,
    Bool(bool),
    Int(i128),
    Float(f64),
    Str(Arc<str>),
    /// Text that `escape` or `safe` has marked as markup.
    Markup(Arc<str>),
    List(Rc<Sequence>),
    Tuple(Rc<Sequence>),
    Dict(Rc<Dict>),
    Range(Range),
    /// The result of a dict's `keys`, `values` or `items`.
    View(&'static str, Rc<Sequence>),
    /// An iterator, which can be read once.
    Iterator(Rc<Items>),
    Namespace(Rc<RefCell<Dict>>),
    Loop(Rc<Loop>),
    Cycler(Rc<Cycler>),
    Callable(Rc<Callable>),
}

/// The items of a list or tuple.
#[derive(Debug, Default)]
pub(super) struct Sequence {
    pub(super) items: Vec<Value>,
    /// Names of the items of a named tuple.
    pub(super) names: &'static [&'static str],
    depth: u16,
}

/// The remaining items of an iterator.
#[derive(Debug)]
pub(super) struct Items {
    pub(super) rest: RefCell<std::vec::IntoIter<Value>>,
    depth: u16,
}

/// Entries in insertion order.
#[derive(Debug, Default)]
pub(super) struct Dict {
    pub(super) entries: Vec<(Value, Value)>,
    index: HashMap<Key, usize>,
    depth: u16,
}

/// The identity of a dict key: values with equal keys share an entry.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Key {
    None,
    Undefined,
    Int(i128),
    Float(u64),
    Str(Arc<str>),
    Tuple(Rc<[Key]>),
    /// An object, by its address.
    Object(usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) start: i128,
    pub(super) stop: i128,
    pub(super) step: i128,
}

impl Range {
    pub(super) fn len(self) -> i128 {
        let (low, high) = if self.step > 0 { (self.start, self.stop) } else { (self.stop, self.start) };
        if low >= high {
            return 0;
        }
        let length = (high.abs_diff(low) - 1) / self.step.unsigned_abs() + 1;
        i128::try_from(length).unwrap_or(i128::MAX)
    }

    pub(super) fn at(self, index: i128) -> i128 {
        self.start + index * self.step
    }
}

/// The variable `loop` of a loop.
#[derive(Debug)]
pub(super) struct Loop {
    /// The loop, as an index into `Program::loops`, and the scope that contains it.
    pub(super) node: usize,
    pub(super) scope: Scope,
    /// The remaining items.
    pub(super) rest: RefCell<std::vec::IntoIter<Value>>,
    /// The next item, if it has been peeked: `Some(None)` at the end.
    pub(super) peeked: RefCell<Option<Option<Value>>>,
    pub(super) before: RefCell<Option<Value>>,
    pub(super) current: RefCell<Option<Value>>,
    /// From 0.
    pub(super) index: Cell<usize>,
    pub(super) length: Cell<Option<usize>>,
    /// Whether the remaining items have already passed the condition.
    pub(super) passed: Cell<bool>,
    pub(super) depth: usize,
    /// The arguments of the last call of `changed`. They may contain the loop itself, so they are dropped when the loop
    /// ends.
    pub(super) changed: RefCell<Option<Vec<Value>>>,
    /// The depth of its items plus one.
    pub(super) nesting: u16,
}

impl Loop {
    /// Sets the items that remain after the peeked one. All of them have passed the condition.
    pub(super) fn passed(&self, rest: Vec<Value>) {
        *self.rest.borrow_mut() = rest.into_iter();
        self.passed.set(true);
    }
}

#[derive(Debug)]
pub(super) struct Cycler {
    pub(super) items: Sequence,
    pub(super) at: Cell<usize>,
}

/// A scope by its index on the stack. The number distinguishes it from later scopes at the same index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Scope {
    pub(super) place: usize,
    pub(super) number: u64,
}

/// A callable value.
#[derive(Debug)]
pub(super) enum Callable {
    /// A macro, as an index into the program's macros, and the scope in which it was defined.
    Macro(usize, Scope),
    Method(Value, Arc<str>),
    Function(Function),
    Joiner(Arc<str>, Cell<bool>),
}

/// Functions that every template has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Function {
    Range,
    Dict,
    Namespace,
    Cycler,
    Joiner,
    Lipsum,
    RaiseException,
    StrftimeNow,
}

impl Value {
    pub(super) fn str(text: impl Into<Arc<str>>) -> Self {
        Self::Str(text.into())
    }

    pub(super) fn undefined(message: impl AsRef<str>) -> Self {
        Self::Undefined(message.as_ref().into())
    }

    pub(super) fn function(function: Function) -> Self {
        Self::Callable(Rc::new(Callable::Function(function)))
    }

    pub(super) fn as_str(&self) -> Option<&Arc<str>> {
        match self {
            Self::Str(text) | Self::Markup(text) => Some(text),
            _ => None,
        }
    }

    /// Returns the value of an integer or a boolean.
    pub(super) fn as_int(&self) -> Option<i128> {
        match self {
            Self::Int(number) => Some(*number),
            Self::Bool(value) => Some(i128::from(*value)),
            _ => None,
        }
    }

    pub(super) fn as_float(&self) -> Option<f64> {
        match self {
            Self::Float(number) => Some(*number),
            _ => self.as_int().map(|number| number as f64),
        }
    }

    pub(super) fn is_undefined(&self) -> bool {
        matches!(self, Self::Undefined(_))
    }

    pub(super) fn is_none(&self) -> bool {
        matches!(self, Self::None)
    }

    /// Returns the name of its type in Python.
    pub(super) fn type_name(&self) -> &'static str {
        match self {
            Self::Undefined(_) => "Undefined",
            Self::None => "NoneType",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Float(_) => "float",
            Self::Str(_) => "str",
            Self::Markup(_) => "Markup",
            Self::List(_) => "list",
            Self::Tuple(_) => "tuple",
            Self::Dict(_) => "dict",
            Self::Range(_) => "range",
            Self::View(name, _) => name,
            Self::Iterator(_) => "generator",
            Self::Namespace(_) => "Namespace",
            Self::Loop(_) => "LoopContext",
            Self::Cycler(_) => "Cycler",
            Self::Callable(_) => "function",
        }
    }

    /// Returns its depth. A value that can contain another is deeper than that one.
    pub(super) fn depth(&self) -> u16 {
        match self {
            Self::List(items) | Self::Tuple(items) | Self::View(_, items) => items.depth,
            Self::Dict(dict) => dict.depth,
            Self::Namespace(dict) => dict.borrow().depth + 1,
            Self::Iterator(items) => items.depth,
            Self::Loop(state) => state.nesting,
            Self::Cycler(cycler) => cycler.items.depth,
            Self::Callable(callable) => match &**callable {
                Callable::Method(receiver, _) => receiver.depth() + 1,
                Callable::Macro(..) | Callable::Function(_) | Callable::Joiner(..) => 0,
            },
            Self::Undefined(_)
            | Self::None
            | Self::Bool(_)
            | Self::Int(_)
            | Self::Float(_)
            | Self::Str(_)
            | Self::Markup(_)
            | Self::Range(_) => 0,
        }
    }

    /// Returns true if the value counts as true in a condition.
    pub(super) fn is_true(&self) -> bool {
        match self {
            Self::Undefined(_) | Self::None => false,
            Self::Bool(value) => *value,
            Self::Int(number) => *number != 0,
            Self::Float(number) => *number != 0.0,
            Self::Str(text) | Self::Markup(text) => !text.is_empty(),
            Self::List(items) | Self::Tuple(items) | Self::View(_, items) => !items.items.is_empty(),
            Self::Dict(dict) => !dict.entries.is_empty(),
            Self::Range(range) => range.len() > 0,
            Self::Iterator(_) | Self::Namespace(_) | Self::Loop(_) | Self::Cycler(_) | Self::Callable(_) => {
                true
            }
        }
    }

    /// Converts a JSON value.
    ///
    /// # Errors
    /// Lists or objects are nested too deep.
    pub(super) fn from_json(value: &serde_json::Value) -> Outcome<Self> {
        Ok(match value {
            serde_json::Value::Null => Self::None,
            serde_json::Value::Bool(value) => Self::Bool(*value),
            serde_json::Value::String(text) => Self::str(text.as_str()),
            serde_json::Value::Number(number) => match (number.as_i64(), number.as_u64()) {
                (Some(number), _) => Self::Int(number.into()),
                (None, Some(number)) => Self::Int(number.into()),
                (None, None) => Self::Float(number.as_f64().unwrap_or(f64::NAN)),
            },
            serde_json::Value::Array(items) => {
                let items = items.iter().map(Self::from_json).collect::<Outcome<Vec<_>>>()?;
                Self::List(Rc::new(Sequence::new(items, &[])?))
            }
            serde_json::Value::Object(entries) => {
                let mut dict = Dict::default();
                for (name, item) in entries {
                    let name: Arc<str> = name.as_str().into();
                    dict.insert(Key::Str(name.clone()), Self::Str(name), Self::from_json(item)?)?;
                }
                Self::Dict(Rc::new(dict))
            }
        })
    }
}

/// Returns the depth of a container whose deepest item has this depth.
fn deeper(depth: u16) -> Outcome<u16> {
    if depth >= MAX_DEPTH {
        return fault(format!("a value is nested deeper than {MAX_DEPTH}"));
    }
    Ok(depth + 1)
}

/// Returns the depth of a container of these items.
///
/// # Errors
/// The items are nested too deep.
pub(super) fn depth_of(items: &[Value]) -> Outcome<u16> {
    deeper(items.iter().map(Value::depth).max().unwrap_or(0))
}

impl Sequence {
    pub(super) fn new(items: Vec<Value>, names: &'static [&'static str]) -> Outcome<Self> {
        let depth = depth_of(&items)?;
        Ok(Self { items, names, depth })
    }
}

impl Items {
    pub(super) fn new(items: Vec<Value>) -> Outcome<Self> {
        let depth = depth_of(&items)?;
        Ok(Self { rest: RefCell::new(items.into_iter()), depth })
    }
}

impl Dict {
    /// Sets an entry. An existing entry with this key keeps its position.
    pub(super) fn insert(&mut self, place: Key, key: Value, value: Value) -> Outcome<()> {
        self.depth = self.depth.max(deeper(value.depth().max(key.depth()))?);
        let at = *self.index.entry(place).or_insert(self.entries.len());
        match self.entries.get_mut(at) {
            Some((_, old)) => *old = value,
            None => self.entries.push((key, value)),
        }
        Ok(())
    }

    pub(super) fn get(&self, key: &Key) -> Option<&Value> {
        self.index.get(key).and_then(|at| self.entries.get(*at)).map(|(_, value)| value)
    }

    pub(super) fn get_str(&self, key: &Arc<str>) -> Option<&Value> {
        self.get(&Key::Str(key.clone()))
    }

    pub(super) fn copy(&self) -> Self {
        Self { entries: self.entries.clone(), index: self.index.clone(), depth: self.depth }
    }
}

/// The error for an operation that is not defined for two values, a `TypeError` in Python.
pub(super) fn unsupported(operation: &str, left: &Value, right: &Value) -> Box<Fault> {
    for value in [left, right] {
        if let Value::Undefined(message) = value {
            return Fault::new(&**message);
        }
    }
    Fault::new(format!(
        "unsupported operand type(s) for {operation}: '{}' and '{}'",
        left.type_name(),
        right.type_name()
    ))
}
