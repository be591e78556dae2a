//! An array while its lock is held.

use std::ops::RangeBounds;

use super::ArraySlice;
use crate::data::plain::Plain;
use crate::sync::rlock::RLockGuard;

/// The lock of an [`Array`](super::Array) or a part of one, held; given back when it is dropped.
///
/// Methods that take an index panic when it is not below [`len`](ArrayGuard::len). All that look at an item or
/// change one panic in a forked process whose parent locked.
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

    /// How many items there are.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// The item at `index`.
    pub fn get(&self, index: usize) -> T {
        self.held_items().load_one(index)
    }

    /// Sets the item at `index`.
    pub fn set(&mut self, index: usize, item: T) {
        self.held_items().store_one(index, item);
    }

    /// Replaces the item at `index` by what `change` makes of it, and returns that.
    pub fn update(&mut self, index: usize, change: impl FnOnce(T) -> T) -> T {
        let item = change(self.get(index));
        self.set(index, item);
        item
    }

    /// Lets two items change places.
    pub fn swap(&mut self, one: usize, other: usize) {
        let (first, second) = (self.get(one), self.get(other));
        self.set(one, second);
        self.set(other, first);
    }

    /// A copy of the items in a range.
    ///
    /// # Panics
    /// When the range does not lie within the items.
    pub fn read(&self, range: impl RangeBounds<usize>) -> Vec<T> {
        let range = self.items.within(range);
        if range.is_empty() {
            return Vec::new();
        }
        // Any value will do for what is overwritten.
        let mut copy = vec![self.get(range.start); range.len()];
        self.held_items().load(range.start, &mut copy);
        copy
    }

    /// Copies the items from `at` on into `out`.
    ///
    /// # Panics
    /// When there are fewer items from `at` on than `out` has.
    pub fn read_into(&self, at: usize, out: &mut [T]) {
        self.held_items().load(at, out);
    }

    /// Replaces the items from `at` on by these.
    ///
    /// # Panics
    /// When there are more of these than items from `at` on.
    pub fn write(&mut self, at: usize, items: &[T]) {
        self.held_items().store(at, items);
    }

    /// A copy of all items.
    pub fn to_vec(&self) -> Vec<T> {
        self.read(..)
    }

    /// Replaces all items.
    ///
    /// # Panics
    /// When `items` are more or fewer than there are.
    pub fn copy_from_slice(&mut self, items: &[T]) {
        assert_eq!(items.len(), self.len(), "as many items as the array has");
        self.write(0, items);
    }

    /// Sets all items to one value.
    pub fn fill(&mut self, item: T) {
        let some = vec![item; self.len().min(FILL_CHUNK)];
        for at in (0..self.len()).step_by(FILL_CHUNK) {
            let count = some.len().min(self.len() - at);
            self.write(at, &some[..count]);
        }
    }

    /// The items, each read as its turn comes.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = T> + ExactSizeIterator {
        (0..self.len()).map(|index| self.get(index))
    }

    /// Copies of `size` items each, but for the last, which may be shorter: for arrays that are not to be copied
    /// as a whole.
    ///
    /// # Panics
    /// When `size` is zero.
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
        assert!(size > 0, "chunks without items would never end");
        (0..self.len().div_ceil(size)).map(move |number| {
            let start = number * size;
            self.read(start..self.len().min(start.saturating_add(size)))
        })
    }
}

/// How many items are set at a time.
const FILL_CHUNK: usize = 1024;
