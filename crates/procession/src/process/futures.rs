//! Futures for the end of a process.

use std::future::{Future, IntoFuture};
use std::os::fd::AsFd;
use std::pin::Pin;
use std::sync::Arc;

use procession_engine as engine;
use serde::de::DeserializeOwned;

use super::handle::Process;
use crate::error::JoinError;
use crate::reactor::{Interest, ready};
use crate::transfer::codec::Codec;

impl<R: DeserializeOwned, C: Codec> Process<R, C> {
    /// Like [`join`](Process::join), as a future that borrows the process.
    ///
    /// A [piped](crate::Stdio::piped) standard input stays open, as with
    /// [`join_timeout`](Process::join_timeout). Awaiting the process itself closes it, as
    /// [`join`](Process::join) does.
    ///
    /// # Cancellation
    /// Dropping the future before it resolves changes nothing; the process can be joined again.
    ///
    /// # Errors
    /// The same as for [`join_timeout`](Process::join_timeout).
    ///
    /// # Examples
    /// ```
    /// use procession::Process;
    ///
    /// fn square(n: u64) -> u64 {
    ///     n * n
    /// }
    ///
    /// fn main() -> procession::Result<()> {
    ///     procession::init();
    ///     run()
    /// }
    ///
    /// #[tokio::main]
    /// async fn run() -> procession::Result<()> {
    ///     let mut process = Process::spawn(square, 12)?;
    ///     assert_eq!(process.join_async().await?, 144);
    ///     Ok(())
    /// }
    /// ```
    pub async fn join_async(&mut self) -> Result<R, JoinError> {
        loop {
            if let Some(result) = self.try_join()? {
                return Ok(result);
            }
            let pidfd = self.as_fd().try_clone_to_owned().map_err(no_descriptor)?;
            ready(Interest::Exit(Arc::new(pidfd), self.proc_id())).await?;
        }
    }
}

fn no_descriptor(source: std::io::Error) -> JoinError {
    let what = "duplicate the descriptor of a process";
    JoinError::from(engine::Error::Os { what, source })
}

impl<R: DeserializeOwned + 'static, C: Codec> IntoFuture for Process<R, C> {
    type Output = Result<R, JoinError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(mut self) -> Self::IntoFuture {
        // Close it as `join` does: the caller has given the process away.
        self.stdin = None;
        Box::pin(async move { self.join_async().await })
    }
}
