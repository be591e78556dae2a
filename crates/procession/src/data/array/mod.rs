//! Shared values, one beside the other.

mod guard;
mod slice;

use std::fmt;
use std::ops::Deref;

use serde::{Deserialize, Serialize};

use crate::data::plain::Plain;
use crate::error::Error;
pub use guard::ArrayGuard;
pub use slice::ArraySlice;

/// An array in shared memory, of a fixed length, with a lock.
///
/// What it does is what an [`ArraySlice`] does, of which it is the whole. Clones are the same array.
///
/// # Examples
/// Each worker gets its part:
/// ```
/// use procession::{Array, ArraySlice, Process};
///
/// fn double(part: ArraySlice<i32>) {
///     let doubled: Vec<i32> = part.to_vec().unwrap().iter().map(|n| 2 * n).collect();
///     part.copy_from_slice(&doubled).unwrap();
/// }
///
/// fn main() -> procession::Result<()> {
///     procession::init();
///     let array = Array::new([1, 2, 3, 4, 5])?;
///     let workers: Vec<_> = array
///         .chunks(array.len().div_ceil(2))
///         .map(|part| Process::spawn(double, part))
///         .collect::<Result<_, _>>()?;
///     for worker in workers {
///         worker.join()?;
///     }
///     assert_eq!(array.to_vec()?, [2, 4, 6, 8, 10]);
///     Ok(())
/// }
/// ```
#[derive(Serialize, Deserialize)]
#[serde(transparent, bound = "")]
pub struct Array<T>(ArraySlice<T>);

impl<T: Plain> Array<T> {
    /// A new array with a copy of these items.
    ///
    /// # Errors
    /// When there is no shared memory left.
    pub fn new(items: impl AsRef<[T]>) -> Result<Array<T>, Error> {
        let items = items.as_ref();
        let array = Array::zeroed(items.len())?;
        array.store(0, items);
        Ok(array)
    }

    /// A new array of `len` items that are what bytes of zeroes are: the number zero, `false`, of a struct one
    /// whose fields are.
    ///
    /// # Errors
    /// As for [`Array::new`].
    pub fn zeroed(len: usize) -> Result<Array<T>, Error> {
        ArraySlice::zeroed(len).map(Array)
    }
}

impl<T> Deref for Array<T> {
    type Target = ArraySlice<T>;

    fn deref(&self) -> &ArraySlice<T> {
        &self.0
    }
}

impl<T> Clone for Array<T> {
    fn clone(&self) -> Array<T> {
        Array(self.0.clone())
    }
}

impl<T> fmt::Debug for Array<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.debug("Array", f)
    }
}
