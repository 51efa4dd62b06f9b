//! Bounds of values that a room checks, too: said once, so that a configuration that was accepted
//! starts.

use std::ops::RangeInclusive;

/// Header fields of a request: the most that the HTTP/1 parser reads is 100.
pub const HEADERS: RangeInclusive<usize> = 1..=100;

/// Bytes of a request's header: as much as the HTTP/1 parser keeps, and room for a signed request.
pub const HEADER_BYTES: RangeInclusive<usize> = 1_024..=65_536;

/// Threads of a process: more than any machine has CPUs for it.
pub const THREADS: RangeInclusive<usize> = 1..=1_024;

/// Requests that wait at once. Each holds a task and its connection's buffers, some 10 KiB: 10 GiB.
pub const WAITERS: usize = 1_000_000;
