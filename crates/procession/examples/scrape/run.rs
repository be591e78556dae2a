//! One run over a list of addresses, with a report, a progress bar and a summary.

use std::error::Error;
use std::panic::{catch_unwind, resume_unwind};
use std::sync::mpsc::{Receiver, Sender};
use std::thread;
use std::time::Instant;

use crate::addresses::rejection;
use crate::events::Event;
use crate::fetch::RetryPolicy;
use crate::gather::gather;
use crate::progress::Progress;
use crate::report::Report;
use crate::summary::Summary;

/// The event channel of a run. Runs use it one after the other.
#[derive(Debug)]
pub struct EventChannel {
    pub sender: Sender<Event>,
    pub receiver: Receiver<Event>,
}

/// Scrapes all addresses. Ctrl-C ends the run early with the outcomes so far.
pub fn run(
    addresses: &[String],
    mut report: Option<&mut dyn Report>,
    policy: RetryPolicy,
    processes: usize,
    events: &EventChannel,
) -> Result<Summary, Box<dyn Error>> {
    let can_be_requested = |address: &&String| rejection(address).is_none();
    let processes = processes.min(addresses.iter().filter(can_be_requested).count());
    let mut summary = Summary::new(addresses.len(), processes);
    let mut progress = Progress::new();
    let started = Instant::now();
    let (wanted, sender) = (addresses.to_vec(), events.sender.clone());
    thread::spawn(move || {
        let result = catch_unwind(|| gather(wanted, policy, processes, &sender));
        // The receiver is gone once the run was interrupted.
        let _ = sender.send(Event::Finished(result));
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
            Event::Finished(result) => {
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
