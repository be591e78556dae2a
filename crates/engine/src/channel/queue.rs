//! A queue with many producers and many consumers.

use std::sync::atomic::Ordering;

use crate::arena::kind::Kind;
use crate::arena::owner::ProcId;
use crate::arena::upcalls::KindOps;
use crate::channel::chunk_list;
use crate::channel::chunk_list::{CLOSED, ChunkList, JOINABLE, ListCursor};
use crate::channel::counting::task_done::TAKERS;
use crate::channel::counting::tasks_in_hand::Taker;
use crate::channel::message::Message;
use crate::channel::message::message_buf::MessageBuf;
use crate::channel::readiness::queue_pipe::PipeCache;
use crate::channel::readiness::queue_readiness::QueueReadiness;
use crate::channel::receive::Watched;
use crate::channel::send::{Sending, Wait};
use crate::deadline::Deadline;
use crate::error::{GetError, PutError, Result, TooMany, WaitError};
use crate::eventcount::EventKey;
use crate::objects::handle::Handle;
use crate::objects::object::{Layout, OBJECT, ObjectHead};
use crate::objects::object_ref::{ObjectRef, TypedRef, opened};
use crate::process_table::wait_registry;
use crate::process_table::wait_registry::WaitReason;
use crate::sync::spin::Spin;
use crate::sys::futex::Slept;

#[repr(C)]
pub(crate) struct QueueObject {
    head: ObjectHead,
    chain: ChunkList,
    pub(super) takers: [Taker; TAKERS],
    pub(super) readiness: QueueReadiness,
}

const _: () = assert!(std::mem::offset_of!(QueueObject, chain) == 64);
// This fills the block of its size class: one byte more would double the size.
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
/// When [`put`](Queue::put) returns, the message is in shared memory and survives its producer's
/// death. A producer that is killed before that loses only its own message. If a consumer is killed
/// while it takes a message out, another consumer receives it. Messages of one producer arrive in
/// order.
#[derive(Debug)]
pub struct Queue {
    shared: TypedRef<QueueObject>,
    putting: Sending,
    getting: Spin,
    pub(super) cached: PipeCache,
}

opened!(Queue, shared);

impl Queue {
    /// An empty queue for at most `maxsize` messages; zero for no limit.
    ///
    /// # Errors
    /// When shared memory is not available.
    pub fn new(maxsize: usize) -> Result<Queue> {
        Queue::make(maxsize, 0)
    }

    /// A queue that also counts the messages not yet [reported done](Queue::task_done).
    ///
    /// # Errors
    /// When shared memory is not available.
    pub fn joinable(maxsize: usize) -> Result<Queue> {
        Queue::make(maxsize, JOINABLE)
    }

    fn make(maxsize: usize, flags: u32) -> Result<Queue> {
        let fill = |object: &QueueObject| {
            object.chain.limit.store(maxsize as u64, Ordering::Relaxed);
            object.chain.flags.store(flags, Ordering::Relaxed);
        };
        Ok(Queue::from_shared(TypedRef::make(0, fill)?))
    }

    /// Opens the queue that a handle names.
    ///
    /// # Errors
    /// When the handle is from another process tree, stale, or names something else.
    pub fn open(handle: &Handle) -> Result<Queue> {
        Ok(Queue::from_shared(TypedRef::open(handle)?))
    }

    fn from_shared(shared: TypedRef<QueueObject>) -> Queue {
        Queue {
            shared,
            putting: Sending::default(),
            getting: Spin::default(),
            cached: PipeCache::default(),
        }
    }

    /// The handle by which other processes open the queue.
    pub fn handle(&self) -> Handle {
        self.shared.handle()
    }

    pub(super) fn object(&self) -> &QueueObject {
        &self.shared
    }

    /// See [`TypedRef::find_holder`].
    pub(super) fn find_holder<T>(
        &self,
        look: impl FnMut(ProcId) -> Option<T>,
    ) -> Result<Option<T>> {
        self.shared.find_holder(look)
    }

    pub(crate) fn at(&self) -> ListCursor<'static> {
        let cursor = ListCursor {
            arena: self.shared.arena(),
            chain: &self.shared.chain,
            home: self.shared.block(),
            generation: self.shared.generation(),
            which: 0,
        };
        // SAFETY: the chunk list lies in memory that is never unmapped. What outlives `self` is
        // only ever a message's own block.
        unsafe { std::mem::transmute::<ListCursor<'_>, ListCursor<'static>>(cursor) }
    }

    /// Puts one message, made of the parts one after the other.
    ///
    /// # Errors
    /// [`PutError::Full`] if there was no room before the deadline, [`PutError::Closed`],
    /// [`PutError::Failed`] with [`Error::OutOfMemory`](crate::Error::OutOfMemory).
    pub fn put(&self, parts: &[&[u8]], deadline: Deadline) -> Result<(), PutError> {
        self.put_with(parts, &[], deadline)
    }

    /// Like [`Queue::put`], with objects that stay alive while the message waits: until its
    /// receiver drops the [`Message`], or the queue is gone.
    ///
    /// # Errors
    /// Like [`Queue::put`].
    pub fn put_with(
        &self,
        parts: &[&[u8]],
        objects: &[ObjectRef],
        deadline: Deadline,
    ) -> Result<(), PutError> {
        self.at()
            .put(parts, objects, &self.wait(deadline, &|| self.notify()))
    }

    /// Like [`Queue::put`], with a message that was written already. Takes the buffer if the
    /// message is put, and leaves it otherwise.
    ///
    /// # Errors
    /// Like [`Queue::put`].
    pub fn put_buf(
        &self,
        buf: &mut Option<MessageBuf>,
        deadline: Deadline,
    ) -> Result<(), PutError> {
        self.at()
            .put_buf(buf, &self.wait(deadline, &|| self.notify()))
    }

    fn wait<'w>(&'w self, deadline: Deadline, on_claimed: &'w dyn Fn()) -> Wait<'w> {
        Wait {
            deadline,
            sending: &self.putting,
            hopeless: &|| false,
            nap: None,
            on_claimed,
        }
    }

    /// Receives one message.
    ///
    /// # Errors
    /// [`GetError::Empty`] if no message came before the deadline, [`GetError::Closed`] if the
    /// queue was closed and is empty.
    pub fn get(&self, deadline: Deadline) -> Result<Message, GetError> {
        let mut message = Message::default();
        self.get_into(&mut message, deadline)?;
        Ok(message)
    }

    /// Receives one message into `message`, which saves a copy.
    ///
    /// # Errors
    /// Like [`Queue::get`]; `message` may have changed.
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

    /// Receives a message that is there or comes within a moment, without a system call. Returns
    /// false if there is none.
    ///
    /// # Errors
    /// When the queue's memory is damaged.
    pub fn try_get_into(&self, message: &mut Message) -> Result<bool> {
        let cursor = self.at();
        let mut taken = cursor.take(message)?;
        if taken {
            self.getting.hit();
        } else {
            let later = self.getting.briefly(|| cursor.try_take(message));
            taken = later.transpose()?.is_some();
        }
        if taken {
            self.settle();
        }
        Ok(taken)
    }

    /// Receives one message, or returns as soon as one of the processes in `watch` is gone.
    ///
    /// # Errors
    /// Like [`Queue::get`].
    pub fn get_watching(&self, watch: &[ProcId], deadline: Deadline) -> Result<Watched, GetError> {
        let mut message = Message::default();
        let gone = self
            .at()
            .get(&mut message, watch, deadline, &self.getting)?;
        self.settle();
        Ok(gone.map_or(Watched::Message(message), Watched::Gone))
    }

    /// Copies the latest waiting message into `out` and leaves it in the queue. Returns false if
    /// there is none. For a queue under a lock that holds one value: no other process may put or
    /// receive meanwhile.
    ///
    /// # Errors
    /// When the message cannot be read.
    pub fn latest(&self, out: &mut Vec<u8>) -> Result<bool> {
        self.at().latest(out)
    }

    /// Read this before an attempt to put that fails; see
    /// [`Source::RoomSince`](crate::select::Source::RoomSince).
    pub fn event_key(&self) -> EventKey {
        EventKey::now(&self.at().chain.space)
    }

    /// The number of waiting messages. Exact if no process puts or gets at the same time.
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

    /// Whether a `put` that does not wait would fail with [`PutError::Full`]. Ask before making a
    /// message for it. False if unsure, and if the queue is closed.
    pub fn would_refuse(&self) -> bool {
        self.at().is_out_of_room(&self.putting) && !self.is_closed()
    }

    /// The limit that the queue was made with; zero for none.
    pub fn maxsize(&self) -> usize {
        self.shared.chain.limit.load(Ordering::Relaxed) as usize
    }

    /// Whether the queue counts the messages not yet reported done.
    pub fn is_joinable(&self) -> bool {
        self.at().has(JOINABLE)
    }

    /// Reports that one message was processed.
    ///
    /// # Errors
    /// [`TooMany`] if more were reported than were put.
    pub fn task_done(&self) -> Result<(), TooMany> {
        self.at().task_done().unwrap_or(Err(TooMany))
    }

    /// The number of messages put and not yet reported done.
    pub fn unfinished(&self) -> u64 {
        self.at().unfinished().unwrap_or(0)
    }

    /// Waits until every message was reported done, or until all unfinished ones were received by
    /// processes that are gone. Returns the number of the latter.
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

    /// Closes the queue: `put` fails from now on, and `get` fails once all messages were received.
    pub fn close(&self) {
        let chain = &self.shared.chain;
        chain.flags.fetch_or(CLOSED, Ordering::SeqCst);
        self.notify();
        chain.items.notify(u32::MAX);
        chain.space.notify(u32::MAX);
    }

    /// Whether the queue was closed.
    pub fn is_closed(&self) -> bool {
        self.at().has(CLOSED)
    }
}

pub(crate) const QUEUE: KindOps = KindOps {
    take_apart: |arena, block| chunk_list::dismantle_all(arena, Kind::Queue, block),
    ..OBJECT
};
