//! Shared arrays.

mod guard;
mod slice;

use std::fmt;
use std::ops::Deref;

use serde::{Deserialize, Serialize};

use crate::data::plain::Plain;
use crate::error::Error;
pub use guard::ArrayGuard;
pub use slice::ArraySlice;

/// An array of fixed length in shared memory, with a lock.
///
/// It dereferences to an [`ArraySlice`] of all its items, which has its methods. Clones refer to the same
/// array.
///
/// # Examples
/// Each worker processes one part:
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
    /// Creates an array with a copy of `items`.
    ///
    /// # Errors
    /// Returns an error when there is no shared memory left.
    ///
    /// # Examples
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let array = procession::Array::new([1, 2, 3])?;
    /// assert_eq!(array.get(2)?, 3);
    /// # Ok(())
    /// # }
    /// ```
    pub fn new(items: impl AsRef<[T]>) -> Result<Array<T>, Error> {
        let items = items.as_ref();
        let array = Array::zeroed(items.len())?;
        array.store(0, items);
        Ok(array)
    }

    /// Creates an array of `len` items whose bytes are zero: the number zero, `false`, or a struct of such
    /// fields.
    ///
    /// # Errors
    /// The same as for [`Array::new`].
    ///
    /// # Examples
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let array = procession::Array::<f64>::zeroed(1000)?;
    /// assert_eq!(array.len(), 1000);
    /// # Ok(())
    /// # }
    /// ```
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
