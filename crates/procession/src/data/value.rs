//! Single shared values.

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use procession_engine::value::SharedBytes;
use serde::{Deserialize, Serialize};

use crate::data::atomic::AtomicPrimitive;
use crate::data::plain::Plain;
use crate::error::{Error, LockError};
use crate::sync::rlock::{RLock, RLockGuard};
use crate::transfer::shared::Shared;

/// A value in shared memory with a lock.
///
/// The value is a number, a `bool`, an array of these, or a type that derives [`Plain`].
/// Clones refer to the same value. An integer can also change [without the lock](Value::atomic).
///
/// # Examples
/// ```
/// use procession::{Process, Value};
///
/// fn increment(value: Value<i32>) {
///     value.update(|n| n + 1).unwrap();
/// }
///
/// fn main() -> procession::Result<()> {
///     procession::init();
///     let value = Value::new(10)?;
///     Process::spawn(increment, value.clone())?.join()?;
///     assert_eq!(value.get()?, 11);
///     Ok(())
/// }
/// ```
#[derive(Serialize, Deserialize)]
#[serde(bound = "")]
pub struct Value<T> {
    bytes: Shared<SharedBytes>,
    lock: RLock,
    _value: PhantomData<fn(T) -> T>,
}

impl<T: Plain> Value<T> {
    /// Creates a shared value.
    ///
    /// # Errors
    /// Returns an error when there is no shared memory left.
    pub fn new(value: T) -> Result<Value<T>, Error> {
        let bytes = SharedBytes::new(T::SIZE.max(1))?;
        let value_of = Value {
            bytes: Shared::new(bytes),
            lock: RLock::new()?,
            _value: PhantomData,
        };
        value.store(&value_of.bytes, 0);
        Ok(value_of)
    }

    /// Waits for the lock and returns the value.
    ///
    /// # Errors
    /// Returns [`LockError::OwnerDied`] when a process died while holding the lock.
    pub fn get(&self) -> Result<T, LockError> {
        Ok(self.lock()?.get())
    }

    /// Waits for the lock and sets the value.
    ///
    /// # Errors
    /// The same as for [`get`](Value::get).
    pub fn set(&self, value: T) -> Result<(), LockError> {
        self.lock()?.set(value);
        Ok(())
    }

    /// Replaces the value with `change(value)`, under the lock. Returns the new value.
    ///
    /// # Errors
    /// The same as for [`get`](Value::get).
    ///
    /// # Examples
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let value = procession::Value::new(20)?;
    /// assert_eq!(value.update(|n| 2 * n)?, 40);
    /// # Ok(())
    /// # }
    /// ```
    pub fn update(&self, change: impl FnOnce(T) -> T) -> Result<T, LockError> {
        Ok(self.lock()?.update(change))
    }

    /// Waits for the lock and returns a guard. No other thread reads or changes the value while the guard
    /// lives.
    ///
    /// The holding thread may lock again.
    ///
    /// # Errors
    /// The same as for [`get`](Value::get).
    ///
    /// # Examples
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let value = procession::Value::new(1)?;
    /// let mut guard = value.lock()?;
    /// let next = guard.get() + 1;
    /// guard.set(next);
    /// drop(guard);
    /// assert_eq!(value.get()?, 2);
    /// # Ok(())
    /// # }
    /// ```
    pub fn lock(&self) -> Result<ValueGuard<'_, T>, LockError> {
        Ok(ValueGuard {
            value: self,
            held: self.lock.lock()?,
        })
    }

    /// Like [`lock`](Value::lock), but does not wait.
    ///
    /// # Errors
    /// The same as for [`get`](Value::get), and [`LockError::TimedOut`] when another thread holds it.
    pub fn try_lock(&self) -> Result<ValueGuard<'_, T>, LockError> {
        Ok(ValueGuard {
            value: self,
            held: self.lock.try_lock()?,
        })
    }

    /// Like [`lock`](Value::lock), but waits for at most `timeout`.
    ///
    /// # Errors
    /// The same as for [`get`](Value::get), and [`LockError::TimedOut`].
    pub fn lock_timeout(&self, timeout: Duration) -> Result<ValueGuard<'_, T>, LockError> {
        Ok(ValueGuard {
            value: self,
            held: self.lock.lock_timeout(timeout)?,
        })
    }
}

impl<T: AtomicPrimitive> Value<T> {
    /// Returns the value as one of std's atomics, for atomic changes without the lock.
    ///
    /// Atomic changes ignore the lock: an [`update`](Value::update) at the same time may overwrite one.
    /// Change a value in only one of the two ways.
    ///
    /// # Examples
    /// ```
    /// use std::sync::atomic::Ordering::SeqCst;
    /// use procession::{Process, Value};
    ///
    /// fn count(hits: Value<u64>) {
    ///     for _ in 0..1000 {
    ///         hits.atomic().fetch_add(1, SeqCst);
    ///     }
    /// }
    ///
    /// fn main() -> procession::Result<()> {
    ///     procession::init();
    ///     let hits = Value::new(0)?;
    ///     let process = Process::spawn(count, hits.clone())?;
    ///     count(hits.clone());
    ///     process.join()?;
    ///     assert_eq!(hits.atomic().load(SeqCst), 2000);
    ///     Ok(())
    /// }
    /// ```
    /// ```compile_fail
    /// let value = procession::Value::new(1.5).unwrap();
    /// value.atomic(); // std has no atomic of an f64
    /// ```
    pub fn atomic(&self) -> T::Atomic<'_> {
        T::atomic(&self.bytes, 0)
    }
}

impl<T> Clone for Value<T> {
    fn clone(&self) -> Value<T> {
        Value {
            bytes: self.bytes.clone(),
            lock: self.lock.clone(),
            _value: PhantomData,
        }
    }
}

impl<T> fmt::Debug for Value<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Value")
            .field("lock", &self.lock)
            .finish_non_exhaustive()
    }
}

/// Holds the lock of a [`Value`], and releases it on drop.
///
/// Its methods panic in a forked process whose parent holds the guard.
#[derive(Debug)]
pub struct ValueGuard<'a, T> {
    value: &'a Value<T>,
    held: RLockGuard<'a>,
}

impl<T: Plain> ValueGuard<'_, T> {
    /// Returns the value.
    pub fn get(&self) -> T {
        T::load(self.bytes(), 0)
    }

    /// Sets the value.
    pub fn set(&mut self, value: T) {
        value.store(self.bytes(), 0);
    }

    /// Replaces the value with `change(value)`, and returns the new value.
    pub fn update(&mut self, change: impl FnOnce(T) -> T) -> T {
        let value = change(self.get());
        self.set(value);
        value
    }

    fn bytes(&self) -> &SharedBytes {
        self.held.owner().assert_current();
        &self.value.bytes
    }
}
