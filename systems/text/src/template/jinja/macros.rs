//! Calls macros.

use super::args::Args;
use super::ast::Macro;
use super::fault::{Outcome, fault};
use super::interpreter::Interpreter;
use super::value::{Dict, Scope, Value};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

/// Arguments by name. Each can be taken once.
struct Named {
    entries: Vec<Option<(Arc<str>, Value)>>,
    /// The first entry of each name.
    places: HashMap<Arc<str>, usize>,
}

impl Named {
    fn new(run: &mut Interpreter<'_>, named: Vec<(Arc<str>, Value)>) -> Outcome<Self> {
        let mut places = HashMap::new();
        for (at, (name, _)) in named.iter().enumerate() {
            run.pay(1)?;
            run.pay_bytes(name.len())?;
            places.entry(name.clone()).or_insert(at);
        }
        Ok(Self { entries: named.into_iter().map(Some).collect(), places })
    }

    fn take(&mut self, run: &mut Interpreter<'_>, name: &str) -> Outcome<Option<Value>> {
        if self.entries.is_empty() {
            return Ok(None);
        }
        run.pay_bytes(name.len())?;
        let entry = self.places.get(name).and_then(|at| self.entries.get_mut(*at));
        Ok(entry.and_then(Option::take).map(|(_, value)| value))
    }

    /// Returns the arguments that have not been taken.
    fn rest(self) -> impl Iterator<Item = (Arc<str>, Value)> {
        self.entries.into_iter().flatten()
    }
}

impl<'p> Interpreter<'p> {
    /// Calls a macro.
    pub(super) fn call_macro(&mut self, index: usize, scope: Scope, args: Args) -> Outcome<Value> {
        let Some(node) = self.program.macros.get(index) else { return fault("no such macro") };
        self.scoped(scope, |run| {
            run.bind_parameters(node, args)?;
            run.captured(|run| run.statements(&node.body).map(|_| ()))
        })
    }

    /// Sets the parameters of a macro in the current scope, and the names that take the remaining arguments.
    fn bind_parameters(&mut self, node: &'p Macro, args: Args) -> Outcome<()> {
        let Args { mut positional, named } = args;
        self.pay_items(node.parameters.len())?;
        let mut named = Named::new(self, named)?;
        let extra = positional.split_off(positional.len().min(node.parameters.len()));
        let mut given: Vec<Option<Value>> = positional.into_iter().map(Some).collect();
        for symbol in node.parameters.iter().skip(given.len()) {
            let name = self.program.names.get(*symbol).map_or("", |name| name);
            given.push(named.take(self, name)?);
        }
        if let Some(symbol) = node.caller {
            let caller = named.take(self, "caller")?;
            self.assign_name(symbol, caller.unwrap_or_else(|| Value::undefined("No caller defined")));
        }
        let mut rest = named.rest();
        match node.kwargs {
            Some(symbol) => {
                let mut dict = Dict::default();
                for (name, value) in rest {
                    self.insert(&mut dict, Value::Str(name), value)?;
                }
                self.assign_name(symbol, Value::Dict(Rc::new(dict)));
            }
            None => {
                if let Some((argument, _)) = rest.next() {
                    return fault(format!("macro '{}' takes no keyword argument '{argument}'", node.name));
                }
            }
        }
        match node.varargs {
            Some(symbol) => {
                let extra = self.tuple(extra)?;
                self.assign_name(symbol, extra);
            }
            None if !extra.is_empty() => {
                let most = node.parameters.len();
                return fault(format!("macro '{}' takes not more than {most} argument(s)", node.name));
            }
            None => {}
        }
        let without = node.parameters.len() - node.defaults.len();
        for (at, (symbol, value)) in node.parameters.iter().zip(given).enumerate() {
            let value = match (value, at.checked_sub(without).and_then(|at| node.defaults.get(at))) {
                (Some(value), _) => value,
                (None, Some(default)) => self.eval(default)?,
                (None, None) => {
                    let name = self.program.names.get(*symbol).map_or("", |name| name);
                    self.pay_bytes(name.len())?;
                    Value::undefined(format!("parameter '{name}' was not provided"))
                }
            };
            self.assign_name(*symbol, value);
        }
        Ok(())
    }
}
