//! The errors of queues and pipes.

use std::fmt;

use super::Error;

/// Why a message was not put into a queue or sent through a pipe, or a task not submitted to a pool. Returns
/// the value.
///
/// # Examples
/// ```
/// use procession::{PutError, Queue};
///
/// # fn main() -> procession::Result<()> {
/// let queue = Queue::bounded(1)?;
/// queue.put("first".to_owned())?;
/// let refused = queue.try_put("second".to_owned()).unwrap_err();
/// assert!(matches!(refused, PutError::Full(_)));
/// assert_eq!(refused.into_inner(), "second");
/// # Ok(())
/// # }
/// ```
#[derive(thiserror::Error)]
pub enum PutError<T> {
    /// There was no room before the time was up.
    #[error("no room before the time was up")]
    Full(T),
    /// No process can receive it any more.
    #[error("closed: nobody can receive any more")]
    Closed(T),
    /// The value could not be serialised, or there is no memory for it.
    #[error("{1}")]
    Failed(T, #[source] Box<Error>),
}

impl<T> PutError<T> {
    /// Returns the value that was not put.
    pub fn into_inner(self) -> T {
        match self {
            PutError::Full(value) | PutError::Closed(value) | PutError::Failed(value, _) => value,
        }
    }
}

impl<T> fmt::Debug for PutError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PutError::Full(_) => f.write_str("Full(..)"),
            PutError::Closed(_) => f.write_str("Closed(..)"),
            PutError::Failed(_, error) => write!(f, "Failed(.., {error:?})"),
        }
    }
}

impl<T> From<PutError<T>> for Error {
    fn from(error: PutError<T>) -> Error {
        match error {
            PutError::Full(_) => Error::Full,
            PutError::Closed(_) => Error::Closed,
            PutError::Failed(_, error) => *error,
        }
    }
}

/// Why no message was received from a queue or pipe.
///
/// # Examples
/// ```
/// use procession::{GetError, Queue};
///
/// # fn main() -> procession::Result<()> {
/// let queue = Queue::<u32>::new()?;
/// assert!(matches!(queue.try_get(), Err(GetError::Empty)));
/// queue.close();
/// assert!(matches!(queue.try_get(), Err(GetError::Closed)));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, thiserror::Error)]
pub enum GetError {
    /// No message arrived before the time was up.
    #[error("nothing came before the time was up")]
    Empty,
    /// Everything was received, and no process can send any more.
    #[error("closed: everything was received and nobody can send any more")]
    Closed,
    /// The message could not be read, or does not decode as this type.
    #[error(transparent)]
    Failed(#[from] Error),
}

impl From<GetError> for Error {
    fn from(error: GetError) -> Error {
        match error {
            GetError::Failed(error) => error,
            other => Error::Get(Box::new(other)),
        }
    }
}
