//! The supervisor of a pool's workers: when to start, stop, kill and replace them, and when to give up.
//!
//! [`Supervisor`] is a state machine without I/O. It is told what happened and at what time, and says what to do
//! next. [`next_step`] connects it to the task queue. A front has processes: it carries out the [`Step`]s, reports how
//! that went, and turns causes into its own errors.
//!
//! ```text
//!             started          ready                      gone, or has to go
//!  (a step) ---------> STARTING -----> READY ---+-------------------------------> ENDING
//!                          |                    |                                    |
//!                          | initializer failed |             its process has exited |
//!                          +---> FAILED --------+                                    v
//!                          (counted as a failed start)          removed; its tasks retried or lost
//! ```

mod oom;
mod policy;
mod step;
#[cfg(test)]
mod tests;
mod unwatched;

use std::time::Instant;

use crate::arena::owner::ProcId;

pub use oom::{OomHint, OomKills};
use policy::{CHECK_INTERVAL, EXIT_TIMEOUT, FailedStarts};
pub use policy::{FailedStart, Policy, StartFailure};
pub use step::{Front, Step, TaskFailure, next_step};
use unwatched::Unwatched;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// It has not reported yet.
    Starting,
    /// It has reported that it can work.
    Ready,
    /// It has reported that its initializer failed.
    Failed,
}

/// What a worker was told that has to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    Nothing,
    ToStop,
    /// It was killed.
    Killed,
}

/// How a worker's process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Exit {
    ByKill,
    Otherwise,
}

#[derive(Debug)]
struct Worker {
    id: ProcId,
    stage: Stage,
    /// It leaves after its current task, and no longer counts.
    retires: bool,
    told: Told,
    /// It has to end, and is killed at this time.
    kill_at: Option<Instant>,
    /// It is not registered as alive any more; its process exits until this time, or is killed.
    gone_until: Option<Instant>,
    /// When to look whether its process has exited, while it has not reported.
    check_at: Instant,
    exit: Option<Exit>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Open,
    /// Takes no more tasks, and ends with the last one.
    Closed,
    /// Ends now.
    Terminated,
}

/// What a supervisor wants next.
#[derive(Debug, PartialEq, Eq)]
enum Action {
    Start,
    Terminate(ProcId),
    Kill(ProcId),
    /// To wait for the exit of a process until that time; `None`: as long as it takes.
    Reap(ProcId, Option<Instant>),
    /// To look whether unwatched workers have exited.
    CheckUnwatched,
    /// To let workers leave after their current tasks.
    Dismiss(Vec<ProcId>),
    /// To wait for an event until that time.
    Wait(Option<Instant>),
    /// Nothing more: the pool has ended.
    End,
}

/// The workers of a pool, and what is decided about them.
#[derive(Debug)]
pub struct Supervisor {
    policy: Policy,
    wanted: usize,
    workers: Vec<Worker>,
    unwatched: Unwatched,
    failed_starts: FailedStarts,
    phase: Phase,
    replaces: bool,
    to_dismiss: Vec<ProcId>,
}

impl Supervisor {
    /// Creates the supervisor of a pool that wants so many workers.
    pub fn new(policy: Policy, wanted: usize, now: Instant) -> Supervisor {
        Supervisor {
            policy,
            wanted,
            workers: Vec::new(),
            unwatched: Unwatched::new(now),
            failed_starts: FailedStarts::new(now),
            phase: Phase::Open,
            replaces: true,
            to_dismiss: Vec::new(),
        }
    }

    /// The number of workers that there should be.
    pub fn wanted(&self) -> usize {
        self.wanted
    }

    /// The number of workers that stay.
    fn active(&self) -> usize {
        let staying = self.workers.iter().filter(|worker| !worker.retires);
        staying.count() + self.unwatched.count()
    }

    /// Whether the pool was terminated.
    pub fn is_terminated(&self) -> bool {
        self.phase == Phase::Terminated
    }

    /// Whether no worker could be started the last times.
    pub fn has_given_up(&self) -> bool {
        self.failed_starts.gave_up
    }

    fn is_ending(&self) -> bool {
        self.phase != Phase::Open || self.has_given_up_for_good()
    }

    fn has_given_up_for_good(&self) -> bool {
        self.failed_starts.gave_up && self.policy.is_final
    }

    /// Accepts no more tasks. Workers are still replaced while there are tasks.
    pub fn close(&mut self) {
        if self.phase == Phase::Open {
            self.phase = Phase::Closed;
        }
    }

    /// Ends all workers: requests it of all, and kills those that do not exit within the grace time. All starts must have
    /// been reported.
    pub fn terminate(&mut self, now: Instant) {
        self.phase = Phase::Terminated;
        self.stop_all(now);
        self.to_dismiss = self.workers.iter().map(|worker| worker.id).collect();
    }

    /// Gives up, although starts did not fail.
    pub fn give_up(&mut self, now: Instant) {
        self.failed_starts.gave_up = true;
        self.stop_all(now);
    }

    /// Starts no more workers of its own accord: the program is about to end them itself.
    pub fn stop_replacing(&mut self) {
        self.replaces = false;
    }

    /// Changes the number of workers. Surplus workers leave after their current tasks: idle ones first, and among those
    /// the newest. The caller dismisses those that are returned, and starts those that are missing.
    pub fn resize(&mut self, wanted: usize, busy: &[ProcId]) -> Vec<ProcId> {
        self.wanted = wanted;
        let active = self.workers.iter_mut().rev();
        let mut active: Vec<&mut Worker> = active.filter(|worker| !worker.retires).collect();
        let surplus = active.len().saturating_sub(wanted);
        active.sort_by_key(|worker| busy.contains(&worker.id));
        let leaving = active.into_iter().take(surplus);
        let retire = |worker: &mut Worker| {
            worker.retires = true;
            worker.id
        };
        leaving.map(retire).collect()
    }

    /// Wants no more workers than there are.
    pub fn settle_for_less(&mut self) {
        self.wanted = self.active().max(1);
    }

    /// Whether there are fewer workers than wanted. A program that asks for them starts them now, whatever happened
    /// before.
    pub fn is_short(&self) -> bool {
        !self.is_terminated() && self.active() < self.wanted
    }

    /// Whether to start a worker now, with so many unfinished tasks. One thread at a time may ask, start and report.
    pub fn wants_start(&self, tasks: usize, now: Instant) -> bool {
        self.is_missing(tasks) && now >= self.failed_starts.next_start
    }

    fn is_missing(&self, tasks: usize) -> bool {
        self.active() < self.needed(tasks)
    }

    /// A worker was started.
    pub fn started(&mut self, id: ProcId, now: Instant) {
        self.workers.push(Worker {
            id,
            stage: Stage::Starting,
            retires: false,
            told: Told::Nothing,
            kill_at: self.is_terminated().then_some(now + self.policy.grace),
            gone_until: None,
            check_at: now + CHECK_INTERVAL,
            exit: None,
        });
    }

    /// A worker was started that has no entry in the table of processes. The front looks whether it has exited.
    pub fn started_unwatched(&mut self, now: Instant) {
        self.unwatched.started(now);
    }

    /// An unwatched worker has exited.
    pub fn exited_unwatched(&mut self, by_kill: bool) {
        self.unwatched.exited(exit_of(by_kill));
    }

    /// A worker could not be started.
    pub fn start_failed(&mut self, now: Instant) -> FailedStart {
        self.count_failed_start(StartFailure::NotStarted, now)
    }

    /// The process of a worker has exited.
    pub fn exited(&mut self, id: ProcId, by_kill: bool) {
        if let Some(worker) = self.worker(id) {
            worker.exit = Some(exit_of(by_kill));
        }
    }

    /// The process of a worker has not exited within the time of its step.
    pub fn still_alive(&mut self, id: ProcId, now: Instant) {
        let Some(worker) = self.worker(id) else {
            return;
        };
        if worker.told == Told::Killed {
            worker.told = Told::ToStop;
        } else if worker.gone_until.is_some_and(|until| until <= now) {
            worker.kill_at = Some(now);
        }
    }

    fn worker(&mut self, id: ProcId) -> Option<&mut Worker> {
        self.workers.iter_mut().find(|worker| worker.id == id)
    }

    fn ready(&mut self, id: ProcId) {
        self.failed_starts.forget(self.policy);
        match self.worker(id) {
            Some(worker) => worker.stage = Stage::Ready,
            None => self.unwatched.ready(),
        }
    }

    fn initializer_failed(&mut self, id: ProcId, now: Instant) -> FailedStart {
        // Counted now, and not again when it exits.
        match self.worker(id) {
            Some(worker) => worker.stage = Stage::Failed,
            None => self.unwatched.failed(),
        }
        self.count_failed_start(StartFailure::Initializer, now)
    }

    fn gone(&mut self, id: ProcId, now: Instant) {
        if let Some(worker) = self.worker(id) {
            worker.gone_until = Some(now + EXIT_TIMEOUT);
        }
    }

    /// Ends a worker because its task has to end: the task was cancelled, or took too long.
    pub fn stop(&mut self, id: ProcId, now: Instant) {
        let kill_at = now + self.policy.grace;
        if let Some(worker) = self.worker(id) {
            worker.kill_at.get_or_insert(kill_at);
        }
    }

    fn stop_all(&mut self, now: Instant) {
        let kill_at = now + self.policy.grace;
        for worker in &mut self.workers {
            worker.kill_at.get_or_insert(kill_at);
        }
    }

    fn has_exits(&self) -> bool {
        self.unwatched.has_exits() || self.workers.iter().any(|worker| worker.exit.is_some())
    }

    /// Removes a worker that has exited. All its messages must have been read before.
    fn remove_exited(&mut self, now: Instant) -> Option<(ProcId, Option<FailedStart>)> {
        let mut workers = self.workers.iter();
        let at = workers.position(|worker| worker.exit.is_some())?;
        let worker = self.workers.remove(at);
        let has_failed = worker.stage == Stage::Starting && worker.kill_at.is_none();
        let why = failure_by(worker.exit);
        let failed = has_failed.then(|| self.count_failed_start(why, now));
        Some((worker.id, failed))
    }

    /// The same for unwatched workers, in the order in which their exits were reported.
    fn remove_exited_unwatched(&mut self, now: Instant) -> Option<Option<FailedStart>> {
        let (exit, has_failed) = self.unwatched.remove_exited()?;
        let why = failure_by(Some(exit));
        Some(has_failed.then(|| self.count_failed_start(why, now)))
    }

    fn count_failed_start(&mut self, why: StartFailure, now: Instant) -> FailedStart {
        let mut workers = self.workers.iter();
        let none_ready =
            !workers.any(|worker| worker.stage == Stage::Ready) && !self.unwatched.has_ready();
        let (policy, wanted) = (self.policy, self.wanted);
        let judged = self
            .failed_starts
            .judge(why, policy, wanted, none_ready, now);
        if self.has_given_up_for_good() {
            self.stop_all(now);
        }
        judged
    }

    /// The number of workers that there should be for so many unfinished tasks.
    fn needed(&self, tasks: usize) -> usize {
        match self.phase {
            _ if !self.replaces || self.has_given_up_for_good() => 0,
            Phase::Terminated => 0,
            Phase::Open if !self.has_given_up() => self.wanted,
            _ => self.wanted.min(tasks),
        }
    }

    /// Whether the number of unfinished tasks decides anything.
    fn depends_on_tasks(&self) -> bool {
        self.phase == Phase::Closed || self.has_given_up()
    }

    fn next_action(&mut self, tasks: usize, now: Instant) -> Action {
        if let Some(signal) = self
            .workers
            .iter_mut()
            .find_map(|worker| worker.signal(now))
        {
            return signal;
        }
        if !self.to_dismiss.is_empty() {
            return Action::Dismiss(std::mem::take(&mut self.to_dismiss));
        }
        let waits = self.is_terminated();
        let mut workers = self.workers.iter_mut();
        if let Some(reap) = workers.find_map(|worker| worker.reap(waits, now)) {
            return reap;
        }
        if !self.is_terminated() && self.unwatched.is_check_due(now) {
            return Action::CheckUnwatched;
        }
        if self.wants_start(tasks, now) {
            return Action::Start;
        }
        let is_over = match self.phase {
            Phase::Terminated => true,
            Phase::Closed => tasks == 0 || self.has_given_up_for_good(),
            Phase::Open => self.has_given_up_for_good(),
        };
        let has_unwatched = !self.is_terminated() && self.unwatched.count() > 0;
        if is_over && self.workers.is_empty() && !has_unwatched {
            return Action::End;
        }
        let missing = self.is_missing(tasks);
        let start = missing.then_some(self.failed_starts.next_start);
        let workers = self.workers.iter().filter_map(Worker::next_change);
        let check = self.unwatched.next_check();
        Action::Wait(workers.chain(start).chain(check).min())
    }

    /// The workers to watch.
    fn watched(&self) -> Vec<ProcId> {
        let is_watched = |worker: &&Worker| worker.gone_until.is_none();
        let watched = self.workers.iter().filter(is_watched);
        watched.map(|worker| worker.id).collect()
    }
}

fn exit_of(by_kill: bool) -> Exit {
    match by_kill {
        true => Exit::ByKill,
        false => Exit::Otherwise,
    }
}

fn failure_by(exit: Option<Exit>) -> StartFailure {
    match exit {
        Some(Exit::ByKill) => StartFailure::Killed,
        _ => StartFailure::Ended,
    }
}

impl Worker {
    /// What it is told now because it has to end.
    fn signal(&mut self, now: Instant) -> Option<Action> {
        let kill_at = self.kill_at?;
        match self.told {
            _ if self.exit.is_some() => None,
            Told::Nothing if now < kill_at => {
                self.told = Told::ToStop;
                Some(Action::Terminate(self.id))
            }
            Told::Nothing | Told::ToStop if now >= kill_at => {
                self.told = Told::Killed;
                Some(Action::Kill(self.id))
            }
            _ => None,
        }
    }

    /// Whether to wait for the exit of its process now. `waits`: also if nothing says that it is about to exit.
    fn reap(&mut self, waits: bool, now: Instant) -> Option<Action> {
        if self.exit.is_some() {
            return None;
        }
        if self.gone_until.is_some() || waits {
            let until = match self.told {
                // The front may have been interrupted before it killed: then it is told once more.
                Told::Killed => Some(now + EXIT_TIMEOUT),
                _ => self.gone_until.max(self.kill_at),
            };
            return Some(Action::Reap(self.id, until));
        }
        if self.stage == Stage::Starting && now >= self.check_at {
            self.check_at = now + CHECK_INTERVAL;
            return Some(Action::Reap(self.id, Some(now)));
        }
        None
    }

    /// When something is to be done about it.
    fn next_change(&self) -> Option<Instant> {
        let check = (self.stage == Stage::Starting).then_some(self.check_at);
        let kill = self.kill_at.filter(|_| self.told == Told::ToStop);
        [check, kill].into_iter().flatten().min()
    }
}
