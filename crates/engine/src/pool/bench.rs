//! The worker's side of a board.

use crate::Handle;
use crate::arena::waits::{self, What};
use crate::channel::{Draft, Queue};
use crate::deadline::{Deadline, monotonic_ns};
use crate::error::{Error, GetError, PutError, Result};
use crate::kill;
use crate::sync::spin::Spin;
use crate::sys::atomic::Ordering;
use crate::sys::futex::Slept;
use crate::{Held, OwnerId, process};

use super::ground::{Ground, Payload};
use super::record::{self, Closing};
use super::reply::{self, Tone};
use super::tickets::{self, Ticket, Words};

/// Where a worker takes tasks and hands in results.
#[derive(Debug)]
pub struct Workbench {
    ground: Ground,
    results: Queue,
    me: OwnerId,
    spin: Spin,
}

/// A task that this worker has, and that nobody else will get while it lives.
///
/// Dropped without [`Claim::finish`], the task is reported as abandoned.
#[derive(Debug)]
pub struct Claim<'a> {
    bench: &'a Workbench,
    ticket: Ticket,
    job: u64,
    index: u64,
    attempt: u32,
    payload: Payload,
    open: bool,
}

/// Whether a worker may go on after a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It may claim the next task.
    Good,
    /// Its task was cancelled or overdue; the worker is about to be killed and must not claim again.
    Doomed,
}

impl Workbench {
    /// The workbench of the board with this handle.
    pub fn open(handle: &Handle) -> Result<Workbench> {
        let (ground, results) = Ground::open(handle)?;
        Ok(Workbench {
            ground,
            results: Queue::open(&results)?,
            me: process::me(),
            spin: Spin::default(),
        })
    }

    /// Takes the next task, waiting for one until `deadline`.
    ///
    /// `Closed` when the board is closed and all tasks are claimed, or when this worker was dismissed; `Empty`
    /// when the time is over; [`Error::NotTheWorker`] in a copy of the worker that a task forked, as from all that
    /// would send something in the worker's name.
    pub fn claim(&self, deadline: Deadline) -> std::result::Result<Claim<'_>, GetError> {
        let mut call = None;
        loop {
            self.check_here().map_err(GetError::Failed)?;
            if self.ground.is_dismissed(self.me) {
                return Err(GetError::Closed);
            }
            if let Some(claim) = self.look().map_err(GetError::Failed)? {
                return Ok(claim);
            }
            if deadline == Deadline::NOW && !self.ground.is_closed() {
                return Err(GetError::Empty);
            }
            if self
                .spin
                .until(|| tickets::are_there(&self.ground).then_some(()))
                .is_some()
            {
                continue;
            }
            let seen = tickets::announce_sleep(&self.ground);
            if self.ground.is_dismissed(self.me) {
                continue;
            }
            // The order matters: what was offered before the board was closed is still given out.
            let closed = self.ground.is_closed();
            if let Some(claim) = self.look().map_err(GetError::Failed)? {
                return Ok(claim);
            }
            if closed {
                return Err(GetError::Closed);
            }
            if deadline.is_past() {
                return Err(GetError::Empty);
            }
            call.get_or_insert_with(waits::Call::join);
            if waits::wait(What::Task, self.ground.bell().word(), seen, deadline)
                == Slept::Interrupted
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
        let claimed = || kill::point("pool.claimed");
        let Some(ticket) = tickets::take(&self.ground, self.me.as_u32(), claimed) else {
            return Ok(None);
        };
        kill::point("pool.head_moved");
        self.ground
            .started_at(ticket.number)
            .store(monotonic_ns(), Ordering::Relaxed);
        let fields = self.ground.read(ticket.number);
        let mut claim = Claim {
            bench: self,
            ticket,
            job: fields.job,
            index: fields.index,
            attempt: fields.attempt,
            payload: Payload::Spilled(Vec::new()),
            open: true,
        };
        match self.ground.payload(ticket.number, fields.length) {
            Ok(payload) => claim.payload = payload,
            // Withdrawn with its whole board meanwhile: the claim, dropped here, says so.
            Err(Error::StaleHandle) => return Ok(None),
            Err(error) => return Err(error),
        }
        kill::point("pool.running");
        Ok(Some(claim))
    }

    /// Says something outside of any task; it comes out of the board's `next_event`.
    pub fn notify(&self, verdict: u8, parts: &[&[u8]]) -> std::result::Result<(), PutError> {
        let nothing = Ticket {
            number: u32::MAX,
            generation: 0,
        };
        self.send(Tone::Notice, verdict, nothing, parts, &[])
    }

    fn send(
        &self,
        tone: Tone,
        verdict: u8,
        ticket: Ticket,
        parts: &[&[u8]],
        objects: &[Held],
    ) -> std::result::Result<(), PutError> {
        self.check_here()?;
        let header = reply::header(tone, verdict, self.me, ticket);
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

    fn put(&self, parts: &[&[u8]], objects: &[Held]) -> std::result::Result<(), PutError> {
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
        let ground = &self.bench.ground;
        let number = self.ticket.number;
        ground.position(number).store(position, Ordering::Relaxed);
        if afresh {
            ground
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
    ) -> std::result::Result<Standing, PutError> {
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
        objects: &[Held],
    ) -> std::result::Result<Standing, PutError> {
        kill::point("pool.done");
        self.bench
            .send(Tone::Result, verdict, self.ticket, parts, objects)?;
        kill::point("pool.result_sent");
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
        draft: &mut Option<Draft>,
    ) -> std::result::Result<Standing, PutError> {
        self.bench.check_here()?;
        let head = reply::header(Tone::Result, verdict, self.bench.me, self.ticket);
        if let Some(draft) = draft {
            draft.bytes_mut()[..reply::HEADER].copy_from_slice(&head);
        }
        kill::point("pool.done");
        loop {
            match self.bench.results.put_draft(draft, Deadline::NEVER) {
                Err(PutError::Interrupted) => {}
                done => break done?,
            }
        }
        kill::point("pool.result_sent");
        Ok(self.close())
    }

    /// Lets the task go down with this worker, which is about to exit.
    pub fn leave_unfinished(mut self) {
        self.open = false;
    }

    fn close(&mut self) -> Standing {
        self.open = false;
        let word = self.bench.ground.state(self.ticket.number);
        let closing = record::finish(word, self.ticket.generation, self.bench.me.as_u32());
        kill::point("pool.finished");
        match closing {
            Closing::Done => Standing::Good,
            Closing::Doomed => Standing::Doomed,
        }
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        if self.open
            && self
                .bench
                .send(Tone::Abandoned, 0, self.ticket, &[], &[])
                .is_ok()
        {
            self.close();
        }
    }
}
