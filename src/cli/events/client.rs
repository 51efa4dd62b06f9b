//! The admin port's guarded part, as its caller sees it.

use std::path::Path;

use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::Full;
use serde::de::DeserializeOwned;

use crate::{
    cli::http::{self as client, TrustError},
    ops::admin::{
        token::{FileError, Token},
        wire::{Detail, Page, Problem, Replay, Replayed},
    },
};

/// Why the process could not be asked, or what it answered.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("find the running process by its data directory; name it with --data-dir")]
    DataDir(#[from] FileError),
    #[error(transparent)]
    Trust(#[from] TrustError),
    #[error("ask the running process; is it still running?")]
    Http(#[from] client::Error),
    #[error("build a request to {url}")]
    Request {
        url: String,
        #[source]
        source: http::Error,
    },
    #[error("{detail}")]
    Refused { status: StatusCode, detail: String },
    #[error("the admin server answered {status}: {text}")]
    Unexpected { status: StatusCode, text: String },
}

/// A client of one running process.
#[derive(Debug)]
pub(super) struct Client {
    http: client::Client,
    base: String,
    token: Token,
}

impl Client {
    pub(super) fn new(data_dir: &Path, url: Option<&str>) -> Result<Self, Error> {
        let (token, found) = Token::read(data_dir)?;
        let base = url.map_or(found, str::to_owned);
        Ok(Self {
            http: client::Client::new(None)?,
            base: base.trim_end_matches('/').to_owned(),
            token,
        })
    }

    pub(super) async fn list(&self, after: Option<&str>, limit: usize) -> Result<Page, Error> {
        let after = after.map(|after| format!("&after={after}"));
        let path = format!("/events?limit={limit}{}", after.unwrap_or_default());
        self.ask(Method::GET, &path, None).await
    }

    pub(super) async fn show(&self, id: &str) -> Result<Detail, Error> {
        self.ask(Method::GET, &format!("/events/{id}"), None).await
    }

    pub(super) async fn replay(&self, id: &str, force: bool) -> Result<Replayed, Error> {
        let path = format!("/events/{id}/replay");
        self.ask(Method::POST, &path, Some(Replay { force })).await
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<Replay>,
    ) -> Result<T, Error> {
        let url = format!("{}{path}", self.base);
        let body = body.map_or_else(Bytes::new, |replay| {
            Bytes::from(format!(r#"{{"force":{}}}"#, replay.force))
        });
        let request = Request::builder()
            .method(method)
            .uri(&url)
            .header(header::AUTHORIZATION, self.token.bearer())
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .map_err(|source| Error::Request { url, source })?;
        let answer = self.http.send(request).await?;
        let status = answer.status();
        let body = answer.into_body();
        if status.is_success()
            && let Ok(value) = serde_json::from_slice(&body)
        {
            return Ok(value);
        }
        if let Ok(problem) = serde_json::from_slice::<Problem>(&body) {
            return Err(Error::Refused {
                status,
                detail: problem.detail,
            });
        }
        let text = String::from_utf8_lossy(&body)
            .trim()
            .chars()
            .take(500)
            .collect();
        Err(Error::Unexpected { status, text })
    }
}
