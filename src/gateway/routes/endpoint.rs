//! What a user configured for an endpoint, read once.

use http::{HeaderName, HeaderValue, Method, StatusCode, header};
use ipnet::IpNet;

use super::Policy;
use crate::{
    api::{
        Ingestor, duration,
        ingestor::{Auth, Method as AllowedMethod, RateLimit, SecretRef},
    },
    gateway::verify::{Misconfigured, Verifier},
};

/// What a user configured for an endpoint.
#[derive(Debug)]
pub struct Endpoint {
    /// The namespace.
    pub namespace: String,
    /// Methods that are served.
    pub methods: Vec<Method>,
    /// The same, for `Allow`.
    pub allow: HeaderValue,
    /// Media types that are accepted, lower-case.
    pub content_types: Vec<String>,
    /// The largest body.
    pub max_body: usize,
    /// Networks that may send; empty: any.
    pub networks: Vec<IpNet>,
    /// How requests are verified.
    pub auth: Vec<Auth>,
    /// How many verified requests it takes.
    pub rate: RateLimit,
    /// How repeated deliveries are recognized.
    pub replay: Policy,
    /// What an accepted event is answered with.
    pub accepted: StatusCode,
    /// Headers that never enter the journal.
    pub hidden: Vec<HeaderName>,
}

/// A configuration that can't be served; the Ingestor is not accepted.
#[derive(Clone, Debug, Default, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {why}")]
pub struct Refused {
    /// The field, below the webhook.
    pub field: String,
    /// What is wrong with it.
    pub why: String,
}

impl Endpoint {
    /// Reads the webhook source of an Ingestor.
    ///
    /// # Errors
    /// The field and what is wrong with it.
    pub fn of(ingestor: &Ingestor) -> Result<Self, Refused> {
        let refuse = |field: &str, why: &dyn std::fmt::Display| Refused {
            field: field.to_owned(),
            why: why.to_string(),
        };
        let webhook = ingestor.spec.source.webhook.as_ref();
        let webhook = webhook.ok_or_else(|| refuse("source", &"no webhook"))?;
        if webhook.auth.is_empty() {
            return Err(refuse(
                "auth",
                &"at least one entry; `none: {}` must be written out",
            ));
        }
        let networks = webhook.allowed_cidrs.iter().map(|text| {
            let parsed: Result<IpNet, _> = text.parse();
            parsed.map_err(|error| refuse("allowedCIDRs", &format!("{text:?}: {error}")))
        });
        let methods: Vec<_> = webhook.methods.iter().copied().map(method).collect();
        let names: Vec<_> = methods.iter().map(Method::as_str).collect();
        let idempotency = &webhook.idempotency;
        let window = duration::parse_within(&idempotency.window, &duration::IDEMPOTENCY_WINDOW)
            .map_err(|error| refuse("idempotency.window", &error))?;
        let key_header = HeaderName::from_bytes(idempotency.header.as_bytes())
            .map_err(|error| refuse("idempotency.header", &error))?;
        let hidden = hidden(&webhook.auth);
        if hidden.contains(&key_header) {
            return Err(refuse(
                "idempotency.header",
                &format!(
                    "{key_header} carries a credential, and an event's id is stored and shown"
                ),
            ));
        }
        let accepted = match webhook.response.status {
            200 => StatusCode::OK,
            202 => StatusCode::ACCEPTED,
            204 => StatusCode::NO_CONTENT,
            other => {
                return Err(refuse(
                    "response.status",
                    &format!("{other} is none of 200, 202, 204"),
                ));
            }
        };
        Ok(Self {
            namespace: ingestor.metadata.namespace.clone().unwrap_or_default(),
            allow: HeaderValue::from_str(&names.join(", "))
                .map_err(|error| refuse("methods", &error))?,
            methods,
            content_types: webhook
                .content_types
                .iter()
                .map(|t| t.to_ascii_lowercase())
                .collect(),
            max_body: usize::try_from(webhook.max_body_bytes).unwrap_or(usize::MAX),
            networks: networks.collect::<Result<_, _>>()?,
            hidden,
            auth: webhook.auth.clone(),
            rate: webhook.rate_limit,
            replay: Policy {
                header: key_header,
                window,
                by_content: idempotency.by_content,
            },
            accepted,
        })
    }

    /// Whether a media type is accepted; parameters don't count.
    #[must_use]
    pub fn accepts(&self, content_type: &str) -> bool {
        let essence = content_type.split(';').next().unwrap_or_default().trim();
        let mut accepted = self.content_types.iter();
        accepted.any(|accepted| accepted.eq_ignore_ascii_case(essence))
    }

    /// What the schemes refuse of `auth`, whatever the Secrets hold.
    pub fn misconfigured(&self) -> impl Iterator<Item = Refused> {
        let entries = self.auth.iter().enumerate();
        entries.filter_map(|(index, auth)| {
            let Misconfigured { field, why } = Verifier::check(auth).err()?;
            let field = match field {
                "" => format!("auth[{index}]"),
                field => format!("auth[{index}].{field}"),
            };
            Some(Refused { field, why })
        })
    }

    /// The Secrets that `auth` references, in the order of the entries.
    pub fn secrets(&self) -> impl Iterator<Item = &SecretRef> {
        self.auth.iter().filter_map(secret_ref)
    }
}

/// The Secret of an entry; `none` has none.
#[must_use]
pub fn secret_ref(auth: &Auth) -> Option<&SecretRef> {
    let github = auth.github.as_ref().map(|auth| &auth.secret_ref);
    let standard = auth.standard_webhooks.as_ref().map(|auth| &auth.secret_ref);
    let hmac = auth.hmac.as_ref().map(|auth| &auth.secret_ref);
    let api_key = auth.api_key.as_ref().map(|auth| &auth.secret_ref);
    github.or(standard).or(hmac).or(api_key)
}

const fn method(method: AllowedMethod) -> Method {
    match method {
        AllowedMethod::Post => Method::POST,
        AllowedMethod::Put => Method::PUT,
        AllowedMethod::Patch => Method::PATCH,
    }
}

/// Headers that never enter the journal: credentials, and what `auth` names.
fn hidden(auth: &[Auth]) -> Vec<HeaderName> {
    let mut names = vec![
        header::AUTHORIZATION,
        header::COOKIE,
        header::PROXY_AUTHORIZATION,
        HeaderName::from_static("x-hub-signature"),
        HeaderName::from_static("x-hub-signature-256"),
        HeaderName::from_static("webhook-signature"),
        HeaderName::from_static("svix-signature"),
    ];
    let configured = auth.iter().flat_map(|auth| {
        let hmac = auth.hmac.as_ref().map(|auth| auth.header.as_str());
        let api_key = auth.api_key.as_ref().map(|auth| auth.header.as_str());
        [hmac, api_key].into_iter().flatten()
    });
    names.extend(configured.filter_map(|name| HeaderName::from_bytes(name.as_bytes()).ok()));
    names
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn no_credential_becomes_an_events_id() {
        let of = |header: &str| {
            let ingestor = serde_json::from_value(json!({
                "apiVersion": "zen.watcher.io/v1", "kind": "Ingestor",
                "metadata": { "name": "a", "namespace": "team" },
                "spec": {
                    "source": { "webhook": {
                        "auth": [{ "apiKey": { "header": "X-Key", "secretRef": { "name": "s" } } }],
                        "idempotency": { "header": header },
                    } },
                    "normalize": {
                        "category": { "value": "security" }, "severity": { "value": "info" },
                        "eventType": { "value": "x" },
                    },
                },
            }));
            Endpoint::of(&ingestor.unwrap())
        };
        for credential in ["x-key", "Authorization", "cookie", "Webhook-Signature"] {
            let refused = of(credential).unwrap_err();
            assert_eq!(refused.field, "idempotency.header", "{refused}");
        }
        assert!(of("X-Delivery").is_ok());
    }
}
