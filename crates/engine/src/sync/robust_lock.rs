//! What the two locks have in common: waiting for the holder, and what happens when it dies.

use std::sync::atomic::{AtomicU32, Ordering};

use super::lock_state::{LockState, Seen};
use super::spin::Spin;
use super::thread;
use crate::arena::Arena;
use crate::arena::cell::BlockId;
use crate::arena::kind::Kind;
use crate::arena::owner::ProcId;
use crate::arena::upcalls::KindOps;
use crate::deadline::Deadline;
use crate::error::LockError;
use crate::failpoint;
use crate::objects::object::{Layout, OBJECT, ObjectHead};
use crate::objects::object_ref::ObjectRef;
use crate::process_table::wait_registry;
use crate::process_table::wait_registry::WaitReason;
use crate::sys::futex::{self, Slept};

/// A lock in shared memory.
#[repr(C)]
pub(crate) struct RobustLock<const KIND: u32> {
    head: ObjectHead,
    pub(super) word: LockState,
    /// How often the holder acquired it beyond the first time. Only the holder touches it.
    pub(super) again: AtomicU32,
}

// SAFETY: repr(C), head first, atomics only, zeroes are a free lock.
unsafe impl<const KIND: u32> Layout for RobustLock<KIND> {
    const KIND: Kind = if KIND == Kind::Lock as u32 {
        Kind::Lock
    } else {
        Kind::RLock
    };

    fn head(&self) -> &ObjectHead {
        &self.head
    }
}

/// What to do with the lock of a holder that died.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AfterDeath {
    /// Leave it free and report the death.
    Free,
    /// Hold it, for repair.
    Hold,
}

/// Whether the previous holder died, and left the lock to this thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct OwnerDied(pub(super) bool);

/// Acquires `word`, or returns why it could not.
pub(super) fn acquire(
    arena: &Arena,
    word: &LockState,
    spin: &Spin,
    deadline: Deadline,
    after: AfterDeath,
) -> Result<OwnerDied, LockError> {
    let me = arena.me();
    let thread = thread::number(me);
    let Err(seen) = word.take(me, thread, false) else {
        failpoint::hit("lock.taken");
        return Ok(OwnerDied(false));
    };
    let at_once = deadline == Deadline::NOW;
    if at_once && is_held_by_living(arena, seen) {
        return Err(LockError::TimedOut);
    }
    // If a thread is asleep, it takes a wake-up anyway, and many spinning threads slow down the one
    // that is to go on.
    if !at_once
        && !seen.has_sleepers()
        && spin
            .until(|| (word.look().is_free() && word.take(me, thread, false).is_ok()).then_some(()))
            .is_some()
    {
        return Ok(OwnerDied(false));
    }
    let waited = wait(arena, word, (me, thread), deadline, after);
    if waited.is_err() {
        pass_on(word);
    }
    waited
}

/// Whether a lock was held by a process that is not dead.
#[inline]
pub(super) fn is_held_by_living(arena: &Arena, seen: Seen) -> bool {
    let alive = |holder| holder == arena.me() || !arena.is_dead(holder);
    seen.holder().is_some_and(alive)
}

/// Passes a wake-up on to the next sleeper, for a thread that slept and does not take the lock.
pub(super) fn pass_on(word: &LockState) {
    loop {
        let seen = word.look();
        if seen.is_free() {
            futex::wake(word.futex(), 1);
            return;
        }
        if word.announce_sleeper(seen).is_some() {
            return;
        }
    }
}

fn wait(
    arena: &Arena,
    word: &LockState,
    (me, thread): (ProcId, u32),
    deadline: Deadline,
    after: AfterDeath,
) -> Result<OwnerDied, LockError> {
    let mut slept = false;
    let _call = wait_registry::Call::join();
    loop {
        let Err(seen) = word.take(me, thread, slept) else {
            failpoint::hit("lock.taken");
            return Ok(OwnerDied(false));
        };
        let holder = seen.holder().filter(|holder| *holder != ProcId::ABANDONED);
        let watch = holder.map(|holder| arena.watch_liveness(holder));
        if matches!(watch, Some(None)) {
            failpoint::hit("lock.found_dead");
            match after {
                AfterDeath::Free if word.break_hold(seen) => return Err(LockError::OwnerDied),
                AfterDeath::Hold if word.inherit(seen, me, thread) => return Ok(OwnerDied(true)),
                _ => continue,
            }
        }
        if deadline.is_past() {
            return Err(LockError::TimedOut);
        }
        let Some(announced) = word.announce_sleeper(seen) else {
            continue;
        };
        failpoint::hit("lock.announced");
        let mut words = vec![(word.futex(), announced.futex())];
        words.extend(watch.flatten());
        if wait_registry::wait_any(WaitReason::Lock, &words, deadline) == Slept::Interrupted {
            return Err(LockError::Interrupted);
        }
        slept = true;
    }
}

/// Frees the lock and wakes a sleeper. `Err` when nobody held it.
#[inline]
pub(super) fn release(word: &LockState) -> Result<(), ()> {
    if word.free()? {
        failpoint::hit("lock.freed");
        futex::wake(word.futex(), 1);
    }
    Ok(())
}

/// The contents of a block that was a lock's a moment ago.
fn robust_lock_in(arena: &Arena, block: BlockId) -> Option<&RobustLock<{ Kind::Lock as u32 }>> {
    let payload = arena.payload(block).ok()?;
    let is_room = arena.capacity(block) >= size_of::<RobustLock<{ Kind::Lock as u32 }>>() as u64;
    // SAFETY: large enough, 64-aligned and never unmapped; all atomics. Both kinds of locks have
    // this layout, and if the block is something else now, its words are only compared.
    is_room.then(|| unsafe { payload.cast().as_ref() })
}

/// The word of the lock in `block`, if it is one, and a reference that keeps it a lock.
pub(super) fn lock_in(
    arena: &'static Arena,
    block: BlockId,
) -> Option<(ObjectRef, &'static LockState)> {
    let held = ObjectRef::in_block(arena, block)?;
    let kind = arena.cell(block).ok()?.kind.load(Ordering::Acquire);
    let is_lock = kind == Kind::Lock as u32 || kind == Kind::RLock as u32;
    let robust = is_lock.then(|| robust_lock_in(arena, block)).flatten()?;
    Some((held, &robust.word))
}

/// The process that holds the lock in `block`, if it is a lock and held.
pub(crate) fn holder_of(arena: &Arena, block: BlockId) -> Option<ProcId> {
    robust_lock_in(arena, block)?.word.look().holder()
}

/// Locks and recursive locks.
pub(crate) const LOCK: KindOps = KindOps {
    holder_leaves: keep_held,
    ..OBJECT
};

/// If this process holds the lock in `block` when it exits, leaves the lock held for good.
fn keep_held(arena: &'static Arena, block: BlockId, me: ProcId) {
    let Some(robust) = robust_lock_in(arena, block) else {
        return;
    };
    if robust.word.look().holder() != Some(me) {
        return;
    }
    // The reference keeps it a lock. It may have become something else since the first look.
    let Some((_held, word)) = lock_in(arena, block) else {
        return;
    };
    let seen = word.look();
    if seen.holder() == Some(me) {
        word.keep(seen);
    }
}

impl<const KIND: u32> RobustLock<KIND> {
    #[inline]
    pub(super) fn is_mine(&self, me: ProcId) -> bool {
        self.is_held_by(me, self.word.look())
    }

    /// Whether the calling thread held the lock when it was `seen`.
    #[inline]
    pub(super) fn is_held_by(&self, me: ProcId, seen: Seen) -> bool {
        seen.holder() == Some(me) && seen.thread() == thread::number(me)
    }
}
