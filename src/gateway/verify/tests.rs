//! The providers' own cases: made with their SDKs, replayed here.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;
use serde_json::{Value, json};

use super::*;

#[derive(Deserialize)]
struct File {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    id: String,
    secrets: Vec<String>,
    config: Value,
    now: i64,
    headers: Vec<(String, String)>,
    body_b64: String,
    expect: String,
    reason: Option<String>,
}

fn auth(scheme: &str, mut config: Value) -> Auth {
    config["secretRef"] = json!({"name": "s"});
    serde_json::from_value(json!({ scheme: config })).unwrap()
}

fn run(scheme: &str, case: &Case) -> Result<Scheme, String> {
    let secrets: Vec<_> = case
        .secrets
        .iter()
        .map(|secret| Zeroizing::new(secret.clone().into_bytes()))
        .collect();
    let verifier = Verifier::new(&auth(scheme, case.config.clone()), &secrets)
        .map_err(|_error| "refused_configuration".to_owned())?;
    let mut headers = HeaderMap::new();
    for (name, value) in &case.headers {
        let name: HeaderName = name.parse().unwrap();
        headers.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    let body = BASE64_STANDARD.decode(&case.body_b64).unwrap();
    let request = Signed {
        headers: &headers,
        body: &body,
        now: case.now,
    };
    verifier
        .verify(request)
        .map(|verified| verified.scheme)
        .map_err(|refusal| refusal.as_str().to_owned())
}

fn check(scheme: &str, text: &str, at_least: usize) {
    let file: File = serde_json::from_str(text).unwrap();
    assert!(
        file.cases.len() >= at_least,
        "{scheme}: {} cases",
        file.cases.len()
    );
    for case in &file.cases {
        let outcome = run(scheme, case);
        match case.expect.as_str() {
            // `duplicate`: verified like the first; that it is one is the journal's to find.
            "accept" | "duplicate" => assert!(outcome.is_ok(), "{}: {outcome:?}", case.id),
            "reject" => {
                let reason = outcome.expect_err(&case.id);
                // Where two reasons fit, either is right; configuration is never mistaken for a request.
                let configuration = "refused_configuration";
                let expected = case.reason.as_deref() == Some(configuration);
                assert_eq!(reason == configuration, expected, "{}: {reason}", case.id);
            }
            other => panic!("{}: unknown expectation {other}", case.id),
        }
    }
}

#[test]
fn github_cases() {
    check(
        "github",
        include_str!("../../../tests/data/vectors/github.json"),
        27,
    );
}

#[test]
fn standard_webhooks_cases() {
    let text = include_str!("../../../tests/data/vectors/standardWebhooks.json");
    check("standardWebhooks", text, 46);
}

#[test]
fn svix_cases() {
    let text = include_str!("../../../tests/data/vectors/standardWebhooks-svix.json");
    check("standardWebhooks", text, 34);
}

#[test]
fn hmac_cases() {
    check(
        "hmac",
        include_str!("../../../tests/data/vectors/hmac.json"),
        42,
    );
}

#[test]
fn api_key_cases() {
    check(
        "apiKey",
        include_str!("../../../tests/data/vectors/apiKey.json"),
        8,
    );
}

#[test]
fn an_empty_secret_verifies_nothing() {
    for scheme in ["github", "standardWebhooks"] {
        for secrets in [vec![], vec![SecretValue::new(Vec::new())]] {
            let refused = Verifier::new(&auth(scheme, json!({})), &secrets).unwrap_err();
            assert!(
                matches!(refused, ConfigError::NoUsableSecret(_)),
                "{scheme}: {refused}"
            );
        }
    }
}

#[test]
fn debug_shows_no_secret() {
    let secret = [SecretValue::new(b"hunter2hunter2".to_vec())];
    for (scheme, config) in [
        ("github", json!({})),
        ("standardWebhooks", json!({})),
        ("hmac", json!({"header": "x-sig"})),
        ("apiKey", json!({"header": "x-key"})),
    ] {
        let shown = format!("{:?}", Verifier::new(&auth(scheme, config), &secret));
        assert!(!shown.contains("hunter2"), "{scheme}: {shown}");
    }
}

proptest::proptest! {
    #[test]
    fn no_header_makes_a_verifier_panic_or_accept(
        signature in "[ -~]{0,200}", timestamp in "[ -~]{0,20}", id in "[ -~]{0,40}", body: Vec<u8>,
    ) {
        let secret = [SecretValue::new(b"whsec_1MPJn20P8wMIZNgNJX6yNYQMf0FAYurI".to_vec())];
        let mut headers = HeaderMap::new();
        for name in ["x-hub-signature-256", "webhook-signature", "x-sig"] {
            headers.insert(name, HeaderValue::from_str(&signature).unwrap());
        }
        headers.insert("webhook-timestamp", HeaderValue::from_str(&timestamp).unwrap());
        headers.insert("webhook-id", HeaderValue::from_str(&id).unwrap());
        for (scheme, config) in [
            ("github", json!({})),
            ("standardWebhooks", json!({})),
            ("hmac", json!({"header": "x-sig"})),
            ("apiKey", json!({"header": "x-sig"})),
        ] {
            let verifier = Verifier::new(&auth(scheme, config), &secret).unwrap();
            let request = Signed { headers: &headers, body: &body, now: 1_900_000_000 };
            proptest::prop_assert!(verifier.verify(request).is_err());
        }
    }
}
