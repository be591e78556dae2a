//! The workers of a pool, and who may still come.

use std::time::Duration;

use procession_engine::Deadline;
use procession_engine::pool::Board;
use procession_engine::process::OwnerId;

use super::oom;
use super::worker::{self, BoardName, Initializer, Orders};
use crate::call::Failure;
use crate::error::{Error, JoinError, TaskError, signal_name};
use crate::process::Process;

/// How often to look at what nobody tells of: a worker that dies before it takes its seat, and one
/// that could not be started for the moment.
pub(super) const LOOK: Duration = Duration::from_millis(100);

/// How a worker is started.
#[derive(Debug)]
pub(super) struct Recipe {
    pub(super) name: String,
    pub(super) initializers: Vec<Initializer>,
    pub(super) max_tasks: Option<u64>,
}

struct Worker {
    process: Process<Result<(), Failure>>,
    /// It said that it can work.
    ready: bool,
    /// There are too many: it leaves after its task, and does not count any more.
    dismissed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Open,
    /// Takes no more tasks, and ends with the last.
    Closed,
    /// Ends now.
    Over,
}

pub(super) struct Crew {
    pub(super) wanted: usize,
    workers: Vec<Worker>,
    recipe: Recipe,
    started: u64,
    phase: Phase,
    /// Workers that ended before they were ready, with none getting ready in between.
    stillborn: usize,
    /// Why no more workers are started.
    broken: Option<TaskError>,
    /// How often the kernel had killed for want of memory when that was looked at last.
    oom_kills: Option<u64>,
}

impl Crew {
    pub(super) fn new(wanted: usize, recipe: Recipe) -> Crew {
        Crew {
            wanted,
            workers: Vec::new(),
            recipe,
            started: 0,
            phase: Phase::Open,
            stillborn: 0,
            broken: None,
            oom_kills: oom::kills(),
        }
    }

    /// How many workers there should be.
    fn needed(&self, board: &Board) -> usize {
        match self.phase {
            _ if self.broken.is_some() => 0,
            Phase::Open => self.wanted,
            // The last may have died over the last tasks.
            Phase::Closed => usize::from(board.outstanding() > 0),
            Phase::Over => 0,
        }
    }

    /// Those who will go on.
    fn staff(&self) -> impl Iterator<Item = &Worker> {
        self.workers.iter().filter(|worker| !worker.dismissed)
    }

    /// As [`fill`](Crew::fill); breaks the pool when none can be started and nobody is left to work.
    pub(super) fn fill_or_give_up(&mut self, board: &Board) {
        if let Err(error) = self.fill(board)
            && self.is_empty()
        {
            self.give_up(error.to_string());
        }
    }

    /// Starts as many workers as there should be.
    pub(super) fn fill(&mut self, board: &Board) -> Result<(), Error> {
        let needed = self.needed(board);
        while self.staff().count() < needed {
            self.started += 1;
            let orders = Orders {
                board: BoardName::of(board),
                initializers: self.recipe.initializers.clone(),
                max_tasks: self.recipe.max_tasks,
            };
            let process = Process::builder()
                .name(format!("{}-{}", self.recipe.name, self.started))
                .daemon(true)
                .kill_on_drop(true)
                .spawn(worker::work, orders)?;
            self.workers.push(Worker {
                process,
                ready: false,
                dismissed: false,
            });
        }
        Ok(())
    }

    /// Starts or dismisses workers until there are `wanted`. Where the system has no room for so
    /// many, those stay that there are.
    pub(super) fn resize(&mut self, wanted: usize, board: &Board) -> Result<(), Error> {
        self.check_open()?;
        self.wanted = wanted;
        if let Err(error) = self.fill(board) {
            self.wanted = self.staff().count().max(1);
            return Err(error);
        }
        let surplus = self.staff().count().saturating_sub(wanted);
        if surplus > 0 {
            self.dismiss(surplus, board);
        }
        Ok(())
    }

    /// Lets so many workers go, the idle ones first and of those the last that came.
    fn dismiss(&mut self, count: usize, board: &Board) {
        let busy = board.busy();
        let staff = self.workers.iter_mut().rev();
        let mut staff: Vec<&mut Worker> = staff.filter(|worker| !worker.dismissed).collect();
        staff.sort_by_key(|worker| busy.contains(&worker.process.seat()));
        for worker in staff.into_iter().take(count) {
            worker.dismissed = true;
            board.dismiss(worker.process.seat());
        }
    }

    /// Process ids of those who will go on.
    pub(super) fn ids(&self) -> Vec<u32> {
        self.staff().map(|worker| worker.process.id()).collect()
    }

    pub(super) fn seats(&self) -> Vec<OwnerId> {
        self.workers
            .iter()
            .map(|worker| worker.process.seat())
            .collect()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.workers.is_empty()
    }

    /// Whether the pool takes no more tasks.
    pub(super) fn is_ending(&self) -> bool {
        self.phase != Phase::Open || self.broken.is_some()
    }

    /// Whether something may happen that only looking shows.
    pub(super) fn is_unsettled(&self, board: &Board) -> bool {
        self.workers.iter().any(|worker| !worker.ready) || self.staff().count() < self.needed(board)
    }

    pub(super) fn check_open(&self) -> Result<(), Error> {
        match &self.broken {
            Some(error) => Err(error.clone().into()),
            None if self.phase == Phase::Open => Ok(()),
            None => Err(Error::PoolClosed),
        }
    }

    pub(super) fn broken(&self) -> Option<&TaskError> {
        self.broken.as_ref()
    }

    pub(super) fn give_up(&mut self, why: String) {
        self.broken.get_or_insert(TaskError::NoWorkers(why));
        self.kill_all();
    }

    pub(super) fn ready(&mut self, seat: OwnerId) {
        self.stillborn = 0;
        for worker in &mut self.workers {
            worker.ready |= worker.process.seat() == seat;
        }
    }

    pub(super) fn close(&mut self) {
        if self.phase == Phase::Open {
            self.phase = Phase::Closed;
        }
    }

    pub(super) fn terminate(&mut self) {
        self.phase = Phase::Over;
        self.kill_all();
    }

    fn kill_all(&self) {
        for worker in &self.workers {
            // Only the system's refusal is an error, and the worker is ours.
            let _ = worker.process.kill();
        }
    }

    pub(super) fn kill(&mut self, seat: OwnerId) {
        for worker in &self.workers {
            if worker.process.seat() == seat {
                let _ = worker.process.kill();
            }
        }
    }

    /// Workers that ended before they took their seats, which nobody else notices.
    pub(super) fn ended_early(&self) -> Vec<OwnerId> {
        let ended = self
            .workers
            .iter()
            .filter(|worker| !worker.ready && !worker.process.is_alive());
        ended.map(|worker| worker.process.seat()).collect()
    }

    /// Waits for the end of a worker that is about to be gone, and strikes it off. Gives what the tasks
    /// that it had end with.
    pub(super) fn part_with(&mut self, seat: OwnerId) -> Option<TaskError> {
        let at = self
            .workers
            .iter()
            .position(|worker| worker.process.seat() == seat)?;
        let Worker {
            mut process, ready, ..
        } = self.workers.swap_remove(at);
        let pid = process.id();
        let ended = process.join_until(Deadline::NEVER);
        // Its initializer failed: it would fail in the next one too.
        let refused = matches!(ended, Ok(Some(Err(_))));
        // One that returned in order was ready: its notice is still on the way.
        let in_order = matches!(ended, Ok(Some(Ok(()))));
        let how = self.words_for(ended);
        if !ready && !in_order && self.phase != Phase::Over {
            self.stillborn += 1;
            if refused {
                self.give_up(how.clone());
            } else if self.stillborn >= self.wanted.max(3) {
                let count = self.stillborn;
                self.give_up(format!(
                    "{count} ended before they were ready; the last: {how}"
                ));
            }
        }
        Some(match &self.broken {
            // It was killed with all the others.
            _ if self.phase == Phase::Over => TaskError::PoolGone,
            Some(error) => error.clone(),
            None => TaskError::WorkerDied { pid, how },
        })
    }

    fn words_for(&mut self, ended: Result<Option<Result<(), Failure>>, JoinError>) -> String {
        match ended {
            Ok(Some(Ok(())) | None) => "it ended".to_owned(),
            Ok(Some(Err(Failure::Panicked(panic)))) | Err(JoinError::Panicked(panic)) => {
                panic.to_string()
            }
            Ok(Some(Err(Failure::Undelivered(reason)))) => reason,
            Err(JoinError::Killed { signal: 9, .. }) => {
                let before = std::mem::replace(&mut self.oom_kills, oom::kills());
                let hint = oom::hint(before, self.oom_kills);
                format!("killed by signal 9 (SIGKILL){hint}")
            }
            Err(JoinError::Killed { signal, .. }) => {
                format!("killed by signal {signal} ({})", signal_name(signal))
            }
            Err(JoinError::Exited { code, .. }) => format!("exited with code {code}"),
            Err(other) => other.to_string(),
        }
    }
}
