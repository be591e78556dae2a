//! The lock word: one holder at a time, no lost wake-up, and exactly one successor of a dead
//! holder.

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;

use super::{Deaths, Futex, process};
use crate::sync::lock_state::LockState;

/// A lock word and the threads that sleep on it.
pub(super) struct ModelLock {
    pub(super) word: LockState,
    futex: Futex,
}

impl ModelLock {
    pub(super) fn new() -> ModelLock {
        ModelLock {
            word: LockState::new(),
            futex: Futex::new(),
        }
    }

    pub(super) fn acquire(&self, number: u32) {
        let mut slept = false;
        loop {
            let Err(seen) = self.word.take(process(number), number, slept) else {
                return;
            };
            if let Some(announced) = self.word.announce_sleeper(seen) {
                self.futex.wait(|| self.word.look() == announced);
                slept = true;
            }
        }
    }

    pub(super) fn release(&self) {
        if self.word.free().unwrap() {
            self.futex.wake_one();
        }
    }
}

struct Guarded {
    lock: ModelLock,
    value: UnsafeCell<u32>,
}

impl Guarded {
    fn new() -> Arc<Guarded> {
        Arc::new(Guarded {
            lock: ModelLock::new(),
            value: UnsafeCell::new(0),
        })
    }

    fn add_one(&self) {
        // SAFETY: the lock is held; loom reports if another thread is in here, too.
        self.value.with_mut(|value| unsafe { *value += 1 });
    }
}

#[test]
fn one_holder_at_a_time_and_nobody_sleeps_for_ever() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(|| {
        let guarded = Guarded::new();
        let work = |number: u32| {
            let guarded = guarded.clone();
            move || {
                guarded.lock.acquire(number);
                guarded.add_one();
                guarded.lock.release();
            }
        };
        let threads = [thread::spawn(work(1)), thread::spawn(work(2))];
        work(3)();
        for thread in threads {
            thread.join().unwrap();
        }
        // SAFETY: the other threads have ended.
        guarded.value.with(|value| assert_eq!(unsafe { *value }, 3));
    });
}

#[test]
fn a_dead_holders_lock_is_broken_exactly_once() {
    loom::model(|| {
        let guarded = Guarded::new();
        let deaths = Deaths::of(4);
        let dying = {
            let (guarded, deaths) = (guarded.clone(), deaths.clone());
            thread::spawn(move || {
                if guarded.lock.word.take(process(1), 1, false).is_ok() {
                    guarded.add_one();
                }
                deaths.die(process(1));
            })
        };
        let successor = |number: u32| {
            let (guarded, deaths) = (guarded.clone(), deaths.clone());
            move || {
                let seen = guarded.lock.word.look();
                let dead = seen.holder().is_some_and(|holder| deaths.is_dead(holder));
                let mine = dead && guarded.lock.word.inherit(seen, process(number), number);
                if mine {
                    guarded.add_one();
                }
                u32::from(mine)
            }
        };
        let second = thread::spawn(successor(2));
        let inherited = successor(3)() + second.join().unwrap();
        assert!(inherited <= 1);
        dying.join().unwrap();
    });
}
