//! Waiting without holding up the interpreter.
//!
//! A blocking method first tries to get what it wants while attached. Only then does it detach from
//! the interpreter and sleep. The main thread, which alone runs Python's signal handlers, does so attentively: a signal
//! that comes just before it falls asleep ends the sleep as well (`procession_engine::signals`). Its first sleep is a
//! short one, since having signals followed costs some microseconds, which most waits are over before; from then on it
//! sleeps until something happens, since nobody but a handler on this thread can set another handler. The deadline is
//! fixed before the first sleep: neither slices nor signals stretch it.

use std::cell::Cell;
use std::sync::OnceLock;
use std::time::Duration;

use procession_engine::error::{GetError, LockError, PutError, WaitError};
use procession_engine::sync::BarrierError;
use procession_engine::{Deadline, signals};
use pyo3::exceptions::PyValueError;
use pyo3::intern;
use pyo3::prelude::*;

/// How long to sleep until somebody asks whether to go on; each time twice as long as before.
const FIRST_CHECK: Duration = Duration::from_millis(500);
const LAST_CHECK: Duration = Duration::from_secs(32);
const FIRST_SLICE: Duration = Duration::from_millis(4);
/// Signals that programs hardly use: the last ones for real time.
const UNUSED_SIGNALS: [i32; 4] = [64, 63, 62, 61];

/// How an attempt ended that may be tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryReason {
    /// The slice, or the deadline, is over.
    TimedOut,
    /// A signal arrived.
    Interrupted,
}

/// Errors that can say "not yet".
pub trait Retryable {
    /// Why the attempt stopped, or `None` when trying again would not help.
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

/// A flag given as any object: what counts is its truth value, as in `acquire(block=1)`.
#[derive(Debug, Clone, Copy)]
pub struct Truth(pub bool);

impl<'a, 'py> FromPyObject<'a, 'py> for Truth {
    type Error = PyErr;

    fn extract(object: Borrowed<'a, 'py, PyAny>) -> PyResult<Truth> {
        object.is_truthy().map(Truth)
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
    E: Retryable + Send,
    F: FnMut(Deadline) -> Result<T, E> + Send,
{
    let still_wanted: Option<fn() -> PyResult<()>> = None;
    repeat(py, deadline, still_wanted, attempt)
}

/// Like [`wait`], and asks `still_wanted` between the slices whether there is still a point in waiting.
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
    // Nothing to wait for: as fast as what is asked, and nothing that a handler could end.
    if deadline == Deadline::NOW {
        return Ok(attempt(deadline));
    }
    let _call = procession_engine::report::Call::begin();
    let acts_on_signals = runs_handlers(py)?;
    // How long to sleep at most until somebody asks whether to go on.
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
            // What its handler did may have been to set another.
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

/// Whether this is the thread that runs the handlers of signals: Python's main one.
fn runs_handlers(py: Python<'_>) -> PyResult<bool> {
    thread_local! {
        // Of which process this was found out: a fork makes the thread that called it the main one.
        static KNOWN: Cell<(u32, bool)> = const { Cell::new((0, false)) };
    }
    let process = std::process::id();
    let (of, known) = KNOWN.get();
    if of == process {
        return Ok(known);
    }
    let is_main = match is_main_thread(py) {
        Ok(is_main) => is_main,
        // At its very end the interpreter does not know any more, and runs no handlers.
        Err(_) if is_finalizing(py) => false,
        // A handler's, run while this was asked.
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

/// Has the engine follow the signals that Python handles; false when it cannot.
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

/// The address of Python's handler, which is the same for all signals: that of one which nobody handles, when Python
/// is asked to.
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
