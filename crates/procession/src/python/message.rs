//! What goes over the line between a Rust process and a Python process.
//!
//! Both sides write it in the wire format, as dicts. Arguments and results are messages of their own inside,
//! so that only who knows their type reads them. The other side is `called_by_rust.py` and
//! `rust_popen.py` in `procession/_core`.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::bytes::Bytes;
use crate::error::Panic;

/// What a Python process is to call.
#[derive(Debug, Serialize)]
pub(super) struct PythonRequest<'a> {
    /// What the process is called.
    pub(super) name: &'a str,
    pub(super) module: &'a str,
    pub(super) function: &'a str,
    pub(super) args: Bytes,
}

/// What a Rust process is to call.
#[derive(Debug, Deserialize)]
pub(super) struct RustRequest {
    pub(super) name: String,
    pub(super) function: String,
    pub(super) args: Bytes,
}

/// What came of it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Response {
    Returned(Bytes),
    Raised(Exception),
    Panicked(Panic),
    /// It could not be called.
    Refused(String),
}

/// An exception that a Python process raised.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Exception {
    /// The name of its class, with its module unless it is a built-in one: `ValueError`,
    /// `json.decoder.JSONDecodeError`.
    pub kind: String,
    /// What it said.
    pub message: String,
    /// The traceback, as Python prints it.
    pub traceback: String,
}

impl fmt::Display for Exception {
    /// The alternate form, `{:#}`, shows the traceback too.
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
