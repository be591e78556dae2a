//! Futures for loans. They behave as those for other messages.

use procession_engine::InPlace;

use super::{Loan, Received};
use crate::channel::futures::{get, put};
use crate::channel::pipe::{Connection, Receiver, Sender};
use crate::channel::queue::Queue;
use crate::error::{GetError, PutError};
use crate::transfer::codec::RustCodec;

impl<T: InPlace, K> Queue<Loan<T>, RustCodec, K> {
    /// Like [`put_loan`](Queue::put_loan), as a future.
    ///
    /// # Cancellation
    /// Dropping the future before it resolves puts nothing, and frees the loan.
    ///
    /// # Errors
    /// The same as for [`put_loan`](Queue::put_loan).
    pub async fn put_loan_async(&self, loan: Loan<T>) -> Result<(), PutError<Loan<T>>> {
        put(self.engine(), loan, |loan| self.try_put_loan(loan)).await
    }

    /// Like [`get_loan`](Queue::get_loan), as a future.
    ///
    /// # Cancellation
    /// Dropping the future before it resolves receives nothing: the message stays in the queue.
    ///
    /// # Errors
    /// The same as for [`get_loan`](Queue::get_loan).
    pub async fn get_loan_async(&self) -> Result<Received<T>, GetError> {
        get(self.engine(), || self.try_get_loan()).await
    }
}

impl<T: InPlace, R> Connection<Loan<T>, R> {
    /// Like [`send_loan`](Connection::send_loan), as a future.
    ///
    /// # Cancellation
    /// Dropping the future before it resolves sends nothing, and frees the loan.
    ///
    /// # Errors
    /// The same as for [`send_loan`](Connection::send_loan).
    pub async fn send_loan_async(&self, loan: Loan<T>) -> Result<(), PutError<Loan<T>>> {
        put(self.engine(), loan, |loan| self.try_send_loan(loan)).await
    }
}

impl<S, T: InPlace> Connection<S, Loan<T>> {
    /// Like [`recv_loan`](Connection::recv_loan), as a future.
    ///
    /// # Cancellation
    /// Dropping the future before it resolves receives nothing: the message stays in the pipe.
    ///
    /// # Errors
    /// The same as for [`recv_loan`](Connection::recv_loan).
    pub async fn recv_loan_async(&self) -> Result<Received<T>, GetError> {
        get(self.engine(), || self.try_recv_loan()).await
    }
}

impl<T: InPlace> Sender<Loan<T>> {
    /// See [`Connection::send_loan_async`].
    ///
    /// # Errors
    /// The same as for [`Connection::send_loan`].
    pub async fn send_loan_async(&self, loan: Loan<T>) -> Result<(), PutError<Loan<T>>> {
        self.connection().send_loan_async(loan).await
    }
}

impl<T: InPlace> Receiver<Loan<T>> {
    /// See [`Connection::recv_loan_async`].
    ///
    /// # Errors
    /// The same as for [`Connection::recv_loan`].
    pub async fn recv_loan_async(&self) -> Result<Received<T>, GetError> {
        self.connection().recv_loan_async().await
    }
}
