//! Loops: `all`, `exists`, `existsOne`, `map`, `filter`, `transformList`, `transformMap`, and
//! `optMap`, `optFlatMap`. They are the only ones, and each runs over a value that is there already:
//! an expression always ends.

use std::sync::Arc;

use super::{
    lexer::{self, SyntaxError},
    parser::Parser,
    tree::{Fold, FoldKind, Kind, Node},
};

/// A method that is a macro.
#[derive(Clone, Copy, Debug)]
pub(super) enum Macro {
    Fold(FoldKind),
    OptMap { flat: bool },
}

/// The macro of this name.
pub(super) fn named(name: &str) -> Option<Macro> {
    Some(match name {
        "all" => Macro::Fold(FoldKind::All),
        "exists" => Macro::Fold(FoldKind::Exists),
        "exists_one" | "existsOne" => Macro::Fold(FoldKind::ExistsOne),
        "map" | "transformList" => Macro::Fold(FoldKind::Map),
        "filter" => Macro::Fold(FoldKind::Filter),
        "transformMap" => Macro::Fold(FoldKind::TransformMap),
        "optMap" => Macro::OptMap { flat: false },
        "optFlatMap" => Macro::OptMap { flat: true },
        _ => return None,
    })
}

impl Parser {
    /// A macro behind its opening bracket.
    pub(super) fn macro_call(
        &mut self,
        of: Node,
        found: Macro,
        name: &str,
    ) -> Result<Node, SyntaxError> {
        match found {
            Macro::OptMap { flat } => self.opt_map(of, flat),
            Macro::Fold(kind) => self.fold(of, kind, name),
        }
    }

    fn fold(&mut self, of: Node, kind: FoldKind, name: &str) -> Result<Node, SyntaxError> {
        let outside = self.locals.len();
        self.binding(name)?;
        let always_two = name.starts_with("transform");
        let never_two = matches!(name, "map" | "filter");
        // `all(i, v, p)`: two names in front of the last argument.
        let two = always_two || (!never_two && self.name_and_comma());
        if two {
            self.binding(name)?;
        }
        let mut parts = vec![self.expression()?];
        if matches!(name, "map" | "transformList" | "transformMap") && self.eat(",") {
            parts.push(self.expression()?);
        }
        self.expect(")")?;
        self.locals.truncate(outside);
        let depth = self.node(parts.iter().chain([&of]))?;
        let (Some(body), filter) = (parts.pop(), parts.pop()) else {
            return self.error("a loop without a body");
        };
        let fold = Fold {
            kind,
            range: of,
            two,
            filter,
            body,
        };
        Ok(Node {
            depth,
            kind: Kind::Fold(Box::new(fold)),
        })
    }

    fn opt_map(&mut self, of: Node, flat: bool) -> Result<Node, SyntaxError> {
        let outside = self.locals.len();
        self.binding("optMap")?;
        let body = self.expression()?;
        self.expect(")")?;
        self.locals.truncate(outside);
        Ok(Node {
            depth: self.node([&of, &body])?,
            kind: Kind::OptMap {
                of: Box::new(of),
                body: Box::new(body),
                flat,
            },
        })
    }

    fn name_and_comma(&self) -> bool {
        matches!(self.peek(), lexer::Kind::Ident(_)) && self.comma_follows()
    }

    /// Declares the variable that stands here, with the comma behind it.
    fn binding(&mut self, of: &str) -> Result<(), SyntaxError> {
        let name = match self.peek() {
            lexer::Kind::Ident(name) if self.comma_follows() => Arc::clone(name),
            _ => {
                return self.error(format!(
                    "{of}() begins with a new name for the element, such as {of}(x, …)"
                ));
            }
        };
        self.skip(2);
        self.locals.push(name);
        Ok(())
    }
}
