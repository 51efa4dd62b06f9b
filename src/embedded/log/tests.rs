use std::fs;

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::{Value, json};
use tempfile::tempdir;

use super::*;
use crate::{
    embedded::store::{Action, At, Body, Limits, List, Request, Target, Write},
    journal::Millis,
};

fn at(entropy: u128) -> At {
    At {
        now: Millis(1_700_000_000_000),
        entropy,
    }
}

fn target(name: Option<&str>) -> Target {
    Target {
        version: "v1".to_owned(),
        plural: "configmaps".to_owned(),
        namespace: Some("default".to_owned()),
        name: name.map(str::to_owned),
        ..Target::default()
    }
}

fn create(store: &mut Store, name: &str, size: usize) -> Vec<Change> {
    let object = json!({"metadata": {"name": name}, "data": {"k": "x".repeat(size)}});
    let request = Request {
        target: target(None),
        action: Action::Create(object, Write::default()),
    };
    store.apply(&at(7), request).unwrap();
    store.take_changes()
}

fn names(store: &mut Store) -> Vec<String> {
    let request = Request {
        target: target(None),
        action: Action::List(List::default()),
    };
    let Body::List(page) = store.apply(&at(0), request).unwrap().body else {
        panic!("not a list");
    };
    let name = |item: &Bytes| {
        let value: Value = serde_json::from_slice(item).unwrap();
        value["metadata"]["name"].as_str().unwrap().to_owned()
    };
    page.items.iter().map(name).collect()
}

fn open(folder: &Path) -> (Opened, Store) {
    let mut store = Store::new(Limits::default());
    let (opened, revision) = Opened::open(folder, &mut store).unwrap();
    store.opened(&at(1), revision);
    store.prepare(&at(2));
    (opened, store)
}

#[test]
fn what_was_written_is_there_again_with_its_versions() {
    let folder = tempdir().unwrap();
    let (mut log, mut store) = open(folder.path());
    log.write(&store.take_changes()).unwrap();
    for name in ["a", "b", "c"] {
        log.write(&create(&mut store, name, 10)).unwrap();
    }
    let revision = store.revision();
    drop(log);
    let (_log, mut store) = open(folder.path());
    assert_eq!(names(&mut store), ["a", "b", "c"]);
    assert_eq!(store.revision(), revision);
    assert!(create(&mut store, "d", 1)[0].revision > revision);
}

#[test]
fn a_rewritten_file_holds_the_same_and_less() {
    let folder = tempdir().unwrap();
    let (mut log, mut store) = open(folder.path());
    let mut written = store.take_changes();
    for number in 0..50 {
        written.extend(create(&mut store, &format!("m{number}"), 100));
        if number > 0 {
            let request = Request {
                target: target(Some(&format!("m{}", number - 1))),
                action: Action::Delete(crate::embedded::store::Delete::default()),
            };
            store.apply(&at(3), request).unwrap();
            written.extend(store.take_changes());
        }
    }
    log.write(&written).unwrap();
    let before = log.size;
    assert!(log.rewrite(store.revision(), &store.snapshot()).unwrap());
    assert!(log.size < before / 4, "{} of {before}", log.size);
    log.write(&create(&mut store, "z", 1)).unwrap();
    let revision = store.revision();
    drop(log);
    let (_log, mut store) = open(folder.path());
    assert_eq!(names(&mut store), ["m49", "z"]);
    assert_eq!(store.revision(), revision);
}

#[test]
fn a_folder_is_of_one_process_at_a_time() {
    let folder = tempdir().unwrap();
    let (log, _store) = open(folder.path());
    let second = Opened::open(folder.path(), &mut Store::new(Limits::default()));
    assert!(matches!(
        second,
        Err(Error::Folder(OpenDirError::InUse { .. }))
    ));
    drop(log);
    open(folder.path());
}

#[test]
fn a_file_of_something_else_is_not_touched() {
    let folder = tempdir().unwrap();
    fs::write(folder.path().join(NAME), "someone else's").unwrap();
    let refused = Opened::open(folder.path(), &mut Store::new(Limits::default()));
    assert!(matches!(refused, Err(Error::Foreign(_))));
    let kept = fs::read_to_string(folder.path().join(NAME)).unwrap();
    assert_eq!(kept, "someone else's");
}

#[test]
fn damage_in_the_middle_costs_nothing_behind_it() {
    let folder = tempdir().unwrap();
    let (mut log, mut store) = open(folder.path());
    log.write(&store.take_changes()).unwrap();
    let from = usize::try_from(log.size).unwrap();
    for name in ["a", "b"] {
        log.write(&create(&mut store, name, 100)).unwrap();
    }
    let last = usize::try_from(log.size).unwrap();
    log.write(&create(&mut store, "c", 100)).unwrap();
    drop(log);
    let path = folder.path().join(NAME);
    let whole = fs::read(&path).unwrap();
    for at in (from + MARK_LENGTH..last).step_by(7) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        fs::write(&path, &bytes).unwrap();
        let refused = Opened::open(folder.path(), &mut Store::new(Limits::default()));
        let Err(error @ Error::Damaged { .. }) = refused else {
            panic!("{at}: {refused:?}");
        };
        assert!(error.to_string().contains(NAME), "{error}");
        assert_eq!(fs::read(&path).unwrap(), bytes, "nothing was touched");
    }
    // A snapshot that took its place is durable to its end.
    fs::write(&path, &whole).unwrap();
    let (mut log, store) = open(folder.path());
    assert!(log.rewrite(store.revision(), &store.snapshot()).unwrap());
    drop(log);
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    fs::write(&path, &bytes).unwrap();
    let refused = Opened::open(folder.path(), &mut Store::new(Limits::default()));
    assert!(matches!(refused, Err(Error::Damaged { .. })), "{refused:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// A crash leaves any prefix of what was not synced, followed by anything.
    #[test]
    fn a_torn_tail_costs_only_what_was_torn(cut in 0_usize..2000, garbage in proptest::collection::vec(any::<u8>(), 0..40)) {
        let folder = tempdir().unwrap();
        let (mut log, mut store) = open(folder.path());
        log.write(&store.take_changes()).unwrap();
        let mut ends = vec![log.size];
        for number in 0..5 {
            log.write(&create(&mut store, &format!("m{number}"), 100)).unwrap();
            ends.push(log.size);
        }
        drop(log);
        let path = folder.path().join(NAME);
        let mut bytes = fs::read(&path).unwrap();
        let first = usize::try_from(ends[0]).unwrap();
        let kept = first + cut % (bytes.len() - first + 1);
        bytes.truncate(kept);
        bytes.extend_from_slice(&garbage);
        fs::write(&path, &bytes).unwrap();
        let whole = ends.iter().skip(1).filter(|end| **end <= u64::try_from(kept).unwrap()).count();
        let (mut log, mut store) = open(folder.path());
        let expected: Vec<String> = (0..whole).map(|number| format!("m{number}")).collect();
        prop_assert_eq!(names(&mut store), expected.clone());
        // And it goes on from there.
        log.write(&create(&mut store, "next", 1)).unwrap();
        drop(log);
        let (_log, mut store) = open(folder.path());
        prop_assert_eq!(names(&mut store), [expected, vec!["next".to_owned()]].concat());
    }
}

#[test]
fn the_folder_s_files_are_their_owner_s_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempdir().unwrap();
    let data = folder.path().join("data");
    let _opened = open(&data);
    for name in ["", NAME, "lock"] {
        let mode = fs::metadata(data.join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{name}");
    }
}
