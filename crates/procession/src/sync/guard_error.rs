//! The error of locking a value, which may still contain the guard.

use std::fmt;

use procession_engine as engine;

use crate::error::{Error, LockError};

/// Why locking a [`Mutex`](crate::Mutex) or [`RwLock`](crate::RwLock) did not simply succeed.
///
/// # Examples
/// ```
/// use procession::{GuardError, Mutex, Process};
///
/// fn die_holding(count: Mutex<u32>) {
///     let mut count = count.lock().unwrap();
///     *count += 1;
///     std::process::abort();
/// }
///
/// # fn main() -> procession::Result<()> {
/// # procession::init();
/// let count = Mutex::new(5)?;
/// assert!(Process::spawn(die_holding, count.clone())?.join().is_err());
/// let mut guard = match count.lock() {
///     Err(GuardError::OwnerDied(guard)) => guard,
///     other => panic!("{other:?}"),
/// };
/// assert_eq!(*guard, 5); // as it was before
/// guard.mark_consistent();
/// drop(guard);
/// assert!(count.lock().is_ok());
/// # Ok(())
/// # }
/// ```
#[non_exhaustive]
pub enum GuardError<G> {
    /// A process died while holding the lock. The guard holds it now. The value is what it was before the
    /// dead process locked, but other changes of that process may be half done.
    OwnerDied(G),
    /// Another process held the lock until the time was up.
    TimedOut,
    /// The value cannot be read.
    Failed(Error),
}

impl<G> GuardError<G> {
    /// Returns the guard if the only problem is that a holder died.
    ///
    /// # Errors
    /// Returns the error itself if it has no guard.
    pub fn into_guard(self) -> Result<G, GuardError<G>> {
        match self {
            GuardError::OwnerDied(guard) => Ok(guard),
            other => Err(other),
        }
    }
}

impl<G> fmt::Display for GuardError<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            GuardError::OwnerDied(_) => f.write_str(
                "a process died while holding the lock; the value is unchanged, check what else the lock protects",
            ),
            GuardError::TimedOut => f.write_str("timed out waiting for the lock"),
            GuardError::Failed(error) => write!(f, "the value under the lock cannot be read: {error}"),
        }
    }
}

impl<G> fmt::Debug for GuardError<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            GuardError::OwnerDied(_) => f.write_str("OwnerDied(..)"),
            GuardError::TimedOut => f.write_str("TimedOut"),
            GuardError::Failed(error) => f.debug_tuple("Failed").field(error).finish(),
        }
    }
}

impl<G> std::error::Error for GuardError<G> {}

/// Drops the guard: this releases the lock, and the next process to lock is told of the death as well.
impl<G> From<GuardError<G>> for Error {
    fn from(error: GuardError<G>) -> Error {
        match error {
            GuardError::OwnerDied(_) => LockError::OwnerDied.into(),
            GuardError::TimedOut => LockError::TimedOut.into(),
            GuardError::Failed(error) => error,
        }
    }
}

/// Retries an acquisition that a signal interrupted.
pub(crate) fn retry_on_signal<R, G>(
    mut acquire: impl FnMut() -> Result<R, engine::error::LockError>,
) -> Result<R, GuardError<G>> {
    loop {
        match acquire() {
            Ok(acquired) => return Ok(acquired),
            Err(engine::error::LockError::Interrupted) => {}
            Err(_) => return Err(GuardError::TimedOut),
        }
    }
}
