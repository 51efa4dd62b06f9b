//! What processes say of themselves on their admin ports.

use std::{path::Path, time::Duration};

use http::{Request, StatusCode, header};
use http_body_util::{BodyExt as _, Empty};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use zen_fabric::ops::admin::{token::Token, wire::Tallies};

use crate::error::{Attempt as _, Error, Result};

/// An admin port answers at once, or its process is stopped.
const ANSWERED_WITHIN: Duration = Duration::from_secs(5);

/// A client of admin ports.
#[derive(Clone, Debug)]
pub struct Admin {
    http: Client<HttpConnector, Empty<&'static [u8]>>,
}

impl Default for Admin {
    fn default() -> Self {
        Self {
            http: Client::builder(TokioExecutor::new()).build_http(),
        }
    }
}

// === impl Admin ===

impl Admin {
    /// The status and text of an answer.
    pub async fn get(&self, url: &str, token: Option<&Token>) -> Result<(StatusCode, String)> {
        let mut request = Request::get(url);
        if let Some(token) = token {
            request = request.header(header::AUTHORIZATION, token.bearer());
        }
        let request = request
            .body(Empty::new())
            .attempt(format!("ask for {url}"))?;
        let asked = async {
            let answer = self.http.request(request).await.attempt("ask")?;
            let status = answer.status();
            let body = answer.into_body().collect().await.attempt("read")?;
            let text = String::from_utf8_lossy(&body.to_bytes()).into_owned();
            Ok::<_, Error>((status, text))
        };
        tokio::time::timeout(ANSWERED_WITHIN, asked)
            .await
            .attempt(format!("wait for an answer of {url}"))?
    }

    /// Every tally of the gateway that works on this data directory.
    pub async fn tallies(&self, data_dir: &Path) -> Result<Tallies> {
        let (token, url) = Token::read(data_dir).attempt("find a gateway's admin port")?;
        let url = format!("{url}/tallies");
        let (status, text) = self.get(&url, Some(&token)).await?;
        if !status.is_success() {
            return Err(Error::new(format!("{url} answered {status}: {text}")));
        }
        serde_json::from_str(&text).attempt(format!("understand the answer of {url}"))
    }

    /// The sum of all series of a metric, over its labels; `None` where there is none.
    pub async fn metric(&self, admin: &str, name: &str) -> Result<Option<f64>> {
        let (_, text) = self.get(&format!("{admin}/metrics"), None).await?;
        Ok(sum(&text, name))
    }
}

/// The sum of all series of a metric in Prometheus's text format.
fn sum(text: &str, name: &str) -> Option<f64> {
    let of_name = text.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        // Another metric may begin with the same name.
        let rest = match rest.strip_prefix('{') {
            Some(labels) => labels.rsplit_once('}')?.1,
            None => rest.strip_prefix(' ')?,
        };
        rest.split_whitespace().next()?.parse::<f64>().ok()
    });
    of_name.fold(None, |sum, value| Some(sum.unwrap_or(0.0) + value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_the_sum_of_its_series() {
        let text = "# HELP sent_total x\nsent_total{peer=\"a\"} 2\nsent_total{peer=\"b}\"} 3.5 7\nsent_total_other 9\nplain 4\n";
        assert_eq!(sum(text, "sent_total"), Some(5.5));
        assert_eq!(sum(text, "plain"), Some(4.0));
        assert_eq!(sum(text, "absent"), None);
    }
}
