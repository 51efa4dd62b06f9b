//! `ShardMap` v1: who owns which bucket since which epoch, in the form in which it is stored.
//!
//! `coordination::text` reads and writes it; nothing here knows what a bucket is.

#![expect(
    clippy::duplicated_attributes,
    reason = "every printer column has a type and a description"
)]

use std::collections::BTreeMap;

use kube::CustomResource;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::{
    limits::{BUCKETS_TEXT, LABEL, MAP_MEMBERS, MAP_MOVES, MAP_OWNERS, SUBDOMAIN, WEIGHT},
    schema::{self, rule},
};

/// Buckets as text: numbers and ranges. That they rise and exist, readers check.
const BUCKETS_PATTERN: &str = "^[0-9]+(-[0-9]+)?(,[0-9]+(-[0-9]+)?)*$";

/// Who owns which bucket. Only the leader writes it, each time at a higher version.
#[derive(CustomResource, JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[kube(
    group = "zen.watcher.io",
    version = "v1",
    kind = "ShardMap",
    plural = "shardmaps",
    namespaced,
    shortname = "smap",
    category = "zen",
    derive = "PartialEq",
    doc = "Which replica owns which bucket of Ingestors, since when, and what is moving. Written by the leader alone; not to be edited.",
    printcolumn(
        name = "Term",
        type_ = "integer",
        description = "The number of the leadership that wrote it.",
        json_path = ".spec.term"
    ),
    printcolumn(
        name = "Version",
        type_ = "integer",
        description = "Rises with every write.",
        json_path = ".spec.version"
    ),
    printcolumn(
        name = "Leader",
        type_ = "string",
        description = "Who wrote it.",
        json_path = ".spec.leader"
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        description = "When it was created.",
        json_path = ".metadata.creationTimestamp"
    ),
    printcolumn(
        name = "Members",
        type_ = "string",
        priority = 1,
        description = "The replicas.",
        json_path = ".spec.members[*].name"
    ),
    printcolumn(
        name = "Moving",
        type_ = "string",
        priority = 1,
        description = "Buckets that are on their way to another owner.",
        json_path = ".spec.moves[*].buckets"
    )
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [rule(
    "self.version > oldSelf.version && (self.term > oldSelf.term || (self.term == oldSelf.term && self.leader == oldSelf.leader))",
    "the version must rise with every write, the term must not fall, and within a term only its leader writes",
)]))]
pub struct ShardMapText {
    /// The number of the leadership that wrote it. It never falls; within a term one leader writes.
    #[schemars(schema_with = "schema::counting")]
    pub term: i64,
    /// Rises with every write, also across terms. This alone orders maps.
    #[schemars(schema_with = "schema::counting")]
    pub version: i64,
    /// Who wrote it, `pod#incarnation`.
    #[schemars(schema_with = "schema::holder")]
    pub leader: String,
    /// How many buckets there are.
    #[schemars(schema_with = "bucket_count")]
    pub buckets: u16,
    /// The replicas.
    #[schemars(length(max = MAP_MEMBERS), extend("x-kubernetes-list-type" = "atomic"))]
    pub members: Vec<MemberText>,
    /// Who owns what: one entry per owner.
    #[schemars(length(max = MAP_OWNERS), extend("x-kubernetes-list-type" = "atomic"))]
    pub assignments: Vec<AssignmentText>,
    /// What is on its way to another owner.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MAP_MOVES), extend("x-kubernetes-list-type" = "atomic"))]
    pub moves: Vec<MoveText>,
}

/// A replica.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct MemberText {
    /// Its pod.
    #[schemars(length(min = 1, max = SUBDOMAIN), regex(pattern = schema::DNS_SUBDOMAIN))]
    pub name: String,
    /// Which of the pod's lives this is.
    #[schemars(schema_with = "schema::counting_from_one")]
    pub incarnation: i64,
    /// Its zone; absent where nobody knows.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = LABEL), regex(pattern = schema::LABEL_VALUE))]
    pub zone: String,
    /// Its share of the work relative to the others.
    #[schemars(range(min = *WEIGHT.start(), max = *WEIGHT.end()))]
    pub weight: u32,
    /// Active, Draining, Unreachable or Down.
    pub state: StateText,
}

/// How a replica is.
#[derive(
    Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash,
)]
pub enum StateText {
    /// It works.
    Active,
    /// It gives everything away.
    Draining,
    /// It lives and can't be reached: its buckets go elsewhere.
    Unreachable,
    /// It is dead.
    Down,
}

/// What one owner has.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct AssignmentText {
    /// The owner, `pod#incarnation`.
    #[schemars(schema_with = "schema::holder")]
    pub owner: String,
    /// Its buckets, such as `0-3,9`, by the version at which it was given them.
    #[schemars(schema_with = "epochs")]
    pub epochs: BTreeMap<String, String>,
}

/// Buckets that are on their way.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct MoveText {
    /// Which buckets, such as `0-3,9`.
    #[schemars(length(min = 1, max = BUCKETS_TEXT), regex(pattern = BUCKETS_PATTERN))]
    pub buckets: String,
    /// Whose they are.
    #[schemars(schema_with = "schema::holder")]
    pub from: String,
    /// Whose they will be.
    #[schemars(schema_with = "schema::holder")]
    pub to: String,
    /// The version that first listed the move.
    #[schemars(schema_with = "schema::counting")]
    pub since: i64,
    /// Ask, Warn or Fence.
    pub stage: StageText,
}

/// How urgently an owner is asked for its buckets.
#[derive(
    Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash,
)]
pub enum StageText {
    /// It finishes in its own time.
    Ask,
    /// It is late.
    Warn,
    /// They are taken without its answer.
    Fence,
}

fn bucket_count(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "integer", "enum": [1024] })
}

fn epochs(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 1024,
        "additionalProperties": {
            "type": "string",
            "minLength": 1,
            "maxLength": BUCKETS_TEXT,
            "pattern": BUCKETS_PATTERN,
        },
    })
}
