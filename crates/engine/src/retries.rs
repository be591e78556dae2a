//! Loops that try again when another process was faster.
//!
//! Each round means that another process made progress, so there are never many of them, unless the memory contains an
//! impossible value because a process wrote where it should not. Then the loop has to end.

use crate::error::{Error, Result};

/// More rounds than any number of processes can cause.
const MOST: u32 = 100_000;

/// The rounds of one loop.
#[derive(Debug, Default)]
pub(crate) struct Retries(u32);

impl Retries {
    /// Counts a round.
    ///
    /// # Errors
    /// [`Error::Damaged`] when there were too many.
    #[inline]
    pub(crate) fn again(&mut self) -> Result<()> {
        self.0 += 1;
        match self.0 < MOST {
            true => Ok(()),
            false => Err(Error::Damaged),
        }
    }
}
