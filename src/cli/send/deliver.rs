//! Deliveries: built, sent on schedule, answered, counted.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use futures::StreamExt as _;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::Full;
use uuid::Uuid;

use super::{
    super::{Exit, Failure, Streams, http::Client},
    sign::{self, Scheme},
};
use crate::ops::time::Clock;

/// Requests in flight: enough to hold a rate against a distant endpoint, few enough to be polite.
const IN_FLIGHT: usize = 32;

/// What every delivery has in common.
#[derive(Debug)]
pub(super) struct Template {
    pub(super) method: Method,
    pub(super) uri: Uri,
    pub(super) content_type: HeaderValue,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    pub(super) event: Option<HeaderValue>,
    pub(super) wait: Option<u8>,
    pub(super) scheme: Scheme,
    pub(super) body: Bytes,
}

/// How many, how fast.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) count: u64,
    pub(super) rate: Option<f64>,
    pub(super) id: Option<String>,
    pub(super) quiet: bool,
}

impl Template {
    /// One delivery; headers that were asked for replace the scheme's.
    fn request(&self, id: &str, unix_seconds: i64) -> Result<Request<Full<Bytes>>, Failure> {
        let mut request = Request::new(Full::new(self.body.clone()));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        let headers = request.headers_mut();
        headers.insert(header::CONTENT_TYPE, self.content_type.clone());
        headers.insert(
            header::USER_AGENT,
            HeaderValue::from_static(concat!("zen-fabric/", env!("CARGO_PKG_VERSION"))),
        );
        if let (Scheme::Github(_), Some(event)) = (&self.scheme, &self.event) {
            headers.insert("x-github-event", event.clone());
        }
        if let Some(seconds) = self.wait {
            let value = HeaderValue::from_str(&format!("wait={seconds}"))?;
            headers.insert("prefer", value);
        }
        headers.extend(sign::headers(&self.scheme, id, unix_seconds, &self.body)?);
        for (name, _) in &self.headers {
            headers.remove(name);
        }
        for (name, value) in &self.headers {
            headers.append(name.clone(), value.clone());
        }
        Ok(request)
    }
}

impl Plan {
    fn id(&self, number: u64) -> String {
        match &self.id {
            Some(id) if self.count == 1 => id.clone(),
            Some(id) => format!("{id}-{number}"),
            None => Uuid::new_v4().to_string(),
        }
    }

    /// When delivery `number`, counted from 1, is due after the start.
    fn due(&self, number: u64) -> Duration {
        let gaps = Duration::try_from_secs_f64(
            self.rate
                .map_or(0.0, |rate| float(number.saturating_sub(1)) / rate),
        );
        gaps.unwrap_or(Duration::MAX)
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a schedule; exact up to 2^53 deliveries"
)]
fn float(count: u64) -> f64 {
    count as f64
}

/// Sends all, prints the answers, and succeeds when every one of them is a 2xx.
pub(super) async fn all(
    client: &Client,
    template: &Template,
    plan: &Plan,
    clock: &dyn Clock,
    streams: &mut Streams<'_>,
) -> Result<Exit, Failure> {
    let start = clock.instant();
    let in_flight = if plan.rate.is_some() { IN_FLIGHT } else { 1 };
    let deliveries = futures::stream::iter(1..=plan.count).map(|number| async move {
        let due = plan.due(number);
        let passed = clock.instant().saturating_duration_since(start);
        tokio::time::sleep(due.saturating_sub(passed)).await;
        let request = template.request(&plan.id(number), clock.now().0.div_euclid(1000))?;
        Ok::<_, Failure>(client.send(request).await)
    });
    let mut answers = std::pin::pin!(deliveries.buffered(in_flight));
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    let mut exit = Exit::Success;
    while let Some(answer) = answers.next().await {
        let what = match answer? {
            Ok(answer) => {
                if !answer.status().is_success() {
                    exit = Exit::Failure;
                }
                if !plan.quiet {
                    print(&answer, plan.count == 1, streams)?;
                }
                name(answer.status())
            }
            Err(error) if plan.count == 1 => return Err(error.into()),
            Err(error) => {
                exit = Exit::Failure;
                if !plan.quiet {
                    write!(streams.err, "{}", Failure::from(error))?;
                }
                "no answer".to_owned()
            }
        };
        *counts.entry(what).or_default() += 1;
    }
    if plan.count > 1 || plan.quiet {
        for (what, count) in counts {
            writeln!(streams.out, "{count} × {what}")?;
        }
    }
    Ok(exit)
}

fn name(status: StatusCode) -> String {
    format!(
        "{} {}",
        status.as_str(),
        status.canonical_reason().unwrap_or_default()
    )
}

/// Headers of an answer that tell what became of the event.
const TELLING: [&str; 5] = [
    "location",
    "preference-applied",
    "idempotency-replayed",
    "retry-after",
    "x-request-id",
];

fn print(answer: &Response<Bytes>, whole: bool, streams: &mut Streams<'_>) -> Result<(), Failure> {
    let body = printable(&String::from_utf8_lossy(answer.body()));
    if !whole {
        writeln!(streams.out, "{} {body}", answer.status().as_str())?;
        return Ok(());
    }
    writeln!(streams.out, "{}", name(answer.status()))?;
    for header in TELLING {
        if let Some(value) = answer.headers().get(header) {
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            writeln!(streams.out, "{header}: {}", printable(&value))?;
        }
    }
    writeln!(streams.out, "{body}")?;
    Ok(())
}

/// A server's text without what a terminal would obey.
fn printable(text: &str) -> String {
    text.trim_end()
        .chars()
        .map(|c| if c.is_control() && c != '\n' { ' ' } else { c })
        .collect()
}
