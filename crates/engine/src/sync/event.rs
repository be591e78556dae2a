//! A flag that processes wait for.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::arena::kind::Kind;
use crate::deadline::Deadline;
use crate::error::{Result, WaitError};
use crate::failpoint;
use crate::objects::handle::Handle;
use crate::objects::object::{Layout, ObjectHead};
use crate::objects::object_ref::{TypedRef, opened};
use crate::process_table::wait_registry;
use crate::process_table::wait_registry::WaitReason;
use crate::sys::futex::{self, Slept};

const SET: u32 = 1;
const SLEEPERS: u32 = 2;
const ONE_SET: u32 = 4;

#[repr(C)]
pub(crate) struct EventObject {
    head: ObjectHead,
    /// Bit 0: set. Bit 1: a process may be asleep. Bits 2-31: how often it was set.
    word: AtomicU32,
}

// SAFETY: repr(C), head first, atomics only.
unsafe impl Layout for EventObject {
    const KIND: Kind = Kind::Event;

    fn head(&self) -> &ObjectHead {
        &self.head
    }
}

/// How often an event had been set when a wait began.
#[derive(Debug, Clone, Copy)]
pub struct Since(u32);

/// A flag. A process that waits while it is set returns even if it is cleared again at once.
#[derive(Debug)]
pub struct Event {
    shared: TypedRef<EventObject>,
}

opened!(Event, shared);

impl Event {
    /// A new event, not set.
    ///
    /// # Errors
    /// When shared memory is not available.
    pub fn new() -> Result<Event> {
        Ok(Event {
            shared: TypedRef::make(0, |_| {})?,
        })
    }

    /// Opens the event that a handle names.
    ///
    /// # Errors
    /// When the handle is from another process tree, stale, or names something else.
    pub fn open(handle: &Handle) -> Result<Event> {
        Ok(Event {
            shared: TypedRef::open(handle)?,
        })
    }

    /// The handle by which other processes open the event.
    pub fn handle(&self) -> Handle {
        self.shared.handle()
    }

    fn word(&self) -> &AtomicU32 {
        &self.shared.word
    }

    /// Whether the event is set.
    pub fn is_set(&self) -> bool {
        self.word().load(Ordering::SeqCst) & SET != 0
    }

    /// Sets the event and wakes all waiters.
    pub fn set(&self) {
        let mut seen = self.word().load(Ordering::SeqCst);
        let set = loop {
            // The process that set it may have been stopped or killed before it woke the sleepers.
            if seen & SET != 0 {
                break seen;
            }
            let set = seen.wrapping_add(ONE_SET) | SET;
            match self
                .word()
                .compare_exchange(seen, set, Ordering::SeqCst, Ordering::SeqCst)
            {
                Ok(_) => break set,
                Err(now) => seen = now,
            }
        };
        failpoint::hit("event.set");
        if set & SLEEPERS != 0 {
            self.wake_all(set);
        }
    }

    /// Wakes all sleepers, and then records that nobody sleeps. Not the other way round: if this
    /// process were stopped in between, no other process would wake them. Nobody falls asleep until
    /// the word has changed.
    #[cold]
    fn wake_all(&self, set: u32) {
        let word = self.word();
        futex::wake(word, u32::MAX);
        let no_sleepers = set & !SLEEPERS;
        let _ = word.compare_exchange(set, no_sleepers, Ordering::SeqCst, Ordering::SeqCst);
    }

    /// Clears the event.
    pub fn clear(&self) {
        self.word().fetch_and(!SET, Ordering::SeqCst);
    }

    /// Waits until the event is set.
    ///
    /// # Errors
    /// [`WaitError::TimedOut`], [`WaitError::Interrupted`].
    pub fn wait(&self, deadline: Deadline) -> Result<(), WaitError> {
        self.wait_since(self.now(), deadline)
    }

    /// The start of a wait that [`Event::wait_since`] does in several parts.
    pub fn now(&self) -> Since {
        Since(self.word().load(Ordering::SeqCst) / ONE_SET)
    }

    /// Waits until the event is set, or was set between `since` and now.
    ///
    /// # Errors
    /// Like [`Event::wait`].
    pub fn wait_since(&self, since: Since, deadline: Deadline) -> Result<(), WaitError> {
        let _call = wait_registry::Call::join();
        loop {
            let seen = self.word().load(Ordering::SeqCst);
            if seen & SET != 0 || seen / ONE_SET != since.0 {
                return Ok(());
            }
            if deadline.is_past() {
                return Err(WaitError::TimedOut);
            }
            let announced = seen | SLEEPERS;
            if seen != announced
                && self
                    .word()
                    .compare_exchange(seen, announced, Ordering::SeqCst, Ordering::SeqCst)
                    .is_err()
            {
                continue;
            }
            failpoint::hit("event.announced");
            if wait_registry::wait(WaitReason::Event, self.word(), announced, deadline)
                == Slept::Interrupted
            {
                return Err(WaitError::Interrupted);
            }
        }
    }
}
