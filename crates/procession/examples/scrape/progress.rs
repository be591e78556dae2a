//! A progress bar on a terminal, and nothing in a file or pipe.

use std::io::{self, IsTerminal, Write};

use crate::summary::Summary;

const BAR_WIDTH: usize = 30;
const CLEAR_LINE: &str = "\r\x1b[K";

/// A line at the bottom of the terminal. Call `clear` before other output and `draw` after it.
#[derive(Debug)]
pub struct Progress {
    wanted: bool,
    shown: bool,
}

impl Progress {
    /// Creates a bar on standard error, if that is a terminal.
    pub fn new() -> Self {
        Self {
            wanted: io::stderr().is_terminal(),
            shown: false,
        }
    }

    /// Shows the progress.
    pub fn draw(&mut self, summary: &Summary) {
        if self.wanted {
            write_bar(&format!("{CLEAR_LINE}{}", bar(summary)));
            self.shown = true;
        }
    }

    /// Removes the bar.
    pub fn clear(&mut self) {
        if self.shown {
            write_bar(CLEAR_LINE);
            self.shown = false;
        }
    }
}

/// If the terminal is gone, scraping continues.
fn write_bar(text: &str) {
    let mut out = io::stderr();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

fn bar(summary: &Summary) -> String {
    let filled = BAR_WIDTH * summary.done / summary.wanted.max(1);
    let failed = match summary.failed() {
        0 => String::new(),
        failed => format!(", {failed} failed"),
    };
    format!(
        "[{}{}] {}/{}{failed}",
        "#".repeat(filled),
        "-".repeat(BAR_WIDTH - filled),
        summary.done,
        summary.wanted,
    )
}
