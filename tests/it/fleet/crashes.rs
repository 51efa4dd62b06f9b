//! Replicas that are gone: at once, without a word, and behind a cut path.

use std::time::Duration;

use super::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_alone_owns_everything_and_talks_to_nobody() {
    let world = World::new().await;
    let mut fleet = world.fleet("solo");
    fleet.start("core-0").await;
    let took = fleet
        .until("it owns all", || fleet.log.covered_by(&["core-0"]))
        .await;
    println!("alone: all buckets after {took:?}");
    fleet.settled().await;
    assert_eq!(fleet.of("core-0").counter("fleet_peer_bytes_total", ""), 0);
    fleet.log.check(&[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn three_share_and_the_work_of_a_killed_one_goes_on_elsewhere() {
    let world = World::new().await;
    let mut fleet = world.fleet("crash");
    fleet.start_all(3).await;
    println!("shares {:?}", fleet.log.shares());
    let (mut times, mut incarnations) = (Vec::new(), 0);
    // Followers and leaders in turn; each comes back before the next goes.
    for round in 0..4 {
        let leader = fleet.leader().unwrap();
        let others: Vec<String> = fleet.pods().iter().map(|pod| (*pod).to_owned()).collect();
        let victim = match round % 2 {
            0 => others.into_iter().find(|pod| *pod != leader).unwrap(),
            _ => leader.clone(),
        };
        fleet.kill(&victim);
        let survivors = fleet.pods();
        let took = fleet
            .until("its buckets are worked on", || {
                fleet.log.covered_by(&survivors)
            })
            .await;
        let role = if victim == leader {
            "leader"
        } else {
            "follower"
        };
        println!("{victim} ({role}) killed: its buckets are worked on after {took:?}");
        times.push(took);
        let marks = |pod: &str| fleet.of(pod).counter("fleet_marks_total", "refused");
        incarnations += 1;
        assert!(survivors.iter().map(|pod| marks(pod)).sum::<u64>() >= 1);
        fleet.start(&victim).await;
        fleet.settled().await;
    }
    assert_eq!(incarnations, times.len());
    // Well under a second on a machine of its own; this one is shared.
    assert!(times.iter().all(|took| *took < Duration::from_secs(10)));
    fleet.log.check(&[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_one_that_answers_keeps_its_work_and_one_that_does_not_loses_it() {
    let world = World::new().await;
    let mut fleet = world.fleet("silent");
    fleet.start("core-0").await;
    fleet.start("core-1").await;
    // The greatest name connects to nobody: all its connections come through its own door.
    let door = fleet.start_behind_proxy("core-2").await;
    fleet.settled().await;
    let before = fleet.log.lives();

    door.cut();
    let silent = |pod: &str| {
        let shot = fleet.of(pod).handle.snapshot();
        let link = shot.members.iter().find(|member| member.pod == "core-2");
        link.and_then(|member| member.link.clone()) == Some("silent".to_owned())
    };
    let took = fleet
        .until("it is silent", || silent("core-0") && silent("core-1"))
        .await;
    println!("silence is told by both after {took:?}");
    // It is asked at the API server, where it answers.
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(fleet.log.lives(), before);
    assert!(fleet.log.shares()["core-2"] > 0);

    fleet.of("core-2").api(false);
    let took = fleet
        .until("its work goes on elsewhere", || {
            fleet.log.covered_by(&["core-0", "core-1"])
        })
        .await;
    println!("one that doesn't answer: its buckets are worked on after {took:?}");

    door.mend();
    fleet.of("core-2").api(true);
    fleet.settled().await;
    let lives = fleet.log.lives();
    assert!(lives.contains(&"core-2#2".parse().unwrap()), "{lives:?}");
    fleet.log.check(&["core-2"]);
}
