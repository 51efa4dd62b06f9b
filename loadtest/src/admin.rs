//! The process's tallies, over its admin port.

use std::{path::Path, time::Duration};

use http::{Request, header};
use http_body_util::{BodyExt as _, Empty};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use zen_fabric::{
    journal::Tally,
    ops::admin::{
        token::{FileError, Token},
        wire::Tallies,
    },
};

use crate::generator::now;

/// How often tallies are read while a backlog is waited for.
const ASK_EVERY: Duration = Duration::from_millis(20);

/// Why tallies could not be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("find the admin port by the data directory")]
    Token(#[from] FileError),
    #[error("ask the admin port")]
    Request(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("the admin port answered {0}")]
    Status(http::StatusCode),
    #[error("understand the tallies")]
    Parse(#[from] serde_json::Error),
    #[error("{backlog} events still have no end after {waited:?}")]
    Backlog { backlog: u64, waited: Duration },
}

/// A client of one process's admin port.
#[derive(Debug)]
pub(crate) struct Admin {
    http: Client<HttpConnector, Empty<&'static [u8]>>,
    url: String,
    bearer: String,
}

impl Admin {
    /// The process that runs on `data_dir`.
    pub(crate) fn of(data_dir: &Path) -> Result<Self, Error> {
        let (token, url) = Token::read(data_dir)?;
        Ok(Self {
            http: Client::builder(TokioExecutor::new()).build_http(),
            url: format!("{url}/tallies"),
            bearer: token.bearer(),
        })
    }

    /// Every tally.
    pub(crate) async fn tallies(&self) -> Result<Tallies, Error> {
        let request = Request::get(&self.url)
            .header(header::AUTHORIZATION, &self.bearer)
            .body(Empty::new())
            .map_err(|error| Error::Request(error.into()))?;
        let answer = self
            .http
            .request(request)
            .await
            .map_err(|error| Error::Request(error.into()))?;
        if !answer.status().is_success() {
            return Err(Error::Status(answer.status()));
        }
        let body = answer
            .into_body()
            .collect()
            .await
            .map_err(|error| Error::Request(error.into()))?;
        Ok(serde_json::from_slice(&body.to_bytes())?)
    }

    /// The tally of the Ingestor of this UID.
    pub(crate) async fn tally(&self, uid: &str) -> Result<Tally, Error> {
        let tallies = self.tallies().await?;
        Ok(tallies
            .items
            .into_iter()
            .find(|item| item.ingestor.uid == uid)
            .map(|item| item.tally)
            .unwrap_or_default())
    }

    /// Waits until every accepted event has an end.
    pub(crate) async fn drained(&self, patience: Duration) -> Result<Tallies, Error> {
        let begun = now();
        loop {
            let tallies = self.tallies().await?;
            let waited = now().saturating_duration_since(begun);
            let backlog = tallies.total.backlog;
            if backlog == 0 {
                return Ok(tallies);
            }
            if waited > patience {
                return Err(Error::Backlog { backlog, waited });
            }
            tokio::time::sleep(ASK_EVERY).await;
        }
    }
}

/// `accepted = ends + damaged + backlog`, or by how much it is not.
pub(crate) fn imbalance(tally: &Tally) -> i128 {
    let accepted = i128::from(tally.requests) + i128::from(tally.replays);
    let others = [
        tally.observed,
        tally.filtered,
        tally.deduplicated,
        tally.dead_lettered,
        tally.damaged,
        tally.backlog,
    ];
    accepted - others.into_iter().map(i128::from).sum::<i128>()
}
