//! The main loop of a worker process.

use std::fmt;
use std::sync::Arc;

use procession_engine::error::{GetError, PutError};
use procession_engine::pool::{TaskQueue, WorkerEndpoint, WorkerStatus};
use procession_engine::{Deadline, Handle, process};
use serde::de::Deserializer;
use serde::ser::{Error as _, Serializer};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::transfer::call::{self, Failure};
use crate::transfer::context;
use crate::transfer::panic;
use crate::transfer::worker_state;

/// The bytes are the response to a request.
pub(super) const RESPONSE: u8 = 0;
/// The bytes are the reason why there is no response.
pub(super) const FAILURE: u8 = 1;

/// The request that starts a worker.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct WorkerRequest {
    pub(super) task_queue: TaskQueueRef,
    /// In call order.
    pub(super) initializers: Vec<Initializer>,
    pub(super) max_tasks: Option<u64>,
}

/// A reference to a task queue, sent to a worker.
#[derive(Debug)]
pub(super) struct TaskQueueRef {
    name: Handle,
    /// The objects the worker must hold to open it.
    parts: Vec<Handle>,
}

impl TaskQueueRef {
    pub(super) fn of(task_queue: &TaskQueue) -> TaskQueueRef {
        TaskQueueRef {
            name: task_queue.handle(),
            parts: task_queue.handles().to_vec(),
        }
    }
}

impl Serialize for TaskQueueRef {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        for part in &self.parts {
            context::attach(part, "Pool").map_err(context::fail_ser)?;
        }
        self.name.to_bytes().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for TaskQueueRef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<TaskQueueRef, D::Error> {
        let name = Handle::from_bytes(&<[u8; 32]>::deserialize(deserializer)?);
        let name = name.map_err(|error| context::fail_de(error.into()))?;
        Ok(TaskQueueRef {
            name,
            parts: Vec::new(),
        })
    }
}

/// A call that every worker makes before its tasks.
#[derive(Clone)]
pub(super) enum Initializer {
    /// In the parent. Encodes the call again for each worker, so that each worker holds the objects in the
    /// arguments.
    Encode(Arc<dyn Fn() -> Result<Vec<u8>, Error> + Send + Sync>),
    /// In the worker.
    Request(Vec<u8>),
}

impl Serialize for Initializer {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Initializer::Encode(encode) => context::nested(|| encode())
                .map_err(context::fail_ser)?
                .serialize(serializer),
            Initializer::Request(_) => {
                Err(S::Error::custom("a worker cannot pass on its initializer"))
            }
        }
    }
}

impl<'de> Deserialize<'de> for Initializer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Initializer, D::Error> {
        Vec::deserialize(deserializer).map(Initializer::Request)
    }
}

impl fmt::Debug for Initializer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Initializer(..)")
    }
}

/// Runs tasks until the queue is closed, or until this worker has done `max_tasks`.
pub(super) fn work(request: WorkerRequest) -> Result<(), Failure> {
    let undelivered = |error: &dyn fmt::Display| Failure::Undelivered(error.to_string());
    let endpoint =
        WorkerEndpoint::open(&request.task_queue.name).map_err(|error| undelivered(&error))?;
    if let Err(failure) = initialize(&endpoint, &request.initializers) {
        endpoint
            .report_failed_initializer(text(&failure).as_bytes())
            .map_err(|error| undelivered(&error))?;
        return Err(failure);
    }
    endpoint
        .report_ready()
        .map_err(|error| undelivered(&error))?;
    // A task's panic is reported as its error, so it is not printed.
    let done =
        panic::without_output(|| run_tasks(&endpoint, request.max_tasks.unwrap_or(u64::MAX)));
    worker_state::drop_state();
    done
}

fn initialize(endpoint: &WorkerEndpoint, initializers: &[Initializer]) -> Result<(), Failure> {
    for initializer in initializers {
        let Initializer::Request(request) = initializer else {
            continue;
        };
        let response = call::run_request(request);
        exit_if_forked_copy(endpoint, response.is_err());
        let response = response.map_err(Failure::Undelivered)?;
        call::next_result::<()>(&mut &response[..])
            .map_err(|error| Failure::Undelivered(error.to_string()))??;
    }
    Ok(())
}

/// Returns what a failure says.
pub(super) fn text(failure: &Failure) -> String {
    match failure {
        Failure::Panicked(panic) => panic.to_string(),
        Failure::Undelivered(reason) => reason.clone(),
    }
}

fn run_tasks(endpoint: &WorkerEndpoint, mut left: u64) -> Result<(), Failure> {
    let undelivered = |error: &dyn fmt::Display| Failure::Undelivered(error.to_string());
    while left > 0 {
        let mut claim = match endpoint.claim(Deadline::NEVER) {
            Ok(claim) => claim,
            Err(GetError::Closed) => return Ok(()),
            Err(GetError::Empty | GetError::Interrupted) => continue,
            Err(error) => {
                exit_if_forked_copy(endpoint, true);
                return Err(undelivered(&error));
            }
        };
        left -= 1;
        let response = call::run_request(claim.bytes());
        exit_if_forked_copy(endpoint, response.is_err());
        let sent = match response {
            Ok(response) => claim.finish(RESPONSE, &[&response]),
            Err(reason) => claim.finish(FAILURE, &[reason.as_bytes()]),
        };
        let status = match sent {
            // No memory for the result; there is enough for the reason.
            Err(PutError::Failed(error)) => claim.finish(FAILURE, &[error.to_string().as_bytes()]),
            sent => sent,
        };
        match status {
            Ok(WorkerStatus::Good) => {}
            Ok(WorkerStatus::Revoked) => wait_to_be_killed(),
            Err(error) => return Err(undelivered(&error)),
        }
    }
    Ok(())
}

/// Exits if this is a copy of the worker that a task forked and that returned from the task. Only the worker
/// itself may deliver the result, claim the next task, and report its end to the pool.
fn exit_if_forked_copy(endpoint: &WorkerEndpoint, failed: bool) {
    if !endpoint.is_here() {
        process::leave_at_once(failed.into());
    }
}

/// Waits to be killed: this worker's task was revoked.
fn wait_to_be_killed() -> ! {
    loop {
        std::thread::park();
    }
}
