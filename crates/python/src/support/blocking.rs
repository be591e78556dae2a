//! Blocking calls that release the interpreter.
//!
//! A blocking method tries once while it is attached to the interpreter. If that fails it detaches and sleeps, in one
//! or several slices.
//!
//! The main thread alone runs Python's signal handlers. A signal that arrives just before it falls asleep must end the
//! sleep too, so it sleeps attentively (`procession_engine::signals`). Its first slice is short: to follow the signals
//! that Python handles costs some microseconds, and most waits end earlier. Later slices have no limit, because only a
//! handler on this thread can install another handler.
//!
//! The deadline is fixed before the first slice. Neither slices nor signals extend it.

use std::cell::Cell;
use std::sync::OnceLock;
use std::time::Duration;

use procession_engine::error::{GetError, LockError, PutError, WaitError};
use procession_engine::sync::BarrierError;
use procession_engine::{Deadline, signals};
use pyo3::exceptions::PyValueError;
use pyo3::intern;
use pyo3::prelude::*;

/// The time before the first and between the last calls of `still_wanted`; it doubles with each call.
const FIRST_CHECK: Duration = Duration::from_millis(500);
const LAST_CHECK: Duration = Duration::from_secs(32);
/// The main thread's first slice.
const FIRST_SLICE: Duration = Duration::from_millis(4);
/// Signals that programs hardly use: the last real-time signals.
const UNUSED_SIGNALS: [i32; 4] = [64, 63, 62, 61];

/// Why an attempt ended that can be repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryReason {
    /// The slice ended, or the deadline passed.
    TimedOut,
    /// A signal arrived.
    Interrupted,
}

/// Errors of attempts that can be repeated.
pub trait Retryable {
    /// Why the attempt ended; `None` if repeating it would not help.
    fn retry_reason(&self) -> Option<RetryReason>;
}

impl Retryable for LockError {
    fn retry_reason(&self) -> Option<RetryReason> {
        match self {
            LockError::TimedOut => Some(RetryReason::TimedOut),
            LockError::Interrupted => Some(RetryReason::Interrupted),
            LockError::OwnerDied => None,
        }
    }
}

impl Retryable for WaitError {
    fn retry_reason(&self) -> Option<RetryReason> {
        Some(match self {
            WaitError::TimedOut => RetryReason::TimedOut,
            WaitError::Interrupted => RetryReason::Interrupted,
        })
    }
}

impl Retryable for PutError {
    fn retry_reason(&self) -> Option<RetryReason> {
        match self {
            PutError::Full => Some(RetryReason::TimedOut),
            PutError::Interrupted => Some(RetryReason::Interrupted),
            PutError::Closed | PutError::Failed(_) => None,
        }
    }
}

impl Retryable for GetError {
    fn retry_reason(&self) -> Option<RetryReason> {
        match self {
            GetError::Empty => Some(RetryReason::TimedOut),
            GetError::Interrupted => Some(RetryReason::Interrupted),
            GetError::Closed | GetError::Failed(_) => None,
        }
    }
}

impl Retryable for BarrierError {
    fn retry_reason(&self) -> Option<RetryReason> {
        match self {
            BarrierError::TimedOut => Some(RetryReason::TimedOut),
            BarrierError::Interrupted => Some(RetryReason::Interrupted),
            BarrierError::Broken => None,
        }
    }
}

/// A flag passed as any object and read by its truth value, as in `acquire(block=1)`.
#[derive(Debug, Clone, Copy)]
pub struct Truth(pub bool);

impl<'a, 'py> FromPyObject<'a, 'py> for Truth {
    type Error = PyErr;

    fn extract(object: Borrowed<'a, 'py, PyAny>) -> PyResult<Truth> {
        object.is_truthy().map(Truth)
    }
}

/// Returns the deadline of a call with `block` and `timeout` in seconds, as the standard library reads them.
///
/// Raises `ValueError` for NaN.
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

/// Repeats `attempt`, detached, until it succeeds, fails for good, or `deadline` passes.
///
/// The outer error is the exception of a signal handler, which ends the wait.
pub fn wait<T, E, F>(py: Python<'_>, deadline: Deadline, attempt: F) -> PyResult<Result<T, E>>
where
    T: Send,
    E: Retryable + Send,
    F: FnMut(Deadline) -> Result<T, E> + Send,
{
    let still_wanted: Option<fn() -> PyResult<()>> = None;
    repeat(py, deadline, still_wanted, attempt)
}

/// Like [`wait`], and calls `still_wanted` between the slices. An error from it ends the wait.
pub fn wait_while<T, E, F>(
    py: Python<'_>,
    deadline: Deadline,
    still_wanted: impl Fn() -> PyResult<()>,
    attempt: F,
) -> PyResult<Result<T, E>>
where
    T: Send,
    E: Retryable + Send,
    F: FnMut(Deadline) -> Result<T, E> + Send,
{
    repeat(py, deadline, Some(still_wanted), attempt)
}

fn repeat<T, E, F>(
    py: Python<'_>,
    deadline: Deadline,
    still_wanted: Option<impl Fn() -> PyResult<()>>,
    mut attempt: F,
) -> PyResult<Result<T, E>>
where
    T: Send,
    E: Retryable + Send,
    F: FnMut(Deadline) -> Result<T, E> + Send,
{
    // This does not wait: keep it fast, and no handler needs to end it.
    if deadline == Deadline::NOW {
        return Ok(attempt(deadline));
    }
    let _call = procession_engine::diagnostics::Call::begin();
    let acts_on_signals = runs_handlers(py)?;
    // The longest slice before the next call of `still_wanted`.
    let mut check_after = still_wanted.as_ref().map(|_| FIRST_CHECK);
    let mut length = if acts_on_signals {
        Some(FIRST_SLICE)
    } else {
        check_after
    };
    loop {
        let slice = deadline.min(length.map_or(Deadline::NEVER, Deadline::after));
        let outcome = if acts_on_signals {
            let seen = signals::count();
            py.check_signals()?;
            py.detach(|| signals::attentively(seen, || attempt(slice)))
        } else {
            py.detach(|| attempt(slice))
        };
        let Err(why) = &outcome else {
            return Ok(outcome);
        };
        let Some(reason) = why.retry_reason() else {
            return Ok(outcome);
        };
        py.check_signals()?;
        if reason == RetryReason::TimedOut && deadline.is_past() {
            return Ok(outcome);
        }
        if let Some(still_wanted) = &still_wanted {
            still_wanted()?;
        }
        if acts_on_signals && reason == RetryReason::Interrupted {
            // Its handler may have installed another one.
            length = Some(FIRST_SLICE);
            continue;
        }
        length = check_after;
        if acts_on_signals && !follow_handlers(py)? {
            length = Some(FIRST_CHECK);
        }
        check_after = check_after.map(|check_after| (check_after * 2).min(LAST_CHECK));
    }
}

/// Returns whether this thread runs signal handlers: whether it is Python's main thread.
fn runs_handlers(py: Python<'_>) -> PyResult<bool> {
    thread_local! {
        // With the process in which it was found: a fork makes the calling thread the main one.
        static KNOWN: Cell<(u32, bool)> = const { Cell::new((0, false)) };
    }
    let process = std::process::id();
    let (of, known) = KNOWN.get();
    if of == process {
        return Ok(known);
    }
    let is_main = match is_main_thread(py) {
        Ok(is_main) => is_main,
        // During finalization the interpreter cannot tell, and runs no handlers.
        Err(_) if is_finalizing(py) => false,
        // It comes from a handler that ran during the question.
        Err(error) => return Err(error),
    };
    KNOWN.set((process, is_main));
    Ok(is_main)
}

fn is_finalizing(py: Python<'_>) -> bool {
    let asked = py
        .import(intern!(py, "sys"))
        .and_then(|sys| sys.call_method0(intern!(py, "is_finalizing"))?.extract());
    asked.unwrap_or(true)
}

fn is_main_thread(py: Python<'_>) -> PyResult<bool> {
    let threading = py.import(intern!(py, "threading"))?;
    let main = threading.call_method0(intern!(py, "main_thread"))?;
    let me = threading.call_method0(intern!(py, "get_ident"))?;
    main.getattr(intern!(py, "ident"))?.eq(me)
}

/// Makes the engine follow the signals that Python handles. Returns false if it cannot.
fn follow_handlers(py: Python<'_>) -> PyResult<bool> {
    static HANDLER: OnceLock<usize> = OnceLock::new();
    let handler = match HANDLER.get() {
        Some(handler) => *handler,
        None => {
            let found = find_handler(py)?;
            *HANDLER.get_or_init(|| found)
        }
    };
    Ok(signals::follow(handler))
}

/// Finds the address of Python's C handler, which is the same for all signals.
///
/// Makes Python handle an unused signal for a moment, and reads the address from the kernel.
fn find_handler(py: Python<'_>) -> PyResult<usize> {
    let signal = py.import("_signal")?;
    let default = signal.getattr("SIG_DFL")?;
    let any = signal.getattr("default_int_handler")?;
    for number in UNUSED_SIGNALS {
        if signal.call_method1("getsignal", (number,))?.eq(&default)? {
            signal.call_method1("signal", (number, &any))?;
            let found = signals::handler_of(number);
            signal.call_method1("signal", (number, &default))?;
            return Ok(found.unwrap_or(0));
        }
    }
    Ok(0)
}
