//! Leases: who leads, who lives.

use std::{str::FromStr, sync::Arc};

use serde_json::{Map, Value, json};

use super::{Malformed, Seconds};
use crate::coordination::{
    names::{Holder, MOST, PodName},
    port::Moment,
    records::{Challenge, LeaderRecord, Life, MemberRecord},
};

/// Annotations on Leases.
mod key {
    /// UID of the writer's Pod.
    pub(super) const POD_UID: &str = "zen.io/pod-uid";
    /// The term, where `leaseTransitions` can't hold it.
    pub(super) const TERM: &str = "zen.io/term";
    /// How many renewals there were.
    pub(super) const RENEWALS: &str = "zen.io/renewals";
    /// Of a released leader Lease: who should take it.
    pub(super) const HEIR: &str = "zen.io/heir";
    /// The random number of the claim.
    pub(super) const CLAIM: &str = "zen.io/claim";
    /// Where peers reach the pod.
    pub(super) const ADDRESS: &str = "zen.io/address";
    /// Its region.
    pub(super) const REGION: &str = "zen.io/region";
    /// Its zone.
    pub(super) const ZONE: &str = "zen.io/zone";
    /// Its weight.
    pub(super) const WEIGHT: &str = "zen.io/weight";
    /// Its build.
    pub(super) const BUILD: &str = "zen.io/build";
    /// Its protocol.
    pub(super) const PROTOCOL: &str = "zen.io/protocol";
    /// Whether its caches are filled.
    pub(super) const READY: &str = "zen.io/ready";
    /// Whether it drains.
    pub(super) const DRAINING: &str = "zen.io/draining";
    /// The highest version of the map that it has seen.
    pub(super) const SEEN: &str = "zen.io/shardmap-version";
    /// Live, Marked or Gone.
    pub(super) const LIFE: &str = "zen.io/life";
    /// Who asks whether it lives.
    pub(super) const CHALLENGE: &str = "zen.io/challenged-by";
}

/// The longest text of an annotation that is read: beyond any name, address or build.
const LONGEST: usize = 512;

// === writing ===

/// The leader Lease. `leaseTransitions` holds the term where its 32 bits can.
pub(super) fn leader(record: &LeaderRecord, lease: Seconds) -> Value {
    let transitions = i32::try_from(record.term).unwrap_or(i32::MAX);
    let mut notes = Map::new();
    let mut note = |key: &str, value: String| notes.insert(key.to_owned(), json!(value));
    note(key::POD_UID, record.pod_uid.to_string());
    note(key::RENEWALS, record.renewals.to_string());
    if record.term != u64::try_from(transitions).unwrap_or_default() {
        note(key::TERM, record.term.to_string());
    }
    if let Some(heir) = &record.heir {
        note(key::HEIR, heir.to_string());
    }
    let mut spec = json!({
        "leaseDurationSeconds": lease.0,
        "leaseTransitions": transitions,
        "renewTime": time(record.renewed),
    });
    if let (Some(holder), Some(spec)) = (&record.holder, spec.as_object_mut()) {
        spec.insert("holderIdentity".to_owned(), json!(holder.to_string()));
    }
    object(notes, spec)
}

/// A member Lease.
pub(super) fn member(record: &MemberRecord, lease: Seconds, owned: bool) -> Value {
    let mut notes = Map::new();
    let mut note = |key: &str, value: String| notes.insert(key.to_owned(), json!(value));
    note(key::POD_UID, record.pod_uid.to_string());
    note(key::RENEWALS, record.renewals.to_string());
    note(key::CLAIM, format!("{:016x}", record.claim));
    note(key::ADDRESS, record.address.to_string());
    note(key::REGION, record.region.to_string());
    note(key::ZONE, record.zone.to_string());
    note(key::WEIGHT, record.weight.to_string());
    note(key::BUILD, record.build.to_string());
    note(key::PROTOCOL, record.protocol.to_string());
    note(key::READY, record.ready.to_string());
    note(key::DRAINING, record.draining.to_string());
    note(key::SEEN, record.seen.to_string());
    note(key::LIFE, life(record.life).to_owned());
    if let Some(challenge) = &record.challenge {
        note(key::CHALLENGE, challenge.by.to_string());
    }
    let spec = json!({
        "holderIdentity": record.holder.to_string(),
        "leaseDurationSeconds": lease.0,
        "renewTime": time(record.renewed),
    });
    let mut value = object(notes, spec);
    if owned && let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
        let owner = json!([{
            "apiVersion": "v1",
            "kind": "Pod",
            "name": record.holder.pod.to_string(),
            "uid": &*record.pod_uid,
        }]);
        metadata.insert("ownerReferences".to_owned(), owner);
    }
    value
}

fn object(annotations: Map<String, Value>, spec: Value) -> Value {
    json!({
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"annotations": annotations},
        "spec": spec,
    })
}

const fn life(life: Life) -> &'static str {
    match life {
        Life::Live => "Live",
        Life::Marked => "Marked",
        Life::Gone => "Gone",
    }
}

/// A `MicroTime`. The origin of moments in records is the Unix epoch.
fn time(moment: Moment) -> String {
    let micros = i64::try_from(moment.0).unwrap_or(i64::MAX);
    // Beyond the year 9999 there is no text; nothing is compared with it.
    jiff::Timestamp::from_microsecond(micros).map_or_else(
        |_| "9999-12-31T23:59:59.999999Z".to_owned(),
        |time| time.strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string(),
    )
}

// === reading ===

/// What a leader Lease says.
pub(super) fn read_leader(value: &Value) -> Result<LeaderRecord, Malformed> {
    let lease = Lease(value);
    let transitions = lease.spec("leaseTransitions").and_then(Value::as_u64);
    let holder = lease.spec("holderIdentity").and_then(Value::as_str);
    let term = match lease.note(key::TERM) {
        Some(_) => lease.number(key::TERM)?,
        None => transitions.ok_or(Malformed::Missing("spec.leaseTransitions"))?,
    };
    Ok(LeaderRecord {
        holder: holder
            .filter(|text| !text.is_empty())
            .map(|text| holder_of("spec.holderIdentity", text))
            .transpose()?,
        pod_uid: lease.text(key::POD_UID)?,
        term,
        renewals: lease.number(key::RENEWALS)?,
        renewed: lease.renewed()?,
        heir: lease
            .note(key::HEIR)
            .map(|text| holder_of(key::HEIR, text))
            .transpose()?,
    })
}

/// What the member Lease of `pod` says.
pub(super) fn read_member(value: &Value, pod: &PodName) -> Result<MemberRecord, Malformed> {
    let lease = Lease(value);
    let text = lease.spec("holderIdentity").and_then(Value::as_str);
    let text = text.ok_or(Malformed::Missing("spec.holderIdentity"))?;
    let holder = holder_of("spec.holderIdentity", text)?;
    if holder.pod != *pod {
        return Err(Malformed::wrong(
            "spec.holderIdentity",
            text,
            "names another pod than the Lease's name",
        ));
    }
    let claim = lease.required(key::CLAIM)?;
    let wrong_claim = |_| Malformed::wrong(key::CLAIM, claim, "must be 64 bits in hexadecimal");
    let found = lease.required(key::LIFE)?;
    let life = match found {
        "Live" => Life::Live,
        "Marked" => Life::Marked,
        "Gone" => Life::Gone,
        _ => {
            let expected = "must be Live, Marked or Gone";
            return Err(Malformed::wrong(key::LIFE, found, expected));
        }
    };
    let challenge = lease.note(key::CHALLENGE);
    Ok(MemberRecord {
        holder,
        claim: u64::from_str_radix(claim, 16).map_err(wrong_claim)?,
        pod_uid: lease.text(key::POD_UID)?,
        address: lease.text(key::ADDRESS)?,
        region: lease.text(key::REGION)?,
        zone: lease.text(key::ZONE)?,
        weight: lease.parsed(key::WEIGHT, "must be a number of at most 32 bits")?,
        build: lease.text(key::BUILD)?,
        protocol: lease.parsed(key::PROTOCOL, "must be a number of at most 32 bits")?,
        ready: lease.parsed(key::READY, "must be true or false")?,
        draining: lease.parsed(key::DRAINING, "must be true or false")?,
        seen: lease.number(key::SEEN)?,
        renewals: lease.number(key::RENEWALS)?,
        renewed: lease.renewed()?,
        life,
        challenge: challenge
            .map(|text| holder_of(key::CHALLENGE, text))
            .transpose()?
            .map(|by| Challenge { by }),
    })
}

fn holder_of(field: &'static str, text: &str) -> Result<Holder, Malformed> {
    text.parse()
        .map_err(|_not| Malformed::wrong(field, text, "must be `pod#incarnation`"))
}

/// A Lease as JSON.
#[derive(Clone, Copy)]
struct Lease<'v>(&'v Value);

impl<'v> Lease<'v> {
    fn spec(self, field: &str) -> Option<&'v Value> {
        self.0.get("spec")?.get(field)
    }

    fn note(self, key: &str) -> Option<&'v str> {
        let notes = self.0.get("metadata")?.get("annotations")?;
        notes.get(key)?.as_str()
    }

    fn required(self, key: &'static str) -> Result<&'v str, Malformed> {
        let text = self.note(key).ok_or(Malformed::Missing(key))?;
        if text.len() > LONGEST {
            return Err(Malformed::wrong(key, text, "is longer than 512 bytes"));
        }
        Ok(text)
    }

    fn text(self, key: &'static str) -> Result<Arc<str>, Malformed> {
        self.required(key).map(Arc::from)
    }

    fn parsed<T: FromStr>(self, key: &'static str, expected: &'static str) -> Result<T, Malformed> {
        let text = self.required(key)?;
        text.parse()
            .map_err(|_not| Malformed::wrong(key, text, expected))
    }

    fn number(self, key: &'static str) -> Result<u64, Malformed> {
        let expected = "must be a number below 2^52";
        let number = self.parsed(key, expected)?;
        if number > MOST {
            return Err(Malformed::wrong(key, self.required(key)?, expected));
        }
        Ok(number)
    }

    fn renewed(self) -> Result<Moment, Malformed> {
        const FIELD: &str = "spec.renewTime";
        let text = self.spec("renewTime").and_then(Value::as_str);
        let text = text.ok_or(Malformed::Missing(FIELD))?;
        let time: jiff::Timestamp = text
            .parse()
            .map_err(|_not| Malformed::wrong(FIELD, text, "must be a time in RFC 3339"))?;
        Ok(Moment(
            u64::try_from(time.as_microsecond()).unwrap_or_default(),
        ))
    }
}
