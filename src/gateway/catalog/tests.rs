//! Scenarios of the catalog: what is applied, and what is then served.

use secrecy::SecretSlice;
use serde_json::json;

use super::*;
use crate::{
    api::SpecDigest,
    gateway::{problem::Kind, routes::State},
    journal::facts::{Facts, Refusal, SecretState},
};

fn ingestor(name: &str, created: &str, patch: &serde_json::Value) -> Ingestor {
    let mut value = json!({
        "apiVersion": "zen.watcher.io/v1", "kind": "Ingestor",
        "metadata": {
            "name": name, "namespace": "team", "uid": format!("uid-{name}"),
            "generation": 1, "creationTimestamp": created,
        },
        "spec": {
            "source": { "webhook": { "auth": [{ "github": { "secretRef": { "name": "hook" } } }] } },
            "normalize": {
                "category": { "value": "security" }, "severity": { "value": "info" },
                "eventType": { "value": "x" },
            },
        },
    });
    json_merge(&mut value, patch);
    serde_json::from_value(value).unwrap()
}

fn json_merge(into: &mut serde_json::Value, patch: &serde_json::Value) {
    match (into, patch) {
        (serde_json::Value::Object(into), serde_json::Value::Object(patch)) => {
            for (key, value) in patch {
                json_merge(into.entry(key.clone()).or_insert(json!(null)), value);
            }
        }
        (into, patch) => *into = patch.clone(),
    }
}

fn plain(name: &str, created: &str) -> Ingestor {
    ingestor(name, created, &json!({}))
}

fn found(ingestor: Ingestor) -> Found {
    Found {
        ingestor,
        in_force: None,
    }
}

fn listing(found: Found) -> Listing {
    Listing {
        found: vec![found],
        ..Listing::default()
    }
}

fn values(secret: &str) -> SecretRead {
    let bytes = Arc::new(SecretSlice::from(secret.as_bytes().to_vec()));
    SecretRead::Values([("key".to_owned(), bytes)].into())
}

fn hook() -> Name {
    ("team".to_owned(), "hook".to_owned())
}

/// A catalog that is in sync, knows the namespace and the Secret, and answers puts at once.
struct World {
    catalog: Catalog,
    table: Table,
    facts: HashMap<IngestorUid, Facts>,
    forgotten: Vec<IngestorUid>,
    /// Secrets that the last inputs made the catalog ask for.
    unread: BTreeSet<Name>,
    puts: usize,
}

impl World {
    fn new() -> Self {
        let mut world = Self {
            catalog: Catalog::new("https://hooks.example.test/", &[]),
            table: Table::default(),
            facts: HashMap::new(),
            forgotten: Vec::new(),
            unread: BTreeSet::new(),
            puts: 0,
        };
        world.apply(Input::NamespacesListed(vec![(
            "team".into(),
            "ns-uid".into(),
        )]));
        world.apply(Input::IngestorsListed(Listing::default()));
        world
    }

    fn with_secret() -> Self {
        let mut world = Self::new();
        world.apply(Input::IngestorApplied(found(plain(
            "first",
            "2026-01-01T00:00:00Z",
        ))));
        world.apply(Input::Secret(hook(), values("a long secret")));
        world
    }

    fn apply(&mut self, input: Input) {
        self.catalog.apply(input);
        self.settle();
    }

    fn settle(&mut self) {
        self.unread.clear();
        loop {
            let mut settled = self.catalog.settle();
            self.unread.append(&mut settled.unread);
            if let Some(table) = settled.table {
                self.table = table;
            }
            for (uid, facts) in settled.facts {
                match facts {
                    Some(facts) => self.facts.insert(uid, facts),
                    None => self.facts.remove(&uid),
                };
            }
            if settled.actions.is_empty() {
                return;
            }
            for action in settled.actions {
                match action {
                    Action::Forget { ingestor, .. } => self.forgotten.push(ingestor),
                    Action::PutSpec { ingestor, text } => {
                        self.puts += 1;
                        let put = Some(SpecDigest::of(&text));
                        self.catalog.apply(Input::SpecPut { ingestor, put });
                    }
                }
            }
        }
    }

    fn serves(&self, path: &str) -> Result<String, Kind> {
        let route = self.table.find(&format!("/hooks/team/{path}"))?;
        match &route.state {
            State::Open { .. } => Ok(route.ingestor.to_string()),
            State::Closed(kind) => Err(*kind),
        }
    }

    fn facts(&self, name: &str) -> &Facts {
        &self.facts[&IngestorUid(format!("uid-{name}").into())]
    }
}

#[test]
fn an_ingestor_serves_once_its_secret_and_its_spec_are_there() {
    let mut world = World::new();
    world.apply(Input::IngestorApplied(found(plain(
        "first",
        "2026-01-01T00:00:00Z",
    ))));
    assert_eq!(world.serves("first"), Err(Kind::NotInSync));
    assert_eq!(world.catalog.waiting(), Some("Secrets are being read"));
    world.apply(Input::Secret(hook(), values("a long secret")));
    assert_eq!(world.serves("first"), Ok("uid-first".into()));
    assert_eq!(world.catalog.waiting(), None);
    let facts = world.facts("first");
    assert!(facts.serving);
    let endpoint = "https://hooks.example.test/hooks/team/first";
    assert_eq!(facts.endpoint.as_deref(), Some(endpoint));
}

#[test]
fn before_everything_is_read_an_unknown_path_is_not_called_unknown() {
    let mut catalog = Catalog::new("http://x", &[]);
    assert!(catalog.settle().table.is_none());
    assert_eq!(
        Table::default().find("/hooks/a/b").unwrap_err(),
        Kind::NotInSync
    );
    catalog.apply(Input::IngestorsListed(Listing::default()));
    let table = catalog.settle().table.unwrap();
    assert_eq!(table.find("/hooks/a/b").unwrap_err(), Kind::NotFound);
}

#[test]
fn a_missing_or_forbidden_or_empty_secret_closes_the_endpoint() {
    for (read, state) in [
        (
            SecretRead::Missing,
            SecretState::Missing {
                name: "hook".into(),
            },
        ),
        (
            SecretRead::Forbidden,
            SecretState::Forbidden {
                name: "hook".into(),
            },
        ),
        (
            values(""),
            SecretState::Missing {
                name: "hook".into(),
            },
        ),
    ] {
        let mut world = World::with_secret();
        world.apply(Input::Secret(hook(), read));
        assert_eq!(world.serves("first"), Err(Kind::Closed));
        assert_eq!(world.facts("first").secret, state);
        world.apply(Input::Secret(hook(), values("another secret")));
        assert!(world.serves("first").is_ok());
    }
}

#[test]
fn values_that_no_request_can_be_signed_with_are_told() {
    let read = |values: &[&str]| {
        let values = values.iter().enumerate().map(|(n, value)| {
            let bytes = Arc::new(SecretSlice::from(value.as_bytes().to_vec()));
            (format!("key-{n}"), bytes)
        });
        SecretRead::Values(values.collect())
    };
    let mut world = World::with_secret();
    for (values, unused) in [
        (vec!["a good secret", "short", ""], 2),
        (vec!["a good secret"; 20], 4),
        (vec!["a good secret", "another good one"], 0),
    ] {
        world.apply(Input::Secret(hook(), read(&values)));
        assert!(world.serves("first").is_ok());
        let told = world.facts("first").unused.first();
        assert_eq!(told.map_or(0, |unused| unused.values), unused);
        assert!(told.is_none_or(|unused| unused.secret == "hook"));
    }
    let scheme = json!({ "spec": { "source": { "webhook": {
        "auth": [{ "standardWebhooks": { "secretRef": { "name": "hook" } } }],
    } } } });
    let standard = ingestor("first", "2026-01-01T00:00:00Z", &scheme);
    world.apply(Input::IngestorApplied(found(standard)));
    let secrets = [
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "not base64 at all",
    ];
    world.apply(Input::Secret(hook(), read(&secrets)));
    assert_eq!(world.facts("first").unused[0].values, 1);
}

#[test]
fn the_oldest_has_the_path_and_it_passes_on_when_it_goes() {
    let mut world = World::with_secret();
    let on_path = |name: &str, created: &str| {
        let patch = json!({ "spec": { "source": { "webhook": { "path": "shared" } } } });
        found(ingestor(name, created, &patch))
    };
    world.apply(Input::IngestorApplied(on_path(
        "young",
        "2026-01-03T00:00:00Z",
    )));
    world.apply(Input::IngestorApplied(on_path(
        "old",
        "2026-01-02T00:00:00Z",
    )));
    assert_eq!(world.serves("shared"), Ok("uid-old".into()));
    assert!(!world.facts("young").serving);
    assert_eq!(world.facts("young").endpoint, None);
    world.apply(Input::IngestorDeleted(("team".into(), "old".into())));
    assert_eq!(world.serves("shared"), Ok("uid-young".into()));
    assert_eq!(world.forgotten, [IngestorUid("uid-old".into())]);
}

#[test]
fn a_disabled_one_is_unknown_and_keeps_its_path() {
    let mut world = World::with_secret();
    let disabled = ingestor(
        "first",
        "2026-01-01T00:00:00Z",
        &json!({ "spec": { "enabled": false } }),
    );
    let other = json!({ "spec": { "source": { "webhook": { "path": "first" } } } });
    world.apply(Input::IngestorApplied(found(disabled)));
    world.apply(Input::IngestorApplied(found(ingestor(
        "other",
        "2026-01-02T00:00:00Z",
        &other,
    ))));
    assert_eq!(world.serves("first"), Err(Kind::NotFound));
    // What the status makes of exactly this is tested there.
    let expected = Facts {
        endpoint: Some("https://hooks.example.test/hooks/team/first".into()),
        ..Facts::default()
    };
    assert_eq!(world.facts("first"), &expected);
}

#[test]
fn a_spec_that_does_not_compile_leaves_the_last_one_in_force() {
    let bad = json!({ "spec": { "filters": [{ "name": "f", "keepIf": "body." }] } });
    let mut world = World::with_secret();
    world.apply(Input::IngestorApplied(found(ingestor(
        "first",
        "2026-01-01T00:00:00Z",
        &bad,
    ))));
    assert!(world.serves("first").is_ok());
    assert!(
        matches!(&world.facts("first").refused, Some(Refusal::Expression(why)) if why.contains("filters"))
    );
    world.apply(Input::IngestorApplied(found(plain(
        "first",
        "2026-01-01T00:00:00Z",
    ))));
    assert_eq!(world.facts("first").refused, None);
    assert_eq!(world.puts, 1);

    world.apply(Input::IngestorApplied(found(ingestor(
        "new",
        "2026-01-01T00:00:00Z",
        &bad,
    ))));
    assert_eq!(world.serves("new"), Err(Kind::Closed));
}

#[test]
fn after_a_restart_the_recorded_spec_is_in_force_and_is_not_put_again() {
    let plain = plain("first", "2026-01-01T00:00:00Z");
    let text: Arc<str> = crate::api::DecisionSpec::of(&plain, "ns-uid")
        .to_text()
        .unwrap()
        .into();
    let in_force = Some(SpecText {
        digest: SpecDigest::of(&text),
        text,
    });
    let mut world = World::new();
    world.apply(Input::IngestorApplied(Found {
        ingestor: plain,
        in_force,
    }));
    world.apply(Input::Secret(hook(), values("a long secret")));
    assert!(world.serves("first").is_ok());
    assert_eq!(world.puts, 0);
}

#[test]
fn a_journal_that_fails_is_asked_again() {
    let mut world = World::with_secret();
    world.catalog.apply(Input::IngestorApplied(found(ingestor(
        "b",
        "2026-01-01T00:00:00Z",
        &json!({}),
    ))));
    let asked = |settled: &Settled| {
        settled
            .actions
            .iter()
            .any(|a| matches!(a, Action::PutSpec { .. }))
    };
    assert!(asked(&world.catalog.settle()));
    assert_eq!(
        world.catalog.waiting(),
        Some("decision specs are being recorded")
    );
    let ingestor = IngestorUid("uid-b".into());
    world.catalog.apply(Input::SpecPut {
        ingestor,
        put: None,
    });
    assert!(asked(&world.catalog.settle()));
}

fn made_anew() -> Found {
    let uid = json!({ "metadata": { "uid": "uid-again" } });
    found(ingestor("first", "2026-02-01T00:00:00Z", &uid))
}

fn first() -> Name {
    ("team".to_owned(), "first".to_owned())
}

#[test]
fn a_generation_is_served_once_the_journal_has_its_spec() {
    let mut world = World::with_secret();
    let first = |extra: &serde_json::Value| {
        Input::IngestorApplied(found(ingestor("first", "2026-01-01T00:00:00Z", extra)))
    };
    world.apply(first(&json!({})));
    assert_eq!(world.facts("first").generation, Some(1));
    let edited = json!({
        "metadata": { "generation": 2 },
        "spec": { "normalize": { "eventType": { "value": "another" } } },
    });
    world.catalog.apply(first(&edited));
    let settled = world.catalog.settle();
    let [Action::PutSpec { ingestor, text }] = &*settled.actions else {
        panic!("{:?}", settled.actions);
    };
    let told = settled.facts.into_iter().find_map(|(_, facts)| facts);
    assert!(told.is_none_or(|facts| facts.generation == Some(1) && facts.serving));
    world.apply(Input::SpecPut {
        ingestor: ingestor.clone(),
        put: Some(SpecDigest::of(text)),
    });
    assert_eq!(world.facts("first").generation, Some(2));
    // What decides nothing is served at once.
    let faster = json!({
        "metadata": { "generation": 3 },
        "spec": {
            "normalize": { "eventType": { "value": "another" } },
            "output": { "observation": { "maxPerMinute": 60 } },
        },
    });
    world.apply(first(&faster));
    assert_eq!(world.facts("first").generation, Some(3));
}

#[test]
fn one_made_anew_under_the_same_name_is_another_and_needs_no_new_read() {
    let mut world = World::with_secret();
    world.apply(Input::IngestorsListed(listing(made_anew())));
    assert_eq!(world.serves("first"), Ok("uid-again".into()));
    assert_eq!(world.forgotten, [IngestorUid("uid-first".into())]);
    assert_eq!(world.unread, [].into());
}

#[test]
fn a_secret_that_changed_while_nobody_named_it_is_read_anew() {
    let mut world = World::with_secret();
    world.catalog.apply(Input::IngestorDeleted(first()));
    world
        .catalog
        .apply(Input::Secret(hook(), values("the next secret")));
    world.apply(Input::IngestorApplied(made_anew()));
    assert_eq!(world.serves("first"), Err(Kind::NotInSync));
    assert_eq!(world.unread, [hook()].into());

    let mut world = World::with_secret();
    world.catalog.apply(Input::IngestorDeleted(first()));
    let all = BTreeMap::from([("hook".to_owned(), values("the next secret"))]);
    world
        .catalog
        .apply(Input::SecretsListed("team".into(), all));
    world.apply(Input::IngestorApplied(made_anew()));
    assert_eq!(world.serves("first"), Err(Kind::NotInSync));
    assert_eq!(world.unread, [hook()].into());
}

#[test]
fn an_ingestor_that_is_listed_again_keeps_its_secret() {
    let mut world = World::with_secret();
    let again = found(plain("first", "2026-01-01T00:00:00Z"));
    world.apply(Input::IngestorsListed(listing(again)));
    assert_eq!(world.serves("first"), Ok("uid-first".into()));
    assert_eq!(world.unread, [].into());
}

#[test]
fn a_secret_that_the_namespaces_watch_has_passed_over_is_asked_for() {
    let mut world = World::new();
    let names: Vec<String> = (0..10).map(|n| format!("n{n}")).collect();
    let with_secret = |name: &str| {
        let auth = json!([{ "github": { "secretRef": { "name": name } } }]);
        let patch = json!({ "spec": { "source": { "webhook": { "auth": auth } } } });
        found(ingestor(name, "2026-01-01T00:00:00Z", &patch))
    };
    let read = || names.iter().map(|name| (name.clone(), values("a secret")));
    for name in &names[..9] {
        world.apply(Input::IngestorApplied(with_secret(name)));
    }
    let watches = world.catalog.watches();
    assert_eq!(watches.len(), 1);
    world.apply(Input::SecretsListed("team".into(), read().collect()));
    assert_eq!(world.serves("n8"), Ok("uid-n8".into()));

    world.apply(Input::IngestorApplied(with_secret("n9")));
    let tenth = ("team".to_owned(), "n9".to_owned());
    assert_eq!(world.serves("n9"), Err(Kind::NotInSync));
    assert_eq!(world.unread, [tenth.clone()].into());
    assert_eq!(world.catalog.watches(), watches);
    assert_eq!(BTreeSet::from([world.catalog.watch_of(&tenth)]), watches);
    world.apply(Input::SecretsListed("team".into(), read().collect()));
    assert_eq!(world.serves("n9"), Ok("uid-n9".into()));
    assert_eq!(world.unread, [].into());
}

fn unreadable(uid: &str) -> Unreadable {
    Unreadable {
        name: first(),
        uid: IngestorUid(uid.into()),
    }
}

fn only_unreadable(uid: &str) -> Input {
    Input::IngestorsListed(Listing {
        found: Vec::new(),
        unreadable: vec![unreadable(uid)],
    })
}

#[test]
fn one_that_can_not_be_read_goes_on_as_it_was() {
    let mut world = World::with_secret();
    let uid = IngestorUid("uid-first".into());
    for input in [
        Input::IngestorUnreadable(unreadable("uid-first")),
        only_unreadable("uid-first"),
    ] {
        world.apply(input);
        assert_eq!(world.serves("first"), Ok("uid-first".into()));
        assert!(world.catalog.knows(&uid));
    }
    assert_eq!(world.forgotten, []);
    // Made anew it is another, readable or not.
    world.apply(only_unreadable("uid-again"));
    assert_eq!(world.serves("first"), Err(Kind::NotFound));
    assert_eq!(world.forgotten, [uid]);
}

#[test]
fn one_that_could_never_be_read_is_known_and_forgotten_when_it_goes() {
    let uid = IngestorUid("uid-strange".into());
    let mut world = World::new();
    world.apply(only_unreadable("uid-strange"));
    assert!(world.catalog.knows(&uid));
    world.apply(Input::IngestorsListed(Listing::default()));
    assert!(!world.catalog.knows(&uid));
    assert_eq!(world.forgotten, std::slice::from_ref(&uid));

    world.apply(only_unreadable("uid-strange"));
    world.apply(Input::IngestorApplied(made_anew()));
    assert_eq!(world.forgotten, [uid.clone(), uid]);
}

#[test]
fn what_the_journal_did_not_forget_is_asked_for_again_unless_it_lives() {
    let mut world = World::with_secret();
    let failed = |uid: &str| Input::NotForgotten {
        ingestor: IngestorUid(uid.into()),
        attempt: 3,
    };
    world.catalog.apply(failed("uid-gone"));
    world.catalog.apply(failed("uid-first"));
    let again = Action::Forget {
        ingestor: IngestorUid("uid-gone".into()),
        attempt: 3,
    };
    assert_eq!(world.catalog.settle().actions, [again]);
    assert_eq!(world.catalog.settle().actions, []);
}

#[test]
fn a_configuration_that_can_not_be_served_serves_nothing() {
    let bad = json!({ "spec": { "source": { "webhook": { "allowedCIDRs": ["10.0.0.0/33"] } } } });
    let mut world = World::with_secret();
    world.apply(Input::IngestorApplied(found(ingestor(
        "bad",
        "2026-01-01T00:00:00Z",
        &bad,
    ))));
    assert_eq!(world.serves("bad"), Err(Kind::NotFound));
    assert!(
        matches!(&world.facts("bad").refused, Some(Refusal::Configuration(why)) if why.contains("allowedCIDRs"))
    );
}

#[test]
fn a_secret_that_nobody_references_any_more_is_wiped() {
    let mut world = World::with_secret();
    world.apply(Input::IngestorDeleted(("team".into(), "first".into())));
    assert!(world.catalog.secrets.is_empty());
    assert!(world.catalog.watches().is_empty());
    world.apply(Input::Secret(hook(), values("a long secret")));
    assert!(world.catalog.secrets.is_empty());
}
