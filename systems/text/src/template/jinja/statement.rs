//! Parses statements as `jinja2/parser.py` 3.1 does, with the extensions of Hugging Face's environment: `break`,
//! `continue` and `generation`.

use super::ast::{Expr, For, Link, Macro, Program, Statement, StatementKind, Symbol, Target};
use super::fault::SyntaxFault;
use super::lexer::{Token, tokenize};
use super::parser::{MAX_NESTING, Parser};
use std::sync::Arc;

/// Parses a template.
///
/// # Errors
/// A syntax error, with its line.
pub(super) fn parse(source: &str) -> Result<Program, SyntaxFault> {
    let mut parser = Parser::new(tokenize(source)?);
    let body = parser.statements(&[])?;
    parser.program.body = body;
    Ok(parser.program)
}

impl Parser {
    /// Parses statements up to a tag with one of these names. The name is then the next token.
    fn statements(&mut self, ends: &[&str]) -> Result<Vec<Statement>, SyntaxFault> {
        if self.blocks >= MAX_NESTING {
            return self.fail(format!("blocks are nested deeper than {MAX_NESTING}"));
        }
        self.blocks += 1;
        let mut body = Vec::new();
        loop {
            let line = self.line();
            let kind = match self.peek() {
                None if ends.is_empty() => break,
                None => {
                    return self
                        .fail(format!("the template ends where `{}` is expected", ends.join("` or `")));
                }
                Some(Token::Data(text)) => {
                    let text = text.clone();
                    self.at += 1;
                    StatementKind::Data(text)
                }
                Some(Token::OpenVariable) => {
                    self.at += 1;
                    let value = self.tuple(true, &[])?;
                    if self.peek() != Some(&Token::CloseVariable) {
                        return self.fail(format!("expected the end of the expression, got {}", self.here()));
                    }
                    self.at += 1;
                    StatementKind::Print(value)
                }
                Some(_) => {
                    self.at += 1;
                    if ends.iter().any(|end| self.is_name(end)) {
                        break;
                    }
                    let kind = self.statement(&mut body)?;
                    self.block_end()?;
                    kind
                }
            };
            body.push(Statement { line, kind });
        }
        self.blocks -= 1;
        Ok(body)
    }

    /// Parses the rest of an opening tag and the statements after it.
    fn body(&mut self, ends: &[&str]) -> Result<Vec<Statement>, SyntaxFault> {
        self.skip_op(":");
        self.block_end()?;
        self.statements(ends)
    }

    /// Parses the rest of an opening tag, the statements after it, and the name of the closing tag.
    fn whole_body(&mut self, end: &str) -> Result<Vec<Statement>, SyntaxFault> {
        let body = self.body(&[end])?;
        self.at += 1;
        Ok(body)
    }

    /// Parses a statement without the end of its tag. If the tag stands for several statements, all but the last go
    /// into `before`.
    fn statement(&mut self, before: &mut Vec<Statement>) -> Result<StatementKind, SyntaxFault> {
        let line = self.line();
        let name = self.identifier()?;
        Ok(match &*name {
            "set" => self.set()?,
            "for" => self.for_loop()?,
            "if" => self.condition()?,
            "macro" => {
                let name = self.identifier()?;
                let symbol = self.symbol(&name);
                let (parameters, defaults) = self.signature()?;
                StatementKind::Macro(self.macro_body(name, parameters, defaults, "endmacro")?, symbol)
            }
            "call" => self.call_block()?,
            "filter" => {
                let filters = self.filters(true)?;
                StatementKind::Filter(filters, self.whole_body("endfilter")?)
            }
            "with" => {
                let mut values = Vec::new();
                while self.peek() != Some(&Token::CloseBlock) && !self.is_op(":") {
                    if !values.is_empty() {
                        self.expect_op(",")?;
                    }
                    let target = self.target(&[])?;
                    self.expect_op("=")?;
                    values.push((target, self.expression(true)?));
                }
                StatementKind::With(values, self.whole_body("endwith")?)
            }
            "generation" => StatementKind::Scope(self.scoped("endgeneration")?),
            "autoescape" => {
                if self.is_name("true") || self.is_name("True") {
                    return self.fail("`autoescape true` is not supported: chat templates write plain text");
                }
                self.expression(true)?;
                StatementKind::Scope(self.whole_body("endautoescape")?)
            }
            "block" => {
                let name = self.identifier()?;
                self.skip_name("scoped");
                self.skip_name("required");
                let body = self.whole_body("endblock")?;
                self.skip_name(&name);
                StatementKind::Scope(body)
            }
            "print" => {
                let mut value = None;
                loop {
                    if let Some(value) = value.replace(self.expression(true)?) {
                        before.push(Statement { line, kind: StatementKind::Print(value) });
                    }
                    if !self.skip_op(",") {
                        break;
                    }
                }
                match value {
                    Some(value) => StatementKind::Print(value),
                    None => return self.fail("`print` needs a value"),
                }
            }
            "break" | "continue" if self.loops == 0 => {
                return self.fail(format!("`{name}` outside of a loop"));
            }
            "break" => StatementKind::Break,
            "continue" => StatementKind::Continue,
            "include" | "import" | "from" | "extends" => {
                while !matches!(self.peek(), None | Some(Token::CloseBlock)) {
                    self.at += 1;
                }
                StatementKind::Unsupported(match &*name {
                    "include" => "include",
                    "import" => "import",
                    "from" => "from",
                    _ => "extends",
                })
            }
            _ => return self.fail(format!("unknown tag `{name}`")),
        })
    }

    /// Parses a body that runs like a macro: `break` and `continue` in it cannot refer to the loops around it.
    fn scoped(&mut self, end: &str) -> Result<Vec<Statement>, SyntaxFault> {
        let loops = std::mem::take(&mut self.loops);
        let body = self.whole_body(end);
        self.loops = loops;
        body
    }

    fn set(&mut self) -> Result<StatementKind, SyntaxFault> {
        let target = self.target(&[])?;
        if self.skip_op("=") {
            return Ok(StatementKind::Set(target, self.tuple(true, &[])?));
        }
        let filters = self.filters(false)?;
        Ok(StatementKind::SetBlock(target, filters, self.whole_body("endset")?))
    }

    fn for_loop(&mut self) -> Result<StatementKind, SyntaxFault> {
        let target = self.target(&["in"])?;
        self.expect_name("in")?;
        let items = self.tuple(false, &["recursive"])?;
        let test = if self.skip_name("if") { Some(self.expression(true)?) } else { None };
        let recursive = self.skip_name("recursive");
        self.loops += 1;
        let body = self.body(&["endfor", "else"])?;
        self.loops -= 1;
        let otherwise = if self.skip_name("else") {
            self.whole_body("endfor")?
        } else {
            self.at += 1;
            Vec::new()
        };
        self.program.loops.push(For { target, items, test, recursive, body, otherwise });
        Ok(StatementKind::For(self.program.loops.len() - 1))
    }

    fn condition(&mut self) -> Result<StatementKind, SyntaxFault> {
        self.conditional += 1;
        let mut branches = Vec::new();
        let mut otherwise = Vec::new();
        loop {
            let test = self.tuple(false, &[])?;
            branches.push((test, self.body(&["elif", "else", "endif"])?));
            if self.skip_name("elif") {
                continue;
            }
            if self.skip_name("else") {
                otherwise = self.whole_body("endif")?;
            } else {
                self.at += 1;
            }
            break;
        }
        self.conditional -= 1;
        Ok(StatementKind::If(branches, otherwise))
    }

    fn call_block(&mut self) -> Result<StatementKind, SyntaxFault> {
        let signature = self.is_op("(");
        // The signature comes before the call, and the body after it.
        let (parameters, defaults) = if signature { self.signature()? } else { (Vec::new(), Vec::new()) };
        let call = self.expression(true)?;
        if !matches!(&call, Expr::Chain(_, links) if matches!(links.last(), Some(Link::Call(_)))) {
            return self.fail("`call` needs a call");
        }
        let index = self.macro_body("caller".into(), parameters, defaults, "endcall")?;
        Ok(StatementKind::Call(index, call))
    }

    fn macro_body(
        &mut self,
        name: Arc<str>,
        parameters: Vec<Symbol>,
        defaults: Vec<Expr>,
        end: &str,
    ) -> Result<usize, SyntaxFault> {
        self.specials.push([None; 3]);
        let body = self.scoped(end)?;
        let special = self.specials.pop().unwrap_or_default();
        let [caller, kwargs, varargs] =
            special.map(|symbol| symbol.filter(|symbol| !parameters.contains(symbol)));
        self.program.macros.push(Macro { name, parameters, defaults, body, caller, kwargs, varargs });
        Ok(self.program.macros.len() - 1)
    }

    fn signature(&mut self) -> Result<(Vec<Symbol>, Vec<Expr>), SyntaxFault> {
        let (mut parameters, mut defaults) = (Vec::new(), Vec::new());
        self.expect_op("(")?;
        while !self.is_op(")") {
            if !parameters.is_empty() {
                self.expect_op(",")?;
            }
            let name = self.identifier()?;
            parameters.push(self.symbol(&name));
            if self.skip_op("=") {
                defaults.push(self.expression(true)?);
            } else if !defaults.is_empty() {
                return self.fail("a parameter without a default follows one with a default");
            }
        }
        self.expect_op(")")?;
        Ok((parameters, defaults))
    }

    /// Parses the target of an assignment: a name, an attribute of a namespace, or several of them.
    fn target(&mut self, ends: &[&str]) -> Result<Target, SyntaxFault> {
        let mut targets = Vec::new();
        let mut tuple = false;
        loop {
            if !targets.is_empty() && !self.skip_op(",") {
                break;
            }
            tuple |= !targets.is_empty();
            if ends.iter().any(|end| self.is_name(end)) || self.is_op("=") || self.is_op(")") {
                break;
            }
            if self.skip_op("(") {
                let inner = self.nested(|parser| parser.target(&[]))?;
                self.expect_op(")")?;
                targets.push(inner);
                continue;
            }
            let name = self.identifier()?;
            if matches!(&*name, "true" | "false" | "True" | "False" | "none" | "None") {
                return self.fail(format!("`{name}` cannot be assigned to"));
            }
            if self.skip_op(".") {
                let attribute = self.identifier()?;
                let symbol = self.read(&name);
                targets.push(Target::Attribute(symbol, attribute));
            } else {
                targets.push(Target::Name(self.symbol(&name)));
            }
        }
        match targets.len() {
            0 => self.fail(format!("expected a name to assign to, got {}", self.here())),
            1 if !tuple => targets.pop().map_or_else(|| self.fail("no target"), Ok),
            _ => Ok(Target::Tuple(targets)),
        }
    }
}
