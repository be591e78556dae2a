//! The messages on the control queue between a Rust process and a Python process.
//!
//! Both sides encode them as dicts in the wire format. Arguments and results are nested messages, which only
//! code that knows their type decodes. The other side is in `called.py` and `popen.py` in
//! `procession/_core/rust`.

use serde::{Deserialize, Serialize};

use super::bytes::Bytes;
use crate::error::{Exception, Panic};

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
