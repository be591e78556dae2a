//! Loans, put and received as futures; what holds for other messages holds for them.

use bytemuck::Pod;

use super::{Loan, Received};
use crate::channel::futures::{get, put};
use crate::error::{GetError, PutError};
use crate::{Connection, Queue, Receiver, Sender};

impl<T: Pod> Queue<Loan<T>> {
    /// As [`put_loan`](Queue::put_loan), as a future. Dropped before it resolves, it has put nothing.
    ///
    /// # Errors
    /// As for [`put_loan`](Queue::put_loan).
    pub async fn put_loan_async(&self, loan: Loan<T>) -> Result<(), PutError<Loan<T>>> {
        put(self.engine(), loan, |loan| self.try_put_loan(loan)).await
    }

    /// As [`get_loan`](Queue::get_loan), as a future. Dropped before it resolves, it has received nothing.
    ///
    /// # Errors
    /// As for [`get_loan`](Queue::get_loan).
    pub async fn get_loan_async(&self) -> Result<Received<T>, GetError> {
        get(self.engine(), || self.try_get_loan()).await
    }
}

impl<T: Pod, R> Connection<Loan<T>, R> {
    /// As [`send_loan`](Connection::send_loan), as a future. Dropped before it resolves, it has sent nothing.
    ///
    /// # Errors
    /// As for [`send_loan`](Connection::send_loan).
    pub async fn send_loan_async(&self, loan: Loan<T>) -> Result<(), PutError<Loan<T>>> {
        put(self.engine(), loan, |loan| self.try_send_loan(loan)).await
    }
}

impl<S, T: Pod> Connection<S, Loan<T>> {
    /// As [`recv_loan`](Connection::recv_loan), as a future. Dropped before it resolves, it has received nothing.
    ///
    /// # Errors
    /// As for [`recv_loan`](Connection::recv_loan).
    pub async fn recv_loan_async(&self) -> Result<Received<T>, GetError> {
        get(self.engine(), || self.try_recv_loan()).await
    }
}

impl<T: Pod> Sender<Loan<T>> {
    /// See [`Connection::send_loan_async`].
    ///
    /// # Errors
    /// As for [`Connection::send_loan`].
    pub async fn send_loan_async(&self, loan: Loan<T>) -> Result<(), PutError<Loan<T>>> {
        self.connection().send_loan_async(loan).await
    }
}

impl<T: Pod> Receiver<Loan<T>> {
    /// See [`Connection::recv_loan_async`].
    ///
    /// # Errors
    /// As for [`Connection::recv_loan`].
    pub async fn recv_loan_async(&self) -> Result<Received<T>, GetError> {
        self.connection().recv_loan_async().await
    }
}
