//! What `dev` prints when it accepts events: lines that are ready to paste.

use std::{fmt, path::Path};

use super::{children::Listed, sample};
use crate::gateway::sign;

/// The addresses and the sample that the hints are about.
#[derive(Debug)]
pub(super) struct Hints<'a> {
    pub(super) gateway: &'a str,
    pub(super) admin: &'a str,
    pub(super) api: &'a str,
    pub(super) kubeconfig: &'a Path,
    pub(super) data_dir: &'a Path,
    pub(super) program: &'a str,
    /// The sample endpoint's URL and secret; absent where the sample was deleted.
    pub(super) sample: Option<Sample<'a>>,
    /// The cores that are processes.
    pub(super) cores: &'a [Listed],
}

/// The sample endpoint.
#[derive(Debug)]
pub(super) struct Sample<'a> {
    url: String,
    secret: &'a str,
    /// The signature of [`BODY`] under that secret, as GitHub writes it.
    signature: String,
}

impl<'a> Sample<'a> {
    /// The sample behind `gateway`, which is scheme, host and port.
    pub(super) fn new(gateway: &str, secret: &'a str) -> Self {
        let gateway = gateway.trim_end_matches('/');
        Self {
            url: format!("{gateway}/hooks/{}/{}", sample::NAMESPACE, sample::NAME),
            secret,
            signature: sign::github(secret.as_bytes(), BODY.as_bytes()),
        }
    }
}

/// The body of the printed `curl` line.
pub(super) const BODY: &str = r#"{"ref":"refs/heads/main","repository":{"full_name":"octo/hello"},"sender":{"login":"mona"}}"#;

impl fmt::Display for Hints<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            gateway,
            admin,
            api,
            kubeconfig,
            data_dir,
            program,
            ..
        } = self;
        writeln!(out, "zen-fabric accepts events.\n")?;
        writeln!(out, "  gateway     {gateway}")?;
        writeln!(out, "  admin       {admin}   (/livez /readyz /metrics)")?;
        writeln!(out, "  API         {api}")?;
        writeln!(out, "  data        {}", data_dir.display())?;
        for Listed { role, name, pid } in self.cores {
            writeln!(out, "  {role}        {name}   (pid {pid})")?;
        }
        writeln!(out)?;
        if let Some(Sample {
            url,
            secret,
            signature,
        }) = &self.sample
        {
            writeln!(out, "Send a signed event:\n")?;
            writeln!(
                out,
                "  {program} send --url {url} --scheme github --secret {secret} --event push\n"
            )?;
            writeln!(out, "or with curl:\n")?;
            writeln!(
                out,
                "  curl -sS -i {url} -H 'content-type: application/json' -H 'x-github-event: push' -H \"x-github-delivery: $(date +%s%N)\" -H 'x-hub-signature-256: {signature}' -d '{BODY}'\n"
            )?;
        }
        writeln!(out, "See what became of it:\n")?;
        writeln!(
            out,
            "  kubectl --kubeconfig {} get observations -A\n",
            kubeconfig.display()
        )?;
        if let [_, .., last] = self.cores {
            writeln!(out, "See who works on what, and break it:\n")?;
            writeln!(out, "  {program} status --data-dir {}", data_dir.display())?;
            writeln!(
                out,
                "  {program} ring --kubeconfig {} explain {}/{}",
                kubeconfig.display(),
                sample::NAMESPACE,
                sample::NAME
            )?;
            writeln!(out, "  kill -9 {}\n", last.pid)?;
        }
        writeln!(
            out,
            "Ctrl-C stops; started again, everything is still there."
        )
    }
}
