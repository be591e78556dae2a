//! The outcome of one address.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::addresses::{hide_password, hide_passwords_in};

/// The kinds of outcome, in the order of the summary.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub enum Kind {
    #[serde(rename = "ok")]
    Ok,
    #[serde(rename = "not found")]
    NotFound,
    #[serde(rename = "bad status")]
    BadStatus,
    #[serde(rename = "malformed")]
    Malformed,
    #[serde(rename = "refused")]
    Refused,
    #[serde(rename = "unreachable")]
    Unreachable,
    #[serde(rename = "timed out")]
    TimedOut,
    #[serde(rename = "broken")]
    Broken,
    #[serde(rename = "worker died")]
    WorkerDied,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Ok => "ok",
            Kind::NotFound => "not found",
            Kind::BadStatus => "bad status",
            Kind::Malformed => "malformed",
            Kind::Refused => "refused",
            Kind::Unreachable => "unreachable",
            Kind::TimedOut => "timed out",
            Kind::Broken => "broken",
            Kind::WorkerDied => "worker died",
        })
    }
}

/// The outcome of one address. `status` is `None` when there was no response.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Outcome {
    pub address: String,
    pub kind: Kind,
    pub status: Option<u16>,
    pub detail: String,
    pub size: u64,
    pub attempts: u32,
    pub seconds: f64,
}

impl Outcome {
    /// Creates the outcome of an address without a response.
    pub fn failed(address: impl Into<String>, kind: Kind, detail: impl Into<String>) -> Self {
        Self {
            address: address.into(),
            kind,
            status: None,
            detail: detail.into(),
            size: 0,
            attempts: 0,
            seconds: 0.0,
        }
    }

    /// Whether a request was made, or tried.
    pub fn was_asked_for(&self) -> bool {
        self.kind != Kind::Malformed || self.attempts > 0
    }

    /// The outcome as others may see it.
    pub fn without_passwords(self) -> Self {
        Self {
            address: hide_password(&self.address),
            detail: hide_passwords_in(&self.detail),
            ..self
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.status {
            Some(status) => write!(f, "URL: {}, Status Code: {status}", self.address)?,
            None => write!(f, "URL: {}, Failed: {}", self.address, self.kind)?,
        }
        match (self.detail.as_str(), self.attempts) {
            ("", ..=1) => Ok(()),
            (detail, ..=1) => write!(f, " ({detail})"),
            ("", attempts) => write!(f, " ({attempts} attempts)"),
            (detail, attempts) => write!(f, " ({detail}; {attempts} attempts)"),
        }
    }
}
