//! What every multi-process test needs: processes that cannot hang the run, memory they share
//! outside the engine, letters that show whether they arrived whole, and leak checks.
//!
//! A test body runs in a *stage*: a process of its own, forked from the test thread, with an arena
//! of its own. Nothing a test does can therefore disturb another one, and a test that hangs is
//! ended from outside with the stacks of all its processes in the failure message.

// Each test binary is compiled with its own copy of this module and uses a part of it.
#![allow(dead_code, unused_imports)]

mod child;
mod footprint;
mod letters;
mod slate;
mod stage;
mod words;

pub use child::{Child, End, die, exec_sleep, exec_true, exit_now, hear_signals, reap_orphans};
pub use footprint::Footprint;
pub use letters::{Ledger, Letter};
pub use slate::Slate;
pub use stage::{isolated, isolated_within, stalled};
pub use words::{note, say};

use procession_engine::Deadline;
use std::time::Duration;

/// What a survivor gets to go on after a death: the promise the engine makes.
pub const PROMPTLY: Duration = Duration::from_secs(2);

/// A deadline that far away.
pub fn promptly() -> Deadline {
    Deadline::after(PROMPTLY)
}

/// A deadline for those who play along: longer than any victim stays stopped.
pub fn patiently() -> Deadline {
    Deadline::after(5 * PROMPTLY)
}

/// Gives others the time to fall asleep over what this process holds. Nothing depends on it: without
/// it, the ways of the sleepers and of those who wake them would be taken less often.
pub fn linger() {
    std::thread::sleep(Duration::from_millis(1));
}

/// A deadline for what is not expected to happen.
pub fn briefly() -> Deadline {
    Deadline::after(Duration::from_millis(20))
}
