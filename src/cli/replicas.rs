//! The running replicas, as the command line finds them: by data directory, or by admin URL.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use futures::future::join_all;
use http::{Method, Request, header};
use http_body_util::Full;

use super::{Environment, Failure, http as client};
use crate::{
    config::{self, ENV_PREFIX, SETTINGS, Value as _},
    ops::admin::{
        fleet::Status,
        token::{FileError, Token, URL_FILE},
    },
};

/// How long a replica may take to answer; it has the answer in memory.
const PATIENCE: Duration = Duration::from_secs(2);

/// Where replicas are looked for.
#[derive(clap::Args, Debug)]
pub(super) struct Place {
    /// Data directory of `dev` or of one replica: admin tokens and URLs lie there [default:
    /// .zen-fabric/dev] [env: `ZEN_FABRIC_DATA_DIR`]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Admin URL of a replica, when it is reached another way than the data directory says; may be
    /// given several times
    #[arg(long, value_name = "URL")]
    admin_url: Vec<String>,
}

/// Why nobody could be asked.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error(
        "no replica was started on {}: name its data directory with --data-dir, or its admin port with --admin-url",
        .0.display()
    )]
    None(PathBuf),
    #[error("no replica answers; the last one asked was {url}")]
    Silent {
        url: String,
        #[source]
        source: Box<client::Error>,
    },
    #[error("the replica at {url} does not answer within {PATIENCE:?}")]
    Mute { url: String },
    #[error("the replica at {url} answered {status}: {text}")]
    Refused {
        url: String,
        status: http::StatusCode,
        text: String,
    },
    #[error(
        "{url} is no replica: `zen-fabric dev --replicas 1` and cores have /fleet, others have not"
    )]
    NoReplica { url: String },
    #[error("find the token of the replica")]
    Token(#[from] FileError),
    #[error("build a request to {url}")]
    Request {
        url: String,
        #[source]
        source: http::Error,
    },
}

/// One that answers.
#[derive(Debug)]
pub(super) struct Replica {
    url: String,
    /// Where its token lies.
    dir: PathBuf,
    http: client::Client,
}

impl Place {
    /// The data directories of replicas.
    pub(super) fn dirs(&self, environment: &Environment) -> Result<Vec<PathBuf>, Failure> {
        let dir = match &self.data_dir {
            Some(dir) => dir.clone(),
            None => configured(environment)?,
        };
        let below = fs::read_dir(dir.join(config::CORES_DIR))
            .into_iter()
            .flatten();
        let mut dirs: Vec<PathBuf> = below
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.join(URL_FILE).exists())
            .collect();
        dirs.sort();
        if dirs.is_empty() {
            dirs.push(dir);
        }
        Ok(dirs)
    }
}

/// The variable, else the default: as a process itself finds it.
fn configured(environment: &Environment) -> Result<PathBuf, Failure> {
    let mut config = config::Config::default();
    let setting = SETTINGS.iter().find(|setting| setting.name == "data-dir");
    let variable = setting.map(config::Setting::variable);
    let told = environment
        .iter()
        .find(|(name, _)| Some(name) == variable.as_ref());
    if let Some((_, text)) = told {
        config
            .data_dir
            .set(text)
            .map_err(|message| Failure::usage(format!("{ENV_PREFIX}DATA_DIR: {message}")))?;
    }
    Ok(config.data_dir)
}

/// A duration as settings have it, such as `60s`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let mut duration = Duration::ZERO;
    duration.set(text)?;
    Ok(duration)
}

/// Every replica that answers, with what it says: at least one.
pub(super) async fn all(
    place: &Place,
    dirs: &[PathBuf],
) -> Result<Vec<(Replica, Status)>, Failure> {
    let mut asked = Vec::new();
    if place.admin_url.is_empty() {
        for dir in dirs {
            if let Ok(url) = fs::read_to_string(dir.join(URL_FILE)) {
                asked.push(Replica::new(url.trim(), dir)?);
            }
        }
    } else {
        let dir = dirs.first().cloned().unwrap_or_default();
        for url in &place.admin_url {
            asked.push(Replica::new(url, &dir)?);
        }
    }
    // All at once: one that is stopped holds up no other.
    let asking = asked.into_iter().map(|replica| async {
        let status = tokio::time::timeout(PATIENCE, replica.status()).await;
        let url = replica.url.clone();
        let status = status.unwrap_or_else(|_elapsed| Err(Error::Mute { url }));
        (replica, status)
    });
    let mut answers = Vec::new();
    let mut last = None;
    for (replica, status) in join_all(asking).await {
        match status {
            Ok(status) => answers.push((replica, status)),
            Err(error) => last = Some(error),
        }
    }
    match (answers.is_empty(), last) {
        (false, _) => Ok(answers),
        (true, Some(error)) => Err(error.into()),
        (true, None) => Err(Error::None(dirs.first().cloned().unwrap_or_default()).into()),
    }
}

impl Replica {
    fn new(url: &str, dir: &Path) -> Result<Self, Failure> {
        Ok(Self {
            url: url.trim_end_matches('/').to_owned(),
            dir: dir.to_owned(),
            http: client::Client::new(None)?,
        })
    }

    /// What it sees.
    pub(super) async fn status(&self) -> Result<Status, Error> {
        let body = self.ask(Method::GET, "/fleet", None).await?;
        serde_json::from_slice(&body).map_err(|_no_json| Error::NoReplica {
            url: self.url.clone(),
        })
    }

    /// Asks something of it, with its token.
    pub(super) async fn post(&self, path: &str) -> Result<(), Error> {
        let (token, _) = Token::read(&self.dir)?;
        self.ask(Method::POST, path, Some(token.bearer())).await?;
        Ok(())
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        bearer: Option<String>,
    ) -> Result<Bytes, Error> {
        let url = format!("{}{path}", self.url);
        let mut request = Request::builder().method(method).uri(&url);
        if let Some(bearer) = bearer {
            request = request.header(header::AUTHORIZATION, bearer);
        }
        let request = request
            .body(Full::new(Bytes::new()))
            .map_err(|source| Error::Request {
                url: url.clone(),
                source,
            })?;
        let sent = self.http.send(request).await;
        let answer = sent.map_err(|source| Error::Silent {
            url: url.clone(),
            source: Box::new(source),
        })?;
        let status = answer.status();
        if status == http::StatusCode::NOT_FOUND {
            return Err(Error::NoReplica { url });
        }
        let body = answer.into_body();
        if status.is_success() {
            return Ok(body);
        }
        let text = String::from_utf8_lossy(&body);
        let text = text.trim().chars().take(500).collect();
        Err(Error::Refused { url, status, text })
    }
}
