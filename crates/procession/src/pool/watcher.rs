//! The thread that passes results on and replaces workers.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, MutexGuard};
use std::time::Instant;

use procession_engine::Deadline;
use procession_engine::error::GetError;
use procession_engine::pool::{Event, Lost};
use procession_engine::process::OwnerId;

use super::crew::{Crew, LOOK};
use super::hall::Hall;
use super::job::Answer;
use super::worker::REFUSAL;
use crate::error::TaskError;

/// Watches over a pool until it has ended.
pub(super) fn watch(hall: &Arc<Hall>) {
    // Arguments of an initializer, for one, are serialised here for each new worker, by their own code.
    if catch_unwind(AssertUnwindSafe(|| watch_on(hall))).is_err() {
        let seats = hall.crew().seats();
        hall.give_up("its watcher panicked, see standard error", &seats);
        hall.close();
    }
}

fn watch_on(hall: &Arc<Hall>) {
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
            Ok(Event::Overdue {
                job, index, worker, ..
            }) => {
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
            _ => Ok(Answer::Arrived(reply)),
        };
        self.deliver(job, index, outcome);
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
        let broken = self.replace_the_gone(self.crew());
        broken.iter().for_each(|error| self.fail_all(error));
    }

    /// Ends what a worker held, and puts another in its place.
    fn bury(&self, worker: OwnerId) {
        let mut crew = self.crew();
        let Some(error) = crew.part_with(worker) else {
            return;
        };
        let lost: Vec<Lost> = self.board.lost_by(worker);
        let broken = self.replace_the_gone(crew);
        for task in lost.into_iter().filter(|task| !task.repeated) {
            self.deliver(task.job, task.index, Err(error.clone()));
        }
        broken.iter().for_each(|error| self.fail_all(error));
        // What it was killed for has ended only now.
        self.stir();
    }

    /// Starts the workers that are missing. Gives the reason why there will be none, if so.
    fn replace_the_gone(&self, mut crew: MutexGuard<'_, Crew>) -> Option<TaskError> {
        crew.fill_or_give_up(&self.board);
        crew.broken().cloned()
    }
}
