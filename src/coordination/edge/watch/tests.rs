use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

use prometheus::Registry;
use serde_json::json;

use super::*;
use crate::coordination::port::{Record, Stored};

/// Answers in turn; the paths that were asked for.
#[derive(Clone, Default)]
struct Script {
    answers: Arc<Mutex<VecDeque<(u16, String)>>>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Script {
    fn of(answers: impl IntoIterator<Item = (u16, String)>) -> Self {
        let script = Self::default();
        script.answers.lock().unwrap().extend(answers);
        script
    }

    fn client(&self) -> Client {
        let script = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let script = script.clone();
            async move {
                let path = request.uri().to_string();
                script.asked.lock().unwrap().push(path);
                let next = script.answers.lock().unwrap().pop_front();
                let Some((status, body)) = next else {
                    return std::future::pending().await;
                };
                let response = Response::builder().status(status);
                let body = Body::from(body.into_bytes());
                Ok::<_, tower::BoxError>(response.body(body).unwrap())
            }
        });
        Client::new(service, "default")
    }
}

fn place() -> Place {
    Place {
        namespace: "ns".into(),
        release: "zen".into(),
        owned: false,
    }
}

fn lease(name: &str, version: &str) -> Value {
    json!({"metadata": {"name": name, "resourceVersion": version, "uid": "u"}, "spec": {}})
}

fn list(version: &str, next: &str, items: &[Value]) -> (u16, String) {
    let metadata = json!({"resourceVersion": version, "continue": next});
    (
        200,
        json!({"metadata": metadata, "items": items}).to_string(),
    )
}

fn events(of: &[(&str, Value)]) -> (u16, String) {
    let lines = of.iter().map(|(kind, object)| {
        let mut line = json!({"type": kind, "object": object}).to_string();
        line.push('\n');
        line
    });
    (200, lines.collect())
}

/// What a watch tells, in a few words, until the script is at its end.
async fn told(kind: Kind, script: &Script) -> Vec<String> {
    let (inputs, mut heard) = mpsc::channel(64);
    let watch = Watch {
        kind,
        client: script.client(),
        place: place(),
        inputs,
        metrics: Metrics::register(&Registry::new()).unwrap(),
    };
    let stop = CancellationToken::new();
    let done = async {
        while !script
            .answers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_empty()
        {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        // Time stands still but for sleeps: the last answer is taken in by then.
        tokio::time::sleep(Duration::from_secs(2)).await;
        stop.cancel();
    };
    tokio::join!(watch.run(stop.clone()), done);
    let mut all = Vec::new();
    while let Ok(input) = heard.try_recv() {
        all.push(match input {
            Input::Current => "current".to_owned(),
            Input::Seen { object, stored } => {
                let version = stored.map(|stored: Stored| {
                    assert!(matches!(stored.record, Record::Malformed(_)));
                    stored.resource_version
                });
                format!("{object:?} {}", version.as_deref().unwrap_or("gone"))
            }
            other => panic!("{other:?}"),
        });
    }
    all
}

#[tokio::test(start_paused = true)]
async fn it_lists_in_pages_and_goes_on_where_it_broke_off() {
    let script = Script::of([
        list(
            "10",
            "a b",
            &[lease("zen-leader", "1"), lease("other-leader", "2")],
        ),
        list("10", "", &[lease("zen-member-core-0", "3")]),
        events(&[
            ("MODIFIED", lease("zen-leader", "11")),
            ("ADDED", lease("foreign", "12")),
            ("BOOKMARK", json!({"metadata": {"resourceVersion": "20"}})),
            ("DELETED", lease("zen-member-core-0", "21")),
        ]),
        (500, String::new()),
        events(&[("MODIFIED", lease("zen-leader", "30"))]),
    ]);
    let all = told(Kind::Leases, &script).await;
    let expected = [
        "Leader 1",
        "Member(core-0) 3",
        "Leader 11",
        "Member(core-0) gone",
        "Leader 30",
    ];
    assert_eq!(all, expected);
    let asked = script.asked.lock().unwrap().clone();
    assert!(asked[1].ends_with("&continue=a%20b"), "{}", asked[1]);
    let versions: Vec<_> = asked
        .iter()
        .filter_map(|path| path.split("resourceVersion=").nth(1)?.split('&').next())
        .collect();
    assert_eq!(versions, ["10", "21", "21", "30"]);
}

#[tokio::test(start_paused = true)]
async fn what_was_forgotten_is_listed_anew_and_what_is_missing_is_gone() {
    let expired = json!({"kind": "Status", "code": 410, "reason": "Expired"});
    let before = [lease("zen-leader", "1"), lease("zen-member-core-0", "2")];
    let script = Script::of([
        list("10", "", &before),
        events(&[("ERROR", expired)]),
        list("90", "", &[lease("zen-leader", "80")]),
        (410, String::new()),
        list("95", "", &[lease("zen-leader", "80")]),
    ]);
    let all = told(Kind::Leases, &script).await;
    let expected = [
        "Leader 1",
        "Member(core-0) 2",
        "Leader 80",
        "Member(core-0) gone",
        "Leader 80",
    ];
    assert_eq!(all, expected);
}

#[tokio::test(start_paused = true)]
async fn what_can_not_be_read_ends_the_watch_and_not_the_process() {
    let script = Script::of([
        (200, "<html>".to_owned()),
        (200, "{}".to_owned()),
        list("10", "", &[]),
        (200, "not json\n".to_owned()),
        // Behind what it can't understand nothing is known: it lists anew.
        list("10", "", &[]),
        events(&[("SURPRISE", lease("zen-leader", "11"))]),
        list("10", "", &[]),
        // One that shows nothing is asked again after a moment.
        (200, String::new()),
        events(&[
            ("ADDED", json!("no object")),
            ("ADDED", lease("zen-leader", "12")),
        ]),
    ]);
    assert_eq!(told(Kind::Leases, &script).await, ["Leader 12"]);
}

#[tokio::test(start_paused = true)]
async fn the_map_s_absence_is_told_and_bookmarks_confirm_the_view() {
    let script = Script::of([
        list("10", "", &[]),
        events(&[
            ("ADDED", lease("zen", "11")),
            ("BOOKMARK", json!({"metadata": {"resourceVersion": "20"}})),
            ("DELETED", lease("zen", "21")),
        ]),
    ]);
    let all = told(Kind::Map, &script).await;
    assert_eq!(
        all,
        ["Map gone", "current", "Map 11", "current", "Map gone"]
    );
    assert!(script.asked.lock().unwrap()[0].contains("fieldSelector=metadata.name%3Dzen"));
}
