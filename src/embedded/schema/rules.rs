//! `x-kubernetes-validations`: rules in CEL.

use std::sync::Arc;

use cel::{
    Context, Value as Cel,
    objects::OptionalValue,
    parser::{Expression, Parser},
};
use kube_cel::KubeCelExt as _;
use serde_json::Value;

use super::{Additional, Json, Schema, convert::to_cel, join, types};
use crate::embedded::refusal::{Fault, FieldError};

/// One rule of a schema node.
#[derive(Debug)]
pub(super) struct Rule {
    text: String,
    program: Expression,
    message: Option<String>,
    message_program: Option<Expression>,
    reason: Fault,
    field_path: Option<String>,
    transition: bool,
    optional_old_self: bool,
}

thread_local! {
    /// Kubernetes' CEL functions; registering some hundred of them for each object would cost more
    /// than the rules.
    static FUNCTIONS: Context<'static> = Context::default().with_all();
}

/// Reads and compiles the rules of a node.
pub(super) fn parse(raw: &Value, path: &str, errors: &mut Vec<FieldError>) -> Vec<Rule> {
    let mut rules = Vec::new();
    let found = raw
        .get("x-kubernetes-validations")
        .and_then(Value::as_array);
    for (at, raw) in found.into_iter().flatten().enumerate() {
        let path = format!("{path}.x-kubernetes-validations[{at}]");
        match rule(raw, &path) {
            Ok(rule) => rules.push(rule),
            Err(error) => errors.push(error),
        }
    }
    rules
}

fn rule(raw: &Value, path: &str) -> Result<Rule, FieldError> {
    let text = |name: &str| raw.get(name).and_then(Value::as_str).map(str::to_owned);
    let source = text("rule").unwrap_or_default();
    if source.trim().is_empty() {
        return Err(FieldError::required(
            format!("{path}.rule"),
            "rule is not specified",
        ));
    }
    let program = compile(&source, &format!("{path}.rule"))?;
    let message_program = text("messageExpression")
        .map(|source| compile(&source, &format!("{path}.messageExpression")))
        .transpose()?;
    let reason = match text("reason").as_deref() {
        Some("FieldValueForbidden") => Fault::Forbidden,
        Some("FieldValueRequired") => Fault::Required,
        Some("FieldValueDuplicate") => Fault::Duplicate,
        Some(_) | None => Fault::Invalid,
    };
    Ok(Rule {
        transition: program.references().has_variable("oldSelf"),
        text: source,
        program,
        message: text("message"),
        message_program,
        reason,
        field_path: text("fieldPath"),
        optional_old_self: raw
            .get("optionalOldSelf")
            .and_then(Value::as_bool)
            .unwrap_or(false),
    })
}

fn compile(source: &str, path: &str) -> Result<Expression, FieldError> {
    Parser::new()
        .enable_optional_syntax(true)
        .parse(source)
        .map_err(|error| uncompiled(path, source, &error.to_string()))
}

/// Finds the rules of a node that can't work.
pub(super) fn verify(schema: &Schema, root: bool, path: &str, errors: &mut Vec<FieldError>) {
    for (at, rule) in schema.rules.iter().enumerate() {
        let path = format!("{path}.x-kubernetes-validations[{at}]");
        let optional = rule.optional_old_self;
        if let Err(why) = types::check_rule(schema, root, optional, &rule.program) {
            errors.push(uncompiled(&format!("{path}.rule"), &rule.text, &why));
        }
        let message = rule.message_program.as_ref();
        if let Some(Err(why)) =
            message.map(|message| types::check_message(schema, root, optional, message))
        {
            errors.push(uncompiled(
                &format!("{path}.messageExpression"),
                &rule.text,
                &why,
            ));
        }
    }
}

fn uncompiled(path: &str, source: &str, why: &str) -> FieldError {
    FieldError::invalid(
        path,
        &Value::from(source),
        format!("compilation failed: {why}"),
    )
}

impl Schema {
    /// What the rules find wrong; `old` is the object that an update replaces.
    pub(in crate::embedded) fn check_rules(
        &self,
        value: &Value,
        old: Option<&Value>,
    ) -> Vec<FieldError> {
        if !self.has_rules() {
            return Vec::new();
        }
        let mut errors = Vec::new();
        FUNCTIONS.with(|functions| {
            let mut walk = Walk {
                functions,
                errors: &mut errors,
            };
            walk.node(self, value, old, "");
        });
        errors
    }
}

struct Walk<'w> {
    functions: &'w Context<'static>,
    errors: &'w mut Vec<FieldError>,
}

impl Walk<'_> {
    fn node(&mut self, schema: &Schema, value: &Value, old: Option<&Value>, path: &str) {
        if value.is_null() {
            return;
        }
        if !schema.rules.is_empty() {
            self.rules(schema, value, old, path);
        }
        match value {
            Value::Object(map) => {
                for (name, child) in map {
                    let (below, path) = match (schema.properties.get(name), &schema.additional) {
                        (Some(below), _) => (below, join(path, name)),
                        (None, Additional::Each(each)) => (&**each, format!("{path}[{name}]")),
                        (None, Additional::None | Additional::Any) => continue,
                    };
                    if below.has_rules() {
                        let old = old.and_then(|old| old.get(name));
                        self.node(below, child, old, &path);
                    }
                }
            }
            Value::Array(list) => {
                let Some(items) = schema.items.as_ref().filter(|items| items.has_rules()) else {
                    return;
                };
                for (at, item) in list.iter().enumerate() {
                    let old = schema.correlate(item, at, old);
                    self.node(items, item, old, &format!("{path}[{at}]"));
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    fn rules(&mut self, schema: &Schema, value: &Value, old: Option<&Value>, path: &str) {
        let unchanged = old == Some(value);
        let mut context = self.functions.new_inner_scope();
        let root = path.is_empty();
        context.add_variable_from_value("self", to_cel(value, schema, root));
        let old_self = old.map(|old| to_cel(old, schema, root));
        if let Some(old_self) = old_self.clone() {
            context.add_variable_from_value("oldSelf", old_self);
        }
        for rule in &schema.rules {
            // What did not change was accepted before; only transition rules look at it again.
            if unchanged && !rule.transition {
                continue;
            }
            if rule.transition && rule.optional_old_self {
                let mut inner = context.new_inner_scope();
                let optional = old_self
                    .clone()
                    .map_or_else(OptionalValue::none, OptionalValue::of);
                inner.add_variable_from_value("oldSelf", Cel::Opaque(Arc::new(optional)));
                self.rule(rule, schema, &inner, path);
            } else if !rule.transition || old_self.is_some() {
                self.rule(rule, schema, &context, path);
            }
        }
    }

    fn rule(&mut self, rule: &Rule, schema: &Schema, context: &Context<'_>, path: &str) {
        let path = match &rule.field_path {
            Some(below) => format!("{path}{below}").trim_start_matches('.').to_owned(),
            None => path.to_owned(),
        };
        let shown = format!("{:?}", schema.kind.map_or("object", Json::name));
        let message = match Cel::resolve(&rule.program, context) {
            Ok(Cel::Bool(true)) => return,
            Ok(Cel::Bool(false)) => rule.message(context),
            Ok(_) => format!("rule must evaluate to a bool: {}", rule.text),
            Err(error) => {
                let message = format!("{error} evaluating rule: {}", rule.static_message());
                self.errors
                    .push(FieldError::invalid_shown(path, &shown, message));
                return;
            }
        };
        self.errors.push(match rule.reason {
            Fault::Forbidden => FieldError::forbidden(path, message),
            Fault::Required => FieldError::required(path, &message),
            Fault::Duplicate => FieldError::duplicate(path, &shown),
            Fault::Invalid
            | Fault::TypeInvalid
            | Fault::NotSupported
            | Fault::TooLong
            | Fault::TooMany => FieldError::invalid_shown(path, &shown, message),
        });
    }
}

impl Rule {
    fn static_message(&self) -> String {
        self.message.as_deref().map_or_else(
            || format!("failed rule: {}", self.text),
            |text| text.trim().to_owned(),
        )
    }

    fn message(&self, context: &Context<'_>) -> String {
        let told = self
            .message_program
            .as_ref()
            .and_then(|program| match Cel::resolve(program, context) {
                Ok(Cel::String(text)) => Some(text.trim().to_owned()),
                Ok(_) | Err(_) => None,
            })
            .filter(|text| !text.is_empty() && !text.contains('\n'));
        told.unwrap_or_else(|| self.static_message())
    }
}
