//! A counter that processes take from and wait at.

use std::sync::atomic::{AtomicU32, Ordering};

use super::spin::Spin;
use crate::deadline::Deadline;
use crate::error::{Error, Result, TooMany, WaitError};
use crate::failpoint;
use crate::objects::handle::Handle;
use crate::objects::object::{Kind, Layout, ObjectHead};
use crate::objects::object_ref::{TypedRef, opened};
use crate::process::wait_registry;
use crate::process::wait_registry::WaitReason;
use crate::sys::futex::{self, Slept};

const SLEEPERS: u32 = 1 << 31;
const VALUE: u32 = SLEEPERS - 1;

#[repr(C)]
pub(crate) struct SemaphoreObject {
    head: ObjectHead,
    /// Bit 31: somebody may be asleep. Bits 0-30: the value.
    word: AtomicU32,
    /// What the value must not pass.
    max: AtomicU32,
}

// SAFETY: repr(C), head first, atomics only.
unsafe impl Layout for SemaphoreObject {
    const KIND: Kind = Kind::Semaphore;

    fn head(&self) -> &ObjectHead {
        &self.head
    }
}

/// A semaphore. What a process took and did not give back before it died stays taken: a unit may stand
/// for something that is still there, such as an item in a buffer.
#[derive(Debug)]
pub struct Semaphore {
    shared: TypedRef<SemaphoreObject>,
    spin: Spin,
}

opened!(Semaphore, shared);

impl Semaphore {
    /// The largest value there can be.
    pub const MAX: u32 = VALUE;

    /// A semaphore at `value` that never passes `max` ([`Semaphore::MAX`] when `None`).
    ///
    /// # Errors
    /// [`Error::Invalid`] for a value beyond the bound; when shared memory cannot be had.
    pub fn new(value: u32, max: Option<u32>) -> Result<Semaphore> {
        let max = max.unwrap_or(Self::MAX);
        if value > max || max > Self::MAX {
            return Err(Error::Invalid(format!(
                "a semaphore of {value} with bound {max}: the value must be at most the bound, and the bound at most {}",
                Self::MAX
            )));
        }
        let fill = |object: &SemaphoreObject| {
            object.word.store(value, Ordering::Relaxed);
            object.max.store(max, Ordering::Relaxed);
        };
        Ok(Semaphore {
            shared: TypedRef::make(0, fill)?,
            spin: Spin::default(),
        })
    }

    /// The semaphore a handle names.
    ///
    /// # Errors
    /// When the handle is another tree's, stale, or names something else.
    pub fn open(handle: &Handle) -> Result<Semaphore> {
        Ok(Semaphore {
            shared: TypedRef::open(handle)?,
            spin: Spin::default(),
        })
    }

    /// The name by which other processes open the semaphore.
    pub fn handle(&self) -> Handle {
        self.shared.handle()
    }

    /// Takes one unit if there is one.
    #[inline]
    pub fn try_acquire(&self) -> bool {
        let take = |word: u32| (word & VALUE > 0).then(|| word - 1);
        self.shared
            .word
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, take)
            .is_ok()
    }

    /// Waits for a unit and takes it.
    ///
    /// # Errors
    /// [`WaitError::TimedOut`], [`WaitError::Interrupted`].
    pub fn acquire(&self, deadline: Deadline) -> Result<(), WaitError> {
        if self.try_acquire() {
            failpoint::hit("semaphore.taken");
            return Ok(());
        }
        if deadline == Deadline::NOW {
            return Err(WaitError::TimedOut);
        }
        if self
            .spin
            .until(|| self.try_acquire().then_some(()))
            .is_some()
        {
            return Ok(());
        }
        let waited = self.wait(deadline);
        // Another one looks when more is left, or a wake-up meant for this thread was not used.
        if self.shared.word.load(Ordering::SeqCst) > SLEEPERS {
            self.wake(1);
        }
        waited
    }

    fn wait(&self, deadline: Deadline) -> Result<(), WaitError> {
        let word = &self.shared.word;
        let _call = wait_registry::Call::join();
        loop {
            if self.try_acquire() {
                failpoint::hit("semaphore.taken");
                return Ok(());
            }
            if deadline.is_past() {
                return Err(WaitError::TimedOut);
            }
            // With the value at zero the word is nothing but the bit.
            let announced = word
                .compare_exchange(0, SLEEPERS, Ordering::SeqCst, Ordering::SeqCst)
                .unwrap_or_else(|seen| seen);
            if announced & VALUE > 0 {
                continue;
            }
            failpoint::hit("semaphore.announced");
            if wait_registry::wait(WaitReason::Units, word, SLEEPERS, deadline)
                == Slept::Interrupted
            {
                return Err(WaitError::Interrupted);
            }
        }
    }

    /// Gives `count` units back.
    ///
    /// # Errors
    /// [`TooMany`], with nothing given, when the value would pass the bound.
    pub fn release(&self, count: u32) -> Result<(), TooMany> {
        let max = self.shared.max.load(Ordering::Relaxed);
        let give = |word: u32| {
            let value = (word & VALUE).checked_add(count)?;
            (value <= max).then_some(word + count)
        };
        let former = self
            .shared
            .word
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, give)
            .map_err(|_| TooMany)?;
        if former & SLEEPERS != 0 {
            failpoint::hit("semaphore.given");
            self.wake(count);
        }
        Ok(())
    }

    /// Wakes up to `count` sleepers. That some may sleep is said until nobody did: whoever wakes them, and whoever is
    /// woken, may be stopped.
    #[cold]
    fn wake(&self, count: u32) {
        let word = &self.shared.word;
        let seen = word.load(Ordering::SeqCst);
        // Who falls asleep does so at zero. To be as it was seen after that, the word takes another release.
        if futex::wake(word, count) == 0 && seen > SLEEPERS {
            let value = seen & VALUE;
            let _ = word.compare_exchange(seen, value, Ordering::SeqCst, Ordering::SeqCst);
        }
    }

    /// The units that can be taken now.
    pub fn value(&self) -> u32 {
        self.shared.word.load(Ordering::SeqCst) & VALUE
    }

    /// The bound.
    pub fn max(&self) -> u32 {
        self.shared.max.load(Ordering::Relaxed)
    }
}
