//! What Python raised.

use std::fmt;

use serde::{Deserialize, Serialize};

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
