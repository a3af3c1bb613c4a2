//! The syntax tree of a template: statements and expressions.
//!
//! Chains (operators of one precedence, attributes, filters, `elif`) are lists rather than nested boxes, so a long
//! chain needs no recursion. The parser bounds the depth of everything that nests.

use std::sync::Arc;

/// A name, as an index into [`Program::names`].
pub(super) type Symbol = usize;
/// A filter, as an index into the environment's filters.
pub(super) type FilterId = usize;
/// A test, as an index into the environment's tests.
pub(super) type CheckId = usize;

/// A parsed template.
#[derive(Debug, Default)]
pub(super) struct Program {
    /// Every name that the template reads or sets.
    pub(super) names: Vec<Arc<str>>,
    /// The statements to render.
    pub(super) body: Vec<Statement>,
    /// All macros and all bodies of `call` blocks, at any depth.
    pub(super) macros: Vec<Macro>,
    /// All loops, at any depth.
    pub(super) loops: Vec<For>,
}

/// A statement and its line.
#[derive(Debug)]
pub(super) struct Statement {
    pub(super) line: u32,
    pub(super) kind: StatementKind,
}

#[derive(Debug)]
pub(super) enum StatementKind {
    /// Text.
    Data(Arc<str>),
    /// `{{ … }}`.
    Print(Expr),
    /// `{% set target = value %}`.
    Set(Target, Expr),
    /// `{% set target | filters %}…{% endset %}`.
    SetBlock(Target, Vec<Link>, Vec<Statement>),
    /// Conditions with their bodies, and the body of `else`.
    If(Vec<(Expr, Vec<Statement>)>, Vec<Statement>),
    /// An index into [`Program::loops`].
    For(usize),
    /// An index into [`Program::macros`], and the name that the macro is assigned to.
    Macro(usize, Symbol),
    /// The body, as an index into [`Program::macros`], and the call.
    Call(usize, Expr),
    /// `{% filter … %}…{% endfilter %}`.
    Filter(Vec<Link>, Vec<Statement>),
    /// `{% with a = 1 %}…{% endwith %}`.
    With(Vec<(Target, Expr)>, Vec<Statement>),
    /// Statements with a scope of their own: `generation`, `block`, `autoescape`.
    Scope(Vec<Statement>),
    Break,
    Continue,
    /// A tag that loads another template. A chat template has no others.
    Unsupported(&'static str),
}

#[derive(Debug)]
pub(super) struct Macro {
    pub(super) name: Arc<str>,
    pub(super) parameters: Vec<Symbol>,
    /// Defaults of the last parameters.
    pub(super) defaults: Vec<Expr>,
    pub(super) body: Vec<Statement>,
    /// The symbols of `caller`, `kwargs` and `varargs`, each set if the body reads it. They take the arguments that
    /// have no parameter.
    pub(super) caller: Option<Symbol>,
    pub(super) kwargs: Option<Symbol>,
    pub(super) varargs: Option<Symbol>,
}

#[derive(Debug)]
pub(super) struct For {
    pub(super) target: Target,
    pub(super) items: Expr,
    pub(super) test: Option<Expr>,
    pub(super) recursive: bool,
    pub(super) body: Vec<Statement>,
    pub(super) otherwise: Vec<Statement>,
}

/// The target of an assignment.
#[derive(Debug)]
pub(super) enum Target {
    Name(Symbol),
    /// An attribute of a namespace.
    Attribute(Symbol, Arc<str>),
    Tuple(Vec<Target>),
}

#[derive(Debug)]
pub(super) enum Expr {
    Const(Literal),
    Name(Symbol),
    Tuple(Vec<Expr>),
    List(Vec<Expr>),
    Dict(Vec<(Expr, Expr)>),
    /// A value and the operations applied to it in order.
    Chain(Box<Expr>, Vec<Link>),
    Negative(Box<Expr>),
    Positive(Box<Expr>),
    Not(Box<Expr>),
    /// Operators of one precedence, from left to right.
    Arithmetic(Box<Expr>, Vec<(Operator, Expr)>),
    /// `a ~ b ~ c`.
    Concat(Vec<Expr>),
    And(Vec<Expr>),
    Or(Vec<Expr>),
    /// `a < b <= c`: each pair has to hold.
    Compare(Box<Expr>, Vec<(Comparison, Expr)>),
    /// Value, condition, and the value of `else`.
    Conditional(Box<(Expr, Expr, Option<Expr>)>),
}

#[derive(Debug, Clone)]
pub(super) enum Literal {
    None,
    Bool(bool),
    Int(i128),
    Float(f64),
    Str(Arc<str>),
}

#[derive(Debug)]
pub(super) enum Link {
    Attribute(Arc<str>),
    Item(Expr),
    Slice(Box<[Option<Expr>; 3]>),
    Call(Arguments),
    Filter(Arc<str>, Option<FilterId>, Arguments),
    Test { name: Arc<str>, check: Option<CheckId>, arguments: Arguments, negated: bool },
}

/// The argument expressions of a call.
#[derive(Debug, Default)]
pub(super) struct Arguments {
    pub(super) positional: Vec<Expr>,
    pub(super) named: Vec<(Arc<str>, Expr)>,
    /// `*list`.
    pub(super) rest: Option<Box<Expr>>,
    /// `**dict`.
    pub(super) named_rest: Option<Box<Expr>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operator {
    Add,
    Subtract,
    Multiply,
    Divide,
    FloorDivide,
    Modulo,
    Power,
}

impl Operator {
    pub(super) fn symbol(self) -> &'static str {
        match self {
            Self::Add => "+",
            Self::Subtract => "-",
            Self::Multiply => "*",
            Self::Divide => "/",
            Self::FloorDivide => "//",
            Self::Modulo => "%",
            Self::Power => "**",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    In,
    NotIn,
}

impl Comparison {
    pub(super) fn symbol(self) -> &'static str {
        match self {
            Self::Equal => "==",
            Self::NotEqual => "!=",
            Self::Less => "<",
            Self::LessEqual => "<=",
            Self::Greater => ">",
            Self::GreaterEqual => ">=",
            Self::In => "in",
            Self::NotIn => "not in",
        }
    }
}
