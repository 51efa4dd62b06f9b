//! Labels and annotations that the fabric puts on an Observation: their names, in one place.
//!
//! The prefix is the fabric's own; an Ingestor's `output.labels` can't use it.

/// `log/position/index` of the item that made the object.
pub const RECORD: &str = "zen.io/record";
/// SHA-256 of the raw body of its event, in lower-case hexadecimal.
pub const PAYLOAD: &str = "zen.io/payload-sha256";
/// UID of the Ingestor whose event it was: whose queue in the journal the record lies in.
pub const INGESTOR_UID: &str = "zen.io/ingestor-uid";
/// The event's id.
pub const EVENT_ID: &str = "zen.io/event-id";
/// When the event was accepted, RFC 3339.
pub const RECEIVED_AT: &str = "zen.io/received-at";
/// When the window of a fingerprint or aggregate ends, RFC 3339.
pub const WINDOW_END: &str = "zen.io/window-end";
/// W3C `traceparent` of the request.
pub const TRACEPARENT: &str = "zen.io/traceparent";

/// Label: the Ingestor's name, as the Observation's source.
pub const SOURCE_LABEL: &str = "zen.io/source";
/// Label: a hash of the event's id, so that an event's objects can be listed.
pub const EVENT_LABEL: &str = "zen.io/event";
