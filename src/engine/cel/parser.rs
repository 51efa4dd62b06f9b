//! From tokens to a tree: recursive descent over CEL's grammar, with names resolved on the way.

mod member;

use std::sync::Arc;

use super::{
    Scope,
    lexer::{self, SyntaxError, Token},
    tree::{Kind, Node, Operator},
};

/// How deep a tree may be. The longest selection in the samples is eight deep. Parsing, evaluating
/// and dropping take less than 2 KiB of stack per level each, so that 2 MiB (a thread's) are far.
pub(super) const MAX_DEPTH: usize = 96;

/// How many brackets may stand within each other, one for the expression itself: CEL's conformance
/// tests have 32.
const MAX_NESTING: usize = 40;

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
