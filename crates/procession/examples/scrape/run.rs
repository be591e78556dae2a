//! One run over a list of addresses: the outcomes go to a report, a bar and a summary.

use std::error::Error;
use std::panic::{catch_unwind, resume_unwind};
use std::thread;
use std::time::Instant;

use crate::addresses::complaint;
use crate::events::{Event, Events};
use crate::fetch::RetryPolicy;
use crate::gather::gather;
use crate::progress::Progress;
use crate::report::Report;
use crate::summary::Summary;

/// Scrape all addresses; Ctrl-C ends it early with what there is by then.
pub fn run(
    addresses: &[String],
    mut report: Option<&mut dyn Report>,
    policy: RetryPolicy,
    processes: usize,
    events: &Events,
) -> Result<Summary, Box<dyn Error>> {
    let asks = |address: &&String| complaint(address).is_none();
    let processes = processes.min(addresses.iter().filter(asks).count());
    let mut summary = Summary::new(addresses.len(), processes);
    let mut progress = Progress::new();
    let started = Instant::now();
    let (wanted, sender) = (addresses.to_vec(), events.sender.clone());
    thread::spawn(move || {
        let over = catch_unwind(|| gather(wanted, policy, processes, &sender));
        // Nobody listens any more once the run was interrupted.
        let _ = sender.send(Event::Over(over));
    });
    progress.draw(&summary);
    loop {
        match events.receiver.recv()? {
            Event::Outcome(outcome) => {
                summary.add(&outcome);
                progress.clear();
                if let Some(report) = report.as_deref_mut() {
                    report.add(&outcome.without_passwords())?;
                }
                progress.draw(&summary);
            }
            Event::Over(result) => {
                progress.clear();
                result.unwrap_or_else(|panic| resume_unwind(panic))?;
                break;
            }
            Event::Interrupted => {
                progress.clear();
                summary.interrupted = true;
                break;
            }
        }
    }
    summary.seconds = started.elapsed().as_secs_f64();
    Ok(summary)
}
