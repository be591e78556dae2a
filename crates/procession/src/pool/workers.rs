//! The worker processes of a pool: starting them, and telling how they ended.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use procession_engine::Deadline;
use procession_engine::pool::TaskQueue;
use procession_engine::pool::supervisor::{OomHint, OomKills};
use procession_engine::process::ProcId;

use super::worker::{self, Initializer, TaskQueueRef, WorkerRequest};
use crate::error::{Error, JoinError, signal_name};
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
    id: ProcId,
    pid: u32,
    /// `None` while a thread waits for its exit.
    process: Option<Process<Result<(), Failure>>>,
    /// It leaves after its current task, and no longer counts.
    leaves: bool,
    /// How it ended.
    how: String,
}

pub(super) struct Workers {
    config: WorkerConfig,
    started: AtomicU64,
    list: Mutex<Vec<Worker>>,
    /// Held while workers are replaced or started.
    changing: Mutex<()>,
    oom_kills: Mutex<OomKills>,
}

impl Workers {
    pub(super) fn new(config: WorkerConfig) -> Workers {
        Workers {
            config,
            started: AtomicU64::new(0),
            list: Mutex::default(),
            changing: Mutex::default(),
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
        let (id, pid) = (process.proc_id(), process.id());
        self.list().push(Worker {
            id,
            pid,
            process: Some(process),
            leaves: false,
            how: String::new(),
        });
        Ok(id)
    }

    /// Locks the workers for a change that others see as a whole.
    pub(super) fn change(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the process ids of the workers that stay.
    pub(super) fn ids(&self) -> Vec<u32> {
        let _whole = self.change();
        let list = self.list();
        let staying = list.iter().filter(|worker| !worker.leaves);
        staying.map(|worker| worker.pid).collect()
    }

    pub(super) fn note_leaving(&self, leaving: &[ProcId]) {
        for worker in self.list().iter_mut() {
            worker.leaves |= leaving.contains(&worker.id);
        }
    }

    /// Calls `with` with a worker.
    fn with<T>(&self, id: ProcId, with: impl FnOnce(&mut Worker) -> T) -> Option<T> {
        let mut list = self.list();
        let worker = list.iter_mut().find(|worker| worker.id == id);
        worker.map(with)
    }

    pub(super) fn kill(&self, id: ProcId) {
        // This fails only if the system forbids it, and the worker is our child.
        let kill = |worker: &mut Worker| worker.process.as_ref().map(Process::kill);
        let _ = self.with(id, kill);
    }

    /// Waits for the exit of a worker. Returns `None` if it is still alive, otherwise whether SIGKILL ended it.
    pub(super) fn reap(&self, id: ProcId, until: Deadline) -> Option<bool> {
        let process = self.with(id, |worker| worker.process.take());
        let Some(mut process) = process.flatten() else {
            return Some(false);
        };
        let ended = process.join_until(until);
        let exit = match &ended {
            Ok(None) => None,
            Err(JoinError::Killed { signal: 9, .. }) => Some(true),
            _ => Some(false),
        };
        let how = exit.map(|_| self.describe_exit(ended));
        self.with(id, |worker| {
            worker.process = Some(process);
            worker.how = how.unwrap_or_default();
        });
        exit
    }

    /// Returns the process id of a worker that has exited, and how it ended.
    pub(super) fn died(&self, id: ProcId) -> (u32, String) {
        let died = |worker: &mut Worker| (worker.pid, std::mem::take(&mut worker.how));
        self.with(id, died).unwrap_or_default()
    }

    /// Removes a worker that has exited.
    pub(super) fn remove(&self, id: ProcId) {
        self.list().retain(|worker| worker.id != id);
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
