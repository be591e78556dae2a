//! The thread that passes results on and replaces workers.

use std::sync::Arc;
use std::time::Duration;

use procession_engine::Deadline;
use procession_engine::error::GetError;
use procession_engine::pool::{Event, Lost};
use procession_engine::process::OwnerId;

use super::Hall;
use super::worker::REFUSAL;
use crate::error::TaskError;

/// A worker that dies before it takes its seat is seen by looking; one that has it, by waiting.
const LOOK: Duration = Duration::from_millis(100);

pub(super) fn watch(hall: &Arc<Hall>) {
    let mut seats = hall.crew().seats();
    let mut starting = true;
    loop {
        let until = if starting {
            Deadline::after(LOOK)
        } else {
            Deadline::NEVER
        };
        match hall.board.next_event(until, &seats) {
            Ok(result @ Event::Result { .. }) => {
                hall.file(result);
                if hall.board.outstanding() > 0 {
                    // Nothing about the crew has changed.
                    continue;
                }
            }
            Ok(Event::Abandoned { job, index }) => {
                let reason = "the worker let go of it".to_owned();
                hall.deliver(job, index, Err(TaskError::Undelivered(reason)));
            }
            Ok(Event::Refused { job, index, error }) => {
                hall.deliver(job, index, Err(TaskError::Undelivered(error.to_string())));
            }
            Ok(Event::Notice { worker, .. }) => hall.crew().ready(worker),
            Ok(Event::Gone(worker)) => hall.bury(worker),
            Ok(Event::Overdue { job, index, worker }) => {
                hall.deliver(job, index, Err(TaskError::TimedOut));
                hall.crew().kill(worker);
            }
            Ok(Event::Rung) | Err(GetError::Interrupted) => {}
            Err(GetError::Empty) => {
                let ended = hall.crew().ended_early();
                ended.into_iter().for_each(|worker| hall.bury(worker));
            }
            Err(error) => hall.give_up(&error.to_string(), &seats),
        }
        let crew = hall.crew();
        if crew.is_ending() && crew.is_empty() {
            break;
        }
        seats = crew.seats();
        starting = crew.is_starting();
    }
}

impl Hall {
    /// Delivers the result that an event is.
    pub(super) fn file(&self, event: Event) {
        let Event::Result {
            job,
            index,
            verdict,
            reply,
        } = event
        else {
            return;
        };
        let outcome = match verdict {
            REFUSAL => {
                let reason = String::from_utf8_lossy(reply.bytes()).into_owned();
                Err(TaskError::Undelivered(reason))
            }
            _ => Ok(reply),
        };
        self.deliver(job, index, outcome);
    }

    fn deliver(&self, job: u64, index: u64, outcome: super::job::Outcome) {
        let job = self.jobs().get(&job).cloned();
        // Nobody may wait for it any more.
        if let Some(job) = job {
            job.deliver(index, outcome);
        }
    }

    /// Ends everything when not even the board can be read any more.
    fn give_up(&self, why: &str, workers: &[OwnerId]) {
        self.crew().give_up(why.to_owned());
        workers.iter().for_each(|worker| self.bury(*worker));
        self.fail_all(&TaskError::NoWorkers(why.to_owned()));
    }

    /// Ends what a worker held, and puts another in its place.
    fn bury(&self, worker: OwnerId) {
        let mut crew = self.crew();
        let Some(departed) = crew.part_with(worker) else {
            return;
        };
        let lost: Vec<Lost> = self.board.lost_by(worker);
        if let Err(error) = crew.fill(&self.board)
            && crew.is_empty()
        {
            crew.give_up(error.to_string());
        }
        let broken = crew.broken().cloned();
        drop(crew);
        for task in lost.into_iter().filter(|task| !task.repeated) {
            let (pid, how) = (departed.pid, departed.how.clone());
            self.deliver(
                task.job,
                task.index,
                Err(TaskError::WorkerDied { pid, how }),
            );
        }
        if let Some(error) = broken {
            self.fail_all(&error);
        }
    }
}
