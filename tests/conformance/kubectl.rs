//! A stock kubectl, driven through the same commands on both servers: what it prints and how it
//! ends must be the same, but for times, ages, versions and uids.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    process::Stdio,
    sync::{Arc, LazyLock},
};

use regex::Regex;
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    process::Command,
};
use zen_fabric::{
    embedded::{Handle, Options, Server},
    ops::{tasks::Tasks, time::SystemClock},
    testing::cluster::{Tool, User, find_tool},
};

use crate::{
    bench::{Bench, Finisher, PATIENCE, WIDGET, unique},
    real::cluster,
};

/// A kubectl with one server, and what was said so far.
struct Kubectl {
    kubeconfig: PathBuf,
    namespace: String,
    folder: TempDir,
    said: Vec<(String, String)>,
    _handle: Option<Handle>,
}

/// What an outcome is compared without.
fn normalized(text: &str, namespace: &str) -> String {
    static RULES: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
        [
            (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "<time>"),
            (
                r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
                "<uid>",
            ),
            (r#"(?i)(resource ?version"?:\s+)"?\d+"?"#, "$1<version>"),
            (r"(?m)(^|\s)\d+(s|m|h|d|m\d+s)($|\s)", "$1<age>$3"),
            // Server-side apply is what the embedded API deliberately does less.
            (r", application/apply-patch\+yaml", ""),
            (r"[ \t]+", " "),
            (r"(?m) $", ""),
        ]
        .map(|(pattern, with)| (Regex::new(pattern).unwrap(), with))
        .into()
    });
    RULES
        .iter()
        .fold(text.replace(namespace, "<ns>"), |text, (rule, with)| {
            rule.replace_all(&text, *with).into_owned()
        })
}

// === impl Kubectl ===

impl Kubectl {
    async fn on_real(namespace: &str) -> Self {
        let bench = Bench::new(
            cluster().await.client(&User::admin()).unwrap(),
            Finisher::Test,
        )
        .await;
        let kubeconfig = cluster().await.kubeconfig(&User::admin());
        Self::with(
            kubeconfig,
            namespace,
            tempfile::tempdir().unwrap(),
            None,
            bench,
        )
        .await
    }

    async fn on_embedded(namespace: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let options = Options {
            data_dir: None,
            bind: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            clock: Arc::new(SystemClock),
        };
        let handle = Server::start(options, &Tasks::new()).await.unwrap();
        let kubeconfig = folder.path().join("kubeconfig");
        handle.write_kubeconfig(&kubeconfig).unwrap();
        let bench = Bench::new(handle.client(), Finisher::Server).await;
        Self::with(kubeconfig, namespace, folder, Some(handle), bench).await
    }

    async fn with(
        kubeconfig: PathBuf,
        namespace: &str,
        folder: TempDir,
        handle: Option<Handle>,
        bench: Bench,
    ) -> Self {
        crate::kinds::install(&bench).await;
        bench
            .wait_published("zen.watcher.io/v1", &["ingestors", "observations"])
            .await;
        bench.new_namespace(namespace).await;
        Self {
            kubeconfig,
            namespace: namespace.to_owned(),
            folder,
            said: Vec::new(),
            _handle: handle,
        }
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Command::new(find_tool(Tool::Kubectl).unwrap_or_else(|e| panic!("{e}")));
        command
            .arg("--kubeconfig")
            .arg(&self.kubeconfig)
            .arg("--cache-dir")
            .arg(self.folder.path().join("cache"))
            .arg("--namespace")
            .arg(&self.namespace)
            .args(words(&line.replace("NAMESPACE", &self.namespace)))
            // Neither a configuration nor a terminal of the person who runs the test.
            .env("HOME", self.folder.path())
            .env_remove("KUBECONFIG")
            .env("KUBECTL_KUBERC", "false")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    /// Runs a line; remembers what it printed and how it ended.
    async fn run(&mut self, line: &str) {
        self.pipe(line, "").await;
    }

    /// Runs a line that reads `input`.
    async fn pipe(&mut self, line: &str, input: &str) {
        let mut child = self.command(line).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let input = input.replace("NAMESPACE", &self.namespace);
        let exchange = async {
            stdin.write_all(input.as_bytes()).await.unwrap();
            drop(stdin);
            child.wait_with_output().await.unwrap()
        };
        let output = tokio::time::timeout(PATIENCE, exchange)
            .await
            .unwrap_or_else(|_| panic!("kubectl {line} does not end"));
        let printed = format!(
            "{}{}[{}]",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
            output.status.code().unwrap_or(-1)
        );
        self.said
            .push((line.to_owned(), normalized(&printed, &self.namespace)));
    }
}

/// Words apart by spaces; a pair of single quotes keeps them together.
fn words(line: &str) -> Vec<String> {
    line.split('\'')
        .enumerate()
        .flat_map(|(n, part)| {
            if n % 2 == 1 {
                vec![part.to_owned()]
            } else {
                part.split_whitespace().map(ToOwned::to_owned).collect()
            }
        })
        .collect()
}

/// Runs a scenario on both servers and compares line by line.
async fn compare(scenario: impl AsyncFn(&mut Kubectl)) {
    let namespace = unique("kubectl");
    let mut real = Kubectl::on_real(&namespace).await;
    let mut embedded = Kubectl::on_embedded(&namespace).await;
    scenario(&mut real).await;
    scenario(&mut embedded).await;
    assert_eq!(real.said.len(), embedded.said.len());
    let differing: Vec<String> = real
        .said
        .iter()
        .zip(&embedded.said)
        .filter(|(real, embedded)| real != embedded)
        .map(|((line, real), (_, embedded))| {
            format!("$ kubectl {line}\n--- real\n{real}\n--- embedded\n{embedded}\n")
        })
        .collect();
    assert!(
        differing.is_empty(),
        "{} of {} differ:\n{}",
        differing.len(),
        real.said.len(),
        differing.join("\n")
    );
}

const INGESTOR: &str = include_str!("../../examples/github.yaml");

const OBSERVATION: &str = r#"
apiVersion: zen.watcher.io/v1
kind: Observation
metadata:
  name: NAME
  labels: { zen.io/source: github }
spec:
  source: github
  category: security
  severity: high
  eventType: github_push
  detectedAt: "2026-11-23T10:00:00Z"
  resource: { kind: Repository, name: org/repo }
  details: { sender: octocat, nested: { list: [1, two, null] } }
"#;

fn observation(name: &str) -> String {
    OBSERVATION.replace("NAME", name)
}

/// The sample without its namespace: kubectl's flag says which.
fn ingestor() -> String {
    let sample = INGESTOR
        .lines()
        .filter(|line| !line.trim().starts_with("namespace:"));
    sample.collect::<Vec<_>>().join("\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn applies_a_definition_and_waits_for_it() {
    compare(async |kubectl| {
        let definition = WIDGET.replace("conformance.test", "kubectl.test");
        kubectl.pipe("apply -f -", &definition).await;
        kubectl
            .run("wait --for=condition=Established crd/widgets.kubectl.test --timeout=30s")
            .await;
        kubectl.pipe("apply -f -", &definition).await;
        kubectl.run("get crd widgets.kubectl.test").await;
        kubectl
            .run("get crd widgets.kubectl.test -o jsonpath={.status.acceptedNames}")
            .await;
        kubectl.run("delete crd widgets.kubectl.test").await;
        kubectl.run("get crd widgets.kubectl.test").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn applies_an_ingestor_and_shows_it() {
    compare(async |kubectl| {
        kubectl.pipe("apply -f -", &ingestor()).await;
        kubectl.pipe("apply -f -", &ingestor()).await;
        kubectl.run("get ingestors").await;
        kubectl.run("get igr -o wide").await;
        kubectl.run("get zen -o name").await;
        kubectl.run("get ingestors.v1.zen.watcher.io -o yaml").await;
        kubectl
            .run("get igr -o 'jsonpath={.items[*].spec.source.webhook.methods}'")
            .await;
        kubectl
            .run("get igr -o custom-columns=NAME:.metadata.name,ON:.spec.enabled")
            .await;
        kubectl.run("describe ingestors").await;
        let paused = ingestor().replacen("spec:", "spec:\n  enabled: false", 1);
        kubectl.pipe("apply -f -", &paused).await;
        kubectl
            .run("wait --for=jsonpath={.spec.enabled}=false ingestors --all --timeout=30s")
            .await;
        kubectl.run("get igr -l no=such").await;
        kubectl.run("delete ingestors --all").await;
        kubectl.run("get igr").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn creates_changes_and_deletes_observations() {
    compare(async |kubectl| {
        for name in ["a", "b", "c"] {
            kubectl.pipe("create -f -", &observation(name)).await;
        }
        kubectl.pipe("create -f -", &observation("a")).await;
        kubectl.run("get obs").await;
        kubectl.run("get obs a -o wide --show-labels").await;
        kubectl.run("get observations --field-selector spec.severity=high,metadata.name=b").await;
        kubectl.run("get observations --field-selector spec.source=github").await;
        kubectl.run("get obs -l zen.io/source=github --sort-by=.metadata.name -o name").await;
        kubectl.run("get obs --chunk-size=1 -o name").await;
        kubectl.run("describe obs a").await;
        kubectl.run("label obs a team=x").await;
        kubectl.run("label obs a team=y").await;
        kubectl.run("annotate obs --all note=seen").await;
        kubectl.run(r#"patch obs a --type merge -p '{"spec":{"severity":"low"}}'"#).await;
        kubectl.run(r#"patch obs a --type merge -p '{"spec":{"count":5}}'"#).await;
        kubectl
            .run(r#"patch obs a --type json -p '[{"op":"test","path":"/spec/count","value":5},{"op":"replace","path":"/spec/count","value":6}]'"#)
            .await;
        kubectl
            .run(r#"patch obs a --subresource=status --type merge -p '{"status":{"processed":true}}'"#)
            .await;
        kubectl.run(r#"patch obs a -p '{"spec":{"count":7}}'"#).await;
        kubectl.run("get obs a -o yaml").await;
        kubectl.run("delete obs a").await;
        kubectl.run("delete obs a").await;
        kubectl.run("delete obs a --ignore-not-found").await;
        kubectl.run("delete obs -l zen.io/source=github").await;
        kubectl.run("get obs").await;
        kubectl.run("wait --for=delete obs/b --timeout=30s").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn says_what_is_wrong() {
    compare(async |kubectl| {
        kubectl.run("get obs missing").await;
        kubectl.run("get nothing").await;
        let wrong = observation("a").replace("severity: high", "severity: HIGH");
        kubectl.pipe("create -f -", &wrong).await;
        kubectl.pipe("apply -f -", &wrong).await;
        let unknown = observation("a").replace("severity: high", "severity: high\n  sverity: low");
        kubectl.pipe("create -f -", &unknown).await;
        kubectl.pipe("create --validate=warn -f -", &unknown).await;
        let unknown = unknown.replace("name: a", "name: b");
        kubectl.pipe("apply --validate=strict -f -", &unknown).await;
        let both = ingestor().replacen("webhook:", "webhok: {}\n    webhook:", 1);
        kubectl.pipe("apply -f -", &both).await;
        let versionless = observation("a").replace("zen.watcher.io/v1", "zen.watcher.io/v9");
        kubectl.pipe("apply -f -", &versionless).await;
        kubectl
            .pipe("create -n nowhere -f -", &observation("x"))
            .await;
        kubectl
            .pipe("create --dry-run=server -f -", &observation("y"))
            .await;
        kubectl.run("get obs y").await;
    })
    .await;
}

/// From the spec on: of apiVersion, kind and metadata the embedded API says less.
#[tokio::test(flavor = "multi_thread")]
async fn explains_the_kinds() {
    compare(async |kubectl| {
        for what in [
            "ingestors.spec",
            "ingestor.spec.source.webhook",
            "igr.spec.dedup.strategy",
            "observation.spec",
            "obs.spec.applied",
        ] {
            kubectl.run(&format!("explain {what}")).await;
        }
        kubectl.run("explain ingestors.spec --recursive").await;
        kubectl.run("explain observation.spec.nothing").await;
        kubectl
            .run("api-resources --api-group=zen.watcher.io")
            .await;
        kubectl.run("api-resources --categories=zen -o name").await;
        kubectl.run("explain configmap.data").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn handles_core_kinds() {
    compare(async |kubectl| {
        kubectl.run("create configmap settings --from-literal=a=1 --from-literal=b=2").await;
        kubectl.run("get cm settings").await;
        kubectl.run("get cm settings -o jsonpath={.data}").await;
        // kubectl describes entries in the order of a Go map, so only one can be compared.
        kubectl.run("create configmap single --from-literal=a=1").await;
        kubectl.run("describe cm single").await;
        kubectl.run("create secret generic hook --from-literal=key=hunter2").await;
        kubectl.run("get secrets").await;
        kubectl.run("describe secret hook").await;
        kubectl.run("get secret hook -o 'jsonpath={.data.key}'").await;
        kubectl.run(r#"patch secret hook -p '{"stringData":{"more":"x"}}'"#).await;
        kubectl.run(r#"patch cm settings -p '{"data":{"a":null,"c":"3"}}'"#).await;
        kubectl.run("get cm settings -o jsonpath={.data}").await;
        kubectl.run("get secrets,configmaps -o name").await;
        let lease = "apiVersion: coordination.k8s.io/v1\nkind: Lease\nmetadata:\n  name: leader\nspec:\n  holderIdentity: me\n  leaseDurationSeconds: 15\n";
        kubectl.pipe("apply -f -", lease).await;
        kubectl.run("get leases").await;
        kubectl.run("get namespace NAMESPACE").await;
        kubectl.run("get events").await;
        kubectl.run("delete secret/hook cm/settings cm/single lease/leader").await;
        kubectl.run("delete namespace NAMESPACE --wait=false").await;
    })
    .await;
}

/// A watch prints what is there and what comes, each as a row.
#[tokio::test(flavor = "multi_thread")]
async fn watches() {
    compare(async |kubectl| {
        kubectl.pipe("create -f -", &observation("a")).await;
        let mut watch = kubectl.command("get obs --watch").spawn().unwrap();
        let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();
        let mut rows = Vec::new();
        // The heading, what is there, and then one row for each change.
        for change in ["", "", r#"{"spec":{"count":2}}"#, r#"{"spec":{"count":3}}"#] {
            if !change.is_empty() {
                kubectl
                    .run(&format!("patch obs a --type merge -p '{change}'"))
                    .await;
            }
            let line = tokio::time::timeout(PATIENCE, lines.next_line())
                .await
                .expect("the watch prints a row");
            rows.push(line.unwrap().unwrap());
        }
        watch.kill().await.unwrap();
        let namespace = kubectl.namespace.clone();
        kubectl.said.push((
            "get obs --watch".to_owned(),
            normalized(&rows.join("\n"), &namespace),
        ));
    })
    .await;
}
