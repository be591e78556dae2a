//! The numbers of a supervisor's policy, and how it judges failed starts.

use std::time::{Duration, Instant};

/// How often workers that have not reported are checked: one that dies before it registers causes no event.
pub(super) const CHECK_INTERVAL: Duration = Duration::from_millis(100);

/// How long a worker that no longer registers as alive may take to exit. After that it is killed: it called exec, and
/// lives on as another program.
pub(super) const EXIT_TIMEOUT: Duration = Duration::from_millis(500);

/// After so many failed starts in a row, with no worker ready, the supervisor gives up.
const MAX_FAILED_STARTS: usize = 3;

/// The same for workers that are killed from outside: the cause may go away.
const MAX_KILLED_STARTS: usize = 8;

/// The pause after the first failed start. It doubles with each further one.
const FIRST_RESTART_DELAY: Duration = Duration::from_millis(50);
const MAX_RESTART_DELAY: Duration = Duration::from_secs(1);

/// What differs between pools.
#[derive(Debug, Clone, Copy)]
pub struct Policy {
    /// The time between the request to stop a worker and its kill. If it is zero, workers are killed without a request.
    pub grace: Duration,
    /// Whether a pool that gave up starts no more workers, and whether one failed initializer is enough to give up.
    /// Otherwise the pool tries again when it has tasks.
    pub is_final: bool,
}

/// Why a start failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartFailure {
    /// The process could not be started.
    NotStarted,
    /// The initializer failed.
    Initializer,
    /// The worker ended before it was ready.
    Ended,
    /// The worker was killed by SIGKILL before it was ready.
    Killed,
}

/// The supervisor's judgement on a failed start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FailedStart {
    /// How many starts have failed in a row.
    pub count: usize,
    /// Whether the pool gives up: all its unfinished tasks must fail.
    pub gives_up: bool,
}

/// Failed starts in a row, and what follows from them.
#[derive(Debug)]
pub(super) struct FailedStarts {
    count: usize,
    /// No worker is started before this time.
    pub(super) next_start: Instant,
    pub(super) gave_up: bool,
}

impl FailedStarts {
    pub(super) fn new(now: Instant) -> FailedStarts {
        FailedStarts {
            count: 0,
            next_start: now,
            gave_up: false,
        }
    }

    /// A worker is ready.
    pub(super) fn forget(&mut self, policy: Policy) {
        self.count = 0;
        self.gave_up &= policy.is_final;
    }

    /// Judges a failed start in a pool of `wanted` workers.
    pub(super) fn judge(
        &mut self,
        why: StartFailure,
        policy: Policy,
        wanted: usize,
        none_ready: bool,
        now: Instant,
    ) -> FailedStart {
        let doublings = self.count.min(10) as u32;
        self.next_start = now + (FIRST_RESTART_DELAY * 2_u32.pow(doublings)).min(MAX_RESTART_DELAY);
        self.count += 1;
        let tries = match why {
            StartFailure::Killed => MAX_KILLED_STARTS,
            _ => MAX_FAILED_STARTS,
        };
        let is_enough = self.gave_up || self.count >= tries.max(wanted);
        let is_fatal = policy.is_final && why == StartFailure::Initializer;
        let gives_up = is_fatal || none_ready && is_enough;
        self.gave_up |= gives_up;
        FailedStart {
            count: self.count,
            gives_up,
        }
    }
}
