//! Waiting without holding up the interpreter.
//!
//! A blocking method first tries to get what it wants while attached. Only then does it detach from
//! the interpreter and sleep in slices of at most half a second, running Python's signal handlers
//! between them, so that Ctrl-C works in whichever thread the kernel delivers the signal to. The
//! deadline is fixed before the first slice: neither slices nor signals stretch it.

use std::time::Duration;

use procession_engine::Deadline;
use procession_engine::error::{GetError, LockError, PutError, WaitError};
use procession_engine::sync::BarrierError;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

const SLICE: Duration = Duration::from_millis(500);
const SHORTEST_NAP: Duration = Duration::from_micros(50);
const LONGEST_NAP: Duration = Duration::from_millis(10);

/// How an attempt ended that may be tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Halt {
    /// The slice, or the deadline, is over.
    TimedOut,
    /// A signal arrived.
    Interrupted,
}

/// Errors that can say "not yet".
pub trait Halting {
    /// Why the attempt stopped, or `None` when trying again would not help.
    fn halt(&self) -> Option<Halt>;
}

impl Halting for LockError {
    fn halt(&self) -> Option<Halt> {
        match self {
            LockError::TimedOut => Some(Halt::TimedOut),
            LockError::Interrupted => Some(Halt::Interrupted),
            LockError::OwnerDied => None,
        }
    }
}

impl Halting for WaitError {
    fn halt(&self) -> Option<Halt> {
        Some(match self {
            WaitError::TimedOut => Halt::TimedOut,
            WaitError::Interrupted => Halt::Interrupted,
        })
    }
}

impl Halting for PutError {
    fn halt(&self) -> Option<Halt> {
        match self {
            PutError::Full => Some(Halt::TimedOut),
            PutError::Interrupted => Some(Halt::Interrupted),
            PutError::Closed | PutError::Failed(_) => None,
        }
    }
}

impl Halting for GetError {
    fn halt(&self) -> Option<Halt> {
        match self {
            GetError::Empty => Some(Halt::TimedOut),
            GetError::Interrupted => Some(Halt::Interrupted),
            GetError::Closed | GetError::Failed(_) => None,
        }
    }
}

impl Halting for BarrierError {
    fn halt(&self) -> Option<Halt> {
        match self {
            BarrierError::TimedOut => Some(Halt::TimedOut),
            BarrierError::Interrupted => Some(Halt::Interrupted),
            BarrierError::Broken => None,
        }
    }
}

/// The deadline of a call with the usual `block` and `timeout` arguments.
pub fn deadline(block: bool, timeout: Option<f64>) -> PyResult<Deadline> {
    match timeout {
        _ if !block => Ok(Deadline::NOW),
        None => Ok(Deadline::NEVER),
        Some(seconds) if seconds.is_nan() => Err(PyValueError::new_err(
            "a timeout cannot be NaN; pass a number of seconds or None",
        )),
        Some(seconds) if seconds <= 0.0 => Ok(Deadline::NOW),
        Some(seconds) => {
            Ok(Duration::try_from_secs_f64(seconds).map_or(Deadline::NEVER, Deadline::after))
        }
    }
}

/// Repeats `attempt`, detached, until it succeeds, fails for good or `deadline` has passed.
///
/// An exception of a signal handler ends the wait and is returned as the outer error.
pub fn wait<T, E, F>(py: Python<'_>, deadline: Deadline, attempt: F) -> PyResult<Result<T, E>>
where
    T: Send,
    E: Halting + Send,
    F: FnMut(Deadline) -> Result<T, E> + Send,
{
    wait_while(py, deadline, || Ok(()), attempt)
}

/// Like [`wait`], and asks `go_on` between the slices whether there is still a point in waiting.
pub fn wait_while<T, E, F>(
    py: Python<'_>,
    deadline: Deadline,
    go_on: impl Fn() -> PyResult<()>,
    mut attempt: F,
) -> PyResult<Result<T, E>>
where
    T: Send,
    E: Halting + Send,
    F: FnMut(Deadline) -> Result<T, E> + Send,
{
    let _call = procession_engine::report::Call::begin();
    loop {
        let slice = deadline.min(Deadline::after(SLICE));
        let outcome = py.detach(|| attempt(slice));
        let Err(why) = &outcome else {
            return Ok(outcome);
        };
        let Some(halt) = why.halt() else {
            return Ok(outcome);
        };
        py.check_signals()?;
        if halt == Halt::TimedOut && deadline.is_past() {
            return Ok(outcome);
        }
        go_on()?;
    }
}

/// Waits, detached, until `done` says so; for what nobody can be woken for.
///
/// The naps between two looks grow from 50 us to 10 ms, so that a long wait costs next to nothing.
pub fn until(py: Python<'_>, deadline: Deadline, done: impl Fn() -> bool) -> PyResult<bool> {
    let mut nap = SHORTEST_NAP;
    loop {
        if done() {
            return Ok(true);
        }
        if deadline.is_past() {
            return Ok(false);
        }
        let left = deadline.remaining().map_or(nap, |left| left.min(nap));
        py.detach(|| std::thread::sleep(left));
        py.check_signals()?;
        nap = (nap * 2).min(LONGEST_NAP);
    }
}
