use std::time::Duration;

use serde_json::Value as Json;

use super::{flags::Flags, *};
use crate::api::crds;

fn env(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

fn problems(pairs: &[(&str, &str)], flags: &Flags) -> Vec<String> {
    Loaded::of(env(pairs), flags)
        .err()
        .map(|invalid| invalid.0)
        .unwrap_or_default()
        .into_iter()
        .map(|problem| problem.place)
        .collect()
}

#[test]
fn a_flag_beats_the_environment_which_beats_the_default() {
    let flags = Flags::default().with("gateway-port", "3");
    let loaded = Loaded::of(
        env(&[
            ("ZEN_FABRIC_GATEWAY_PORT", "2"),
            ("ZEN_FABRIC_ADMIN_PORT", "4"),
            ("PATH", "/bin"),
        ]),
        &flags,
    )
    .unwrap();
    assert_eq!(loaded.config.gateway.port, 3);
    assert_eq!(loaded.config.admin.port, 4);
    let origin = |name: &str| {
        let all = loaded.effective();
        all.iter().find(|e| e.name == name).unwrap().origin
    };
    assert_eq!(origin("gateway-port"), Origin::Flag);
    assert_eq!(origin("admin-port"), Origin::Environment);
    assert_eq!(origin("api-port"), Origin::Default);
}

#[test]
fn every_problem_is_reported_at_once_and_by_name() {
    let flags = Flags::default()
        .with("header-timeout", "soon")
        .with("journal-total-bytes", "8GB");
    let found = problems(
        &[
            ("ZEN_FABRIC_ADMIN_PORT", "70000"),
            ("ZEN_FABRIC_GATWAY_PORT", "80"),
            ("ZEN_FABRIC_DRAIN_TIMEOUT", "50s"),
        ],
        &flags,
    );
    assert_eq!(
        found,
        [
            "--header-timeout",
            "ZEN_FABRIC_ADMIN_PORT",
            "--journal-total-bytes",
            "ZEN_FABRIC_GATWAY_PORT",
            "drain-timeout, grace-period",
        ]
    );
}

#[test]
fn relations_that_do_not_hold_are_refused() {
    let cases: &[(&[(&'static str, &str)], &str)] = &[
        (
            &[("body-timeout", "15s")],
            "body-timeout + max-wait, drain-timeout",
        ),
        (&[("drain-timeout", "40s")], "drain-timeout, grace-period"),
        (&[("tls-cert", "a.pem")], "tls-cert, tls-key"),
        (&[("gateway-bind", "0.0.0.0")], "gateway-bind"),
        (&[("install-crds", "true")], "install-crds"),
        (
            &[("kubeconfig", "k"), ("api-port", "0")],
            "api-port, kubeconfig",
        ),
        (
            &[("journal-share-bytes", "9GiB")],
            "journal-share-bytes, journal-total-bytes",
        ),
        (
            &[
                ("journal-segment-bytes", "1GiB"),
                ("journal-total-bytes", "7GiB"),
            ],
            "journal-segment-bytes, journal-total-bytes",
        ),
        (
            &[
                ("journal-segment-bytes", "2GiB"),
                ("journal-total-bytes", "16GiB"),
            ],
            "journal-segment-bytes",
        ),
        (&[("journal-keys", "67108865")], "journal-keys"),
        (
            &[("journal-letter-bytes", "5GiB")],
            "journal-letter-bytes, journal-total-bytes",
        ),
        (&[("max-body-bytes", "26MiB")], "max-body-bytes"),
        (
            &[("journal-segment-bytes", "16MiB")],
            "max-body-bytes, journal-segment-bytes",
        ),
        (
            &[("journal-share-bytes", "16MiB")],
            "max-body-bytes, journal-share-bytes",
        ),
        (&[("public-url", "https://user:pass@host")], "public-url"),
        (&[("public-url", "host")], "public-url"),
        (&[("otlp-endpoint", "grpc://host:4317")], "otlp-endpoint"),
        (&[("otlp-sample-ratio", "NaN")], "otlp-sample-ratio"),
        (&[("log-filter", "a=b=c=d")], "log-filter"),
        (&[("admin-port", "8080")], "gateway-port, admin-port"),
        (&[("api-port", "8080")], "gateway-port, api-port"),
        (&[("api-port", "8081")], "admin-port, api-port"),
        (
            &[
                ("gateway-bind", "::"),
                ("allow-plain-http", "true"),
                ("gateway-port", "8082"),
            ],
            "gateway-port, api-port",
        ),
        (
            &[("admin-bind", "0.0.0.0"), ("admin-port", "8080")],
            "gateway-port, admin-port",
        ),
        (&[("header-timeout", "0s")], "header-timeout"),
        (&[("idle-timeout", "0s")], "idle-timeout"),
        (&[("idle-timeout", "4s")], "header-timeout, idle-timeout"),
        (&[("max-headers", "0")], "max-headers"),
        (&[("max-headers", "101")], "max-headers"),
        (&[("max-header-bytes", "1023")], "max-header-bytes"),
        (&[("max-header-bytes", "65KiB")], "max-header-bytes"),
        (&[("max-waiters", "18446744073709551615")], "max-waiters"),
        (&[("max-streams", "0")], "max-streams"),
    ];
    for (flags, place) in cases {
        let flags = flags.iter().fold(Flags::default(), |all, (name, value)| {
            all.with(name, *value)
        });
        assert_eq!(problems(&[], &flags), [*place], "{flags:?}");
    }
}

#[test]
fn sockets_on_different_addresses_may_have_one_port() {
    let flags = Flags::default()
        .with("gateway-bind", "127.0.0.2")
        .with("gateway-port", "8081");
    assert!(problems(&[], &flags).is_empty());
    let cluster = Flags::default()
        .with("kubeconfig", "k")
        .with("gateway-port", "8082");
    assert!(problems(&[], &cluster).is_empty(), "it has no embedded API");
}

#[test]
fn a_collector_may_stand_behind_tls() {
    for url in ["http://collector:4317", "https://collector.example:4317"] {
        let flags = Flags::default().with("otlp-endpoint", url);
        assert!(problems(&[], &flags).is_empty(), "{url}");
    }
}

#[test]
fn plain_http_for_others_needs_to_be_asked_for() {
    let open = Flags::default().with("gateway-bind", "::");
    assert_eq!(problems(&[], &open), ["gateway-bind"]);
    let asked = open.with("allow-plain-http", "true");
    assert!(problems(&[], &asked).is_empty());
}

#[test]
fn running_without_fdatasync_takes_a_variable_that_says_what_it_does() {
    for short in ["off", "none", "unsafe", "false"] {
        assert_eq!(
            problems(&[("ZEN_FABRIC_JOURNAL_SYNC", short)], &Flags::default()),
            ["ZEN_FABRIC_JOURNAL_SYNC"]
        );
    }
    let whole = env(&[(
        "ZEN_FABRIC_JOURNAL_SYNC",
        "unsafe-no-fdatasync-loses-acknowledged-events",
    )]);
    let loaded = Loaded::of(whole, &Flags::default()).unwrap();
    assert_eq!(loaded.config.journal.sync, SyncMode::UnsafeNoSync);
}

#[test]
fn what_is_shown_can_be_given_again() {
    let mut shown = Config::default();
    for setting in SETTINGS {
        let text = (setting.place)(&mut shown).show();
        if text.is_empty() {
            continue;
        }
        let mut again = Config::default();
        (setting.place)(&mut again).set(&text).unwrap();
        assert_eq!((setting.place)(&mut again).show(), text, "{}", setting.name);
    }
}

#[test]
fn names_are_unique() {
    let mut names: Vec<&str> = SETTINGS.iter().map(|setting| setting.name).collect();
    names.sort_unstable();
    let all = names.len();
    names.dedup();
    assert_eq!(names.len(), all);
}

#[test]
fn secrets_are_shown_nowhere() {
    let flags = Flags::default().with("otlp-endpoint", "http://collector:4317");
    let secret = env(&[("ZEN_FABRIC_OTLP_HEADERS", "authorization=hunter2")]);
    assert_eq!(
        problems(
            &[("ZEN_FABRIC_OTLP_HEADERS", "authorization=hunter2")],
            &Flags::default()
        ),
        ["otlp-headers"]
    );
    let loaded = Loaded::of(secret, &flags).unwrap();
    let shown = format!("{loaded:?} {:?}", loaded.effective());
    assert!(!shown.contains("hunter2"));
    assert!(shown.contains("(hidden)"));
}

#[test]
fn durations_and_sizes_are_read_with_their_unit() {
    let mut time = Duration::ZERO;
    for (text, want) in [
        ("250ms", 250),
        ("5s", 5000),
        ("2m", 120_000),
        ("7d", 604_800_000),
    ] {
        time.set(text).unwrap();
        assert_eq!(time, Duration::from_millis(want));
        assert_eq!(time.show(), text);
    }
    for wrong in [
        "",
        "5",
        "s",
        "-5s",
        "5 s",
        "1.5s",
        "99999999999999999999s",
        "18446744073709551615d",
    ] {
        assert!(time.set(wrong).is_err(), "{wrong}");
    }
    let mut size = Bytes(0);
    for (text, want) in [("10", 10), ("32KiB", 32 << 10), ("8GiB", 8 << 30)] {
        size.set(text).unwrap();
        assert_eq!(size, Bytes(want));
        assert_eq!(size.show(), text);
    }
    for wrong in ["", "8GB", "8 GiB", "-1", "99999999TiB", "KiB"] {
        assert!(size.set(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn each_role_has_its_flags_and_no_others() {
    use clap::{Args as _, Command};
    fn flags<const ROLE: u8>() -> Vec<String> {
        let command = flags::Of::<ROLE>::augment_args(Command::new("it"));
        let longs = command.get_arguments().filter_map(|arg| arg.get_long());
        longs.map(str::to_owned).collect()
    }
    let (dev, gateway, core) = (
        flags::<DEV_ROLE>(),
        flags::<GATEWAY_ROLE>(),
        flags::<CORE_ROLE>(),
    );
    let has = |flags: &[String], name: &str| flags.iter().any(|flag| flag == name);
    for (name, expected) in [
        ("data-dir", [true, true, true]),
        ("fleet", [true, true, true]),
        ("replicas", [true, false, false]),
        ("api-port", [true, false, false]),
        ("gateway-port", [true, true, false]),
        ("journal-port", [false, true, false]),
        ("sweep-interval", [true, false, true]),
        ("pod-name", [false, false, true]),
        ("gateways", [false, false, true]),
        ("peer-ca", [false, true, true]),
    ] {
        let found = [&dev, &gateway, &core].map(|flags| has(flags, name));
        assert_eq!(found, expected, "{name}");
    }
    for setting in SETTINGS.iter().filter(|setting| setting.flag) {
        let name = setting.name;
        let somebody = has(&dev, name) || has(&gateway, name) || has(&core, name);
        assert!(somebody, "{name} is nobody's");
    }
}

#[test]
fn what_a_role_can_not_be_without_is_named() {
    let missing = |role, flags: &Flags| -> Vec<String> {
        let problems = Loaded::of_role(role, env(&[]), flags).err();
        let problems = problems.map(|invalid| invalid.0).unwrap_or_default();
        problems.into_iter().map(|problem| problem.place).collect()
    };
    let none = Flags::default();
    assert_eq!(missing(Roles::DEV, &none), Vec::<String>::new());
    assert_eq!(
        missing(Roles::GATEWAY, &none),
        ["data-dir", "peer-ca", "peer-cert", "peer-key"]
    );
    let some = Flags::default()
        .with("data-dir", "d")
        .with("peer-ca", "a")
        .with("peer-cert", "b")
        .with("peer-key", "c");
    assert_eq!(missing(Roles::GATEWAY, &some), Vec::<String>::new());
    assert_eq!(
        missing(Roles::CORE, &some),
        ["pod-name", "pod-uid", "gateways"]
    );
    let all = some
        .with("pod-name", "core-0")
        .with("pod-uid", "u")
        .with("gateways", "gateway:8084");
    assert_eq!(missing(Roles::CORE, &all), Vec::<String>::new());
    let everywhere = all.clone().with("peer-bind", "0.0.0.0");
    assert_eq!(missing(Roles::CORE, &everywhere), ["peer-address"]);
    let told = everywhere.with("peer-address", "10.0.0.7:8083");
    assert_eq!(missing(Roles::CORE, &told), Vec::<String>::new());
    let hasty = all.with("grace-period", "35s").with("drain-timeout", "30s");
    assert_eq!(
        missing(Roles::CORE, &hasty),
        ["what a drain takes, 3/4 of grace-period"]
    );
}

#[test]
fn names_of_the_fleet_are_names_of_objects() {
    let cases: &[(&'static str, &str, bool)] = &[
        ("fleet", "zen", true),
        ("fleet", "Zen", false),
        ("fleet", "", false),
        ("zone", "eu-west-1a", true),
        ("zone", "eu_west", false),
        ("pod-name", "core-0#1", false),
        ("weight", "0", false),
        ("pod-name", "core..0", false),
        ("pod-name", "core.-0", false),
        ("weight", "1", true),
        ("weight", "10000", true),
        ("weight", "10001", false),
        ("worker-threads", "0", false),
        ("worker-threads", "1", true),
        ("worker-threads", "1024", true),
        ("worker-threads", "1025", false),
        ("replicas", "0", false),
        ("replicas", "26", false),
        ("gateways", "a:1, b:2", true),
        ("gateways", "a:1,b", false),
        ("peer-address", "core-0.core:8083", true),
        ("peer-address", "core-0.core", false),
    ];
    for (name, value, right) in cases {
        let flags = Flags::default().with(name, *value);
        let found = problems(&[], &flags);
        let expected: &[&str] = if *right { &[] } else { &[name] };
        assert_eq!(found, expected, "{name}={value}");
    }
    // A Lease has the fleet's name and the pod's.
    for (length, right) in [(182, true), (183, false), (254, false)] {
        let flags = Flags::default()
            .with("fleet", "f".repeat(63))
            .with("pod-name", "p".repeat(length));
        assert_eq!(problems(&[], &flags).is_empty(), right, "{length}");
    }
}

#[test]
fn what_flags_let_through_the_map_has_a_place_for() {
    let weights = [0, 1, 100, 10_000, 10_001];
    let pods = ["core-0", "a.b", "a..b", "a.-b", "A", "a_b", "core-0#1"];
    let crds = serde_json::to_value(crds()).unwrap();
    let mut all = crds.as_array().unwrap().iter();
    let map = all.find(|crd| crd["spec"]["names"]["kind"] == "ShardMap");
    let member = &map.unwrap()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
        ["properties"]["members"]["items"]["properties"];
    let pattern = regex::Regex::new(member["name"]["pattern"].as_str().unwrap()).unwrap();
    let bound = |of: &Json| of.as_f64().unwrap();
    let weighs = bound(&member["weight"]["minimum"])..=bound(&member["weight"]["maximum"]);
    let fits = |name: &str, weight: u32| pattern.is_match(name) && weighs.contains(&weight.into());
    for weight in weights {
        let flags = Flags::default().with("weight", weight.to_string());
        assert_eq!(
            problems(&[], &flags).is_empty(),
            fits("core-0", weight),
            "{weight}"
        );
    }
    for pod in pods {
        let flags = Flags::default().with("pod-name", pod);
        assert_eq!(problems(&[], &flags).is_empty(), fits(pod, 100), "{pod}");
    }
}

#[test]
fn a_child_is_told_by_flags_what_its_parent_was_told_by_flags() {
    let flags = Flags::default()
        .with("status-writes-per-second", "5")
        .with("gateway-port", "0")
        .with("core-dumps", "true");
    let pairs = [("ZEN_FABRIC_SWEEP_INTERVAL", "30s")];
    let loaded = Loaded::of(env(&pairs), &flags).unwrap();
    let mut told = loaded.flags(Roles::CORE);
    told.sort();
    // The environment it has anyway; ready file and data directory are its own.
    assert_eq!(told, ["--core-dumps=true", "--status-writes-per-second=5"]);
}

#[test]
fn variables_that_kubernetes_makes_of_services_are_none_of_ours() {
    let pairs = [
        ("ZEN_FABRIC_GATEWAY_PORT", "tcp://10.0.0.1:8084"),
        ("ZEN_FABRIC_GATEWAY_SERVICE_HOST", "10.0.0.1"),
        ("ZEN_FABRIC_GATEWAY_SERVICE_PORT", "8084"),
        ("ZEN_FABRIC_GATEWAY_SERVICE_PORT_JOURNAL", "8084"),
        ("ZEN_FABRIC_GATEWAY_PORT_8084_TCP", "tcp://10.0.0.1:8084"),
        ("ZEN_FABRIC_GATEWAY_PORT_8084_TCP_PROTO", "tcp"),
        ("ZEN_FABRIC_GATEWAY_PORT_8084_TCP_ADDR", "10.0.0.1"),
    ];
    let loaded = Loaded::of(env(&pairs), &Flags::default()).unwrap();
    assert_eq!(loaded.config.gateway.port, Config::default().gateway.port);
    assert_eq!(
        problems(&[("ZEN_FABRIC_GATEWAY_PROT", "1")], &Flags::default()),
        ["ZEN_FABRIC_GATEWAY_PROT"]
    );
}
