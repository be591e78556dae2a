//! Pipes of loans.

use std::time::Duration;

use bytemuck::Pod;
use procession_engine::Deadline;

use super::{Loan, Received, receive, send};
use crate::channel::pipe::{Connection, Receiver, Sender};
use crate::error::{Error, GetError, PutError, within};

/// For messages that are written, and read, where they lie: see [`Loan`].
impl<T: Pod, R> Connection<Loan<T>, R> {
    /// Room for a message of `len` items, to be filled and [sent](Connection::send_loan): a [`Loan::new`].
    ///
    /// # Errors
    /// When there is no shared memory left.
    pub fn loan(&self, len: usize) -> Result<Loan<T>, Error> {
        Loan::new(len)
    }

    /// Sends a loan, waiting while too much is under way. Nothing is copied.
    ///
    /// # Errors
    /// When nobody can receive it any more, or the loan was made by a process of which this one is a forked
    /// child; gives it back.
    pub fn send_loan(&self, loan: Loan<T>) -> Result<(), PutError<Loan<T>>> {
        self.send_loan_until(loan, Deadline::NEVER)
    }

    /// Sends a loan, waiting no longer than `timeout`.
    ///
    /// # Errors
    /// As for [`send_loan`](Connection::send_loan); and [`PutError::Full`] when the time was up.
    pub fn send_loan_timeout(
        &self,
        loan: Loan<T>,
        timeout: Duration,
    ) -> Result<(), PutError<Loan<T>>> {
        self.send_loan_until(loan, within(timeout))
    }

    /// Sends a loan if it has room.
    ///
    /// # Errors
    /// As for [`send_loan`](Connection::send_loan); and [`PutError::Full`] when it has not.
    pub fn try_send_loan(&self, loan: Loan<T>) -> Result<(), PutError<Loan<T>>> {
        self.send_loan_until(loan, Deadline::NOW)
    }

    fn send_loan_until(&self, loan: Loan<T>, deadline: Deadline) -> Result<(), PutError<Loan<T>>> {
        send(loan, |draft| self.engine().send_draft(draft, deadline))
    }
}

/// For messages that are written, and read, where they lie: see [`Loan`].
impl<S, T: Pod> Connection<S, Loan<T>> {
    /// Receives the next message, waiting for it. It stays where it is, and is this process's own until it is
    /// dropped.
    ///
    /// # Errors
    /// [`GetError::Closed`] when all was received and the other side is gone.
    pub fn recv_loan(&self) -> Result<Received<T>, GetError> {
        self.recv_loan_until(Deadline::NEVER)
    }

    /// Receives the next message, waiting for it no longer than `timeout`.
    ///
    /// # Errors
    /// As for [`recv_loan`](Connection::recv_loan); and [`GetError::Empty`] when none came in time.
    pub fn recv_loan_timeout(&self, timeout: Duration) -> Result<Received<T>, GetError> {
        self.recv_loan_until(within(timeout))
    }

    /// Receives the next message, if it is there.
    ///
    /// # Errors
    /// As for [`recv_loan`](Connection::recv_loan); and [`GetError::Empty`] when there is none.
    pub fn try_recv_loan(&self) -> Result<Received<T>, GetError> {
        self.recv_loan_until(Deadline::NOW)
    }

    /// The messages, as they come, until the other side is gone.
    pub fn loans(&self) -> impl Iterator<Item = Result<Received<T>, GetError>> {
        std::iter::from_fn(|| match self.recv_loan() {
            Err(GetError::Closed) => None,
            received => Some(received),
        })
    }

    fn recv_loan_until(&self, deadline: Deadline) -> Result<Received<T>, GetError> {
        receive(|message| self.engine().recv_into(message, deadline))
    }
}

/// For messages that are written, and read, where they lie: see [`Loan`].
impl<T: Pod> Sender<Loan<T>> {
    /// See [`Connection::loan`].
    ///
    /// # Errors
    /// As for [`Connection::loan`].
    pub fn loan(&self, len: usize) -> Result<Loan<T>, Error> {
        self.connection().loan(len)
    }

    /// See [`Connection::send_loan`].
    ///
    /// # Errors
    /// As for [`Connection::send_loan`].
    pub fn send_loan(&self, loan: Loan<T>) -> Result<(), PutError<Loan<T>>> {
        self.connection().send_loan(loan)
    }

    /// See [`Connection::send_loan_timeout`].
    ///
    /// # Errors
    /// As for [`Connection::send_loan_timeout`].
    pub fn send_loan_timeout(
        &self,
        loan: Loan<T>,
        timeout: Duration,
    ) -> Result<(), PutError<Loan<T>>> {
        self.connection().send_loan_timeout(loan, timeout)
    }

    /// See [`Connection::try_send_loan`].
    ///
    /// # Errors
    /// As for [`Connection::try_send_loan`].
    pub fn try_send_loan(&self, loan: Loan<T>) -> Result<(), PutError<Loan<T>>> {
        self.connection().try_send_loan(loan)
    }
}

/// For messages that are written, and read, where they lie: see [`Loan`].
impl<T: Pod> Receiver<Loan<T>> {
    /// See [`Connection::recv_loan`].
    ///
    /// # Errors
    /// As for [`Connection::recv_loan`].
    pub fn recv_loan(&self) -> Result<Received<T>, GetError> {
        self.connection().recv_loan()
    }

    /// See [`Connection::recv_loan_timeout`].
    ///
    /// # Errors
    /// As for [`Connection::recv_loan_timeout`].
    pub fn recv_loan_timeout(&self, timeout: Duration) -> Result<Received<T>, GetError> {
        self.connection().recv_loan_timeout(timeout)
    }

    /// See [`Connection::try_recv_loan`].
    ///
    /// # Errors
    /// As for [`Connection::try_recv_loan`].
    pub fn try_recv_loan(&self) -> Result<Received<T>, GetError> {
        self.connection().try_recv_loan()
    }

    /// See [`Connection::loans`].
    pub fn loans(&self) -> impl Iterator<Item = Result<Received<T>, GetError>> {
        self.connection().loans()
    }
}
