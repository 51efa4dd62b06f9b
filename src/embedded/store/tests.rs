use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::journal::Millis;

fn at(entropy: u128) -> At {
    At {
        now: Millis(1_700_000_000_000),
        entropy,
    }
}

fn maps(name: Option<&str>) -> Target {
    Target {
        version: "v1".to_owned(),
        plural: "configmaps".to_owned(),
        namespace: Some("default".to_owned()),
        name: name.map(str::to_owned),
        ..Target::default()
    }
}

fn store(limits: Limits) -> Store {
    let mut store = Store::new(limits);
    store.prepare(&at(1));
    store
}

fn create(store: &mut Store, name: &str) -> Result<Answer, Refusal> {
    let object = json!({"metadata": {"name": name, "labels": {"n": name}}, "data": {"v": "0"}});
    let request = Request {
        target: maps(None),
        action: Action::Create(object, Write::default()),
    };
    store.apply(&at(2), request)
}

fn patch(store: &mut Store, name: &str, change: Value) -> Result<Answer, Refusal> {
    let request = Request {
        target: maps(Some(name)),
        action: Action::Patch(crate::embedded::Patch::Merge(change), Write::default()),
    };
    store.apply(&at(3), request)
}

fn delete(store: &mut Store, name: &str) -> Result<Answer, Refusal> {
    let request = Request {
        target: maps(Some(name)),
        action: Action::Delete(Delete::default()),
    };
    store.apply(&at(4), request)
}

fn page(store: &mut Store, list: List) -> Result<Page, Refusal> {
    let request = Request {
        target: maps(None),
        action: Action::List(list),
    };
    match store.apply(&at(5), request)?.body {
        Body::List(page) => Ok(page),
        other => panic!("{other:?}"),
    }
}

fn name(object: &Bytes) -> String {
    let value: Value = serde_json::from_slice(object).unwrap();
    value["metadata"]["name"].as_str().unwrap().to_owned()
}

fn value(object: &Bytes) -> Value {
    serde_json::from_slice(object).unwrap()
}

#[test]
fn the_same_requests_at_the_same_moments_give_the_same_store() {
    let run = || {
        let mut store = store(Limits::default());
        create(&mut store, "a").unwrap();
        patch(&mut store, "a", json!({"data": {"v": "1"}})).unwrap();
        store
            .take_changes()
            .into_iter()
            .map(|change| (change.revision, change.key, change.object))
            .collect::<Vec<_>>()
    };
    assert_eq!(run(), run());
}

#[test]
fn a_write_that_changes_nothing_makes_no_version() {
    let mut store = store(Limits::default());
    create(&mut store, "a").unwrap();
    let before = store.revision();
    patch(&mut store, "a", json!({"data": {"v": "0"}})).unwrap();
    assert_eq!(store.revision(), before);
    patch(&mut store, "a", json!({"data": {"v": "1"}})).unwrap();
    assert_eq!(store.revision(), before + 1);
}

#[test]
fn a_history_that_has_moved_on_is_told_410() {
    let limits = Limits {
        events: 4,
        bytes: usize::MAX,
    };
    let mut store = store(limits);
    let start = store.revision();
    for number in 0..6 {
        create(&mut store, &format!("m{number}")).unwrap();
    }
    let watch = store.watch(&maps(None), "", "").unwrap();
    let late = store.changes(&watch, start, u64::MAX, 10).unwrap_err();
    assert_eq!((late.code, late.reason), (410, "Expired"));
    let (seen, upto) = store.changes(&watch, start + 2, u64::MAX, 10).unwrap();
    assert_eq!((seen.len(), upto), (4, store.revision()));

    let first = page(
        &mut store,
        List {
            limit: 2,
            ..List::default()
        },
    )
    .unwrap();
    for number in 6..12 {
        create(&mut store, &format!("m{number}")).unwrap();
    }
    let next = List {
        limit: 2,
        token: first.next,
        ..List::default()
    };
    assert_eq!(page(&mut store, next).unwrap_err().code, 410);
}

#[test]
fn a_history_is_bounded_in_bytes_too() {
    let limits = Limits {
        events: usize::MAX,
        bytes: 4096,
    };
    let mut store = store(limits);
    for number in 0..100 {
        create(&mut store, &format!("m{number}")).unwrap();
    }
    let watch = store.watch(&maps(None), "", "").unwrap();
    let floor = store.shelves["configmaps"].floor();
    let (seen, _) = store.changes(&watch, floor, u64::MAX, 1000).unwrap();
    assert!(!seen.is_empty() && seen.len() < 12, "{}", seen.len());
}

#[test]
fn a_watch_by_label_sees_objects_come_and_go() {
    let mut store = store(Limits::default());
    create(&mut store, "a").unwrap();
    let watch = store.watch(&maps(None), "n=a", "").unwrap();
    let from = store.revision();
    patch(&mut store, "a", json!({"metadata": {"labels": {"n": "b"}}})).unwrap();
    patch(&mut store, "a", json!({"data": {"v": "1"}})).unwrap();
    patch(&mut store, "a", json!({"metadata": {"labels": {"n": "a"}}})).unwrap();
    delete(&mut store, "a").unwrap();
    let (seen, _) = store.changes(&watch, from, u64::MAX, 10).unwrap();
    let whats: Vec<_> = seen.iter().map(|one| one.what).collect();
    assert_eq!(whats, [What::Deleted, What::Added, What::Deleted]);
    let left = value(&seen[0].object);
    assert_eq!(
        left["metadata"]["labels"]["n"], "a",
        "as it was when it was selected"
    );
    assert_eq!(left["metadata"]["resourceVersion"], (from + 1).to_string());
}

#[test]
fn versions_of_a_kind_show_the_same_objects() {
    let schema = json!({"openAPIV3Schema": {"type": "object", "properties": {
        "spec": {"type": "object", "properties": {"a": {"type": "string", "default": "x"}}}}}});
    let mut store = store(Limits::default());
    let crd = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "things.test.zen.io"},
        "spec": {"group": "test.zen.io", "scope": "Cluster",
            "names": {"plural": "things", "kind": "Thing"},
            "versions": [
                {"name": "v1beta1", "served": true, "storage": false, "schema": schema},
                {"name": "v1", "served": true, "storage": true, "schema": schema}]}});
    let target = |version: &str, plural: &str, group: &str, name: Option<&str>| Target {
        group: group.to_owned(),
        version: version.to_owned(),
        plural: plural.to_owned(),
        name: name.map(str::to_owned),
        ..Target::default()
    };
    let definition = Request {
        target: target(
            "v1",
            "customresourcedefinitions",
            "apiextensions.k8s.io",
            None,
        ),
        action: Action::Create(crd, Write::default()),
    };
    store.apply(&at(1), definition).unwrap();
    let thing = json!({"apiVersion": "test.zen.io/v1beta1", "kind": "Thing",
        "metadata": {"name": "t"}, "spec": {}});
    let beta = Request {
        target: target("v1beta1", "things", "test.zen.io", None),
        action: Action::Create(thing, Write::default()),
    };
    let get = |version: &str| Request {
        target: target(version, "things", "test.zen.io", Some("t")),
        action: Action::Get(None),
    };
    let shown = |answer: Answer| match answer.body {
        Body::Object(object) => value(&object),
        other => panic!("{other:?}"),
    };
    assert_eq!(
        shown(store.apply(&at(2), beta).unwrap())["apiVersion"],
        "test.zen.io/v1beta1"
    );
    let stable = shown(store.apply(&at(3), get("v1")).unwrap());
    assert_eq!(stable["apiVersion"], "test.zen.io/v1");
    assert_eq!(stable["spec"]["a"], "x");
    let beta = shown(store.apply(&at(3), get("v1beta1")).unwrap());
    assert_eq!(beta["metadata"], stable["metadata"]);
}

#[test]
fn events_go_an_hour_after_they_were_last_touched() {
    let mut store = store(Limits::default());
    let minutes = |minutes: i64| At {
        now: Millis(at(1).now.0 + minutes * 60_000),
        entropy: 1,
    };
    let events = |name: Option<&str>| Target {
        plural: "events".to_owned(),
        ..maps(name)
    };
    let event = |name: &str| json!({"metadata": {"name": name}, "involvedObject": {"namespace": "default"}});
    let mut make = |at: At, name: &str| {
        let request = Request {
            target: events(None),
            action: Action::Create(event(name), Write::default()),
        };
        store.apply(&at, request).unwrap();
        store.shelves["events"]
            .range("", "")
            .map(|(key, _)| key.to_owned())
            .collect::<Vec<_>>()
    };
    make(minutes(0), "a");
    make(minutes(30), "b");
    assert_eq!(
        make(minutes(59), "c"),
        ["default/a", "default/b", "default/c"]
    );
    assert_eq!(
        make(minutes(61), "d"),
        ["default/b", "default/c", "default/d"]
    );
    let touch = Request {
        target: events(Some("b")),
        action: Action::Patch(
            crate::embedded::Patch::Merge(json!({"count": 2})),
            Write::default(),
        ),
    };
    store.apply(&minutes(80), touch).unwrap();
    let request = Request {
        target: events(None),
        action: Action::Create(event("e"), Write::default()),
    };
    store.apply(&minutes(125), request).unwrap();
    let left: Vec<_> = store.shelves["events"]
        .range("", "")
        .map(|(key, _)| key)
        .collect();
    assert_eq!(left, ["default/b", "default/e"]);
}

#[derive(Clone, Debug)]
enum Step {
    Create(u8),
    Patch(u8, u8),
    Delete(u8),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (0..6_u8).prop_map(Step::Create),
        (0..6_u8, 0..4_u8).prop_map(|(name, value)| Step::Patch(name, value)),
        (0..6_u8).prop_map(Step::Delete),
    ];
    proptest::collection::vec(step, 1..60)
}

fn act(store: &mut Store, step: &Step) {
    // Whether it is refused is not the question here.
    drop(match step {
        Step::Create(name) => create(store, &format!("m{name}")),
        Step::Patch(name, value) => patch(
            store,
            &format!("m{name}"),
            json!({"data": {"v": value.to_string()}}),
        ),
        Step::Delete(name) => delete(store, &format!("m{name}")),
    });
}

fn objects(store: &mut Store, as_of: AsOf) -> BTreeMap<String, Bytes> {
    let list = List {
        as_of,
        ..List::default()
    };
    let page = page(store, list).unwrap();
    page.items
        .into_iter()
        .map(|item| (name(&item), item))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Whoever lists and then watches ends with what is in the store, from whichever moment on.
    #[test]
    fn a_list_and_the_changes_since_give_the_present(steps in steps(), from in 0_usize..60) {
        let mut store = store(Limits::default());
        let from = from % (steps.len() + 1);
        for step in &steps[..from] {
            act(&mut store, step);
        }
        let mut known = objects(&mut store, AsOf::Newest);
        let mut cursor = store.revision();
        let watch = store.watch(&maps(None), "", "").unwrap();
        for step in &steps[from..] {
            act(&mut store, step);
        }
        loop {
            let (seen, upto) = store.changes(&watch, cursor, u64::MAX, 3).unwrap();
            if seen.is_empty() {
                break;
            }
            for one in seen {
                let name = name(&one.object);
                match one.what {
                    What::Added => prop_assert!(known.insert(name, one.object).is_none()),
                    What::Modified => prop_assert!(known.insert(name, one.object).is_some()),
                    What::Deleted => prop_assert!(known.remove(&name).is_some()),
                }
            }
            cursor = upto;
        }
        prop_assert_eq!(known, objects(&mut store, AsOf::Newest));
    }

    /// A list as of a version is what a list then gave.
    #[test]
    fn the_past_can_be_listed(steps in steps()) {
        let mut store = store(Limits::default());
        let mut moments = vec![(store.revision(), objects(&mut store, AsOf::Newest))];
        for step in &steps {
            act(&mut store, step);
            moments.push((store.revision(), objects(&mut store, AsOf::Newest)));
        }
        for (version, then) in moments {
            prop_assert_eq!(objects(&mut store, AsOf::Exactly(version)), then);
        }
    }

    /// A store that takes in the changes of another is like it.
    #[test]
    fn changes_make_the_same_store_again(steps in steps()) {
        let mut store = store(Limits::default());
        for step in &steps {
            act(&mut store, step);
        }
        let (mut again, mut whole) = (Store::new(Limits::default()), Store::new(Limits::default()));
        for change in store.take_changes() {
            again.restore(change);
        }
        for change in store.snapshot() {
            whole.restore(change);
        }
        for copy in [&mut again, &mut whole] {
            copy.opened(&at(9), store.revision());
            prop_assert_eq!(objects(copy, AsOf::Newest), objects(&mut store, AsOf::Newest));
            prop_assert_eq!(copy.revision(), store.revision());
        }
    }
}
