//! Messages that are written, and read, where they lie.

#[cfg(feature = "async")]
mod futures;
mod pipe;
mod queue;
mod received;

use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

use bytemuck::Pod;
use procession_engine as engine;
use procession_engine::channel::{Draft, Message};

use crate::channel::queue::{get_retrying, put_retrying, refused};
use crate::error::{Error, GetError, PutError};
pub use received::Received;

/// What the engine aligns every message to that is written where it lies.
const ALIGNMENT: usize = 64;

/// A message of `[T]` in shared memory, to be filled in place and put without a copy.
///
/// It is lent to this process, which alone sees it, until it is put into a [`Queue`](crate::Queue) or sent
/// through a pipe of loans: `Queue<Loan<f64>>`, `Sender<Loan<u8>>`. Whoever takes it out has the same memory
/// as a [`Received`], reads it where it lies, and may turn it into a loan again to change it and pass it on. A
/// loan of 1 MiB and one of 1 byte cost the same on the way.
///
/// `T` is any [`bytemuck::Pod`]: a number, or a `#[repr(C)]` struct of them without padding. Any bytes are one,
/// so no process can send what another could not read; and a message of bytes that say what they are becomes items
/// of another type by a [`cast`](Received::cast). The items are aligned as `T` wants it, up to 64 bytes.
///
/// A queue of loans takes loans only, and gives out nothing else: [`put`](crate::Queue::put) and
/// [`get`](crate::Queue::get) are for what serde carries, which a loan is not.
///
/// ```compile_fail
/// # fn main() -> procession::Result<()> {
/// let queue = procession::Queue::<procession::Loan<u8>>::new()?;
/// queue.put(queue.loan(8)?)?; // put_loan
/// # Ok(())
/// # }
/// ```
///
/// # Whose the memory is
///
/// Dropped unsent, the loan is given back. Leaked by [`mem::forget`](std::mem::forget), it is given back when
/// the process ends, however it does; a process that is killed in the middle of writing leaves nothing, and
/// nobody ever sees what it wrote. Once it was put it survives the process, as every message does. A forked
/// child has no part in its parent's loans: looking at one panics there, sending one fails, and dropping one
/// does nothing.
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
pub struct Loan<T> {
    draft: Draft,
    _items: PhantomData<T>,
}

impl<T: Pod> Loan<T> {
    /// Room for `len` items. What they are at first is unspecified: whatever lay there before.
    ///
    /// A `T` without bytes, or one to be aligned to more than 64, does not compile.
    ///
    /// # Errors
    /// When there is no shared memory left.
    pub fn new(len: usize) -> Result<Loan<T>, Error> {
        const {
            assert!(size_of::<T>() > 0, "items without bytes cannot be lent");
            assert!(
                align_of::<T>() <= ALIGNMENT,
                "loans are aligned to 64 bytes, not to more"
            );
        }
        // What overflows is more than any block holds.
        let size = len.saturating_mul(size_of::<T>());
        Ok(Loan::over(Draft::new(size, &[])?))
    }

    /// `len` items of zeroes.
    ///
    /// # Errors
    /// As for [`Loan::new`].
    pub fn zeroed(len: usize) -> Result<Loan<T>, Error> {
        let mut loan = Loan::new(len)?;
        loan.fill(T::zeroed());
        Ok(loan)
    }

    /// A copy of these items.
    ///
    /// # Errors
    /// As for [`Loan::new`].
    pub fn from_slice(items: &[T]) -> Result<Loan<T>, Error> {
        let mut loan = Loan::new(items.len())?;
        loan.copy_from_slice(items);
        Ok(loan)
    }

    /// Leaves away what is behind the first `len` items, if there is any; what comes of a read that was shorter
    /// than the buffer.
    pub fn truncate(&mut self, len: usize) {
        self.draft.truncate(len.saturating_mul(size_of::<T>()));
    }

    fn over(draft: Draft) -> Loan<T> {
        Loan {
            draft,
            _items: PhantomData,
        }
    }
}

impl<T: Pod> Deref for Loan<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        bytemuck::cast_slice(self.draft.bytes())
    }
}

impl<T: Pod> DerefMut for Loan<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        bytemuck::cast_slice_mut(self.draft.bytes_mut())
    }
}

impl<T: Pod> AsRef<[T]> for Loan<T> {
    fn as_ref(&self) -> &[T] {
        self
    }
}

impl<T: Pod> AsMut<[T]> for Loan<T> {
    fn as_mut(&mut self) -> &mut [T] {
        self
    }
}

impl<T> fmt::Debug for Loan<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Loan").field(&self.draft).finish()
    }
}

/// Puts a loan, through signals, or gives it back.
fn send<T: Pod>(
    loan: Loan<T>,
    mut put: impl FnMut(&mut Option<Draft>) -> Result<(), engine::error::PutError>,
) -> Result<(), PutError<Loan<T>>> {
    let mut draft = Some(loan.draft);
    put_retrying(|| put(&mut draft)).map_err(|error| {
        // Only of a process that others took for dead is the memory gone by then.
        let draft = draft.expect("other processes took this one for dead, and its loan with it");
        refused(Loan::over(draft), error)
    })
}

/// Receives a loan, through signals.
fn receive<T: Pod>(
    get: impl FnMut(&mut Message) -> Result<(), engine::error::GetError>,
) -> Result<Received<T>, GetError> {
    let mut message = Message::default();
    get_retrying(&mut message, get)?;
    Ok(Received::over(message)?)
}
