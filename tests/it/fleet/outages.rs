//! The API server is away: nobody is dead, nobody starts anything.

use super::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn while_the_api_server_is_away_gates_are_shut_and_nobody_dies() {
    let world = World::new().await;
    let mut fleet = world.fleet("outage");
    fleet.start_all(3).await;
    let (lives, owners) = (fleet.log.lives(), fleet.log.owners());
    assert_eq!(fleet.log.open_gates().len(), 3);
    for replica in fleet.replicas.values() {
        replica.api(false);
    }
    let took = fleet
        .until("all gates shut", || fleet.log.open_gates().is_empty())
        .await;
    println!("gates shut after {took:?}");
    tokio::time::sleep(std::time::Duration::from_secs(8)).await;
    for replica in fleet.replicas.values() {
        replica.api(true);
    }
    let took = fleet
        .until("all gates open", || fleet.log.open_gates().len() == 3)
        .await;
    println!("gates open again after {took:?}");
    fleet.settled().await;
    assert_eq!(fleet.log.lives(), lives, "nobody died");
    assert_eq!(fleet.log.owners(), owners, "nothing moved");
    fleet.log.check(&[]);
}
