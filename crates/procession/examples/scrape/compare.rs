//! The run without addresses: a local site, scraped by all processes and then by one.

use std::error::Error;

use crate::fetch::Patience;
use crate::options::Options;
use crate::report::Report;
use crate::run::{Line, run};
use crate::site;
use crate::summary::Summary;

/// Short enough that the page that hangs doesn't decide the comparison.
const PATIENCE: Patience = Patience {
    timeout: 1.0,
    retries: 1,
};

/// What came of the comparison: the first run, and whether Ctrl-C ended either.
#[derive(Debug)]
pub struct Comparison {
    pub summary: Summary,
    pub interrupted: bool,
}

impl Comparison {
    /// Whether the first run made of each page what the site had in store.
    pub fn is_as_expected(&self) -> bool {
        self.summary.kinds == site::expected()
    }
}

/// Scrape the local site twice and tell how much faster the first run was.
pub fn compare(
    report: &mut dyn Report,
    options: &Options,
    line: &Line,
) -> Result<Comparison, Box<dyn Error>> {
    let patience = options.patience(PATIENCE);
    let site = site::start()?;
    let addresses = site::addresses_of(site.port);
    eprintln!(
        "No address given: scraping a local site of {} pages.",
        addresses.len()
    );
    let many = run(&addresses, Some(report), patience, options.processes, line)?;
    eprintln!("\n{many}");
    if many.interrupted || options.processes == 1 {
        let interrupted = many.interrupted;
        return Ok(Comparison {
            summary: many,
            interrupted,
        });
    }
    eprintln!("\nThe same with 1 process:");
    let one = run(&addresses, None, patience, 1, line)?;
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
