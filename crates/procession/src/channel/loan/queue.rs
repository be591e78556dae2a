//! Queues of loans.

use std::time::Duration;

use procession_engine::{Deadline, InPlace};

use super::{Loan, Received, receive, send};
use crate::channel::queue::Queue;
use crate::error::{Error, GetError, PutError, within};
use crate::transfer::codec::RustCodec;

/// Messages written and read in place: see [`Loan`].
impl<T: InPlace, K> Queue<Loan<T>, RustCodec, K> {
    /// Allocates a message of `len` items, to fill and [put](Queue::put_loan). The same as [`Loan::new`].
    ///
    /// # Errors
    /// Returns an error when there is no shared memory left.
    pub fn loan(&self, len: usize) -> Result<Loan<T>, Error> {
        Loan::new(len)
    }

    /// Puts a loan without a copy. A bounded queue that is full makes it wait for room.
    ///
    /// # Errors
    /// Returns an error when the queue is closed, or when the loan belongs to the process of which this one
    /// is a forked child. The error returns the loan.
    ///
    /// # Examples
    /// ```
    /// use procession::{Loan, Queue};
    ///
    /// # fn main() -> procession::Result<()> {
    /// let queue = Queue::new()?;
    /// queue.put_loan(Loan::from_slice(&[1u8, 2])?)?;
    /// assert_eq!(*queue.get_loan()?, [1, 2]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn put_loan(&self, loan: Loan<T>) -> Result<(), PutError<Loan<T>>> {
        self.put_loan_until(loan, Deadline::NEVER)
    }

    /// Puts a loan if there is room.
    ///
    /// # Errors
    /// The same as for [`put_loan`](Queue::put_loan), and [`PutError::Full`] when there is no room.
    pub fn try_put_loan(&self, loan: Loan<T>) -> Result<(), PutError<Loan<T>>> {
        self.put_loan_until(loan, Deadline::NOW)
    }

    /// Puts a loan, waiting for room for at most `timeout`.
    ///
    /// # Errors
    /// The same as for [`put_loan`](Queue::put_loan), and [`PutError::Full`] when there was no room in time.
    pub fn put_loan_timeout(
        &self,
        loan: Loan<T>,
        timeout: Duration,
    ) -> Result<(), PutError<Loan<T>>> {
        self.put_loan_until(loan, within(timeout))
    }

    /// Gets the oldest message, waiting until there is one. The message stays in place, and belongs to this
    /// process until it is dropped.
    ///
    /// # Errors
    /// Returns [`GetError::Closed`] when the queue is closed and empty, and [`Error::Misfit`], with the
    /// message, when the queue was opened with another item type.
    pub fn get_loan(&self) -> Result<Received<T>, GetError> {
        self.get_loan_until(Deadline::NEVER)
    }

    /// Gets the oldest message if there is one.
    ///
    /// # Errors
    /// The same as for [`get_loan`](Queue::get_loan), and [`GetError::Empty`] when there is none.
    ///
    /// # Examples
    /// ```
    /// use procession::{GetError, Loan, Queue};
    ///
    /// # fn main() -> procession::Result<()> {
    /// let queue = Queue::<Loan<u8>>::new()?;
    /// assert!(matches!(queue.try_get_loan(), Err(GetError::Empty)));
    /// # Ok(())
    /// # }
    /// ```
    pub fn try_get_loan(&self) -> Result<Received<T>, GetError> {
        self.get_loan_until(Deadline::NOW)
    }

    /// Gets the oldest message, waiting for at most `timeout`.
    ///
    /// # Errors
    /// The same as for [`get_loan`](Queue::get_loan), and [`GetError::Empty`] when none arrived in time.
    pub fn get_loan_timeout(&self, timeout: Duration) -> Result<Received<T>, GetError> {
        self.get_loan_until(within(timeout))
    }

    /// Returns an iterator over the messages, which ends when the queue is closed and empty.
    ///
    /// # Examples
    /// ```
    /// use procession::{Loan, Queue};
    ///
    /// # fn main() -> procession::Result<()> {
    /// let queue = Queue::new()?;
    /// queue.put_loan(Loan::from_slice(&[1, 2])?)?;
    /// queue.put_loan(Loan::from_slice(&[3])?)?;
    /// queue.close();
    /// let lengths: Vec<usize> = queue.loans().map(|loan| loan.unwrap().len()).collect();
    /// assert_eq!(lengths, [2, 1]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn loans(&self) -> impl Iterator<Item = Result<Received<T>, GetError>> {
        std::iter::from_fn(|| match self.get_loan() {
            Err(GetError::Closed) => None,
            got => Some(got),
        })
    }

    fn put_loan_until(&self, loan: Loan<T>, deadline: Deadline) -> Result<(), PutError<Loan<T>>> {
        send(loan, |buf| self.engine().put_buf(buf, deadline))
    }

    fn get_loan_until(&self, deadline: Deadline) -> Result<Received<T>, GetError> {
        receive(|message| self.engine().get_into(message, deadline))
    }
}
