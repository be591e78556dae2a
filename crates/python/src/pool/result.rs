//! The result of a task, until a thread takes it out.

use procession_engine::pool::WorkerMessage;
use pyo3::prelude::*;

use super::errors;
use crate::wire;

/// The largest result, in bytes, that is stored inline.
const SMALL: usize = 54;
/// The smallest result, in bytes, that stays in shared memory until it is decoded.
const LARGE: usize = 16 * 1024;

/// The kind of a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ResultKind {
    /// An exception.
    Failed = 0,
    /// One value.
    One = 1,
    /// The list of the values of a chunk.
    Many = 2,
}

impl ResultKind {
    pub(super) fn from_byte(byte: u8) -> ResultKind {
        match byte {
            1 => ResultKind::One,
            2 => ResultKind::Many,
            _ => ResultKind::Failed,
        }
    }
}

/// The result of one task.
#[derive(Debug)]
pub(super) struct TaskResult {
    kind: ResultKind,
    content: Content,
}

#[derive(Debug)]
enum Content {
    Small(u8, [u8; SMALL]),
    Boxed(Box<[u8]>),
    Shared(WorkerMessage),
    Object(Py<PyAny>),
}

impl TaskResult {
    pub(super) fn from_reply(kind: ResultKind, reply: WorkerMessage) -> TaskResult {
        let bytes = reply.bytes();
        let content = match bytes.len() {
            _ if reply.holds_objects() => Content::Shared(reply),
            length @ ..=SMALL => {
                let mut small = [0; SMALL];
                small[..length].copy_from_slice(bytes);
                Content::Small(length as u8, small)
            }
            ..LARGE => Content::Boxed(bytes.into()),
            _ => Content::Shared(reply),
        };
        TaskResult { kind, content }
    }

    pub(super) fn kind(&self) -> ResultKind {
        self.kind
    }

    /// Returns its bytes; an object has none.
    ///
    /// Raises `RuntimeError` in a forked copy, for a result that its parent has in shared memory.
    pub(super) fn bytes(&self) -> PyResult<&[u8]> {
        self.content.bytes()
    }

    pub(super) fn from_object(kind: ResultKind, object: Py<PyAny>) -> TaskResult {
        let content = Content::Object(object);
        TaskResult { kind, content }
    }

    /// Decodes the value, or as `Err` the exception. Large arrays in it use the memory in which they arrived.
    ///
    /// In a forked copy, a result that its parent has in shared memory is a `RuntimeError`.
    pub(super) fn decode<'py>(
        self,
        py: Python<'py>,
    ) -> Result<Bound<'py, PyAny>, Bound<'py, PyAny>> {
        let failed = self.kind == ResultKind::Failed;
        let raised = |error: PyErr| error.into_value(py).into_bound(py).into_any();
        let value = match self.content {
            Content::Object(object) => {
                let object = object.into_bound(py);
                return if failed { Err(object) } else { Ok(object) };
            }
            Content::Shared(reply) if !failed => wire::receive(py, reply.into_message()),
            content => {
                let bytes = content.bytes().map_err(raised)?;
                if failed {
                    return Err(errors::rebuild(py, bytes));
                }
                wire::decode(py, bytes)
            }
        };
        value.map_err(raised)
    }
}

impl Content {
    fn bytes(&self) -> PyResult<&[u8]> {
        Ok(match self {
            Content::Small(length, bytes) => &bytes[..usize::from(*length)],
            Content::Boxed(bytes) => bytes,
            Content::Shared(reply) if !reply.is_mine() => return Err(wire::not_the_childs()),
            Content::Shared(reply) => reply.bytes(),
            Content::Object(_) => &[],
        })
    }
}
