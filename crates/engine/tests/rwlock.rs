//! Readers and writers of one lock.

mod common;

use common::{Child, SharedCells, briefly, isolated, promptly};
use procession_engine::error::LockError;
use procession_engine::sync::{Acquired, RwLock};

const INSIDE: usize = 0;
const LEAVE: usize = 1;

#[test]
fn readers_share_and_writers_do_not() {
    let cells = SharedCells::new();
    isolated(|| {
        let lock = RwLock::new().unwrap();
        let reader = Child::fork(|| {
            let (hold, _) = lock.read(promptly()).unwrap();
            cells.write(INSIDE, 1);
            cells.until(LEAVE, 1);
            lock.leave(hold);
        });
        cells.until(INSIDE, 1);
        let (hold, state) = lock.read(promptly()).unwrap();
        assert_eq!(state, Acquired::Clean);
        lock.leave(hold);
        assert_eq!(lock.write(briefly()), Err(LockError::TimedOut));
        // A process that gave up holds nothing of it.
        let (hold, _) = lock.read(promptly()).unwrap();
        lock.leave(hold);
        cells.write(LEAVE, 1);
        lock.write(promptly()).unwrap();
        reader.succeed();
        let other = Child::fork(|| {
            assert_eq!(lock.read(briefly()).unwrap_err(), LockError::TimedOut);
            assert!(!lock.is_writing(), "its parent is");
        });
        other.succeed();
        lock.finish(true);
    });
}

#[test]
fn more_readers_than_there_are_reader_slots_wait_for_each_other() {
    let cells = SharedCells::new();
    isolated(|| {
        let lock = RwLock::new().unwrap();
        let readers: Vec<_> = (0..40)
            .map(|_| {
                Child::fork(|| {
                    for _ in 0..50 {
                        let (hold, _) = lock.read(promptly()).unwrap();
                        assert_eq!(cells.read(INSIDE), 0, "a writer is inside");
                        lock.leave(hold);
                    }
                })
            })
            .collect();
        for _ in 0..50 {
            lock.write(promptly()).unwrap();
            cells.write(INSIDE, 1);
            std::thread::yield_now();
            cells.write(INSIDE, 0);
            lock.finish(true);
        }
        for reader in readers {
            reader.succeed();
        }
    });
}

#[test]
fn what_a_dead_writer_left_is_told_until_a_writer_repairs_it() {
    isolated(|| {
        let lock = RwLock::new().unwrap();
        let writer = Child::fork(|| {
            lock.write(promptly()).unwrap();
            common::die();
        });
        writer.join();
        for _ in 0..2 {
            let (hold, state) = lock.read(promptly()).unwrap();
            assert_eq!(state, Acquired::AfterOwnerDied);
            lock.leave(hold);
        }
        assert_eq!(lock.write(promptly()), Ok(Acquired::AfterOwnerDied));
        lock.finish(false);
        assert_eq!(lock.write(promptly()), Ok(Acquired::AfterOwnerDied));
        lock.finish(true);
        assert_eq!(lock.write(promptly()), Ok(Acquired::Clean));
        lock.finish(true);
    });
}

#[test]
fn a_dead_reader_holds_nobody_up() {
    isolated(|| {
        let lock = RwLock::new().unwrap();
        let reader = Child::fork(|| {
            let _hold = lock.read(promptly()).unwrap();
            common::die();
        });
        reader.join();
        assert_eq!(lock.write(promptly()), Ok(Acquired::Clean));
        lock.finish(true);
    });
}
