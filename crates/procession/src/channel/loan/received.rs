//! A received message, read in place.

use std::any::type_name;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;

use procession_engine::channel::Message;
use procession_engine::in_place::{self, InPlace};

use super::Loan;
use crate::error::Error;

/// A received [`Loan`]: its items, read where the sender wrote them.
///
/// The memory belongs to this process, and no other process writes to it. It is freed when this value is
/// dropped, or when the process ends. A forked child does not own what its parent received: accessing it there
/// panics, and dropping it does nothing.
///
/// # Examples
/// A process that changes messages and passes them on without a copy:
/// ```
/// use procession::{Connection, Loan, Process};
///
/// fn brighten(images: Connection<Loan<u8>, Loan<u8>>) {
///     for image in images.loans() {
///         let mut image = image.unwrap().into_loan();
///         image.iter_mut().for_each(|pixel| *pixel = pixel.saturating_add(10));
///         images.send_loan(image).unwrap();
///     }
/// }
///
/// fn main() -> procession::Result<()> {
///     procession::init();
///     let (ours, theirs) = procession::pipe()?;
///     let process = Process::spawn(brighten, theirs)?;
///     ours.send_loan(Loan::from_slice(&[0, 100, 250])?)?;
///     assert_eq!(*ours.recv_loan()?, [10, 110, 255]);
///     drop(ours);
///     process.join()?;
///     Ok(())
/// }
/// ```
pub struct Received<T: InPlace> {
    message: Message,
    _items: PhantomData<T>,
}

impl<T: InPlace> Received<T> {
    /// Wraps a message that was put as a loan of `T`. This fails only if a type's serde implementation is
    /// wrong.
    pub(super) fn over(message: Message) -> Result<Received<T>, Error> {
        let kind = type_name::<Loan<T>>();
        if !message.is_buf() {
            let reason = "it was not put as a loan".to_owned();
            return Err(Error::Decode { kind, reason });
        }
        let bytes = Received::<u8>::of(message);
        bytes.cast().map_err(|bytes| Error::Misfit {
            kind,
            bytes: Box::new(bytes),
        })
    }

    fn of(message: Message) -> Received<T> {
        Received {
            message,
            _items: PhantomData,
        }
    }

    /// Returns the same memory as a loan, to change it in place and pass it on.
    ///
    /// # Panics
    /// Panics in a child forked after it was received.
    pub fn into_loan(self) -> Loan<T> {
        let buf = self.message.into_buf();
        Loan::over(buf.unwrap_or_else(|_| panic!("{NOT_THE_CHILDS}")))
    }

    /// Returns the same memory as items of another type, for messages that describe their own type.
    ///
    /// A `U` with an alignment over 64 bytes does not compile.
    ///
    /// # Errors
    /// Returns `self` if its bytes are not a whole number of `U`s.
    ///
    /// # Examples
    /// ```
    /// use procession::{Loan, Queue};
    ///
    /// # fn main() -> procession::Result<()> {
    /// let queue = Queue::<Loan<u8>>::new()?;
    /// queue.put_loan(Loan::from_slice(&[1, 0, 2, 0])?)?;
    /// let bytes = queue.get_loan()?.cast::<u64>().unwrap_err();
    /// let pairs = bytes.cast::<[u8; 2]>().unwrap();
    /// assert_eq!(*pairs, [[1, 0], [2, 0]]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn cast<U: InPlace>(self) -> Result<Received<U>, Received<T>> {
        const { super::check_items::<U>() };
        match self.message.len().is_multiple_of(size_of::<U>()) {
            true => Ok(Received::of(self.message)),
            false => Err(self),
        }
    }
}

const NOT_THE_CHILDS: &str = "a forked child cannot use a message that its parent received";

impl<T: InPlace> Deref for Received<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        assert!(self.message.is_mine(), "{NOT_THE_CHILDS}");
        in_place::items(self.message.bytes())
    }
}

impl<T: InPlace> AsRef<[T]> for Received<T> {
    fn as_ref(&self) -> &[T] {
        self
    }
}

impl<T: InPlace> fmt::Debug for Received<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Received").field(&self.message).finish()
    }
}
