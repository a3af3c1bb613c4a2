//! Jinja2, as far as chat templates use it: an interpreter that gives what Jinja2 3.1 gives in the environment that Hugging Face's
//! `apply_chat_template` makes (`ImmutableSandboxedEnvironment`, `trim_blocks`, `lstrip_blocks`, loop controls, `generation`).
//!
//! A template comes with a file from anywhere. So nesting is bounded where it is read (`parser`), values where they are made
//! (`value`), and every step and byte is paid for with fuel (`interpreter`). What Jinja2 has and this has not (`include`, `urlize`,
//! text of functions and the like) is refused by name.

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

    /// Renders with variables, of which later ones win.
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

/// A variable that a template is given.
#[derive(Debug, Clone)]
pub(super) struct Variable(Value);

impl Variable {
    pub(super) const NONE: Self = Self(Value::None);

    pub(super) fn text(text: &str) -> Self {
        Self(Value::str(text))
    }

    /// The value of JSON, or why there is none.
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
