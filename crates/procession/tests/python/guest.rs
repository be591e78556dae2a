//! A library that a Python program loads: a second engine in that process.
//!
//! Its objects lie in a memory of its own. The two engines share only threads, forks and signals.

use std::sync::OnceLock;

use procession::{Lock, LockError, Queue};

struct Belongings {
    queue: Queue<u64>,
    lock: Lock,
}

fn belongings() -> &'static Belongings {
    static BELONGINGS: OnceLock<Belongings> = OnceLock::new();
    BELONGINGS.get_or_init(|| Belongings {
        queue: Queue::new().expect("memory for a queue"),
        lock: Lock::new().expect("memory for a lock"),
    })
}

/// Puts a number.
#[unsafe(no_mangle)]
pub extern "C" fn guest_put(number: u64) {
    belongings().queue.put(number).expect("the queue is open");
}

/// Gets a number.
#[unsafe(no_mangle)]
pub extern "C" fn guest_get() -> u64 {
    belongings().queue.get().expect("the queue is open")
}

/// Takes the lock and keeps it.
#[unsafe(no_mangle)]
pub extern "C" fn guest_lock() {
    let held = belongings().lock.lock().expect("nobody died holding it");
    std::mem::forget(held);
}

/// Returns whether a process died while holding the lock.
#[unsafe(no_mangle)]
pub extern "C" fn guest_owner_died() -> bool {
    matches!(belongings().lock.lock(), Err(LockError::OwnerDied))
}
