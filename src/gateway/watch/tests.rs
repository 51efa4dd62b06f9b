//! How long a changed Secret takes to get here, in paused time: two seconds is what users are told.

use std::{
    io,
    sync::{Mutex, MutexGuard},
};

use bytes::Bytes;
use futures::stream::{self, BoxStream};
use http::{Request, Response};
use http_body_util::StreamBody;
use hyper::body::Frame;
use k8s_openapi::ByteString;
use kube::client::Body;
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};

use super::*;
use crate::ops::tasks::Tasks;

/// What users are told.
const PROMISED: Duration = Duration::from_secs(2);

/// What the server takes for an answer; three of them fit beside the waits.
const ANSWER: Duration = Duration::from_millis(100);

/// An API server with one Secret, whose value is the number of its changes.
#[derive(Clone)]
struct Server(Arc<Mutex<State>>);

struct State {
    mode: Mode,
    version: u64,
    /// Watches from before this version are told that it is gone.
    oldest: u64,
    /// Ends the watches that are open.
    breaks: CancellationToken,
    asked: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Serves,
    Refuses,
    Away,
}

type Content = StreamBody<BoxStream<'static, io::Result<Frame<Bytes>>>>;

/// What an outage leaves of the versions from before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum History {
    Kept,
    Compacted,
}

impl Server {
    fn new(mode: Mode) -> Self {
        Self(Arc::new(Mutex::new(State {
            mode,
            version: 1,
            oldest: 1,
            breaks: CancellationToken::new(),
            asked: 0,
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    fn goes_away(&self) {
        let mut state = self.state();
        state.mode = Mode::Away;
        std::mem::take(&mut state.breaks).cancel();
    }

    /// It serves (again), and the Secret changes at once.
    fn serves_a_change(&self, history: History) -> u64 {
        let mut state = self.state();
        state.mode = Mode::Serves;
        state.version += 1;
        if history == History::Compacted {
            state.oldest = state.version;
        }
        state.version
    }

    fn client(&self) -> Client {
        let server = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let server = server.clone();
            async move {
                tokio::time::sleep(ANSWER).await;
                server.answer(request.uri().query().unwrap_or_default())
            }
        });
        Client::new(service, "default")
    }

    fn answer(&self, query: &str) -> io::Result<Response<Content>> {
        let mut state = self.state();
        state.asked += 1;
        match state.mode {
            Mode::Away => return Err(io::Error::other("away")),
            Mode::Refuses => {
                let body = json!({
                    "kind": "Status", "apiVersion": "v1", "status": "Failure",
                    "reason": "Forbidden", "message": "no", "code": 403,
                });
                return Ok(whole(403, &body));
            }
            Mode::Serves => {}
        }
        let version = state.version;
        if !query.contains("watch=true") {
            let list = json!({
                "kind": "SecretList", "apiVersion": "v1",
                "metadata": { "resourceVersion": version.to_string() },
                "items": [secret(version)],
            });
            return Ok(whole(200, &list));
        }
        let from = query
            .split('&')
            .find_map(|part| part.strip_prefix("resourceVersion="));
        let from: u64 = from.unwrap().parse().unwrap();
        let event = (from < version).then(|| {
            let event = if from < state.oldest {
                json!({ "type": "ERROR", "object": {
                    "kind": "Status", "status": "Failure", "reason": "Expired",
                    "message": "too old", "code": 410,
                } })
            } else {
                json!({ "type": "MODIFIED", "object": secret(version) })
            };
            Ok(Frame::data(Bytes::from(format!("{event}\n"))))
        });
        let broken = state.breaks.clone().cancelled_owned();
        let end = stream::once(async move {
            broken.await;
            Err(io::Error::other("broken off"))
        });
        Ok(response(200, stream::iter(event).chain(end).boxed()))
    }
}

fn whole(status: u16, body: &Value) -> Response<Content> {
    let frame = Frame::data(Bytes::from(body.to_string()));
    response(status, stream::iter([Ok(frame)]).boxed())
}

fn response(
    status: u16,
    frames: BoxStream<'static, io::Result<Frame<Bytes>>>,
) -> Response<Content> {
    let response = Response::builder().status(status);
    let response = response.header("content-type", "application/json");
    response.body(StreamBody::new(frames)).unwrap()
}

fn value(version: u64) -> String {
    format!("secret number {version}")
}

fn secret(version: u64) -> Value {
    json!({
        "kind": "Secret", "apiVersion": "v1",
        "metadata": {
            "name": "hook", "namespace": "team", "uid": "u",
            "resourceVersion": version.to_string(),
        },
        "data": { "key": ByteString(value(version).into_bytes()) },
    })
}

/// A watch of that Secret, and where its inputs come.
struct Watched {
    server: Server,
    inputs: mpsc::Receiver<Input>,
    again: Arc<Notify>,
    tasks: Tasks,
}

impl Watched {
    fn new(mode: Mode) -> Self {
        let server = Server::new(mode);
        let (sender, inputs) = mpsc::channel(16);
        let (again, tasks) = (Arc::new(Notify::new()), Tasks::new());
        let key = WatchKey {
            namespace: "team".to_owned(),
            name: Some("hook".to_owned()),
        };
        let told = Arc::clone(&again);
        let watching = secrets(server.client(), key, sender, tasks.token(), told);
        tasks.spawn("watch", watching);
        Self {
            server,
            inputs,
            again,
            tasks,
        }
    }

    /// Waits for the value of a version for as long as users are told.
    async fn is_live(&mut self, version: u64, what: &str) {
        let wanted = value(version);
        let looking = async {
            while let Some(input) = self.inputs.recv().await {
                if let Input::Secret(_, SecretRead::Values(values)) = input
                    && values["key"].expose_secret() == wanted.as_bytes()
                {
                    return;
                }
            }
        };
        let looked = tokio::time::timeout(PROMISED, looking).await;
        assert!(looked.is_ok(), "version {version} is not live: {what}");
    }

    /// Time passes; what comes meanwhile is taken.
    async fn passes(&mut self, time: Duration) {
        let taking = async { while self.inputs.recv().await.is_some() {} };
        assert!(tokio::time::timeout(time, taking).await.is_err());
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.tasks.token().cancel();
    }
}

/// Moments at which an outage or a refusal may end, in every phase of the waits.
fn moments() -> impl Iterator<Item = Duration> {
    let early = (0..80).map(|n| Duration::from_millis(n * 37));
    early.chain((0..40).map(|n| Duration::from_secs(60) + Duration::from_millis(n * 53)))
}

#[tokio::test(start_paused = true)]
async fn after_an_outage_a_change_is_live_within_what_is_promised() {
    for history in [History::Kept, History::Compacted] {
        for outage in moments() {
            let mut watched = Watched::new(Mode::Serves);
            watched.is_live(1, "at the start").await;
            watched.passes(Duration::from_secs(5)).await;
            watched.server.goes_away();
            watched.passes(outage).await;
            let version = watched.server.serves_a_change(history);
            watched
                .is_live(version, &format!("{history:?} after {outage:?}"))
                .await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_refusal_a_granted_secret_is_live_within_what_is_promised() {
    for refused in moments() {
        let mut watched = Watched::new(Mode::Refuses);
        watched.passes(refused).await;
        let version = watched.server.serves_a_change(History::Kept);
        watched
            .is_live(version, &format!("after {refused:?}"))
            .await;
    }
}

#[tokio::test(start_paused = true)]
async fn who_may_not_read_a_secret_asks_for_it_about_once_a_second() {
    let mut watched = Watched::new(Mode::Refuses);
    watched.passes(Duration::from_mins(1)).await;
    let asked = watched.server.state().asked;
    assert!((40..=62).contains(&asked), "{asked} times in a minute");
}

#[tokio::test(start_paused = true)]
async fn told_to_list_anew_it_does_within_what_is_promised() {
    let mut watched = Watched::new(Mode::Serves);
    watched.is_live(1, "at the start").await;
    for _ in 0..10 {
        watched.again.notify_one();
        watched.is_live(1, "listed again").await;
    }
}
