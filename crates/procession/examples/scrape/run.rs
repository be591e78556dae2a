//! One run over a list of addresses: the outcomes go to a report, a bar and a summary.

use std::error::Error;
use std::panic::{catch_unwind, resume_unwind};
use std::sync::mpsc::{Receiver, Sender};
use std::thread;
use std::time::Instant;

use crate::addresses::complaint;
use crate::fetch::Patience;
use crate::gather::gather;
use crate::news::News;
use crate::progress::Progress;
use crate::report::Report;
use crate::summary::Summary;

/// The line on which a run hears what happens; it serves one run after the other.
#[derive(Debug)]
pub struct Line {
    pub teller: Sender<News>,
    pub heard: Receiver<News>,
}

/// Scrape all addresses; Ctrl-C ends it early with what there is by then.
pub fn run(
    addresses: &[String],
    mut report: Option<&mut dyn Report>,
    patience: Patience,
    processes: usize,
    line: &Line,
) -> Result<Summary, Box<dyn Error>> {
    let asks = |address: &&String| complaint(address).is_none();
    let processes = processes.min(addresses.iter().filter(asks).count());
    let mut summary = Summary::new(addresses.len(), processes);
    let mut progress = Progress::new();
    let started = Instant::now();
    let (wanted, teller) = (addresses.to_vec(), line.teller.clone());
    thread::spawn(move || {
        let over = catch_unwind(|| gather(wanted, patience, processes, &teller));
        // Nobody listens any more once the run was interrupted.
        let _ = teller.send(News::Over(over));
    });
    progress.draw(&summary);
    loop {
        match line.heard.recv()? {
            News::Outcome(outcome) => {
                summary.add(&outcome);
                progress.clear();
                if let Some(report) = report.as_deref_mut() {
                    report.add(&outcome.without_passwords())?;
                }
                progress.draw(&summary);
            }
            News::Over(result) => {
                progress.clear();
                result.unwrap_or_else(|panic| resume_unwind(panic))?;
                break;
            }
            News::Interrupted => {
                progress.clear();
                summary.interrupted = true;
                break;
            }
        }
    }
    summary.seconds = started.elapsed().as_secs_f64();
    Ok(summary)
}
