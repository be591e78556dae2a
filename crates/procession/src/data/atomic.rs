//! Shared numbers with atomic operations.

use std::sync::atomic::{
    AtomicI8, AtomicI16, AtomicI32, AtomicI64, AtomicIsize, AtomicU8, AtomicU16, AtomicU32,
    AtomicU64, AtomicUsize, Ordering,
};

use procession_engine::value::SharedBytes;

use crate::data::plain::Plain;

/// A plain type that [`Value::atomic`](crate::Value::atomic) and
/// [`ArraySlice::atomic`](crate::ArraySlice::atomic) change without a lock: `bool`, and the integers for which
/// std has atomics.
///
/// The trait is sealed.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be changed atomically",
    label = "not an integer of at most 64 bits or a `bool`",
    note = "for other plain types, `update` changes the value under its lock"
)]
pub trait AtomicPrimitive: Plain + sealed::AtomicPrimitive {
    /// The atomic type: a reference to std's atomic of the same size, or an [`AtomicFlag`].
    type Atomic<'a>;

    #[doc(hidden)]
    fn atomic(memory: &SharedBytes, at: usize) -> Self::Atomic<'_>;
}

mod sealed {
    pub trait AtomicPrimitive {}
}

macro_rules! atomics {
    ($($number:ty: $atomic:ty,)+) => {$(
        impl sealed::AtomicPrimitive for $number {}

        impl AtomicPrimitive for $number {
            type Atomic<'a> = &'a $atomic;

            fn atomic(memory: &SharedBytes, at: usize) -> &$atomic {
                memory.atomic(at)
            }
        }
    )+};
}

atomics! {
    u8: AtomicU8,
    u16: AtomicU16,
    u32: AtomicU32,
    u64: AtomicU64,
    usize: AtomicUsize,
    i8: AtomicI8,
    i16: AtomicI16,
    i32: AtomicI32,
    i64: AtomicI64,
    isize: AtomicIsize,
}

impl sealed::AtomicPrimitive for bool {}

impl AtomicPrimitive for bool {
    type Atomic<'a> = AtomicFlag<'a>;

    fn atomic(memory: &SharedBytes, at: usize) -> AtomicFlag<'_> {
        AtomicFlag(memory.atomic(at))
    }
}

/// A shared `bool`, with the methods of [`AtomicBool`](std::sync::atomic::AtomicBool).
///
/// It is not an `AtomicBool`, because other processes could write any byte to its memory. All bytes but zero
/// are `true`.
#[derive(Debug, Clone, Copy)]
pub struct AtomicFlag<'a>(&'a AtomicU8);

impl AtomicFlag<'_> {
    /// Returns the value.
    ///
    /// # Panics
    /// Panics when `order` is valid only for stores, as std's atomics do.
    pub fn load(&self, order: Ordering) -> bool {
        self.0.load(order) != 0
    }

    /// Sets the value.
    ///
    /// # Panics
    /// Panics when `order` is valid only for loads.
    pub fn store(&self, value: bool, order: Ordering) {
        self.0.store(u8::from(value), order);
    }

    /// Sets the value, and returns the old one.
    ///
    /// # Examples
    /// ```
    /// use std::sync::atomic::Ordering::SeqCst;
    ///
    /// # fn main() -> procession::Result<()> {
    /// let flag = procession::Value::new(false)?;
    /// assert!(!flag.atomic().swap(true, SeqCst));
    /// assert!(flag.atomic().load(SeqCst));
    /// # Ok(())
    /// # }
    /// ```
    pub fn swap(&self, value: bool, order: Ordering) -> bool {
        self.0.swap(u8::from(value), order) != 0
    }

    /// Sets the value to `new` if it is `current`, and returns the old value.
    ///
    /// # Errors
    /// Returns the actual value if it is not `current`.
    ///
    /// # Panics
    /// Panics when `failure` is valid only for stores.
    ///
    /// # Examples
    /// ```
    /// use std::sync::atomic::Ordering::SeqCst;
    ///
    /// # fn main() -> procession::Result<()> {
    /// let flag = procession::Value::new(false)?;
    /// assert_eq!(flag.atomic().compare_exchange(false, true, SeqCst, SeqCst), Ok(false));
    /// assert_eq!(flag.atomic().compare_exchange(false, true, SeqCst, SeqCst), Err(true));
    /// # Ok(())
    /// # }
    /// ```
    pub fn compare_exchange(
        &self,
        current: bool,
        new: bool,
        success: Ordering,
        failure: Ordering,
    ) -> Result<bool, bool> {
        let change = |now| ((now != 0) == current).then_some(u8::from(new));
        let changed = self.0.fetch_update(success, failure, change);
        changed.map(|was| was != 0).map_err(|now| now != 0)
    }

    /// Stores the logical "and" with `value`, and returns the old value.
    pub fn fetch_and(&self, value: bool, order: Ordering) -> bool {
        match value {
            true => self.fetch_or(false, order),
            false => self.swap(false, order),
        }
    }

    /// Stores the logical "or" with `value`, and returns the old value.
    pub fn fetch_or(&self, value: bool, order: Ordering) -> bool {
        self.0.fetch_or(u8::from(value), order) != 0
    }

    /// Stores the logical "exclusive or" with `value`, and returns the old value.
    pub fn fetch_xor(&self, value: bool, order: Ordering) -> bool {
        let flip = |now| Some(u8::from(now == 0));
        match value {
            true => {
                let flipped = self.0.fetch_update(order, Ordering::Relaxed, flip);
                flipped.is_ok_and(|was| was != 0)
            }
            false => self.fetch_or(false, order),
        }
    }
}
