//! Deaths around a queue's file descriptor.

use crate::case::{FREE_CELLS, Scenario};
use crate::common::{Child, End as Ending, SharedCells, isolated};
use procession_engine::channel::Queue;
use procession_engine::failpoint::{self, Action};
use procession_engine::{Deadline, process};

/// A queue whose descriptor is watched, first by the victim or by another process.
pub struct Watching {
    queue: Queue,
}

impl Watching {
    pub fn new(_: SharedCells) -> Watching {
        Watching {
            queue: Queue::new(0).expect("a queue"),
        }
    }

    pub fn asked(cells: SharedCells) -> Watching {
        let watching = Watching::new(cells);
        watching.queue.fileno().expect("a descriptor");
        watching
    }

    fn is_readable(&self) -> bool {
        has_bytes(self.queue.fileno().expect("a descriptor"), 0)
    }

    fn drain(&self) {
        while self.queue.get(Deadline::NOW).is_ok() {}
    }
}

impl Scenario for Watching {
    fn victim(&mut self, _: SharedCells) {
        for _ in 0..3 {
            let _ = self.is_readable();
            self.queue.put(&[b"one"], Deadline::NEVER).expect("room");
            assert!(self.is_readable(), "a message waits");
            self.queue.get(Deadline::NEVER).expect("the message");
            assert!(!self.is_readable(), "no message waits");
        }
    }

    fn survive(&mut self, _: SharedCells) {
        self.drain();
        assert!(!self.is_readable(), "no message waits");
        self.queue.put(&[b"two"], Deadline::NOW).expect("room");
        assert!(self.is_readable(), "a message waits");
        self.queue.get(Deadline::NOW).expect("the message");
        assert!(!self.is_readable(), "no message waits");
    }
}

/// Whether a descriptor becomes readable within that many milliseconds.
fn has_bytes(number: i32, within: i32) -> bool {
    let mut watched = libc::pollfd {
        fd: number,
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: one record, which outlives the call.
    unsafe { libc::poll(&raw mut watched, 1, within) == 1 }
}

const READY: usize = FREE_CELLS;
const HEARD: usize = FREE_CELLS + 1;
const PID: usize = FREE_CELLS + 2;

/// A process waits at a queue's descriptor that it inherited from its parent. The parent is gone, so no process
/// knows where the descriptor is.
pub struct Searching {
    queue: Queue,
    cells: SharedCells,
    maker: u32,
}

impl Searching {
    pub fn new(cells: SharedCells) -> Searching {
        let queue = Queue::new(0).expect("a queue");
        // So that the waiting process can be reaped once its parent is gone.
        // SAFETY: a call without preconditions.
        assert_eq!(unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1) }, 0);
        Child::fork(|| {
            let number = queue.fileno().expect("a descriptor");
            let successor = Child::fork(|| {
                // SAFETY: a call that touches no memory. The process must outlive its parent.
                assert_eq!(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, 0) }, 0);
                cells.write(READY, 1);
                cells.write(HEARD, 1 + u64::from(has_bytes(number, 20_000)));
            });
            cells.write(PID, successor.pid().as_raw_nonzero().get() as u64);
            cells.until(READY, 1);
            std::mem::forget(successor);
        })
        .succeed();
        Searching {
            queue,
            cells,
            maker: std::process::id(),
        }
    }
}

impl Scenario for Searching {
    fn victim(&mut self, _: SharedCells) {
        for _ in 0..4 {
            let queue = Queue::open(&self.queue.handle()).expect("the queue");
            queue.fileno().expect("the descriptor");
        }
    }

    fn survive(&mut self, cells: SharedCells) {
        self.queue.put(&[b"one"], Deadline::NOW).expect("room");
        cells.until(HEARD, 1);
        assert_eq!(cells.read(HEARD), 2, "the waiting process was not woken");
        self.queue.get(Deadline::NOW).expect("the message");
    }
}

impl Drop for Searching {
    fn drop(&mut self) {
        if self.maker == std::process::id() {
            // Without a message no process woke it.
            let pid = self.cells.read(PID) as i32;
            // SAFETY: calls that touch no memory. The child is this process's by now, and not reaped yet.
            unsafe {
                libc::kill(pid, libc::SIGKILL);
                libc::waitpid(pid, std::ptr::null_mut(), 0);
            }
        }
    }
}

/// A process that waits for the descriptor and finds no message updates it, without receiving.
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
