//! What an operator relies on: the process stops in order, says what it waits for, and tells the truth.

use std::{
    fs,
    io::{self, PipeReader, PipeWriter, Write as _},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use http::StatusCode;
use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use crate::process::{Child, Dev, Sender, read, spawn, until};

async fn connect(dev: &Dev) -> TcpStream {
    let address = dev.ready.gateway.trim_start_matches("http://");
    TcpStream::connect(address).await.unwrap()
}

/// SIGTERM ends the process in order: exit status 0, every core drained, the journal closed.
async fn stops_in_order(mut dev: Dev) {
    dev.terminate();
    let status = dev.ended().await;
    let output = dev.output();
    assert!(status.success(), "{status}:\n{output}");
    for n in 0..3 {
        let stopped = format!("a core stopped pod=core-{n} how=exit status: 0");
        assert!(output.contains(&stopped), "{stopped}:\n{output}");
    }
}

#[tokio::test]
async fn a_connection_without_a_request_does_not_keep_the_process_from_stopping() {
    let dir = tempfile::tempdir().unwrap();
    let dev = Dev::start(&dir.path().join("data")).await;
    let _idle = connect(&dev).await;
    stops_in_order(dev).await;
}

#[tokio::test]
async fn a_client_that_takes_all_of_the_drain_leaves_time_for_the_engine_and_the_journal() {
    let dir = tempfile::tempdir().unwrap();
    let flags = [
        "--drain-timeout=500ms",
        "--body-timeout=100ms",
        "--max-wait=100ms",
    ];
    let dev = Dev::start_with(&dir.path().join("data"), &flags).await;
    let mut mute = connect(&dev).await;
    // Then it never reads nor answers what it is asked.
    mute.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
        .await
        .unwrap();
    stops_in_order(dev).await;
}

#[tokio::test]
async fn a_second_ctrl_c_aborts_a_drain_and_nothing_else_does() {
    let dir = tempfile::tempdir().unwrap();
    let flags = [
        "--body-timeout=10m",
        "--drain-timeout=20m",
        "--grace-period=30m",
    ];
    let mut dev = Dev::start_with(&dir.path().join("data"), &flags).await;
    let mut holds = connect(&dev).await;
    let head = "POST /hooks/demo/github HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\
        Content-Length: 2\r\nExpect: 100-continue\r\n\r\n";
    holds.write_all(head.as_bytes()).await.unwrap();
    // The gateway waits for a body that never comes.
    let mut asked = [0; 12];
    holds.read_exact(&mut asked).await.unwrap();
    assert_eq!(&asked, b"HTTP/1.1 100");
    dev.terminate();
    until("it drains", async || {
        dev.output()
            .contains("draining; a second Ctrl-C aborts")
            .then_some(())
    })
    .await;
    for signal in [Signal::TERM, Signal::TERM, Signal::INT] {
        dev.signal(signal);
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(dev.runs(), "{}", dev.output());
    }
    dev.signal(Signal::INT);
    let status = dev.ended().await;
    let output = dev.output();
    assert_eq!(status.code(), Some(1), "{status}:\n{output}");
    assert!(output.contains("aborted by a second SIGINT"), "{output}");
}

#[tokio::test]
async fn a_core_that_is_asked_twice_drains_to_its_end() {
    let dir = tempfile::tempdir().unwrap();
    let dev = Dev::start(&dir.path().join("data")).await;
    let children = dev.children();
    dev.terminate();
    until("it drains", async || {
        dev.output().contains("draining").then_some(())
    })
    .await;
    // As where a whole process group is asked.
    for _ in 0..3 {
        for child in &children {
            let pid = Pid::from_raw(i32::try_from(child.pid).unwrap()).unwrap();
            // It may have ended.
            let _ = kill_process(pid, Signal::TERM);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    stops_in_order(dev).await;
}

/// A pipe that is full, and the end that nobody reads.
async fn full_pipe() -> (PipeReader, PipeWriter) {
    let (reader, writer) = io::pipe().unwrap();
    let mut filling = writer.try_clone().unwrap();
    let written = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&written);
    // Ends with the reader.
    std::thread::spawn(move || {
        while let Ok(count) = filling.write(&[b'x'; 1_024]) {
            counter.fetch_add(count, Ordering::SeqCst);
        }
    });
    let mut before = 0;
    until("the pipe is full", async || {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let now = written.load(Ordering::SeqCst);
        let full = now > 0 && now == std::mem::replace(&mut before, now);
        full.then_some(())
    })
    .await;
    (reader, writer)
}

#[tokio::test]
async fn an_output_that_nobody_reads_holds_up_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let (unread, full) = full_pipe().await;
    let mut dev = Dev::start_to(&data, &[], &[], full.into()).await;
    // What comes and goes is listed, though the line about it can't be written.
    let first = &dev.children()[0];
    let pid = Pid::from_raw(i32::try_from(first.pid).unwrap()).unwrap();
    kill_process(pid, Signal::KILL).unwrap();
    until("it has come back", async || {
        let again = dev.children();
        let is_new = |child: &Child| child.name == first.name && child.pid != first.pid;
        again.iter().any(is_new).then_some(())
    })
    .await;
    // The new one may be too young to know what SIGTERM asks of it: it just ends then.
    dev.terminate();
    let status = dev.ended().await;
    assert!(status.success(), "{status}:\n{}", dev.output());
    drop(unread);
}

/// A kubeconfig of an API server that takes connections and never answers.
async fn mute_api(kubeconfig: &Path) -> TcpListener {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = format!("http://{}", listener.local_addr().unwrap());
    let text = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: mute\n\
         clusters: [{{ name: mute, cluster: {{ server: \"{server}\" }} }}]\n\
         contexts: [{{ name: mute, context: {{ cluster: mute, user: mute }} }}]\n\
         users: [{{ name: mute, user: {{}} }}]\n"
    );
    fs::write(kubeconfig, text).unwrap();
    listener
}

#[tokio::test]
async fn probes_answer_during_the_start_and_a_stale_ready_file_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let kubeconfig = dir.path().join("kubeconfig");
    let _api = mute_api(&kubeconfig).await;
    let ready_file = data.with_extension("ready.json");
    fs::write(&ready_file, r#"{"pid":1}"#).unwrap();
    let flags = ["--kubeconfig", kubeconfig.to_str().unwrap()];
    let mut child = spawn(&data, &flags, &[]);
    let sender = Sender::new();
    let (admin, readyz) = until("the API is what is waited for", async || {
        if let Some(status) = child.try_wait().unwrap() {
            panic!("ended with {status}: {}", read(&data.with_extension("out")));
        }
        let admin = fs::read_to_string(data.join("admin-url")).ok()?;
        let answer = sender.get(&format!("{admin}/readyz")).await;
        let text = String::from_utf8(answer.body.to_vec()).unwrap();
        let waits = text.contains("waiting for api: waiting for the API server");
        waits.then_some((admin, (answer.status, text)))
    })
    .await;
    assert_eq!(readyz.0, StatusCode::SERVICE_UNAVAILABLE);
    for gate in ["gateway", "cores"] {
        assert!(
            readyz.1.contains(&format!("waiting for {gate}: ")),
            "{}",
            readyz.1
        );
    }
    assert!(!readyz.1.contains("journal"), "it is open: {}", readyz.1);
    for (path, status) in [
        ("/livez", StatusCode::OK),
        ("/metrics", StatusCode::OK),
        ("/tallies", StatusCode::SERVICE_UNAVAILABLE),
    ] {
        assert_eq!(
            sender.get(&format!("{admin}{path}")).await.status,
            status,
            "{path}"
        );
    }
    assert!(!ready_file.exists(), "nothing is ready");
    child.kill().unwrap();
    child.wait().unwrap();
}

/// Soft and hard limit, as the kernel tells them.
#[cfg(target_os = "linux")]
fn core_limit(pid: u32) -> Vec<String> {
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max core file size"));
    let fields = line.unwrap().split_whitespace();
    fields.skip(4).take(2).map(str::to_owned).collect()
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn secrets_are_kept_out_of_core_dumps_unless_asked() {
    let dir = tempfile::tempdir().unwrap();
    let dev = Dev::start(&dir.path().join("data")).await;
    assert_eq!(core_limit(dev.ready.pid), ["0", "0"]);
    drop(dev);
    let dev = Dev::start_with(&dir.path().join("data"), &["--core-dumps=true"]).await;
    assert_eq!(core_limit(dev.ready.pid), core_limit(std::process::id()));
}
