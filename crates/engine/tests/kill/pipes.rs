//! Deaths in the pipe: sending, receiving, and what the other side then observes.

use crate::case::{FREE_CELLS, Scenario, assert_bystander_goes_on_after, is_over, round_done};
use crate::common::{
    Child, DeliveryLog, End as Ending, SharedCells, TestMessage, briefly, isolated, linger,
    patiently, promptly,
};
use procession_engine::channel::{End, pipe};
use procession_engine::error::{GetError, PutError};
use procession_engine::failpoint::{self, Action};
use procession_engine::{Deadline, process};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::os::fd::BorrowedFd;

const VICTIM: usize = 0;
const SURVIVOR: usize = 1;
const EACH: usize = 1200;

struct LoggedPipe {
    near: Option<End>,
    far: Option<End>,
    log: DeliveryLog,
    next: [usize; 2],
    size: usize,
    armed: bool,
}

impl LoggedPipe {
    fn new(cells: SharedCells, size: usize, armed: bool) -> LoggedPipe {
        let (near, far) = pipe(true).expect("a pipe");
        let log = DeliveryLog::new(cells, FREE_CELLS + 16, 2, EACH);
        LoggedPipe {
            near: Some(near),
            far: Some(far),
            log,
            next: [0; 2],
            size,
            armed,
        }
    }

    /// Keeps one end. Asks for its descriptor if the scenario needs it: a descriptor belongs to one process.
    fn keep(&mut self, side: usize) {
        let (kept, other) = match side {
            VICTIM => (&self.far, &mut self.near),
            _ => (&self.near, &mut self.far),
        };
        *other = None;
        if let (true, Some(kept)) = (self.armed, kept) {
            kept.fileno();
        }
    }

    fn send(&mut self, writer: usize, deadline: Deadline) -> Result<(), PutError> {
        let end = if writer == VICTIM {
            &self.far
        } else {
            &self.near
        };
        let message = TestMessage::new(writer, self.next[writer], self.size);
        self.log.begin(message);
        end.as_ref()
            .expect("open")
            .send(&[&message.bytes()], deadline)?;
        self.log.sent(message);
        self.next[writer] += 1;
        Ok(())
    }

    fn recv(&self, reader: usize, deadline: Deadline) -> Result<TestMessage, GetError> {
        let end = if reader == VICTIM {
            &self.far
        } else {
            &self.near
        };
        let message = end.as_ref().expect("open").recv(deadline)?;
        Ok(self.log.received(message.bytes()))
    }
}

/// Only the victim has the far end, and sends.
pub struct Sending {
    logged: LoggedPipe,
    messages: usize,
}

impl Sending {
    pub fn small(cells: SharedCells) -> Sending {
        Sending {
            logged: LoggedPipe::new(cells, 40, false),
            messages: 400,
        }
    }

    pub fn large(cells: SharedCells) -> Sending {
        Sending {
            logged: LoggedPipe::new(cells, 100_000, false),
            messages: 12,
        }
    }

    pub fn armed(cells: SharedCells) -> Sending {
        Sending {
            logged: LoggedPipe::new(cells, 40, true),
            messages: 40,
        }
    }
}

impl Scenario for Sending {
    const BYSTANDER: bool = true;

    fn victim(&mut self, _: SharedCells) {
        self.logged.keep(VICTIM);
        for _ in 0..self.messages {
            self.logged
                .send(VICTIM, patiently())
                .expect("the bystander receives");
        }
    }

    fn bystander(&mut self, _: SharedCells) {
        self.logged.keep(SURVIVOR);
        loop {
            match self.logged.recv(SURVIVOR, patiently()) {
                Ok(_) => {}
                Err(GetError::Closed) => return,
                Err(error) => panic!("neither a message nor the end: {error}"),
            }
        }
    }

    fn survive(&mut self, _: SharedCells) {
        self.logged.keep(SURVIVOR);
        let limit = promptly();
        loop {
            match self.logged.recv(SURVIVOR, limit) {
                Ok(_) => {}
                Err(GetError::Closed) => break,
                Err(error) => panic!("neither a message nor the end: {error}"),
            }
        }
        let near = self.logged.near.as_ref().expect("open");
        assert!(
            near.poll(Deadline::NOW).expect("no signal"),
            "the end is something to receive"
        );
    }

    fn verify(&mut self, _: SharedCells) {
        let missing = self.logged.log.missing();
        assert!(missing.is_empty(), "lost: {missing:?}");
    }
}

/// Only the victim has the far end, and receives.
pub struct Receiving {
    logged: LoggedPipe,
    messages: usize,
}

impl Receiving {
    pub fn small(cells: SharedCells) -> Receiving {
        Receiving {
            logged: LoggedPipe::new(cells, 40, false),
            messages: 400,
        }
    }

    pub fn large(cells: SharedCells) -> Receiving {
        Receiving {
            logged: LoggedPipe::new(cells, 100_000, false),
            messages: 12,
        }
    }

    pub fn armed(cells: SharedCells) -> Receiving {
        Receiving {
            logged: LoggedPipe::new(cells, 40, true),
            messages: 40,
        }
    }
}

impl Scenario for Receiving {
    const BYSTANDER: bool = true;

    fn victim(&mut self, _: SharedCells) {
        self.logged.keep(VICTIM);
        for _ in 0..self.messages {
            self.logged
                .recv(VICTIM, patiently())
                .expect("the bystander sends");
        }
    }

    fn bystander(&mut self, _: SharedCells) {
        self.logged.keep(SURVIVOR);
        loop {
            if self.logged.armed {
                // So that the victim sometimes finds the pipe empty.
                linger();
            }
            match self.logged.send(SURVIVOR, patiently()) {
                Ok(()) => {}
                Err(PutError::Closed) => return,
                Err(error) => panic!("neither room nor the end: {error}"),
            }
            if self.logged.next[SURVIVOR] == EACH {
                return;
            }
        }
    }

    fn survive(&mut self, _: SharedCells) {
        self.logged.keep(SURVIVOR);
        let near = self.logged.near.as_ref().expect("open");
        let limit = promptly();
        while !matches!(near.send(&[b"to nobody"], limit), Err(PutError::Closed)) {
            assert!(
                !limit.is_past(),
                "nobody has the other end, and sending does not say so"
            );
        }
    }
}

/// All processes have both ends open. Several use them, and one dies.
pub struct Sharing {
    logged: LoggedPipe,
}

impl Sharing {
    pub fn new(cells: SharedCells) -> Sharing {
        Sharing {
            logged: LoggedPipe::new(cells, 40, false),
        }
    }

    /// As `new`, after a process has asked for the descriptors of both ends.
    pub fn watched(cells: SharedCells) -> Sharing {
        let logged = LoggedPipe::new(cells, 40, true);
        for end in logged.near.iter().chain(&logged.far) {
            end.fileno();
        }
        Sharing { logged }
    }
}

impl Scenario for Sharing {
    const BYSTANDER: bool = true;

    fn victim(&mut self, _: SharedCells) {
        for _ in 0..20 {
            self.logged.send(VICTIM, patiently()).expect("room");
            self.logged.recv(VICTIM, patiently()).expect("the answer");
        }
    }

    fn bystander(&mut self, cells: SharedCells) {
        while !is_over(cells) {
            match self.logged.recv(SURVIVOR, briefly()) {
                Ok(message) => {
                    assert_eq!(message.writer, VICTIM, "it came to the wrong end");
                    self.logged.send(SURVIVOR, patiently()).expect("room");
                    round_done(cells);
                }
                Err(GetError::Empty) => {}
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn survive(&mut self, cells: SharedCells) {
        let limit = promptly();
        self.logged.next[VICTIM] = EACH / 2;
        assert_bystander_goes_on_after(cells, || {
            (0..6).for_each(|_| self.logged.send(VICTIM, limit).expect("room"));
        });
    }

    fn verify(&mut self, _: SharedCells) {
        while self.logged.recv(VICTIM, Deadline::NOW).is_ok() {}
        while self.logged.recv(SURVIVOR, Deadline::NOW).is_ok() {}
        let missing = self.logged.log.missing();
        assert!(missing.len() <= 1, "lost: {missing:?}");
        if self.logged.armed {
            for end in self.logged.near.iter().chain(&self.logged.far) {
                assert!(!is_readable(end), "nothing is there");
            }
        }
    }
}

fn is_readable(end: &End) -> bool {
    // SAFETY: the end keeps its descriptor open while it is borrowed.
    let fd = unsafe { BorrowedFd::borrow_raw(end.fileno()) };
    let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
    poll(&mut fds, Some(&Timespec::default())).expect("poll") == 1
}

/// One of two processes that share an end is stopped while it drains the notifications from the socket.
#[test]
fn a_descriptor_tells_of_a_message_that_came_while_another_process_settled() {
    let cells = SharedCells::new();
    isolated(|| {
        process::ensure().expect("an arena");
        let (receiver, sender) = pipe(false).expect("a pipe");
        let other = Child::fork(|| {
            receiver.fileno();
            failpoint::arm("pipe.silencing", 1, Action::Stop);
            cells.write(FREE_CELLS, 1);
            receiver.recv(patiently()).expect("the first message");
        });
        cells.until(FREE_CELLS, 1);
        sender.send(&[b"first"], Deadline::NOW).expect("room");
        assert!(matches!(other.ended_or_stopped(), Ending::Stopped(_)));
        receiver.fileno();
        sender.send(&[b"second"], Deadline::NOW).expect("room");
        other.resume();
        other.succeed();
        assert!(is_readable(&receiver), "the second message is there");
        assert_eq!(receiver.recv(Deadline::NOW).expect("it").bytes(), b"second");
        assert!(!is_readable(&receiver));
    });
}

/// The process that receives the last message may not be the one that asked for the descriptor.
#[test]
fn a_descriptor_tells_what_is_so_whoever_received() {
    isolated(|| {
        process::ensure().expect("an arena");
        let (receiver, sender) = pipe(false).expect("a pipe");
        sender.send(&[b"first"], Deadline::NOW).expect("room");
        sender.send(&[b"second"], Deadline::NOW).expect("room");
        assert!(is_readable(&receiver), "two are there");
        Child::fork(|| drop(receiver.recv(Deadline::NOW).expect("the first"))).succeed();
        assert!(is_readable(&receiver), "one is left");
        Child::fork(|| drop(receiver.recv(Deadline::NOW).expect("the second"))).succeed();
        assert!(!is_readable(&receiver), "none is left");
        Child::fork(|| sender.send(&[b"third"], Deadline::NOW).expect("room")).succeed();
        assert!(is_readable(&receiver), "one came");
    });
}

/// If a receiver dies before it has updated the descriptor, the next check does.
#[test]
fn a_descriptor_is_in_line_again_after_a_receiver_died() {
    isolated(|| {
        process::ensure().expect("an arena");
        let (receiver, sender) = pipe(false).expect("a pipe");
        receiver.fileno();
        sender.send(&[b"last"], Deadline::NOW).expect("room");
        let victim = Child::fork(|| {
            failpoint::arm("pipe.silencing", 1, Action::Kill);
            drop(receiver.recv(Deadline::NOW));
        });
        assert!(matches!(victim.reap(), Ending::Killed(_)));
        assert!(!receiver.poll(Deadline::NOW).expect("no signal"));
        assert!(!is_readable(&receiver), "nothing is there");
        sender.send(&[b"next"], Deadline::NOW).expect("room");
        assert!(is_readable(&receiver), "one came");
    });
}

/// The sender is stopped while it notifies. Whatever it did before, no notification is left over.
#[test]
fn a_descriptor_is_not_readable_without_a_message_when_its_sender_was_slow() {
    isolated(|| {
        process::ensure().expect("an arena");
        let (receiver, sender) = pipe(false).expect("a pipe");
        assert!(!is_readable(&receiver));
        let slow = Child::fork(|| {
            failpoint::arm("pipe.notifying", 1, Action::Stop);
            sender.send(&[b"late"], Deadline::NOW).expect("room");
        });
        assert!(matches!(slow.ended_or_stopped(), Ending::Stopped(_)));
        let early = receiver.recv(Deadline::NOW);
        slow.resume();
        slow.succeed();
        if early.is_err() {
            assert!(is_readable(&receiver));
            receiver.recv(Deadline::NOW).expect("the message");
        }
        assert!(!is_readable(&receiver), "nothing is there");
    });
}

/// How often the child has given up the processor.
fn switches_of(child: &Child) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.pid().as_raw_nonzero()))
        .expect("status");
    let switches = status
        .lines()
        .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    switches
        .and_then(|switches| switches.trim().parse().ok())
        .expect("a number")
}

/// The notification byte is there all the time.
#[test]
fn a_receiver_sleeps_while_a_sender_is_stopped_between_its_byte_and_its_message() {
    isolated(|| {
        process::ensure().expect("an arena");
        let (receiver, sender) = pipe(false).expect("a pipe");
        let stopped = Child::fork(|| {
            failpoint::arm("pipe.notified", 1, Action::Stop);
            sender.send(&[b"late"], Deadline::NOW).expect("room");
        });
        assert!(matches!(stopped.ended_or_stopped(), Ending::Stopped(_)));
        let asleep = Child::fork(|| {
            let message = receiver.recv(patiently()).expect("the message");
            assert_eq!(message.bytes(), b"late");
        });
        // In naps of the shortest kind there are hundreds in such a time.
        let limit = patiently();
        let mut quiet = 0;
        while quiet < 5 {
            assert!(!limit.is_past(), "it keeps waking up");
            let before = switches_of(&asleep);
            std::thread::sleep(std::time::Duration::from_millis(100));
            quiet = match switches_of(&asleep) - before {
                0..30 => quiet + 1,
                _ => 0,
            };
        }
        stopped.resume();
        stopped.succeed();
        asleep.succeed();
    });
}
