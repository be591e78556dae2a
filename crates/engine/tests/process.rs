//! Processes as members of a tree, as their users see it.

mod common;

use common::{Child, End, Footprint, Slate, die, exec_true, exit_now, isolated};
use procession_engine::Deadline;
use procession_engine::error::LockError;
use procession_engine::process::{self, Fate, Seat};
use procession_engine::sync::Lock;
use procession_engine::value::SharedBytes;

#[test]
fn a_child_is_alive_until_it_ends_and_how_it_ended_is_known() {
    isolated(|| {
        process::ensure().unwrap();
        let slate = Slate::new();
        let child = Child::fork(|| {
            slate.write(1, 1);
            slate.until(0, 1);
        });
        let seat = child.seat().unwrap();
        assert_eq!(process::fate(seat), Fate::Alive);
        slate.until(1, 1);
        assert_eq!(
            process::bury(seat),
            Fate::Alive,
            "the living are not buried"
        );
        slate.write(0, 1);
        child.ended();
        assert_eq!(process::fate(seat), Fate::Left);
        assert_eq!(child.join(), (End::Exited(0), Some(Fate::Left)));
    });
}

#[test]
fn killed_exited_and_replaced_processes_died() {
    isolated(|| {
        process::ensure().unwrap();
        let before = Footprint::take();
        let deaths: [fn() -> !; 3] = [|| die(), || exit_now(0), || exec_true()];
        for death in deaths {
            let child = Child::fork(|| death());
            child.ended();
            assert_eq!(process::fate(child.seat().unwrap()), Fate::Died);
            assert_eq!(child.join().1, Some(Fate::Died));
            before.assert_unchanged();
        }
    });
}

#[test]
fn a_process_that_a_thread_replaced_is_gone_once_it_was_reaped() {
    isolated(|| {
        let lock = Lock::new().unwrap();
        let before = Footprint::take();
        let seat = Seat::reserve().unwrap().keep();
        let child = Child::fork(|| {
            // The thread that sits down is the one that calls exec, and is not the first.
            let replacer = std::thread::scope(|scope| {
                let replacer = scope.spawn(|| {
                    process::take_seat(seat).unwrap();
                    lock.acquire(Deadline::NEVER).unwrap();
                    exec_true()
                });
                replacer.join()
            });
            drop(replacer);
        });
        assert_eq!(child.join(), (End::Exited(0), Some(Fate::Died)));
        assert_eq!(process::bury_reaped(seat), Fate::Died);
        assert_eq!(lock.acquire(Deadline::NEVER), Err(LockError::OwnerDied));
        before.assert_unchanged();
    });
}

#[test]
fn a_stopped_process_is_alive() {
    isolated(|| {
        process::ensure().unwrap();
        let slate = Slate::new();
        let child = Child::fork(|| slate.until(0, 1));
        child.stop();
        assert_eq!(process::fate(child.seat().unwrap()), Fate::Alive);
        assert_eq!(process::sweep(), 0);
        slate.write(0, 1);
        child.go_on();
        child.succeed();
    });
}

#[test]
fn a_forked_child_holds_what_its_parent_held_even_when_the_parent_lets_go() {
    isolated(|| {
        let slate = Slate::new();
        let shared = SharedBytes::new(8).unwrap();
        let handle = shared.handle();
        let child = Child::fork(|| {
            slate.until(0, 1);
            SharedBytes::open(&handle).unwrap().write_at(0, &[1]);
            shared.write_at(0, &[2]);
        });
        drop(shared);
        slate.write(0, 1);
        child.succeed();
        assert!(
            SharedBytes::open(&handle).is_err(),
            "nobody holds it any more"
        );
    });
}

#[test]
fn grandchildren_belong_to_the_tree() {
    isolated(|| {
        let shared = SharedBytes::new(8).unwrap();
        let child = Child::fork(|| {
            let grandchild = Child::fork(|| shared.write_at(0, &[3]));
            grandchild.succeed();
        });
        child.succeed();
        let mut seen = [0];
        shared.read_at(0, &mut seen);
        assert_eq!(seen, [3]);
    });
}

#[test]
fn a_reserved_seat_keeps_objects_alive_for_a_child_that_is_yet_to_come() {
    isolated(|| {
        let shared = SharedBytes::new(8).unwrap();
        let handle = shared.handle();
        let seat = Seat::reserve().unwrap();
        seat.hold(&handle).unwrap();
        let seat = seat.keep();
        let child = Child::fork(|| {
            process::take_seat(seat).unwrap();
            assert_eq!(process::me(), seat);
            SharedBytes::open(&handle).unwrap().write_at(0, &[4]);
        });
        drop(shared);
        assert_eq!(child.reap(), End::Exited(0));
        process::bury(child.seat().unwrap());
        assert_eq!(process::fate(seat), Fate::Left);
        process::bury(seat);
        assert!(SharedBytes::open(&handle).is_err());
    });
}

#[test]
fn a_seat_that_is_not_used_is_given_back_with_what_it_held() {
    isolated(|| {
        process::ensure().unwrap();
        let before = Footprint::take();
        let shared = SharedBytes::new(8).unwrap();
        let handle = shared.handle();
        let seat = Seat::reserve().unwrap();
        seat.hold(&handle).unwrap();
        drop(shared);
        assert!(SharedBytes::open(&handle).is_ok());
        drop(seat);
        assert!(SharedBytes::open(&handle).is_err());
        before.assert_unchanged();
    });
}

#[test]
fn seats_are_used_again_and_former_occupants_stay_dead() {
    isolated(|| {
        process::ensure().unwrap();
        let former: Vec<_> = (0..20)
            .map(|_| {
                let child = Child::fork(|| die());
                child.join();
                child.seat().unwrap()
            })
            .collect();
        assert_eq!(process::census().seats, 1);
        let child = Child::fork(|| ());
        assert!(
            former
                .iter()
                .all(|&seat| process::fate(seat) != Fate::Alive)
        );
        assert!(!former.contains(&child.seat().unwrap()));
        child.succeed();
    });
}

#[test]
fn two_hundred_children_one_after_the_other_leave_nothing() {
    isolated(|| {
        let shared = SharedBytes::new(8).unwrap();
        let before = Footprint::take();
        for number in 0..200 {
            let child = Child::fork(|| {
                let own = SharedBytes::new(1_000).unwrap();
                shared.write_at(0, &[number as u8]);
                if number % 2 == 0 {
                    std::mem::forget(own);
                    die();
                }
            });
            child.join();
        }
        before.assert_unchanged();
    });
}

#[test]
fn a_test_thread_may_make_the_tree_and_end() {
    isolated(|| {
        let maker = std::thread::spawn(|| SharedBytes::new(8).unwrap());
        let shared = maker.join().unwrap();
        let child = Child::fork(|| {
            assert_eq!(
                process::sweep(),
                0,
                "the parent lives, though the thread ended"
            );
            shared.write_at(0, &[1]);
        });
        child.succeed();
        let mut seen = [0];
        shared.read_at(0, &mut seen);
        assert_eq!(seen, [1]);
    });
}
