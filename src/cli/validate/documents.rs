//! From texts to documents whose fields know their lines.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{Error as _, MapAccess, SeqAccess, Visitor},
};
use serde_json::Value;
use serde_saphyr::Spanned;

/// Deepest nesting that is read; a Kubernetes object is refused far above.
const MAX_DEPTH: usize = 64;

/// A text to be looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Input {
    /// The file's name; `-` for standard input.
    pub name: String,
    /// What it holds: YAML, of several documents perhaps, or JSON.
    pub text: String,
}

/// One object of a text.
#[derive(Clone, Debug)]
pub struct Document {
    /// The file's name.
    pub file: String,
    /// Its number in the file, from 1.
    pub number: usize,
    /// The object.
    pub object: Value,
    lines: Lines,
}

/// A text that holds no documents, because it can't be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}: {message}")]
pub struct Unreadable {
    /// The file's name.
    pub file: String,
    /// What is wrong, and where.
    pub message: String,
}

/// The line of each field, in the shape of the object.
#[derive(Clone, Debug, Default)]
struct Lines {
    line: Option<u64>,
    below: Below,
}

#[derive(Clone, Debug, Default)]
enum Below {
    #[default]
    Nothing,
    Fields(Vec<(String, Lines)>),
    Items(Vec<Lines>),
}

impl Document {
    /// The line of the field at `path`, such as `spec.filters[1].name`, or of the nearest field
    /// around it that is there.
    #[must_use]
    pub fn line(&self, path: &str) -> Option<u64> {
        self.lines.find(path)
    }

    /// `Kind namespace/name`, as far as they are given.
    #[must_use]
    pub fn title(&self) -> String {
        let text = |pointer: &str| self.object.pointer(pointer).and_then(Value::as_str);
        let kind = text("/kind").unwrap_or("object");
        match (text("/metadata/namespace"), text("/metadata/name")) {
            (Some(namespace), Some(name)) => format!("{kind} {namespace}/{name}"),
            (None, Some(name)) => format!("{kind} {name}"),
            (_, None) => kind.to_owned(),
        }
    }
}

/// Reads a text. A list (`kind: List`, `IngestorList`, …) is its items.
///
/// # Errors
/// What is no YAML or JSON, with its line.
pub(super) fn read(input: &Input) -> Result<Vec<Document>, Unreadable> {
    let roots = if looks_like_json(&input.text) {
        read_json(&input.text)
    } else {
        read_yaml(&input.text)
    };
    let roots = roots.map_err(|message| Unreadable {
        file: input.name.clone(),
        message,
    })?;
    let objects = roots
        .into_iter()
        .filter(|(object, _)| !object.is_null())
        .flat_map(|(object, lines)| unlist(object, lines));
    Ok(objects
        .enumerate()
        .map(|(index, (object, lines))| Document {
            file: input.name.clone(),
            number: index + 1,
            object,
            lines,
        })
        .collect())
}

fn looks_like_json(text: &str) -> bool {
    text.trim_start().starts_with('{')
}

/// JSON is read as JSON: what its escapes mean is not the same in YAML. It has no lines then.
fn read_json(text: &str) -> Result<Vec<(Value, Lines)>, String> {
    serde_json::Deserializer::from_str(text)
        .into_iter::<Value>()
        .map(|value| value.map(|value| (value, Lines::default())))
        .collect::<Result<_, _>>()
        .map_err(|error| error.to_string())
}

fn read_yaml(text: &str) -> Result<Vec<(Value, Lines)>, String> {
    let nodes: Vec<Spanned<Node>> =
        serde_saphyr::from_multiple(text).map_err(|error| error.to_string())?;
    nodes
        .into_iter()
        .map(|node| split(node, MAX_DEPTH).ok_or_else(|| "nested too deep".to_owned()))
        .collect()
}

/// The items of a list, each with its lines; anything else is its only item.
fn unlist(object: Value, lines: Lines) -> Vec<(Value, Lines)> {
    let is_list = object
        .get("kind")
        .and_then(Value::as_str)
        .is_some_and(|kind| kind.ends_with("List"));
    let Some(items) = object
        .get("items")
        .and_then(Value::as_array)
        .filter(|_| is_list)
    else {
        return vec![(object, lines)];
    };
    let below = lines.field("items").cloned().unwrap_or_default();
    items
        .iter()
        .enumerate()
        .map(|(index, item)| (item.clone(), below.item(index).cloned().unwrap_or_default()))
        .collect()
}

// === impl Lines ===

impl Lines {
    fn field(&self, name: &str) -> Option<&Self> {
        match &self.below {
            Below::Fields(fields) => fields
                .iter()
                .find(|(known, _)| known == name)
                .map(|(_, l)| l),
            Below::Nothing | Below::Items(_) => None,
        }
    }

    fn item(&self, index: usize) -> Option<&Self> {
        match &self.below {
            Below::Items(items) => items.get(index),
            Below::Nothing | Below::Fields(_) => None,
        }
    }

    fn find(&self, path: &str) -> Option<u64> {
        let path = path.strip_prefix('.').unwrap_or(path);
        self.step(path)
            .and_then(|(below, rest)| below.find(rest))
            .or(self.line)
    }

    /// One step down: an index, or the field with the longest name that the path begins with, since
    /// a name may hold dots.
    fn step<'p>(&self, path: &'p str) -> Option<(&Self, &'p str)> {
        match &self.below {
            Below::Nothing => None,
            Below::Items(_) => {
                let (index, rest) = path.strip_prefix('[')?.split_once(']')?;
                Some((self.item(index.parse().ok()?)?, rest))
            }
            Below::Fields(fields) => fields
                .iter()
                .filter_map(|(name, below)| Some((name.len(), below, after(path, name)?)))
                .max_by_key(|(length, ..)| *length)
                .map(|(_, below, rest)| (below, rest)),
        }
    }
}

/// What follows `name` in `path`, which names it bare or in brackets.
fn after<'p>(path: &'p str, name: &str) -> Option<&'p str> {
    let bare = path
        .strip_prefix(name)
        .filter(|rest| rest.is_empty() || rest.starts_with(['.', '[']));
    bare.or_else(|| {
        path.strip_prefix('[')?
            .strip_prefix(name)?
            .strip_prefix(']')
    })
}

// === reading YAML ===

enum Node {
    Scalar(Value),
    Fields(Vec<(String, Spanned<Self>)>),
    Items(Vec<Spanned<Self>>),
}

fn split(node: Spanned<Node>, depth: usize) -> Option<(Value, Lines)> {
    let depth = depth.checked_sub(1)?;
    let line = Some(node.referenced.line()).filter(|line| *line > 0);
    let (value, below) = match node.value {
        Node::Scalar(value) => (value, Below::Nothing),
        Node::Fields(fields) => {
            let mut object = serde_json::Map::new();
            let mut known = Vec::new();
            for (name, field) in fields {
                let (value, lines) = split(field, depth)?;
                object.insert(name.clone(), value);
                known.push((name, lines));
            }
            (Value::Object(object), Below::Fields(known))
        }
        Node::Items(items) => {
            let parts: Option<Vec<_>> = items.into_iter().map(|item| split(item, depth)).collect();
            let (values, lines) = parts?.into_iter().unzip();
            (Value::Array(values), Below::Items(lines))
        }
    };
    Some((value, Lines { line, below }))
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value that JSON has")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Node, E> {
        serde_json::Number::from_f64(value)
            .map(|number| Node::Scalar(number.into()))
            .ok_or_else(|| E::custom("JSON has no such number"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Scalar(Value::Null))
    }

    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::Scalar(Value::Null))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        Node::deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Node, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Node::Items(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Node, A::Error> {
        let mut fields: Vec<(String, Spanned<Node>)> = Vec::new();
        while let Some((name, value)) = access.next_entry::<String, Spanned<Node>>()? {
            if fields.iter().any(|(known, _)| *known == name) {
                return Err(A::Error::custom(format!(
                    "the field {name:?} is there twice"
                )));
            }
            fields.push((name, value));
        }
        Ok(Node::Fields(fields))
    }
}
