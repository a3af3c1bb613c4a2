//! Evaluates expressions.

use super::args::Args;
use super::ast::{Arguments, Comparison, Expr, Link, Literal};
use super::fault::{Outcome, fault};
use super::interpreter::Interpreter;
use super::value::{Dict, Value};
use super::{attributes, calls, operators, text};
use std::rc::Rc;

impl<'p> Interpreter<'p> {
    pub(super) fn eval(&mut self, expr: &'p Expr) -> Outcome<Value> {
        self.pay(1)?;
        match expr {
            Expr::Const(literal) => Ok(match literal {
                Literal::None => Value::None,
                Literal::Bool(value) => Value::Bool(*value),
                Literal::Int(number) => Value::Int(*number),
                Literal::Float(number) => Value::Float(*number),
                Literal::Str(text) => Value::Str(text.clone()),
            }),
            Expr::Name(symbol) => self.name(*symbol),
            Expr::Chain(base, links) => self.deeper(|run| run.chain(base, links)),
            Expr::And(items) => self.deeper(|run| run.all_of(items)),
            Expr::Or(items) => self.deeper(|run| run.any_of(items)),
            Expr::Not(inner) => self.deeper(|run| Ok(Value::Bool(!run.eval(inner)?.is_true()))),
            Expr::Compare(first, rest) => self.deeper(|run| run.compare(first, rest)),
            other => self.deeper(|run| run.compound(other)),
        }
    }

    #[inline(never)]
    fn all_of(&mut self, items: &'p [Expr]) -> Outcome<Value> {
        let mut value = Value::Bool(true);
        for item in items {
            value = self.eval(item)?;
            if !value.is_true() {
                break;
            }
        }
        Ok(value)
    }

    #[inline(never)]
    fn any_of(&mut self, items: &'p [Expr]) -> Outcome<Value> {
        let mut value = Value::Bool(false);
        for item in items {
            value = self.eval(item)?;
            if value.is_true() {
                break;
            }
        }
        Ok(value)
    }

    #[inline(never)]
    fn compare(&mut self, first: &'p Expr, rest: &'p [(Comparison, Expr)]) -> Outcome<Value> {
        let mut left = self.eval(first)?;
        for (comparison, right) in rest {
            let right = self.eval(right)?;
            if !operators::compare(self, *comparison, &left, &right)? {
                return Ok(Value::Bool(false));
            }
            left = right;
        }
        Ok(Value::Bool(true))
    }

    #[inline(never)]
    fn compound(&mut self, expr: &'p Expr) -> Outcome<Value> {
        match expr {
            Expr::Tuple(items) => {
                let items = self.eval_all(items)?;
                self.tuple(items)
            }
            Expr::List(items) => {
                let items = self.eval_all(items)?;
                self.list(items)
            }
            Expr::Dict(entries) => {
                let mut dict = Dict::default();
                for (key, value) in entries {
                    let key = self.eval(key)?;
                    let value = self.eval(value)?;
                    self.insert(&mut dict, key, value)?;
                }
                Ok(Value::Dict(Rc::new(dict)))
            }
            Expr::Negative(inner) => {
                let value = self.eval(inner)?;
                operators::negative(&value)
            }
            Expr::Positive(inner) => {
                let value = self.eval(inner)?;
                operators::positive(&value)
            }
            Expr::Arithmetic(first, rest) => {
                let mut left = self.eval(first)?;
                for (operator, right) in rest {
                    let right = self.eval(right)?;
                    left = operators::arithmetic(self, *operator, &left, &right)?;
                }
                Ok(left)
            }
            Expr::Concat(items) => {
                let mut whole = String::new();
                for item in items {
                    let value = self.eval(item)?;
                    let text = text::text(self, &value)?;
                    self.pay_bytes(text.len())?;
                    whole.push_str(&text);
                }
                Ok(Value::str(whole))
            }
            Expr::Conditional(parts) => {
                let (value, test, other) = &**parts;
                if self.eval(test)?.is_true() {
                    return self.eval(value);
                }
                match other {
                    Some(other) => self.eval(other),
                    None => Ok(Value::undefined(
                        "the inline if-expression evaluated to false and no else section was defined.",
                    )),
                }
            }
            _ => Ok(Value::None),
        }
    }

    fn eval_all(&mut self, items: &'p [Expr]) -> Outcome<Vec<Value>> {
        items.iter().map(|item| self.eval(item)).collect()
    }

    #[inline(never)]
    fn chain(&mut self, base: &'p Expr, links: &'p [Link]) -> Outcome<Value> {
        let mut value = self.eval(base)?;
        for link in links {
            value = self.link(value, link)?;
        }
        Ok(value)
    }

    pub(super) fn link(&mut self, value: Value, link: &'p Link) -> Outcome<Value> {
        self.pay(1)?;
        match link {
            Link::Attribute(name) => attributes::attribute(self, &value, name),
            Link::Item(key) => {
                let key = self.eval(key)?;
                attributes::item(self, &value, &key)
            }
            Link::Slice(parts) => {
                let mut bounds = [const { Value::None }; 3];
                for (bound, part) in bounds.iter_mut().zip(parts.iter()) {
                    if let Some(part) = part {
                        *bound = self.eval(part)?;
                    }
                }
                operators::slice(self, &value, &bounds)
            }
            Link::Call(arguments) => {
                let args = self.args(arguments)?;
                calls::call(self, &value, args)
            }
            Link::Filter(name, filter, arguments) => {
                let args = self.args(arguments)?;
                match filter.and_then(|id| self.environment.filters.get(id)) {
                    Some(filter) => (filter.apply)(self, &value, args),
                    None => fault(format!("No filter named '{name}' found.")),
                }
            }
            Link::Test { name, check, arguments, negated } => {
                let args = self.args(arguments)?;
                match check.and_then(|id| self.environment.checks.get(id)) {
                    Some(check) => Ok(Value::Bool((check.apply)(self, &value, args)? != *negated)),
                    None => fault(format!("No test named '{name}' found.")),
                }
            }
        }
    }

    #[inline(never)]
    pub(super) fn args(&mut self, arguments: &'p Arguments) -> Outcome<Args> {
        let mut args = Args { positional: self.eval_all(&arguments.positional)?, named: Vec::new() };
        for (name, value) in &arguments.named {
            let value = self.eval(value)?;
            args.named.push((name.clone(), value));
        }
        if let Some(rest) = &arguments.rest {
            let rest = self.eval(rest)?;
            let items = self.items(&rest)?;
            args.positional.extend(items);
        }
        if let Some(rest) = &arguments.named_rest {
            let rest = self.eval(rest)?;
            let Value::Dict(dict) = &rest else {
                return fault(format!("argument after ** must be a mapping, not {}", rest.type_name()));
            };
            self.pay_items(dict.entries.len())?;
            for (key, value) in &dict.entries {
                let Some(name) = key.as_str() else { return fault("keywords must be strings") };
                args.named.push((name.clone(), value.clone()));
            }
        }
        Ok(args)
    }

    /// Evaluates a call and passes the body of a `call` block to the callee as `caller`.
    pub(super) fn call_with_caller(&mut self, call: &'p Expr, caller: Value) -> Outcome<Value> {
        let Expr::Chain(base, links) = call else { return fault("`call` needs a call") };
        let mut value = self.eval(base)?;
        for (at, link) in links.iter().enumerate() {
            value = match link {
                Link::Call(arguments) if at + 1 == links.len() => {
                    let mut args = self.args(arguments)?;
                    args.named.push(("caller".into(), caller.clone()));
                    calls::call(self, &value, args)?
                }
                _ => self.link(value, link)?,
            };
        }
        Ok(value)
    }
}
