//! The counts of a run.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use crate::outcome::{Kind, Outcome};

/// The counts of a run. An interrupted run has fewer outcomes than addresses.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Summary {
    pub wanted: usize,
    pub done: usize,
    pub kinds: BTreeMap<Kind, usize>,
    pub retries: u32,
    pub bytes: u64,
    pub seconds: f64,
    /// How many fetch: no more than there are addresses worth a request.
    pub processes: usize,
    #[serde(skip)]
    pub asked: usize,
    pub interrupted: bool,
}

impl Summary {
    /// Creates an empty summary.
    pub fn new(wanted: usize, processes: usize) -> Self {
        Self {
            wanted,
            processes,
            ..Self::default()
        }
    }

    /// Counts one more outcome.
    pub fn add(&mut self, outcome: &Outcome) {
        self.done += 1;
        self.asked += usize::from(outcome.was_asked_for());
        *self.kinds.entry(outcome.kind).or_default() += 1;
        self.bytes += outcome.size;
        self.retries += outcome.attempts.saturating_sub(1);
    }

    /// Returns how many addresses were not fetched.
    pub fn failed(&self) -> usize {
        self.done - self.kinds.get(&Kind::Ok).unwrap_or(&0)
    }

    /// Addresses asked for a second.
    fn rate(&self) -> f64 {
        if self.seconds > 0.0 {
            self.asked as f64 / self.seconds
        } else {
            0.0
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts: Vec<String> = self
            .kinds
            .iter()
            .map(|(kind, count)| format!("{count} {kind}"))
            .collect();
        let counts = if counts.is_empty() {
            "none".into()
        } else {
            counts.join(", ")
        };
        write!(f, "{} of {} addresses: {counts}", self.done, self.wanted)?;
        if self.asked > 0 {
            write!(
                f,
                "\n{} bytes in {:.2} s with {} process{}: {:.1} addresses/s",
                with_commas(self.bytes),
                self.seconds,
                self.processes,
                if self.processes > 1 { "es" } else { "" },
                self.rate(),
            )?;
        }
        if self.retries > 0 {
            write!(f, "\nrepeated requests: {}", self.retries)?;
        }
        if self.interrupted {
            write!(
                f,
                "\ninterrupted: {} addresses have no outcome",
                self.wanted - self.done
            )?;
        }
        Ok(())
    }
}

fn with_commas(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> = digits
        .as_bytes()
        .rchunks(3)
        .rev()
        .map(|group| std::str::from_utf8(group).expect("digits are ASCII"))
        .collect();
    groups.join(",")
}
