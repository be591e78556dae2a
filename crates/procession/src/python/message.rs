//! What goes over the line between a Rust process and a Python process.
//!
//! Both sides write it in the wire format, as dicts. Arguments and results are messages of their own inside,
//! so that only who knows their type reads them. The other side is `called.py` and
//! `popen.py` in `procession/_core/rust`.

use serde::{Deserialize, Serialize};

use super::bytes::Bytes;
use super::error::Exception;
use crate::error::Panic;

/// What a Python process is to call.
#[derive(Debug, Serialize)]
pub(super) struct PythonOrder<'a> {
    /// What the process is called.
    pub(super) name: &'a str,
    pub(super) module: &'a str,
    pub(super) function: &'a str,
    pub(super) args: Bytes,
}

/// What a Rust process is to call.
#[derive(Debug, Deserialize)]
pub(super) struct RustOrder {
    pub(super) name: String,
    pub(super) function: String,
    pub(super) args: Bytes,
}

/// What came of it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Answer {
    Returned(Bytes),
    Raised(Exception),
    Panicked(Panic),
    /// It could not be called.
    Refused(String),
}
