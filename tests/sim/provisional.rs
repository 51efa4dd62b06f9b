//! Until the kinds are there.
use serde_json::{Value, json};
use zen_fabric::api::crds as shipped;

pub(crate) fn crds() -> Vec<Value> {
    let mut all: Vec<Value> = shipped().into_iter().map(|one| serde_json::to_value(one).unwrap()).collect();
    let status = &mut all[0]["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"];
    status["properties"]["owner"] = json!({"type": "object", "properties": {
        "holder": {"type": "string", "maxLength": 300}, "podUID": {"type": "string", "maxLength": 64}, "epoch": {"type": "integer"}}, "required": ["holder", "podUID", "epoch"]});
    status["x-kubernetes-validations"] = json!([{"rule": "!has(oldSelf.owner) || (has(self.owner) && (self.owner.epoch > oldSelf.owner.epoch || (self.owner.epoch == oldSelf.owner.epoch && self.owner.holder == oldSelf.owner.holder)))", "message": "stale owner"}]);
    all.push(json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "shardmaps.zen.watcher.io"},
        "spec": {"group": "zen.watcher.io", "scope": "Namespaced",
            "names": {"kind": "ShardMap", "plural": "shardmaps", "singular": "shardmap", "listKind": "ShardMapList"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object",
                "required": ["spec"],
                "properties": {"spec": {"type": "object", "x-kubernetes-preserve-unknown-fields": true,
                "properties": {"term": {"type": "integer"}, "version": {"type": "integer"}, "leader": {"type": "string", "maxLength": 300}}, "required": ["term", "version", "leader"],
                "x-kubernetes-validations": [{"rule": "self.version > oldSelf.version && (self.term > oldSelf.term || (self.term == oldSelf.term && self.leader == oldSelf.leader))", "message": "stale map"}]}}}}}]}
    }));
    all
}
