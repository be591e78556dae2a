//! Deaths around processes in a long sleep, which no nap timeout ends.

use crate::case::{FREE_CELLS, Scenario, assert_bystander_goes_on_after, is_over, round_done};
use crate::common::{Child, End, SharedCells, die, isolated, promptly};
use procession_engine::Deadline;
use procession_engine::channel::Queue;
use procession_engine::error::LockError;
use procession_engine::failpoint::{self, Action};
use procession_engine::process::{self, Reservation};
use procession_engine::sync::{Event, Lock};
use std::time::Duration;

const RECEIVED: usize = FREE_CELLS;

/// Longer than a nap.
const LONG: Duration = Duration::from_millis(900);

/// The words of a long sleep: the awaited word, those that all sleepers watch, and at least one liveness word.
const WORDS: u32 = 5;

/// Waits until a child sleeps on as many words as a process does when nothing has happened for long.
fn until_it_sleeps_long(child: &Child) {
    until_it_sleeps_on(WORDS, child);
}

fn until_it_sleeps_on(least: u32, child: &Child) {
    let limit = promptly();
    let path = format!("/proc/{}/syscall", child.pid().as_raw_nonzero());
    loop {
        let call = std::fs::read_to_string(&path).unwrap_or_default();
        let mut fields = call.split(' ');
        let sleeps = fields.next() == Some(&libc::SYS_futex_waitv.to_string());
        let words = fields
            .nth(1)
            .and_then(|words| u32::from_str_radix(&words[2..], 16).ok());
        if sleeps && words >= Some(least) {
            return;
        }
        assert!(!limit.is_past(), "it does not sleep long: {call}");
        std::thread::yield_now();
    }
}

fn receiving(queue: &Queue, cells: SharedCells, cell: usize) -> Child {
    let child = Child::fork(|| {
        queue.get(Deadline::NEVER).expect("a message");
        cells.count(cell);
    });
    until_it_sleeps_long(&child);
    child
}

/// Publishes a message and is killed before it wakes any process.
fn put_and_die(queue: &Queue) {
    let sender = Child::fork(|| {
        failpoint::arm("queue.ready", 1, Action::Kill);
        let _ = queue.put(&[b"one"], Deadline::NOW);
    });
    assert_eq!(sender.ended(), End::Killed(libc::SIGKILL));
}

#[test]
fn a_message_whose_sender_woke_nobody_reaches_one_that_sleeps_long() {
    isolated(|| {
        let cells = SharedCells::new();
        let queue = Queue::new(0).expect("a queue");
        let receiver = receiving(&queue, cells, RECEIVED);
        put_and_die(&queue);
        receiver.succeed();
    });
}

/// The cell that says whose turn it is.
const TURN: usize = FREE_CELLS + 2;

/// The cell that counts the children that have claimed their entries.
const HERE: usize = FREE_CELLS + 3;

/// Makes children fall asleep one after the other, and then lets another one act. All of them exist before, so none
/// wakes up in between. The kernel wakes those first that slept first.
pub fn act_after(
    cells: SharedCells,
    act: impl FnOnce(),
    sleeping: &[&dyn Fn()],
) -> (Child, Vec<Child>) {
    let last = sleeping.len() as u64 + 1;
    let acting = Child::fork(|| {
        cells.count(HERE);
        cells.until(TURN, last);
        act();
    });
    let mut children = Vec::new();
    for (turn, sleep) in (1..).zip(sleeping) {
        children.push(Child::fork(|| {
            cells.count(HERE);
            cells.until(TURN, turn);
            sleep();
        }));
    }
    cells.until(HERE, last);
    for (turn, child) in (1..).zip(&children) {
        cells.write(TURN, turn);
        until_it_sleeps_long(child);
    }
    cells.write(TURN, last);
    (acting, children)
}

/// As [`act_after`]: the acting child publishes a message and dies.
fn put_and_die_after(cells: SharedCells, queue: &Queue, receiving: &[&dyn Fn()]) -> Vec<Child> {
    let put = || {
        failpoint::arm("queue.ready", 1, Action::Kill);
        let _ = queue.put(&[b"one"], Deadline::NOW);
    };
    let (sender, children) = act_after(cells, put, receiving);
    assert_eq!(sender.ended(), End::Killed(libc::SIGKILL));
    children
}

#[test]
fn the_one_that_the_kernel_wakes_tells_the_others() {
    isolated(|| {
        let cells = SharedCells::new();
        let (silent, queue) = (
            Queue::new(0).expect("a queue"),
            Queue::new(0).expect("a queue"),
        );
        let stand_by = || drop(silent.get(Deadline::NEVER).map(|_| cells.count(RECEIVED)));
        let receive = || drop(queue.get(Deadline::NEVER).expect("a message"));
        let children = put_and_die_after(cells, &queue, &[&stand_by, &stand_by, &receive]);
        children[2].succeed();
        assert_eq!(cells.read(RECEIVED), 0);
    });
}

#[test]
fn one_that_is_killed_as_the_kernel_wakes_it_is_replaced() {
    isolated(|| {
        let cells = SharedCells::new();
        let (silent, queue) = (
            Queue::new(0).expect("a queue"),
            Queue::new(0).expect("a queue"),
        );
        let die = || {
            failpoint::arm("death_watch.found", 1, Action::Kill);
            let _ = silent.get(Deadline::NEVER);
        };
        let receive = || drop(queue.get(Deadline::NEVER).expect("a message"));
        let children = put_and_die_after(cells, &queue, &[&die, &die, &receive]);
        children[2].succeed();
        assert_eq!(children[0].ended(), End::Killed(libc::SIGKILL));
    });
}

#[test]
fn one_that_is_killed_while_it_tells_of_a_death_is_replaced() {
    for bystanders in 1..=3 {
        isolated(|| {
            let cells = SharedCells::new();
            let (silent, queue) = (
                Queue::new(0).expect("a queue"),
                Queue::new(0).expect("a queue"),
            );
            let die = || {
                failpoint::arm("sync.called", 1, Action::Kill);
                let _ = silent.get(Deadline::NEVER);
            };
            let stand_by = || drop(silent.get(Deadline::NEVER).map(|_| cells.count(RECEIVED)));
            let receive = || drop(queue.get(Deadline::NEVER).expect("a message"));
            let mut sleepers: Vec<&dyn Fn()> = vec![&die];
            sleepers.extend((0..bystanders).map(|_| &stand_by as &dyn Fn()));
            sleepers.push(&receive);
            let children = put_and_die_after(cells, &queue, &sleepers);
            assert_eq!(children[0].ended(), End::Killed(libc::SIGKILL));
            children[bystanders + 1].succeed();
            assert_eq!(cells.read(RECEIVED), 0);
        });
    }
}

/// The words of a nap at a lock: the lock's own, and the holder's liveness word.
const NAP_FOR_A_LOCK: u32 = 2;

/// A child that holds locks until it is killed.
fn holding(cells: SharedCells, locks: &[&Lock]) -> Child {
    cells.write(TURN, 0);
    let holder = Child::fork(|| {
        for lock in locks {
            lock.acquire(Deadline::NOW).expect("it is free");
        }
        cells.write(TURN, 1);
        cells.until(TURN, u64::MAX);
    });
    cells.until(TURN, 1);
    holder
}

fn acquire_in_vain(lock: &Lock) {
    assert_eq!(lock.acquire(Deadline::NEVER), Err(LockError::OwnerDied));
}

#[test]
fn a_death_of_which_the_kernel_tells_one_that_naps_is_told_to_one_that_sleeps_long() {
    isolated(|| {
        let cells = SharedCells::new();
        let locks = [(); 2].map(|()| Lock::new().expect("a lock"));
        let holder = holding(cells, &[&locks[0], &locks[1]]);
        let napping = Child::fork(|| {
            cells.until(TURN, 2);
            acquire_in_vain(&locks[1]);
            // It is busy, and does not sleep again.
            cells.until(TURN, 3);
        });
        let sleeping = Child::fork(|| acquire_in_vain(&locks[0]));
        until_it_sleeps_on(NAP_FOR_A_LOCK, &sleeping);
        // The second process's nap must begin before the first one's nap is over, and last longer.
        std::thread::sleep(LONG / 5);
        cells.write(TURN, 2);
        until_it_sleeps_on(NAP_FOR_A_LOCK, &napping);
        until_it_sleeps_long(&sleeping);
        holder.kill();
        sleeping.succeed();
        cells.write(TURN, 3);
        napping.succeed();
    });
}

#[test]
fn one_that_naps_hears_of_a_death_at_once_though_others_sleep_long() {
    isolated(|| {
        let cells = SharedCells::new();
        let silent = Queue::new(0).expect("a queue");
        let took = || {
            let lock = Lock::new().expect("a lock");
            let holder = holding(cells, &[&lock]);
            let _bystander = receiving(&silent, cells, RECEIVED);
            let napping = Child::fork(|| acquire_in_vain(&lock));
            until_it_sleeps_on(NAP_FOR_A_LOCK, &napping);
            let killed = std::time::Instant::now();
            holder.kill();
            napping.succeed();
            killed.elapsed()
        };
        // It would notice by itself at the nap's end. A machine may stand still now and then: one try of five must
        // be in time.
        let fastest = [(); 5].map(|()| took()).into_iter().min();
        assert!(fastest < Some(LONG / 6), "{fastest:?}");
    });
}

#[test]
fn one_that_came_while_others_slept_long_is_watched_too() {
    isolated(|| {
        let cells = SharedCells::new();
        let queue = Queue::new(0).expect("a queue");
        let receiver = receiving(&queue, cells, RECEIVED);
        // It is woken for the new process, and begins another long sleep.
        let late = Child::fork(|| {
            cells.write(RECEIVED + 1, 1);
            while cells.read(TURN) == 0 {
                std::thread::yield_now();
            }
            failpoint::arm("queue.ready", 1, Action::Kill);
            let _ = queue.put(&[b"one"], Deadline::NOW);
        });
        cells.until(RECEIVED + 1, 1);
        until_it_sleeps_long(&receiver);
        cells.write(TURN, 1);
        assert_eq!(late.ended(), End::Killed(libc::SIGKILL));
        receiver.succeed();
    });
}

#[test]
fn one_that_is_killed_as_another_thread_of_it_takes_its_liveness_word_over_is_found_dead() {
    isolated(|| {
        let cells = SharedCells::new();
        let (silent, lock) = (
            Queue::new(0).expect("a queue"),
            Lock::new().expect("a lock"),
        );
        let slot = Reservation::reserve().expect("a slot");
        slot.hold(&lock.handle()).expect("it is held here");
        let slot = slot.keep();
        let holder = Child::fork(|| {
            // If a thread other than the first enters the process, a thread of the engine holds the liveness word.
            std::thread::scope(|scope| {
                let entering = scope.spawn(|| {
                    process::note_pid(slot, std::process::id());
                    process::move_to_entry(slot).expect("it is reserved for this");
                    lock.acquire(Deadline::NEVER).expect("it is free");
                });
                entering.join().expect("it has a slot");
            });
            cells.write(TURN, 1);
            cells.until(TURN, 2);
            failpoint::arm("process.taken_over", 1, Action::Kill);
            // Before the fork, the first thread takes over.
            Child::fork(failpoint::disarm).succeed();
        });
        cells.until(TURN, 1);
        let bystanders = [(); 2].map(|()| receiving(&silent, cells, RECEIVED + 1));
        let waiting = Child::fork(|| {
            assert_eq!(lock.acquire(Deadline::NEVER), Err(LockError::OwnerDied));
        });
        until_it_sleeps_long(&waiting);
        cells.write(TURN, 2);
        assert_eq!(holder.ended(), End::Killed(libc::SIGKILL));
        waiting.succeed();
        drop(bystanders);
    });
}

/// The victim and the bystander are in a long sleep at an event, and another process dies meanwhile.
pub struct Sleeping {
    event: Event,
}

impl Sleeping {
    pub fn new(_: SharedCells) -> Sleeping {
        Sleeping {
            event: Event::new().expect("an event"),
        }
    }
}

impl Scenario for Sleeping {
    const BYSTANDER: bool = true;
    const VISITS: &[u32] = &[1];

    fn victim(&mut self, _: SharedCells) {
        let _ = self.event.wait(Deadline::after(LONG));
    }

    fn bystander(&mut self, cells: SharedCells) {
        // The kernel wakes those first that slept first: the victim.
        std::thread::sleep(LONG / 9);
        let dying = Child::fork(|| {
            std::thread::sleep(LONG / 2);
            die();
        });
        while !is_over(cells) {
            self.event.wait(Deadline::NEVER).expect("it is set");
            round_done(cells);
        }
        dying.join();
    }

    fn survive(&mut self, cells: SharedCells) {
        assert_bystander_goes_on_after(cells, || self.event.set());
    }
}
