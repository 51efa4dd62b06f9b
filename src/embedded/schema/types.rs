//! What can be known of a rule before it runs: fields that the schema doesn't have, and rules that
//! give no verdict. As on a real server, such a definition is refused; what can't be known here is
//! let pass and fails when it runs.

use cel::common::ast::{EntryExpr, Expr, IdedExpr, LiteralValue, operators};

use super::{Additional, Json, Schema, convert::escape};

/// The type of an expression, as far as it matters.
#[derive(Clone, Copy)]
enum Type<'s> {
    /// Anything.
    Unknown,
    /// Yes or no.
    Verdict,
    /// Something else.
    Other,
    /// What a schema says.
    Node(&'s Schema),
    /// An object as a whole, of whose metadata the name can be seen.
    Root(&'s Schema),
}

/// Checks a rule at a node; `optional` where the old value may be absent.
pub(super) fn check_rule(
    schema: &Schema,
    root: bool,
    optional: bool,
    rule: &IdedExpr,
) -> Result<(), String> {
    match Scope::new(schema, root, optional).infer(rule)? {
        Type::Other => Err("cel expression must evaluate to a bool".to_owned()),
        Type::Node(node) | Type::Root(node) => match node.kind {
            Some(Json::Boolean) | None => Ok(()),
            Some(_) => Err("cel expression must evaluate to a bool".to_owned()),
        },
        Type::Unknown | Type::Verdict => Ok(()),
    }
}

/// Checks an expression that makes a message.
pub(super) fn check_message(
    schema: &Schema,
    root: bool,
    optional: bool,
    message: &IdedExpr,
) -> Result<(), String> {
    match Scope::new(schema, root, optional).infer(message)? {
        Type::Verdict => Err("messageExpression must evaluate to a string".to_owned()),
        Type::Unknown | Type::Other | Type::Node(_) | Type::Root(_) => Ok(()),
    }
}

struct Scope<'s> {
    names: Vec<(String, Type<'s>)>,
}

impl<'s> Scope<'s> {
    fn new(schema: &'s Schema, root: bool, optional: bool) -> Self {
        let own = if root {
            Type::Root(schema)
        } else {
            Type::Node(schema)
        };
        let old = if optional { Type::Unknown } else { own };
        Self {
            names: vec![("self".to_owned(), own), ("oldSelf".to_owned(), old)],
        }
    }

    fn infer(&mut self, expression: &IdedExpr) -> Result<Type<'s>, String> {
        match &expression.expr {
            Expr::Unspecified => Ok(Type::Unknown),
            Expr::Ident(name) => Ok(self
                .names
                .iter()
                .rev()
                .find(|(known, _)| known == name)
                .map_or(Type::Unknown, |(_, found)| *found)),
            Expr::Literal(LiteralValue::Boolean(_)) => Ok(Type::Verdict),
            Expr::Literal(_) => Ok(Type::Other),
            Expr::List(list) => {
                for element in &list.elements {
                    self.infer(element)?;
                }
                Ok(Type::Other)
            }
            Expr::Map(map) => {
                for entry in &map.entries {
                    self.entry(&entry.expr)?;
                }
                Ok(Type::Other)
            }
            Expr::Struct(of) => {
                for entry in &of.entries {
                    self.entry(&entry.expr)?;
                }
                Ok(Type::Other)
            }
            Expr::Select(select) => {
                let operand = self.infer(&select.operand)?;
                let found = field(operand, &select.field)?;
                Ok(if select.test { Type::Verdict } else { found })
            }
            Expr::Call(call) => {
                let mut operands = Vec::new();
                for operand in call.target.as_deref().into_iter().chain(&call.args) {
                    operands.push(self.infer(operand)?);
                }
                Ok(result(&call.func_name, &operands))
            }
            Expr::Comprehension(each) => {
                let range = self.infer(&each.iter_range)?;
                self.infer(&each.accu_init)?;
                let depth = self.names.len();
                self.names.push((each.iter_var.clone(), item(range)));
                if let Some(second) = &each.iter_var2 {
                    self.names.push((second.clone(), Type::Unknown));
                }
                self.names.push((each.accu_var.clone(), Type::Unknown));
                for part in [&each.loop_cond, &each.loop_step, &each.result] {
                    self.infer(part)?;
                }
                self.names.truncate(depth);
                Ok(Type::Unknown)
            }
        }
    }

    fn entry(&mut self, entry: &EntryExpr) -> Result<(), String> {
        match entry {
            EntryExpr::StructField(field) => self.infer(&field.value).map(|_| ()),
            EntryExpr::MapEntry(entry) => {
                self.infer(&entry.key)?;
                self.infer(&entry.value).map(|_| ())
            }
        }
    }
}

fn field<'s>(operand: Type<'s>, name: &str) -> Result<Type<'s>, String> {
    let (schema, root) = match operand {
        Type::Node(schema) => (schema, false),
        Type::Root(schema) => (schema, true),
        Type::Unknown | Type::Verdict | Type::Other => return Ok(Type::Unknown),
    };
    match &schema.additional {
        Additional::Each(each) => return Ok(Type::Node(each)),
        Additional::Any => return Ok(Type::Unknown),
        Additional::None => {}
    }
    let declared = schema
        .properties
        .iter()
        .find(|(declared, _)| escape(declared) == name);
    let own = (root || schema.embedded) && matches!(name, "apiVersion" | "kind" | "metadata");
    match declared {
        _ if own => Ok(Type::Unknown),
        Some((_, found)) => Ok(Type::Node(found)),
        None if schema.kind != Some(Json::Object) || schema.preserve => Ok(Type::Unknown),
        None => Err(format!("undefined field '{name}'")),
    }
}

/// What a comprehension goes over: the entries of a list, the keys of a map.
fn item(range: Type<'_>) -> Type<'_> {
    match range {
        Type::Node(schema) | Type::Root(schema) => {
            schema.items.as_deref().map_or(Type::Unknown, Type::Node)
        }
        Type::Unknown | Type::Verdict | Type::Other => Type::Unknown,
    }
}

fn result<'s>(function: &str, operands: &[Type<'s>]) -> Type<'s> {
    match function {
        operators::LOGICAL_AND
        | operators::LOGICAL_OR
        | operators::LOGICAL_NOT
        | operators::EQUALS
        | operators::NOT_EQUALS
        | operators::GREATER
        | operators::GREATER_EQUALS
        | operators::LESS
        | operators::LESS_EQUALS
        | operators::IN => Type::Verdict,
        operators::ADD
        | operators::SUBSTRACT
        | operators::MULTIPLY
        | operators::DIVIDE
        | operators::MODULO
        | operators::NEGATE
        | "size" => Type::Other,
        operators::CONDITIONAL => operands.get(1).copied().unwrap_or(Type::Unknown),
        operators::INDEX => match operands.first() {
            Some(Type::Node(schema) | Type::Root(schema)) => match &schema.additional {
                Additional::Each(each) => Type::Node(each),
                Additional::None | Additional::Any => item(Type::Node(schema)),
            },
            Some(Type::Unknown | Type::Verdict | Type::Other) | None => Type::Unknown,
        },
        _ => Type::Unknown,
    }
}
