//! Bounds of the kinds: what the CRDs enforce, what the engine keeps to, and why each is as it is.
//!
//! Every string, list and map is bounded, because the API server refuses CEL rules over values
//! whose cost it cannot bound.

use std::ops::RangeInclusive;

/// Longest CEL expression: the longest in the samples has some 200 bytes; 4 KiB is a page of code,
/// and what needs more belongs into the sender.
pub const EXPRESSION: usize = 4_096;

/// Longest constant or default of a field: the longest field of an Observation is a resource name.
pub const CONSTANT: usize = RESOURCE_NAME;

/// Most entries of a field's `map`: vocabularies of severities and categories have fewer than 20.
pub const MAP_ENTRIES: usize = 64;

/// Most `details`: what a person reads in `kubectl describe`.
pub const DETAILS: usize = 64;

/// Longest name of a detail; with the prefix of nobody, so that it may become a label name.
pub const DETAIL_NAME: usize = 63;

/// Most filters: each is evaluated for every event.
pub const FILTERS: usize = 32;

/// Most fields of a fingerprint.
pub const FINGERPRINT_FIELDS: usize = 16;

/// Most labels that an Ingestor puts on its Observations; they are indexed nowhere and sent always.
pub const LABELS: usize = 32;

/// Longest label value and DNS label (RFC 1123).
pub const LABEL: usize = 63;

/// Longest qualified name: a DNS subdomain, `/`, and 63 characters.
pub const QUALIFIED_NAME: usize = 253 + 1 + 63;

/// Longest DNS subdomain (RFC 1123): names of Secrets, Pods and most objects.
pub const SUBDOMAIN: usize = 253;

/// Longest `apiVersion` of a resource: group, `/`, version.
pub const API_VERSION: usize = QUALIFIED_NAME;

/// Longest name of a resource: an image reference with registry, path and digest has up to some 400.
pub const RESOURCE_NAME: usize = 512;

/// Longest event type.
pub const EVENT_TYPE: usize = 128;

/// Logs that an aggregate may be counted from: gateways that ever lived within its window.
pub const APPLIED: usize = 64;

/// Largest serialised `details`: an object of the API may have 1.5 MiB in etcd, and a thousand
/// objects of this size are a list that a client can still hold.
pub const DETAILS_BYTES: usize = 64 * 1_024;

/// Most items of one explosion.
pub const EXPLODED_ITEMS: usize = 1_000;

/// Largest body that an endpoint may be told to take: GitHub's cap, the highest among the providers.
pub const BODY_BYTES: u32 = 25 * 1_024 * 1_024;

/// Highest count, position and tally: the largest integer that every JSON reader keeps exact (2^53 − 1).
pub const SAFE_INTEGER: i64 = 9_007_199_254_740_991;

/// Shortest time that an Observation is kept, in seconds: a consumer that looks every half minute sees it.
pub const TTL_MIN_SECONDS: u32 = 60;

/// Longest time that an Observation may be kept, in seconds: ten years; who wants more leaves it out.
pub const TTL_MAX_SECONDS: u32 = 10 * 365 * 24 * 3_600;

/// Highest epoch, term, version and incarnation: 2^52 − 1, so that sums of two are still exact.
pub const COUNTING: i64 = (1 << 52) - 1;

/// Longest `pod#incarnation`: a DNS subdomain, `#`, and the 16 digits of [`COUNTING`].
pub const HOLDER: usize = SUBDOMAIN + 1 + 16;

/// Longest UID of a pod: API servers make 36 characters, kubelets 32 for static pods; the rest is room.
pub const POD_UID: usize = 128;

/// Longest text of a set of buckets (`coordination::buckets` counts it).
pub const BUCKETS_TEXT: usize = 2_673;

/// Most replicas in a `ShardMap`: each then has four of 1,024 buckets, and balance is gone.
pub const MAP_MEMBERS: usize = 256;

/// Most owners in a `ShardMap`: every replica in two incarnations.
pub const MAP_OWNERS: usize = 2 * MAP_MEMBERS;

/// Most moves in a `ShardMap`: every bucket for itself.
pub const MAP_MOVES: usize = 1_024;

/// Weights of replicas: 100 is usual, and a hundred times as much no machine has. One that is to have
/// no work drains.
pub const WEIGHT: RangeInclusive<u32> = 1..=10_000;
