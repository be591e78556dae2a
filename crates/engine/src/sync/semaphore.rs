//! A counter that processes take units from and wait at.

use std::sync::atomic::{AtomicU32, Ordering};

use super::spin::Spin;
use crate::arena::kind::Kind;
use crate::deadline::Deadline;
use crate::error::{Error, Result, TooMany, WaitError};
use crate::failpoint;
use crate::objects::handle::Handle;
use crate::objects::object::{Layout, ObjectHead};
use crate::objects::object_ref::{TypedRef, opened};
use crate::process_table::wait_registry;
use crate::process_table::wait_registry::WaitReason;
use crate::sys::futex::{self, Slept};

const SLEEPERS: u32 = 1 << 31;
const VALUE: u32 = SLEEPERS - 1;

#[repr(C)]
pub(crate) struct SemaphoreObject {
    head: ObjectHead,
    /// Bit 31: a process may be asleep. Bits 0-30: the value.
    word: AtomicU32,
    /// The value never exceeds this.
    max: AtomicU32,
}

// SAFETY: repr(C), head first, atomics only.
unsafe impl Layout for SemaphoreObject {
    const KIND: Kind = Kind::Semaphore;

    fn head(&self) -> &ObjectHead {
        &self.head
    }
}

/// A semaphore. Units that a process took and did not release before it died stay taken: a unit may
/// stand for something that still exists, such as an item in a buffer.
#[derive(Debug)]
pub struct Semaphore {
    shared: TypedRef<SemaphoreObject>,
    spin: Spin,
}

opened!(Semaphore, shared);

impl Semaphore {
    /// The largest possible value.
    pub const MAX: u32 = VALUE;

    /// A semaphore with the value `value`, which never exceeds `max` ([`Semaphore::MAX`] if
    /// `None`).
    ///
    /// # Errors
    /// [`Error::Invalid`] for a value beyond the bound. When shared memory is not available.
    pub fn new(value: u32, max: Option<u32>) -> Result<Semaphore> {
        let max = max.unwrap_or(Self::MAX);
        if value > max || max > Self::MAX {
            return Err(Error::Invalid(format!(
                "a semaphore of {value} with bound {max}: the value must be at most the \
                 bound, and the bound at most {}",
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

    /// Opens the semaphore that a handle names.
    ///
    /// # Errors
    /// When the handle is from another process tree, stale, or names something else.
    pub fn open(handle: &Handle) -> Result<Semaphore> {
        Ok(Semaphore {
            shared: TypedRef::open(handle)?,
            spin: Spin::default(),
        })
    }

    /// The handle by which other processes open the semaphore.
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
        // Another thread has to look if units are left, or if this one did not use a wake-up meant
        // for it.
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
            // While the value is zero, the word is at most the bit.
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

    /// Releases `count` units.
    ///
    /// # Errors
    /// [`TooMany`], with nothing released, if the value would exceed the bound.
    pub fn release(&self, count: u32) -> Result<(), TooMany> {
        let max = self.shared.max.load(Ordering::Relaxed);
        let add = |word: u32| {
            let value = (word & VALUE).checked_add(count)?;
            (value <= max).then_some(word + count)
        };
        let previous = self
            .shared
            .word
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, add)
            .map_err(|_| TooMany)?;
        if previous & SLEEPERS != 0 {
            failpoint::hit("semaphore.given");
            self.wake(count);
        }
        Ok(())
    }

    /// Wakes up to `count` sleepers. The bit stays set until a call finds nobody asleep, because
    /// the process that wakes, and the one that is woken, may be stopped.
    #[cold]
    fn wake(&self, count: u32) {
        let word = &self.shared.word;
        let seen = word.load(Ordering::SeqCst);
        // A process falls asleep only while the value is zero. For the word to read as `seen` again
        // after that, another release is needed.
        if futex::wake(word, count) == 0 && seen > SLEEPERS {
            let value = seen & VALUE;
            let _ = word.compare_exchange(seen, value, Ordering::SeqCst, Ordering::SeqCst);
        }
    }

    /// The number of units that can be taken now.
    pub fn value(&self) -> u32 {
        self.shared.word.load(Ordering::SeqCst) & VALUE
    }

    /// The bound.
    pub fn max(&self) -> u32 {
        self.shared.max.load(Ordering::Relaxed)
    }
}
