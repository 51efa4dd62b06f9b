//! A wrong input of each kind, over both protocols: the documented status, a problem document,
//! nothing journaled.

use serde_json::json;

use super::{
    http2::{self, Sender},
    world::{Answer, SECRET, World, github, request, sign},
};

const BODY: &[u8] = br#"{"ref":"refs/heads/main"}"#;

const OURS: &str = "/hooks/team/github";

/// A request, and the status that it is answered with.
pub(super) struct Case {
    name: &'static str,
    status: u16,
    method: &'static str,
    path: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    over: Over,
}

/// The protocols in which it can be said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Over {
    Both,
    Http1,
}

impl Case {
    /// A correct request, but for what is changed then.
    fn new(name: &'static str, status: u16) -> Self {
        Self {
            name,
            status,
            method: "POST",
            path: OURS.to_owned(),
            headers: vec![("X-Hub-Signature-256".to_owned(), sign(SECRET, BODY))],
            body: BODY.to_vec(),
            over: Over::Both,
        }
    }

    fn at(mut self, path: &str) -> Self {
        path.clone_into(&mut self.path);
        self
    }

    fn by(mut self, method: &'static str) -> Self {
        self.method = method;
        self
    }

    fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    fn unsigned(mut self) -> Self {
        self.headers.clear();
        self
    }

    /// With that body, correctly signed.
    fn of(mut self, body: &[u8]) -> Self {
        self.headers = vec![("X-Hub-Signature-256".to_owned(), sign(SECRET, body))];
        self.body = body.to_vec();
        self
    }

    fn over(mut self, over: Over) -> Self {
        self.over = over;
        self
    }

    fn headers(&self) -> Vec<(&str, &str)> {
        let headers = self.headers.iter();
        headers
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect()
    }

    pub(super) fn http1(&self) -> Vec<u8> {
        request(self.method, &self.path, &self.headers(), &self.body)
    }

    pub(super) fn http2(&self) -> Option<http::Request<http_body_util::Full<bytes::Bytes>>> {
        let request = http2::request(self.method, &self.path, &self.headers(), &self.body);
        (self.over == Over::Both).then_some(request)
    }
}

/// One of each kind.
pub(super) fn cases() -> Vec<Case> {
    let new = Case::new;
    let good = sign(SECRET, BODY);
    let deep = [vec![b'['; 65], vec![b']'; 65]].concat();
    let many = (0..70).fold(new("many headers", 431), |case, n| {
        case.with(&format!("X-Number-{n}"), "1")
    });
    vec![
        new("unknown path", 404).at("/hooks/team/other"),
        new("wrong namespace", 404).at("/hooks/other/github"),
        new("outside of hooks", 404).at("/"),
        new("encoded path", 404).at("/hooks/team/git%68ub"),
        new("method", 405).by("PUT"),
        new("get", 405).by("GET").of(b"").unsigned(),
        new("media type", 415).with("Content-Type", "application/xml"),
        new("no media type", 415).with("Content-Type", "\0absent"),
        new("two media types", 415)
            .with("Content-Type", "application/json")
            .with("Content-Type", "text/plain"),
        new("encoding", 415).with("Content-Encoding", "gzip"),
        new("too large", 413).of(&[b'x'; 1025]),
        new("no signature", 401).unsigned(),
        new("wrong signature", 401)
            .unsigned()
            .with("X-Hub-Signature-256", &sign("wrong", BODY)),
        new("signature twice", 401).with("X-Hub-Signature-256", &good),
        new("no json", 400).of(b"{"),
        new("empty json", 400).of(b""),
        new("no utf-8", 400).of(b"\"\xff\""),
        new("too deep", 400).of(&deep),
        new("bad key", 400).with("Idempotency-Key", "a b"),
        new("key twice", 400)
            .with("Idempotency-Key", "a")
            .with("Idempotency-Key", "b"),
        new("two hosts", 400)
            .with("Host", "other")
            .over(Over::Http1),
        new("long target", 414).at(&format!("{OURS}?{}", "q".repeat(9_000))),
        new("long header", 431).with("X-Long", &"v".repeat(40_000)),
        many,
    ]
}

/// The usual Ingestor, with a limit that is soon reached.
pub(super) async fn strict(world: &World) -> zen_fabric::journal::IngestorUid {
    let webhook = json!({
        "auth": github()["auth"], "maxBodyBytes": 1024,
        "contentTypes": ["application/json", "text/plain"],
    });
    world
        .ingestor("github", webhook, |facts| facts.serving)
        .await
}

fn is_as_documented(case: &Case, answer: &Answer) {
    println!("{}: {}", case.name, answer.status);
    answer.is_problem(case.status);
    if case.status == 405 {
        assert_eq!(answer.header("allow"), Some("POST"));
    }
    if case.status == 401 {
        let detail = &answer.json()["detail"];
        assert_eq!(detail, "the request was not verified", "{}", case.name);
    }
    let nosniff = answer.header("x-content-type-options");
    assert_eq!(nosniff, Some("nosniff"), "{}", case.name);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_input_of_each_kind_is_refused_and_nothing_is_journaled() {
    let world = World::new().await;
    let uid = strict(&world).await;
    let before = world.counters("gateway_requests_total");
    let rejected = world.counters("gateway_rejected_total");
    let mut sent = 0;
    let mut sender = Sender::of(&world).await;
    for case in cases() {
        is_as_documented(&case, &world.raw(&case.http1()).await);
        sent += 1;
        if let Some(request) = case.http2() {
            is_as_documented(&case, &sender.send(request).await);
            sent += 1;
        }
    }
    assert_eq!(world.tally(&uid).requests, 0);
    assert_eq!(world.counters("gateway_requests_total"), before);
    assert_eq!(world.counters("gateway_rejected_total") - rejected, sent);
    assert_eq!(world.deliver("fine", BODY).await.status, 202);
    let fine = sender.send(http2::delivery("fine-too", BODY)).await;
    assert_eq!(fine.status, 202);
}
