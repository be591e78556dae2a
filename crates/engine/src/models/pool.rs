//! The claim and sleep protocols of the pool: two workers, one submitter, every interleaving.
//!
//! A death is a worker that stops after a step. The others have to go on without it.

use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, Ordering};
use loom::thread;

use crate::eventcount::EventCount;
use crate::pool::record::{self, Closing, Stage};
use crate::pool::ring::{self, RingMemory, RingSlot};
use crate::sys::atomic::AtomicU64;

const CAPACITY: usize = 2;
const FIRST: RingSlot = RingSlot {
    number: 0,
    generation: 0,
};
const SECOND: RingSlot = RingSlot {
    number: 1,
    generation: 0,
};

struct TaskQueue {
    states: [AtomicU64; CAPACITY],
    ring: [AtomicU64; CAPACITY],
    head: AtomicU64,
    tail: AtomicU64,
    doorbell: EventCount,
    /// Set by the submitter's system call.
    woken: AtomicBool,
}

impl TaskQueue {
    fn new() -> Arc<TaskQueue> {
        let words = || [AtomicU64::new(0), AtomicU64::new(0)];
        Arc::new(TaskQueue {
            states: words(),
            ring: words(),
            head: AtomicU64::new(0),
            tail: AtomicU64::new(0),
            doorbell: EventCount::new(),
            woken: AtomicBool::new(false),
        })
    }

    fn submit(&self, ring_slot: RingSlot) {
        record::publish(self.state(ring_slot.number), ring_slot.generation);
        assert!(ring::offer(self, ring_slot));
        if self.doorbell.is_awaited_fenced() {
            self.doorbell.call(|_| {
                self.woken.store(true, Ordering::SeqCst);
                1
            });
        }
    }

    fn take(&self, me: u32) -> Option<RingSlot> {
        ring::take(self, me, || ())
    }
}

impl RingMemory for TaskQueue {
    fn capacity(&self) -> u32 {
        CAPACITY as u32
    }

    fn state(&self, number: u32) -> &AtomicU64 {
        &self.states[number as usize]
    }

    fn ring_slot(&self, position: u64) -> &AtomicU64 {
        &self.ring[position as usize % CAPACITY]
    }

    fn head(&self) -> &AtomicU64 {
        &self.head
    }

    fn tail(&self) -> &AtomicU64 {
        &self.tail
    }

    fn doorbell(&self) -> &EventCount {
        &self.doorbell
    }
}

fn worker(task_queue: &Arc<TaskQueue>, me: u32) -> thread::JoinHandle<Vec<RingSlot>> {
    let task_queue = Arc::clone(task_queue);
    thread::spawn(move || std::iter::from_fn(|| task_queue.take(me)).collect())
}

#[test]
fn two_workers_never_take_the_same_task() {
    loom::model(|| {
        let task_queue = TaskQueue::new();
        task_queue.submit(FIRST);
        let other = worker(&task_queue, 1);
        task_queue.submit(SECOND);
        let mut taken: Vec<_> = std::iter::from_fn(|| task_queue.take(2)).collect();
        taken.extend(other.join().unwrap());
        // What neither worker found is still there for the next.
        taken.extend(std::iter::from_fn(|| task_queue.take(3)));
        taken.sort_by_key(|ring_slot| ring_slot.number);
        assert_eq!(taken, [FIRST, SECOND]);
    });
}

#[test]
fn a_worker_that_dies_between_claim_and_head_holds_nobody_up() {
    loom::model(|| {
        let task_queue = TaskQueue::new();
        task_queue.submit(FIRST);
        task_queue.submit(SECOND);
        assert!(
            record::claim(task_queue.state(0), 0, 9),
            "the one that dies"
        );
        let other = worker(&task_queue, 1);
        let mut taken: Vec<_> = std::iter::from_fn(|| task_queue.take(2)).collect();
        taken.extend(other.join().unwrap());
        assert_eq!(taken, [SECOND]);
        let state = record::load(task_queue.state(0));
        assert_eq!((state.stage(), state.owner()), (Stage::Running, 9));
    });
}

#[test]
fn a_slot_of_the_ring_is_used_again_without_a_task_being_lost_or_doubled() {
    loom::model(|| {
        let task_queue = TaskQueue::new();
        task_queue.submit(FIRST);
        task_queue.submit(SECOND);
        let other = worker(&task_queue, 1);
        let mut taken: Vec<_> = task_queue.take(2).into_iter().collect();
        let third = taken.first().map(|done| {
            assert_eq!(
                record::finish(task_queue.state(done.number), 0, 2),
                Closing::Done
            );
            record::release(task_queue.state(done.number), 0);
            let again = RingSlot {
                number: done.number,
                generation: 1,
            };
            task_queue.submit(again);
            again
        });
        taken.extend(other.join().unwrap());
        taken.extend(std::iter::from_fn(|| task_queue.take(3)));
        taken.sort_by_key(|ring_slot| (ring_slot.generation, ring_slot.number));
        let expected: Vec<_> = [FIRST, SECOND].into_iter().chain(third).collect();
        assert_eq!(taken, expected);
    });
}

#[test]
fn a_worker_that_goes_to_sleep_is_woken_for_a_task_it_missed() {
    loom::model(|| {
        let task_queue = TaskQueue::new();
        let sleeper = Arc::clone(&task_queue);
        let asleep = thread::spawn(move || {
            let seen = sleeper.doorbell.announce_fenced();
            // The kernel compares the word again before it puts a thread to sleep.
            sleeper.take(1).is_none() && sleeper.doorbell.word().load(Ordering::SeqCst) == seen
        });
        task_queue.submit(FIRST);
        if asleep.join().unwrap() {
            assert!(task_queue.woken.load(Ordering::SeqCst));
        }
    });
}

#[test]
fn a_task_is_withdrawn_or_run_but_not_both() {
    loom::model(|| {
        let task_queue = TaskQueue::new();
        task_queue.submit(FIRST);
        let other = worker(&task_queue, 1);
        let withdrawn = record::withdraw(task_queue.state(0), 0);
        let taken = other.join().unwrap();
        assert_eq!(taken.is_empty(), withdrawn);
    });
}

#[test]
fn a_worker_learns_that_its_task_was_revoked_before_it_may_claim_again() {
    loom::model(|| {
        let task_queue = TaskQueue::new();
        task_queue.submit(FIRST);
        assert_eq!(task_queue.take(1), Some(FIRST));
        let finisher = Arc::clone(&task_queue);
        let closing = thread::spawn(move || record::finish(finisher.state(0), 0, 1));
        let revoked = record::revoke(task_queue.state(0), 0);
        match closing.join().unwrap() {
            Closing::Revoked => assert_eq!(revoked, Some(1)),
            Closing::Done => assert_eq!(revoked, None),
        }
    });
}
