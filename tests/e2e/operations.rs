//! What an operator relies on: the process stops in order, says what it waits for, and tells the truth.

use tokio::{io::AsyncWriteExt as _, net::TcpStream};

use crate::process::Dev;

async fn connect(dev: &Dev) -> TcpStream {
    let address = dev.ready.gateway.trim_start_matches("http://");
    TcpStream::connect(address).await.unwrap()
}

/// SIGTERM ends the process in order: exit status 0, the engine drained, the journal closed.
async fn stops_in_order(mut dev: Dev) {
    dev.terminate();
    let status = dev.ended().await;
    let output = dev.output();
    assert!(status.success(), "{status}:\n{output}");
    assert!(output.contains("engine drained"), "{output}");
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
