//! Executes statements.

use super::ast::{Expr, Link, Statement, StatementKind, Target};
use super::fault::{Fault, Outcome, fault};
use super::interpreter::Interpreter;
use super::text;
use super::value::{Callable, Loop, Scope, Value, depth_of};
use std::cell::{Cell, RefCell};
use std::rc::Rc;

/// How execution continues after a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flow {
    Next,
    Break,
    Continue,
}

impl<'p> Interpreter<'p> {
    pub(super) fn run(mut self) -> Outcome<String> {
        match self.statements(&self.program.body) {
            Ok(_) => Ok(self.out),
            Err(mut fault) => {
                if let Fault::Failed { line, .. } = &mut *fault
                    && *line == 0
                {
                    *line = self.line;
                }
                Err(fault)
            }
        }
    }

    pub(super) fn statements(&mut self, statements: &'p [Statement]) -> Outcome<Flow> {
        for statement in statements {
            self.pay(1)?;
            self.line = statement.line;
            let flow = match &statement.kind {
                StatementKind::Data(text) => self.write(text).map(|()| Flow::Next),
                StatementKind::Print(value) => self.print(value).map(|()| Flow::Next),
                StatementKind::Break => Ok(Flow::Break),
                StatementKind::Continue => Ok(Flow::Continue),
                StatementKind::If(branches, otherwise) => self.condition(branches, otherwise),
                other => self.deeper(|run| run.other(other)).map(|()| Flow::Next),
            }?;
            if flow != Flow::Next {
                return Ok(flow);
            }
        }
        Ok(Flow::Next)
    }

    #[inline(never)]
    fn print(&mut self, value: &'p Expr) -> Outcome<()> {
        let value = self.eval(value)?;
        match value.as_str() {
            Some(text) => self.write(text),
            None => {
                let text = text::text(self, &value)?;
                self.write(&text)
            }
        }
    }

    #[inline(never)]
    fn condition(
        &mut self,
        branches: &'p [(Expr, Vec<Statement>)],
        otherwise: &'p [Statement],
    ) -> Outcome<Flow> {
        for (test, body) in branches {
            if self.eval(test)?.is_true() {
                return self.deeper(|run| run.statements(body));
            }
        }
        self.deeper(|run| run.statements(otherwise))
    }

    /// Statements after which execution always continues with the next one.
    #[inline(never)]
    fn other(&mut self, statement: &'p StatementKind) -> Outcome<()> {
        match statement {
            StatementKind::Set(target, value) => {
                let value = self.eval(value)?;
                self.assign(target, value)
            }
            StatementKind::SetBlock(target, filters, body) => {
                let text = self.filtered(filters, body)?;
                self.assign(target, text)
            }
            StatementKind::For(index) => self.for_loop(*index),
            StatementKind::Macro(index, symbol) => {
                let made = Value::Callable(Rc::new(Callable::Macro(*index, self.scope())));
                self.assign_name(*symbol, made);
                Ok(())
            }
            StatementKind::Call(index, call) => {
                let caller = Value::Callable(Rc::new(Callable::Macro(*index, self.scope())));
                let value = self.call_with_caller(call, caller)?;
                let text = text::text(self, &value)?;
                self.write(&text)
            }
            StatementKind::Filter(filters, body) => {
                let value = self.filtered(filters, body)?;
                let text = text::text(self, &value)?;
                self.write(&text)
            }
            StatementKind::With(values, body) => {
                let mut set = Vec::with_capacity(values.len());
                for (target, value) in values {
                    set.push((target, self.eval(value)?));
                }
                self.scoped(self.scope(), |run| {
                    for (target, value) in set {
                        run.assign(target, value)?;
                    }
                    run.statements(body).map(|_| ())
                })
            }
            StatementKind::Scope(body) => self.scoped(self.scope(), |run| run.statements(body).map(|_| ())),
            StatementKind::Unsupported(tag) => {
                fault(format!("`{tag}` loads another template, which a chat template cannot do"))
            }
            _ => Ok(()),
        }
    }

    /// Returns the output of statements, passed through filters.
    fn filtered(&mut self, filters: &'p [Link], body: &'p [Statement]) -> Outcome<Value> {
        let scope = self.scope();
        let mut value = self.captured(|run| run.scoped(scope, |run| run.statements(body).map(|_| ())))?;
        for filter in filters {
            value = self.link(value, filter)?;
        }
        Ok(value)
    }

    #[inline(never)]
    fn for_loop(&mut self, index: usize) -> Outcome<()> {
        let Some(node) = self.program.loops.get(index) else { return Ok(()) };
        let items = self.eval(&node.items)?;
        self.iterate(index, self.scope(), &items, 0)
    }

    /// Executes a loop over items. `scope` is the scope that contains the loop.
    pub(super) fn iterate(&mut self, index: usize, scope: Scope, items: &Value, depth: usize) -> Outcome<()> {
        let Some(node) = self.program.loops.get(index) else { return Ok(()) };
        let length = if node.test.is_some() { None } else { text::length(self, items)? };
        let items = self.items(items)?;
        let state = Rc::new(Loop {
            node: index,
            scope,
            nesting: depth_of(&items)?,
            rest: RefCell::new(items.into_iter()),
            peeked: RefCell::new(None),
            before: RefCell::new(None),
            current: RefCell::new(None),
            index: Cell::new(0),
            length: Cell::new(length),
            passed: Cell::new(node.test.is_none()),
            depth,
            changed: RefCell::new(None),
        });
        let result = self.rounds(&state, scope);
        state.changed.take();
        result
    }

    fn rounds(&mut self, state: &Rc<Loop>, scope: Scope) -> Outcome<()> {
        let Some(node) = self.program.loops.get(state.node) else { return Ok(()) };
        let mut rounds = 0usize;
        loop {
            let peeked = state.peeked.take();
            let item = match peeked {
                Some(item) => item,
                None => self.next_item(state)?,
            };
            let Some(item) = item else { break };
            self.pay(1)?;
            state.index.set(rounds);
            *state.before.borrow_mut() = state.current.replace(Some(item.clone()));
            rounds += 1;
            let flow = self.scoped(scope, |run| {
                if let Some(symbol) = run.loop_symbol {
                    run.assign_name(symbol, Value::Loop(state.clone()));
                }
                run.assign(&node.target, item)?;
                run.statements(&node.body)
            })?;
            if flow == Flow::Break {
                break;
            }
        }
        if rounds == 0 && !node.otherwise.is_empty() {
            self.scoped(scope, |run| run.statements(&node.otherwise).map(|_| ()))?;
        }
        Ok(())
    }

    /// Returns the next item that passes the loop's condition.
    pub(super) fn next_item(&mut self, state: &Loop) -> Outcome<Option<Value>> {
        let Some(node) = self.program.loops.get(state.node) else { return Ok(None) };
        loop {
            let item = state.rest.borrow_mut().next();
            let (Some(item), Some(test), false) = (&item, &node.test, state.passed.get()) else {
                return Ok(item);
            };
            self.pay(1)?;
            let passes = self.scoped(state.scope, |run| {
                run.assign(&node.target, item.clone())?;
                Ok(run.eval(test)?.is_true())
            })?;
            if passes {
                return Ok(Some(item.clone()));
            }
        }
    }

    pub(super) fn assign(&mut self, target: &Target, value: Value) -> Outcome<()> {
        match target {
            Target::Name(symbol) => self.assign_name(*symbol, value),
            Target::Attribute(symbol, attribute) => {
                let Value::Namespace(namespace) = self.name(*symbol)? else {
                    return fault("cannot assign attribute on non-namespace object");
                };
                self.check_holds_no_namespace(&value)?;
                self.insert(&mut namespace.borrow_mut(), Value::Str(attribute.clone()), value)?;
            }
            Target::Tuple(targets) => {
                let items = self.items(&value)?;
                if items.len() < targets.len() {
                    let (expected, got) = (targets.len(), items.len());
                    return fault(format!("not enough values to unpack (expected {expected}, got {got})"));
                }
                if items.len() > targets.len() {
                    return fault(format!("too many values to unpack (expected {})", targets.len()));
                }
                for (target, item) in targets.iter().zip(items) {
                    self.assign(target, item)?;
                }
            }
        }
        Ok(())
    }
}
