//! The worker's side of a task queue.

use crate::Handle;
use crate::channel::{MessageBuf, Queue};
use crate::deadline::{Deadline, monotonic_ns};
use crate::error::{Error, GetError, PutError, Result};
use crate::failpoint;
use crate::process::wait_registry;
use crate::process::wait_registry::WaitReason;
use crate::sync::spin::Spin;
use crate::sys::atomic::Ordering;
use crate::sys::futex::Slept;
use crate::{ObjectRef, ProcId, process};

use super::layout::{Payload, SharedState};
use super::message::{self, MessageKind};
use super::record::{self, Closing};
use super::ring::{self, RingMemory, RingSlot};

/// Where a worker takes tasks and hands in results.
#[derive(Debug)]
pub struct WorkerEndpoint {
    shared: SharedState,
    results: Queue,
    me: ProcId,
    spin: Spin,
}

/// A task that this worker has, and that nobody else will get while it lives.
///
/// Dropped without [`Claim::finish`], the task is reported as abandoned.
#[derive(Debug)]
pub struct Claim<'a> {
    bench: &'a WorkerEndpoint,
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
    /// Its task was cancelled or overdue; the worker is about to be killed and must not claim again.
    Revoked,
}

impl WorkerEndpoint {
    /// The workbench of the task queue with this handle.
    pub fn open(handle: &Handle) -> Result<WorkerEndpoint> {
        let (shared, results) = SharedState::open(handle)?;
        Ok(WorkerEndpoint {
            shared,
            results: Queue::open(&results)?,
            me: process::me(),
            spin: Spin::default(),
        })
    }

    /// Takes the next task, waiting for one until `deadline`.
    ///
    /// `Closed` when the task queue is closed and all tasks are claimed, or when this worker was dismissed; `Empty`
    /// when the time is over; [`Error::NotTheWorker`] in a copy of the worker that a task forked, as from all that
    /// would send something in the worker's name.
    pub fn claim(&self, deadline: Deadline) -> std::result::Result<Claim<'_>, GetError> {
        let mut call = None;
        loop {
            self.check_here().map_err(GetError::Failed)?;
            if self.shared.is_dismissed(self.me) {
                return Err(GetError::Closed);
            }
            if let Some(claim) = self.look().map_err(GetError::Failed)? {
                return Ok(claim);
            }
            if deadline == Deadline::NOW && !self.shared.is_closed() {
                return Err(GetError::Empty);
            }
            if self
                .spin
                .until(|| ring::are_there(&self.shared).then_some(()))
                .is_some()
            {
                continue;
            }
            let seen = ring::announce_sleep(&self.shared);
            if self.shared.is_dismissed(self.me) {
                continue;
            }
            // The order matters: what was offered before the task queue was closed is still given out.
            let closed = self.shared.is_closed();
            if let Some(claim) = self.look().map_err(GetError::Failed)? {
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

    fn check_here(&self) -> Result<()> {
        match self.is_here() {
            true => Ok(()),
            false => Err(Error::NotTheWorker),
        }
    }

    fn look(&self) -> Result<Option<Claim<'_>>> {
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
            bench: self,
            ring_slot,
            job: fields.job,
            index: fields.index,
            attempt: fields.attempt,
            payload: Payload::Spilled(Vec::new()),
            open: true,
        };
        match self.shared.payload(ring_slot.number, fields.length) {
            Ok(payload) => claim.payload = payload,
            // Withdrawn with its whole task queue meanwhile: the claim, dropped here, says so.
            Err(Error::StaleHandle) => return Ok(None),
            Err(error) => return Err(error),
        }
        failpoint::hit("pool.running");
        Ok(Some(claim))
    }

    /// Says something outside of any task; it comes out of the task queue's `next_event`.
    pub fn notify(&self, verdict: u8, parts: &[&[u8]]) -> std::result::Result<(), PutError> {
        let nothing = RingSlot {
            number: u32::MAX,
            generation: 0,
        };
        self.send(MessageKind::Notice, verdict, nothing, parts, &[])
    }

    fn send(
        &self,
        tone: MessageKind,
        verdict: u8,
        ring_slot: RingSlot,
        parts: &[&[u8]],
        objects: &[ObjectRef],
    ) -> std::result::Result<(), PutError> {
        self.check_here()?;
        let header = message::header(tone, verdict, self.me, ring_slot);
        match parts {
            // Without a detour over the heap for what nearly every call is.
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
    /// The number the submitter gave the job.
    pub fn job(&self) -> u64 {
        self.job
    }

    /// The number the submitter gave the task within its job.
    pub fn index(&self) -> u64 {
        self.index
    }

    /// Says which of the task's items comes next; false in a copy of the worker, whose item it is not. With `afresh`,
    /// the task's time limit starts again.
    #[inline]
    pub fn note_item(&self, position: u32, afresh: bool) -> bool {
        if !self.bench.is_here() {
            return false;
        }
        let shared = &self.bench.shared;
        let number = self.ring_slot.number;
        shared.position(number).store(position, Ordering::Relaxed);
        if afresh {
            shared
                .started_at(number)
                .store(monotonic_ns(), Ordering::Relaxed);
        }
        true
    }

    /// How many workers died over this task before.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// What the submitter passed along.
    pub fn bytes(&self) -> &[u8] {
        match &self.payload {
            Payload::Inline(bytes, length) => &bytes[..*length],
            Payload::Spilled(bytes) => bytes,
        }
    }

    /// Hands in the result; `verdict` is the caller's, and comes out with it.
    ///
    /// On an error nothing was handed in, and another, smaller result may be tried.
    pub fn finish(
        &mut self,
        verdict: u8,
        parts: &[&[u8]],
    ) -> std::result::Result<WorkerStatus, PutError> {
        self.finish_with(verdict, parts, &[])
    }

    /// As [`Claim::finish`], with objects that stay alive until the submitter has dropped the result.
    ///
    /// # Errors
    /// As [`Claim::finish`].
    pub fn finish_with(
        &mut self,
        verdict: u8,
        parts: &[&[u8]],
        objects: &[ObjectRef],
    ) -> std::result::Result<WorkerStatus, PutError> {
        failpoint::hit("pool.done");
        self.bench
            .send(MessageKind::Result, verdict, self.ring_slot, parts, objects)?;
        failpoint::hit("pool.result_sent");
        Ok(self.close())
    }

    /// As [`Claim::finish`], with a result that was written already: to the draft's bytes, behind the first
    /// [`RESULT_HEAD`](super::RESULT_HEAD), which are not the caller's. The draft is taken when it is handed in.
    ///
    /// # Errors
    /// As [`Claim::finish`].
    pub fn finish_draft(
        &mut self,
        verdict: u8,
        draft: &mut Option<MessageBuf>,
    ) -> std::result::Result<WorkerStatus, PutError> {
        self.bench.check_here()?;
        let head = message::header(MessageKind::Result, verdict, self.bench.me, self.ring_slot);
        if let Some(draft) = draft {
            draft.bytes_mut()[..message::HEADER].copy_from_slice(&head);
        }
        failpoint::hit("pool.done");
        loop {
            match self.bench.results.put_draft(draft, Deadline::NEVER) {
                Err(PutError::Interrupted) => {}
                done => break done?,
            }
        }
        failpoint::hit("pool.result_sent");
        Ok(self.close())
    }

    /// Lets the task go down with this worker, which is about to exit.
    pub fn leave_unfinished(mut self) {
        self.open = false;
    }

    fn close(&mut self) -> WorkerStatus {
        self.open = false;
        let word = self.bench.shared.state(self.ring_slot.number);
        let closing = record::finish(word, self.ring_slot.generation, self.bench.me.as_u32());
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
                .bench
                .send(MessageKind::Abandoned, 0, self.ring_slot, &[], &[])
                .is_ok()
        {
            self.close();
        }
    }
}
