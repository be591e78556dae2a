//! The claim and sleep protocols under loom: two workers, one submitter, every interleaving.
//!
//! A death is a worker that stops after a step; the others have to go on without it.

use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, Ordering};
use loom::thread;

use super::record::{self, Closing, Stage};
use super::tickets::{self, Ticket, Words};
use crate::sync::eventcount::EventCount;
use crate::sys::atomic::AtomicU64;

const CAPACITY: usize = 2;
const FIRST: Ticket = Ticket {
    number: 0,
    generation: 0,
};
const SECOND: Ticket = Ticket {
    number: 1,
    generation: 0,
};

struct Board {
    states: [AtomicU64; CAPACITY],
    ring: [AtomicU64; CAPACITY],
    head: AtomicU64,
    tail: AtomicU64,
    bell: EventCount,
    /// Set by the submitter's system call.
    woken: AtomicBool,
}

impl Board {
    fn new() -> Arc<Board> {
        let words = || [AtomicU64::new(0), AtomicU64::new(0)];
        Arc::new(Board {
            states: words(),
            ring: words(),
            head: AtomicU64::new(0),
            tail: AtomicU64::new(0),
            bell: EventCount::new(),
            woken: AtomicBool::new(false),
        })
    }

    fn submit(&self, ticket: Ticket) {
        record::publish(self.state(ticket.number), ticket.generation);
        assert!(tickets::offer(self, ticket));
        tickets::ring(self, |_| {
            self.woken.store(true, Ordering::SeqCst);
            1
        });
    }

    fn take(&self, me: u32) -> Option<Ticket> {
        tickets::take(self, me, || ())
    }
}

impl Words for Board {
    fn capacity(&self) -> u32 {
        CAPACITY as u32
    }

    fn state(&self, number: u32) -> &AtomicU64 {
        &self.states[number as usize]
    }

    fn ticket(&self, position: u64) -> &AtomicU64 {
        &self.ring[position as usize % CAPACITY]
    }

    fn head(&self) -> &AtomicU64 {
        &self.head
    }

    fn tail(&self) -> &AtomicU64 {
        &self.tail
    }

    fn bell(&self) -> &EventCount {
        &self.bell
    }
}

fn worker(board: &Arc<Board>, me: u32) -> thread::JoinHandle<Vec<Ticket>> {
    let board = Arc::clone(board);
    thread::spawn(move || std::iter::from_fn(|| board.take(me)).collect())
}

#[test]
fn two_workers_never_take_the_same_task() {
    loom::model(|| {
        let board = Board::new();
        board.submit(FIRST);
        let other = worker(&board, 1);
        board.submit(SECOND);
        let mut taken: Vec<_> = std::iter::from_fn(|| board.take(2)).collect();
        taken.extend(other.join().unwrap());
        // What neither found is still there for the next.
        taken.extend(std::iter::from_fn(|| board.take(3)));
        taken.sort_by_key(|ticket| ticket.number);
        assert_eq!(taken, [FIRST, SECOND]);
    });
}

#[test]
fn a_worker_that_dies_between_claim_and_head_holds_nobody_up() {
    loom::model(|| {
        let board = Board::new();
        board.submit(FIRST);
        board.submit(SECOND);
        assert!(record::claim(board.state(0), 0, 9), "the one that dies");
        let other = worker(&board, 1);
        let mut taken: Vec<_> = std::iter::from_fn(|| board.take(2)).collect();
        taken.extend(other.join().unwrap());
        assert_eq!(taken, [SECOND]);
        let state = record::load(board.state(0));
        assert_eq!((state.stage(), state.owner()), (Stage::Running, 9));
    });
}

#[test]
fn a_slot_of_the_ring_is_used_again_without_a_task_being_lost_or_doubled() {
    loom::model(|| {
        let board = Board::new();
        board.submit(FIRST);
        board.submit(SECOND);
        let other = worker(&board, 1);
        let mut taken: Vec<_> = board.take(2).into_iter().collect();
        let third = taken.first().map(|done| {
            assert_eq!(
                record::finish(board.state(done.number), 0, 2),
                Closing::Done
            );
            record::release(board.state(done.number), 0);
            let again = Ticket {
                number: done.number,
                generation: 1,
            };
            board.submit(again);
            again
        });
        taken.extend(other.join().unwrap());
        taken.extend(std::iter::from_fn(|| board.take(3)));
        taken.sort_by_key(|ticket| (ticket.generation, ticket.number));
        let expected: Vec<_> = [FIRST, SECOND].into_iter().chain(third).collect();
        assert_eq!(taken, expected);
    });
}

#[test]
fn a_worker_that_goes_to_sleep_is_woken_for_a_task_it_missed() {
    loom::model(|| {
        let board = Board::new();
        let sleeper = Arc::clone(&board);
        let asleep = thread::spawn(move || {
            let seen = tickets::announce_sleep(&*sleeper);
            // The kernel compares the word again before it puts anybody to sleep.
            sleeper.take(1).is_none() && sleeper.bell.word().load(Ordering::SeqCst) == seen
        });
        board.submit(FIRST);
        if asleep.join().unwrap() {
            assert!(board.woken.load(Ordering::SeqCst));
        }
    });
}

#[test]
fn a_task_is_withdrawn_or_run_but_not_both() {
    loom::model(|| {
        let board = Board::new();
        board.submit(FIRST);
        let other = worker(&board, 1);
        let withdrawn = record::withdraw(board.state(0), 0);
        let taken = other.join().unwrap();
        assert_eq!(taken.is_empty(), withdrawn);
    });
}

#[test]
fn a_worker_learns_that_its_task_was_doomed_before_it_may_claim_again() {
    loom::model(|| {
        let board = Board::new();
        board.submit(FIRST);
        assert_eq!(board.take(1), Some(FIRST));
        let finisher = Arc::clone(&board);
        let closing = thread::spawn(move || record::finish(finisher.state(0), 0, 1));
        let doomed = record::doom(board.state(0), 0);
        match closing.join().unwrap() {
            Closing::Doomed => assert_eq!(doomed, Some(1)),
            Closing::Done => assert_eq!(doomed, None),
        }
    });
}
