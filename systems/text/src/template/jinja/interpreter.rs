//! The state of one rendering: names in scopes, the text so far, and the remaining fuel.
//!
//! A macro sees the scope in which it was defined, in its state at the time of the call. Every statement and expression
//! costs one unit of fuel. Data read or written costs one more for each [`BYTES_PER_FUEL`] bytes or each item. An item
//! takes 32 bytes. A container takes more and costs more (`containers`). So fuel bounds memory as well as time.

use super::super::clock::CivilTime;
use super::args::Args;
use super::ast::{CheckId, FilterId, Program, Symbol};
use super::fault::{Fault, Outcome, fault};
use super::scopes::Scopes;
use super::value::{Function, Scope, Value};

/// Bytes read or written for one unit of fuel.
const BYTES_PER_FUEL: usize = 64;
/// How deep calls and blocks may be nested while rendering. It bounds the stack: each level was measured to take 1.5
/// KB, and threads have 2 MB, in a browser 1 MB. A macro that renders a schema takes about eight levels for each level
/// of the schema.
const MAX_STEPS_DEEP: usize = 400;

/// The functions that every template has, by name.
const FUNCTIONS: [(&str, Function); 8] = [
    ("range", Function::Range),
    ("dict", Function::Dict),
    ("namespace", Function::Namespace),
    ("cycler", Function::Cycler),
    ("joiner", Function::Joiner),
    ("lipsum", Function::Lipsum),
    ("raise_exception", Function::RaiseException),
    ("strftime_now", Function::StrftimeNow),
];

/// A filter or a test.
pub(super) struct Builtin<T> {
    pub(super) name: &'static str,
    /// Applies it to a value and to the arguments in parentheses.
    pub(super) apply: fn(&mut Interpreter<'_>, &Value, Args) -> Outcome<T>,
}

pub(super) type Filter = Builtin<Value>;
pub(super) type Check = Builtin<bool>;

/// The filters and tests that a template can name. Ids are indices into the tables.
pub(super) struct Environment {
    pub(super) filters: &'static [Filter],
    pub(super) checks: &'static [Check],
}

impl Environment {
    pub(super) fn filter_id(&self, name: &str) -> Option<FilterId> {
        self.filters.iter().position(|filter| filter.name == name)
    }

    pub(super) fn check_id(&self, name: &str) -> Option<CheckId> {
        self.checks.iter().position(|check| check.name == name)
    }

    pub(super) fn filter_named(&self, name: &str) -> Option<&'static Filter> {
        self.filters.iter().find(|filter| filter.name == name)
    }

    pub(super) fn check_named(&self, name: &str) -> Option<&'static Check> {
        self.checks.iter().find(|check| check.name == name)
    }
}

/// One rendering of a program. It borrows the program and is consumed by `run`.
pub(super) struct Interpreter<'p> {
    pub(super) program: &'p Program,
    pub(super) environment: &'static Environment,
    pub(super) loop_symbol: Option<Symbol>,
    scopes: Scopes,
    fuel: u64,
    depth: usize,
    pub(super) line: u32,
    pub(super) out: String,
    pub(super) now: Option<CivilTime>,
}

impl<'p> Interpreter<'p> {
    pub(super) fn new<'n>(
        program: &'p Program,
        environment: &'static Environment,
        variables: impl Iterator<Item = (&'n str, Value)>,
        now: Option<CivilTime>,
        fuel: u64,
    ) -> Self {
        let symbol = |name: &str| program.names.iter().position(|known| **known == *name);
        let mut globals = vec![None; program.names.len()];
        let functions =
            FUNCTIONS.into_iter().filter(|(_, function)| *function != Function::StrftimeNow || now.is_some());
        for (name, value) in
            functions.map(|(name, function)| (name, Value::function(function))).chain(variables)
        {
            if let Some(symbol) = symbol(name) {
                globals[symbol] = Some(value);
            }
        }
        Self {
            program,
            environment,
            loop_symbol: symbol("loop"),
            scopes: Scopes::new(globals),
            fuel,
            depth: 0,
            line: 0,
            out: String::new(),
            now,
        }
    }

    /// Takes fuel. Fails if there is not enough.
    pub(super) fn pay(&mut self, fuel: u64) -> Outcome<()> {
        match self.fuel.checked_sub(fuel) {
            Some(rest) => {
                self.fuel = rest;
                Ok(())
            }
            None => Err(Box::new(Fault::OutOfFuel)),
        }
    }

    /// Takes fuel for bytes that are read or written.
    pub(super) fn pay_bytes(&mut self, bytes: usize) -> Outcome<()> {
        self.pay((bytes / BYTES_PER_FUEL) as u64)
    }

    /// Takes fuel for items that are read or made.
    pub(super) fn pay_items(&mut self, items: usize) -> Outcome<()> {
        self.pay(items as u64)
    }

    /// Runs `step` one level deeper. Fails beyond [`MAX_STEPS_DEEP`] levels.
    pub(super) fn deeper<T>(&mut self, step: impl FnOnce(&mut Self) -> Outcome<T>) -> Outcome<T> {
        if self.depth >= MAX_STEPS_DEEP {
            return fault(format!("calls and blocks are nested deeper than {MAX_STEPS_DEEP} steps"));
        }
        self.depth += 1;
        let result = step(self);
        self.depth -= 1;
        result
    }

    /// Returns the current scope.
    pub(super) fn scope(&self) -> Scope {
        self.scopes.current()
    }

    /// Runs `step` in a new scope inside `parent`.
    pub(super) fn scoped<T>(
        &mut self,
        parent: Scope,
        step: impl FnOnce(&mut Self) -> Outcome<T>,
    ) -> Outcome<T> {
        let outer = self.scope();
        self.scopes.open(parent)?;
        let result = self.deeper(step);
        self.scopes.close(outer);
        result
    }

    pub(super) fn name(&mut self, symbol: Symbol) -> Outcome<Value> {
        if let Some(value) = self.scopes.get(symbol) {
            return Ok(value.clone());
        }
        let name = self.program.names.get(symbol).map_or("", |name| name);
        self.pay_bytes(name.len())?;
        Ok(Value::undefined(format!("'{name}' is undefined")))
    }

    pub(super) fn assign_name(&mut self, symbol: Symbol, value: Value) {
        self.scopes.set(symbol, value);
    }

    /// Appends text to the output.
    pub(super) fn write(&mut self, text: &str) -> Outcome<()> {
        self.pay_bytes(text.len())?;
        self.out.push_str(text);
        Ok(())
    }

    /// Runs `step` and returns its output as a value.
    pub(super) fn captured(&mut self, step: impl FnOnce(&mut Self) -> Outcome<()>) -> Outcome<Value> {
        let outer = std::mem::take(&mut self.out);
        let result = step(self);
        let text = std::mem::replace(&mut self.out, outer);
        result.map(|()| Value::str(text))
    }
}
