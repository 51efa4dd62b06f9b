//! Answers as HTTP.

use std::{convert::Infallible, sync::Arc};

use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use http::{HeaderValue, Response, header};
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::Frame;
use serde_json::{Value, json};

use super::Content;
use crate::{
    embedded::{
        kind::Kind,
        refusal::Refusal,
        store::{Answer, Body, Page},
        table,
        view::{list_metadata, partial, untyped},
        wire::{As, Discovery},
    },
    journal::Millis,
};

pub(super) fn json(code: u16, body: Bytes) -> Response<Content> {
    respond(code, "application/json", body)
}

pub(super) fn text(code: u16, body: &str) -> Response<Content> {
    respond(
        code,
        "text/plain; charset=utf-8",
        Bytes::from(body.to_owned()),
    )
}

fn respond(code: u16, media_type: &'static str, body: Bytes) -> Response<Content> {
    let body = Full::new(body)
        .map_err(|never: Infallible| match never {})
        .boxed_unsync();
    let mut response = Response::new(body);
    // All codes that are answered are constants of this room.
    *response.status_mut() = http::StatusCode::from_u16(code).unwrap_or_default();
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    response
}

pub(super) fn refusal(refusal: &Refusal) -> Response<Content> {
    if let Some(page) = refusal.page() {
        return text(404, &page);
    }
    let mut response = json(refusal.code, refusal.status().to_string().into());
    if let Some(seconds) = refusal.retry_after() {
        response
            .headers_mut()
            .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

pub(super) fn discovery(which: &Discovery, document: &Value) -> Response<Content> {
    let mut response = json(200, document.to_string().into());
    if let Discovery::Aggregated { .. } = which {
        response.headers_mut().insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static(
                "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
            ),
        );
    }
    response
}

pub(super) fn stream(lines: impl Stream<Item = Bytes> + Send + 'static) -> Response<Content> {
    let frames = lines.map(|line| Ok(Frame::data(line)));
    let mut response = Response::new(StreamBody::new(frames).boxed_unsync());
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    response
}

pub(super) fn answer(
    kind: &Arc<Kind>,
    answer: &Answer,
    shown: As,
    now: Millis,
) -> Response<Content> {
    let body = match &answer.body {
        Body::Object(object) => match shown {
            As::Object | As::Yaml => object.clone(),
            As::Table(with) => table::of_objects(kind, &only(object), with, now),
            As::Metadata => Bytes::from(partial(object).to_string()),
        },
        Body::List(page) => list(kind, page, shown, now),
        Body::Status(status) => Bytes::from(status.to_string()),
    };
    let mut response = if shown == As::Yaml {
        respond(answer.code, "application/yaml", yaml(&body))
    } else {
        json(answer.code, body)
    };
    for warning in &answer.warnings {
        let quoted = warning.replace('\\', "\\\\").replace('"', "\\\"");
        if let Ok(value) = HeaderValue::from_str(&format!("299 - \"{quoted}\"")) {
            response.headers_mut().append("Warning", value);
        }
    }
    response
}

fn list(kind: &Kind, page: &Page, shown: As, now: Millis) -> Bytes {
    let (list_kind, api_version) = match shown {
        As::Object | As::Yaml => (kind.list_kind.as_str(), kind.api_version()),
        As::Metadata => ("PartialObjectMetadataList", "meta.k8s.io/v1".to_owned()),
        As::Table(with) => return table::of_objects(kind, page, with, now),
    };
    let head = format!(
        "{{\"kind\":{},\"apiVersion\":{},\"metadata\":{},\"items\":[",
        json!(list_kind),
        json!(api_version),
        list_metadata(page),
    );
    let size: usize = page
        .items
        .iter()
        .map(|item| item.len().saturating_add(1))
        .sum();
    let mut body = Vec::with_capacity(size.saturating_add(head.len()).saturating_add(2));
    body.extend_from_slice(head.as_bytes());
    for (at, item) in page.items.iter().enumerate() {
        if at > 0 {
            body.push(b',');
        }
        if shown == As::Metadata {
            body.extend_from_slice(partial(item).to_string().as_bytes());
        } else if !kind.is_custom() {
            // Built-in kinds are typed: a list says once what all of its items are.
            body.extend_from_slice(untyped(item).to_string().as_bytes());
        } else {
            body.extend_from_slice(item);
        }
    }
    body.extend_from_slice(b"]}");
    body.into()
}

fn only(object: &Bytes) -> Page {
    let version = partial(object)
        .pointer("/metadata/resourceVersion")
        .and_then(Value::as_str)
        .and_then(|text| text.parse().ok());
    Page {
        items: vec![object.clone()],
        version: version.unwrap_or_default(),
        ..Page::default()
    }
}

fn yaml(body: &Bytes) -> Bytes {
    let value: Value = serde_json::from_slice(body).unwrap_or_default();
    // A tree of JSON values always has a text.
    Bytes::from(serde_saphyr::to_string(&value).unwrap_or_default())
}

/// An object as a watch shows it.
pub(super) fn watched(kind: &Kind, object: &Bytes, shown: As, first: bool, now: Millis) -> Bytes {
    match shown {
        As::Object | As::Yaml => object.clone(),
        As::Metadata => Bytes::from(partial(object).to_string()),
        As::Table(with) => table::of_change(kind, object, with, first, now),
    }
}
