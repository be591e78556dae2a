//! A queue with many producers and many consumers.

use std::sync::atomic::Ordering;

use super::chunk_list::{CLOSED, ChunkList, JOINABLE, ListCursor};
use super::message::Message;
use super::message_buf::MessageBuf;
use super::queue_pipe::Cached;
use super::queue_readiness::QueueBell;
use super::receive::Watched;
use super::send::{Sending, Wait};
use super::task_done::TAKERS;
use super::tasks_in_hand::Taker;
use crate::deadline::Deadline;
use crate::error::{GetError, PutError, Result, TooMany, WaitError};
use crate::memory::owner::ProcId;
use crate::objects::handle::Handle;
use crate::objects::object::{Kind, Layout, ObjectHead};
use crate::objects::object_ref::{ObjectRef, TypedRef, opened};
use crate::process::wait_registry;
use crate::process::wait_registry::WaitReason;
use crate::select::EventKey;
use crate::sync::spin::Spin;
use crate::sys::futex::Slept;

#[repr(C)]
pub(crate) struct QueueObject {
    head: ObjectHead,
    chain: ChunkList,
    pub(super) takers: [Taker; TAKERS],
    pub(super) readiness: QueueBell,
}

const _: () = assert!(std::mem::offset_of!(QueueObject, chain) == 64);
// What a block of that class takes: one byte more would double it.
const _: () = assert!(size_of::<QueueObject>() == 512);

// SAFETY: repr(C), head first, atomics only.
unsafe impl Layout for QueueObject {
    const KIND: Kind = Kind::Queue;

    fn head(&self) -> &ObjectHead {
        &self.head
    }
}

/// A queue of messages in shared memory.
///
/// When [`put`](Queue::put) returns, the message is in shared memory and survives the death of its
/// producer. A producer killed before that loses its message and nobody else's; what a consumer was
/// taking out when it was killed is given to another. Messages of one producer arrive in their order.
#[derive(Debug)]
pub struct Queue {
    shared: TypedRef<QueueObject>,
    putting: Sending,
    getting: Spin,
    pub(super) cached: Cached,
}

opened!(Queue, shared);

impl Queue {
    /// An empty queue for at most `maxsize` messages; zero for no limit.
    ///
    /// # Errors
    /// When shared memory cannot be had.
    pub fn new(maxsize: usize) -> Result<Queue> {
        Queue::make(maxsize, 0)
    }

    /// A queue that also keeps count of the messages not yet [reported done](Queue::task_done).
    ///
    /// # Errors
    /// When shared memory cannot be had.
    pub fn joinable(maxsize: usize) -> Result<Queue> {
        Queue::make(maxsize, JOINABLE)
    }

    fn make(maxsize: usize, flags: u32) -> Result<Queue> {
        let fill = |object: &QueueObject| {
            object.chain.limit.store(maxsize as u64, Ordering::Relaxed);
            object.chain.flags.store(flags, Ordering::Relaxed);
        };
        Ok(Queue::over(TypedRef::make(0, fill)?))
    }

    /// The queue a handle names.
    ///
    /// # Errors
    /// When the handle is another tree's, stale, or names something else.
    pub fn open(handle: &Handle) -> Result<Queue> {
        Ok(Queue::over(TypedRef::open(handle)?))
    }

    fn over(shared: TypedRef<QueueObject>) -> Queue {
        Queue {
            shared,
            putting: Sending::default(),
            getting: Spin::default(),
            cached: Cached::default(),
        }
    }

    /// The name by which other processes open the queue.
    pub fn handle(&self) -> Handle {
        self.shared.handle()
    }

    pub(super) fn object(&self) -> &QueueObject {
        &self.shared
    }

    /// See [`Shared::find_holder`].
    pub(super) fn find_holder<T>(
        &self,
        look: impl FnMut(ProcId) -> Option<T>,
    ) -> Result<Option<T>> {
        self.shared.find_holder(look)
    }

    pub(crate) fn at(&self) -> ListCursor<'static> {
        let at = ListCursor {
            arena: self.shared.arena(),
            chain: &self.shared.chain,
            home: self.shared.block(),
            generation: self.shared.generation(),
            which: 0,
        };
        // SAFETY: the chain lies in memory that is never unmapped; what outlives `self` is only ever
        // a message's own block.
        unsafe { std::mem::transmute::<ListCursor<'_>, ListCursor<'static>>(at) }
    }

    /// Puts one message, the parts one behind the other.
    ///
    /// # Errors
    /// [`PutError::Full`] when there was no room before the deadline, [`PutError::Closed`],
    /// [`PutError::Failed`] with [`Error::OutOfMemory`](crate::Error::OutOfMemory).
    pub fn put(&self, parts: &[&[u8]], deadline: Deadline) -> Result<(), PutError> {
        self.put_with(parts, &[], deadline)
    }

    /// As [`Queue::put`], with objects that stay alive while the message waits: until its [`Message`] is
    /// dropped by whoever receives it, or the queue is gone.
    ///
    /// # Errors
    /// As [`Queue::put`].
    pub fn put_with(
        &self,
        parts: &[&[u8]],
        objects: &[ObjectRef],
        deadline: Deadline,
    ) -> Result<(), PutError> {
        self.at()
            .put(parts, objects, &self.wait(deadline, &|| self.notify()))
    }

    /// As [`Queue::put`], with a message that was written already. The draft is taken when it is put, and
    /// left when it is not.
    ///
    /// # Errors
    /// As [`Queue::put`].
    pub fn put_draft(
        &self,
        draft: &mut Option<MessageBuf>,
        deadline: Deadline,
    ) -> Result<(), PutError> {
        self.at()
            .put_draft(draft, &self.wait(deadline, &|| self.notify()))
    }

    fn wait<'w>(&'w self, deadline: Deadline, claimed: &'w dyn Fn()) -> Wait<'w> {
        Wait {
            deadline,
            sending: &self.putting,
            hopeless: &|| false,
            nap: None,
            claimed,
        }
    }

    /// Receives one message.
    ///
    /// # Errors
    /// [`GetError::Empty`] when none came before the deadline, [`GetError::Closed`] when the queue was
    /// closed and is empty.
    pub fn get(&self, deadline: Deadline) -> Result<Message, GetError> {
        let mut message = Message::default();
        self.get_into(&mut message, deadline)?;
        Ok(message)
    }

    /// Receives one message into `message`, which spares a copy.
    ///
    /// # Errors
    /// As [`Queue::get`]; the message may have changed.
    pub fn get_into(&self, message: &mut Message, deadline: Deadline) -> Result<(), GetError> {
        let mut received = self.at().get(message, &[], deadline, &self.getting);
        if matches!(received, Err(GetError::Empty)) {
            received = self.get_announced(message);
        }
        self.settle();
        match received? {
            None => Ok(()),
            Some(_) => Err(GetError::Empty),
        }
    }

    /// Receives a message that is there, or comes within a moment; no system call. False for none.
    ///
    /// # Errors
    /// When memory of the queue is damaged.
    pub fn try_get_into(&self, message: &mut Message) -> Result<bool> {
        let at = self.at();
        let mut taken = at.take(message)?;
        if taken {
            self.getting.hit();
        } else {
            let later = self.getting.briefly(|| at.try_take(message));
            taken = later.transpose()?.is_some();
        }
        if taken {
            self.settle();
        }
        Ok(taken)
    }

    /// Receives one message, or learns at once that one of the processes in `watch` is gone.
    ///
    /// # Errors
    /// As [`Queue::get`].
    pub fn get_watching(&self, watch: &[ProcId], deadline: Deadline) -> Result<Watched, GetError> {
        let mut message = Message::default();
        let gone = self
            .at()
            .get(&mut message, watch, deadline, &self.getting)?;
        self.settle();
        Ok(gone.map_or(Watched::Message(message), Watched::Gone))
    }

    /// Copies the newest message that waits into `out`, and leaves it where it is. False when there is none.
    /// For a queue that holds one value, under a lock: others may neither put nor receive meanwhile.
    ///
    /// # Errors
    /// When the message cannot be read.
    pub fn newest(&self, out: &mut Vec<u8>) -> Result<bool> {
        self.at().newest(out)
    }

    /// To be asked before a message is put in vain; see [`Source::RoomSince`](crate::select::Source::RoomSince).
    pub fn moment(&self) -> EventKey {
        EventKey::now(&self.at().chain.space)
    }

    /// How many messages wait. Exact when nobody puts or gets at the same time.
    pub fn len(&self) -> usize {
        self.at().len().unwrap_or(0) as usize
    }

    /// Whether a `get` would have to wait.
    pub fn is_empty(&self) -> bool {
        self.at().is_empty()
    }

    /// Whether a `put` would have to wait.
    pub fn is_full(&self) -> bool {
        let limit = self.maxsize();
        limit > 0 && self.len() >= limit
    }

    /// Whether a `put` that does not wait would be [`PutError::Full`]: to be asked before a message is made for it.
    /// False in doubt, and when the queue is closed.
    pub fn would_refuse(&self) -> bool {
        self.at().is_out_of_room(&self.putting) && !self.is_closed()
    }

    /// The limit it was made with; zero for none.
    pub fn maxsize(&self) -> usize {
        self.shared.chain.limit.load(Ordering::Relaxed) as usize
    }

    /// Whether it keeps count of the messages not yet reported done.
    pub fn is_joinable(&self) -> bool {
        self.at().has(JOINABLE)
    }

    /// Reports that one message was dealt with.
    ///
    /// # Errors
    /// [`TooMany`] when more were reported than were put.
    pub fn task_done(&self) -> Result<(), TooMany> {
        self.at().task_done().unwrap_or(Err(TooMany))
    }

    /// How many messages were put and not reported done.
    pub fn unfinished(&self) -> u64 {
        self.at().unfinished().unwrap_or(0)
    }

    /// Waits until every message was reported done, or until all that were not were received by processes
    /// that are gone: how many those are.
    ///
    /// # Errors
    /// [`WaitError::TimedOut`], [`WaitError::Interrupted`].
    pub fn join(&self, deadline: Deadline) -> Result<u64, WaitError> {
        let finished = &self.shared.chain.finished;
        let _call = wait_registry::Call::join();
        loop {
            let key = finished.announce();
            if self.unfinished() == 0 {
                return Ok(0);
            }
            if let Ok(lost @ 1..) = self.at().lost() {
                return Ok(lost);
            }
            if deadline.is_past() {
                return Err(WaitError::TimedOut);
            }
            if wait_registry::wait(WaitReason::Finished, finished.word(), key, deadline)
                == Slept::Interrupted
            {
                return Err(WaitError::Interrupted);
            }
        }
    }

    /// Ends the queue: `put` fails from now on, and `get` does once all messages were received.
    pub fn close(&self) {
        let chain = &self.shared.chain;
        chain.flags.fetch_or(CLOSED, Ordering::SeqCst);
        self.notify();
        chain.items.notify(u32::MAX);
        chain.space.notify(u32::MAX);
    }

    /// Whether it was closed.
    pub fn is_closed(&self) -> bool {
        self.at().has(CLOSED)
    }
}
