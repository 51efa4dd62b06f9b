//! The load generator: one thread, non-blocking sockets, one `epoll`.
//!
//! It shares two cores with what it measures, so it does little: requests are signed before the
//! run, and for each one the generator copies 1.4 KiB, patches the delivery's id, writes, waits and
//! reads. What it costs in CPU time is part of every outcome.
//!
//! ```text
//!  Closed   each connection sends its next request when the last one is answered
//!  Open     request n is due at start + n/rate, whatever was answered; its latency counts from
//!           then, so that a stall is seen by every request that it held up (no coordinated omission)
//! ```

mod answer;
mod connection;
mod requests;

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use rustix::{
    buffer::spare_capacity,
    event::{Timespec, epoll},
    fd::OwnedFd,
    time::ClockId,
};
use rustls::ClientConfig;
use zen_fabric::ops::time::{Clock as _, SystemClock};

use crate::ledger::Ledger;
pub(crate) use connection::handshake;
use connection::{Connection, Progress};
pub(crate) use requests::{Id, Ids, Requests};

/// Where to.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    pub(crate) tls: Option<Arc<ClientConfig>>,
}

/// When to send.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pace {
    /// As fast as answers come.
    Closed,
    /// So many per second, whatever comes.
    Open {
        /// Requests per second.
        per_second: u32,
    },
}

/// How long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    /// Not counted.
    pub(crate) warm_up: Duration,
    /// Counted.
    pub(crate) measure: Duration,
    /// Send no more than so many in all.
    pub(crate) at_most: Option<u64>,
}

/// What happens when a connection breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnBreak {
    /// It is an error, and the connection is opened again.
    Reconnect,
    /// The run ends: the server was killed on purpose.
    End,
}

/// What came of a run.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// 202 answers, the warm-up's included; each is in the ledger.
    pub(crate) acknowledged: u64,
    /// 202 answers that came within the measured window.
    pub(crate) counted: u64,
    /// The measured window.
    pub(crate) measured: Duration,
    /// Latencies of the counted ones, in nanoseconds.
    pub(crate) latencies: Histogram<u64>,
    /// Everything that was no 202, by what it was.
    pub(crate) errors: BTreeMap<String, u64>,
    /// Requests that were sent and never answered.
    pub(crate) unanswered: u64,
    /// Requests of the schedule that were not sent when it ended (open loop).
    pub(crate) late: u64,
    /// CPU time of the generator's thread.
    pub(crate) cpu: Duration,
    /// From the first request to the last answer.
    pub(crate) elapsed: Duration,
    /// When request 0 of an open loop was due.
    pub(crate) start: Instant,
}

impl Outcome {
    /// Of a run in which nothing was sent.
    pub(crate) fn of_nothing(window: Window) -> Self {
        Self {
            acknowledged: 0,
            counted: 0,
            measured: window.measure,
            latencies: histogram(),
            errors: BTreeMap::new(),
            unanswered: 0,
            late: 0,
            cpu: Duration::ZERO,
            elapsed: Duration::ZERO,
            start: now(),
        }
    }

    pub(crate) fn per_second(&self) -> f64 {
        float(self.counted) / self.measured.as_secs_f64()
    }

    pub(crate) fn error_count(&self) -> u64 {
        self.errors.values().sum()
    }

    /// A percentile in milliseconds.
    pub(crate) fn millis(&self, percentile: f64) -> f64 {
        float(self.latencies.value_at_percentile(percentile)) / 1e6
    }

    /// The mean in milliseconds.
    pub(crate) fn mean_millis(&self) -> f64 {
        self.latencies.mean() / 1e6
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "rates and percentiles are for reading"
)]
pub(crate) fn float(count: u64) -> f64 {
    count as f64
}

/// Three digits, from a microsecond to ten minutes.
pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1_000, 600_000_000_000, 3)
        .unwrap_or_else(|_bounds_are_constants| Histogram::new_from(&empty()))
}

fn empty() -> Histogram<u64> {
    // Three digits and automatic bounds: never refused.
    #[expect(
        clippy::expect_used,
        reason = "constant arguments that the library documents as valid"
    )]
    Histogram::new(3).expect("three significant digits")
}

/// How long answers are waited for after the last request.
const LAST_ANSWERS: Duration = Duration::from_secs(15);

/// How long one wait for events may take, so that a stop is seen.
const TICK: Duration = Duration::from_millis(20);

/// One run in progress.
pub(crate) struct Run<'a> {
    target: &'a Target,
    requests: &'a Requests,
    ids: &'a mut Ids,
    ledger: &'a mut Ledger,
    pace: Pace,
    window: Window,
    on_break: OnBreak,
    epoll: OwnedFd,
    connections: Vec<Connection>,
    idle: Vec<usize>,
    start: Instant,
    ending: bool,
    sent: u64,
    outcome: Outcome,
}

/// What a run needs beside its schedule.
pub(crate) struct Inputs<'a> {
    pub(crate) target: &'a Target,
    pub(crate) requests: &'a Requests,
    pub(crate) ids: &'a mut Ids,
    pub(crate) ledger: &'a mut Ledger,
    pub(crate) connections: usize,
}

/// Runs to the end of the window, or until `stop` is set.
pub(crate) fn run(
    inputs: Inputs<'_>,
    pace: Pace,
    window: Window,
    on_break: OnBreak,
    stop: &AtomicBool,
) -> io::Result<Outcome> {
    let cpu = cpu_time();
    let mut run = Run::open(inputs, pace, window, on_break)?;
    run.start = now();
    run.go(stop)?;
    let mut outcome = run.outcome;
    let waiting = run.connections.iter().map(|one| u64::from(one.waits()));
    outcome.unanswered += waiting.sum::<u64>();
    outcome.start = run.start;
    if let Pace::Open { per_second } = pace
        && !run.ending
    {
        let whole = window.warm_up + window.measure;
        outcome.late = due_within(whole, per_second).saturating_sub(run.sent);
    }
    outcome.elapsed = now().saturating_duration_since(run.start);
    outcome.cpu = cpu_time().saturating_sub(cpu);
    run.ledger.flush()?;
    Ok(outcome)
}

impl<'a> Run<'a> {
    fn open(inputs: Inputs<'a>, pace: Pace, window: Window, on_break: OnBreak) -> io::Result<Self> {
        let Inputs {
            target,
            requests,
            ids,
            ledger,
            connections: count,
        } = inputs;
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let mut connections = Vec::with_capacity(count);
        for number in 0..count {
            let connection = Connection::open(target)?;
            register(&epoll, &connection, number)?;
            connections.push(connection);
        }
        Ok(Self {
            target,
            requests,
            ids,
            ledger,
            pace,
            window,
            on_break,
            epoll,
            idle: (0..count).collect(),
            connections,
            start: now(),
            ending: false,
            sent: 0,
            outcome: Outcome::of_nothing(window),
        })
    }

    fn go(&mut self, stop: &AtomicBool) -> io::Result<()> {
        let end = self.start + self.window.warm_up + self.window.measure;
        let mut events = Vec::with_capacity(self.connections.len().max(1));
        let mut caught_up = false;
        loop {
            let now = now();
            if now >= end && !caught_up && !self.ending && !stop.load(Ordering::Relaxed) {
                self.catch_up(end)?;
                caught_up = true;
            }
            let over = self.ending || now >= end || self.spent() || stop.load(Ordering::Relaxed);
            if over && (!self.any_waits() || now >= end + LAST_ANSWERS) {
                return Ok(());
            }
            let wait = if over { TICK } else { self.send_due(now, end)? };
            events.clear();
            match epoll::wait(
                &self.epoll,
                spare_capacity(&mut events),
                Some(&timespec(wait)),
            ) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            for event in &events {
                let number = usize::try_from(event.data.u64()).unwrap_or(usize::MAX);
                self.answered(number)?;
            }
        }
    }

    /// Sends, when the window is over, what was due within it and slept through: the last wait may
    /// end a little late. Latencies count from the due times as ever, and what finds no idle
    /// connection is late for good.
    fn catch_up(&mut self, end: Instant) -> io::Result<()> {
        if let Pace::Open { .. } = self.pace {
            let last = end.checked_sub(Duration::from_nanos(1)).unwrap_or(end);
            self.send_due(last, end)?;
        }
        Ok(())
    }

    fn any_waits(&self) -> bool {
        self.connections.iter().any(Connection::waits)
    }

    fn spent(&self) -> bool {
        self.window.at_most.is_some_and(|most| self.sent >= most)
    }

    /// Sends what is due on idle connections and says how long nothing will be.
    fn send_due(&mut self, now: Instant, end: Instant) -> io::Result<Duration> {
        let left = end.saturating_duration_since(now).min(TICK);
        let Pace::Open { per_second } = self.pace else {
            while !self.spent()
                && let Some(number) = self.idle.pop()
            {
                self.send(number, SystemClock.instant())?;
            }
            return Ok(left);
        };
        let passed = now.saturating_duration_since(self.start);
        let due = due_by(passed, per_second);
        while self.sent < due && !self.spent() {
            let Some(number) = self.idle.pop() else {
                // The next answer frees a connection; the request keeps its due time.
                return Ok(left);
            };
            let intended = self.start + due_at(self.sent, per_second);
            self.send(number, intended)?;
        }
        let next = self.start + due_at(self.sent, per_second);
        Ok(next.saturating_duration_since(now).min(left))
    }

    fn send(&mut self, number: usize, intended: Instant) -> io::Result<()> {
        self.sent += 1;
        let id = self.ids.take();
        let Some(connection) = self.connections.get_mut(number) else {
            return Ok(());
        };
        let sent = connection.send(self.requests, id, intended);
        match sent {
            Ok(()) => Ok(()),
            // Seen again, and handled, when the connection is read.
            Err(error) if error.kind() != io::ErrorKind::InvalidInput => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Reads what has come.
    fn answered(&mut self, number: usize) -> io::Result<()> {
        let Some(connection) = self.connections.get_mut(number) else {
            return Ok(());
        };
        match connection.receive() {
            Progress::Waiting => Ok(()),
            Progress::Answer {
                status,
                id,
                intended,
            } => {
                self.idle.push(number);
                self.account(status, id, intended)
            }
            Progress::Broken(_) if self.on_break == OnBreak::End => {
                // Answers that lie in other sockets are still read: they are acknowledgements.
                self.ending = true;
                self.outcome.unanswered += u64::from(connection.waits());
                epoll::delete(&self.epoll, connection.socket())?;
                connection.abandon();
                Ok(())
            }
            Progress::Broken(why) => {
                *self.outcome.errors.entry(why).or_default() += 1;
                self.outcome.unanswered += u64::from(connection.waits());
                *connection = Connection::open(self.target)?;
                register(&self.epoll, connection, number)?;
                if !self.idle.contains(&number) {
                    self.idle.push(number);
                }
                Ok(())
            }
        }
    }

    fn account(&mut self, status: u16, id: u64, intended: Instant) -> io::Result<()> {
        let now = now();
        if status != 202 {
            *self.outcome.errors.entry(status.to_string()).or_default() += 1;
            return Ok(());
        }
        self.outcome.acknowledged += 1;
        self.ledger.acknowledged(id)?;
        let from = self.start + self.window.warm_up;
        // A closed loop counts what comes within the window; an open one what was due in it, so
        // that a late answer is not left out.
        let at = match self.pace {
            Pace::Closed => now,
            Pace::Open { .. } => intended,
        };
        if at >= from && at < from + self.window.measure {
            self.outcome.counted += 1;
            let latency = now.saturating_duration_since(intended);
            let nanos = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
            self.outcome.latencies.saturating_record(nanos);
        }
        Ok(())
    }
}

/// The status of a whole answer.
pub(crate) fn parse_answer(bytes: &[u8]) -> Option<u16> {
    match answer::parse(bytes) {
        answer::Parsed::Whole { status, .. } => Some(status),
        answer::Parsed::Partial | answer::Parsed::Nonsense => None,
    }
}

fn register(epoll: &OwnedFd, connection: &Connection, number: usize) -> io::Result<()> {
    let data = epoll::EventData::new_u64(u64::try_from(number).unwrap_or(u64::MAX));
    epoll::add(epoll, connection.socket(), data, epoll::EventFlags::IN)?;
    Ok(())
}

/// How many requests are due when `passed` is over: request 0 at once.
fn due_by(passed: Duration, per_second: u32) -> u64 {
    let due = passed.as_nanos() * u128::from(per_second) / 1_000_000_000 + 1;
    u64::try_from(due).unwrap_or(u64::MAX)
}

/// How many requests a window has: what is due at its very end is the next one's.
fn due_within(window: Duration, per_second: u32) -> u64 {
    due_by(window.saturating_sub(Duration::from_nanos(1)), per_second)
}

/// When request `number` is due.
pub(crate) fn due_at(number: u64, per_second: u32) -> Duration {
    let nanos = u128::from(number) * 1_000_000_000 / u128::from(per_second.max(1));
    // Rounded up, so that a request is due no earlier than `due_by` counts it.
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX).saturating_add(1))
}

fn timespec(wait: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(wait.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: wait.subsec_nanos().into(),
    }
}

fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(ClockId::ThreadCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    let nanos = u32::try_from(time.tv_nsec).unwrap_or_default();
    Duration::new(seconds, nanos)
}

pub(crate) fn now() -> Instant {
    SystemClock.instant()
}

#[cfg(test)]
mod tests;
