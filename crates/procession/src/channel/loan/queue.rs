//! Queues of loans.

use std::time::Duration;

use bytemuck::Pod;
use procession_engine::Deadline;

use super::{Loan, Received, receive, send};
use crate::channel::joinable::JoinableQueue;
use crate::channel::queue::Queue;
use crate::error::{Error, GetError, PutError, within};

/// For messages that are written, and read, where they lie: see [`Loan`].
impl<T: Pod> Queue<Loan<T>> {
    /// Room for a message of `len` items, to be filled and [put](Queue::put_loan): a [`Loan::new`].
    ///
    /// # Errors
    /// When there is no shared memory left.
    pub fn loan(&self, len: usize) -> Result<Loan<T>, Error> {
        Loan::new(len)
    }

    /// Puts a loan, waiting for room if there is a bound. Nothing is copied.
    ///
    /// # Errors
    /// When the queue is closed, or the loan was made by a process of which this one is a forked child; gives
    /// it back.
    pub fn put_loan(&self, loan: Loan<T>) -> Result<(), PutError<Loan<T>>> {
        self.put_loan_until(loan, Deadline::NEVER)
    }

    /// Puts a loan if there is room.
    ///
    /// # Errors
    /// As for [`put_loan`](Queue::put_loan); and [`PutError::Full`] when there is no room.
    pub fn try_put_loan(&self, loan: Loan<T>) -> Result<(), PutError<Loan<T>>> {
        self.put_loan_until(loan, Deadline::NOW)
    }

    /// Puts a loan, waiting for room no longer than `timeout`.
    ///
    /// # Errors
    /// As for [`put_loan`](Queue::put_loan); and [`PutError::Full`] when there was no room in time.
    pub fn put_loan_timeout(
        &self,
        loan: Loan<T>,
        timeout: Duration,
    ) -> Result<(), PutError<Loan<T>>> {
        self.put_loan_until(loan, within(timeout))
    }

    /// Gets the oldest message, waiting for one. It stays where it is, and is this process's own until it is
    /// dropped.
    ///
    /// # Errors
    /// [`GetError::Closed`] when the queue is closed and empty; [`Error::Misfit`], with the message, where somebody
    /// opened a queue of other items as one of these.
    pub fn get_loan(&self) -> Result<Received<T>, GetError> {
        self.get_loan_until(Deadline::NEVER)
    }

    /// Gets the oldest message, if there is one.
    ///
    /// # Errors
    /// As for [`get_loan`](Queue::get_loan); and [`GetError::Empty`] when there is none.
    pub fn try_get_loan(&self) -> Result<Received<T>, GetError> {
        self.get_loan_until(Deadline::NOW)
    }

    /// Gets the oldest message, waiting for one no longer than `timeout`.
    ///
    /// # Errors
    /// As for [`get_loan`](Queue::get_loan); and [`GetError::Empty`] when none came in time.
    pub fn get_loan_timeout(&self, timeout: Duration) -> Result<Received<T>, GetError> {
        self.get_loan_until(within(timeout))
    }

    /// The messages, as they come, until the queue is closed and empty.
    pub fn loans(&self) -> impl Iterator<Item = Result<Received<T>, GetError>> {
        std::iter::from_fn(|| match self.get_loan() {
            Err(GetError::Closed) => None,
            got => Some(got),
        })
    }

    fn put_loan_until(&self, loan: Loan<T>, deadline: Deadline) -> Result<(), PutError<Loan<T>>> {
        send(loan, |draft| self.engine().put_draft(draft, deadline))
    }

    fn get_loan_until(&self, deadline: Deadline) -> Result<Received<T>, GetError> {
        receive(|message| self.engine().get_into(message, deadline))
    }
}

/// For messages that are written, and read, where they lie: see [`Loan`].
impl<T: Pod> JoinableQueue<Loan<T>> {
    /// See [`Queue::loan`].
    ///
    /// # Errors
    /// As for [`Queue::loan`].
    pub fn loan(&self, len: usize) -> Result<Loan<T>, Error> {
        self.queue().loan(len)
    }

    /// See [`Queue::put_loan`].
    ///
    /// # Errors
    /// As for [`Queue::put_loan`].
    pub fn put_loan(&self, loan: Loan<T>) -> Result<(), PutError<Loan<T>>> {
        self.queue().put_loan(loan)
    }

    /// See [`Queue::try_put_loan`].
    ///
    /// # Errors
    /// As for [`Queue::try_put_loan`].
    pub fn try_put_loan(&self, loan: Loan<T>) -> Result<(), PutError<Loan<T>>> {
        self.queue().try_put_loan(loan)
    }

    /// See [`Queue::put_loan_timeout`].
    ///
    /// # Errors
    /// As for [`Queue::put_loan_timeout`].
    pub fn put_loan_timeout(
        &self,
        loan: Loan<T>,
        timeout: Duration,
    ) -> Result<(), PutError<Loan<T>>> {
        self.queue().put_loan_timeout(loan, timeout)
    }

    /// See [`Queue::get_loan`].
    ///
    /// # Errors
    /// As for [`Queue::get_loan`].
    pub fn get_loan(&self) -> Result<Received<T>, GetError> {
        self.queue().get_loan()
    }

    /// See [`Queue::try_get_loan`].
    ///
    /// # Errors
    /// As for [`Queue::try_get_loan`].
    pub fn try_get_loan(&self) -> Result<Received<T>, GetError> {
        self.queue().try_get_loan()
    }

    /// See [`Queue::get_loan_timeout`].
    ///
    /// # Errors
    /// As for [`Queue::get_loan_timeout`].
    pub fn get_loan_timeout(&self, timeout: Duration) -> Result<Received<T>, GetError> {
        self.queue().get_loan_timeout(timeout)
    }

    /// See [`Queue::loans`].
    pub fn loans(&self) -> impl Iterator<Item = Result<Received<T>, GetError>> {
        self.queue().loans()
    }
}
