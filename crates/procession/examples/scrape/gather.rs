//! Fetches many addresses with a pool, and reports outcomes as they arrive.

use std::sync::mpsc::Sender;

use procession::{Pool, TaskError};

use crate::addresses::rejection;
use crate::events::Event;
use crate::fetch::{RetryPolicy, fetch};
use crate::outcome::{Kind, Outcome};

/// Reports one outcome per address, whatever happens to it, in the order of completion.
pub fn gather(
    addresses: Vec<String>,
    policy: RetryPolicy,
    processes: usize,
    sender: &Sender<Event>,
) -> procession::Result<()> {
    let mut worth_asking = Vec::new();
    for address in addresses {
        match rejection(&address) {
            Some(trouble) => send(sender, Outcome::failed(address, Kind::Malformed, trouble)),
            None => worth_asking.push(address),
        }
    }
    if worth_asking.is_empty() {
        return Ok(());
    }
    fetch_all(&worth_asking, policy, processes, sender)
}

fn fetch_all(
    addresses: &[String],
    policy: RetryPolicy,
    processes: usize,
    sender: &Sender<Event>,
) -> procession::Result<()> {
    let pool = Pool::new(processes)?;
    let calls = addresses.iter().map(|address| (address.clone(), policy));
    for (index, result) in pool.imap_unordered(fetch, calls)? {
        let outcome = match result {
            Ok(outcome) => outcome,
            Err(TaskError::WorkerDied { how, .. }) => {
                Outcome::failed(&addresses[index], Kind::WorkerDied, how)
            }
            Err(TaskError::Panicked(panic)) => {
                Outcome::failed(&addresses[index], Kind::Broken, panic.to_string())
            }
            Err(no_pool) => return Err(no_pool.into()),
        };
        send(sender, outcome);
    }
    Ok(())
}

/// The receiver is gone once the run was interrupted.
fn send(sender: &Sender<Event>, outcome: Outcome) {
    let _ = sender.send(Event::Outcome(outcome));
}
