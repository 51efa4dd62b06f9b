//! What Kubernetes lets names, labels and keys look like, and what it says when they don't.

const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const QUALIFIED: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";

/// What is wrong with a DNS label.
#[must_use]
pub(super) fn dns_label(name: &str) -> Option<String> {
    too_long(name, 63).or_else(|| (!is_dns_label(name)).then(|| LABEL.to_owned()))
}

/// What is wrong with a DNS subdomain.
#[must_use]
pub(super) fn dns_subdomain(name: &str) -> Option<String> {
    too_long(name, 253)
        .or_else(|| (!name.split('.').all(is_dns_label)).then(|| SUBDOMAIN.to_owned()))
}

/// What is wrong with a name that is only kept from breaking a path.
#[must_use]
pub(super) fn path_segment(name: &str) -> Option<String> {
    match name {
        "." | ".." => Some(format!("may not be '{name}'")),
        _ => ['/', '%']
            .into_iter()
            .find(|char| name.contains(*char))
            .map(|char| format!("may not contain '{char}'")),
    }
}

/// What is wrong with a label's key: an optional DNS subdomain, a slash, a name.
#[must_use]
pub(super) fn qualified_name(key: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let name = match key.split_once('/') {
        Some((prefix, name)) => {
            if prefix.is_empty() {
                faults.push("prefix part must be non-empty".to_owned());
            } else if let Some(why) = dns_subdomain(prefix) {
                faults.push(format!("prefix part {why}"));
            }
            name
        }
        None => key,
    };
    if name.is_empty() {
        faults.push("name part must be non-empty".to_owned());
    } else if name.len() > 63 {
        faults.push("name part must be no more than 63 characters".to_owned());
    }
    if !is_qualified(name) {
        faults.push(QUALIFIED.to_owned());
    }
    faults
}

/// What is wrong with a label's value.
#[must_use]
pub(super) fn label_value(value: &str) -> Option<String> {
    too_long(value, 63)
        .or_else(|| (!value.is_empty() && !is_qualified(value)).then(|| VALUE.to_owned()))
}

/// What is wrong with a key of a `ConfigMap` or a Secret.
#[must_use]
pub(super) fn data_key(key: &str) -> Option<String> {
    let fine = !key.is_empty()
        && key != "."
        && !key.starts_with("..")
        && key
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    too_long(key, 253).or_else(|| {
        (!fine).then(|| {
            "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')".to_owned()
        })
    })
}

fn too_long(text: &str, max: usize) -> Option<String> {
    (text.len() > max).then(|| format!("must be no more than {max} characters"))
}

fn is_dns_label(label: &str) -> bool {
    let edge = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    bounded_by(label, edge) && label.bytes().all(|byte| edge(byte) || byte == b'-')
}

fn is_qualified(name: &str) -> bool {
    bounded_by(name, |byte| byte.is_ascii_alphanumeric())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

fn bounded_by(text: &str, edge: impl Fn(u8) -> bool) -> bool {
    let bytes = text.as_bytes();
    bytes.first().is_some_and(|byte| edge(*byte)) && bytes.last().is_some_and(|byte| edge(*byte))
}
