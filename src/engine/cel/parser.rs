//! From tokens to a tree: recursive descent over CEL's grammar, with names resolved on the way.

use std::sync::Arc;

use super::{
    Scope, Variable,
    functions::{self, Style},
    lexer::{self, SyntaxError, Token},
    macros,
    tree::{Element, Entry, Kind, Node, Operator},
    value::Value,
};

/// How deep a tree may be. The longest selection in the samples is eight deep. Parsing, evaluating
/// and dropping take less than 2 KiB of stack per level each, so that 2 MiB (a thread's) are far.
pub(super) const MAX_DEPTH: usize = 96;

/// How many brackets may stand within each other, one for the expression itself: CEL's conformance
/// tests have 32.
const MAX_NESTING: usize = 40;

/// Words that CEL reserves for the languages that embed it.
const RESERVED: [&str; 18] = [
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "namespace",
    "package",
    "return",
    "var",
    "void",
    "while",
    "in",
];

type Parsed = Result<Node, SyntaxError>;

/// `locals` are the names that are on the stack already when the tree is evaluated.
pub(super) fn parse(text: &str, scope: Scope, locals: Vec<Arc<str>>) -> Parsed {
    let tokens = lexer::tokens(text)?;
    let mut parser = Parser {
        tokens,
        next: 0,
        nesting: 0,
        scope,
        locals,
    };
    let node = parser.expression()?;
    match parser.peek() {
        lexer::Kind::End => Ok(node),
        other => parser.error(format!("{} is not expected here", describe(other))),
    }
}

pub(super) struct Parser {
    tokens: Vec<Token>,
    next: usize,
    nesting: usize,
    scope: Scope,
    pub(super) locals: Vec<Arc<str>>,
}

fn describe(kind: &lexer::Kind) -> String {
    match kind {
        lexer::Kind::Ident(name) | lexer::Kind::Quoted(name) => format!("{name:?}"),
        lexer::Kind::Int { .. } | lexer::Kind::Uint(_) | lexer::Kind::Double(_) => {
            "a number".to_owned()
        }
        lexer::Kind::String(_) => "a text".to_owned(),
        lexer::Kind::Bytes(_) => "bytes".to_owned(),
        lexer::Kind::Mark(mark) => format!("{mark:?}"),
        lexer::Kind::End => "the end".to_owned(),
    }
}

// === tokens ===

impl Parser {
    pub(super) fn peek(&self) -> &lexer::Kind {
        self.look(0)
    }

    fn look(&self, ahead: usize) -> &lexer::Kind {
        self.tokens
            .get(self.next + ahead)
            .map_or(&lexer::Kind::End, |token| &token.kind)
    }

    pub(super) fn comma_follows(&self) -> bool {
        matches!(self.look(1), lexer::Kind::Mark(","))
    }

    pub(super) fn skip(&mut self, tokens: usize) {
        self.next += tokens;
    }

    fn at(&self) -> usize {
        let last = self.tokens.last();
        self.tokens
            .get(self.next)
            .or(last)
            .map_or(0, |token| token.at)
    }

    fn take(&mut self) -> lexer::Kind {
        let kind = self.peek().clone();
        self.next += 1;
        kind
    }

    pub(super) fn is(&self, mark: &str) -> bool {
        matches!(self.peek(), lexer::Kind::Mark(found) if *found == mark)
    }

    pub(super) fn eat(&mut self, mark: &str) -> bool {
        let found = self.is(mark);
        self.next += usize::from(found);
        found
    }

    pub(super) fn expect(&mut self, mark: &str) -> Result<(), SyntaxError> {
        if self.eat(mark) {
            return Ok(());
        }
        self.error(format!("{} instead of {mark:?}", describe(self.peek())))
    }

    pub(super) fn error<T>(&self, message: impl Into<String>) -> Result<T, SyntaxError> {
        self.error_at(self.at(), message)
    }

    #[expect(clippy::unused_self, reason = "reads like its sibling")]
    fn error_at<T>(&self, at: usize, message: impl Into<String>) -> Result<T, SyntaxError> {
        Err(SyntaxError {
            at,
            message: message.into(),
        })
    }

    /// A node over `children`, unless that makes the tree too deep.
    pub(super) fn node<'a>(
        &self,
        children: impl IntoIterator<Item = &'a Node>,
    ) -> Result<usize, SyntaxError> {
        let below = children.into_iter().map(|node| node.depth).max();
        let depth = below.unwrap_or(0) + 1;
        if depth > MAX_DEPTH {
            return self.error(format!(
                "too deep: more than {MAX_DEPTH} operations within each other"
            ));
        }
        Ok(depth)
    }
}

// === operators, loosest first ===

impl Parser {
    pub(super) fn expression(&mut self) -> Parsed {
        // Each level of brackets comes through here once, and costs a dozen frames of the grammar.
        self.nesting += 1;
        if self.nesting > MAX_NESTING {
            return self.error(format!(
                "too deep: more than {MAX_NESTING} brackets within each other"
            ));
        }
        let node = self.conditional();
        self.nesting -= 1;
        node
    }

    fn conditional(&mut self) -> Parsed {
        let condition = self.or()?;
        if !self.eat("?") {
            return Ok(condition);
        }
        let then = self.or()?;
        self.expect(":")?;
        let otherwise = self.expression()?;
        let parts = [condition, then, otherwise];
        Ok(Node {
            depth: self.node(&parts)?,
            kind: Kind::If(Box::new(parts)),
        })
    }

    fn or(&mut self) -> Parsed {
        self.chain("||", Self::and, Kind::Or)
    }

    fn and(&mut self) -> Parsed {
        self.chain("&&", Self::relation, Kind::And)
    }

    fn chain(
        &mut self,
        mark: &str,
        operand: fn(&mut Self) -> Parsed,
        kind: fn(Vec<Node>) -> Kind,
    ) -> Parsed {
        let first = operand(self)?;
        if !self.is(mark) {
            return Ok(first);
        }
        let mut terms = vec![first];
        while self.eat(mark) {
            terms.push(operand(self)?);
        }
        Ok(Node {
            depth: self.node(&terms)?,
            kind: kind(terms),
        })
    }

    fn relation(&mut self) -> Parsed {
        const RELATIONS: [(&str, Operator); 6] = [
            ("==", Operator::Equal),
            ("!=", Operator::NotEqual),
            ("<=", Operator::LessEqual),
            (">=", Operator::GreaterEqual),
            ("<", Operator::Less),
            (">", Operator::Greater),
        ];
        let mut left = self.sum()?;
        loop {
            let operator = match self.peek() {
                lexer::Kind::Ident(name) if name.as_ref() == "in" => Some(Operator::In),
                lexer::Kind::Mark(mark) => RELATIONS
                    .iter()
                    .find(|(symbol, _)| symbol == mark)
                    .map(|(_, operator)| *operator),
                _ => None,
            };
            let Some(operator) = operator else {
                return Ok(left);
            };
            self.next += 1;
            let right = self.sum()?;
            left = self.binary(operator, left, right)?;
        }
    }

    fn sum(&mut self) -> Parsed {
        let mut left = self.product()?;
        loop {
            let operator = if self.eat("+") {
                Operator::Add
            } else if self.eat("-") {
                Operator::Subtract
            } else {
                return Ok(left);
            };
            let right = self.product()?;
            left = self.binary(operator, left, right)?;
        }
    }

    fn product(&mut self) -> Parsed {
        let mut left = self.unary()?;
        loop {
            let operator = if self.eat("*") {
                Operator::Multiply
            } else if self.eat("/") {
                Operator::Divide
            } else if self.eat("%") {
                Operator::Modulo
            } else {
                return Ok(left);
            };
            let right = self.unary()?;
            left = self.binary(operator, left, right)?;
        }
    }

    fn binary(&self, operator: Operator, left: Node, right: Node) -> Parsed {
        let pair = [left, right];
        Ok(Node {
            depth: self.node(&pair)?,
            kind: Kind::Binary(operator, Box::new(pair)),
        })
    }

    fn unary(&mut self) -> Parsed {
        let mark = if self.is("!") { "!" } else { "-" };
        let mut times = 0_usize;
        while self.is(mark) {
            // The sign of a number belongs to it: −2^63 has no positive counterpart.
            if mark == "-"
                && matches!(
                    self.look(1),
                    lexer::Kind::Int { .. } | lexer::Kind::Double(_)
                )
            {
                break;
            }
            self.next += 1;
            times += 1;
        }
        let mut node = self.member()?;
        // Twice is not the same as not at all: the operand must have the right type.
        for _ in 0..(if times > 2 { 2 - times % 2 } else { times }) {
            let depth = self.node([&node])?;
            let of = Box::new(node);
            let kind = if mark == "!" {
                Kind::Not(of)
            } else {
                Kind::Negate(of)
            };
            node = Node { depth, kind };
        }
        Ok(node)
    }
}

// === members ===

impl Parser {
    fn member(&mut self) -> Parsed {
        let mut node = self.primary()?;
        loop {
            if self.eat(".") {
                node = self.behind_dot(node)?;
            } else if self.eat("[") {
                let optional = self.eat("?");
                let key = self.expression()?;
                self.expect("]")?;
                let pair = [node, key];
                let depth = self.node(&pair)?;
                let pair = Box::new(pair);
                let kind = if optional {
                    Kind::OptIndex(pair)
                } else {
                    Kind::Index(pair)
                };
                node = Node { depth, kind };
            } else {
                return Ok(node);
            }
        }
    }

    fn behind_dot(&mut self, of: Node) -> Parsed {
        let optional = self.eat("?");
        let at = self.at();
        let (field, callable) = match self.take() {
            lexer::Kind::Ident(name) if name.as_ref() != "in" => (name, !optional),
            lexer::Kind::Quoted(name) => (name, false),
            other => {
                return self.error_at(
                    at,
                    format!("{} instead of a field's name", describe(&other)),
                );
            }
        };
        if callable && self.eat("(") {
            return self.method(of, &field, at);
        }
        let depth = self.node([&of])?;
        let of = Box::new(of);
        let kind = if optional {
            Kind::OptSelect { of, field }
        } else {
            Kind::Select { of, field }
        };
        Ok(Node { depth, kind })
    }

    fn method(&mut self, of: Node, name: &Arc<str>, at: usize) -> Parsed {
        if let Some(found) = macros::named(name) {
            return self.macro_call(of, found, name);
        }
        let mut args = vec![of];
        self.arguments(")", &mut args)?;
        self.call(Style::Method, name, args, at)
    }

    /// Expressions with commas between them, up to the closing mark.
    fn arguments(&mut self, close: &str, args: &mut Vec<Node>) -> Result<(), SyntaxError> {
        if self.eat(close) {
            return Ok(());
        }
        loop {
            args.push(self.expression()?);
            if !self.eat(",") {
                return self.expect(close);
            }
        }
    }

    fn call(&self, style: Style, name: &str, args: Vec<Node>, at: usize) -> Parsed {
        let depth = self.node(&args)?;
        let kind =
            functions::resolve(style, name, args).map_err(|message| SyntaxError { at, message })?;
        Ok(Node { depth, kind })
    }
}

// === primaries ===

impl Parser {
    fn primary(&mut self) -> Parsed {
        let at = self.at();
        let constant = |value| Node {
            depth: 1,
            kind: Kind::Const(value),
        };
        match self.take() {
            lexer::Kind::Int { digits, radix } => Ok(constant(self.int("", &digits, radix, at)?)),
            lexer::Kind::Mark("-") => match self.take() {
                lexer::Kind::Int { digits, radix } => {
                    Ok(constant(self.int("-", &digits, radix, at)?))
                }
                lexer::Kind::Double(d) => Ok(constant(Value::Double(-d))),
                other => self.error_at(at, format!("{} behind a minus", describe(&other))),
            },
            lexer::Kind::Uint(u) => Ok(constant(Value::Uint(u))),
            lexer::Kind::Double(d) => Ok(constant(Value::Double(d))),
            lexer::Kind::String(text) => Ok(constant(Value::String(text))),
            lexer::Kind::Bytes(bytes) => Ok(constant(Value::Bytes(bytes))),
            lexer::Kind::Mark("(") => {
                let node = self.expression()?;
                self.expect(")")?;
                Ok(node)
            }
            lexer::Kind::Mark("[") => self.list(),
            lexer::Kind::Mark("{") => self.map(),
            // A leading dot names the outermost scope.
            lexer::Kind::Mark(".") => match self.take() {
                lexer::Kind::Ident(name) => self.name(&name, at, true),
                other => self.error_at(at, format!("{} instead of a name", describe(&other))),
            },
            lexer::Kind::Ident(name) => self.name(&name, at, false),
            other => self.error_at(at, format!("{} is not expected here", describe(&other))),
        }
    }

    fn int(&self, sign: &str, digits: &str, radix: u32, at: usize) -> Result<Value, SyntaxError> {
        i64::from_str_radix(&format!("{sign}{digits}"), radix)
            .map(Value::Int)
            .or_else(|_too_large| {
                self.error_at(at, format!("{sign}{digits} is more than 64 bits hold"))
            })
    }

    fn list(&mut self) -> Parsed {
        let mut elements = Vec::new();
        while !self.eat("]") {
            let optional = self.eat("?");
            let value = self.expression()?;
            elements.push(Element { optional, value });
            if !self.eat(",") {
                self.expect("]")?;
                break;
            }
        }
        Ok(Node {
            depth: self.node(elements.iter().map(|element| &element.value))?,
            kind: Kind::List(elements),
        })
    }

    fn map(&mut self) -> Parsed {
        let mut entries = Vec::new();
        while !self.eat("}") {
            let optional = self.eat("?");
            let key = self.expression()?;
            self.expect(":")?;
            let value = self.expression()?;
            entries.push(Entry {
                optional,
                key,
                value,
            });
            if !self.eat(",") {
                self.expect("}")?;
                break;
            }
        }
        let children = entries.iter().flat_map(|entry| [&entry.key, &entry.value]);
        Ok(Node {
            depth: self.node(children)?,
            kind: Kind::Map(entries),
        })
    }

    fn name(&mut self, name: &Arc<str>, at: usize, outermost: bool) -> Parsed {
        let constant = match name.as_ref() {
            "true" => Some(Value::Bool(true)),
            "false" => Some(Value::Bool(false)),
            "null" => Some(Value::Null),
            _ => None,
        };
        let leaf = |kind| Ok(Node { depth: 1, kind });
        if let Some(value) = constant {
            return leaf(Kind::Const(value));
        }
        if RESERVED.contains(&name.as_ref()) {
            return self.error_at(at, format!("{name:?} is a reserved word of CEL"));
        }
        if self.eat("(") {
            return self.global(name, at);
        }
        let local = self.locals.iter().rposition(|local| local == name);
        if let Some(slot) = local.filter(|_| !outermost) {
            let name = Arc::clone(name);
            return leaf(Kind::Local { slot, name });
        }
        if let Some(variable) = self.variable(name, at)? {
            return leaf(Kind::Root(variable));
        }
        if let Some(node) = self.namespaced(name, at)? {
            return Ok(node);
        }
        match functions::type_named(name) {
            Some(name) => leaf(Kind::Const(Value::Type(name))),
            None => self.error_at(at, self.scope.unknown(name, &self.locals)),
        }
    }

    fn variable(&self, name: &str, at: usize) -> Result<Option<Variable>, SyntaxError> {
        let Some(variable) = Variable::named(name) else {
            return Ok(None);
        };
        if self.scope.has(variable) {
            return Ok(Some(variable));
        }
        self.error_at(at, self.scope.absent(variable))
    }

    /// `namespace.function(…)` and `google.protobuf.Timestamp`.
    fn namespaced(&mut self, first: &str, at: usize) -> Result<Option<Node>, SyntaxError> {
        let mut name = first.to_owned();
        let mut ahead = 0;
        while let (lexer::Kind::Mark("."), lexer::Kind::Ident(part)) =
            (self.look(ahead), self.look(ahead + 1))
        {
            name = format!("{name}.{part}");
            ahead += 2;
            if functions::exists(Style::Global, &name)
                && matches!(self.look(ahead), lexer::Kind::Mark("("))
            {
                self.next += ahead + 1;
                let mut args = Vec::new();
                self.arguments(")", &mut args)?;
                return self.call(Style::Global, &name, args, at).map(Some);
            }
            if let Some(name) = functions::type_named(&name) {
                self.next += ahead;
                let kind = Kind::Const(Value::Type(name));
                return Ok(Some(Node { depth: 1, kind }));
            }
        }
        Ok(None)
    }

    fn global(&mut self, name: &str, at: usize) -> Parsed {
        let mut args = Vec::new();
        self.arguments(")", &mut args)?;
        if name == "has" {
            return self.has(args, at);
        }
        self.call(Style::Global, name, args, at)
    }

    fn has(&self, mut args: Vec<Node>, at: usize) -> Parsed {
        let argument = args.pop().filter(|_| args.is_empty());
        let Some(Node { depth, kind }) = argument else {
            return self.error_at(at, "has() takes one argument, such as has(body.name)");
        };
        let kind = match kind {
            Kind::Select { of, field } => Kind::Has { of, field },
            _ => {
                return self.error_at(at, "has() takes a field, such as has(body.name)");
            }
        };
        Ok(Node { depth, kind })
    }
}
