use std::collections::BTreeSet;

use super::*;

/// Around a packet: gRPC's and HTTP/2's heads, TLS's record, TCP's and IP's heads.
const FRAMING: usize = 5 + 9 + 22 + 52;

struct Net {
    now: Moment,
    nodes: Vec<Gossip>,
    holders: Vec<Holder>,
    /// Whose packets to whom are lost.
    cut: BTreeSet<(usize, usize)>,
    sent: Vec<usize>,
}

fn holder(n: usize, incarnation: u64) -> Holder {
    Holder {
        pod: PodName(format!("core-{n}").into()),
        incarnation,
    }
}

fn identity(holder: &Holder) -> Identity {
    Identity::new(holder, "eu-west-1", "eu-west-1a", "10.10.10.10:7443")
}

impl Net {
    /// So many that know each other, after they have settled.
    fn of(count: usize) -> Self {
        let mut net = Self {
            now: Moment(0),
            nodes: (0..count).map(|n| Gossip::new(n as u64)).collect(),
            holders: (0..count).map(|n| holder(n, 1)).collect(),
            cut: BTreeSet::new(),
            sent: vec![0; count],
        };
        for n in 0..count {
            let id = identity(&net.holders[n]);
            net.nodes[n].become_holder(net.now, id);
        }
        for n in 1..count {
            for m in 0..n {
                net.nodes[n].announce(net.now, &holder(m, 1));
            }
        }
        net.run(ms(5_000));
        for n in 0..count {
            let others = (0..count).filter(|m| *m != n);
            assert!(
                others
                    .into_iter()
                    .all(|m| net.nodes[n].is_active(&holder(m, 1)))
            );
        }
        net
    }

    fn deliver(&mut self) {
        loop {
            let mut any = false;
            for from in 0..self.nodes.len() {
                while let Some((to, packet)) = self.nodes[from].poll_packet() {
                    any = true;
                    self.sent[from] += packet.len() + FRAMING;
                    let to = self.holders.iter().position(|of| of.pod == to).unwrap();
                    if !self.cut.contains(&(from, to)) {
                        self.nodes[to].receive(self.now, &packet).unwrap();
                    }
                }
            }
            if !any {
                return;
            }
        }
    }

    fn run(&mut self, duration: Duration) {
        self.until(duration, |_| false);
    }

    /// Runs until it holds; how long that took.
    fn until(&mut self, at_most: Duration, holds: impl Fn(&Self) -> bool) -> Duration {
        let (begin, end) = (self.now, self.now.after(at_most));
        self.deliver();
        while self.now < end && !holds(self) {
            let next = self.nodes.iter().filter_map(Gossip::next).min();
            self.now = next.unwrap_or(end).max(self.now).min(end);
            for n in 0..self.nodes.len() {
                self.nodes[n].timeout(self.now);
            }
            self.deliver();
        }
        self.now.since(begin)
    }

    fn isolate(&mut self, one: usize) {
        let others: Vec<_> = (0..self.nodes.len()).filter(|n| *n != one).collect();
        for n in others {
            self.cut.extend([(one, n), (n, one)]);
        }
    }
}

#[test]
fn one_that_is_silent_is_told_within_two_to_four_seconds_by_all() {
    for count in [2, 3, 10] {
        let mut net = Net::of(count);
        net.isolate(0);
        let gone = holder(0, 1);
        let all = |net: &Net| (1..count).all(|n| net.nodes[n].is_silent(&gone));
        let took = net.until(ms(10_000), all);
        assert!(all(&net), "{count}");
        // Two of three probe it every other second only.
        assert!((ms(1_500)..=ms(5_000)).contains(&took), "{count}: {took:?}");
    }
}

#[test]
fn a_partition_heals_both_ways() {
    for count in [2, 3, 5] {
        let mut net = Net::of(count);
        net.isolate(0);
        net.run(ms(60_000));
        net.cut.clear();
        // What the edge does for each connection that is open.
        for n in 1..count {
            let now = net.now;
            net.nodes[0].announce(now, &holder(n, 1));
        }
        let healed = |net: &Net| {
            let pairs = (0..count).flat_map(|n| (0..count).map(move |m| (n, m)));
            pairs.filter(|(n, m)| n != m).all(|(n, m)| {
                net.nodes[n].is_active(&holder(m, 1)) && !net.nodes[n].is_silent(&holder(m, 1))
            })
        };
        net.until(ms(10_000), healed);
        assert!(healed(&net), "{count}");
        net.run(ms(30_000));
        assert!(healed(&net), "{count}: it lasts");
    }
}

#[test]
fn one_broken_path_of_many_makes_nobody_silent() {
    let mut net = Net::of(4);
    net.cut.extend([(0, 1), (1, 0)]);
    net.run(ms(60_000));
    assert!(net.nodes[0].is_active(&holder(1, 1)) && net.nodes[1].is_active(&holder(0, 1)));
}

#[test]
fn the_next_incarnation_takes_the_place_of_the_one_before() {
    let mut net = Net::of(3);
    net.holders[0] = holder(0, 2);
    let id = identity(&net.holders[0]);
    let now = net.now;
    net.nodes[0].become_holder(now, id);
    let known = |net: &Net| (1..3).all(|n| net.nodes[n].is_active(&holder(0, 2)));
    net.until(ms(5_000), known);
    assert!(known(&net));
    assert!((1..3).all(|n| !net.nodes[n].is_silent(&holder(0, 2))));
}

#[test]
fn ten_members_cost_each_less_than_two_kilobytes_a_second() {
    let mut net = Net::of(10);
    net.run(ms(60_000));
    net.sent = vec![0; 10];
    net.run(ms(60_000));
    let most = net.sent.iter().max().unwrap() / 60;
    // Sent, and as much received.
    assert!(2 * most < 2_048, "{most}");
}

#[test]
fn nobody_to_talk_to_costs_nothing() {
    let mut alone = Gossip::new(1);
    alone.become_holder(Moment(0), identity(&holder(0, 1)));
    assert_eq!(alone.next(), None);
    assert!(alone.poll_packet().is_none());
}

#[test]
fn bytes_of_anybody_change_nothing() {
    let mut net = Net::of(2);
    for packet in [&b""[..], b"x", &[0xff; 64], &[0; 64]] {
        let now = net.now;
        assert!(net.nodes[0].receive(now, packet).is_err());
    }
    let long = vec![0; MOST_PACKET + 1];
    let now = net.now;
    assert!(net.nodes[0].receive(now, &long).is_err());
    net.run(ms(10_000));
    assert!(net.nodes[0].is_active(&holder(1, 1)));
}
