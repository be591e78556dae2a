//! The worker's side of a task queue.

use crate::arena::owner::ProcId;
use crate::channel::{MessageBuf, Queue};
use crate::deadline::{Deadline, monotonic_ns};
use crate::error::{Error, GetError, PutError, Result};
use crate::failpoint;
use crate::objects::handle::Handle;
use crate::objects::object_ref::ObjectRef;
use crate::process;
use crate::process_table::wait_registry;
use crate::process_table::wait_registry::WaitReason;
use crate::sync::spin::Spin;
use crate::sys::atomic::Ordering;
use crate::sys::futex::Slept;

use super::layout::{Payload, SharedState};
use super::message::{self, MessageKind};
use super::record::{self, Closing};
use super::ring::{self, RingMemory, RingSlot};

/// Where a worker claims tasks and sends their results.
#[derive(Debug)]
pub struct WorkerEndpoint {
    shared: SharedState,
    results: Queue,
    me: ProcId,
    spin: Spin,
}

/// A task that this worker has claimed. No other worker gets it while this one lives.
///
/// A claim that is dropped without [`Claim::finish`] reports its task as abandoned.
#[derive(Debug)]
pub struct Claim<'a> {
    endpoint: &'a WorkerEndpoint,
    ring_slot: RingSlot,
    job: u64,
    index: u64,
    attempt: u32,
    payload: Payload,
    open: bool,
}

/// Whether a worker may go on after a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkerStatus {
    /// It may claim the next task.
    Good,
    /// Its task was cancelled or overdue. The worker is about to be killed and must not claim again.
    Revoked,
}

impl WorkerEndpoint {
    /// Opens the worker's end of the task queue with this handle.
    pub fn open(handle: &Handle) -> Result<WorkerEndpoint> {
        let (shared, results) = SharedState::open(handle)?;
        Ok(WorkerEndpoint {
            shared,
            results: Queue::open(&results)?,
            me: process::me(),
            spin: Spin::default(),
        })
    }

    /// Claims the next task, waiting for one until `deadline`.
    ///
    /// # Errors
    /// `Closed` when the task queue is closed and all tasks are claimed, or when this worker was dismissed; `Empty` at
    /// `deadline`; [`Error::NotTheWorker`] in a copy of the worker that a task forked. All methods that would send
    /// something in the worker's name return that last error, too.
    pub fn claim(&self, deadline: Deadline) -> std::result::Result<Claim<'_>, GetError> {
        let mut call = None;
        loop {
            self.check_is_worker().map_err(GetError::Failed)?;
            if self.shared.is_dismissed(self.me) {
                return Err(GetError::Closed);
            }
            if let Some(claim) = self.try_claim().map_err(GetError::Failed)? {
                return Ok(claim);
            }
            if deadline == Deadline::NOW && !self.shared.is_closed() {
                return Err(GetError::Empty);
            }
            if self
                .spin
                .until(|| ring::has_tasks(&self.shared).then_some(()))
                .is_some()
            {
                continue;
            }
            let seen = self.shared.doorbell().announce_fenced();
            if self.shared.is_dismissed(self.me) {
                continue;
            }
            // The order matters: a task that was offered before the task queue was closed is still claimed.
            let closed = self.shared.is_closed();
            if let Some(claim) = self.try_claim().map_err(GetError::Failed)? {
                return Ok(claim);
            }
            if closed {
                return Err(GetError::Closed);
            }
            if deadline.is_past() {
                return Err(GetError::Empty);
            }
            call.get_or_insert_with(wait_registry::Call::join);
            if wait_registry::wait(
                WaitReason::Task,
                self.shared.doorbell().word(),
                seen,
                deadline,
            ) == Slept::Interrupted
            {
                return Err(GetError::Interrupted);
            }
        }
    }

    /// Whether this process is the worker, and not a copy of it that a task forked.
    #[inline]
    pub fn is_here(&self) -> bool {
        process::me() == self.me
    }

    fn check_is_worker(&self) -> Result<()> {
        match self.is_here() {
            true => Ok(()),
            false => Err(Error::NotTheWorker),
        }
    }

    fn try_claim(&self) -> Result<Option<Claim<'_>>> {
        let claimed = || failpoint::hit("pool.claimed");
        let Some(ring_slot) = ring::take(&self.shared, self.me.as_u32(), claimed) else {
            return Ok(None);
        };
        failpoint::hit("pool.head_moved");
        self.shared
            .started_at(ring_slot.number)
            .store(monotonic_ns(), Ordering::Relaxed);
        let fields = self.shared.read(ring_slot.number);
        let mut claim = Claim {
            endpoint: self,
            ring_slot,
            job: fields.job,
            index: fields.index,
            attempt: fields.attempt,
            payload: Payload::Spilled(Vec::new()),
            open: true,
        };
        match self.shared.payload(ring_slot.number, fields.length) {
            Ok(payload) => claim.payload = payload,
            // The whole task queue was withdrawn meanwhile: the claim, dropped here, reports that.
            Err(Error::StaleHandle) => return Ok(None),
            Err(error) => return Err(error),
        }
        failpoint::hit("pool.running");
        Ok(Some(claim))
    }

    /// Sends a message outside of any task. `next_event` of the task queue reports it.
    pub fn notify(&self, result_kind: u8, parts: &[&[u8]]) -> std::result::Result<(), PutError> {
        let nothing = RingSlot {
            number: u32::MAX,
            generation: 0,
        };
        self.send(MessageKind::Notice, result_kind, nothing, parts, &[])
    }

    /// Reports that this worker can work.
    pub fn report_ready(&self) -> std::result::Result<(), PutError> {
        self.notify(message::READY, &[])
    }

    /// Reports that the initializer failed. The supervisor passes the reason on.
    pub fn report_failed_initializer(&self, reason: &[u8]) -> std::result::Result<(), PutError> {
        self.notify(message::INITIALIZER_FAILED, &[reason])
    }

    fn send(
        &self,
        kind: MessageKind,
        result_kind: u8,
        ring_slot: RingSlot,
        parts: &[&[u8]],
        objects: &[ObjectRef],
    ) -> std::result::Result<(), PutError> {
        self.check_is_worker()?;
        let header = message::header(kind, result_kind, self.me, ring_slot);
        match parts {
            // Nearly every call has at most one part: no need to allocate.
            [] => self.put(&[&header], objects),
            [only] => self.put(&[&header, only], objects),
            _ => {
                let mut all: Vec<&[u8]> = vec![&header];
                all.extend_from_slice(parts);
                self.put(&all, objects)
            }
        }
    }

    fn put(&self, parts: &[&[u8]], objects: &[ObjectRef]) -> std::result::Result<(), PutError> {
        loop {
            // The queue is unbounded, so it never makes the worker wait; a signal changes nothing.
            match self.results.put_with(parts, objects, Deadline::NEVER) {
                Err(PutError::Interrupted) => {}
                done => return done,
            }
        }
    }
}

impl Claim<'_> {
    /// The number that the submitter gave the job.
    pub fn job(&self) -> u64 {
        self.job
    }

    /// The number that the submitter gave the task within its job.
    pub fn index(&self) -> u64 {
        self.index
    }

    /// Records the position of the task's item that comes next. Returns false in a copy of the worker, which does not
    /// own the item. With `restart_limit`, the task's time limit starts again.
    #[inline]
    pub fn note_item(&self, position: u32, restart_limit: bool) -> bool {
        if !self.endpoint.is_here() {
            return false;
        }
        let shared = &self.endpoint.shared;
        let number = self.ring_slot.number;
        shared.position(number).store(position, Ordering::Relaxed);
        if restart_limit {
            shared
                .started_at(number)
                .store(monotonic_ns(), Ordering::Relaxed);
        }
        true
    }

    /// How many workers have died over this task before.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// The payload that the submitter passed.
    pub fn bytes(&self) -> &[u8] {
        match &self.payload {
            Payload::Inline(bytes, length) => &bytes[..*length],
            Payload::Spilled(bytes) => bytes,
        }
    }

    /// Sends the result. `result_kind` is the caller's own value, and is reported with the result.
    ///
    /// # Errors
    /// On an error nothing was sent; the caller may try another, smaller result.
    pub fn finish(
        &mut self,
        result_kind: u8,
        parts: &[&[u8]],
    ) -> std::result::Result<WorkerStatus, PutError> {
        self.finish_with(result_kind, parts, &[])
    }

    /// As [`Claim::finish`], with objects that stay alive until the submitter has dropped the result.
    ///
    /// # Errors
    /// As [`Claim::finish`].
    pub fn finish_with(
        &mut self,
        result_kind: u8,
        parts: &[&[u8]],
        objects: &[ObjectRef],
    ) -> std::result::Result<WorkerStatus, PutError> {
        failpoint::hit("pool.done");
        self.endpoint.send(
            MessageKind::Result,
            result_kind,
            self.ring_slot,
            parts,
            objects,
        )?;
        failpoint::hit("pool.result_sent");
        Ok(self.close())
    }

    /// As [`Claim::finish`], with a result that the caller has written into a message buffer already, behind the first
    /// [`RESULT_HEAD`](super::RESULT_HEAD) bytes, which are not the caller's. Takes the buffer when it is sent.
    ///
    /// # Errors
    /// As [`Claim::finish`].
    pub fn finish_buf(
        &mut self,
        result_kind: u8,
        message: &mut Option<MessageBuf>,
    ) -> std::result::Result<WorkerStatus, PutError> {
        self.endpoint.check_is_worker()?;
        let head = message::header(
            MessageKind::Result,
            result_kind,
            self.endpoint.me,
            self.ring_slot,
        );
        if let Some(message) = message {
            message.bytes_mut()[..message::HEADER].copy_from_slice(&head);
        }
        failpoint::hit("pool.done");
        loop {
            match self.endpoint.results.put_buf(message, Deadline::NEVER) {
                Err(PutError::Interrupted) => {}
                done => break done?,
            }
        }
        failpoint::hit("pool.result_sent");
        Ok(self.close())
    }

    /// Leaves the task to be lost with this worker, which is about to exit.
    pub fn leave_unfinished(mut self) {
        self.open = false;
    }

    fn close(&mut self) -> WorkerStatus {
        self.open = false;
        let word = self.endpoint.shared.state(self.ring_slot.number);
        let closing = record::finish(word, self.ring_slot.generation, self.endpoint.me.as_u32());
        failpoint::hit("pool.finished");
        match closing {
            Closing::Done => WorkerStatus::Good,
            Closing::Revoked => WorkerStatus::Revoked,
        }
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        if self.open
            && self
                .endpoint
                .send(MessageKind::Abandoned, 0, self.ring_slot, &[], &[])
                .is_ok()
        {
            self.close();
        }
    }
}
