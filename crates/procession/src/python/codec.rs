//! The codec between Rust and Python.

use procession_engine::ObjectRef;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::builder::Interpreter;
use super::message::Response;
use super::wire;
use crate::error::{Error, JoinError};
use crate::transfer::codec::{Codec, sealed};

/// The codec between Rust and Python: [plain data](crate::python#what-travels) that both read and write.
///
/// Messages refer to no shared objects. Arguments of a process may.
#[derive(Debug)]
pub enum PythonCodec {}

impl Codec for PythonCodec {}

impl sealed::Codec for PythonCodec {
    type Settings = Interpreter;

    const QUEUE: &'static str = wire::QUEUE;

    fn with_message<T: Serialize, R>(
        message: &T,
        with: impl FnOnce(&[u8], &[ObjectRef]) -> R,
    ) -> Result<R, Error> {
        Ok(with(&wire::encode(message)?, &[]))
    }

    fn decode<T: DeserializeOwned>(message: &[u8]) -> Result<T, Error> {
        wire::decode(message)
    }

    fn result<R: DeserializeOwned>(pid: u32, message: &[u8]) -> Option<Result<R, JoinError>> {
        let undelivered = |reason| JoinError::Undelivered { pid, reason };
        Some(match wire::decode(message).ok()? {
            Response::Returned(result) => {
                wire::decode(&result).map_err(|error| undelivered(error.to_string()))
            }
            Response::Raised(exception) => Err(exception.into()),
            Response::Panicked(panic) => Err(panic.into()),
            Response::Refused(reason) => Err(undelivered(reason)),
        })
    }
}
