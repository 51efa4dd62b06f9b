//! Representations: what a body is read as, and what an answer is written as.

use http::{HeaderMap, header};
use serde_json::Value;

use super::{As, Rows, json};
use crate::embedded::{protobuf, refusal::Refusal};

/// A body as JSON, and the fields that it has more than once.
pub(super) fn content(headers: &HeaderMap, body: &[u8]) -> Result<(Value, Vec<String>), Refusal> {
    let media_type = content_type(headers);
    let media_type = media_type.split(';').next().unwrap_or_default().trim();
    match media_type {
        "" | "application/json" | "*/*" => json::read(body).map_err(|error| {
            Refusal::bad_request(format!("the body can't be read as JSON: {error}"))
        }),
        "application/yaml" => std::str::from_utf8(body)
            .map_err(|error| error.to_string())
            .and_then(|text| serde_saphyr::from_str(text).map_err(|error| error.to_string()))
            .map(|object| (object, Vec::new()))
            .map_err(|error| {
                Refusal::bad_request(format!("the body can't be read as YAML: {error}"))
            }),
        "application/vnd.kubernetes.protobuf" => protobuf::decode(body)
            .map(|object| (object, Vec::new()))
            .ok_or_else(|| {
                unsupported_media(
                    "protobuf is read for the common built-in kinds alone; send application/json",
                )
            }),
        _ => Err(unsupported_media(
            "the body of the request was in an unknown format - accepted media types include: application/json, application/yaml",
        )),
    }
}

fn unsupported_media(message: &str) -> Refusal {
    Refusal::plain(415, "UnsupportedMediaType", message)
}

/// What the body says that it is.
pub(super) fn content_type(headers: &HeaderMap) -> &str {
    headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
}

/// The representations that are accepted, in their order.
pub(super) fn accept(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
}

/// The first of the accepted forms that is served.
pub(super) fn accepted(headers: &HeaderMap, rows: Rows) -> Result<As, Refusal> {
    let mut asked = false;
    for one in accept(headers).filter(|one| !one.is_empty()) {
        asked = true;
        let mut parts = one.split(';').map(str::trim);
        match parts.next() {
            Some("application/json" | "*/*" | "application/*") => {}
            Some("application/yaml") => return Ok(As::Yaml),
            Some(_) | None => continue,
        }
        let param = |name: &str| {
            one.split(';')
                .find_map(|part| part.trim().strip_prefix(name)?.strip_prefix('='))
        };
        match param("as") {
            None => return Ok(As::Object),
            Some("Table") if param("v") == Some("v1") => return Ok(As::Table(rows)),
            Some("PartialObjectMetadata" | "PartialObjectMetadataList")
                if param("v") == Some("v1") =>
            {
                return Ok(As::Metadata);
            }
            Some(_) => {}
        }
    }
    if asked {
        Err(Refusal::plain(
            406,
            "NotAcceptable",
            "only the following media types are accepted: application/json, application/yaml",
        ))
    } else {
        Ok(As::Object)
    }
}
