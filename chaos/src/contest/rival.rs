//! The contest with `kube-leader-election`: two processes of `chaos/rival`, told line by line.

use std::{path::Path, process::Stdio, time::Duration};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
};

use super::Score;
use crate::{
    api::{LEASES, Objects},
    error::{Attempt as _, Error, Result},
};

/// An answer takes milliseconds; a process that says nothing for this long never will.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long the Lease is valid: as long as the crate's documentation proposes.
const TTL: u32 = 15;

/// A candidate in a process of its own; killed when dropped.
#[derive(Debug)]
struct Rival {
    name: &'static str,
    _child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

// === impl Rival ===

impl Rival {
    async fn start(
        program: &Path,
        kubeconfig: &Path,
        namespace: &str,
        name: &'static str,
    ) -> Result<Self> {
        let mut child = Command::new(program)
            .arg(kubeconfig)
            .args([namespace, name])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .attempt(format!(
                "start {}; `make chaos` builds it (cd chaos/rival && cargo build --target-dir ../../target/rival)",
                program.display()
            ))?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(Error::new("connect to the rival's input and output"));
        };
        let mut rival = Self {
            name,
            _child: child,
            input,
            output: BufReader::new(output).lines(),
        };
        rival.hear("ready").await?;
        Ok(rival)
    }

    async fn tell(&mut self, line: &str) -> Result<()> {
        let line = format!("{line}\n");
        self.input.write_all(line.as_bytes()).await.attempt(format!(
            "tell {} `{}`",
            self.name,
            line.trim()
        ))
    }

    async fn line(&mut self) -> Result<String> {
        let line = tokio::time::timeout(PATIENCE, self.output.next_line())
            .await
            .attempt(format!("wait for a line of {}", self.name))?
            .attempt(format!("read a line of {}", self.name))?;
        line.ok_or_else(|| Error::new(format!("{} ended; its error stands above", self.name)))
    }

    async fn hear(&mut self, expected: &str) -> Result<()> {
        let line = self.line().await?;
        if line == expected {
            return Ok(());
        }
        Err(Error::new(format!(
            "{} said `{line}` instead of `{expected}`",
            self.name
        )))
    }

    /// What the crate returned.
    async fn outcome(&mut self) -> Result<Value> {
        let line = self.line().await?;
        serde_json::from_str(&line).attempt(format!("understand what {} said", self.name))
    }
}

/// Both contests with the crate.
#[derive(Debug)]
pub struct Contest {
    one: Rival,
    two: Rival,
    objects: Objects,
    round: u32,
}

// === impl Contest ===

impl Contest {
    /// Starts the two candidates.
    pub async fn start(program: &Path, kubeconfig: &Path, objects: Objects) -> Result<Self> {
        let namespace = objects.namespace().to_owned();
        Ok(Self {
            one: Rival::start(program, kubeconfig, &namespace, "rival-1").await?,
            two: Rival::start(program, kubeconfig, &namespace, "rival-2").await?,
            objects,
            round: 0,
        })
    }

    /// A Lease whose holder has not renewed it for a minute.
    async fn expired(&mut self) -> Result<String> {
        self.round += 1;
        let name = format!("rival-{}", self.round);
        let long_ago = crate::clock::ago(Duration::from_mins(1));
        let lease = json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": { "name": name },
            "spec": {
                "acquireTime": long_ago, "renewTime": long_ago, "holderIdentity": "gone",
                "leaseDurationSeconds": TTL, "leaseTransitions": 0,
            },
        });
        self.objects.create(LEASES, &lease).await?;
        Ok(name)
    }

    /// Both read, then both write. With a transcript of it.
    pub async fn held(&mut self, score: &mut Score) -> Result<Vec<String>> {
        let lease = self.expired().await?;
        let order = format!("hold {lease} {TTL}");
        let mut transcript = vec![format!("Lease {lease}: held by `gone`, expired 45 s ago")];
        for rival in [&mut self.one, &mut self.two] {
            rival.tell(&order).await?;
            rival.hear("decided").await?;
            transcript.push(format!("{} has read it, and is about to write", rival.name));
        }
        let mut won = 0;
        for rival in [&mut self.one, &mut self.two] {
            rival.tell("write").await?;
            let outcome = rival.outcome().await?;
            won += usize::from(is_win(&outcome));
            transcript.push(format!(
                "{} writes; the crate returns {outcome}",
                rival.name
            ));
        }
        score.round(won);
        Ok(transcript)
    }

    /// Both begin at the same moment.
    pub async fn raced(&mut self, score: &mut Score) -> Result<()> {
        let lease = self.expired().await?;
        let order = format!("race {lease} {TTL}");
        self.one.tell(&order).await?;
        self.two.tell(&order).await?;
        let outcomes = [self.one.outcome().await?, self.two.outcome().await?];
        score.round(outcomes.iter().filter(|outcome| is_win(outcome)).count());
        Ok(())
    }
}

fn is_win(outcome: &Value) -> bool {
    outcome.get("won").and_then(Value::as_bool) == Some(true)
}
