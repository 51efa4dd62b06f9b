use super::*;

fn options() -> Options {
    Options {
        signature_header: None,
        algorithm: Algorithm::Sha256,
        encoding: Encoding::Hex,
        prefix: String::new(),
        template: "{body}".to_owned(),
        timestamp_header: None,
    }
}

fn value(headers: &[(HeaderName, HeaderValue)], name: &str) -> String {
    let found = headers.iter().find(|(header, _)| header == name);
    found.unwrap().1.to_str().unwrap().to_owned()
}

#[test]
fn github_signs_as_its_documentation_shows() {
    // docs.github.com, "Validating webhook deliveries", "Testing the webhook payload validation".
    let secret = SecretString::from("It's a Secret to Everybody");
    let scheme = options().scheme(Kind::Github, Some(&secret)).unwrap();
    let headers = headers(&scheme, "id", 0, b"Hello, World!").unwrap();
    assert_eq!(
        value(&headers, "x-hub-signature-256"),
        "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    );
    assert_eq!(value(&headers, "x-github-delivery"), "id");
}

#[test]
fn standard_webhooks_signs_as_its_libraries_test() {
    // The case that the reference implementations of standard-webhooks/standard-webhooks share.
    let secret = SecretString::from("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
    let scheme = options()
        .scheme(Kind::StandardWebhooks, Some(&secret))
        .unwrap();
    let body = br#"{"test": 2432232314}"#;
    let headers = headers(&scheme, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body).unwrap();
    assert_eq!(
        value(&headers, "webhook-signature"),
        "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    );
}

#[test]
fn an_hmac_template_signs_timestamp_and_body() {
    let mut options = options();
    options.signature_header = Some(HeaderName::from_static("x-sig"));
    options.template = "{timestamp}:{body}".to_owned();
    let secret = SecretString::from("key");
    assert!(options.scheme(Kind::Hmac, Some(&secret)).is_err());
    options.timestamp_header = Some(HeaderName::from_static("x-time"));
    options.prefix = "v1=".to_owned();
    let templated = options.scheme(Kind::Hmac, Some(&secret)).unwrap();
    let with_template = headers(&templated, "id", 7, b"body").unwrap();
    options.template = "{body}".to_owned();
    let plain = options.scheme(Kind::Hmac, Some(&secret)).unwrap();
    let over_whole = headers(&plain, "id", 7, b"7:body").unwrap();
    assert_eq!(value(&with_template, "x-sig"), value(&over_whole, "x-sig"));
    assert_eq!(value(&with_template, "x-time"), "7");
    assert!(value(&with_template, "x-sig").starts_with("v1="));
}

#[test]
fn a_scheme_says_what_it_lacks_and_hides_what_it_has() {
    for kind in [
        Kind::Github,
        Kind::StandardWebhooks,
        Kind::Hmac,
        Kind::ApiKey,
    ] {
        assert!(options().scheme(kind, None).is_err());
    }
    assert!(options().scheme(Kind::None, None).is_ok());
    let secret = SecretString::from("hunter2");
    assert!(
        options()
            .scheme(Kind::StandardWebhooks, Some(&secret))
            .is_err()
    );
    let scheme = options().scheme(Kind::Github, Some(&secret)).unwrap();
    assert!(!format!("{scheme:?}").contains("hunter2"));
}
