//! Members and primaries: names, calls, literals, and what stands behind a dot or in brackets.

use std::sync::Arc;

use super::{Parsed, Parser, describe};
use crate::engine::cel::{
    Variable,
    functions::{self, Style},
    lexer::{self, SyntaxError},
    macros,
    tree::{Element, Entry, Kind, Node},
    value::Value,
};

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

// === members ===

impl Parser {
    pub(super) fn member(&mut self) -> Parsed {
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
