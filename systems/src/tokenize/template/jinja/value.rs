//! Values of a template: Python's, as far as templates meet them.
//!
//! Lists and dicts cannot be changed (the sandbox of Hugging Face's environment forbids it), so a value is a tree, and every
//! container knows how deep it is: none is deeper than [`MAX_DEPTH`], and walks over values need no other bound on their stack.
//! Namespaces can be changed; one can hold no other, so no value can come to hold itself.

use super::{Fault, Outcome, fault};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

/// How deep a value may be nested: twice what the input may be.
pub(super) const MAX_DEPTH: u16 = 256;

/// A value.
#[derive(Debug, Clone)]
pub(super) enum Value {
    /// What is not there, and what an error about it says.
    Undefined(Rc<str>),
    None,
    Bool(bool),
    Int(i128),
    Float(f64),
    Str(Arc<str>),
    /// Text that `escape` or `safe` has marked.
    Markup(Arc<str>),
    List(Rc<Sequence>),
    Tuple(Rc<Sequence>),
    Dict(Rc<Dict>),
    Range(Range),
    /// What a dict's `keys`, `values` and `items` give.
    View(&'static str, Rc<Sequence>),
    /// An iterator, which can be read once.
    Iterator(Rc<RefCell<std::vec::IntoIter<Value>>>),
    Namespace(Rc<RefCell<Dict>>),
    Loop(Rc<Loop>),
    Cycler(Rc<Cycler>),
    Callable(Rc<Callable>),
}

/// The items of a list or tuple.
#[derive(Debug, Default)]
pub(super) struct Sequence {
    pub(super) items: Vec<Value>,
    /// Names of the items, where a tuple has them.
    pub(super) names: &'static [&'static str],
    depth: u16,
}

/// Entries in the order in which they were set.
#[derive(Debug, Default)]
pub(super) struct Dict {
    pub(super) entries: Vec<(Value, Value)>,
    index: HashMap<Key, usize>,
    depth: u16,
}

/// What makes two values the same key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Key {
    None,
    Undefined,
    Int(i128),
    Float(u64),
    Str(Arc<str>),
    Tuple(Vec<Key>),
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
        if low >= high { 0 } else { (high - low - 1) / self.step.abs() + 1 }
    }

    pub(super) fn at(self, index: i128) -> i128 {
        self.start + index * self.step
    }
}

/// What `loop` is in a loop.
#[derive(Debug)]
pub(super) struct Loop {
    /// The loop, as an index into the program's, and the scope around it.
    pub(super) node: usize,
    pub(super) scope: Scope,
    /// What is still to come.
    pub(super) rest: RefCell<std::vec::IntoIter<Value>>,
    /// The next item, where it has been looked at: `Some(None)` if there is none.
    pub(super) peeked: RefCell<Option<Option<Value>>>,
    pub(super) before: RefCell<Option<Value>>,
    pub(super) current: RefCell<Option<Value>>,
    /// From 0.
    pub(super) index: Cell<usize>,
    pub(super) length: Cell<Option<usize>>,
    /// Whether what is still to come has passed the condition.
    pub(super) passed: Cell<bool>,
    pub(super) depth: usize,
    pub(super) changed: RefCell<Option<Vec<Value>>>,
}

impl Loop {
    /// Sets what is still to come after the item that has been looked at; all of it has passed the condition.
    pub(super) fn passed(&self, rest: Vec<Value>) {
        *self.rest.borrow_mut() = rest.into_iter();
        self.passed.set(true);
    }
}

#[derive(Debug)]
pub(super) struct Cycler {
    pub(super) items: Vec<Value>,
    pub(super) at: Cell<usize>,
}

/// A scope by its place on the stack; the number tells it from later ones at the same place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Scope {
    pub(super) place: usize,
    pub(super) number: u64,
}

/// What can be called.
#[derive(Debug)]
pub(super) enum Callable {
    /// A macro, as an index into the program's, and the scope that it was made in.
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

    /// # Errors
    /// Items that are nested too deep.
    pub(super) fn list(items: Vec<Self>) -> Outcome<Self> {
        Ok(Self::List(Rc::new(Sequence::new(items)?)))
    }

    /// # Errors
    /// Items that are nested too deep.
    pub(super) fn tuple(items: Vec<Self>) -> Outcome<Self> {
        Ok(Self::Tuple(Rc::new(Sequence::new(items)?)))
    }

    /// An iterator over items.
    pub(super) fn iterator(items: Vec<Self>) -> Self {
        Self::Iterator(Rc::new(RefCell::new(items.into_iter())))
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

    /// Integers, `true` and `false` among them.
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

    /// The name of its type in Python.
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

    pub(super) fn depth(&self) -> u16 {
        match self {
            Self::List(items) | Self::Tuple(items) | Self::View(_, items) => items.depth,
            Self::Dict(dict) => dict.depth,
            Self::Namespace(dict) => dict.borrow().depth + 1,
            _ => 0,
        }
    }

    /// Whether it is true as a condition.
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

    /// As the key of a dict.
    ///
    /// # Errors
    /// A value that can be changed.
    pub(super) fn key(&self) -> Outcome<Key> {
        Ok(match self {
            Self::None => Key::None,
            Self::Undefined(_) => Key::Undefined,
            Self::Bool(_) | Self::Int(_) => Key::Int(self.as_int().unwrap_or_default()),
            // A whole float is the same key as the integer.
            Self::Float(number) if number.fract() == 0.0 && number.abs() < 1e30 => Key::Int(*number as i128),
            Self::Float(number) => Key::Float(number.to_bits()),
            Self::Str(text) | Self::Markup(text) => Key::Str(text.clone()),
            Self::Tuple(items) => Key::Tuple(items.items.iter().map(Self::key).collect::<Outcome<_>>()?),
            Self::Callable(object) => Key::Object(Rc::as_ptr(object).addr()),
            Self::Loop(object) => Key::Object(Rc::as_ptr(object).addr()),
            Self::Cycler(object) => Key::Object(Rc::as_ptr(object).addr()),
            Self::Namespace(object) => Key::Object(Rc::as_ptr(object).addr()),
            Self::Iterator(object) => Key::Object(Rc::as_ptr(object).addr()),
            Self::Range(range) => {
                Key::Tuple(vec![Key::Int(range.start), Key::Int(range.stop), Key::Int(range.step)])
            }
            Self::List(_) | Self::Dict(_) | Self::View(..) => {
                return fault(format!("unhashable type: '{}'", self.type_name()));
            }
        })
    }

    /// The value of JSON.
    ///
    /// # Errors
    /// Lists and maps that are nested too deep.
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
                Self::list(items.iter().map(Self::from_json).collect::<Outcome<Vec<_>>>()?)?
            }
            serde_json::Value::Object(entries) => {
                let mut dict = Dict::default();
                for (name, item) in entries {
                    dict.insert(Self::str(name.as_str()), Self::from_json(item)?)?;
                }
                Self::Dict(Rc::new(dict))
            }
        })
    }
}

/// The depth of a container of items, one of whose depths is given.
fn deeper(depth: u16) -> Outcome<u16> {
    if depth >= MAX_DEPTH {
        return fault(format!("a value is nested deeper than {MAX_DEPTH}"));
    }
    Ok(depth + 1)
}

impl Sequence {
    pub(super) fn new(items: Vec<Value>) -> Outcome<Self> {
        let depth = deeper(items.iter().map(Value::depth).max().unwrap_or(0))?;
        Ok(Self { items, names: &[], depth })
    }

    /// A tuple whose items have names.
    pub(super) fn named(items: Vec<Value>, names: &'static [&'static str]) -> Outcome<Self> {
        Ok(Self { names, ..Self::new(items)? })
    }
}

impl Dict {
    /// Sets an entry; one of this key keeps its place.
    pub(super) fn insert(&mut self, key: Value, value: Value) -> Outcome<()> {
        self.depth = self.depth.max(deeper(value.depth().max(key.depth()))?);
        let at = *self.index.entry(key.key()?).or_insert(self.entries.len());
        match self.entries.get_mut(at) {
            Some((_, old)) => *old = value,
            None => self.entries.push((key, value)),
        }
        Ok(())
    }

    pub(super) fn get(&self, key: &Value) -> Outcome<Option<&Value>> {
        Ok(self.index.get(&key.key()?).and_then(|at| self.entries.get(*at)).map(|(_, value)| value))
    }

    pub(super) fn get_str(&self, key: &Arc<str>) -> Option<&Value> {
        self.index.get(&Key::Str(key.clone())).and_then(|at| self.entries.get(*at)).map(|(_, value)| value)
    }

    pub(super) fn copy(&self) -> Self {
        Self { entries: self.entries.clone(), index: self.index.clone(), depth: self.depth }
    }
}

/// An error that Python would call a `TypeError` of an operation between two values.
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
