//! `zen-fabric send`: an event, signed as its provider would.

mod deliver;
mod sign;

use std::{
    fs,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Uri};
use secrecy::SecretString;

use super::{Environment, Exit, Failure, Streams, http::Client};
use crate::ops::time::SystemClock;

/// The variable that `--secret` may come from: unlike a flag, other users of the machine can't see it.
const SECRET_VARIABLE: &str = "ZEN_SEND_SECRET";

/// See [`super::Command::Send`].
#[derive(clap::Args, Debug)]
#[command(next_help_heading = "Request")]
pub struct Args {
    /// The endpoint, such as <http://127.0.0.1:8080/hooks/demo/github>
    #[arg(long)]
    url: Uri,
    /// Method of the request
    #[arg(long, default_value = "POST")]
    method: Method,
    /// The body: a file's name, `-` for standard input, or the text itself; `@NAME` is always a file
    #[arg(
        long,
        value_name = "FILE|-|TEXT",
        default_value = "{}",
        allow_hyphen_values = true
    )]
    data: String,
    /// Content-Type of the body
    #[arg(long, default_value = "application/json")]
    content_type: HeaderValue,
    /// One more header; may be given several times
    #[arg(long = "header", value_name = "NAME: VALUE", value_parser = header)]
    headers: Vec<(HeaderName, HeaderValue)>,
    /// The event's type, where the scheme has a header for it (github)
    #[arg(long)]
    event: Option<HeaderValue>,
    /// The delivery's id; default: made at random. With --repeat, `-1`, `-2`, … are appended
    #[arg(long)]
    id: Option<String>,
    /// Wait up to so many seconds for the Observation (`Prefer: wait`)
    #[arg(long, value_name = "SECONDS")]
    wait: Option<u8>,
    /// Trust only the certificates of this PEM file
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,

    /// How the provider signs
    #[arg(long, value_enum, default_value_t = sign::Kind::None, help_heading = "Signature")]
    scheme: sign::Kind,
    /// The secret or key [env: `ZEN_SEND_SECRET`, which other users of the machine can't see]
    #[arg(long, conflicts_with = "secret_file", help_heading = "Signature")]
    secret: Option<SecretString>,
    /// File with the secret or key; one line break at its end is not part of it
    #[arg(long, value_name = "FILE", help_heading = "Signature")]
    secret_file: Option<PathBuf>,
    #[command(flatten)]
    options: sign::Options,

    /// How many events to send, each with an id of its own
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..), help_heading = "Repetition")]
    repeat: u64,
    /// Events per second; default: as fast as they are answered
    #[arg(long, value_parser = rate, help_heading = "Repetition")]
    rate: Option<f64>,
    /// Print the counts at the end only
    #[arg(long, help_heading = "Repetition")]
    quiet: bool,
}

fn header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = text
        .split_once(':')
        .ok_or_else(|| format!("`{text}` is not NAME: VALUE"))?;
    let name = HeaderName::from_bytes(name.trim().as_bytes()).map_err(|error| error.to_string())?;
    let value = HeaderValue::from_str(value.trim()).map_err(|error| error.to_string())?;
    Ok((name, value))
}

/// The slowest and fastest rates whose schedule makes sense: one in a day, and a microsecond apart.
fn rate(text: &str) -> Result<f64, String> {
    let rate: f64 = text.parse().map_err(|error| format!("{error}"))?;
    if (0.000_01..=1_000_000.0).contains(&rate) {
        Ok(rate)
    } else {
        Err("want 0.00001 to 1000000".to_owned())
    }
}

pub(super) fn run(
    args: &Args,
    environment: &Environment,
    streams: &mut Streams<'_>,
) -> Result<Exit, Failure> {
    let body = body(&args.data, streams)?;
    let secret = secret(args, environment)?;
    let scheme = args
        .options
        .scheme(args.scheme, secret.as_ref())
        .map_err(Failure::usage)?;
    let template = deliver::Template {
        method: args.method.clone(),
        uri: uri(&args.url)?,
        content_type: args.content_type.clone(),
        headers: args.headers.clone(),
        event: args.event.clone(),
        wait: args.wait,
        scheme,
        body,
    };
    let plan = deliver::Plan {
        count: args.repeat,
        rate: args.rate,
        id: args.id.clone(),
        quiet: args.quiet,
    };
    let client = Client::new(args.ca_file.as_deref())?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(deliver::all(
        &client,
        &template,
        &plan,
        &SystemClock,
        streams,
    ))
}

fn uri(url: &Uri) -> Result<Uri, Failure> {
    let scheme = url.scheme_str().unwrap_or_default();
    if !["http", "https"].contains(&scheme) || url.authority().is_none() {
        return Err(Failure::usage(format!(
            "--url: `{url}` is no URL such as http://127.0.0.1:8080/hooks/demo/github"
        )));
    }
    Ok(url.clone())
}

fn body(data: &str, streams: &mut Streams<'_>) -> Result<Bytes, Failure> {
    if data == "-" || data == "@-" {
        let mut body = Vec::new();
        streams.input.read_to_end(&mut body)?;
        return Ok(body.into());
    }
    if let Some(name) = data.strip_prefix('@') {
        return read(Path::new(name)).map(Bytes::from);
    }
    let path = Path::new(data);
    if !data.starts_with(['{', '[']) && path.is_file() {
        return read(path).map(Bytes::from);
    }
    Ok(Bytes::copy_from_slice(data.as_bytes()))
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    fs::read(path).map_err(|error| Failure::from(format!("read {}: {error}", path.display())))
}

fn secret(args: &Args, environment: &Environment) -> Result<Option<SecretString>, Failure> {
    if let Some(path) = &args.secret_file {
        let text = String::from_utf8(read(path)?)
            .map_err(|_not_text| Failure::from(format!("{} is not UTF-8", path.display())))?;
        let line = text.strip_suffix('\n').unwrap_or(&text);
        return Ok(Some(line.strip_suffix('\r').unwrap_or(line).into()));
    }
    let variable = environment
        .iter()
        .find(|(name, _)| name == SECRET_VARIABLE)
        .map(|(_, value)| SecretString::from(value.as_str()));
    Ok(args.secret.clone().or(variable))
}
