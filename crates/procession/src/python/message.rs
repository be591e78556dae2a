//! The messages on the control queue between a Rust process and a Python process.
//!
//! Both sides encode them as dicts in the wire format. Arguments and results are nested messages, which only
//! code that knows their type decodes. The other side is in `called_by_rust.py` and `rust_popen.py` in
//! `procession/_core`.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::bytes::Bytes;
use crate::error::Panic;

/// The request to a Python process.
#[derive(Debug, Serialize)]
pub(super) struct PythonRequest<'a> {
    /// The name of the process.
    pub(super) name: &'a str,
    pub(super) module: &'a str,
    pub(super) function: &'a str,
    pub(super) args: Bytes,
}

/// The request to a Rust process.
#[derive(Debug, Deserialize)]
pub(super) struct RustRequest {
    pub(super) name: String,
    pub(super) function: String,
    pub(super) args: Bytes,
}

/// The response to a request.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Response {
    Returned(Bytes),
    Raised(Exception),
    Panicked(Panic),
    /// The function could not be called.
    Refused(String),
}

/// An exception raised by a Python process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Exception {
    /// The name of its class, with the module unless it is built in: `ValueError`,
    /// `json.decoder.JSONDecodeError`.
    pub kind: String,
    /// Its message.
    pub message: String,
    /// The traceback, as Python prints it.
    pub traceback: String,
}

impl fmt::Display for Exception {
    /// The alternate form, `{:#}`, includes the traceback.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.kind)?;
        if !self.message.is_empty() {
            write!(f, ": {}", self.message)?;
        }
        match f.alternate() {
            true => write!(f, "\n{}", self.traceback.trim_end()),
            false => Ok(()),
        }
    }
}

impl std::error::Error for Exception {}
