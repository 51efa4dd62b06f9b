use super::*;

async fn running(data: &Path) -> Running {
    // Another test may have installed it.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let mut config = Config {
        data_dir: data.to_owned(),
        ..Config::default()
    };
    config.gateway.port = 0;
    config.admin.port = 0;
    config.api.port = 0;
    start(&config).await.unwrap().0
}

#[tokio::test]
async fn a_part_that_panics_and_an_engine_that_stops_end_the_process() {
    let dir = tempfile::tempdir().unwrap();
    let running = running(dir.path()).await;
    tokio::select! {
        biased;
        broken = running.broken() => panic!("{broken}"),
        () = running.ready() => {}
    }
    running.engine.drain(Duration::from_secs(60)).await;
    assert!(matches!(running.broken().await, Error::EngineStopped));
    running
        .admin_tasks
        .spawn("planted", async { panic!("planted") });
    assert_eq!(running.admin_tasks.broken().await, "planted");
    let Error::Panicked(task) = running.broken().await else {
        panic!("a panic is told before what follows from it");
    };
    assert_eq!(task, "planted");
    for tasks in [
        &running.gateway_tasks,
        &running.engine_tasks,
        &running.api_tasks,
    ] {
        tasks.token().cancel();
    }
}

#[tokio::test]
async fn an_api_that_can_not_write_any_more_ends_the_process_and_shuts_its_gate() {
    let dir = tempfile::tempdir().unwrap();
    let running = running(dir.path()).await;
    running.ready().await;
    running.api.embedded.as_ref().unwrap().broken().cancel();
    assert!(matches!(running.broken().await, Error::ApiFailed(_)));
    let waiting = running.readiness.waiting();
    assert!(
        waiting.iter().any(|(gate, _)| *gate == "api"),
        "{waiting:?}"
    );
    for tasks in [
        &running.gateway_tasks,
        &running.engine_tasks,
        &running.api_tasks,
        &running.admin_tasks,
    ] {
        tasks.token().cancel();
    }
}
