//! Takes a message out of a chunk list.
//!
//! A message that lies in its slot is copied first and then taken, READY to DONE. A process that
//! loses the race throws its copy away, and a process that is killed in between took nothing. The
//! block of a large message has to change owner: READY to RECEIVING(me), the block from the slot to
//! this process, RECEIVING(me) to DONE. If the process is killed before the block changes owner,
//! the message is delivered again. Slots that are still being written are stepped over, so that a
//! stopped writer does not hold up the messages of others.

use std::sync::atomic::Ordering;

use crate::arena::Arena;
use crate::arena::cell::BlockId;
use crate::arena::owner::ProcId;
use crate::channel::chunk_list::chunk::Chunk;
use crate::channel::chunk_list::link::Link;
use crate::channel::chunk_list::slot::{Phase, View};
use crate::channel::chunk_list::{CLOSED, JOINABLE, ListCursor, Next};
use crate::channel::message::Message;
use crate::channel::message::message_buf::MessageBuf;
use crate::channel::recovery;
use crate::channel::send::slot_owner;
use crate::deadline::Deadline;
use crate::error::{Error, GetError, Result};
use crate::failpoint;
use crate::process_table::wait_registry;
use crate::process_table::wait_registry::WaitReason;
use crate::retries::Retries;
use crate::sync::spin::Spin;
use crate::sys::futex::Slept;

/// The result of [`get_watching`](super::Queue::get_watching).
#[derive(Debug)]
pub enum Watched {
    /// A message.
    Message(Message),
    /// One of the watched processes is gone.
    Gone(ProcId),
}

impl<'a> ListCursor<'a>
where
    'a: 'static,
{
    /// Receives the first message into `into`. Waits until `deadline`, or until one of `watch` is
    /// gone, and returns that process.
    #[inline]
    pub(super) fn get(
        &self,
        into: &mut Message,
        watch: &[ProcId],
        deadline: Deadline,
        spin: &Spin,
    ) -> Result<Option<ProcId>, GetError> {
        // Read before the messages are looked at: what was put before the queue was closed is
        // received.
        let closed = self.has(CLOSED);
        if self.take(into)? {
            spin.hit();
            return Ok(None);
        }
        if closed {
            return Err(GetError::Closed);
        }
        if deadline == Deadline::NOW && watch.is_empty() {
            return Err(GetError::Empty);
        }
        if let Some(taken) = spin.until(|| self.try_take(into)) {
            return Ok(taken.map(|()| None)?);
        }
        let waited = self.wait_for_message(into, watch, deadline);
        self.chain.items.woke(|| !self.is_empty());
        waited
    }

    fn wait_for_message(
        &self,
        into: &mut Message,
        watch: &[ProcId],
        deadline: Deadline,
    ) -> Result<Option<ProcId>, GetError> {
        let _call = wait_registry::Call::join();
        loop {
            let key = self.chain.items.announce();
            let closed = self.has(CLOSED);
            if self.take(into)? {
                return Ok(None);
            }
            let mut words = vec![(self.chain.items.word(), key)];
            for owner in watch {
                match self.arena.watch_liveness(*owner) {
                    Some(liveness) => words.push(liveness),
                    None => return Ok(Some(*owner)),
                }
            }
            if closed {
                return Err(GetError::Closed);
            }
            if deadline.is_past() {
                return Err(GetError::Empty);
            }
            failpoint::hit("queue.empty");
            if wait_registry::wait_any(WaitReason::Message, &words, deadline) == Slept::Interrupted
            {
                return Err(GetError::Interrupted);
            }
        }
    }

    /// Takes the first message that is ready.
    ///
    /// A slot that is being written is stepped over. It may be published behind the look, and its
    /// sender may then cause another message to be put further on, before the look gets there. So
    /// if a message is found behind such a slot, the slots before it are looked at once more. A
    /// slot that is still being written then cannot have been put first.
    ///
    /// Returns false if there is no message; `into` may have changed all the same.
    #[inline]
    pub(super) fn take(&self, into: &mut Message) -> Result<bool> {
        let mut found = None;
        let mut retries = Retries::default();
        loop {
            match self.take_unless_behind(found, into)? {
                Receiving::Message => return Ok(true),
                Receiving::Nothing => return Ok(false),
                Receiving::Behind(place) => {
                    retries.again()?;
                    found = Some(place);
                }
            }
        }
    }

    /// Like [`ListCursor::take`], for callers that poll.
    #[inline]
    pub(super) fn try_take(&self, into: &mut Message) -> Option<Result<()>> {
        match self.take(into) {
            Ok(true) => Some(Ok(())),
            Ok(false) => None,
            Err(error) => Some(Err(error)),
        }
    }

    /// Takes the first message that is ready, or says where it is if slots before it are being
    /// written. Such slots do not matter for `confirmed`, a place that was ready before this look
    /// began.
    #[inline]
    fn take_unless_behind(
        &self,
        confirmed: Option<Place>,
        into: &mut Message,
    ) -> Result<Receiving> {
        let mut pass = Pass {
            me: self.arena.me(),
            confirmed,
            stepped_over: false,
        };
        let mut next = self.first_to_receive()?;
        let mut retries = Retries::default();
        while let Some(chunk) = next {
            match self.take_from(&chunk, &mut pass, into)? {
                Found::Message => return Ok(Receiving::Message),
                Found::Behind(place) => return Ok(Receiving::Behind(place)),
                Found::Nothing => return Ok(Receiving::Nothing),
                Found::Stale => {
                    retries.again()?;
                    next = self.first_from_head()?;
                }
                Found::End { finished } => {
                    next = match self.after(&chunk)? {
                        Next::End => None,
                        Next::Stale => {
                            retries.again()?;
                            self.first_from_head()?
                        }
                        Next::Chunk(after) => {
                            if finished {
                                self.retire(&chunk)?;
                            }
                            Some(after)
                        }
                    };
                }
            }
        }
        Ok(Receiving::Nothing)
    }

    #[inline]
    fn take_from(&self, chunk: &Chunk<'a>, pass: &mut Pass, into: &mut Message) -> Result<Found> {
        let hint = &chunk.header.received;
        let mut index = hint.begin(chunk);
        // Whether all slots up to here are finished; and if not, how many consecutive ones are.
        let mut finished = true;
        let mut run = 0;
        let mut retries = Retries::default();
        while index < chunk.count {
            let mut view = recovery::look(self, chunk, index);
            while view == View::In(Phase::Ready) {
                let place = (chunk.link, index);
                if pass.stepped_over && pass.confirmed != Some(place) {
                    return Ok(Found::Behind(place));
                }
                if self.take_one(chunk, index, pass.me, into)? {
                    if finished {
                        hint.set(chunk, index + 1);
                    }
                    return Ok(Found::Message);
                }
                retries.again()?;
                view = recovery::look(self, chunk, index);
            }
            match view {
                View::Empty => return Ok(Found::Nothing),
                View::Stale => return Ok(Found::Stale),
                View::In(phase) => {
                    finished &= phase.is_finished();
                    if matches!(phase, Phase::Reserved(_)) {
                        pass.stepped_over = true;
                        failpoint::hit("queue.stepped_over");
                    }
                    index = match finished {
                        true => index + 1,
                        false => chunk.step_behind(index, phase.is_finished(), &mut run),
                    };
                }
            }
        }
        Ok(Found::End { finished })
    }

    /// Takes the message out of a slot that was READY. Returns false if another process was faster.
    #[inline]
    fn take_one(
        &self,
        chunk: &Chunk<'a>,
        index: u32,
        me: ProcId,
        into: &mut Message,
    ) -> Result<bool> {
        let slot = chunk.slot(index);
        // Copy both before checking them: another process wrote them and may change them.
        let length = slot.length.load(Ordering::Relaxed);
        if let Some(block) = BlockId::new(slot.block.load(Ordering::Acquire)) {
            return self.take_large(chunk, index, me, block, length, into);
        }
        into.copy_from(chunk, index, length);
        failpoint::hit("queue.copied");
        let is_task = self.has(JOINABLE);
        if is_task {
            self.begin_task()?;
        }
        let taken = slot.word.pass(chunk.inc(), Phase::Ready, Phase::Done);
        failpoint::hit("queue.received");
        if is_task {
            self.end_task(taken)?;
        }
        if taken {
            self.chain.space.notify(1);
        }
        Ok(taken)
    }

    #[inline(never)]
    fn take_large(
        &self,
        chunk: &Chunk<'a>,
        index: u32,
        me: ProcId,
        block: BlockId,
        length: u64,
        into: &mut Message,
    ) -> Result<bool> {
        let slot = chunk.slot(index);
        let inc = chunk.inc();
        let is_task = self.has(JOINABLE);
        if is_task {
            self.begin_task()?;
        }
        if !slot.word.pass(inc, Phase::Ready, Phase::Receiving(me)) {
            if is_task {
                self.end_task(false)?;
            }
            return Ok(false);
        }
        failpoint::hit("queue.taken");
        let message = self.take_over_block(chunk, index, block, length);
        slot.word.pass(inc, Phase::Receiving(me), Phase::Done);
        failpoint::hit("queue.handed");
        if is_task {
            self.end_task(true)?;
        }
        self.chain.space.notify(1);
        *into = message?;
        Ok(true)
    }

    /// Makes this process the owner of a large message's block.
    fn take_over_block(
        &self,
        chunk: &Chunk<'a>,
        index: u32,
        block: BlockId,
        length: u64,
    ) -> Result<Message> {
        let arena: &'static Arena = self.arena;
        let mine = arena.mine();
        let cell = arena.cell(block)?;
        if !arena.claim(block, cell, slot_owner(chunk, index), mine) {
            return Err(Error::BadHandle);
        }
        failpoint::hit("queue.block_owned");
        let start = arena.attachment_offset(block).unwrap_or(0);
        if length > arena.capacity(block) || start as u64 > length {
            arena.free(block, mine);
            return Err(Error::BadHandle);
        }
        let buf = MessageBuf::received(arena, block, mine, start..length as usize);
        Ok(Message::long(buf))
    }
}

/// A slot, in one generation of its chunk.
type Place = (Link, u32);

/// One pass over the slots, oldest first.
struct Pass {
    me: ProcId,
    /// Where a message was ready before the pass began.
    confirmed: Option<Place>,
    /// Whether some slot was being written when it was looked at.
    stepped_over: bool,
}

/// The result of looking for a message.
enum Receiving {
    Message,
    Nothing,
    /// One is here, but slots before it were being written.
    Behind(Place),
}

enum Found {
    Message,
    /// A message is here, but slots before it were being written.
    Behind(Place),
    /// No slot behind this one was claimed yet.
    Nothing,
    Stale,
    /// The end of the chunk, and whether all its slots are finished.
    End {
        finished: bool,
    },
}
