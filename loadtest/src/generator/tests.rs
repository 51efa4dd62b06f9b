use std::{net::TcpListener, thread};

use super::{
    answer::{Parsed, parse},
    requests::Id,
    *,
};
use crate::profile::Profile;

#[test]
fn an_answer_is_read_only_when_it_is_whole() {
    let whole = b"HTTP/1.1 202 Accepted\r\ncontent-type: x\r\nContent-Length: 5\r\n\r\nhello";
    for cut in 0..whole.len() {
        assert_eq!(parse(&whole[..cut]), Parsed::Partial, "{cut}");
    }
    let parsed = Parsed::Whole {
        status: 202,
        length: whole.len(),
    };
    assert_eq!(parse(whole), parsed);
    assert_eq!(
        parse(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"),
        Parsed::Nonsense
    );
    assert_eq!(parse(b"SSH-2.0\r\n\r\n"), Parsed::Nonsense);
}

#[test]
fn an_id_is_distinct_and_read_as_it_was_written() {
    let mut ids = Ids::new(0xdead_beef);
    ids.take();
    let id = ids.take();
    let text = String::from_utf8(id.text().to_vec()).unwrap();
    assert_eq!(text, "deadbeef-0000-4000-8000-000000000001");
    assert_eq!(Id::number_of(0xdead_beef, &text), Some(1));
    let event_id = format!("github/{text}");
    assert_eq!(Id::number_of(0xdead_beef, &event_id), Some(1));
    assert_eq!(Id::number_of(1, &text), None);
    assert_eq!(Id::number_of(1, "nonsense"), None);
}

#[test]
fn a_schedule_is_due_when_it_says() {
    for per_second in [1, 3, 200, 15_000] {
        for number in [0, 1, 2, 999, 1_000_000] {
            let at = due_at(number, per_second);
            assert!(due_by(at, per_second) > number, "{number} at {per_second}");
        }
    }
    assert_eq!(due_by(Duration::from_mins(1), 15_000), 900_001);
    assert_eq!(due_within(Duration::from_mins(1), 15_000), 900_000);
}

#[test]
fn a_request_has_the_size_and_the_signature_that_it_says() {
    let mut profile = Profile::load(None).unwrap();
    profile.body_bytes = 1024;
    let requests = Requests::github(&profile, &["/hooks/a/b".to_owned()], "secret");
    let mut out = Vec::new();
    requests.write(Ids::new(7).take(), &mut out);
    let text = String::from_utf8(out).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    assert_eq!(body.len(), 1024);
    assert!(head.contains("X-GitHub-Delivery: 00000007-0000-4000-8000-000000000000"));
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, b"secret");
    let signature = head
        .split("sha256=")
        .nth(1)
        .unwrap()
        .split("\r\n")
        .next()
        .unwrap();
    let bytes: Vec<u8> = (0..64)
        .step_by(2)
        .map(|at| u8::from_str_radix(signature.get(at..at + 2).unwrap(), 16).unwrap())
        .collect();
    aws_lc_rs::hmac::verify(&key, body.as_bytes(), &bytes).unwrap();
}

/// A server that answers each request of `size` bytes with 202 on every connection.
fn server(size: usize) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            thread::spawn(move || {
                let mut request = vec![0; size];
                while io::Read::read_exact(&mut stream, &mut request).is_ok() {
                    let answer = b"HTTP/1.1 202 Accepted\r\ncontent-length: 2\r\n\r\n{}";
                    io::Write::write_all(&mut stream, answer).unwrap();
                }
            });
        }
    });
    address
}

#[test]
fn every_acknowledged_id_is_in_the_ledger_once() {
    let dir = tempfile::tempdir().unwrap();
    let profile = Profile::load(None).unwrap();
    let requests = Requests::github(&profile, &["/hooks/a/b".to_owned()], "secret");
    let target = Target {
        address: server(requests.size()),
        tls: None,
    };
    for pace in [Pace::Closed, Pace::Open { per_second: 2_000 }] {
        let mut ids = Ids::new(1);
        let path = dir.path().join("ledger");
        let mut ledger = Ledger::create(&path).unwrap();
        let window = Window {
            warm_up: Duration::ZERO,
            measure: Duration::from_secs(30),
            at_most: Some(500),
        };
        let inputs = Inputs {
            target: &target,
            requests: &requests,
            ids: &mut ids,
            ledger: &mut ledger,
            connections: 8,
        };
        let stop = AtomicBool::new(false);
        let outcome = run(inputs, pace, window, OnBreak::Reconnect, &stop).unwrap();
        assert_eq!(outcome.acknowledged, 500, "{pace:?} {:?}", outcome.errors);
        assert_eq!(outcome.error_count(), 0);
        assert_eq!(outcome.unanswered, 0);
        let read = Ledger::read(&path).unwrap();
        assert_eq!(read.len(), 500);
        assert_eq!(read, (0..500).collect());
    }
}

/// More connections than requests: each finds an idle one, however the threads are scheduled.
#[test]
fn all_that_a_window_has_is_sent() {
    let dir = tempfile::tempdir().unwrap();
    let profile = Profile::load(None).unwrap();
    let requests = Requests::github(&profile, &["/hooks/a/b".to_owned()], "secret");
    let target = Target {
        address: server(requests.size()),
        tls: None,
    };
    for millis in [1, 7, 10] {
        let mut ledger = Ledger::create(&dir.path().join("ledger")).unwrap();
        let inputs = Inputs {
            target: &target,
            requests: &requests,
            ids: &mut Ids::new(1),
            ledger: &mut ledger,
            connections: 151,
        };
        let window = Window {
            warm_up: Duration::ZERO,
            measure: Duration::from_millis(millis),
            at_most: None,
        };
        let pace = Pace::Open { per_second: 15_000 };
        let stop = AtomicBool::new(false);
        let outcome = run(inputs, pace, window, OnBreak::Reconnect, &stop).unwrap();
        assert_eq!(outcome.late, 0, "{millis} ms");
        assert_eq!(outcome.acknowledged, 15 * millis, "{:?}", outcome.errors);
    }
}
