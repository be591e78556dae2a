//! A web scraper on a pool of processes: `cargo run --example scrape -- --help`.
//!
//! A page that fails, hangs or kills its worker costs one line of the report and nothing else.

mod addresses;
mod compare;
mod events;
mod fetch;
mod gather;
mod options;
mod outcome;
mod progress;
mod report;
mod run;
mod site;
mod summary;

use std::error::Error;
use std::io::{self, ErrorKind};
use std::process::ExitCode;

use clap::Parser;

use crate::compare::compare;
use crate::fetch::RetryPolicy;
use crate::options::Options;
use crate::run::{EventChannel, run};

const SOME_FAILED: u8 = 1;
const BAD_USAGE: u8 = 2;
const INTERRUPTED: u8 = 130;
const READER_GONE: u8 = 141;

const DEFAULT_POLICY: RetryPolicy = RetryPolicy {
    timeout: 10.0,
    retries: 2,
};

fn main() -> ExitCode {
    events::block_interrupts().expect("SIGINT can be blocked");
    procession::init();
    match scrape(&Options::parse()) {
        Ok(status) => status,
        Err(error) if is_broken_pipe(&*error) => ExitCode::from(READER_GONE),
        Err(error) => {
            eprintln!("scrape: {error}");
            ExitCode::from(BAD_USAGE)
        }
    }
}

fn scrape(options: &Options) -> Result<ExitCode, Box<dyn Error>> {
    let addresses = options.addresses()?;
    let mut report = report::open(options.format, options.output.as_deref())?;
    let (sender, receiver) = events::open();
    let channel = EventChannel { sender, receiver };
    let (summary, succeeded, interrupted) = match addresses {
        None => {
            let compared = compare(report.as_mut(), options, &channel)?;
            let succeeded = compared.is_as_expected();
            (compared.summary, succeeded, compared.interrupted)
        }
        Some(addresses) => {
            let policy = options.policy(DEFAULT_POLICY);
            let summary = run(
                &addresses,
                Some(report.as_mut()),
                policy,
                options.processes,
                &channel,
            )?;
            eprintln!("{summary}");
            let (succeeded, interrupted) = (summary.failed() == 0, summary.interrupted);
            (summary, succeeded, interrupted)
        }
    };
    report.close(&summary)?;
    Ok(match (interrupted, succeeded) {
        (true, _) => ExitCode::from(INTERRUPTED),
        (false, true) => ExitCode::SUCCESS,
        (false, false) => ExitCode::from(SOME_FAILED),
    })
}

fn is_broken_pipe(error: &(dyn Error + 'static)) -> bool {
    error
        .downcast_ref::<io::Error>()
        .is_some_and(|error| error.kind() == ErrorKind::BrokenPipe)
}
