//! The state of the parser: the tokens of a template and the position in them. `statement` and `expression` implement
//! the grammar.

use super::ast::{Program, Symbol};
use super::fault::SyntaxFault;
use super::lexer::{Lexeme, Token};
use std::collections::HashMap;
use std::sync::Arc;

/// How deep blocks, and separately expressions, may be nested. A bracket counts twice. Python allows 100 blocks and 200
/// brackets.
pub(super) const MAX_NESTING: usize = 200;

pub(super) struct Parser {
    tokens: Vec<Lexeme>,
    pub(super) at: usize,
    pub(super) program: Program,
    symbols: HashMap<Arc<str>, Symbol>,
    /// Depth of expressions.
    pub(super) nesting: usize,
    /// Depth of blocks.
    pub(super) blocks: usize,
    /// Depth of conditions. Inside one, an unknown filter or test is an error only when it is executed.
    pub(super) conditional: usize,
    /// Number of loops around the current position, counted from the innermost macro.
    pub(super) loops: usize,
    /// For each macro around the current position, the symbols of `caller`, `kwargs` and `varargs` that its body reads.
    pub(super) specials: Vec<[Option<Symbol>; 3]>,
}

/// Names that a macro can read without declaring them.
const SPECIALS: [&str; 3] = ["caller", "kwargs", "varargs"];

impl Parser {
    pub(super) fn new(tokens: Vec<Lexeme>) -> Self {
        Self {
            tokens,
            at: 0,
            program: Program::default(),
            symbols: HashMap::new(),
            nesting: 0,
            blocks: 0,
            conditional: 0,
            loops: 0,
            specials: Vec::new(),
        }
    }

    pub(super) fn fail<T>(&self, message: impl Into<String>) -> Result<T, SyntaxFault> {
        Err(SyntaxFault { line: self.line(), message: message.into() })
    }

    pub(super) fn line(&self) -> u32 {
        self.tokens.get(self.at).or(self.tokens.last()).map_or(1, |(_, line)| *line)
    }

    pub(super) fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at).map(|(token, _)| token)
    }

    pub(super) fn peek_second(&self) -> Option<&Token> {
        self.tokens.get(self.at + 1).map(|(token, _)| token)
    }

    pub(super) fn next(&mut self) -> Option<Token> {
        let token = self.peek().cloned();
        self.at += 1;
        token
    }

    pub(super) fn is_op(&self, operator: &str) -> bool {
        matches!(self.peek(), Some(Token::Op(found)) if *found == operator)
    }

    pub(super) fn is_name(&self, name: &str) -> bool {
        matches!(self.peek(), Some(Token::Name(found)) if &**found == name)
    }

    pub(super) fn skip_op(&mut self, operator: &str) -> bool {
        let found = self.is_op(operator);
        self.at += usize::from(found);
        found
    }

    pub(super) fn skip_name(&mut self, name: &str) -> bool {
        let found = self.is_name(name);
        self.at += usize::from(found);
        found
    }

    /// Describes the next token, for error messages.
    pub(super) fn here(&self) -> String {
        match self.peek() {
            None => "the end of the template".to_owned(),
            Some(Token::Data(_)) => "text".to_owned(),
            Some(Token::OpenVariable) => "`{{`".to_owned(),
            Some(Token::CloseVariable) => "`}}`".to_owned(),
            Some(Token::OpenBlock) => "`{%`".to_owned(),
            Some(Token::CloseBlock) => "`%}`".to_owned(),
            Some(Token::Name(name)) => format!("`{name}`"),
            Some(Token::Str(text)) => format!("{text:?}"),
            Some(Token::Int(number)) => format!("`{number}`"),
            Some(Token::Float(number)) => format!("`{number}`"),
            Some(Token::Op(operator)) => format!("`{operator}`"),
        }
    }

    pub(super) fn expect_op(&mut self, operator: &str) -> Result<(), SyntaxFault> {
        if self.skip_op(operator) {
            Ok(())
        } else {
            self.fail(format!("expected `{operator}`, got {}", self.here()))
        }
    }

    pub(super) fn expect_name(&mut self, name: &str) -> Result<(), SyntaxFault> {
        if self.skip_name(name) {
            Ok(())
        } else {
            self.fail(format!("expected `{name}`, got {}", self.here()))
        }
    }

    pub(super) fn identifier(&mut self) -> Result<Arc<str>, SyntaxFault> {
        match self.peek() {
            Some(Token::Name(name)) => {
                let name = name.clone();
                self.at += 1;
                Ok(name)
            }
            _ => self.fail(format!("expected a name, got {}", self.here())),
        }
    }

    pub(super) fn block_end(&mut self) -> Result<(), SyntaxFault> {
        match self.peek() {
            Some(Token::CloseBlock) => {
                self.at += 1;
                Ok(())
            }
            _ => self.fail(format!("expected the end of the tag, got {}", self.here())),
        }
    }

    pub(super) fn symbol(&mut self, name: &Arc<str>) -> Symbol {
        if let Some(symbol) = self.symbols.get(name) {
            return *symbol;
        }
        self.program.names.push(name.clone());
        self.symbols.insert(name.clone(), self.program.names.len() - 1);
        self.program.names.len() - 1
    }

    /// Returns the symbol of a name that is read.
    pub(super) fn read(&mut self, name: &Arc<str>) -> Symbol {
        let symbol = self.symbol(name);
        if let Some(index) = SPECIALS.iter().position(|special| **special == **name) {
            for special in &mut self.specials {
                special[index] = Some(symbol);
            }
        }
        symbol
    }

    /// Runs `parse` one level deeper.
    pub(super) fn nested<T>(
        &mut self,
        parse: impl FnOnce(&mut Self) -> Result<T, SyntaxFault>,
    ) -> Result<T, SyntaxFault> {
        if self.nesting >= MAX_NESTING {
            return self.fail(format!("an expression is nested deeper than {MAX_NESTING}"));
        }
        self.nesting += 1;
        let parsed = parse(self);
        self.nesting -= 1;
        parsed
    }
}
