//! What locking gives when it does not simply give a guard.

use std::fmt;

use procession_engine as engine;

use crate::error::{Error, LockError};

/// Why a [`Mutex`](crate::Mutex) or [`RwLock`](crate::RwLock) was not locked in good order.
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
    /// A process died holding it. The guard holds it now: the value is what it was before the dead one
    /// locked, but what else it did may be half done.
    OwnerDied(G),
    /// Somebody held it until the time was up.
    TimedOut,
    /// The value cannot be read.
    Failed(Error),
}

impl<G> GuardError<G> {
    /// The guard, if the only trouble is that a holder died.
    ///
    /// # Errors
    /// The error, if there is none.
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
                "a process died holding the lock; the value is as it was, check what else it stands for",
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

/// Forgets the guard: the lock is given back, and the death is reported to the next one as well.
impl<G> From<GuardError<G>> for Error {
    fn from(error: GuardError<G>) -> Error {
        match error {
            GuardError::OwnerDied(_) => LockError::OwnerDied.into(),
            GuardError::TimedOut => LockError::TimedOut.into(),
            GuardError::Failed(error) => error,
        }
    }
}

/// Repeats an acquisition that a signal interrupts.
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
