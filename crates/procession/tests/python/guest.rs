//! A library that a Python program loads: a second engine in that process.
//!
//! Its objects lie in a memory of its own. The two engines share only threads, forks and signals.

use std::sync::OnceLock;

use procession::{Lock, LockError, Queue};

struct SharedObjects {
    queue: Queue<u64>,
    lock: Lock,
}

fn shared_objects() -> &'static SharedObjects {
    static SHARED_OBJECTS: OnceLock<SharedObjects> = OnceLock::new();
    SHARED_OBJECTS.get_or_init(|| SharedObjects {
        queue: Queue::new().expect("memory for a queue"),
        lock: Lock::new().expect("memory for a lock"),
    })
}

/// Puts a number.
#[unsafe(no_mangle)]
pub extern "C" fn guest_put(number: u64) {
    shared_objects()
        .queue
        .put(number)
        .expect("the queue is open");
}

/// Gets a number.
#[unsafe(no_mangle)]
pub extern "C" fn guest_get() -> u64 {
    shared_objects().queue.get().expect("the queue is open")
}

/// Takes the lock and keeps it.
#[unsafe(no_mangle)]
pub extern "C" fn guest_lock() {
    let held = shared_objects()
        .lock
        .lock()
        .expect("nobody died holding it");
    std::mem::forget(held);
}

/// Returns whether a process died while holding the lock.
#[unsafe(no_mangle)]
pub extern "C" fn guest_owner_died() -> bool {
    matches!(shared_objects().lock.lock(), Err(LockError::OwnerDied))
}
