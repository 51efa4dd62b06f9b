//! An expression, ready to be evaluated: names are resolved, constants are values, patterns are
//! compiled.

use std::{fmt, sync::Arc};

use super::{functions::Function, value::Value};

/// A part of an expression.
#[derive(Clone, Debug)]
pub(super) struct Node {
    /// How deep the tree below it is; itself counts.
    pub(super) depth: usize,
    pub(super) kind: Kind,
}

#[derive(Clone, Debug)]
pub(super) enum Kind {
    Const(Value),
    /// A declared variable, by its place in [`super::Variable::ALL`].
    Root(super::Variable),
    /// A macro's variable, by its place on the stack of these.
    Local {
        slot: usize,
        name: Arc<str>,
    },
    Select {
        of: Box<Node>,
        field: Arc<str>,
    },
    OptSelect {
        of: Box<Node>,
        field: Arc<str>,
    },
    Has {
        of: Box<Node>,
        field: Arc<str>,
    },
    Index(Box<[Node; 2]>),
    OptIndex(Box<[Node; 2]>),
    Not(Box<Node>),
    Negate(Box<Node>),
    And(Vec<Node>),
    Or(Vec<Node>),
    If(Box<[Node; 3]>),
    Binary(Operator, Box<[Node; 2]>),
    List(Vec<Element>),
    Map(Vec<Entry>),
    Fold(Box<Fold>),
    /// `optMap` and `optFlatMap`: the value, if there is one, is bound for the body.
    OptMap {
        of: Box<Node>,
        body: Box<Node>,
        flat: bool,
    },
    /// A receiver is the first argument.
    Call {
        function: Function,
        args: Vec<Node>,
    },
    Regex {
        operation: RegexOperation,
        args: Vec<Node>,
        pattern: Arc<super::pattern::Pattern>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulo,
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    In,
}

#[derive(Clone, Debug)]
pub(super) struct Element {
    pub(super) optional: bool,
    pub(super) value: Node,
}

#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) optional: bool,
    pub(super) key: Node,
    pub(super) value: Node,
}

/// A loop over a list or map.
#[derive(Clone, Debug)]
pub(super) struct Fold {
    pub(super) kind: FoldKind,
    pub(super) range: Node,
    /// Whether there are two variables: index and element, or key and value.
    pub(super) two: bool,
    pub(super) filter: Option<Node>,
    pub(super) body: Node,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FoldKind {
    All,
    Exists,
    ExistsOne,
    Map,
    Filter,
    TransformMap,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RegexOperation {
    Matches,
    Find,
    FindAll,
}

impl Operator {
    pub(super) const fn symbol(self) -> &'static str {
        match self {
            Self::Add => "+",
            Self::Subtract => "-",
            Self::Multiply => "*",
            Self::Divide => "/",
            Self::Modulo => "%",
            Self::Equal => "==",
            Self::NotEqual => "!=",
            Self::Less => "<",
            Self::LessEqual => "<=",
            Self::Greater => ">",
            Self::GreaterEqual => ">=",
            Self::In => "in",
        }
    }
}

/// The path of a selection as the user wrote it, for messages; other parts are `(…)`.
impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Root(variable) => f.write_str(variable.name()),
            Kind::Local { name, .. } => f.write_str(name),
            Kind::Select { of, field } => write!(f, "{of}.{field}"),
            Kind::OptSelect { of, field } => write!(f, "{of}.?{field}"),
            Kind::Index(pair) => {
                let [of, index] = &**pair;
                write!(f, "{of}[{index}]")
            }
            Kind::Const(Value::String(text)) if text.len() <= 64 => write!(f, "'{text}'"),
            Kind::Const(Value::Int(int)) => int.fmt(f),
            _ => f.write_str("(…)"),
        }
    }
}

impl Node {
    /// Tells `found` every declared variable that is named in the tree.
    pub(super) fn roots(&self, found: &mut impl FnMut(super::Variable)) {
        if let Kind::Root(variable) = &self.kind {
            found(*variable);
        }
        self.children(&mut |child| child.roots(found));
    }

    fn children(&self, visit: &mut dyn FnMut(&Self)) {
        match &self.kind {
            Kind::Const(_) | Kind::Root(_) | Kind::Local { .. } => {}
            Kind::Select { of, .. }
            | Kind::OptSelect { of, .. }
            | Kind::Has { of, .. }
            | Kind::Not(of)
            | Kind::Negate(of) => visit(of),
            Kind::Index(pair) | Kind::OptIndex(pair) | Kind::Binary(_, pair) => {
                pair.iter().for_each(visit);
            }
            Kind::If(parts) => parts.iter().for_each(visit),
            Kind::And(nodes) | Kind::Or(nodes) => nodes.iter().for_each(visit),
            Kind::Call { args, .. } | Kind::Regex { args, .. } => args.iter().for_each(visit),
            Kind::List(elements) => elements.iter().for_each(|element| visit(&element.value)),
            Kind::Map(entries) => {
                for entry in entries {
                    visit(&entry.key);
                    visit(&entry.value);
                }
            }
            Kind::Fold(fold) => {
                visit(&fold.range);
                fold.filter.iter().for_each(&mut *visit);
                visit(&fold.body);
            }
            Kind::OptMap { of, body, .. } => {
                visit(of);
                visit(body);
            }
        }
    }
}
