//! A part of an array.

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

/// A part of an [`Array`](super::Array), as a slice is one of a vector; to be passed to a process that works on it.
///
/// It is the array's memory and has the array's lock: there is one for all the parts. A call here locks for as
/// long as it copies; for several steps that nobody is to see between there is [`lock`](ArraySlice::lock).
/// A worker that reads its part, computes, and writes it back holds nobody up meanwhile.
///
/// Clones are the same part. The array lives for as long as any of its parts.
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
    /// How many items it has.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it has no items.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The part of it in a range.
    ///
    /// # Panics
    /// When the range does not lie within it.
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

    /// Its first `mid` items, and the rest.
    ///
    /// # Panics
    /// When it has fewer than `mid`.
    pub fn split_at(&self, mid: usize) -> (ArraySlice<T>, ArraySlice<T>) {
        (self.slice(..mid), self.slice(mid..))
    }

    /// Parts of `size` items each, but for the last, which may be shorter.
    ///
    /// # Panics
    /// When `size` is zero.
    pub fn chunks(&self, size: usize) -> impl ExactSizeIterator<Item = ArraySlice<T>> {
        assert!(size > 0, "parts without items would never end");
        (0..self.len.div_ceil(size)).map(move |number| {
            let start = number * size;
            self.slice(start..self.len.min(start.saturating_add(size)))
        })
    }

    /// A range within it, in numbers.
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
            procession_engine::Error::Invalid("an array larger than all memory".to_owned())
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

    /// The item at `index`. Waits for the lock.
    ///
    /// # Errors
    /// [`LockError::OwnerDied`] when a process died holding the lock.
    ///
    /// # Panics
    /// When `index` is not below [`len`](ArraySlice::len).
    pub fn get(&self, index: usize) -> Result<T, LockError> {
        Ok(self.lock()?.get(index))
    }

    /// Sets the item at `index`. Waits for the lock.
    ///
    /// # Errors
    /// As for [`get`](ArraySlice::get).
    ///
    /// # Panics
    /// As for [`get`](ArraySlice::get).
    pub fn set(&self, index: usize, item: T) -> Result<(), LockError> {
        self.lock()?.set(index, item);
        Ok(())
    }

    /// Replaces the item at `index` by what `change` makes of it, under the lock, and returns that.
    ///
    /// # Errors
    /// As for [`get`](ArraySlice::get).
    ///
    /// # Panics
    /// As for [`get`](ArraySlice::get).
    pub fn update(&self, index: usize, change: impl FnOnce(T) -> T) -> Result<T, LockError> {
        Ok(self.lock()?.update(index, change))
    }

    /// Lets two items change places. Waits for the lock.
    ///
    /// # Errors
    /// As for [`get`](ArraySlice::get).
    ///
    /// # Panics
    /// As for [`get`](ArraySlice::get).
    pub fn swap(&self, one: usize, other: usize) -> Result<(), LockError> {
        self.lock()?.swap(one, other);
        Ok(())
    }

    /// A copy of the items in a range. Waits for the lock.
    ///
    /// # Errors
    /// As for [`get`](ArraySlice::get).
    ///
    /// # Panics
    /// When the range does not lie within the items.
    pub fn read(&self, range: impl RangeBounds<usize>) -> Result<Vec<T>, LockError> {
        Ok(self.lock()?.read(range))
    }

    /// Copies the items from `at` on into `out`. Waits for the lock.
    ///
    /// # Errors
    /// As for [`get`](ArraySlice::get).
    ///
    /// # Panics
    /// When there are fewer items from `at` on than `out` has.
    pub fn read_into(&self, at: usize, out: &mut [T]) -> Result<(), LockError> {
        self.lock()?.read_into(at, out);
        Ok(())
    }

    /// Replaces the items from `at` on by these. Waits for the lock.
    ///
    /// # Errors
    /// As for [`get`](ArraySlice::get).
    ///
    /// # Panics
    /// When there are more of these than items from `at` on.
    pub fn write(&self, at: usize, items: &[T]) -> Result<(), LockError> {
        self.lock()?.write(at, items);
        Ok(())
    }

    /// A copy of all items. Waits for the lock.
    ///
    /// # Errors
    /// As for [`get`](ArraySlice::get).
    pub fn to_vec(&self) -> Result<Vec<T>, LockError> {
        Ok(self.lock()?.to_vec())
    }

    /// Replaces all items. Waits for the lock.
    ///
    /// # Errors
    /// As for [`get`](ArraySlice::get).
    ///
    /// # Panics
    /// When these are more or fewer than there are items.
    pub fn copy_from_slice(&self, items: &[T]) -> Result<(), LockError> {
        self.lock()?.copy_from_slice(items);
        Ok(())
    }

    /// Sets all items to one value. Waits for the lock.
    ///
    /// # Errors
    /// As for [`get`](ArraySlice::get).
    pub fn fill(&self, item: T) -> Result<(), LockError> {
        self.lock()?.fill(item);
        Ok(())
    }

    /// Waits for the lock; nobody else sees or changes the array while the guard lives.
    ///
    /// The thread that holds it may lock it again.
    ///
    /// # Errors
    /// As for [`get`](ArraySlice::get).
    pub fn lock(&self) -> Result<ArrayGuard<'_, T>, LockError> {
        Ok(self.under(self.lock.lock()?))
    }

    /// As [`lock`](ArraySlice::lock), but only if nobody else holds it.
    ///
    /// # Errors
    /// As for [`get`](ArraySlice::get); and [`LockError::TimedOut`] when somebody else holds it.
    pub fn try_lock(&self) -> Result<ArrayGuard<'_, T>, LockError> {
        Ok(self.under(self.lock.try_lock()?))
    }

    /// As [`lock`](ArraySlice::lock), but waits no longer than `timeout`.
    ///
    /// # Errors
    /// As for [`get`](ArraySlice::get); and [`LockError::TimedOut`].
    pub fn lock_timeout(&self, timeout: Duration) -> Result<ArrayGuard<'_, T>, LockError> {
        Ok(self.under(self.lock.lock_timeout(timeout)?))
    }

    fn under<'a>(&'a self, held: RLockGuard<'a>) -> ArrayGuard<'a, T> {
        ArrayGuard::new(self, held)
    }

    /// Where in the bytes the item at `index` begins, or the last one ends.
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
    /// The item at `index` as std's atomic, to be changed in one step without the lock.
    ///
    /// Who holds the lock is not waited for: an [`update`](ArraySlice::update) at the same time may undo what is
    /// done here. An item is best changed in one of the two ways only.
    ///
    /// # Panics
    /// When `index` is not below [`len`](ArraySlice::len).
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
