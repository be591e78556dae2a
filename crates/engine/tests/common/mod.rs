//! What every multi-process test needs: processes that cannot hang the run, memory they share outside the engine,
//! messages that show whether they arrived whole, and leak checks.
//!
//! A test body runs in a *sandbox*: a process of its own, forked from the test thread, with its own arena. So no test
//! can disturb another one. A test that hangs is ended from outside, and the failure message contains the backtraces
//! of all its processes.

// Each test binary compiles its own copy of this module and uses a part of it.
#![allow(dead_code, unused_imports)]

mod child;
mod delivery_log;
mod failure_log;
mod footprint;
mod sandbox;
mod shared_cells;

pub use child::{Child, End, die, exec_sleep, exec_true, exit_now, handle_sigusr1, reap_orphans};
pub use delivery_log::{DeliveryLog, TestMessage};
pub use failure_log::{log_line, set_context};
pub use footprint::Footprint;
pub use sandbox::{isolated, isolated_within, stalled};
pub use shared_cells::SharedCells;

use procession_engine::Deadline;
use std::time::Duration;

/// How long a survivor may take to go on after a death. The engine promises this.
pub const PROMPTLY: Duration = Duration::from_secs(2);

/// The deadline that the engine promises to keep.
pub fn promptly() -> Deadline {
    Deadline::after(PROMPTLY)
}

/// A deadline for processes that only take part: longer than any victim stays stopped.
pub fn patiently() -> Deadline {
    Deadline::after(5 * PROMPTLY)
}

/// Gives other processes the time to fall asleep while this process holds something. Nothing depends on it: without
/// it, sleeping and waking would be tested less often.
pub fn linger() {
    std::thread::sleep(Duration::from_millis(1));
}

/// A deadline for what is not expected to happen.
pub fn briefly() -> Deadline {
    Deadline::after(Duration::from_millis(20))
}
