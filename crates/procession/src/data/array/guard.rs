//! An array while its lock is held.

use std::ops::RangeBounds;

use super::ArraySlice;
use crate::data::plain::Plain;
use crate::sync::rlock::RLockGuard;

/// Holds the lock of an [`Array`](super::Array) or [`ArraySlice`], and releases it on drop.
///
/// Methods with an index panic when it is not below [`len`](ArrayGuard::len). Methods that read or change items
/// panic in a forked process whose parent holds the guard.
#[derive(Debug)]
pub struct ArrayGuard<'a, T> {
    items: &'a ArraySlice<T>,
    held: RLockGuard<'a>,
}

impl<'a, T: Plain> ArrayGuard<'a, T> {
    pub(super) fn new(items: &'a ArraySlice<T>, held: RLockGuard<'a>) -> ArrayGuard<'a, T> {
        ArrayGuard { items, held }
    }

    fn held_items(&self) -> &'a ArraySlice<T> {
        self.held.owner().assert_current();
        self.items
    }

    /// Returns the number of items.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Returns whether there are no items.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Returns the item at `index`.
    pub fn get(&self, index: usize) -> T {
        self.held_items().load_one(index)
    }

    /// Sets the item at `index`.
    pub fn set(&mut self, index: usize, item: T) {
        self.held_items().store_one(index, item);
    }

    /// Replaces the item at `index` with `change(item)`, and returns the new item.
    pub fn update(&mut self, index: usize, change: impl FnOnce(T) -> T) -> T {
        let item = change(self.get(index));
        self.set(index, item);
        item
    }

    /// Swaps two items.
    pub fn swap(&mut self, one: usize, other: usize) {
        let (first, second) = (self.get(one), self.get(other));
        self.set(one, second);
        self.set(other, first);
    }

    /// Returns a copy of the items in `range`.
    ///
    /// # Panics
    /// Panics when the range is out of bounds.
    pub fn read(&self, range: impl RangeBounds<usize>) -> Vec<T> {
        let range = self.items.within(range);
        if range.is_empty() {
            return Vec::new();
        }
        // Any value does: all are overwritten.
        let mut copy = vec![self.get(range.start); range.len()];
        self.held_items().load(range.start, &mut copy);
        copy
    }

    /// Copies items into `out`, starting with the one at `at`.
    ///
    /// # Panics
    /// Panics when there are fewer items from `at` than `out` has.
    pub fn read_into(&self, at: usize, out: &mut [T]) {
        self.held_items().load(at, out);
    }

    /// Replaces items with `items`, starting with the one at `at`.
    ///
    /// # Panics
    /// Panics when there are fewer items from `at` than `items` has.
    pub fn write(&mut self, at: usize, items: &[T]) {
        self.held_items().store(at, items);
    }

    /// Returns a copy of all items.
    pub fn to_vec(&self) -> Vec<T> {
        self.read(..)
    }

    /// Replaces all items.
    ///
    /// # Panics
    /// Panics when the number of items differs.
    pub fn copy_from_slice(&mut self, items: &[T]) {
        assert_eq!(
            items.len(),
            self.len(),
            "the number of items must be that of the array"
        );
        self.write(0, items);
    }

    /// Sets all items to `item`.
    pub fn fill(&mut self, item: T) {
        let some = vec![item; self.len().min(FILL_CHUNK)];
        for at in (0..self.len()).step_by(FILL_CHUNK) {
            let count = some.len().min(self.len() - at);
            self.write(at, &some[..count]);
        }
    }

    /// Returns an iterator that reads each item when it is reached.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = T> + ExactSizeIterator {
        (0..self.len()).map(|index| self.get(index))
    }

    /// Returns an iterator over copies of `size` items each (the last may be shorter), for arrays too large
    /// to copy as a whole.
    ///
    /// # Panics
    /// Panics when `size` is zero.
    ///
    /// # Examples
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let array = procession::Array::new([1, 2, 3, 4, 5])?;
    /// let items = array.lock()?;
    /// let sums: Vec<i32> = items.chunks(2).map(|some| some.iter().sum()).collect();
    /// assert_eq!(sums, [3, 7, 5]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn chunks(&self, size: usize) -> impl ExactSizeIterator<Item = Vec<T>> {
        assert!(size > 0, "chunks need at least one item");
        (0..self.len().div_ceil(size)).map(move |number| {
            let start = number * size;
            self.read(start..self.len().min(start.saturating_add(size)))
        })
    }
}

/// How many items are set at a time.
const FILL_CHUNK: usize = 1024;
