//! Models of the protocols. Loom runs them in every order of steps that the memory model allows.
//!
//! The models run the same words as the engine, on loom's atomics. A death is a thread that stops
//! in the middle and sets its `dead` flag; for the real engine the kernel does that.
//!
//! ```text
//! RUSTFLAGS="--cfg loom" cargo test -p procession-engine --release --lib models
//! ```

mod attachments;
mod block;
mod chunk_list;
mod event;
mod lock;
mod order;
mod pool;
mod readiness;
mod rwlock;
mod slot;
mod task_done;

use crate::arena::owner::ProcId;
use loom::sync::atomic::{AtomicBool, Ordering};
use loom::sync::{Arc, Condvar, Mutex};

/// A process of the models.
pub(crate) fn process(number: u32) -> ProcId {
    ProcId::new(number, 1)
}

/// The dead processes.
#[derive(Default)]
pub(crate) struct Deaths(Vec<AtomicBool>);

impl Deaths {
    pub(crate) fn of(count: usize) -> Arc<Deaths> {
        Arc::new(Deaths((0..count).map(|_| AtomicBool::new(false)).collect()))
    }

    /// The last thing that a thread does for the process `owner`.
    pub(crate) fn die(&self, owner: ProcId) {
        self.0[owner.slot() as usize].store(true, Ordering::SeqCst);
    }

    pub(crate) fn is_dead(&self, owner: ProcId) -> bool {
        self.0[owner.slot() as usize].load(Ordering::SeqCst)
    }
}

/// The kernel's part of a futex: comparing the word and falling asleep is one step.
#[derive(Default)]
pub(crate) struct Futex {
    sleepers: Mutex<usize>,
    wake: Condvar,
}

impl Futex {
    pub(crate) fn new() -> Futex {
        Futex::default()
    }

    /// Sleeps if `unchanged`. A woken thread looks again.
    pub(crate) fn wait(&self, unchanged: impl Fn() -> bool) {
        let mut sleepers = self.sleepers.lock().unwrap();
        if unchanged() {
            *sleepers += 1;
            drop(self.wake.wait(sleepers).unwrap());
        }
    }

    /// Wakes one sleeper. Returns how many it woke.
    pub(crate) fn wake_one(&self) -> usize {
        let mut sleepers = self.sleepers.lock().unwrap();
        let woken = usize::from(*sleepers > 0);
        *sleepers -= woken;
        if woken > 0 {
            self.wake.notify_one();
        }
        woken
    }
}
