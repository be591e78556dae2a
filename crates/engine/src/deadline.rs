//! Deadlines: points in time until which calls wait.

use std::time::Duration;

/// An absolute point on the monotonic clock up to which a call may block.
///
/// [`Deadline::NOW`] never blocks, [`Deadline::NEVER`] blocks for as long as it takes. Being
/// absolute, a deadline can be carried through retries and interruptions without growing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(u64);

impl Deadline {
    /// Does not block at all.
    pub const NOW: Deadline = Deadline(0);
    /// Blocks for as long as it takes.
    pub const NEVER: Deadline = Deadline(u64::MAX);

    /// The point `time` from now; [`Deadline::NEVER`] when that is beyond the range of the clock.
    pub fn after(time: Duration) -> Deadline {
        if time.is_zero() {
            return Deadline::NOW;
        }
        let ns = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        // Kernel time values are signed: 2^62 ns (146 years) and more count as never.
        match monotonic_ns().checked_add(ns) {
            Some(at) if at < 1 << 62 => Deadline(at),
            _ => Deadline::NEVER,
        }
    }

    /// The earlier of the two.
    #[must_use]
    pub fn min(self, other: Deadline) -> Deadline {
        Deadline(self.0.min(other.0))
    }

    /// Whether the point has passed. [`Deadline::NOW`] always has.
    pub fn is_past(self) -> bool {
        self.0 == 0 || (self.0 != u64::MAX && monotonic_ns() >= self.0)
    }

    /// The time left, or `None` when there is no limit.
    pub fn remaining(self) -> Option<Duration> {
        match self.0 {
            u64::MAX => None,
            0 => Some(Duration::ZERO),
            at => Some(Duration::from_nanos(at.saturating_sub(monotonic_ns()))),
        }
    }

    pub(crate) fn as_nanos(self) -> u64 {
        self.0
    }
}

/// Nanoseconds on the clock that all processes of this machine share.
pub(crate) fn monotonic_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// As [`monotonic_ns`], late by a few milliseconds at most, and cheaper to read.
pub(crate) fn coarse_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::MonotonicCoarse);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}
