//! Parts of arrays.

use std::fmt;
use std::marker::PhantomData;
use std::ops::{Bound, Range, RangeBounds};
use std::time::Duration;

use procession_engine::value::SharedBytes;
use serde::{Deserialize, Serialize};

use super::ArrayGuard;
use crate::data::atomic::AtomicPrimitive;
use crate::data::plain::Plain;
use crate::error::{Error, LockError};
use crate::sync::rlock::{RLock, RLockGuard};
use crate::transfer::shared::Shared;

/// A part of an [`Array`](super::Array), as a slice is a part of a vector. Pass it to a process that works on
/// that part.
///
/// It refers to the array's memory and uses the array's lock; all parts share one lock. A call holds the lock
/// while it copies. For several operations without interruption, use [`lock`](ArraySlice::lock). A worker that
/// reads its part, computes, and writes it back does not block the others while it computes.
///
/// Clones refer to the same part. The array lives as long as any of its parts.
#[derive(Serialize, Deserialize)]
#[serde(bound = "")]
pub struct ArraySlice<T> {
    bytes: Shared<SharedBytes>,
    lock: RLock,
    start: usize,
    len: usize,
    _items: PhantomData<fn(T) -> T>,
}

impl<T> ArraySlice<T> {
    /// Returns the number of items.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns whether there are no items.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns the part of it in `range`.
    ///
    /// # Panics
    /// Panics when the range is out of bounds.
    ///
    /// # Examples
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let array = procession::Array::new([1, 2, 3, 4])?;
    /// let middle = array.slice(1..3);
    /// middle.fill(0)?;
    /// assert_eq!(array.to_vec()?, [1, 0, 0, 4]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn slice(&self, range: impl RangeBounds<usize>) -> ArraySlice<T> {
        let range = self.within(range);
        ArraySlice {
            start: self.start + range.start,
            len: range.len(),
            ..self.clone()
        }
    }

    /// Returns its first `mid` items, and the rest.
    ///
    /// # Panics
    /// Panics when it has fewer than `mid` items.
    ///
    /// # Examples
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let array = procession::Array::new([1, 2, 3])?;
    /// let (left, right) = array.split_at(1);
    /// assert_eq!((left.to_vec()?, right.to_vec()?), (vec![1], vec![2, 3]));
    /// # Ok(())
    /// # }
    /// ```
    pub fn split_at(&self, mid: usize) -> (ArraySlice<T>, ArraySlice<T>) {
        (self.slice(..mid), self.slice(mid..))
    }

    /// Returns an iterator over parts of `size` items each; the last may be shorter.
    ///
    /// # Panics
    /// Panics when `size` is zero.
    ///
    /// # Examples
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let array = procession::Array::new([1, 2, 3])?;
    /// let lengths: Vec<usize> = array.chunks(2).map(|part| part.len()).collect();
    /// assert_eq!(lengths, [2, 1]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn chunks(&self, size: usize) -> impl ExactSizeIterator<Item = ArraySlice<T>> {
        assert!(size > 0, "parts need at least one item");
        (0..self.len.div_ceil(size)).map(move |number| {
            let start = number * size;
            self.slice(start..self.len.min(start.saturating_add(size)))
        })
    }

    /// Resolves `range` to start and end.
    pub(super) fn within(&self, range: impl RangeBounds<usize>) -> Range<usize> {
        let start = match range.start_bound() {
            Bound::Included(&start) => start,
            Bound::Excluded(&before) => before.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(&last) => last.saturating_add(1),
            Bound::Excluded(&end) => end,
            Bound::Unbounded => self.len,
        };
        assert!(
            start <= end && end <= self.len,
            "items {start}..{end} of an array of {}",
            self.len
        );
        start..end
    }

    pub(super) fn debug(&self, name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct(name)
            .field("len", &self.len)
            .field("lock", &self.lock)
            .finish_non_exhaustive()
    }
}

impl<T: Plain> ArraySlice<T> {
    pub(super) fn zeroed(len: usize) -> Result<ArraySlice<T>, Error> {
        let size = len.checked_mul(T::SIZE).ok_or_else(|| {
            procession_engine::Error::Invalid("an array larger than the address space".to_owned())
        })?;
        let bytes = SharedBytes::new(size.max(1))?;
        Ok(ArraySlice {
            bytes: Shared::new(bytes),
            lock: RLock::new()?,
            start: 0,
            len,
            _items: PhantomData,
        })
    }

    /// Waits for the lock and returns the item at `index`.
    ///
    /// # Errors
    /// Returns [`LockError::OwnerDied`] when a process died while holding the lock.
    ///
    /// # Panics
    /// Panics when `index` is not below [`len`](ArraySlice::len).
    pub fn get(&self, index: usize) -> Result<T, LockError> {
        Ok(self.lock()?.get(index))
    }

    /// Waits for the lock and sets the item at `index`.
    ///
    /// # Errors
    /// The same as for [`get`](ArraySlice::get).
    ///
    /// # Panics
    /// The same as for [`get`](ArraySlice::get).
    pub fn set(&self, index: usize, item: T) -> Result<(), LockError> {
        self.lock()?.set(index, item);
        Ok(())
    }

    /// Replaces the item at `index` with `change(item)`, under the lock. Returns the new item.
    ///
    /// # Errors
    /// The same as for [`get`](ArraySlice::get).
    ///
    /// # Panics
    /// The same as for [`get`](ArraySlice::get).
    ///
    /// # Examples
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let array = procession::Array::new([1, 2, 3])?;
    /// assert_eq!(array.update(0, |n| n + 10)?, 11);
    /// # Ok(())
    /// # }
    /// ```
    pub fn update(&self, index: usize, change: impl FnOnce(T) -> T) -> Result<T, LockError> {
        Ok(self.lock()?.update(index, change))
    }

    /// Waits for the lock and swaps two items.
    ///
    /// # Errors
    /// The same as for [`get`](ArraySlice::get).
    ///
    /// # Panics
    /// The same as for [`get`](ArraySlice::get).
    pub fn swap(&self, one: usize, other: usize) -> Result<(), LockError> {
        self.lock()?.swap(one, other);
        Ok(())
    }

    /// Waits for the lock and returns a copy of the items in `range`.
    ///
    /// # Errors
    /// The same as for [`get`](ArraySlice::get).
    ///
    /// # Panics
    /// Panics when the range is out of bounds.
    ///
    /// # Examples
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let array = procession::Array::new([1, 2, 3])?;
    /// assert_eq!(array.read(1..)?, [2, 3]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn read(&self, range: impl RangeBounds<usize>) -> Result<Vec<T>, LockError> {
        Ok(self.lock()?.read(range))
    }

    /// Waits for the lock and copies items into `out`, starting with the one at `at`.
    ///
    /// # Errors
    /// The same as for [`get`](ArraySlice::get).
    ///
    /// # Panics
    /// Panics when there are fewer items from `at` than `out` has.
    pub fn read_into(&self, at: usize, out: &mut [T]) -> Result<(), LockError> {
        self.lock()?.read_into(at, out);
        Ok(())
    }

    /// Waits for the lock and replaces items with `items`, starting with the one at `at`.
    ///
    /// # Errors
    /// The same as for [`get`](ArraySlice::get).
    ///
    /// # Panics
    /// Panics when there are fewer items from `at` than `items` has.
    ///
    /// # Examples
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let array = procession::Array::new([1, 2, 3])?;
    /// array.write(1, &[8, 9])?;
    /// assert_eq!(array.to_vec()?, [1, 8, 9]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn write(&self, at: usize, items: &[T]) -> Result<(), LockError> {
        self.lock()?.write(at, items);
        Ok(())
    }

    /// Waits for the lock and returns a copy of all items.
    ///
    /// # Errors
    /// The same as for [`get`](ArraySlice::get).
    pub fn to_vec(&self) -> Result<Vec<T>, LockError> {
        Ok(self.lock()?.to_vec())
    }

    /// Waits for the lock and replaces all items.
    ///
    /// # Errors
    /// The same as for [`get`](ArraySlice::get).
    ///
    /// # Panics
    /// Panics when the number of items differs.
    pub fn copy_from_slice(&self, items: &[T]) -> Result<(), LockError> {
        self.lock()?.copy_from_slice(items);
        Ok(())
    }

    /// Waits for the lock and sets all items to `item`.
    ///
    /// # Errors
    /// The same as for [`get`](ArraySlice::get).
    pub fn fill(&self, item: T) -> Result<(), LockError> {
        self.lock()?.fill(item);
        Ok(())
    }

    /// Waits for the lock and returns a guard. No other thread reads or changes the array while the guard
    /// lives.
    ///
    /// The holding thread may lock again.
    ///
    /// # Errors
    /// The same as for [`get`](ArraySlice::get).
    ///
    /// # Examples
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let array = procession::Array::new([1, 2])?;
    /// let mut items = array.lock()?;
    /// let sum = items.get(0) + items.get(1);
    /// items.set(0, sum);
    /// drop(items);
    /// assert_eq!(array.to_vec()?, [3, 2]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn lock(&self) -> Result<ArrayGuard<'_, T>, LockError> {
        Ok(self.under(self.lock.lock()?))
    }

    /// Like [`lock`](ArraySlice::lock), but does not wait.
    ///
    /// # Errors
    /// The same as for [`get`](ArraySlice::get), and [`LockError::TimedOut`] when another thread holds it.
    pub fn try_lock(&self) -> Result<ArrayGuard<'_, T>, LockError> {
        Ok(self.under(self.lock.try_lock()?))
    }

    /// Like [`lock`](ArraySlice::lock), but waits for at most `timeout`.
    ///
    /// # Errors
    /// The same as for [`get`](ArraySlice::get), and [`LockError::TimedOut`].
    pub fn lock_timeout(&self, timeout: Duration) -> Result<ArrayGuard<'_, T>, LockError> {
        Ok(self.under(self.lock.lock_timeout(timeout)?))
    }

    fn under<'a>(&'a self, held: RLockGuard<'a>) -> ArrayGuard<'a, T> {
        ArrayGuard::new(self, held)
    }

    /// Returns the offset of the item at `index` in bytes.
    fn offset(&self, index: usize) -> usize {
        (self.start + index) * T::SIZE
    }

    fn check(&self, index: usize) {
        assert!(
            index < self.len,
            "index {index} in an array of {}",
            self.len
        );
    }

    pub(super) fn load_one(&self, index: usize) -> T {
        self.check(index);
        T::load(&self.bytes, self.offset(index))
    }

    pub(super) fn store_one(&self, index: usize, item: T) {
        self.check(index);
        item.store(&self.bytes, self.offset(index));
    }

    pub(super) fn load(&self, at: usize, out: &mut [T]) {
        self.within(at..at.saturating_add(out.len()));
        T::load_all(&self.bytes, self.offset(at), out);
    }

    pub(super) fn store(&self, at: usize, items: &[T]) {
        self.within(at..at.saturating_add(items.len()));
        T::store_all(items, &self.bytes, self.offset(at));
    }
}

impl<T: AtomicPrimitive> ArraySlice<T> {
    /// Returns the item at `index` as one of std's atomics, for atomic changes without the lock.
    ///
    /// Atomic changes ignore the lock: an [`update`](ArraySlice::update) at the same time may overwrite
    /// one. Change an item in only one of the two ways.
    ///
    /// # Panics
    /// Panics when `index` is not below [`len`](ArraySlice::len).
    ///
    /// # Examples
    /// ```
    /// use std::sync::atomic::Ordering::Relaxed;
    ///
    /// # fn main() -> procession::Result<()> {
    /// let histogram = procession::Array::<u64>::zeroed(10)?;
    /// for grade in [3, 7, 3] {
    ///     histogram.atomic(grade).fetch_add(1, Relaxed);
    /// }
    /// assert_eq!(histogram.get(3)?, 2);
    /// # Ok(())
    /// # }
    /// ```
    pub fn atomic(&self, index: usize) -> T::Atomic<'_> {
        self.check(index);
        T::atomic(&self.bytes, self.offset(index))
    }
}

impl<T> Clone for ArraySlice<T> {
    fn clone(&self) -> ArraySlice<T> {
        ArraySlice {
            bytes: self.bytes.clone(),
            lock: self.lock.clone(),
            start: self.start,
            len: self.len,
            _items: PhantomData,
        }
    }
}

impl<T> fmt::Debug for ArraySlice<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.debug("ArraySlice", f)
    }
}
