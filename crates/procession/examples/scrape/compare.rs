//! The run without addresses: scrapes a local site with all processes, then with one.

use std::error::Error;

use crate::fetch::RetryPolicy;
use crate::options::Options;
use crate::report::Report;
use crate::run::{EventChannel, run};
use crate::site;
use crate::summary::Summary;

/// Short enough that the page that hangs does not decide the comparison.
const POLICY: RetryPolicy = RetryPolicy {
    timeout: 1.0,
    retries: 1,
};

/// The result of the comparison: the first run, and whether Ctrl-C ended either run.
#[derive(Debug)]
pub struct Comparison {
    pub summary: Summary,
    pub interrupted: bool,
}

impl Comparison {
    /// Whether the first run got the expected outcome for each page.
    pub fn is_as_expected(&self) -> bool {
        self.summary.kinds == site::expected()
    }
}

/// Scrapes the local site twice and prints the speedup.
pub fn compare(
    report: &mut dyn Report,
    options: &Options,
    events: &EventChannel,
) -> Result<Comparison, Box<dyn Error>> {
    let policy = options.policy(POLICY);
    let site = site::start()?;
    let addresses = site::addresses_of(site.port);
    eprintln!(
        "No address given: scraping a local site of {} pages.",
        addresses.len()
    );
    let many = run(&addresses, Some(report), policy, options.processes, events)?;
    eprintln!("\n{many}");
    if many.interrupted || options.processes == 1 {
        let interrupted = many.interrupted;
        return Ok(Comparison {
            summary: many,
            interrupted,
        });
    }
    eprintln!("\nThe same with 1 process:");
    let one = run(&addresses, None, policy, 1, events)?;
    eprintln!("{one}");
    if !one.interrupted {
        let times = one.seconds / many.seconds;
        eprintln!(
            "\n{} processes were {times:.1} times as fast as 1.",
            many.processes
        );
    }
    Ok(Comparison {
        summary: many,
        interrupted: one.interrupted,
    })
}
