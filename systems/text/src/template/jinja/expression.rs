//! Parses expressions, with the precedence of `jinja2/parser.py` 3.1.

use super::ast::{Arguments, Comparison, Expr, Link, Literal, Operator};
use super::environment::ENVIRONMENT;
use super::fault::SyntaxFault;
use super::lexer::Token;
use super::parser::Parser;
use std::sync::Arc;

impl Parser {
    /// Parses one expression, or several separated by commas, which form a tuple.
    pub(super) fn tuple(&mut self, conditional: bool, ends: &[&str]) -> Result<Expr, SyntaxFault> {
        let mut items = Vec::new();
        let mut tuple = false;
        loop {
            if !items.is_empty() && !self.skip_op(",") {
                break;
            }
            tuple |= !items.is_empty();
            let ended = matches!(self.peek(), None | Some(Token::CloseBlock | Token::CloseVariable))
                || self.is_op(")")
                || ends.iter().any(|end| self.is_name(end));
            if ended {
                break;
            }
            items.push(self.expression(conditional)?);
        }
        if tuple {
            return Ok(Expr::Tuple(items));
        }
        match items.pop() {
            Some(item) => Ok(item),
            None => self.fail(format!("expected an expression, got {}", self.here())),
        }
    }

    /// Parses one expression. Without `conditional`, `if` ends it.
    pub(super) fn expression(&mut self, conditional: bool) -> Result<Expr, SyntaxFault> {
        self.nested(|parser| {
            if !conditional {
                return parser.or();
            }
            let mut value = parser.or()?;
            let depth = parser.nesting;
            while parser.skip_name("if") {
                // Each `if` without an `else` takes the expression before it as its value.
                parser.nesting += 1;
                parser.conditional += 1;
                let test = parser.or()?;
                let other = if parser.skip_name("else") { Some(parser.expression(true)?) } else { None };
                parser.conditional -= 1;
                value = Expr::Conditional(Box::new((value, test, other)));
                if parser.nesting > depth + 20 {
                    return parser.fail("too many conditions follow each other");
                }
            }
            parser.nesting = depth;
            Ok(value)
        })
    }

    fn or(&mut self) -> Result<Expr, SyntaxFault> {
        let first = self.and()?;
        if !self.is_name("or") {
            return Ok(first);
        }
        let mut items = vec![first];
        while self.skip_name("or") {
            items.push(self.and()?);
        }
        Ok(Expr::Or(items))
    }

    fn and(&mut self) -> Result<Expr, SyntaxFault> {
        let first = self.not()?;
        if !self.is_name("and") {
            return Ok(first);
        }
        let mut items = vec![first];
        while self.skip_name("and") {
            items.push(self.not()?);
        }
        Ok(Expr::And(items))
    }

    fn not(&mut self) -> Result<Expr, SyntaxFault> {
        if self.skip_name("not") {
            return Ok(Expr::Not(Box::new(self.nested(Self::not)?)));
        }
        let first = self.sum()?;
        let mut rest = Vec::new();
        loop {
            let comparison = match self.peek() {
                Some(Token::Op("==")) => Comparison::Equal,
                Some(Token::Op("!=")) => Comparison::NotEqual,
                Some(Token::Op("<")) => Comparison::Less,
                Some(Token::Op("<=")) => Comparison::LessEqual,
                Some(Token::Op(">")) => Comparison::Greater,
                Some(Token::Op(">=")) => Comparison::GreaterEqual,
                Some(Token::Name(name)) if &**name == "in" => Comparison::In,
                Some(Token::Name(name))
                    if &**name == "not"
                        && matches!(self.peek_second(), Some(Token::Name(name)) if &**name == "in") =>
                {
                    self.next();
                    Comparison::NotIn
                }
                _ => break,
            };
            self.next();
            rest.push((comparison, self.sum()?));
        }
        Ok(if rest.is_empty() { first } else { Expr::Compare(Box::new(first), rest) })
    }

    fn arithmetic(
        &mut self,
        operators: &[Operator],
        operand: fn(&mut Self) -> Result<Expr, SyntaxFault>,
    ) -> Result<Expr, SyntaxFault> {
        let first = operand(self)?;
        let mut rest = Vec::new();
        while let Some(operator) = operators.iter().copied().find(|operator| self.is_op(operator.symbol())) {
            self.next();
            rest.push((operator, operand(self)?));
        }
        Ok(if rest.is_empty() { first } else { Expr::Arithmetic(Box::new(first), rest) })
    }

    fn sum(&mut self) -> Result<Expr, SyntaxFault> {
        self.arithmetic(&[Operator::Add, Operator::Subtract], Self::concat)
    }

    fn concat(&mut self) -> Result<Expr, SyntaxFault> {
        let first = self.product()?;
        if !self.is_op("~") {
            return Ok(first);
        }
        let mut items = vec![first];
        while self.skip_op("~") {
            items.push(self.product()?);
        }
        Ok(Expr::Concat(items))
    }

    fn product(&mut self) -> Result<Expr, SyntaxFault> {
        let operators = [Operator::Multiply, Operator::Divide, Operator::FloorDivide, Operator::Modulo];
        self.arithmetic(&operators, Self::power)
    }

    fn power(&mut self) -> Result<Expr, SyntaxFault> {
        self.arithmetic(&[Operator::Power], |parser| parser.unary(true))
    }

    fn unary(&mut self, filters: bool) -> Result<Expr, SyntaxFault> {
        let base = if self.skip_op("-") {
            Expr::Negative(Box::new(self.nested(|parser| parser.unary(false))?))
        } else if self.skip_op("+") {
            Expr::Positive(Box::new(self.nested(|parser| parser.unary(false))?))
        } else {
            self.primary()?
        };
        let mut links = Vec::new();
        self.postfix(&mut links)?;
        loop {
            match self.peek() {
                _ if !filters => break,
                Some(Token::Op("|")) => links.extend(self.filters(false)?),
                Some(Token::Name(name)) if &**name == "is" => {
                    let link = self.test()?;
                    links.push(link);
                }
                Some(Token::Op("(")) => {
                    let arguments = self.arguments()?;
                    links.push(Link::Call(arguments));
                }
                _ => break,
            }
        }
        Ok(if links.is_empty() { base } else { Expr::Chain(Box::new(base), links) })
    }

    fn primary(&mut self) -> Result<Expr, SyntaxFault> {
        match self.peek().cloned() {
            Some(Token::Name(name)) => {
                self.next();
                Ok(match &*name {
                    "true" | "True" => Expr::Const(Literal::Bool(true)),
                    "false" | "False" => Expr::Const(Literal::Bool(false)),
                    "none" | "None" => Expr::Const(Literal::None),
                    _ => Expr::Name(self.read(&name)),
                })
            }
            Some(Token::Str(text)) => {
                self.next();
                let Some(Token::Str(_)) = self.peek() else { return Ok(Expr::Const(Literal::Str(text))) };
                let mut whole = text.to_string();
                while let Some(Token::Str(more)) = self.peek() {
                    whole.push_str(more);
                    self.next();
                }
                Ok(Expr::Const(Literal::Str(whole.into())))
            }
            Some(Token::Int(number)) => {
                self.next();
                Ok(Expr::Const(Literal::Int(number)))
            }
            Some(Token::Float(number)) => {
                self.next();
                Ok(Expr::Const(Literal::Float(number)))
            }
            Some(Token::Op("(")) => {
                self.next();
                if self.skip_op(")") {
                    return Ok(Expr::Tuple(Vec::new()));
                }
                let inner = self.nested(|parser| parser.tuple(true, &[]))?;
                self.expect_op(")")?;
                Ok(inner)
            }
            Some(Token::Op("[")) => {
                self.next();
                let mut items = Vec::new();
                while !self.is_op("]") {
                    items.push(self.expression(true)?);
                    if !self.skip_op(",") {
                        break;
                    }
                }
                self.expect_op("]")?;
                Ok(Expr::List(items))
            }
            Some(Token::Op("{")) => {
                self.next();
                let mut entries = Vec::new();
                while !self.is_op("}") {
                    let key = self.expression(true)?;
                    self.expect_op(":")?;
                    entries.push((key, self.expression(true)?));
                    if !self.skip_op(",") {
                        break;
                    }
                }
                self.expect_op("}")?;
                Ok(Expr::Dict(entries))
            }
            _ => self.fail(format!("unexpected {}", self.here())),
        }
    }

    /// Parses attributes, items and calls after a value.
    fn postfix(&mut self, links: &mut Vec<Link>) -> Result<(), SyntaxFault> {
        loop {
            if self.skip_op(".") {
                match self.next() {
                    Some(Token::Name(name)) => links.push(Link::Attribute(name)),
                    Some(Token::Int(number)) => links.push(Link::Item(Expr::Const(Literal::Int(number)))),
                    _ => {
                        return self.fail("expected a name or a number after `.`");
                    }
                }
            } else if self.skip_op("[") {
                let mut items = Vec::new();
                while !self.is_op("]") {
                    if !items.is_empty() {
                        self.expect_op(",")?;
                    }
                    items.push(self.subscript()?);
                }
                self.expect_op("]")?;
                if items.len() == 1 {
                    links.extend(items.pop());
                    continue;
                }
                let mut values = Vec::new();
                for item in items {
                    let Link::Item(value) = item else { return self.fail("several slices in one subscript") };
                    values.push(value);
                }
                links.push(Link::Item(Expr::Tuple(values)));
            } else if self.is_op("(") {
                let arguments = self.arguments()?;
                links.push(Link::Call(arguments));
            } else {
                return Ok(());
            }
        }
    }

    /// Parses the inside of square brackets: an index or a slice.
    fn subscript(&mut self) -> Result<Link, SyntaxFault> {
        let mut parts = [None, None, None];
        if !self.is_op(":") {
            let first = self.expression(true)?;
            if !self.is_op(":") {
                return Ok(Link::Item(first));
            }
            parts[0] = Some(first);
        }
        for part in &mut parts[1..] {
            if !self.skip_op(":") {
                break;
            }
            if !(self.is_op(":") || self.is_op("]") || self.is_op(",")) {
                *part = Some(self.expression(true)?);
            }
        }
        Ok(Link::Slice(Box::new(parts)))
    }

    pub(super) fn arguments(&mut self) -> Result<Arguments, SyntaxFault> {
        let mut arguments = Arguments::default();
        self.expect_op("(")?;
        while !self.is_op(")") {
            let plain = arguments.rest.is_none() && arguments.named_rest.is_none();
            if self.skip_op("*") {
                if !plain {
                    return self.fail("an argument is out of order");
                }
                arguments.rest = Some(Box::new(self.expression(true)?));
            } else if self.skip_op("**") {
                if arguments.named_rest.is_some() {
                    return self.fail("an argument is out of order");
                }
                arguments.named_rest = Some(Box::new(self.expression(true)?));
            } else if let (Some(Token::Name(name)), Some(Token::Op("="))) = (self.peek(), self.peek_second())
            {
                let name = name.clone();
                if arguments.named_rest.is_some() {
                    return self.fail("an argument is out of order");
                }
                self.next();
                self.next();
                arguments.named.push((name, self.expression(true)?));
            } else {
                if !plain || !arguments.named.is_empty() {
                    return self.fail("an argument by position follows one by name");
                }
                arguments.positional.push(self.expression(true)?);
            }
            if !self.skip_op(",") {
                break;
            }
        }
        self.expect_op(")")?;
        Ok(arguments)
    }

    /// Parses a name with dots.
    fn dotted(&mut self) -> Result<Arc<str>, SyntaxFault> {
        let mut name = self.identifier()?.to_string();
        while self.skip_op(".") {
            name.push('.');
            name.push_str(&self.identifier()?);
        }
        Ok(name.into())
    }

    /// Parses `| a | b(…)`. If `begun`, the first bar has been consumed.
    pub(super) fn filters(&mut self, begun: bool) -> Result<Vec<Link>, SyntaxFault> {
        let mut links = Vec::new();
        let mut begun = begun;
        while std::mem::take(&mut begun) || self.skip_op("|") {
            let name = self.dotted()?;
            let filter = ENVIRONMENT.filter_id(&name);
            if filter.is_none() && self.conditional == 0 {
                return self.fail(format!("no filter named `{name}`"));
            }
            let arguments = if self.is_op("(") { self.arguments()? } else { Arguments::default() };
            links.push(Link::Filter(name, filter, arguments));
        }
        Ok(links)
    }

    fn test(&mut self) -> Result<Link, SyntaxFault> {
        self.next();
        let negated = self.skip_name("not");
        let name = self.dotted()?;
        let check = ENVIRONMENT.check_id(&name);
        if check.is_none() && self.conditional == 0 {
            return self.fail(format!("no test named `{name}`"));
        }
        let arguments = match self.peek() {
            Some(Token::Op("(")) => self.arguments()?,
            Some(Token::Name(name)) if matches!(&**name, "else" | "or" | "and") => Arguments::default(),
            Some(Token::Name(name)) if &**name == "is" => {
                return self.fail("tests cannot be chained with `is`");
            }
            Some(Token::Name(_) | Token::Str(_) | Token::Int(_) | Token::Float(_) | Token::Op("[" | "{")) => {
                let base = self.nested(Self::primary)?;
                let mut links = Vec::new();
                self.postfix(&mut links)?;
                let value = if links.is_empty() { base } else { Expr::Chain(Box::new(base), links) };
                Arguments { positional: vec![value], ..Arguments::default() }
            }
            _ => Arguments::default(),
        };
        Ok(Link::Test { name, check, arguments, negated })
    }
}
