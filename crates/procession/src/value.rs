//! One shared value.

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use procession_engine::value::SharedBytes;
use serde::{Deserialize, Serialize};

use crate::error::{Error, LockError};
use crate::plain::{self, Plain};
use crate::rlock::{RLock, RLockGuard};
use crate::shared::Shared;

/// A value in shared memory, with a lock.
///
/// Clones are the same value.
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
    /// A new shared value.
    ///
    /// # Errors
    /// When there is no shared memory left.
    pub fn new(value: T) -> Result<Value<T>, Error> {
        let bytes = SharedBytes::new(T::SIZE.max(1))?;
        let value_of = Value {
            bytes: Shared::new(bytes),
            lock: RLock::new()?,
            _value: PhantomData,
        };
        value_of.write(value);
        Ok(value_of)
    }

    /// What it is now. Waits for the lock.
    ///
    /// # Errors
    /// [`LockError::OwnerDied`] when a process died holding the lock.
    pub fn get(&self) -> Result<T, LockError> {
        Ok(self.lock()?.get())
    }

    /// Sets it. Waits for the lock.
    ///
    /// # Errors
    /// As for [`get`](Value::get).
    pub fn set(&self, value: T) -> Result<(), LockError> {
        self.lock()?.set(value);
        Ok(())
    }

    /// Replaces it by what `change` makes of it, under the lock. Returns the new value.
    ///
    /// # Errors
    /// As for [`get`](Value::get).
    pub fn update(&self, change: impl FnOnce(T) -> T) -> Result<T, LockError> {
        Ok(self.lock()?.update(change))
    }

    /// Waits for the lock; nobody else sees or changes the value while the guard lives.
    ///
    /// The thread that holds it may lock it again.
    ///
    /// # Errors
    /// As for [`get`](Value::get).
    pub fn lock(&self) -> Result<ValueGuard<'_, T>, LockError> {
        Ok(ValueGuard {
            value: self,
            _held: self.lock.lock()?,
        })
    }

    /// As [`lock`](Value::lock), but waits no longer than `timeout`.
    ///
    /// # Errors
    /// As for [`get`](Value::get); and [`LockError::TimedOut`].
    pub fn lock_timeout(&self, timeout: Duration) -> Result<ValueGuard<'_, T>, LockError> {
        Ok(ValueGuard {
            value: self,
            _held: self.lock.lock_timeout(timeout)?,
        })
    }

    fn read(&self) -> T {
        plain::with_buffer::<T, _>(|buffer| {
            self.bytes.read_at(0, buffer);
            T::read(buffer)
        })
    }

    fn write(&self, value: T) {
        plain::with_buffer::<T, _>(|buffer| {
            value.write(buffer);
            self.bytes.write_at(0, buffer);
        });
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

/// The lock of a [`Value`], held; given back when it is dropped.
#[derive(Debug)]
pub struct ValueGuard<'a, T> {
    value: &'a Value<T>,
    _held: RLockGuard<'a>,
}

impl<T: Plain> ValueGuard<'_, T> {
    /// What the value is.
    pub fn get(&self) -> T {
        self.value.read()
    }

    /// Sets the value.
    pub fn set(&mut self, value: T) {
        self.value.write(value);
    }

    /// Replaces the value by what `change` makes of it, and returns that.
    pub fn update(&mut self, change: impl FnOnce(T) -> T) -> T {
        let value = change(self.get());
        self.set(value);
        value
    }
}
