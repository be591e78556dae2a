//! Workers without an entry in the table of processes, as those that another library starts.
//!
//! Nothing says when they exit: the front looks at intervals. Nor does the supervisor know which of them a message is
//! from, so it only counts how many have reported.

use std::collections::VecDeque;
use std::time::Instant;

use super::Exit;
use super::policy::CHECK_INTERVAL;

#[derive(Debug)]
pub(super) struct Unwatched {
    /// Those that have not reported.
    starting: usize,
    ready: usize,
    /// Those whose initializer failed.
    failed: usize,
    /// Those that have exited and still count.
    exits: VecDeque<Exit>,
    check_at: Instant,
}

impl Unwatched {
    pub(super) fn new(now: Instant) -> Unwatched {
        Unwatched {
            starting: 0,
            ready: 0,
            failed: 0,
            exits: VecDeque::new(),
            check_at: now,
        }
    }

    pub(super) fn count(&self) -> usize {
        self.starting + self.ready + self.failed
    }

    pub(super) fn has_ready(&self) -> bool {
        self.ready > 0
    }

    pub(super) fn started(&mut self, now: Instant) {
        self.starting += 1;
        self.check_at = now + CHECK_INTERVAL;
    }

    pub(super) fn ready(&mut self) {
        if self.starting > 0 {
            self.starting -= 1;
            self.ready += 1;
        }
    }

    pub(super) fn failed(&mut self) {
        if self.starting > 0 {
            self.starting -= 1;
            self.failed += 1;
        }
    }

    pub(super) fn exited(&mut self, exit: Exit) {
        self.exits.push_back(exit);
    }

    pub(super) fn has_exits(&self) -> bool {
        !self.exits.is_empty()
    }

    /// Removes a worker that has exited. Returns how, and whether it may be that it had not reported.
    pub(super) fn remove_exited(&mut self) -> Option<(Exit, bool)> {
        let exit = self.exits.pop_front()?;
        let counts = [&mut self.failed, &mut self.starting, &mut self.ready];
        let at = counts.iter().position(|count| **count > 0)?;
        *counts.into_iter().nth(at)? -= 1;
        Some((exit, at == 1))
    }

    /// Whether to look now which of them have exited.
    pub(super) fn is_check_due(&mut self, now: Instant) -> bool {
        let is_due = self.count() > 0 && now >= self.check_at;
        if is_due {
            self.check_at = now + CHECK_INTERVAL;
        }
        is_due
    }

    pub(super) fn next_check(&self) -> Option<Instant> {
        (self.count() > 0).then_some(self.check_at)
    }
}
