//! A start gate: tasks that report their start, and go on when the test says so.

use std::sync::OnceLock;

use procession::{Event, Pool, PoolBuilder, Queue};

/// Tasks report their start on the queue, and wait for the event.
pub type Gate = (Queue<u64>, Event);

static GATE: OnceLock<Gate> = OnceLock::new();

fn keep(begun: Queue<u64>, stop: Event) {
    assert!(GATE.set((begun, stop)).is_ok());
}

/// Reports its start, and goes on at once.
pub fn report(n: u64) -> u64 {
    GATE.get().unwrap().0.put(n).unwrap();
    n
}

/// Reports its start, and waits until the test lets it go on.
pub fn wait_for_stop(n: u64) -> u64 {
    let n = report(n);
    GATE.get().unwrap().1.wait();
    n
}

/// Returns a pool of these settings whose workers know the gate.
pub fn gated(builder: PoolBuilder) -> (Pool, Gate) {
    let gate = (Queue::new().unwrap(), Event::new().unwrap());
    let pool = builder.initializer(keep, gate.clone()).build().unwrap();
    (pool, gate)
}

/// Returns what has started so far, when no task of the pool is running.
#[allow(
    dead_code,
    reason = "each test is a program of its own, and not all ask"
)]
pub fn begun((begun, _): &Gate) -> Vec<u64> {
    std::iter::from_fn(|| begun.try_get().ok()).collect()
}
