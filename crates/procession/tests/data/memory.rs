//! Counting and limiting shared memory: nothing stays in use without a holder.

use std::sync::{Barrier, Mutex, MutexGuard, PoisonError};

use procession::{Array, Loan, Process, PutError, Queue, memory_usage, set_memory_limit};
use procession_engine::process::memory_stats;

procession::test_support!();

/// One test at a time: all of them count the memory of the whole process tree.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn blocks() -> usize {
    memory_stats().blocks_in_use
}

/// The bytes in use, without the slots that the queue's first message creates.
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

/// Sets a limit until it is dropped.
struct Limit;

impl Limit {
    fn beyond_what_is_there(bytes: u64) -> Limit {
        // First use up what other tests left free.
        set_memory_limit(1).unwrap();
        Loan::<u8>::new(1 << 20).unwrap_err();
        set_memory_limit(memory_usage().unwrap().resident + bytes).unwrap();
        Limit
    }
}

impl Drop for Limit {
    fn drop(&mut self) {
        set_memory_limit(None).unwrap();
    }
}

#[test]
fn at_the_limit_a_message_comes_back_and_what_is_there_goes_on() {
    let _alone = alone();
    let queue = Queue::new().unwrap();
    queue.put(vec![1; 100]).unwrap();
    let limit = Limit::beyond_what_is_there(4 << 20);
    let refused = queue.put(vec![2u8; 8 << 20]).unwrap_err();
    let PutError::Failed(message, why) = refused else {
        panic!("{refused:?}");
    };
    assert!(why.is_out_of_memory(), "{why}");
    assert!(why.to_string().contains("raise the limit"), "{why}");
    assert_eq!((queue.len(), queue.get().unwrap()), (1, vec![1; 100]));
    assert!(Loan::<u8>::new(8 << 20).unwrap_err().is_out_of_memory());
    assert!(
        Array::<u64>::zeroed(1 << 20)
            .unwrap_err()
            .is_out_of_memory()
    );
    drop(limit);
    queue.put(message).unwrap();
    assert_eq!(queue.get().unwrap().len(), 8 << 20);
}

fn put_until_it_is_refused(queue: Queue<Vec<u8>>) -> usize {
    let mut put = 0;
    loop {
        match queue.put(vec![7; 1 << 20]) {
            Ok(()) => put += 1,
            Err(PutError::Failed(message, why)) => {
                assert!(why.is_out_of_memory(), "{why}");
                assert_eq!(message.len(), 1 << 20);
                return put;
            }
            Err(other) => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_limit_holds_for_every_process_of_the_program() {
    let _alone = alone();
    let queue = Queue::new().unwrap();
    let _limit = Limit::beyond_what_is_there(16 << 20);
    let producer = Process::spawn(put_until_it_is_refused, queue.clone()).unwrap();
    let put = producer.join().unwrap();
    let usage = memory_usage().unwrap();
    assert!(usage.in_use >= (put << 20) as u64 && put > 8, "{put}");
    assert!(Some(usage.resident) <= usage.limit, "{usage:?}");
    assert_eq!(queue.len(), put);
    // Received messages make room for other objects too.
    (0..put).for_each(|_| assert_eq!(queue.get().unwrap(), vec![7; 1 << 20]));
    Loan::<u8>::new((put - 1) << 20).unwrap();
}

#[test]
fn what_is_used_and_let_go_of_is_counted() {
    let _alone = alone();
    let before = memory_usage().unwrap();
    let array = Array::<u8>::zeroed(3 << 20).unwrap();
    let with = memory_usage().unwrap();
    assert!(with.in_use >= before.in_use + (3 << 20));
    assert!(with.resident >= with.in_use);
    drop(array);
    assert!(memory_usage().unwrap().in_use <= before.in_use);
    assert_eq!(before.limit, None);
}

#[test]
fn what_others_are_giving_back_just_now_is_not_missing() {
    let _alone = alone();
    for _ in 0..30 {
        set_memory_limit(None).unwrap();
        // Free, but too little for the next request.
        drop(Loan::<u8>::zeroed(40 << 20).unwrap());
        let resident = memory_usage().unwrap().resident;
        set_memory_limit(resident).unwrap();
        let all_at_once = Barrier::new(4);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    all_at_once.wait();
                    Loan::<u8>::new(3 << 20).map(drop).unwrap();
                });
            }
        });
    }
    set_memory_limit(None).unwrap();
}
