use std::{path::Path, time::Duration};

use super::{process::Running as _, *};
use crate::config::flags::Flags;

async fn running(data: &Path) -> Running {
    // Another test may have installed it.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let flags = Flags::default()
        .with("data-dir", data.display().to_string())
        .with("replicas", "1")
        .with("gateway-port", "0")
        .with("admin-port", "0")
        .with("api-port", "0");
    let loaded = Loaded::of([], &flags).unwrap();
    let gateway = gateway::Options::from_config(&loaded.config.gateway);
    let gateway = gateway::Prepared::of(gateway).await.unwrap();
    start(&loaded, gateway).await.unwrap()
}

fn cut(running: &Running) {
    for tasks in [&running.ingress.tasks, &running.api_tasks] {
        tasks.token().cancel();
    }
}

#[tokio::test]
async fn a_part_that_panics_and_an_engine_that_stops_end_the_process() {
    let dir = tempfile::tempdir().unwrap();
    let running = running(dir.path()).await;
    tokio::select! {
        biased;
        broken = running.broken() => panic!("{broken}"),
        () = running.base.ready() => {}
    }
    running.cores.stop(Duration::from_secs(60)).await;
    assert!(matches!(running.broken().await, Error::EngineStopped));
    running
        .base
        .tasks
        .spawn("planted", async { panic!("planted") });
    assert_eq!(running.base.tasks.broken().await, "planted");
    let Error::Panicked(task) = running.broken().await else {
        panic!("a panic is told before what follows from it");
    };
    assert_eq!(task, "planted");
    cut(&running);
}

#[tokio::test]
async fn an_api_that_can_not_write_any_more_ends_the_process_and_shuts_its_gate() {
    let dir = tempfile::tempdir().unwrap();
    let running = running(dir.path()).await;
    running.base.ready().await;
    running.api.embedded.as_ref().unwrap().broken().cancel();
    assert!(matches!(running.broken().await, Error::ApiFailed(_)));
    let waiting = running.base.readiness.waiting();
    assert!(
        waiting.iter().any(|(gate, _)| *gate == "api"),
        "{waiting:?}"
    );
    cut(&running);
    running.cores.stop(Duration::from_secs(60)).await;
}
