//! Shared values, one beside the other.

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use procession_engine::value::SharedBytes;
use serde::{Deserialize, Serialize};

use crate::error::{Error, LockError};
use crate::plain::{self, Plain};
use crate::rlock::{RLock, RLockGuard};
use crate::shared::Shared;

/// An array in shared memory, of a fixed length, with a lock.
///
/// Clones are the same array.
///
/// # Examples
/// ```
/// use procession::{Array, Process};
///
/// fn double(array: Array<i32>) {
///     let mut items = array.lock().unwrap();
///     for index in 0..items.len() {
///         items.update(index, |n| 2 * n);
///     }
/// }
///
/// fn main() -> procession::Result<()> {
///     procession::init();
///     let array = Array::new([1, 2, 3])?;
///     Process::spawn(double, array.clone())?.join()?;
///     assert_eq!(array.to_vec()?, [2, 4, 6]);
///     Ok(())
/// }
/// ```
#[derive(Serialize, Deserialize)]
#[serde(bound = "")]
pub struct Array<T> {
    bytes: Shared<SharedBytes>,
    lock: RLock,
    len: usize,
    _items: PhantomData<fn(T) -> T>,
}

impl<T: Plain> Array<T> {
    /// A new array with a copy of these items.
    ///
    /// # Errors
    /// When there is no shared memory left.
    pub fn new(items: impl AsRef<[T]>) -> Result<Array<T>, Error> {
        let items = items.as_ref();
        let array = Array::zeroed(items.len())?;
        array.bytes.write_at(0, &plain::to_bytes(items));
        Ok(array)
    }

    /// A new array of `len` zeroes (or `false`s).
    ///
    /// # Errors
    /// As for [`Array::new`].
    pub fn zeroed(len: usize) -> Result<Array<T>, Error> {
        let size = len.checked_mul(T::SIZE).ok_or_else(|| {
            procession_engine::Error::Invalid("an array larger than all memory".to_owned())
        })?;
        let bytes = SharedBytes::new(size.max(1))?;
        Ok(Array {
            bytes: Shared::new(bytes),
            lock: RLock::new()?,
            len,
            _items: PhantomData,
        })
    }

    /// How many items it has.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it has no items.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The item at `index`. Waits for the lock.
    ///
    /// # Errors
    /// [`LockError::OwnerDied`] when a process died holding the lock.
    ///
    /// # Panics
    /// When `index` is not below [`len`](Array::len).
    pub fn get(&self, index: usize) -> Result<T, LockError> {
        Ok(self.lock()?.get(index))
    }

    /// Sets the item at `index`. Waits for the lock.
    ///
    /// # Errors
    /// As for [`get`](Array::get).
    ///
    /// # Panics
    /// As for [`get`](Array::get).
    pub fn set(&self, index: usize, item: T) -> Result<(), LockError> {
        self.lock()?.set(index, item);
        Ok(())
    }

    /// Replaces the item at `index` by what `change` makes of it, under the lock, and returns that.
    ///
    /// # Errors
    /// As for [`get`](Array::get).
    ///
    /// # Panics
    /// As for [`get`](Array::get).
    pub fn update(&self, index: usize, change: impl FnOnce(T) -> T) -> Result<T, LockError> {
        Ok(self.lock()?.update(index, change))
    }

    /// A copy of all items. Waits for the lock.
    ///
    /// # Errors
    /// As for [`get`](Array::get).
    pub fn to_vec(&self) -> Result<Vec<T>, LockError> {
        Ok(self.lock()?.to_vec())
    }

    /// Waits for the lock; nobody else sees or changes the items while the guard lives.
    ///
    /// The thread that holds it may lock it again.
    ///
    /// # Errors
    /// As for [`get`](Array::get).
    pub fn lock(&self) -> Result<ArrayGuard<'_, T>, LockError> {
        Ok(ArrayGuard {
            array: self,
            _held: self.lock.lock()?,
        })
    }

    /// As [`lock`](Array::lock), but waits no longer than `timeout`.
    ///
    /// # Errors
    /// As for [`get`](Array::get); and [`LockError::TimedOut`].
    pub fn lock_timeout(&self, timeout: Duration) -> Result<ArrayGuard<'_, T>, LockError> {
        Ok(ArrayGuard {
            array: self,
            _held: self.lock.lock_timeout(timeout)?,
        })
    }

    fn offset(&self, index: usize) -> usize {
        assert!(
            index < self.len,
            "index {index} in an array of {}",
            self.len
        );
        index * T::SIZE
    }
}

impl<T> Clone for Array<T> {
    fn clone(&self) -> Array<T> {
        Array {
            bytes: self.bytes.clone(),
            lock: self.lock.clone(),
            len: self.len,
            _items: PhantomData,
        }
    }
}

impl<T> fmt::Debug for Array<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Array")
            .field("len", &self.len)
            .field("lock", &self.lock)
            .finish_non_exhaustive()
    }
}

/// The lock of an [`Array`], held; given back when it is dropped.
///
/// Methods that take an index panic when it is not below [`len`](ArrayGuard::len).
#[derive(Debug)]
pub struct ArrayGuard<'a, T> {
    array: &'a Array<T>,
    _held: RLockGuard<'a>,
}

impl<T: Plain> ArrayGuard<'_, T> {
    /// How many items there are.
    pub fn len(&self) -> usize {
        self.array.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.array.is_empty()
    }

    /// The item at `index`.
    pub fn get(&self, index: usize) -> T {
        plain::with_buffer::<T, _>(|buffer| {
            self.array.bytes.read_at(self.array.offset(index), buffer);
            T::read(buffer)
        })
    }

    /// Sets the item at `index`.
    pub fn set(&mut self, index: usize, item: T) {
        plain::with_buffer::<T, _>(|buffer| {
            item.write(buffer);
            self.array.bytes.write_at(self.array.offset(index), buffer);
        });
    }

    /// Replaces the item at `index` by what `change` makes of it, and returns that.
    pub fn update(&mut self, index: usize, change: impl FnOnce(T) -> T) -> T {
        let item = change(self.get(index));
        self.set(index, item);
        item
    }

    /// A copy of all items.
    pub fn to_vec(&self) -> Vec<T> {
        let mut bytes = vec![0; self.array.len * T::SIZE];
        self.array.bytes.read_at(0, &mut bytes);
        plain::from_bytes(&bytes)
    }

    /// Replaces all items.
    ///
    /// # Panics
    /// When `items` are more or fewer than the array has.
    pub fn copy_from_slice(&mut self, items: &[T]) {
        assert_eq!(
            items.len(),
            self.array.len,
            "as many items as the array has"
        );
        self.array.bytes.write_at(0, &plain::to_bytes(items));
    }

    /// Sets all items to one value.
    pub fn fill(&mut self, item: T) {
        self.copy_from_slice(&vec![item; self.array.len]);
    }
}
