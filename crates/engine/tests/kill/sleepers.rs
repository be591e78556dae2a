//! Deaths around those that sleep for long, which no nap ends.

use crate::case::{FREE_CELLS, Play, assert_bystander_goes_on_after, curtain, turned};
use crate::common::{Child, End, Slate, die, isolated, promptly};
use procession_engine::Deadline;
use procession_engine::channel::Queue;
use procession_engine::kill::{self, Deed};
use procession_engine::sync::Event;
use std::time::Duration;

const RECEIVED: usize = FREE_CELLS;

/// Longer than a nap.
const LONG: Duration = Duration::from_millis(900);

/// Waits until a child sleeps on several words, as one does that has only one to wait for when nothing has happened
/// for long.
fn until_it_sleeps_long(child: &Child) {
    let limit = promptly();
    let path = format!("/proc/{}/syscall", child.pid().as_raw_nonzero());
    loop {
        let call = std::fs::read_to_string(&path).unwrap_or_default();
        if call.starts_with(&format!("{} ", libc::SYS_futex_waitv)) {
            return;
        }
        assert!(!limit.is_past(), "it does not sleep long: {call}");
        std::thread::yield_now();
    }
}

fn receiving(queue: &Queue, slate: Slate, cell: usize) -> Child {
    let child = Child::fork(|| {
        queue.get(Deadline::NEVER).expect("a message");
        slate.count(cell);
    });
    until_it_sleeps_long(&child);
    child
}

/// Publishes a message and is killed before it wakes anybody.
fn put_and_die(queue: &Queue) {
    let sender = Child::fork(|| {
        kill::arm("queue.ready", 1, Deed::Kill);
        let _ = queue.put(&[b"one"], Deadline::NOW);
    });
    assert_eq!(sender.ended(), End::Killed(libc::SIGKILL));
}

#[test]
fn a_message_whose_sender_woke_nobody_reaches_one_that_sleeps_long() {
    isolated(|| {
        let slate = Slate::new();
        let queue = Queue::new(0).expect("a queue");
        let receiver = receiving(&queue, slate, RECEIVED);
        put_and_die(&queue);
        receiver.succeed();
    });
}

#[test]
fn the_one_that_the_kernel_wakes_tells_the_others() {
    isolated(|| {
        let slate = Slate::new();
        let (silent, queue) = (
            Queue::new(0).expect("a queue"),
            Queue::new(0).expect("a queue"),
        );
        // The kernel wakes those first that slept first.
        let bystanders = [(); 3].map(|()| receiving(&silent, slate, RECEIVED + 1));
        let receiver = receiving(&queue, slate, RECEIVED);
        put_and_die(&queue);
        receiver.succeed();
        assert_eq!(slate.read(RECEIVED + 1), 0);
        drop(bystanders);
    });
}

#[test]
fn one_that_is_killed_as_the_kernel_wakes_it_is_replaced() {
    isolated(|| {
        let slate = Slate::new();
        let (silent, queue) = (
            Queue::new(0).expect("a queue"),
            Queue::new(0).expect("a queue"),
        );
        let woken_first = [(); 2].map(|()| {
            let child = Child::fork(|| {
                kill::arm("deaths.found", 1, Deed::Kill);
                silent.get(Deadline::NEVER).expect("a message");
            });
            until_it_sleeps_long(&child);
            child
        });
        let receiver = receiving(&queue, slate, RECEIVED);
        put_and_die(&queue);
        receiver.succeed();
        assert_eq!(woken_first[0].ended(), End::Killed(libc::SIGKILL));
    });
}

#[test]
fn one_that_came_while_others_slept_long_is_watched_too() {
    isolated(|| {
        let slate = Slate::new();
        let queue = Queue::new(0).expect("a queue");
        let receiver = receiving(&queue, slate, RECEIVED);
        // It is told of the birth, and sleeps long again.
        let late = Child::fork(|| {
            slate.write(RECEIVED + 1, 1);
            while slate.read(RECEIVED + 2) == 0 {
                std::thread::yield_now();
            }
            kill::arm("queue.ready", 1, Deed::Kill);
            let _ = queue.put(&[b"one"], Deadline::NOW);
        });
        slate.until(RECEIVED + 1, 1);
        until_it_sleeps_long(&receiver);
        slate.write(RECEIVED + 2, 1);
        assert_eq!(late.ended(), End::Killed(libc::SIGKILL));
        receiver.succeed();
    });
}

/// The victim and the bystander sleep long at an event, and somebody dies meanwhile.
pub struct Sleeping {
    event: Event,
}

impl Sleeping {
    pub fn new(_: Slate) -> Sleeping {
        Sleeping {
            event: Event::new().expect("an event"),
        }
    }
}

impl Play for Sleeping {
    const BYSTANDER: bool = true;
    const VISITS: &[u32] = &[1];

    fn victim(&mut self, _: Slate) {
        let _ = self.event.wait(Deadline::after(LONG));
    }

    fn bystander(&mut self, slate: Slate) {
        // The kernel wakes those first that slept first: the victim.
        std::thread::sleep(LONG / 9);
        let dying = Child::fork(|| {
            std::thread::sleep(LONG / 2);
            die();
        });
        while !curtain(slate) {
            self.event.wait(Deadline::NEVER).expect("it is set");
            turned(slate);
        }
        dying.join();
    }

    fn survive(&mut self, slate: Slate) {
        assert_bystander_goes_on_after(slate, || self.event.set());
    }
}
