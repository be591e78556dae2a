//! Taking a message out of a chain.
//!
//! A message that lies in its slot is copied first and then taken, READY to DONE: who was not the one
//! to take it throws its copy away, and who is killed in between took nothing. The block of a large
//! message has to change hands: READY to TAKEN(me), the block from the slot to this process, TAKEN(me)
//! to DONE; killed before its block is handed over, the message is given again. Slots that are still
//! being written are stepped over, so that a writer that was stopped holds up nobody else's messages.

use std::sync::atomic::Ordering;

use super::chain::{At, CLOSED, JOINABLE, Next};
use super::link::Link;
use super::message::Message;
use super::repair;
use super::send::slot_owner;
use super::slot::{Phase, View};
use super::strip::Strip;
use crate::arena::Arena;
use crate::arena::block::BlockId;
use crate::arena::owner::OwnerId;
use crate::arena::waits::{self, What};
use crate::deadline::Deadline;
use crate::error::{Error, GetError, Result};
use crate::kill;
use crate::retries::Retries;
use crate::sync::spin::Spin;
use crate::sys::futex::Slept;

/// What [`get_watching`](super::Queue::get_watching) came back with.
#[derive(Debug)]
pub enum Watched {
    /// A message.
    Message(Message),
    /// One of the processes watched is gone.
    Gone(OwnerId),
}

impl<'a> At<'a>
where
    'a: 'static,
{
    /// Receives the first message into `into`, waiting until `deadline` or until one of `watch` is gone,
    /// which is then returned.
    #[inline]
    pub(super) fn get(
        &self,
        into: &mut Message,
        watch: &[OwnerId],
        deadline: Deadline,
        spin: &Spin,
    ) -> Result<Option<OwnerId>, GetError> {
        // Asked before the messages are looked at: what was put before it was closed is received.
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
        watch: &[OwnerId],
        deadline: Deadline,
    ) -> Result<Option<OwnerId>, GetError> {
        let _call = waits::Call::join();
        loop {
            let key = self.chain.items.announce();
            let closed = self.has(CLOSED);
            if self.take(into)? {
                return Ok(None);
            }
            let mut words = vec![(self.chain.items.word(), key)];
            for owner in watch {
                match self.arena.watch_life(*owner) {
                    Some(life) => words.push(life),
                    None => return Ok(Some(*owner)),
                }
            }
            if closed {
                return Err(GetError::Closed);
            }
            if deadline.is_past() {
                return Err(GetError::Empty);
            }
            kill::point("queue.empty");
            if waits::wait_any(What::Message, &words, deadline) == Slept::Interrupted {
                return Err(GetError::Interrupted);
            }
        }
    }

    /// Takes the first message that is ready.
    ///
    /// A slot that is being written is stepped over, and may be written, and what comes after it put as a
    /// consequence, before that is looked at. So when a message is found behind such a slot, the slots
    /// before it are looked at once more: none that is still being written then can have been put first.
    ///
    /// False when there is none; `into` may have changed all the same.
    #[inline]
    pub(super) fn take(&self, into: &mut Message) -> Result<bool> {
        let mut found = None;
        let mut retries = Retries::default();
        loop {
            match self.take_unless_behind(found, into)? {
                Taken::Message => return Ok(true),
                Taken::Nothing => return Ok(false),
                Taken::Behind(place) => {
                    retries.again()?;
                    found = Some(place);
                }
            }
        }
    }

    /// As [`At::take`], for those who ask until there is something to say.
    #[inline]
    pub(super) fn try_take(&self, into: &mut Message) -> Option<Result<()>> {
        match self.take(into) {
            Ok(true) => Some(Ok(())),
            Ok(false) => None,
            Err(error) => Some(Err(error)),
        }
    }

    /// Takes the first message that is ready, or says where it is if slots before it are being written.
    /// That is no hindrance for the place `confirmed`, which was ready before this look began.
    #[inline]
    fn take_unless_behind(&self, confirmed: Option<Place>, into: &mut Message) -> Result<Taken> {
        let mut look = Look {
            me: self.arena.me(),
            confirmed,
            stepped_over: false,
        };
        let mut next = self.first_to_receive()?;
        let mut retries = Retries::default();
        while let Some(strip) = next {
            match self.take_from(&strip, &mut look, into)? {
                Found::Message => return Ok(Taken::Message),
                Found::Behind(place) => return Ok(Taken::Behind(place)),
                Found::Nothing => return Ok(Taken::Nothing),
                Found::Stale => {
                    retries.again()?;
                    next = self.first_anew()?;
                }
                Found::End { over } => {
                    next = match self.after(&strip)? {
                        Next::End => None,
                        Next::Stale => {
                            retries.again()?;
                            self.first_anew()?
                        }
                        Next::Strip(after) => {
                            if over {
                                self.retire(&strip)?;
                            }
                            Some(after)
                        }
                    };
                }
            }
        }
        Ok(Taken::Nothing)
    }

    #[inline]
    fn take_from(&self, strip: &Strip<'a>, look: &mut Look, into: &mut Message) -> Result<Found> {
        let hint = &strip.header.received;
        let mut index = hint.begin(strip);
        // Whether nothing will happen any more in all the slots up to here; and in how many, where not in all.
        let mut over = true;
        let mut run = 0;
        let mut retries = Retries::default();
        while index < strip.count {
            let mut view = repair::look(self, strip, index);
            while view == View::In(Phase::Ready) {
                let place = (strip.link, index);
                if look.stepped_over && look.confirmed != Some(place) {
                    return Ok(Found::Behind(place));
                }
                if self.take_one(strip, index, look.me, into)? {
                    if over {
                        hint.set(strip, index + 1);
                    }
                    return Ok(Found::Message);
                }
                retries.again()?;
                view = repair::look(self, strip, index);
            }
            match view {
                View::Empty => return Ok(Found::Nothing),
                View::Stale => return Ok(Found::Stale),
                View::In(phase) => {
                    over &= phase.is_over();
                    if matches!(phase, Phase::Claimed(_)) {
                        look.stepped_over = true;
                        kill::point("queue.stepped_over");
                    }
                    index = match over {
                        true => index + 1,
                        false => strip.step_behind(index, phase.is_over(), &mut run),
                    };
                }
            }
        }
        Ok(Found::End { over })
    }

    /// Takes the message out of a slot that was READY; false when somebody else was faster.
    #[inline]
    fn take_one(
        &self,
        strip: &Strip<'a>,
        index: u32,
        me: OwnerId,
        into: &mut Message,
    ) -> Result<bool> {
        let slot = strip.slot(index);
        // Both are copied before they are checked: what another process wrote may change.
        let length = slot.length.load(Ordering::Relaxed);
        if let Some(block) = BlockId::new(slot.block.load(Ordering::Acquire)) {
            return self.take_large(strip, index, me, block, length, into);
        }
        into.copy_from(strip, index, length);
        kill::point("queue.copied");
        let is_task = self.has(JOINABLE);
        if is_task {
            self.begin_task()?;
        }
        let taken = slot.word.pass(strip.inc(), Phase::Ready, Phase::Done);
        kill::point("queue.received");
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
        strip: &Strip<'a>,
        index: u32,
        me: OwnerId,
        block: BlockId,
        length: u64,
        into: &mut Message,
    ) -> Result<bool> {
        let slot = strip.slot(index);
        let inc = strip.inc();
        let is_task = self.has(JOINABLE);
        if is_task {
            self.begin_task()?;
        }
        if !slot.word.pass(inc, Phase::Ready, Phase::Taken(me)) {
            if is_task {
                self.end_task(false)?;
            }
            return Ok(false);
        }
        kill::point("queue.taken");
        let message = self.unwrap(strip, index, block, length);
        slot.word.pass(inc, Phase::Taken(me), Phase::Done);
        kill::point("queue.handed");
        if is_task {
            self.end_task(true)?;
        }
        self.chain.space.notify(1);
        *into = message?;
        Ok(true)
    }

    /// Makes a large message's block this process's own.
    fn unwrap(
        &self,
        strip: &Strip<'a>,
        index: u32,
        block: BlockId,
        length: u64,
    ) -> Result<Message> {
        let arena: &'static Arena = self.arena;
        let mine = arena.mine();
        let cell = arena.cell(block)?;
        if !arena.claim(block, cell, slot_owner(strip, index), mine) {
            return Err(Error::BadHandle);
        }
        kill::point("queue.block_owned");
        let start = arena.opened_at(block).unwrap_or(0);
        if length > arena.capacity(block) || start as u64 > length {
            arena.free(block, mine);
            return Err(Error::BadHandle);
        }
        Ok(Message::long(arena, block, mine, start..length as usize))
    }
}

/// A slot, in one life of its strip.
type Place = (Link, u32);

/// One look over the slots, from the oldest on.
struct Look {
    me: OwnerId,
    /// Where a message was before the look began.
    confirmed: Option<Place>,
    /// Whether a slot was being written when it was looked at.
    stepped_over: bool,
}

/// What came of looking for a message.
enum Taken {
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
    /// The end of the strip, and whether nothing will come from it any more.
    End {
        over: bool,
    },
}
