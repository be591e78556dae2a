//! Deaths around a queue's descriptor.

use crate::case::{FREE_CELLS, Play};
use crate::common::{Child, End as Ending, Slate, isolated};
use procession_engine::channel::Queue;
use procession_engine::failpoint::{self, Action};
use procession_engine::{Deadline, process};

/// A queue whose descriptor somebody watches, the victim first or not.
pub struct Showing {
    queue: Queue,
}

impl Showing {
    pub fn new(_: Slate) -> Showing {
        Showing {
            queue: Queue::new(0).expect("a queue"),
        }
    }

    pub fn asked(slate: Slate) -> Showing {
        let showing = Showing::new(slate);
        showing.queue.fileno().expect("a descriptor");
        showing
    }

    fn is_readable(&self) -> bool {
        has_bytes(self.queue.fileno().expect("a descriptor"), 0)
    }

    fn drain(&self) {
        while self.queue.get(Deadline::NOW).is_ok() {}
    }
}

impl Play for Showing {
    fn victim(&mut self, _: Slate) {
        for _ in 0..3 {
            let _ = self.is_readable();
            self.queue.put(&[b"one"], Deadline::NEVER).expect("room");
            assert!(self.is_readable(), "a message waits");
            self.queue.get(Deadline::NEVER).expect("the message");
            assert!(!self.is_readable(), "no message waits");
        }
    }

    fn survive(&mut self, _: Slate) {
        self.drain();
        assert!(!self.is_readable(), "no message waits");
        self.queue.put(&[b"two"], Deadline::NOW).expect("room");
        assert!(self.is_readable(), "a message waits");
        self.queue.get(Deadline::NOW).expect("the message");
        assert!(!self.is_readable(), "no message waits");
    }
}

/// Whether a descriptor is readable within so many milliseconds.
fn has_bytes(number: i32, within: i32) -> bool {
    let mut watched = libc::pollfd {
        fd: number,
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: one record, which lives on.
    unsafe { libc::poll(&raw mut watched, 1, within) == 1 }
}

const READY: usize = FREE_CELLS;
const HEARD: usize = FREE_CELLS + 1;
const PID: usize = FREE_CELLS + 2;

/// A queue at whose descriptor a process waits that has it from its parent, who is gone: nothing tells where it is.
pub struct Sought {
    queue: Queue,
    slate: Slate,
    maker: u32,
}

impl Sought {
    pub fn new(slate: Slate) -> Sought {
        let queue = Queue::new(0).expect("a queue");
        // So that the one that waits can be waited for when its parent is gone.
        // SAFETY: a call without preconditions.
        assert_eq!(unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1) }, 0);
        Child::fork(|| {
            let number = queue.fileno().expect("a descriptor");
            let successor = Child::fork(|| {
                // SAFETY: a call that touches no memory. It outlives its parent.
                assert_eq!(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, 0) }, 0);
                slate.write(READY, 1);
                slate.write(HEARD, 1 + u64::from(has_bytes(number, 20_000)));
            });
            slate.write(PID, successor.pid().as_raw_nonzero().get() as u64);
            slate.until(READY, 1);
            std::mem::forget(successor);
        })
        .succeed();
        Sought {
            queue,
            slate,
            maker: std::process::id(),
        }
    }
}

impl Play for Sought {
    fn victim(&mut self, _: Slate) {
        for _ in 0..4 {
            let queue = Queue::open(&self.queue.handle()).expect("the queue");
            queue.fileno().expect("the descriptor");
        }
    }

    fn survive(&mut self, slate: Slate) {
        self.queue.put(&[b"one"], Deadline::NOW).expect("room");
        slate.until(HEARD, 1);
        assert_eq!(slate.read(HEARD), 2, "who waits was not woken");
        self.queue.get(Deadline::NOW).expect("the message");
    }
}

impl Drop for Sought {
    fn drop(&mut self) {
        if self.maker == std::process::id() {
            // Without a message nobody woke it.
            let pid = self.slate.read(PID) as i32;
            // SAFETY: calls that touch no memory; the child is this process's by now, and not waited for yet.
            unsafe {
                libc::kill(pid, libc::SIGKILL);
                libc::waitpid(pid, std::ptr::null_mut(), 0);
            }
        }
    }
}

/// Who waits for the descriptor and finds no message brings it in line, without receiving.
#[test]
fn a_queues_descriptor_is_in_line_after_a_look_when_a_producer_died() {
    isolated(|| {
        process::ensure().expect("an arena");
        let queue = Queue::new(0).expect("a queue");
        let number = queue.fileno().expect("a descriptor");
        let victim = Child::fork(|| {
            failpoint::arm("queue.notified", 1, Action::Kill);
            let _ = queue.put(&[b"lost"], Deadline::NOW);
        });
        assert!(matches!(victim.reap(), Ending::Killed(_)));
        assert!(has_bytes(number, 0), "it was rung for");
        queue.settle();
        assert!(!has_bytes(number, 0), "nothing is there");
        queue.put(&[b"next"], Deadline::NOW).expect("room");
        assert!(has_bytes(number, 0), "one came");
    });
}
