//! Pipes of loans.

use std::time::Duration;

use procession_engine::{Deadline, InPlace};

use super::{Loan, Received, receive, send};
use crate::channel::pipe::{Connection, Receiver, Sender};
use crate::error::{Error, GetError, PutError, within};

/// Messages written and read in place: see [`Loan`].
impl<T: InPlace, R> Connection<Loan<T>, R> {
    /// Allocates a message of `len` items, to fill and [send](Connection::send_loan). The same as
    /// [`Loan::new`].
    ///
    /// # Errors
    /// Returns an error when there is no shared memory left.
    pub fn loan(&self, len: usize) -> Result<Loan<T>, Error> {
        Loan::new(len)
    }

    /// Sends a loan without a copy, waiting while too many bytes are in transit.
    ///
    /// # Errors
    /// Returns an error when no process can receive it, or when the loan belongs to the process of which
    /// this one is a forked child. The error returns the loan.
    pub fn send_loan(&self, loan: Loan<T>) -> Result<(), PutError<Loan<T>>> {
        self.send_loan_until(loan, Deadline::NEVER)
    }

    /// Sends a loan, waiting for at most `timeout`.
    ///
    /// # Errors
    /// The same as for [`send_loan`](Connection::send_loan), and [`PutError::Full`] when the time is up.
    pub fn send_loan_timeout(
        &self,
        loan: Loan<T>,
        timeout: Duration,
    ) -> Result<(), PutError<Loan<T>>> {
        self.send_loan_until(loan, within(timeout))
    }

    /// Sends a loan if there is room.
    ///
    /// # Errors
    /// The same as for [`send_loan`](Connection::send_loan), and [`PutError::Full`] when there is none.
    pub fn try_send_loan(&self, loan: Loan<T>) -> Result<(), PutError<Loan<T>>> {
        self.send_loan_until(loan, Deadline::NOW)
    }

    fn send_loan_until(&self, loan: Loan<T>, deadline: Deadline) -> Result<(), PutError<Loan<T>>> {
        send(loan, |buf| self.engine().send_buf(buf, deadline))
    }
}

/// Messages written and read in place: see [`Loan`].
impl<S, T: InPlace> Connection<S, Loan<T>> {
    /// Receives the next message, waiting for it. The message stays in place, and belongs to this process
    /// until it is dropped.
    ///
    /// # Errors
    /// Returns [`GetError::Closed`] when everything was received and the other side is gone.
    pub fn recv_loan(&self) -> Result<Received<T>, GetError> {
        self.recv_loan_until(Deadline::NEVER)
    }

    /// Receives the next message, waiting for at most `timeout`.
    ///
    /// # Errors
    /// The same as for [`recv_loan`](Connection::recv_loan), and [`GetError::Empty`] when none arrived in
    /// time.
    pub fn recv_loan_timeout(&self, timeout: Duration) -> Result<Received<T>, GetError> {
        self.recv_loan_until(within(timeout))
    }

    /// Receives the next message if there is one.
    ///
    /// # Errors
    /// The same as for [`recv_loan`](Connection::recv_loan), and [`GetError::Empty`] when there is none.
    pub fn try_recv_loan(&self) -> Result<Received<T>, GetError> {
        self.recv_loan_until(Deadline::NOW)
    }

    /// Returns an iterator over the messages, which ends when the other side is gone.
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

/// Messages written and read in place: see [`Loan`].
impl<T: InPlace> Sender<Loan<T>> {
    /// See [`Connection::loan`].
    ///
    /// # Errors
    /// The same as for [`Connection::loan`].
    pub fn loan(&self, len: usize) -> Result<Loan<T>, Error> {
        self.connection().loan(len)
    }

    /// See [`Connection::send_loan`].
    ///
    /// # Errors
    /// The same as for [`Connection::send_loan`].
    pub fn send_loan(&self, loan: Loan<T>) -> Result<(), PutError<Loan<T>>> {
        self.connection().send_loan(loan)
    }

    /// See [`Connection::send_loan_timeout`].
    ///
    /// # Errors
    /// The same as for [`Connection::send_loan_timeout`].
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
    /// The same as for [`Connection::try_send_loan`].
    pub fn try_send_loan(&self, loan: Loan<T>) -> Result<(), PutError<Loan<T>>> {
        self.connection().try_send_loan(loan)
    }
}

/// Messages written and read in place: see [`Loan`].
impl<T: InPlace> Receiver<Loan<T>> {
    /// See [`Connection::recv_loan`].
    ///
    /// # Errors
    /// The same as for [`Connection::recv_loan`].
    pub fn recv_loan(&self) -> Result<Received<T>, GetError> {
        self.connection().recv_loan()
    }

    /// See [`Connection::recv_loan_timeout`].
    ///
    /// # Errors
    /// The same as for [`Connection::recv_loan_timeout`].
    pub fn recv_loan_timeout(&self, timeout: Duration) -> Result<Received<T>, GetError> {
        self.connection().recv_loan_timeout(timeout)
    }

    /// See [`Connection::try_recv_loan`].
    ///
    /// # Errors
    /// The same as for [`Connection::try_recv_loan`].
    pub fn try_recv_loan(&self) -> Result<Received<T>, GetError> {
        self.connection().try_recv_loan()
    }

    /// See [`Connection::loans`].
    pub fn loans(&self) -> impl Iterator<Item = Result<Received<T>, GetError>> {
        self.connection().loans()
    }
}
