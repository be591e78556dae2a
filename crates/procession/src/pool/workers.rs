//! The worker processes of a pool: starting them, and telling how they ended.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use procession_engine::Deadline;
use procession_engine::pool::TaskQueue;
use procession_engine::pool::supervisor::{OomHint, OomKills};
use procession_engine::process::ProcId;

use super::worker::{self, Initializer, TaskQueueRef, WorkerRequest};
use crate::error::{Error, JoinError, TaskError, signal_name};
use crate::process::Process;
use crate::transfer::call::Failure;

/// How to start a worker.
#[derive(Debug)]
pub(super) struct WorkerConfig {
    pub(super) name: String,
    pub(super) initializers: Vec<Initializer>,
    pub(super) max_tasks: Option<u64>,
}

struct Worker {
    process: Process<Result<(), Failure>>,
    /// How it ended.
    how: String,
}

pub(super) struct Workers {
    config: WorkerConfig,
    started: AtomicU64,
    list: Mutex<Vec<Worker>>,
    oom_kills: Mutex<OomKills>,
}

impl Workers {
    pub(super) fn new(config: WorkerConfig) -> Workers {
        Workers {
            config,
            started: AtomicU64::new(0),
            list: Mutex::default(),
            oom_kills: Mutex::new(OomKills::now()),
        }
    }

    fn list(&self) -> MutexGuard<'_, Vec<Worker>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn start(&self, task_queue: &TaskQueue) -> Result<ProcId, Error> {
        let number = self.started.fetch_add(1, Ordering::Relaxed) + 1;
        let request = WorkerRequest {
            task_queue: TaskQueueRef::of(task_queue),
            initializers: self.config.initializers.clone(),
            max_tasks: self.config.max_tasks,
        };
        let process = Process::builder()
            .name(format!("{}-{number}", self.config.name))
            .daemon(true)
            .kill_on_drop(true)
            .spawn(worker::work, request)?;
        let id = process.proc_id();
        let how = String::new();
        self.list().push(Worker { process, how });
        Ok(id)
    }

    /// Returns the process id of a worker.
    pub(super) fn pid(&self, id: ProcId) -> Option<u32> {
        let list = self.list();
        let worker = list.iter().find(|worker| worker.process.proc_id() == id);
        worker.map(|worker| worker.process.id())
    }

    pub(super) fn kill(&self, id: ProcId) {
        let list = self.list();
        let meant = list.iter().filter(|worker| worker.process.proc_id() == id);
        // This fails only if the system forbids it, and the worker is our child.
        meant.for_each(|worker| drop(worker.process.kill()));
    }

    fn take(&self, id: ProcId) -> Option<Worker> {
        let mut list = self.list();
        let at = list
            .iter()
            .position(|worker| worker.process.proc_id() == id)?;
        Some(list.swap_remove(at))
    }

    /// Waits for the exit of a worker. Returns `None` if it is still alive, otherwise whether SIGKILL ended it.
    pub(super) fn reap(&self, id: ProcId, until: Deadline) -> Option<bool> {
        let of = |worker: &&mut Worker| worker.process.proc_id() == id;
        // One that may live on stays in the list.
        let mut ended = match self.list().iter_mut().find(of) {
            Some(worker) => worker.process.join_until(Deadline::NOW),
            None => return Some(false),
        };
        if matches!(ended, Ok(None)) {
            if until.is_past() {
                return None;
            }
            let mut worker = self.take(id)?;
            ended = worker.process.join_until(until);
            self.list().push(worker);
        }
        let exit = match &ended {
            Ok(None) => return None,
            Err(JoinError::Killed { signal: 9, .. }) => true,
            _ => false,
        };
        let how = self.describe_exit(ended);
        if let Some(worker) = self.list().iter_mut().find(of) {
            worker.how = how;
        }
        Some(exit)
    }

    /// Removes a worker that has exited. Returns the error for the tasks it held.
    pub(super) fn remove(&self, id: ProcId) -> Option<TaskError> {
        let Worker { process, how } = self.take(id)?;
        let pid = process.id();
        Some(TaskError::WorkerDied { pid, how })
    }

    fn describe_exit(&self, ended: Result<Option<Result<(), Failure>>, JoinError>) -> String {
        match ended {
            Ok(Some(Ok(())) | None) => "it ended".to_owned(),
            Ok(Some(Err(failure))) => worker::text(&failure),
            Err(JoinError::Panicked(panic)) => panic.to_string(),
            Err(JoinError::Killed { signal: 9, .. }) => {
                format!("killed by signal 9 (SIGKILL){}", self.oom_hint())
            }
            Err(JoinError::Killed { signal, .. }) => {
                format!("killed by signal {signal} ({})", signal_name(signal))
            }
            Err(JoinError::Exited { code, .. }) => format!("exited with code {code}"),
            Err(other) => other.to_string(),
        }
    }

    /// Returns a hint for the text about a SIGKILL that this process did not send.
    fn oom_hint(&self) -> &'static str {
        let mut oom_kills = self
            .oom_kills
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        match oom_kills.hint() {
            OomHint::Killed => {
                "; the kernel has killed processes for lack of memory meanwhile: try fewer workers or smaller tasks"
            }
            OomHint::NoKill | OomHint::Unknown => "",
        }
    }
}
