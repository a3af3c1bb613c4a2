//! Making and reading lists, dicts and iterators while rendering. Each operation costs fuel for its memory and time.

use super::fault::{Outcome, fault};
use super::interpreter::Interpreter;
use super::value::{Callable, Dict, Items, Key, Sequence, Value};
use std::rc::Rc;

/// Fuel for a list, tuple or iterator besides its items. It takes about 100 bytes, and its place in another container
/// up to 100 more.
const SEQUENCE_FUEL: u64 = 4;
/// Fuel for an entry of a dict. Key, value and index take up to 250 bytes, a dict with one entry 650.
const ENTRY_FUEL: u64 = 8;

impl Interpreter<'_> {
    fn sequence(&mut self, items: Vec<Value>, names: &'static [&'static str]) -> Outcome<Rc<Sequence>> {
        self.pay(SEQUENCE_FUEL)?;
        self.pay_items(items.len())?;
        Sequence::new(items, names).map(Rc::new)
    }

    /// # Errors
    /// Items nested too deep, as for the other containers; or no fuel.
    pub(super) fn list(&mut self, items: Vec<Value>) -> Outcome<Value> {
        self.sequence(items, &[]).map(Value::List)
    }

    pub(super) fn tuple(&mut self, items: Vec<Value>) -> Outcome<Value> {
        self.sequence(items, &[]).map(Value::Tuple)
    }

    /// Makes a tuple whose items have names.
    pub(super) fn named_tuple(
        &mut self,
        items: Vec<Value>,
        names: &'static [&'static str],
    ) -> Outcome<Value> {
        self.sequence(items, names).map(Value::Tuple)
    }

    /// Makes the result of a dict's `keys`, `values` or `items`.
    pub(super) fn view(&mut self, name: &'static str, items: Vec<Value>) -> Outcome<Value> {
        self.sequence(items, &[]).map(|items| Value::View(name, items))
    }

    /// Makes an iterator over items.
    pub(super) fn iterator(&mut self, items: Vec<Value>) -> Outcome<Value> {
        self.pay(SEQUENCE_FUEL)?;
        self.pay_items(items.len())?;
        Items::new(items).map(|items| Value::Iterator(Rc::new(items)))
    }

    /// Returns the entries of a dict as tuples.
    pub(super) fn pairs(&mut self, dict: &Dict) -> Outcome<Vec<Value>> {
        let mut pairs = Vec::new();
        for (key, value) in &dict.entries {
            pairs.push(self.tuple(vec![key.clone(), value.clone()])?);
        }
        Ok(pairs)
    }

    /// Sets an entry of a dict. An existing entry with this key keeps its position.
    ///
    /// # Errors
    /// The key is mutable, or the entry is nested too deep.
    pub(super) fn insert(&mut self, dict: &mut Dict, key: Value, value: Value) -> Outcome<()> {
        self.pay(ENTRY_FUEL)?;
        let place = self.key(&key)?;
        dict.insert(place, key, value)
    }

    /// Copies a dict, for adding entries to the copy.
    pub(super) fn copy(&mut self, dict: &Dict) -> Outcome<Dict> {
        self.pay(ENTRY_FUEL.saturating_mul(dict.entries.len() as u64))?;
        Ok(dict.copy())
    }

    /// Converts a value to the key of a dict. Hashing reads the whole value, so all of it costs fuel.
    ///
    /// # Errors
    /// The value is mutable.
    pub(super) fn key(&mut self, value: &Value) -> Outcome<Key> {
        self.pay(1)?;
        Ok(match value {
            Value::None => Key::None,
            Value::Undefined(_) => Key::Undefined,
            Value::Bool(_) | Value::Int(_) => Key::Int(value.as_int().unwrap_or_default()),
            // A whole float is the same key as the integer.
            Value::Float(number) if number.fract() == 0.0 && number.abs() < 1e30 => Key::Int(*number as i128),
            Value::Float(number) => Key::Float(number.to_bits()),
            Value::Str(text) | Value::Markup(text) => {
                self.pay_bytes(text.len())?;
                Key::Str(text.clone())
            }
            Value::Tuple(items) => {
                let keys: Outcome<Vec<Key>> = items.items.iter().map(|item| self.key(item)).collect();
                Key::Tuple(keys?.into())
            }
            Value::Callable(object) => Key::Object(Rc::as_ptr(object).addr()),
            Value::Loop(object) => Key::Object(Rc::as_ptr(object).addr()),
            Value::Cycler(object) => Key::Object(Rc::as_ptr(object).addr()),
            Value::Namespace(object) => Key::Object(Rc::as_ptr(object).addr()),
            Value::Iterator(object) => Key::Object(Rc::as_ptr(object).addr()),
            Value::Range(range) => {
                Key::Tuple([Key::Int(range.start), Key::Int(range.stop), Key::Int(range.step)].into())
            }
            Value::List(_) | Value::Dict(_) | Value::View(..) => {
                return fault(format!("unhashable type: '{}'", value.type_name()));
            }
        })
    }

    /// Returns the items over which a value iterates.
    ///
    /// # Errors
    /// The value is not iterable.
    pub(super) fn items(&mut self, value: &Value) -> Outcome<Vec<Value>> {
        let items = match value {
            Value::Undefined(_) => Vec::new(),
            Value::List(items) | Value::Tuple(items) | Value::View(_, items) => {
                self.pay_items(items.items.len())?;
                items.items.clone()
            }
            Value::Dict(dict) => {
                self.pay_items(dict.entries.len())?;
                dict.entries.iter().map(|(key, _)| key.clone()).collect()
            }
            Value::Str(text) | Value::Markup(text) => {
                self.pay_items(text.len())?;
                let mut buffer = [0; 4];
                text.chars().map(|character| Value::str(&*character.encode_utf8(&mut buffer))).collect()
            }
            Value::Range(range) => {
                let length = usize::try_from(range.len()).unwrap_or(usize::MAX);
                self.pay_items(length)?;
                (0..range.len()).map(|index| Value::Int(range.at(index))).collect()
            }
            Value::Iterator(items) => {
                let rest = items.rest.replace(Vec::new().into_iter());
                self.pay_items(rest.len())?;
                rest.collect()
            }
            _ => return fault(format!("'{}' object is not iterable", value.type_name())),
        };
        Ok(items)
    }

    /// Fails if a value contains a namespace. A namespace that contains another could come to contain itself.
    pub(super) fn check_holds_no_namespace(&mut self, value: &Value) -> Outcome<()> {
        self.pay(1)?;
        match value {
            Value::Namespace(_) => fault("a namespace cannot hold a namespace"),
            Value::Callable(callable) => match &**callable {
                Callable::Method(receiver, _) => self.check_holds_no_namespace(receiver),
                _ => Ok(()),
            },
            Value::Iterator(items) => {
                let rest = items.rest.borrow();
                rest.as_slice().iter().try_for_each(|item| self.check_holds_no_namespace(item))
            }
            Value::List(items) | Value::Tuple(items) | Value::View(_, items) => {
                items.items.iter().try_for_each(|item| self.check_holds_no_namespace(item))
            }
            Value::Dict(dict) => dict.entries.iter().try_for_each(|(key, item)| {
                self.check_holds_no_namespace(key)?;
                self.check_holds_no_namespace(item)
            }),
            Value::Loop(_) | Value::Cycler(_) => fault("a namespace cannot hold a loop or a cycler"),
            _ => Ok(()),
        }
    }
}

/// Returns true if a value has a length and items by index. As in Jinja2, dicts and undefined values count.
pub(super) fn is_sequence(value: &Value) -> bool {
    matches!(
        value,
        Value::Str(_)
            | Value::Markup(_)
            | Value::List(_)
            | Value::Tuple(_)
            | Value::Dict(_)
            | Value::Range(_)
            | Value::Undefined(_)
    )
}

pub(super) fn is_iterable(value: &Value) -> bool {
    is_sequence(value) || matches!(value, Value::View(..) | Value::Iterator(_) | Value::Loop(_))
}
