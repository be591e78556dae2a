//! The thread that passes results on and replaces workers.

use std::sync::Arc;
use std::time::Instant;

use procession_engine::Deadline;
use procession_engine::error::GetError;
use procession_engine::pool::{Event, Lost};
use procession_engine::process::OwnerId;

use super::Hall;
use super::crew::LOOK;
use super::worker::REFUSAL;
use crate::error::TaskError;

pub(super) fn watch(hall: &Arc<Hall>) {
    let mut looked = Instant::now();
    let (mut seats, mut unsettled) = (hall.crew().seats(), true);
    loop {
        let until = if unsettled {
            Deadline::after(LOOK)
        } else {
            Deadline::NEVER
        };
        let is_time = || unsettled && looked.elapsed() >= LOOK;
        match hall.board.next_event(until, &seats) {
            Ok(result @ Event::Result { .. }) => {
                hall.file(result);
                if hall.board.outstanding() > 0 && !is_time() {
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
            Ok(Event::Rung) | Err(GetError::Interrupted | GetError::Empty) => {}
            Err(error) => hall.give_up(&error.to_string(), &seats),
        }
        if is_time() {
            hall.look();
            looked = Instant::now();
        }
        let crew = hall.crew();
        if crew.is_ending() && crew.is_empty() {
            break;
        }
        seats = crew.seats();
        unsettled = crew.is_unsettled(&hall.board);
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

    /// Sees to what happened without a word.
    fn look(&self) {
        let ended = self.crew().ended_early();
        ended.into_iter().for_each(|worker| self.bury(worker));
        let mut crew = self.crew();
        crew.fill_or_give_up(&self.board);
        let broken = crew.broken().cloned();
        drop(crew);
        if let Some(error) = broken {
            self.fail_all(&error);
        }
    }

    /// Ends what a worker held, and puts another in its place.
    fn bury(&self, worker: OwnerId) {
        let mut crew = self.crew();
        let Some(departed) = crew.part_with(worker) else {
            return;
        };
        let lost: Vec<Lost> = self.board.lost_by(worker);
        crew.fill_or_give_up(&self.board);
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
