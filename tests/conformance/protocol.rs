//! The edges of the protocol: paths, verbs, sizes, representations.

use http::Method;
use serde_json::json;

use crate::bench::{Bench, config_map, widget};

/// A kind that nobody defined is 404, and names no object.
pub(crate) async fn an_unknown_kind_is_not_found(t: &Bench) {
    for path in [
        "/apis/conformance.test/v1/things",
        "/apis/conformance.test/v9/widgets",
        "/apis/nobody.test/v1/things",
    ] {
        let answer = t.get(path).await;
        assert_eq!(answer.code, 404, "{answer}");
        assert_eq!(answer.text, "404 page not found\n", "{answer}");
    }
    t.get("/api/v1/things")
        .await
        .refused(404, "NotFound")
        .saying("the server could not find the requested resource");
    assert_eq!(t.get("/nothing/here").await.code, 404);
}

/// A verb that the path doesn't take is 405.
pub(crate) async fn an_unknown_verb_is_not_allowed(t: &Bench) {
    t.post(&format!("{}/a", t.core("configmaps")), &config_map("a"))
        .await
        .refused(405, "MethodNotAllowed");
    t.put(&t.core("configmaps"), &config_map("a"))
        .await
        .refused(405, "MethodNotAllowed");
}

/// A body over 3 MiB is refused, and the connection serves on.
pub(crate) async fn a_body_that_is_too_large_is_refused(t: &Bench) {
    let mut body = widget("a", json!({ "size": 1 }));
    body["spec"]["free"] = json!({ "x": "y".repeat(3 * 1024 * 1024) });
    t.post(&t.widgets(), &body)
        .await
        .refused(413, "RequestEntityTooLarge")
        .saying("Request entity too large: limit is 3145728");
    t.get(&t.widgets()).await.ok();
}

/// A representation that the server doesn't have is 406.
pub(crate) async fn an_unknown_representation_is_not_acceptable(t: &Bench) {
    t.get_as(&t.widgets(), "text/html")
        .await
        .refused(406, "NotAcceptable")
        .mentioning("only the following media types are accepted");
}

/// Who asks for several representations gets the first that there is.
pub(crate) async fn the_first_known_representation_is_taken(t: &Bench) {
    let made = t.make("a", 1).await;
    for accept in [
        "application/vnd.kubernetes.protobuf,application/json",
        "text/html, application/json;q=0.5",
        "*/*",
        "application/*",
    ] {
        assert_eq!(
            t.get_as(&t.widget("a"), accept).await.ok(),
            made,
            "{accept}"
        );
    }
}

/// Objects can be read as YAML.
pub(crate) async fn yaml_is_a_representation(t: &Bench) {
    t.make("a", 1).await;
    let answer = t.get_as(&t.widget("a"), "application/yaml").await;
    assert_eq!(answer.code, 200, "{answer}");
    assert_eq!(answer.headers["content-type"], "application/yaml");
    let read: serde_json::Value = serde_saphyr::from_str(&answer.text).unwrap();
    assert_eq!(read["spec"]["size"], 1);
}

/// A pretty answer is the same answer.
pub(crate) async fn pretty_is_the_same(t: &Bench) {
    let made = t.make("a", 1).await;
    let path = format!("{}?pretty=true", t.widget("a"));
    assert_eq!(t.get(&path).await.ok(), made);
}

/// Every answer says that it is JSON.
pub(crate) async fn answers_say_their_type(t: &Bench) {
    t.make("a", 1).await;
    for path in [t.widget("a"), t.widget("missing"), t.widgets()] {
        let answer = t.send(Method::GET, &path, &[], None).await;
        assert_eq!(answer.headers["content-type"], "application/json", "{path}");
    }
}

/// A query that isn't known changes nothing.
pub(crate) async fn an_unknown_parameter_is_ignored(t: &Bench) {
    let made = t.make("a", 1).await;
    let path = format!("{}?unheard=of", t.widget("a"));
    assert_eq!(t.get(&path).await.ok(), made);
}
