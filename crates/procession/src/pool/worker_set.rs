//! The workers of a pool.

use std::time::Duration;

use procession_engine::Deadline;
use procession_engine::pool::TaskQueue;
use procession_engine::process::ProcId;

use super::worker::{self, Initializer, TaskQueueRef, WorkerRequest};
use crate::error::{Error, JoinError, TaskError, signal_name};
use crate::process::Process;
use crate::transfer::call::Failure;

/// How often to check for changes that cause no event: a worker that dies before it claims its process entry,
/// and one that could not be started for the moment.
pub(super) const CHECK_INTERVAL: Duration = Duration::from_millis(100);

/// How to start a worker.
#[derive(Debug)]
pub(super) struct WorkerConfig {
    pub(super) name: String,
    pub(super) initializers: Vec<Initializer>,
    pub(super) max_tasks: Option<u64>,
}

struct Worker {
    process: Process<Result<(), Failure>>,
    /// It has reported that it can work.
    ready: bool,
    /// It leaves after its current task, and no longer counts.
    retiring: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Open,
    /// Takes no more tasks, and ends with the last one.
    Closed,
    /// Ends now.
    Terminated,
}

pub(super) struct WorkerSet {
    pub(super) wanted: usize,
    workers: Vec<Worker>,
    config: WorkerConfig,
    started: u64,
    phase: Phase,
    /// Consecutive workers that ended before they were ready.
    failed_starts: usize,
    /// Why no more workers are started.
    broken: Option<TaskError>,
    /// The kernel's count of out-of-memory kills at the last check.
    oom_kills: Option<u64>,
}

impl WorkerSet {
    pub(super) fn new(wanted: usize, config: WorkerConfig) -> WorkerSet {
        WorkerSet {
            wanted,
            workers: Vec::new(),
            config,
            started: 0,
            phase: Phase::Open,
            failed_starts: 0,
            broken: None,
            oom_kills: oom_kills(),
        }
    }

    /// Returns the number of workers there should be.
    fn needed(&self, task_queue: &TaskQueue) -> usize {
        match self.phase {
            _ if self.broken.is_some() => 0,
            Phase::Open => self.wanted,
            // The last worker may have died while tasks are left.
            Phase::Closed => usize::from(task_queue.outstanding() > 0),
            Phase::Terminated => 0,
        }
    }

    /// Returns the workers that are not retiring.
    fn active(&self) -> impl Iterator<Item = &Worker> {
        self.workers.iter().filter(|worker| !worker.retiring)
    }

    /// Like [`fill`](WorkerSet::fill). Breaks the pool when no worker can be started and none is left.
    pub(super) fn fill_or_give_up(&mut self, task_queue: &TaskQueue) {
        if let Err(error) = self.fill(task_queue)
            && self.is_empty()
        {
            self.give_up(error.to_string());
        }
    }

    /// Starts workers until there are as many as needed.
    pub(super) fn fill(&mut self, task_queue: &TaskQueue) -> Result<(), Error> {
        let needed = self.needed(task_queue);
        while self.active().count() < needed {
            self.started += 1;
            let request = WorkerRequest {
                task_queue: TaskQueueRef::of(task_queue),
                initializers: self.config.initializers.clone(),
                max_tasks: self.config.max_tasks,
            };
            let process = Process::builder()
                .name(format!("{}-{}", self.config.name, self.started))
                .daemon(true)
                .kill_on_drop(true)
                .spawn(worker::work, request)?;
            self.workers.push(Worker {
                process,
                ready: false,
                retiring: false,
            });
        }
        Ok(())
    }

    /// Starts or retires workers until there are `wanted`. When the system cannot start so many, keeps
    /// those that did start.
    pub(super) fn resize(&mut self, wanted: usize, task_queue: &TaskQueue) -> Result<(), Error> {
        self.check_open()?;
        self.wanted = wanted;
        if let Err(error) = self.fill(task_queue) {
            self.wanted = self.active().count().max(1);
            return Err(error);
        }
        let surplus = self.active().count().saturating_sub(wanted);
        if surplus > 0 {
            self.retire(surplus, task_queue);
        }
        Ok(())
    }

    /// Retires `count` workers: idle ones first, and among those the newest.
    fn retire(&mut self, count: usize, task_queue: &TaskQueue) {
        let busy = task_queue.busy();
        let active = self.workers.iter_mut().rev();
        let mut active: Vec<&mut Worker> = active.filter(|worker| !worker.retiring).collect();
        active.sort_by_key(|worker| busy.contains(&worker.process.proc_id()));
        for worker in active.into_iter().take(count) {
            worker.retiring = true;
            task_queue.dismiss(worker.process.proc_id());
        }
    }

    /// Returns the process ids of the workers that are not retiring.
    pub(super) fn ids(&self) -> Vec<u32> {
        self.active().map(|worker| worker.process.id()).collect()
    }

    pub(super) fn proc_ids(&self) -> Vec<ProcId> {
        self.workers
            .iter()
            .map(|worker| worker.process.proc_id())
            .collect()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.workers.is_empty()
    }

    /// Returns whether the pool takes no more tasks.
    pub(super) fn is_ending(&self) -> bool {
        self.phase != Phase::Open || self.broken.is_some()
    }

    /// Returns whether there may be a change that causes no event.
    pub(super) fn is_unsettled(&self, task_queue: &TaskQueue) -> bool {
        self.workers.iter().any(|worker| !worker.ready)
            || self.active().count() < self.needed(task_queue)
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

    pub(super) fn ready(&mut self, proc_id: ProcId) {
        self.failed_starts = 0;
        for worker in &mut self.workers {
            worker.ready |= worker.process.proc_id() == proc_id;
        }
    }

    pub(super) fn close(&mut self) {
        if self.phase == Phase::Open {
            self.phase = Phase::Closed;
        }
    }

    pub(super) fn terminate(&mut self) {
        self.phase = Phase::Terminated;
        self.kill_all();
    }

    fn kill_all(&self) {
        for worker in &self.workers {
            // This fails only if the system forbids it, and the worker is our child.
            let _ = worker.process.kill();
        }
    }

    pub(super) fn kill(&mut self, proc_id: ProcId) {
        for worker in &self.workers {
            if worker.process.proc_id() == proc_id {
                let _ = worker.process.kill();
            }
        }
    }

    /// Returns the workers that ended before they claimed their process entry, which causes no event.
    pub(super) fn ended_early(&self) -> Vec<ProcId> {
        let ended = self
            .workers
            .iter()
            .filter(|worker| !worker.ready && !worker.process.is_alive());
        ended.map(|worker| worker.process.proc_id()).collect()
    }

    /// Waits for the end of a dying worker and removes it. Returns the error for the tasks it held.
    pub(super) fn remove(&mut self, proc_id: ProcId) -> Option<TaskError> {
        let at = self
            .workers
            .iter()
            .position(|worker| worker.process.proc_id() == proc_id)?;
        let Worker {
            mut process, ready, ..
        } = self.workers.swap_remove(at);
        let pid = process.id();
        let ended = process.join_until(Deadline::NEVER);
        // Its initializer failed, and would fail in the next worker too.
        let init_failed = matches!(ended, Ok(Some(Err(_))));
        // A worker that returned was ready; its notice is still on the way.
        let returned = matches!(ended, Ok(Some(Ok(()))));
        let how = self.describe_exit(ended);
        if !ready && !returned && self.phase != Phase::Terminated {
            self.failed_starts += 1;
            if init_failed {
                self.give_up(how.clone());
            } else if self.failed_starts >= self.wanted.max(3) {
                let count = self.failed_starts;
                self.give_up(format!(
                    "{count} ended before they were ready; the last: {how}"
                ));
            }
        }
        Some(match &self.broken {
            // It was killed with all the others.
            _ if self.phase == Phase::Terminated => TaskError::PoolGone,
            Some(error) => error.clone(),
            None => TaskError::WorkerDied { pid, how },
        })
    }

    fn describe_exit(&mut self, ended: Result<Option<Result<(), Failure>>, JoinError>) -> String {
        match ended {
            Ok(Some(Ok(())) | None) => "it ended".to_owned(),
            Ok(Some(Err(Failure::Panicked(panic)))) | Err(JoinError::Panicked(panic)) => {
                panic.to_string()
            }
            Ok(Some(Err(Failure::Undelivered(reason)))) => reason,
            Err(JoinError::Killed { signal: 9, .. }) => {
                let before = std::mem::replace(&mut self.oom_kills, oom_kills());
                let hint = oom_hint(before, self.oom_kills);
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

/// Returns the kernel's count of out-of-memory kills on this machine, or `None` if it is not available.
fn oom_kills() -> Option<u64> {
    oom_count(&std::fs::read_to_string("/proc/vmstat").ok()?)
}

fn oom_count(vmstat: &str) -> Option<u64> {
    let mut lines = vmstat.lines();
    lines
        .find_map(|line| line.strip_prefix("oom_kill "))?
        .parse()
        .ok()
}

/// Returns a hint for the text about a SIGKILL that this process did not send.
fn oom_hint(before: Option<u64>, now: Option<u64>) -> &'static str {
    match (before, now) {
        (Some(before), Some(now)) if now > before => {
            "; the kernel has killed processes for lack of memory meanwhile: try fewer workers or smaller tasks"
        }
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::{oom_count, oom_hint};

    #[test]
    fn the_count_is_found_among_the_others() {
        let vmstat = "nr_free_pages 5\noom_kill 17\noom_kill_disable 3\n";
        assert_eq!(oom_count(vmstat), Some(17));
        assert_eq!(oom_count("nr_free_pages 5\n"), None);
    }

    #[test]
    fn only_a_kill_that_came_in_between_is_hinted_at() {
        assert!(oom_hint(Some(1), Some(2)).contains("memory"));
        for (before, now) in [(Some(2), Some(2)), (None, Some(2)), (Some(2), None)] {
            assert_eq!(oom_hint(before, now), "");
        }
    }
}
