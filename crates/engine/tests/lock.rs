//! Lock and RLock as their users see them.

mod common;

use common::{Child, End, Footprint, SharedCells, die, exit_now, isolated, promptly};
use procession_engine::channel::Queue;
use procession_engine::error::LockError;
use procession_engine::sync::{Acquired, Lock, RLock};
use procession_engine::{Deadline, Handle, ObjectRef};

const COUNTER: usize = 0;
const HELD: usize = 1;
const ROUNDS: u64 = 2_000;

#[test]
fn processes_take_turns() {
    isolated(|| {
        let cells = SharedCells::new();
        let lock = Lock::new().unwrap();
        let add = || {
            for _ in 0..ROUNDS {
                lock.acquire(Deadline::NEVER).unwrap();
                // Not an atomic addition: without the lock, increments would be lost.
                cells.write(COUNTER, cells.read(COUNTER) + 1);
                lock.release().unwrap();
            }
        };
        let others = [Child::fork(add), Child::fork(add)];
        add();
        others.iter().for_each(Child::succeed);
        assert_eq!(cells.read(COUNTER), 3 * ROUNDS);
    });
}

#[test]
fn threads_of_one_process_take_turns() {
    isolated(|| {
        let cells = SharedCells::new();
        let lock = Lock::new().unwrap();
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    for _ in 0..ROUNDS {
                        lock.acquire(Deadline::NEVER).unwrap();
                        cells.write(COUNTER, cells.read(COUNTER) + 1);
                        lock.release().unwrap();
                    }
                });
            }
        });
        assert_eq!(cells.read(COUNTER), 3 * ROUNDS);
    });
}

#[test]
fn a_held_lock_is_not_acquired_and_says_who_has_it() {
    isolated(|| {
        let lock = Lock::new().unwrap();
        assert!(!lock.is_held());
        assert_eq!(lock.holder(), None);
        assert!(lock.try_acquire());
        assert!(lock.is_held() && lock.is_mine());
        assert!(!lock.try_acquire(), "it is not recursive");
        assert!(lock.would_wait());
        assert_eq!(lock.acquire(Deadline::NOW), Err(LockError::TimedOut));
        Child::fork(|| {
            assert!(lock.is_held() && !lock.is_mine() && lock.would_wait());
            assert_eq!(lock.acquire(Deadline::NOW), Err(LockError::TimedOut));
        })
        .succeed();
        lock.release().unwrap();
        assert!(lock.release().is_err(), "it is free");
        assert!(!lock.would_wait());
    });
}

#[test]
fn anyone_may_release() {
    isolated(|| {
        let lock = Lock::new().unwrap();
        lock.acquire(Deadline::NOW).unwrap();
        let opener = Child::fork(|| lock.release().unwrap());
        lock.acquire(promptly()).unwrap();
        opener.succeed();
    });
}

#[test]
fn a_holder_that_exits_in_order_leaves_it_held() {
    isolated(|| {
        let lock = Lock::new().unwrap();
        Child::fork(|| lock.acquire(Deadline::NOW).unwrap()).succeed();
        assert!(lock.is_held());
        assert_eq!(lock.acquire(Deadline::NOW), Err(LockError::TimedOut));
        lock.release().unwrap();
        lock.acquire(Deadline::NOW).unwrap();
    });
}

#[test]
fn a_holder_that_let_go_of_its_handle_leaves_it_held_too() {
    isolated(|| {
        let queue = Queue::new(0).unwrap();
        Child::fork(|| {
            let lock = Lock::new().unwrap();
            lock.acquire(Deadline::NOW).unwrap();
            let held = [ObjectRef::of(&lock.handle()).unwrap()];
            let bytes = lock.handle().to_bytes();
            queue.put_with(&[&bytes], &held, Deadline::NOW).unwrap();
        })
        .succeed();
        let message = queue.get(Deadline::NOW).unwrap();
        let lock = Lock::open(&Handle::from_bytes(message.bytes()).unwrap()).unwrap();
        assert_eq!(lock.acquire(Deadline::NOW), Err(LockError::TimedOut));
    });
}

#[test]
fn a_waiter_is_told_once_that_the_holder_was_killed() {
    isolated(|| {
        let cells = SharedCells::new();
        let lock = Lock::new().unwrap();
        let holder = Child::fork(|| {
            lock.acquire(Deadline::NOW).unwrap();
            cells.write(HELD, 1);
            loop {
                std::thread::park();
            }
        });
        cells.until(HELD, 1);
        let waiter = Child::fork(|| {
            cells.write(HELD, 2);
            assert_eq!(lock.acquire(promptly()), Err(LockError::OwnerDied));
            lock.acquire(Deadline::NOW).unwrap();
            lock.release().unwrap();
        });
        cells.until(HELD, 2);
        holder.kill();
        waiter.succeed();
        assert_eq!(holder.reap(), End::Killed(libc::SIGKILL));
    });
}

#[test]
fn every_kind_of_death_is_seen() {
    isolated(|| {
        let lock = Lock::new().unwrap();
        let deaths: [fn(); 3] = [|| die(), || exit_now(0), || common::exec_true()];
        for death in deaths {
            let child = Child::fork(|| {
                lock.acquire(promptly()).unwrap();
                death();
            });
            child.ended();
            assert_eq!(lock.acquire(promptly()), Err(LockError::OwnerDied));
            child.join();
            lock.acquire(Deadline::NOW).unwrap();
            lock.release().unwrap();
        }
    });
}

#[test]
fn a_lock_of_the_dead_can_be_taken_for_repair_or_opened_by_anyone() {
    isolated(|| {
        let lock = Lock::new().unwrap();
        let dead = Child::fork(|| {
            lock.acquire(Deadline::NOW).unwrap();
            die();
        });
        dead.join();
        assert!(lock.is_held() && !lock.would_wait());
        assert_eq!(
            lock.acquire_for_repair(Deadline::NOW),
            Ok(Acquired::AfterOwnerDied)
        );
        assert!(lock.is_mine());
        lock.release().unwrap();
        assert_eq!(lock.acquire_for_repair(promptly()), Ok(Acquired::Clean));
        lock.release().unwrap();
        let dead = Child::fork(|| {
            lock.acquire(Deadline::NOW).unwrap();
            die();
        });
        dead.join();
        lock.release().unwrap();
        lock.acquire(Deadline::NOW).unwrap();
    });
}

#[test]
fn a_stopped_holder_is_alive() {
    isolated(|| {
        let cells = SharedCells::new();
        let lock = Lock::new().unwrap();
        let holder = Child::fork(|| {
            lock.acquire(Deadline::NOW).unwrap();
            cells.write(HELD, 1);
            cells.until(HELD, 2);
            lock.release().unwrap();
        });
        cells.until(HELD, 1);
        holder.stop();
        assert_eq!(lock.acquire(common::briefly()), Err(LockError::TimedOut));
        cells.write(HELD, 2);
        holder.resume();
        lock.acquire(promptly()).unwrap();
        holder.succeed();
    });
}

#[test]
fn a_recursive_lock_counts() {
    isolated(|| {
        let lock = RLock::new().unwrap();
        assert!(lock.release().is_err());
        for count in 1..=3 {
            lock.acquire(Deadline::NOW).unwrap();
            assert_eq!(lock.count(), count);
        }
        assert!(!lock.would_wait(), "its owner may have it once more");
        Child::fork(|| {
            assert_eq!(lock.count(), 0);
            assert!(lock.release().is_err(), "only its owner may release it");
            assert!(lock.would_wait());
            assert_eq!(lock.acquire(Deadline::NOW), Err(LockError::TimedOut));
        })
        .succeed();
        std::thread::scope(|scope| {
            let other = scope.spawn(|| {
                assert!(lock.would_wait());
                (lock.release().is_err(), lock.acquire(Deadline::NOW))
            });
            assert_eq!(other.join().unwrap(), (true, Err(LockError::TimedOut)));
        });
        for _ in 0..3 {
            lock.release().unwrap();
        }
        Child::fork(|| lock.acquire(Deadline::NOW).unwrap()).join();
    });
}

#[test]
fn a_recursive_lock_of_the_dead_is_free_after_it_was_told() {
    isolated(|| {
        let lock = RLock::new().unwrap();
        let dead = Child::fork(|| {
            lock.acquire(Deadline::NOW).unwrap();
            lock.acquire(Deadline::NOW).unwrap();
            die();
        });
        dead.ended();
        assert!(!lock.would_wait());
        assert_eq!(lock.acquire(Deadline::NOW), Err(LockError::OwnerDied));
        lock.acquire(Deadline::NOW).unwrap();
        assert_eq!(lock.count(), 1);
        lock.release().unwrap();
        dead.join();
    });
}

#[test]
fn a_lock_is_opened_by_its_handle_until_nobody_has_it() {
    isolated(|| {
        procession_engine::process::ensure().unwrap();
        let before = Footprint::take();
        let lock = Lock::new().unwrap();
        let handle = Handle::from_bytes(&lock.handle().to_bytes()).unwrap();
        let again = Lock::open(&handle).unwrap();
        again.acquire(Deadline::NOW).unwrap();
        assert!(lock.is_held());
        assert!(
            RLock::open(&handle).is_err(),
            "it is a lock of another kind"
        );
        drop(lock);
        assert!(Lock::open(&handle).is_ok());
        drop(again);
        assert!(Lock::open(&handle).is_err(), "it is gone");
        before.assert_unchanged();
    });
}

#[test]
fn a_signal_interrupts_a_waiter() {
    isolated(|| {
        let cells = SharedCells::new();
        let lock = Lock::new().unwrap();
        lock.acquire(Deadline::NOW).unwrap();
        let waiter = Child::fork(|| {
            common::handle_sigusr1();
            cells.write(HELD, 1);
            assert_eq!(lock.acquire(Deadline::NEVER), Err(LockError::Interrupted));
        });
        cells.until(HELD, 1);
        waiter.signal_until_ended();
        waiter.succeed();
    });
}
