//! Processes as members of a tree, as their users see them.

mod common;

use common::{Child, End, Footprint, SharedCells, die, exec_sleep, exec_true, exit_now, isolated};
use procession_engine::error::LockError;
use procession_engine::process::child::{Offer, answer};
use procession_engine::process::{self, ExitState, Reservation};
use procession_engine::sync::Lock;
use procession_engine::value::SharedBytes;
use procession_engine::{Deadline, Error, FileId};
use rustix::event::EventfdFlags;
use rustix::io::FdFlags;
use rustix::pipe::PipeFlags;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};

#[test]
fn a_child_is_alive_until_it_ends_and_how_it_ended_is_known() {
    isolated(|| {
        process::ensure().unwrap();
        let cells = SharedCells::new();
        let child = Child::fork(|| {
            cells.write(1, 1);
            cells.until(0, 1);
        });
        let slot = child.proc_id().unwrap();
        assert_eq!(process::exit_state(slot), ExitState::Alive);
        cells.until(1, 1);
        assert_eq!(
            process::reap(slot),
            ExitState::Alive,
            "the living are not reaped"
        );
        cells.write(0, 1);
        child.ended();
        assert_eq!(process::exit_state(slot), ExitState::Left);
        assert_eq!(child.join(), (End::Exited(0), Some(ExitState::Left)));
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
            assert_eq!(
                process::exit_state(child.proc_id().unwrap()),
                ExitState::Died
            );
            assert_eq!(child.join().1, Some(ExitState::Died));
            before.assert_unchanged();
        }
    });
}

#[test]
fn a_process_that_a_thread_replaced_is_gone_once_it_was_reaped() {
    isolated(|| {
        let lock = Lock::new().unwrap();
        let before = Footprint::take();
        let slot = Reservation::reserve().unwrap().keep();
        let child = Child::fork(|| {
            // The thread that enters the process is the one that calls exec, and is not the first thread.
            let replacer = std::thread::scope(|scope| {
                let replacer = scope.spawn(|| {
                    process::move_to_entry(slot).unwrap();
                    lock.acquire(Deadline::NEVER).unwrap();
                    exec_true()
                });
                replacer.join()
            });
            drop(replacer);
        });
        assert_eq!(child.join(), (End::Exited(0), Some(ExitState::Died)));
        assert_eq!(process::reap_collected(slot), ExitState::Died);
        assert_eq!(lock.acquire(Deadline::NEVER), Err(LockError::OwnerDied));
        before.assert_unchanged();
    });
}

/// Enters this process into the table, and acquires a lock for it, by a thread that then ends.
fn enter_by_a_thread(lock: &Lock, slot: procession_engine::ProcId) {
    std::thread::scope(|scope| {
        let entering = scope.spawn(|| {
            process::move_to_entry(slot).unwrap();
            lock.acquire(Deadline::NEVER).unwrap();
        });
        entering.join().unwrap();
    });
}

#[test]
fn a_process_that_a_thread_entered_which_has_ended_is_alive_and_its_exec_is_a_death() {
    isolated(|| {
        let (lock, cells) = (Lock::new().unwrap(), SharedCells::new());
        let slot = Reservation::reserve().unwrap().keep();
        let child = Child::fork(|| {
            enter_by_a_thread(&lock, slot);
            cells.write(1, 1);
            cells.until(0, 1);
            // No process waits for the end of the program that goes on under the same process id.
            exec_sleep()
        });
        cells.until(1, 1);
        assert_eq!(process::exit_state(slot), ExitState::Alive);
        assert_eq!(process::sweep(), 0);
        cells.write(0, 1);
        assert_eq!(lock.acquire(Deadline::NEVER), Err(LockError::OwnerDied));
        child.kill();
        child.join();
    });
}

#[test]
fn no_thread_is_left_once_the_first_one_has_forked() {
    isolated(|| {
        let lock = Lock::new().unwrap();
        let slot = Reservation::reserve().unwrap().keep();
        let threads = || std::fs::read_dir("/proc/self/task").unwrap().count();
        let child = Child::fork(|| {
            enter_by_a_thread(&lock, slot);
            assert_eq!(threads(), 2);
            Child::fork(|| {}).succeed();
            assert_eq!(threads(), 1);
            die()
        });
        assert_eq!(child.reap(), End::Killed(libc::SIGKILL));
        assert_eq!(lock.acquire(Deadline::NEVER), Err(LockError::OwnerDied));
    });
}

/// Makes the next fork of this process the first of a PID namespace; false if that is not allowed.
fn enter_pid_namespace() -> bool {
    let user = match rustix::process::geteuid().is_root() {
        true => 0,
        false => libc::CLONE_NEWUSER,
    };
    // SAFETY: a call that touches no memory.
    unsafe { libc::unshare(libc::CLONE_NEWPID | user) == 0 }
}

#[test]
fn who_is_in_another_pid_namespace_judges_nobody_by_its_number() {
    isolated(|| {
        let lock = Lock::new().unwrap();
        lock.acquire(Deadline::NEVER).unwrap();
        // Known only by its process id, which no process in the namespace has.
        let awaited = Reservation::reserve().unwrap().keep();
        process::note_pid(awaited, std::process::id());
        let child = Child::fork(|| {
            if enter_pid_namespace() {
                Child::fork(|| {
                    assert_eq!(std::process::id(), 1);
                    assert_eq!(process::sweep(), 0);
                    assert_eq!(process::exit_state(awaited), ExitState::Alive);
                    assert_eq!(lock.acquire(Deadline::NOW), Err(LockError::TimedOut));
                })
                .succeed();
            }
        });
        child.succeed();
        assert!(lock.release().is_ok());
        process::release_entry(awaited);
    });
}

#[test]
fn a_death_in_another_pid_namespace_is_noticed() {
    isolated(|| {
        let (lock, cells) = (Lock::new().unwrap(), SharedCells::new());
        let child = Child::fork(|| {
            if !enter_pid_namespace() {
                cells.write(1, 2);
                return;
            }
            let inner = Child::fork(|| {
                lock.acquire(Deadline::NEVER).unwrap();
                cells.write(1, 1);
                // A SIGKILL that it sends itself does not reach the first process of a namespace.
                exit_now(7)
            });
            assert_eq!(inner.reap(), End::Exited(7));
        });
        child.ended();
        if cells.read(1) == 1 {
            assert_eq!(lock.acquire(Deadline::NEVER), Err(LockError::OwnerDied));
        }
        child.succeed();
    });
}

#[test]
fn a_stopped_process_is_alive() {
    isolated(|| {
        process::ensure().unwrap();
        let cells = SharedCells::new();
        let child = Child::fork(|| cells.until(0, 1));
        child.stop();
        assert_eq!(
            process::exit_state(child.proc_id().unwrap()),
            ExitState::Alive
        );
        assert_eq!(process::sweep(), 0);
        cells.write(0, 1);
        child.resume();
        child.succeed();
    });
}

#[test]
fn a_forked_child_holds_what_its_parent_held_even_when_the_parent_lets_go() {
    isolated(|| {
        let cells = SharedCells::new();
        let shared = SharedBytes::new(8).unwrap();
        let handle = shared.handle();
        let child = Child::fork(|| {
            cells.until(0, 1);
            SharedBytes::open(&handle).unwrap().write_at(0, &[1]);
            shared.write_at(0, &[2]);
        });
        drop(shared);
        cells.write(0, 1);
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
fn a_reserved_entry_keeps_objects_alive_for_a_child_that_is_yet_to_come() {
    isolated(|| {
        let shared = SharedBytes::new(8).unwrap();
        let handle = shared.handle();
        let slot = Reservation::reserve().unwrap();
        slot.hold(&handle).unwrap();
        let slot = slot.keep();
        let child = Child::fork(|| {
            process::move_to_entry(slot).unwrap();
            assert_eq!(process::me(), slot);
            SharedBytes::open(&handle).unwrap().write_at(0, &[4]);
        });
        drop(shared);
        assert_eq!(child.reap(), End::Exited(0));
        process::reap(child.proc_id().unwrap());
        assert_eq!(process::exit_state(slot), ExitState::Left);
        process::reap(slot);
        assert!(SharedBytes::open(&handle).is_err());
    });
}

#[test]
fn an_entry_that_is_not_used_is_released_with_what_it_held() {
    isolated(|| {
        process::ensure().unwrap();
        let before = Footprint::take();
        let shared = SharedBytes::new(8).unwrap();
        let handle = shared.handle();
        let slot = Reservation::reserve().unwrap();
        slot.hold(&handle).unwrap();
        drop(shared);
        assert!(SharedBytes::open(&handle).is_ok());
        drop(slot);
        assert!(SharedBytes::open(&handle).is_err());
        before.assert_unchanged();
    });
}

#[test]
fn entries_are_used_again_and_former_occupants_stay_dead() {
    isolated(|| {
        process::ensure().unwrap();
        let former: Vec<_> = (0..20)
            .map(|_| {
                let child = Child::fork(|| die());
                child.join();
                child.proc_id().unwrap()
            })
            .collect();
        assert_eq!(process::memory_stats().processes, 1);
        let child = Child::fork(|| ());
        assert!(
            former
                .iter()
                .all(|&slot| process::exit_state(slot) != ExitState::Alive)
        );
        assert!(!former.contains(&child.proc_id().unwrap()));
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

/// A handshake's text and its descriptors, among them an error pipe, as they are in a program that was just started.
/// Also returns the reading end of the pipe.
fn arrived() -> (String, Vec<RawFd>, OwnedFd) {
    let (told, error_pipe) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).unwrap();
    let (kept, _) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).unwrap();
    let mut offer = Offer::new(process::me(), String::new()).unwrap();
    offer.error_pipe(error_pipe);
    offer.keep(kept);
    let text = offer.to_string();
    let passed_on = |fd: OwnedFd| {
        rustix::io::fcntl_setfd(&fd, FdFlags::empty()).unwrap();
        fd.into_raw_fd()
    };
    let numbers = offer.into_descriptors().into_iter().map(passed_on);
    (text, numbers.collect(), told)
}

fn told_by(pipe: &OwnedFd) -> String {
    let mut bytes = [0; 200];
    let length = rustix::io::read(pipe, &mut bytes).unwrap();
    String::from_utf8_lossy(&bytes[..length]).into_owned()
}

/// The text with another part in a place.
fn with_part(text: &str, place: usize, part: &str) -> String {
    let mut parts: Vec<_> = text.split(':').collect();
    parts[place] = part;
    parts.join(":")
}

#[test]
fn a_handshake_that_is_refused_leaves_no_descriptor_to_the_next_program() {
    const ENGINE: usize = 1;
    const KEPT: usize = 9;
    isolated(|| {
        process::ensure().unwrap();
        let (text, numbers, told) = arrived();
        let refused = answer(&with_part(&text, ENGINE, "0.0.0"));
        assert!(matches!(refused, Err(Error::Release { .. })));
        assert!(told_by(&told).contains("0.0.0"));
        assert!(numbers.iter().all(|&fd| FileId::of(fd).is_none()));

        let (text, numbers, told) = arrived();
        let kept = numbers[2];
        let twice = with_part(&text, KEPT, &format!("{kept},{kept}"));
        assert!(matches!(answer(&twice), Err(Error::Invalid(_))));
        assert!(told_by(&told).contains("twice"));
        assert!(numbers.iter().all(|&fd| FileId::of(fd).is_none()));

        let (text, numbers, told) = arrived();
        let standard = FileId::of(0);
        assert!(matches!(
            answer(&with_part(&text, KEPT, "0")),
            Err(Error::Invalid(_))
        ));
        assert!(told_by(&told).contains("standard descriptor 0"));
        assert!(numbers[..2].iter().all(|&fd| FileId::of(fd).is_none()));
        assert_eq!(FileId::of(0), standard);
    });
}

#[test]
fn a_handshake_whose_error_pipe_is_something_else_as_well_does_not_write_to_it() {
    const ERROR_PIPE: usize = 8;
    isolated(|| {
        process::ensure().unwrap();
        let (text, numbers, told) = arrived();
        let arena = numbers[0].to_string();
        assert!(matches!(
            answer(&with_part(&text, ERROR_PIPE, &arena)),
            Err(Error::Invalid(_))
        ));
        // SAFETY: the text did not name it any more, so it is still open and nobody's.
        drop(unsafe { OwnedFd::from_raw_fd(numbers[1]) });
        assert_eq!(told_by(&told), "");
        // The arena is whole.
        process::check_fork().unwrap();
        Child::fork(|| process::check_fork().unwrap()).succeed();
    });
}

#[test]
fn at_the_limit_of_descriptors_an_event_counter_is_still_its_owners() {
    isolated(|| {
        let counter = rustix::event::eventfd(0, EventfdFlags::CLOEXEC).unwrap();
        let file = FileId::of(counter.as_raw_fd()).unwrap();
        let limit = getrlimit(Resource::Nofile);
        let none_left = Rlimit {
            current: Some(0),
            ..limit
        };
        setrlimit(Resource::Nofile, none_left).unwrap();
        assert!(file.is_behind(counter.as_raw_fd()));
        let unread = FileId::of(counter.as_raw_fd()).unwrap();
        setrlimit(Resource::Nofile, limit).unwrap();
        assert!(unread.is_behind(counter.as_raw_fd()));
        assert!(!unread.is_behind(0));
        let number = counter.into_raw_fd();
        setrlimit(Resource::Nofile, none_left).unwrap();
        file.close(number);
        assert_eq!(FileId::of(number), None);
    });
}
