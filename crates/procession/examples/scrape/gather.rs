//! Many addresses over a pool of processes, the outcomes as they come.

use std::sync::mpsc::Sender;

use procession::{Pool, TaskError};

use crate::addresses::complaint;
use crate::fetch::{Patience, fetch};
use crate::news::News;
use crate::outcome::{Kind, Outcome};

/// Tell one outcome for each address, whatever happens to it, first come first.
pub fn gather(
    addresses: Vec<String>,
    patience: Patience,
    processes: usize,
    teller: &Sender<News>,
) -> procession::Result<()> {
    let mut worth_asking = Vec::new();
    for address in addresses {
        match complaint(&address) {
            Some(trouble) => tell(teller, Outcome::failed(address, Kind::Malformed, trouble)),
            None => worth_asking.push(address),
        }
    }
    if worth_asking.is_empty() {
        return Ok(());
    }
    fetch_all(&worth_asking, patience, processes, teller)
}

fn fetch_all(
    addresses: &[String],
    patience: Patience,
    processes: usize,
    teller: &Sender<News>,
) -> procession::Result<()> {
    let pool = Pool::new(processes)?;
    let calls = addresses.iter().map(|address| (address.clone(), patience));
    for (place, result) in pool.imap_unordered(fetch, calls)? {
        let outcome = match result {
            Ok(outcome) => outcome,
            Err(TaskError::WorkerDied { how, .. }) => {
                Outcome::failed(&addresses[place], Kind::WorkerDied, how)
            }
            Err(TaskError::Panicked(panic)) => {
                Outcome::failed(&addresses[place], Kind::Broken, panic.to_string())
            }
            Err(no_pool) => return Err(no_pool.into()),
        };
        tell(teller, outcome);
    }
    Ok(())
}

/// Nobody listens any more once the run was interrupted.
fn tell(teller: &Sender<News>, outcome: Outcome) {
    let _ = teller.send(News::Outcome(outcome));
}
