//! The options of the command line.

use std::fs;
use std::io::{self, Read};
use std::path::PathBuf;

use clap::Parser;

use crate::addresses::{parse_list, without_repeats};
use crate::fetch::RetryPolicy;
use crate::report::Format;

/// A process tree has room for some four thousand.
const MOST_PROCESSES: usize = 1000;

/// Fetch addresses over a pool of processes and tell what became of each.
#[derive(Debug, Parser)]
#[command(
    name = "scrape",
    after_help = "The outcomes go to standard output or to --output; the progress bar and the summary to \
                  standard error.\nWithout addresses a local site is scraped, once with all processes and once \
                  with one, to tell what they gain.\nExit status: 0 all fetched, 1 some not, 2 bad usage, \
                  130 interrupted."
)]
pub struct Options {
    /// Starts with http:// or https://; repeats count once
    #[arg(value_name = "ADDRESS")]
    addresses: Vec<String>,

    /// More addresses, one a line, # for comments; - is standard input
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,

    /// For one answer (default 10)
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    timeout: Option<f64>,

    /// Of what may pass (default 2)
    #[arg(long, value_name = "N")]
    retries: Option<u32>,

    /// How many processes fetch, at most 1000
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = processes)]
    pub processes: usize,

    /// How the outcomes are written
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,

    /// Default: standard output
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

impl Options {
    /// Returns `defaults` with the options that were given.
    pub fn policy(&self, defaults: RetryPolicy) -> RetryPolicy {
        RetryPolicy {
            timeout: self.timeout.unwrap_or(defaults.timeout),
            retries: self.retries.unwrap_or(defaults.retries),
        }
    }

    /// Returns the given addresses, or `None` if there are none.
    pub fn addresses(&self) -> io::Result<Option<Vec<String>>> {
        let mut addresses = self.addresses.clone();
        match &self.file {
            Some(file) => addresses.extend(parse_list(&read(file)?)),
            None if addresses.is_empty() => return Ok(None),
            None => {}
        }
        Ok(Some(without_repeats(addresses)))
    }
}

fn read(file: &PathBuf) -> io::Result<String> {
    let mut text = String::new();
    let read = if file.as_os_str() == "-" {
        io::stdin().read_to_string(&mut text).map(|_| text)
    } else {
        fs::read_to_string(file)
    };
    read.map_err(|error| {
        io::Error::new(error.kind(), format!("--file {}: {error}", file.display()))
    })
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if seconds > 0.0 && seconds <= 3600.0 => Ok(seconds),
        _ => Err("must be a number, more than 0 and at most 3600".into()),
    }
}

fn processes(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count) if (1..=MOST_PROCESSES).contains(&count) => Ok(count),
        _ => Err(format!("must be a number from 1 to {MOST_PROCESSES}")),
    }
}
