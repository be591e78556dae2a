//! Messages written and read in place.

#[cfg(feature = "async")]
mod futures;
mod pipe;
mod queue;
mod received;

use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

use procession_engine as engine;
use procession_engine::channel::{Message, MessageBuf};
use procession_engine::in_place::{self, InPlace};

use crate::channel::queue::{get_retrying, put_retrying, refused};
use crate::error::{Error, GetError, PutError};
pub use received::Received;

/// The alignment in bytes of every message that is written in place.
const ALIGNMENT: usize = 64;

/// Fails to compile for items that no message can have.
const fn check_items<T: InPlace>() {
    assert!(
        size_of::<T>() > 0,
        "a loan needs items of at least one byte"
    );
    assert!(
        align_of::<T>() <= ALIGNMENT,
        "loans are aligned to 64 bytes at most"
    );
}

/// A message of `[T]` in shared memory, filled in place and sent without a copy.
///
/// Only this process sees the loan until it is put into a [`Queue`](crate::Queue) or sent through a pipe of
/// loans: `Queue<Loan<f64>>`, `Sender<Loan<u8>>`. The receiver gets the same memory as a [`Received`] and reads
/// it in place. It may turn it back into a loan, to change it and pass it on. Sending a loan of 1 MiB costs the
/// same as one of 1 byte.
///
/// `T` is any type that is [`InPlace`](crate::InPlace): a number, an array of numbers, or a `#[repr(C)]` struct of such
/// fields without padding that derives [`Plain`](crate::Plain). Every byte pattern is a valid value, so no process
/// can send what another cannot read. For messages that describe their own type, [`cast`](Received::cast) converts
/// the items. The items are aligned as `T` requires, up to 64 bytes.
///
/// A queue of loans carries only loans. [`put`](crate::Queue::put) and [`get`](crate::Queue::get) are for types
/// that serde can carry, and a loan is not one.
///
/// ```compile_fail
/// # fn main() -> procession::Result<()> {
/// let queue = procession::Queue::<procession::Loan<u8>>::new()?;
/// queue.put(queue.loan(8)?)?; // put_loan
/// # Ok(())
/// # }
/// ```
///
/// Items that not every byte pattern is a value of, that have padding, or whose fields are in no known order do not
/// compile:
///
/// ```compile_fail
/// let flags = procession::Loan::<bool>::new(8);
/// ```
/// ```compile_fail
/// #[derive(Clone, Copy, procession::Plain)]
/// #[repr(C)]
/// struct Sample { at: u64, value: f32 } // 4 bytes of padding
/// let samples = procession::Loan::<Sample>::new(8);
/// ```
/// ```compile_fail
/// #[derive(Clone, Copy, procession::Plain)] // no `#[repr(C)]`
/// struct Sample { at: u64, value: f64 }
/// let samples = procession::Loan::<Sample>::new(8);
/// ```
///
/// # Whose the memory is
///
/// Dropping an unsent loan frees its memory. The memory of a loan leaked with [`mem::forget`](std::mem::forget)
/// is freed when the process ends, however it ends. A process killed while writing leaves nothing, and no other
/// process ever sees what it wrote. Once sent, the message survives the process, as every message does. A
/// forked child does not own its parent's loans: accessing one there panics, sending one fails, and dropping
/// one does nothing.
///
/// # Examples
/// ```
/// use procession::{Loan, Process, Queue};
///
/// fn sum(frames: Queue<Loan<f64>>, sums: Queue<f64>) {
///     for frame in frames.loans() {
///         sums.put(frame.unwrap().iter().sum()).unwrap();
///     }
/// }
///
/// fn main() -> procession::Result<()> {
///     procession::init();
///     let (frames, sums) = (Queue::new()?, Queue::new()?);
///     let process = Process::spawn(sum, (frames.clone(), sums.clone()))?;
///     let mut frame = frames.loan(100_000)?;
///     frame.fill(0.5);
///     frames.put_loan(frame)?;
///     assert_eq!(sums.get()?, 50_000.0);
///     frames.close();
///     process.join()?;
///     Ok(())
/// }
/// ```
/// Items of a type of one's own:
/// ```
/// #![forbid(unsafe_code)]
/// use procession::{Loan, Plain, Queue};
///
/// #[derive(Debug, Clone, Copy, PartialEq, Plain)]
/// #[repr(C)]
/// struct Sample {
///     at: u64,
///     values: [f32; 2],
/// }
///
/// # fn main() -> procession::Result<()> {
/// let queue = Queue::new()?;
/// let sample = Sample { at: 1, values: [0.5, -0.5] };
/// queue.put_loan(Loan::from_slice(&[sample; 3])?)?;
/// assert_eq!(*queue.get_loan()?, [sample; 3]);
/// # Ok(())
/// # }
/// ```
pub struct Loan<T: InPlace> {
    buf: MessageBuf,
    _items: PhantomData<T>,
}

impl<T: InPlace> Loan<T> {
    /// Allocates `len` items. Their initial values are unspecified: they are what the memory held before.
    ///
    /// A zero-sized `T`, or one with an alignment over 64 bytes, does not compile.
    ///
    /// # Errors
    /// Returns an error when there is no shared memory left.
    ///
    /// # Examples
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let mut loan = procession::Loan::<u32>::new(2)?;
    /// loan.copy_from_slice(&[1, 2]);
    /// assert_eq!(*loan, [1, 2]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn new(len: usize) -> Result<Loan<T>, Error> {
        const { check_items::<T>() };
        // A size that overflows is larger than any block.
        let size = len.saturating_mul(size_of::<T>());
        Ok(Loan::over(MessageBuf::new(size, &[])?))
    }

    /// Allocates `len` items of zeroes.
    ///
    /// # Errors
    /// The same as for [`Loan::new`].
    ///
    /// # Examples
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let loan = procession::Loan::<u32>::zeroed(3)?;
    /// assert_eq!(*loan, [0, 0, 0]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn zeroed(len: usize) -> Result<Loan<T>, Error> {
        let mut loan = Loan::new(len)?;
        loan.buf.bytes_mut().fill(0);
        Ok(loan)
    }

    /// Allocates a copy of `items`.
    ///
    /// # Errors
    /// The same as for [`Loan::new`].
    ///
    /// # Examples
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let loan = procession::Loan::from_slice(&[1.5, 2.5])?;
    /// assert_eq!(loan.iter().sum::<f64>(), 4.0);
    /// # Ok(())
    /// # }
    /// ```
    pub fn from_slice(items: &[T]) -> Result<Loan<T>, Error> {
        let mut loan = Loan::new(items.len())?;
        loan.copy_from_slice(items);
        Ok(loan)
    }

    /// Truncates to `len` items, for example after a read that was shorter than the buffer. Does nothing if
    /// there are fewer.
    ///
    /// # Examples
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let mut loan = procession::Loan::from_slice(b"hello, world")?;
    /// loan.truncate(5);
    /// assert_eq!(&*loan, b"hello");
    /// # Ok(())
    /// # }
    /// ```
    pub fn truncate(&mut self, len: usize) {
        self.buf.truncate(len.saturating_mul(size_of::<T>()));
    }

    fn over(buf: MessageBuf) -> Loan<T> {
        Loan {
            buf,
            _items: PhantomData,
        }
    }
}

impl<T: InPlace> Deref for Loan<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        in_place::items(self.buf.bytes())
    }
}

impl<T: InPlace> DerefMut for Loan<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        in_place::items_mut(self.buf.bytes_mut())
    }
}

impl<T: InPlace> AsRef<[T]> for Loan<T> {
    fn as_ref(&self) -> &[T] {
        self
    }
}

impl<T: InPlace> AsMut<[T]> for Loan<T> {
    fn as_mut(&mut self) -> &mut [T] {
        self
    }
}

impl<T: InPlace> fmt::Debug for Loan<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Loan").field(&self.buf).finish()
    }
}

/// Puts a loan, or returns it in the error. Retries after signals.
fn send<T: InPlace>(
    loan: Loan<T>,
    mut put: impl FnMut(&mut Option<MessageBuf>) -> Result<(), engine::error::PutError>,
) -> Result<(), PutError<Loan<T>>> {
    let mut buf = Some(loan.buf);
    put_retrying(|| put(&mut buf)).map_err(|error| {
        // The memory is gone only if other processes took this one for dead.
        let buf = buf.expect("other processes took this one for dead and freed its loan");
        refused(Loan::over(buf), error)
    })
}

/// Receives a loan. Retries after signals.
fn receive<T: InPlace>(
    get: impl FnMut(&mut Message) -> Result<(), engine::error::GetError>,
) -> Result<Received<T>, GetError> {
    let mut message = Message::default();
    get_retrying(&mut message, get)?;
    Ok(Received::over(message)?)
}
