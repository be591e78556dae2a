//! How much shared memory is in use: nothing stays that nobody has any more.

use std::sync::{Mutex, MutexGuard, PoisonError};

use procession::{Loan, Process, Queue};
use procession_engine::process::census;

procession::test_support!();

/// One test at a time: they all count what the whole process tree uses.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn blocks() -> usize {
    census().blocks_in_use
}

/// What is in use besides the slots of the queue, which its first message makes.
fn blocks_beside(queue: &Queue<Loan<u8>>) -> usize {
    queue.put_loan(queue.loan(1).unwrap()).unwrap();
    queue.get_loan().unwrap();
    blocks()
}

#[test]
fn a_loan_that_is_dropped_or_was_received_gives_its_memory_back() {
    let _alone = alone();
    let queue = Queue::new().unwrap();
    let before = blocks_beside(&queue);
    drop(queue.loan(100_000).unwrap());
    assert_eq!(blocks(), before);
    queue.put_loan(queue.loan(100_000).unwrap()).unwrap();
    let received = queue.get_loan().unwrap();
    assert_eq!(blocks(), before + 1);
    drop(received);
    assert_eq!(blocks(), before);
}

fn leak(queue: Queue<Loan<u8>>, die: bool) {
    std::mem::forget(queue.loan(100_000).unwrap());
    std::mem::forget(queue.get_loan().unwrap());
    if die {
        std::process::abort();
    }
}

#[test]
fn what_a_process_leaks_or_dies_with_is_given_back() {
    let _alone = alone();
    let queue = Queue::new().unwrap();
    let before = blocks_beside(&queue);
    for die in [false, true] {
        queue.put_loan(queue.loan(100_000).unwrap()).unwrap();
        let process = Process::spawn(leak, (queue.clone(), die)).unwrap();
        assert_eq!(process.join().is_err(), die);
        assert_eq!((blocks(), queue.len()), (before, 0));
    }
}
