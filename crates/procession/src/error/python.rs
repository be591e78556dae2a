//! The errors of Python processes.

use std::fmt;

use serde::{Deserialize, Serialize};

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
