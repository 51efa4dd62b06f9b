//! Kubernetes' protobuf, as far as clients insist on sending it.
//!
//! `kubectl create namespace`, `create secret` and their like send built-in kinds in protobuf and
//! never ask whether that is welcome; answers in JSON they take. So bodies are read in both forms,
//! and written in one. Field numbers are those of the `generated.proto` files of `k8s.io/api`.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Map, Value, json};

/// What every such body begins with.
const MAGIC: &[u8] = b"k8s\0";

/// How deep messages may nest: the deepest table below has five levels.
const MAX_DEPTH: usize = 16;

type Fields = &'static [(u64, &'static str, Form)];

#[derive(Clone, Copy)]
enum Form {
    Text,
    Number,
    Flag,
    Time,
    Message(Fields),
    Texts,
    Messages(Fields),
    TextMap,
    BytesMap,
}

const OWNER: Fields = &[
    (1, "kind", Form::Text),
    (3, "name", Form::Text),
    (4, "uid", Form::Text),
    (5, "apiVersion", Form::Text),
    (6, "controller", Form::Flag),
    (7, "blockOwnerDeletion", Form::Flag),
];
const METADATA: Fields = &[
    (1, "name", Form::Text),
    (2, "generateName", Form::Text),
    (3, "namespace", Form::Text),
    (5, "uid", Form::Text),
    (6, "resourceVersion", Form::Text),
    (7, "generation", Form::Number),
    (8, "creationTimestamp", Form::Time),
    (9, "deletionTimestamp", Form::Time),
    (10, "deletionGracePeriodSeconds", Form::Number),
    (11, "labels", Form::TextMap),
    (12, "annotations", Form::TextMap),
    (13, "ownerReferences", Form::Messages(OWNER)),
    (14, "finalizers", Form::Texts),
];
const REFERENCE: Fields = &[
    (1, "kind", Form::Text),
    (2, "namespace", Form::Text),
    (3, "name", Form::Text),
    (4, "uid", Form::Text),
    (5, "apiVersion", Form::Text),
    (6, "resourceVersion", Form::Text),
    (7, "fieldPath", Form::Text),
];
const RULES: Fields = &[
    (1, "verbs", Form::Texts),
    (2, "apiGroups", Form::Texts),
    (3, "resources", Form::Texts),
    (4, "resourceNames", Form::Texts),
    (5, "nonResourceURLs", Form::Texts),
];
const ROLE: Fields = &[
    (1, "metadata", Form::Message(METADATA)),
    (2, "rules", Form::Messages(RULES)),
];
const BINDING: Fields = &[
    (1, "metadata", Form::Message(METADATA)),
    (
        2,
        "subjects",
        Form::Messages(&[
            (1, "kind", Form::Text),
            (2, "apiGroup", Form::Text),
            (3, "name", Form::Text),
            (4, "namespace", Form::Text),
        ]),
    ),
    (
        3,
        "roleRef",
        Form::Message(&[
            (1, "apiGroup", Form::Text),
            (2, "kind", Form::Text),
            (3, "name", Form::Text),
        ]),
    ),
];
const EVENT: Fields = &[
    (1, "metadata", Form::Message(METADATA)),
    (2, "involvedObject", Form::Message(REFERENCE)),
    (3, "reason", Form::Text),
    (4, "message", Form::Text),
    (
        5,
        "source",
        Form::Message(&[(1, "component", Form::Text), (2, "host", Form::Text)]),
    ),
    (6, "firstTimestamp", Form::Time),
    (7, "lastTimestamp", Form::Time),
    (8, "count", Form::Number),
    (9, "type", Form::Text),
    (10, "eventTime", Form::Time),
    (
        11,
        "series",
        Form::Message(&[
            (1, "count", Form::Number),
            (2, "lastObservedTime", Form::Time),
        ]),
    ),
    (12, "action", Form::Text),
    (13, "related", Form::Message(REFERENCE)),
    (14, "reportingComponent", Form::Text),
    (15, "reportingInstance", Form::Text),
];

/// The messages that are read, by `apiVersion` and `kind`.
const MESSAGES: &[(&str, &str, Fields)] = &[
    (
        "v1",
        "Namespace",
        &[
            (1, "metadata", Form::Message(METADATA)),
            (2, "spec", Form::Message(&[(1, "finalizers", Form::Texts)])),
            (3, "status", Form::Message(&[(1, "phase", Form::Text)])),
        ],
    ),
    (
        "v1",
        "ConfigMap",
        &[
            (1, "metadata", Form::Message(METADATA)),
            (2, "data", Form::TextMap),
            (3, "binaryData", Form::BytesMap),
            (4, "immutable", Form::Flag),
        ],
    ),
    (
        "v1",
        "Secret",
        &[
            (1, "metadata", Form::Message(METADATA)),
            (2, "data", Form::BytesMap),
            (3, "type", Form::Text),
            (4, "stringData", Form::TextMap),
            (5, "immutable", Form::Flag),
        ],
    ),
    (
        "v1",
        "ServiceAccount",
        &[
            (1, "metadata", Form::Message(METADATA)),
            (2, "secrets", Form::Messages(REFERENCE)),
            (
                3,
                "imagePullSecrets",
                Form::Messages(&[(1, "name", Form::Text)]),
            ),
            (4, "automountServiceAccountToken", Form::Flag),
        ],
    ),
    ("v1", "Event", EVENT),
    (
        "coordination.k8s.io/v1",
        "Lease",
        &[
            (1, "metadata", Form::Message(METADATA)),
            (
                2,
                "spec",
                Form::Message(&[
                    (1, "holderIdentity", Form::Text),
                    (2, "leaseDurationSeconds", Form::Number),
                    (3, "acquireTime", Form::Time),
                    (4, "renewTime", Form::Time),
                    (5, "leaseTransitions", Form::Number),
                    (6, "strategy", Form::Text),
                    (7, "preferredHolder", Form::Text),
                ]),
            ),
        ],
    ),
    ("rbac.authorization.k8s.io/v1", "Role", ROLE),
    ("rbac.authorization.k8s.io/v1", "ClusterRole", ROLE),
    ("rbac.authorization.k8s.io/v1", "RoleBinding", BINDING),
    (
        "rbac.authorization.k8s.io/v1",
        "ClusterRoleBinding",
        BINDING,
    ),
    ("meta.k8s.io/v1", "DeleteOptions", DELETE_OPTIONS),
    ("v1", "DeleteOptions", DELETE_OPTIONS),
];
const DELETE_OPTIONS: Fields = &[
    (1, "gracePeriodSeconds", Form::Number),
    (
        2,
        "preconditions",
        Form::Message(&[(1, "uid", Form::Text), (2, "resourceVersion", Form::Text)]),
    ),
    (4, "propagationPolicy", Form::Text),
    (5, "dryRun", Form::Texts),
];

/// A body as JSON; none where it is broken or of a kind that is not read.
pub(super) fn decode(body: &[u8]) -> Option<Value> {
    let mut rest = body.strip_prefix(MAGIC)?;
    let (mut api_version, mut kind, mut raw) = (String::new(), String::new(), &[][..]);
    while !rest.is_empty() {
        match (field(&mut rest)?, raw.is_empty()) {
            ((1, Wire::Bytes(mut meta)), _) => {
                while !meta.is_empty() {
                    match field(&mut meta)? {
                        (1, Wire::Bytes(text)) => api_version = utf8(text)?,
                        (2, Wire::Bytes(text)) => kind = utf8(text)?,
                        _ => {}
                    }
                }
            }
            ((2, Wire::Bytes(bytes)), true) => raw = bytes,
            _ => {}
        }
    }
    let (_, _, fields) = MESSAGES
        .iter()
        .find(|(version, name, _)| *version == api_version && *name == kind)?;
    let mut object = message(fields, raw, 0)?;
    object.insert("apiVersion".to_owned(), json!(api_version));
    object.insert("kind".to_owned(), json!(kind));
    Some(Value::Object(object))
}

enum Wire<'b> {
    Number(u64),
    Bytes(&'b [u8]),
}

fn message(fields: Fields, mut rest: &[u8], depth: usize) -> Option<Map<String, Value>> {
    if depth > MAX_DEPTH {
        return None;
    }
    let mut map = Map::new();
    while !rest.is_empty() {
        let (number, wire) = field(&mut rest)?;
        let Some((_, name, form)) = fields.iter().find(|(known, _, _)| *known == number) else {
            continue;
        };
        add(&mut map, name, *form, &wire, depth)?;
    }
    Some(map)
}

/// Adds a field. Empty texts and messages are what Go writes for "absent".
fn add(
    map: &mut Map<String, Value>,
    name: &str,
    form: Form,
    wire: &Wire<'_>,
    depth: usize,
) -> Option<()> {
    let below = depth.saturating_add(1);
    let value = match (form, wire) {
        (Form::Number, Wire::Number(number)) => json!(number.cast_signed()),
        (Form::Flag, Wire::Number(number)) => json!(*number != 0),
        (Form::Text, Wire::Bytes(text)) if !text.is_empty() => json!(utf8(text)?),
        (Form::Time, Wire::Bytes(bytes)) if !bytes.is_empty() => json!(time(bytes)?),
        (Form::Message(fields), Wire::Bytes(bytes)) => {
            let inner = message(fields, bytes, below)?;
            if inner.is_empty() {
                return Some(());
            }
            Value::Object(inner)
        }
        (Form::Texts, Wire::Bytes(text)) => return push(map, name, json!(utf8(text)?)),
        (Form::Messages(fields), Wire::Bytes(bytes)) => {
            let inner = message(fields, bytes, below)?;
            return push(map, name, Value::Object(inner));
        }
        (Form::TextMap, Wire::Bytes(bytes)) => {
            let (key, value) = entry(bytes)?;
            return put(map, name, key, json!(utf8(value)?));
        }
        (Form::BytesMap, Wire::Bytes(bytes)) => {
            let (key, value) = entry(bytes)?;
            return put(map, name, key, json!(STANDARD.encode(value)));
        }
        (Form::Text | Form::Time, Wire::Bytes(_)) => return Some(()),
        (_, Wire::Number(_)) | (Form::Number | Form::Flag, Wire::Bytes(_)) => return None,
    };
    map.insert(name.to_owned(), value);
    Some(())
}

fn push(map: &mut Map<String, Value>, name: &str, value: Value) -> Option<()> {
    map.entry(name)
        .or_insert_with(|| json!([]))
        .as_array_mut()?
        .push(value);
    Some(())
}

fn put(map: &mut Map<String, Value>, name: &str, key: String, value: Value) -> Option<()> {
    map.entry(name)
        .or_insert_with(|| json!({}))
        .as_object_mut()?
        .insert(key, value);
    Some(())
}

fn entry(mut rest: &[u8]) -> Option<(String, &[u8])> {
    let (mut key, mut value) = (String::new(), &[][..]);
    while !rest.is_empty() {
        match field(&mut rest)? {
            (1, Wire::Bytes(text)) => key = utf8(text)?,
            (2, Wire::Bytes(bytes)) => value = bytes,
            _ => {}
        }
    }
    Some((key, value))
}

/// Seconds and nanoseconds since the epoch as RFC 3339.
fn time(mut rest: &[u8]) -> Option<String> {
    let (mut seconds, mut nanos) = (0, 0);
    while !rest.is_empty() {
        match field(&mut rest)? {
            (1, Wire::Number(number)) => seconds = number.cast_signed(),
            (2, Wire::Number(number)) => nanos = i32::try_from(number).ok()?,
            _ => {}
        }
    }
    let time = jiff::Timestamp::new(seconds, nanos).ok()?;
    Some(if nanos == 0 {
        time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
    } else {
        time.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
    })
}

fn field<'b>(rest: &mut &'b [u8]) -> Option<(u64, Wire<'b>)> {
    let tag = varint(rest)?;
    let wire = match tag & 7 {
        0 => Wire::Number(varint(rest)?),
        1 => Wire::Bytes(bytes(rest, 8)?),
        2 => {
            let length = usize::try_from(varint(rest)?).ok()?;
            Wire::Bytes(bytes(rest, length)?)
        }
        5 => Wire::Bytes(bytes(rest, 4)?),
        _ => return None,
    };
    Some((tag >> 3, wire))
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, behind) = rest.split_first()?;
        *rest = behind;
        value |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn bytes<'b>(rest: &mut &'b [u8], length: usize) -> Option<&'b [u8]> {
    let (taken, behind) = rest.split_at_checked(length)?;
    *rest = behind;
    Some(taken)
}

fn utf8(text: &[u8]) -> Option<String> {
    String::from_utf8(text.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bytes_field(number: u8, content: &[u8]) -> Vec<u8> {
        let mut field = vec![number << 3 | 2, u8::try_from(content.len()).unwrap()];
        field.extend_from_slice(content);
        field
    }

    fn envelope(version: &[u8], kind: &[u8], raw: &[u8]) -> Vec<u8> {
        let meta = [bytes_field(1, version), bytes_field(2, kind)].concat();
        [MAGIC.to_vec(), bytes_field(1, &meta), bytes_field(2, raw)].concat()
    }

    #[test]
    fn a_secret_as_kubectl_sends_it() {
        let entry = [bytes_field(1, b"key"), bytes_field(2, b"\x00\xff")].concat();
        let metadata = [
            bytes_field(1, b"s"),
            bytes_field(2, b""),
            bytes_field(8, b""),
        ]
        .concat();
        let raw = [
            bytes_field(1, &metadata),
            bytes_field(2, &entry),
            bytes_field(3, b"Opaque"),
        ];
        let body = envelope(b"v1", b"Secret", &raw.concat());
        assert_eq!(
            decode(&body).unwrap(),
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"},
                   "data": {"key": "AP8="}, "type": "Opaque"})
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(raw in proptest::collection::vec(any::<u8>(), 0..120)) {
            decode(&raw);
            decode(&envelope(b"v1", b"Event", &raw));
            decode(&[MAGIC.to_vec(), raw].concat());
        }
    }
}
