use std::io::ErrorKind;

use super::*;

/// Long beside what loopback takes, short beside a test run.
const QUIET: Duration = Duration::from_millis(300);
const PATIENCE: Duration = Duration::from_secs(20);

struct World {
    proxy: Proxy,
    tasks: Tasks,
}

/// A proxy before a listener that says back what it hears. Who dials is known by `name`.
async fn world(name: &'static str) -> World {
    let tasks = Tasks::new();
    let echo = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = echo.local_addr().unwrap();
    let group = tasks.clone();
    tasks.spawn("echo", async move {
        while let Ok((mut stream, _)) = echo.accept().await {
            group.spawn_contained("echoed", async move {
                let (mut from, mut to) = stream.split();
                drop(tokio::io::copy(&mut from, &mut to).await);
            });
        }
    });
    let resolve: Resolve = Arc::new(move |_| Some(name.to_owned()));
    let proxy = Proxy::start(resolve, &tasks).await.unwrap();
    proxy.point(Some(target));
    let world = World { proxy, tasks };
    drop(world.dial().await);
    world
}

impl World {
    /// It listens a moment after it is told to.
    async fn dial(&self) -> TcpStream {
        let begun = crate::clock::At::now();
        loop {
            match TcpStream::connect(self.proxy.address()).await {
                Ok(stream) => return stream,
                Err(error) => assert!(begun.passed() < PATIENCE, "{error}"),
            }
            tokio::time::sleep(AGAIN_AFTER).await;
        }
    }

    async fn refuses(&self) -> bool {
        let begun = crate::clock::At::now();
        while begun.passed() < PATIENCE {
            let dialed = TcpStream::connect(self.proxy.address()).await;
            // One that comes as the listener goes is reset.
            if dialed.is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused) {
                return true;
            }
            tokio::time::sleep(AGAIN_AFTER).await;
        }
        false
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.tasks.token().cancel();
    }
}

async fn say(stream: &mut TcpStream, text: &[u8]) {
    stream.write_all(text).await.unwrap();
}

/// What comes back within the patience.
async fn hear(stream: &mut TcpStream, bytes: usize) -> Vec<u8> {
    let mut heard = vec![0; bytes];
    let read = stream.read_exact(&mut heard);
    tokio::time::timeout(PATIENCE, read).await.unwrap().unwrap();
    heard
}

async fn hears_nothing(stream: &mut TcpStream) -> bool {
    let mut byte = [0];
    tokio::time::timeout(QUIET, stream.read(&mut byte))
        .await
        .is_err()
}

async fn is_reset(stream: &mut TcpStream) -> bool {
    let mut byte = [0];
    match tokio::time::timeout(PATIENCE, stream.read(&mut byte)).await {
        Ok(Err(error)) => error.kind() == ErrorKind::ConnectionReset,
        _ => false,
    }
}

#[tokio::test]
async fn bytes_pass_and_are_counted() {
    let world = world("a").await;
    let mut stream = world.dial().await;
    say(&mut stream, b"hello").await;
    assert_eq!(hear(&mut stream, 5).await, b"hello");
    assert_eq!(world.proxy.carried().0, 10);
}

#[tokio::test]
async fn what_is_dropped_is_silent_and_comes_when_the_way_is_open_again() {
    let world = world("a").await;
    let mut stream = world.dial().await;
    world.proxy.treat("a", Mode::Drop);
    say(&mut stream, b"1").await;
    assert!(hears_nothing(&mut stream).await);
    let mut late = world.dial().await;
    say(&mut late, b"2").await;
    assert!(hears_nothing(&mut late).await, "a new connection is silent");
    world.proxy.treat_all(Mode::Pass);
    assert_eq!(hear(&mut stream, 1).await, b"1");
    assert_eq!(hear(&mut late, 1).await, b"2");
}

#[tokio::test]
async fn one_way_is_one_way() {
    let world = world("a").await;
    for mode in [Mode::OnlyThere, Mode::OnlyBack] {
        world.proxy.treat_all(Mode::Pass);
        let mut stream = world.dial().await;
        say(&mut stream, b"x").await;
        assert_eq!(hear(&mut stream, 1).await, b"x");
        let (before, _) = world.proxy.carried();
        world.proxy.treat("a", mode);
        say(&mut stream, b"y").await;
        assert!(hears_nothing(&mut stream).await, "{mode:?}");
        let (after, _) = world.proxy.carried();
        let there = u64::from(mode == Mode::OnlyThere);
        assert_eq!(after - before, there, "{mode:?}: what arrived behind it");
    }
}

#[tokio::test]
async fn standing_and_new_connections_are_reset() {
    let world = world("a").await;
    let mut stream = world.dial().await;
    say(&mut stream, b"x").await;
    assert_eq!(hear(&mut stream, 1).await, b"x");
    world.proxy.treat("a", Mode::Reject);
    assert!(is_reset(&mut stream).await);
    assert!(is_reset(&mut world.dial().await).await);
}

#[tokio::test]
async fn another_dialer_is_not_touched() {
    let world = world("a").await;
    world.proxy.treat("b", Mode::Reject);
    let mut stream = world.dial().await;
    say(&mut stream, b"x").await;
    assert_eq!(hear(&mut stream, 1).await, b"x");
}

#[tokio::test]
async fn a_delay_is_at_least_that_long() {
    let world = world("a").await;
    world.proxy.treat_all(Mode::Delay(QUIET));
    let mut stream = world.dial().await;
    let begun = crate::clock::At::now();
    say(&mut stream, b"x").await;
    assert_eq!(hear(&mut stream, 1).await, b"x");
    assert!(begun.passed() >= 2 * QUIET, "there and back");
}

#[tokio::test]
async fn where_nobody_passes_or_nothing_is_behind_it_refuses() {
    let world = world("a").await;
    let mut stream = world.dial().await;
    say(&mut stream, b"x").await;
    assert_eq!(hear(&mut stream, 1).await, b"x");
    world.proxy.treat_all(Mode::Reject);
    assert!(is_reset(&mut stream).await);
    assert!(world.refuses().await);
    world.proxy.treat_all(Mode::Pass);
    let mut stream = world.dial().await;
    say(&mut stream, b"y").await;
    assert_eq!(hear(&mut stream, 1).await, b"y");
    world.proxy.point(None);
    assert!(world.refuses().await);
    say(&mut stream, b"z").await;
    assert_eq!(hear(&mut stream, 1).await, b"z", "what stands, stays");
}

/// How many connections to the proxy were ended by their dialers and are kept all the same.
fn kept(proxy: &Proxy) -> usize {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let port = format!(":{:04X}", proxy.address().port());
    let waits = |line: &&str| {
        let mut fields = line.split_whitespace();
        let (local, state) = (fields.nth(1), fields.nth(1));
        local.is_some_and(|local| local.ends_with(&port)) && state == Some("08")
    };
    table.lines().filter(waits).count()
}

#[tokio::test]
async fn who_gives_up_waiting_is_not_kept() {
    let world = world("a").await;
    world.proxy.treat_all(Mode::Drop);
    for _ in 0..8 {
        let mut waits = world.dial().await;
        say(&mut waits, b"hello").await;
    }
    let begun = crate::clock::At::now();
    while kept(&world.proxy) > 0 {
        assert!(begun.passed() < PATIENCE, "{}", kept(&world.proxy));
        tokio::time::sleep(AGAIN_AFTER).await;
    }
}
