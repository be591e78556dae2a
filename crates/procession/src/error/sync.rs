//! The errors of locks, barriers and semaphores.

/// Why a lock was not taken.
///
/// # Examples
/// ```
/// use procession::{Lock, LockError, Process};
///
/// fn die_holding(lock: Lock) {
///     let _held = lock.lock().unwrap();
///     std::process::abort();
/// }
///
/// # fn main() -> procession::Result<()> {
/// # procession::init();
/// let lock = Lock::new()?;
/// assert!(Process::spawn(die_holding, lock.clone())?.join().is_err());
/// assert!(matches!(lock.lock(), Err(LockError::OwnerDied))); // told once
/// let _held = lock.lock()?;
/// assert!(matches!(lock.try_lock(), Err(LockError::TimedOut)));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LockError {
    /// Another process held it until the time was up.
    #[error("timed out waiting for the lock")]
    TimedOut,
    /// The process that held it died. The lock is free again, and what it guards may be half changed. Check
    /// that, then lock again.
    #[error("the process that held the lock died; the lock is free again, check what it guards")]
    OwnerDied,
}

/// The barrier is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the barrier is broken: a party timed out, died or aborted, or it was reset")]
pub struct BarrierError;

/// A semaphore was released, or a message reported as processed, too often.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("released or marked done too many times")]
pub struct TooMany;
