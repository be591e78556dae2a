//! Barrier as its users see it.

mod common;

use common::{Child, SharedCells, isolated, promptly};
use procession_engine::Deadline;
use procession_engine::sync::{Barrier, BarrierError, WaitOutcome};

const ARRIVING: usize = 0;
const INDEX: usize = 1;

fn pass(barrier: &Barrier, deadline: Deadline) -> Result<u32, BarrierError> {
    Ok(match barrier.arrive(deadline)? {
        WaitOutcome::Last(guard) => guard.open()?,
        WaitOutcome::Passed { index } => index,
    })
}

#[test]
fn all_parties_pass_together_each_with_its_own_index_again_and_again() {
    isolated(|| {
        let cells = SharedCells::new();
        let barrier = Barrier::new(3).unwrap();
        let meet = || {
            for round in 0..50 {
                cells.count(ARRIVING);
                let index = pass(&barrier, promptly()).unwrap();
                assert!(
                    cells.read(ARRIVING) >= 3 * (round + 1),
                    "it opened too early"
                );
                cells.count(INDEX + index as usize);
            }
        };
        let others = [Child::fork(meet), Child::fork(meet)];
        meet();
        others.iter().for_each(Child::succeed);
        assert_eq!(
            (0..3)
                .map(|index| cells.read(INDEX + index))
                .collect::<Vec<_>>(),
            [50; 3]
        );
        assert_eq!((barrier.waiting(), barrier.parties()), (0, 3));
    });
}

#[test]
fn the_last_one_acts_before_the_others_pass() {
    isolated(|| {
        let cells = SharedCells::new();
        let barrier = Barrier::new(2).unwrap();
        let meet = || match barrier.arrive(promptly()).unwrap() {
            WaitOutcome::Last(guard) => {
                cells.write(0, 1);
                guard.open().unwrap();
            }
            WaitOutcome::Passed { .. } => assert_eq!(cells.read(0), 1, "the action comes first"),
        };
        let other = Child::fork(meet);
        meet();
        other.succeed();
    });
}

#[test]
fn a_last_one_that_does_not_open_breaks_it() {
    isolated(|| {
        let barrier = Barrier::new(2).unwrap();
        let meet = || match barrier.arrive(promptly()) {
            Ok(WaitOutcome::Last(guard)) => drop(guard),
            Ok(WaitOutcome::Passed { .. }) => panic!("nobody opened"),
            Err(error) => assert_eq!(error, BarrierError::Broken),
        };
        let other = Child::fork(meet);
        meet();
        other.succeed();
        assert!(barrier.is_broken());
    });
}

#[test]
fn a_timeout_breaks_it_until_it_is_reset() {
    isolated(|| {
        let barrier = Barrier::new(2).unwrap();
        assert!(matches!(
            barrier.arrive(common::briefly()),
            Err(BarrierError::Broken)
        ));
        assert!(barrier.is_broken());
        assert!(matches!(
            barrier.arrive(Deadline::NEVER),
            Err(BarrierError::Broken)
        ));
        barrier.reset();
        assert!(!barrier.is_broken());
        let other = Child::fork(|| assert!(pass(&barrier, promptly()).is_ok()));
        pass(&barrier, promptly()).unwrap();
        other.succeed();
    });
}

#[test]
fn aborting_and_resetting_end_all_waits() {
    isolated(|| {
        let barrier = Barrier::new(3).unwrap();
        for end in [Barrier::abort, Barrier::reset] {
            let wait = || {
                assert!(matches!(
                    barrier.arrive(Deadline::NEVER),
                    Err(BarrierError::Broken)
                ))
            };
            let waiters = [Child::fork(wait), Child::fork(wait)];
            while barrier.waiting() < 2 {
                std::thread::yield_now();
            }
            end(&barrier);
            waiters.iter().for_each(Child::succeed);
            barrier.reset();
        }
        assert!(!barrier.is_broken());
    });
}

#[test]
fn a_killed_party_breaks_it_for_the_others() {
    isolated(|| {
        let barrier = Barrier::new(3).unwrap();
        let victim = Child::fork(|| drop(barrier.arrive(Deadline::NEVER)));
        while barrier.waiting() < 1 {
            std::thread::yield_now();
        }
        let other = Child::fork(|| {
            assert!(matches!(
                barrier.arrive(Deadline::NEVER),
                Err(BarrierError::Broken)
            ));
        });
        while barrier.waiting() < 2 {
            std::thread::yield_now();
        }
        victim.kill();
        other.succeed();
        victim.join();
        assert!(barrier.is_broken());
        barrier.reset();
        assert_eq!(barrier.waiting(), 0);
    });
}

#[test]
fn resets_let_nobody_through() {
    isolated(|| {
        let cells = SharedCells::new();
        let barrier = Barrier::new(2).unwrap();
        let lonely = Child::fork(|| {
            while cells.count(ARRIVING) < 2_000 {
                let turned_away = pass(&barrier, promptly());
                assert_eq!(turned_away, Err(BarrierError::Broken), "nobody else came");
            }
            cells.write(INDEX, 1);
        });
        // One after the other, so that a late waiter finds several of them behind it.
        while cells.read(INDEX) == 0 && !lonely.has_ended() {
            barrier.reset();
        }
        lonely.succeed();
    });
}

#[test]
fn who_comes_late_to_an_ended_round_takes_nobodys_place() {
    isolated(|| {
        let cells = SharedCells::new();
        let barrier = Barrier::new(2).unwrap();
        let pair = || {
            // Both go on until both have passed often enough: neither may be left alone in a round.
            for _ in 0..300 {
                while pass(&barrier, Deadline::NEVER).is_err() {}
            }
        };
        let pair = [Child::fork(pair), Child::fork(pair)];
        let resetter = Child::fork(|| {
            while cells.read(INDEX) == 0 {
                barrier.reset();
                common::linger();
            }
        });
        for one in &pair {
            one.ended();
        }
        cells.write(INDEX, 1);
        pair.iter().for_each(Child::succeed);
        resetter.succeed();
    });
}
