//! An interpreter of the part of Jinja2 that chat templates use. It renders as Jinja2 3.1 does in the environment of
//! Hugging Face's `apply_chat_template` (`ImmutableSandboxedEnvironment`, `trim_blocks`, `lstrip_blocks`, loop
//! controls, `generation`).
//!
//! A template can come from an untrusted file. The parser bounds nesting (`parser`), making a value bounds its depth
//! (`value`), and every step and byte costs fuel (`interpreter`). Features of Jinja2 that are not implemented
//! (`include`, `urlize`, printing functions and others) fail with an error that names them.

mod args;
mod ast;
mod attributes;
mod calls;
mod checks;
mod containers;
mod environment;
mod eval;
mod execute;
mod expression;
mod fault;
mod filters;
mod format;
mod interpreter;
mod lexer;
mod macros;
mod method_names;
mod methods;
mod numbers;
mod operators;
mod parser;
mod python;
mod scopes;
mod statement;
mod strings;
#[cfg(test)]
mod tests;
mod text;
mod value;

pub(super) use fault::Fault;

use super::clock::CivilTime;
use ast::Program;
use environment::ENVIRONMENT;
use fault::{Outcome, SyntaxFault};
use interpreter::Interpreter;
use value::Value;

/// A compiled template.
#[derive(Debug)]
pub(super) struct Jinja(Program);

impl Jinja {
    pub(super) fn compile(source: &str) -> Result<Self, SyntaxFault> {
        statement::parse(source).map(Self)
    }

    /// Renders with variables. Of two with the same name the later one counts.
    pub(super) fn render(
        &self,
        variables: Vec<(&str, Variable)>,
        now: Option<CivilTime>,
        fuel: u64,
    ) -> Outcome<String> {
        let variables = variables.into_iter().map(|(name, Variable(value))| (name, value));
        Interpreter::new(&self.0, &ENVIRONMENT, variables, now, fuel).run()
    }
}

/// The value of a variable of a template.
#[derive(Debug, Clone)]
pub(super) struct Variable(Value);

impl Variable {
    pub(super) const NONE: Self = Self(Value::None);

    pub(super) fn text(text: &str) -> Self {
        Self(Value::str(text))
    }

    /// Converts a JSON value. Fails with the reason, without a line.
    pub(super) fn json(value: &serde_json::Value) -> Result<Self, String> {
        Value::from_json(value).map(Self).map_err(|fault| match *fault {
            Fault::Failed { message, .. } => message,
            Fault::Raised(message) => message,
            Fault::OutOfFuel => "it is too large".to_owned(),
        })
    }
}

impl From<bool> for Variable {
    fn from(value: bool) -> Self {
        Self(Value::Bool(value))
    }
}
