//! Definitions of kinds: how they come into force, change and go.

use serde_json::{Value, json};

use crate::bench::{Bench, DEFINITIONS, Patch, condition, names, unique};

/// A definition of a kind of its own, `things` in a group of this case alone.
struct Things {
    group: String,
    definition: Value,
}

impl Things {
    fn new(schema: &Value) -> Self {
        let group = format!("{}.test", unique("things"));
        let definition = json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": { "name": format!("things.{group}") },
            "spec": {
                "group": group, "scope": "Namespaced",
                "names": { "kind": "Thing", "plural": "things" },
                "versions": [{
                    "name": "v1", "served": true, "storage": true,
                    "schema": { "openAPIV3Schema": schema },
                }],
            },
        });
        Self { group, definition }
    }

    fn name(&self) -> String {
        format!("things.{}", self.group)
    }

    fn path(&self, t: &Bench) -> String {
        format!("/apis/{}/v1/namespaces/{}/things", self.group, t.namespace)
    }

    fn thing(&self, name: &str, spec: Value) -> Value {
        json!({
            "apiVersion": format!("{}/v1", self.group), "kind": "Thing",
            "metadata": { "name": name }, "spec": spec,
        })
    }
}

fn spec_of(properties: Value) -> Value {
    json!({
        "type": "object",
        "properties": { "spec": { "type": "object", "properties": properties } },
    })
}

/// A definition says what it lacks, and when its kind is served.
pub(crate) async fn comes_into_force(t: &Bench) {
    let things = Things::new(&spec_of(json!({ "a": { "type": "string" } })));
    let made = t.post(DEFINITIONS, &things.definition).await.created();
    assert_eq!(made["spec"]["names"]["singular"], "thing", "by default");
    assert_eq!(made["spec"]["names"]["listKind"], "ThingList", "by default");
    assert_eq!(made["spec"]["conversion"]["strategy"], "None", "by default");
    t.wait_established(&things.name()).await;
    let found = t
        .get(&format!("{DEFINITIONS}/{}", things.name()))
        .await
        .ok();
    assert_eq!(condition(&found, "NamesAccepted").as_deref(), Some("True"));
    assert_eq!(found["status"]["storedVersions"], json!(["v1"]));
    assert_eq!(found["status"]["acceptedNames"]["kind"], "Thing");
    t.post(&things.path(t), &things.thing("a", json!({ "a": "x" })))
        .await
        .created();
    t.delete(&format!("{DEFINITIONS}/{}", things.name()))
        .await
        .accepted();
}

/// With its definition a kind goes, and all objects of it.
pub(crate) async fn goes_with_its_objects(t: &Bench) {
    let things = Things::new(&spec_of(json!({ "a": { "type": "string" } })));
    t.install(&things.definition).await;
    t.post(&things.path(t), &things.thing("a", json!({})))
        .await
        .created();
    t.delete(&format!("{DEFINITIONS}/{}", things.name()))
        .await
        .accepted();
    t.eventually("the kind is gone", async || {
        (t.get(&things.path(t)).await.code == 404).then_some(())
    })
    .await;
    t.eventually("the definition is gone", async || {
        (t.get(&format!("{DEFINITIONS}/{}", things.name()))
            .await
            .code
            == 404)
            .then_some(())
    })
    .await;
    t.install(&things.definition).await;
    assert_eq!(
        names(&t.get(&things.path(t)).await.ok()),
        Vec::<String>::new(),
        "made anew it has no objects"
    );
    t.delete(&format!("{DEFINITIONS}/{}", things.name()))
        .await
        .accepted();
}

/// A changed definition holds for what comes, and its defaults for what is read.
pub(crate) async fn changes_what_holds(t: &Bench) {
    let things = Things::new(&spec_of(json!({ "a": { "type": "string" } })));
    t.install(&things.definition).await;
    t.post(&things.path(t), &things.thing("a", json!({ "a": "long" })))
        .await
        .created();
    let path = format!("{DEFINITIONS}/{}", things.name());
    let schema = spec_of(json!({
        "a": { "type": "string", "maxLength": 2 }, "b": { "type": "integer", "default": 5 },
    }));
    let patch = json!([{
        "op": "replace", "path": "/spec/versions/0/schema/openAPIV3Schema", "value": schema,
    }]);
    t.patch(&path, Patch::Json, &patch).await.ok();
    let one = format!("{}/a", things.path(t));
    t.eventually("the default is read", async || {
        (t.get(&one).await.ok()["spec"]["b"] == 5).then_some(())
    })
    .await;
    t.post(&things.path(t), &things.thing("b", json!({ "a": "long" })))
        .await
        .refused(422, "Invalid");
    t.delete(&path).await.accepted();
}

/// A rule that doesn't compile is refused with its place and the compiler's words.
pub(crate) async fn of_a_broken_rule_is_refused(t: &Bench) {
    let mut schema = spec_of(json!({ "a": { "type": "string" } }));
    schema["properties"]["spec"]["x-kubernetes-validations"] =
        json!([{ "rule": "self.nothing == 1" }]);
    t.post(DEFINITIONS, &Things::new(&schema).definition)
        .await
        .refused(422, "Invalid")
        .mentioning(
            "spec.validation.openAPIV3Schema.properties[spec].x-kubernetes-validations[0].rule: \
             Invalid value",
        )
        .mentioning("undefined field 'nothing'");
}

/// A rule must give yes or no.
pub(crate) async fn of_a_rule_without_verdict_is_refused(t: &Bench) {
    let mut schema = spec_of(json!({ "a": { "type": "string", "maxLength": 3 } }));
    schema["properties"]["spec"]["properties"]["a"]["x-kubernetes-validations"] =
        json!([{ "rule": "self + 'x'" }]);
    t.post(DEFINITIONS, &Things::new(&schema).definition)
        .await
        .refused(422, "Invalid")
        .mentioning("x-kubernetes-validations[0].rule: Invalid value");
}

/// A definition is named after what it defines.
pub(crate) async fn of_another_name_is_refused(t: &Bench) {
    let mut definition = Things::new(&spec_of(json!({}))).definition;
    definition["metadata"]["name"] = "other.things.test".into();
    t.post(DEFINITIONS, &definition)
        .await
        .refused(422, "Invalid")
        .mentioning("metadata.name: Invalid value: \"other.things.test\": must be spec.names.plural+\".\"+spec.group");
}

/// A schema says the type of everything in it.
pub(crate) async fn of_a_schema_without_types_is_refused(t: &Bench) {
    let schema = json!({ "type": "object", "properties": { "spec": { "properties": {} } } });
    t.post(DEFINITIONS, &Things::new(&schema).definition)
        .await
        .refused(422, "Invalid")
        .mentioning("properties[spec].type: Required value");
}

/// A default fits its own schema.
pub(crate) async fn of_a_default_that_does_not_fit_is_refused(t: &Bench) {
    let schema = spec_of(json!({ "a": { "type": "string", "maxLength": 1, "default": "long" } }));
    t.post(DEFINITIONS, &Things::new(&schema).definition)
        .await
        .refused(422, "Invalid")
        .mentioning("properties[a].default: ");
}

/// Exactly one version is stored.
pub(crate) async fn of_no_stored_version_is_refused(t: &Bench) {
    let mut definition = Things::new(&spec_of(json!({}))).definition;
    definition["spec"]["versions"][0]["storage"] = false.into();
    t.post(DEFINITIONS, &definition)
        .await
        .refused(422, "Invalid")
        .mentioning("must have exactly one version marked as storage version");
}

/// A group outside the project's reach can't be defined by chance.
pub(crate) async fn of_a_protected_group_needs_approval(t: &Bench) {
    let mut definition = Things::new(&spec_of(json!({}))).definition;
    definition["spec"]["group"] = "things.k8s.io".into();
    definition["metadata"]["name"] = "things.things.k8s.io".into();
    t.post(DEFINITIONS, &definition)
        .await
        .refused(422, "Invalid")
        .mentioning("api-approved.kubernetes.io");
}
