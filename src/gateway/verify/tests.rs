//! Cases made with the providers' own SDKs, and properties of the parsers.

use std::collections::HashSet;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::HeaderMap;
use proptest::prelude::*;
use secrecy::SecretSlice;
use serde::Deserialize;
use serde_json::{Value, json};

use super::*;

#[derive(Deserialize)]
struct File {
    scheme: String,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    id: String,
    expect: String,
    reason: Option<String>,
    #[serde(default)]
    config: serde_json::Map<String, Value>,
    now: i64,
    headers: Vec<(String, String)>,
    body_b64: String,
    secrets: Vec<String>,
    group: Option<String>,
}

fn secret(text: &str) -> SecretBytes {
    Arc::new(SecretSlice::from(text.as_bytes().to_vec()))
}

fn headers(pairs: &[(String, String)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.append(
            HeaderName::from_bytes(name.as_bytes()).unwrap(),
            HeaderValue::from_bytes(value.as_bytes()).unwrap(),
        );
    }
    headers
}

fn auth(scheme: &str, config: &serde_json::Map<String, Value>) -> Auth {
    let mut entry = config.clone();
    entry.insert("secretRef".to_owned(), json!({ "name": "s" }));
    serde_json::from_value(json!({ scheme: entry })).unwrap()
}

fn run(text: &str) -> usize {
    let file: File = serde_json::from_str(text).unwrap();
    let mut seen = HashSet::new();
    for case in &file.cases {
        let secrets: Vec<_> = case.secrets.iter().map(|text| secret(text)).collect();
        let body = STANDARD.decode(&case.body_b64).unwrap();
        let headers = headers(&case.headers);
        let message = Message {
            headers: &headers,
            body: &body,
            now: case.now,
        };
        let verdict = Verifier::new(
            &auth(file.scheme.trim_end_matches("-svix"), &case.config),
            &secrets,
        )
        .map(|verifier| {
            let security = verifier.security_headers();
            verify(&[verifier], &security, &message)
                .map(|accepted| accepted.signed_id.map(str::to_owned))
        });
        let id = &case.id;
        match (case.expect.as_str(), verdict) {
            ("accept", Ok(Ok(signed))) => {
                if let (Some(group), Some(signed)) = (&case.group, signed) {
                    assert!(seen.insert((group.clone(), signed)), "{id}: seen before");
                }
            }
            ("duplicate", Ok(Ok(Some(signed)))) => {
                let group = case.group.clone().unwrap();
                assert!(seen.contains(&(group, signed)), "{id}: not seen before");
            }
            ("reject", Err(Unusable::Configuration(_))) => {
                assert_eq!(
                    case.reason.as_deref(),
                    Some("refused_configuration"),
                    "{id}"
                );
            }
            // A secret that is empty is none: the endpoint is closed.
            ("reject", Err(Unusable::NoSecret(_))) => {
                assert!(case.secrets.iter().all(String::is_empty), "{id}");
            }
            ("reject", Ok(Err(_))) => {}
            (expected, got) => panic!("{id}: expected {expected}, got {got:?}"),
        }
    }
    file.cases.len()
}

#[test]
fn every_case_of_the_providers_sdks_is_judged_as_they_judge_it() {
    assert!(run(include_str!("../../../tests/data/vectors/github.json")) >= 27);
    assert!(
        run(include_str!(
            "../../../tests/data/vectors/standardWebhooks.json"
        )) >= 46
    );
    assert!(
        run(include_str!(
            "../../../tests/data/vectors/standardWebhooks-svix.json"
        )) >= 34
    );
    assert!(run(include_str!("../../../tests/data/vectors/hmac.json")) >= 42);
    assert!(run(include_str!("../../../tests/data/vectors/apiKey.json")) >= 8);
}

fn github(secrets: &[&str]) -> Result<Verifier, Unusable> {
    let secrets: Vec<_> = secrets.iter().map(|text| secret(text)).collect();
    Verifier::new(&auth("github", &serde_json::Map::new()), &secrets)
}

#[test]
fn an_empty_or_short_secret_is_never_valid() {
    for secrets in [&[][..], &[""], &["short"], &["\n\n\n\n\n\n\n\n\n"]] {
        let refused = matches!(github(secrets), Err(Unusable::NoSecret("github")));
        assert!(refused, "{secrets:?}");
    }
    assert!(github(&["", "long enough"]).is_ok());
}

#[test]
fn nothing_of_a_secret_is_in_its_debug_form() {
    let verifier = github(&["the-secret-value"]);
    let shown = format!("{verifier:?} {:?}", secret("the-secret-value"));
    assert!(!shown.contains("the-secret-value"), "{shown}");
    assert!(shown.contains("1 secrets"), "{shown}");
}

#[test]
fn contradictions_in_the_configuration_are_refused() {
    let hmac = |config: &Value| {
        let config = config.as_object().unwrap().clone();
        Verifier::new(&auth("hmac", &config), &[secret("long enough")])
    };
    for config in [
        json!({ "header": "X-Sig", "algorithm": "sha1" }),
        json!({ "header": "X-Sig", "template": "{timestamp}.{body}" }),
        json!({ "header": "X-Sig", "timestampHeader": "X-Ts" }),
        json!({ "header": "X-Sig", "template": "fixed" }),
        json!({ "header": "X-Sig", "template": "{nonce}{body}" }),
        json!({ "header": "X Sig" }),
    ] {
        let refused = matches!(hmac(&config), Err(Unusable::Configuration(_)));
        assert!(refused, "{config}");
    }
    assert!(hmac(&json!({ "header": "X-Sig" })).is_ok());
}

proptest! {
    #[test]
    fn arbitrary_signature_headers_are_refused_without_a_panic(
        first in prop::collection::vec(any::<u8>(), 0..120),
        second in prop::collection::vec(any::<u8>(), 0..40),
        body in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let names = [
            "x-hub-signature-256", "webhook-signature", "webhook-id", "webhook-timestamp",
            "x-sig", "x-ts",
        ];
        let mut headers = HeaderMap::new();
        for (position, name) in names.into_iter().enumerate() {
            let bytes = if position % 2 == 0 { &first } else { &second };
            if let Ok(value) = HeaderValue::from_bytes(bytes) {
                headers.insert(name, value);
            }
        }
        let message = Message { headers: &headers, body: &body, now: 1_900_000_000 };
        let hmac = json!({
            "header": "X-Sig", "template": "{timestamp}{body}", "timestampHeader": "X-Ts",
            "encoding": "base64",
        });
        for (scheme, config) in [
            ("github", json!({})),
            ("standardWebhooks", json!({})),
            ("hmac", hmac),
            ("apiKey", json!({ "header": "X-Sig" })),
        ] {
            let entry = auth(scheme, config.as_object().unwrap());
            let keys = [secret("whsec_1MPJn20P8wMIZNgNJX6yNYQMf0FAYurI")];
            let verifier = Verifier::new(&entry, &keys).unwrap();
            prop_assert!(verifier.verify(&message).is_err());
        }
    }

    #[test]
    fn hexadecimal_is_read_back(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
        use std::fmt::Write as _;
        let mut text = String::new();
        bytes.iter().for_each(|b| write!(text, "{b:02x}").unwrap());
        let mut out = vec![0; bytes.len()];
        prop_assert_eq!(lower_hex(text.as_bytes(), &mut out), Some(()));
        prop_assert_eq!(out, bytes);
    }
}
