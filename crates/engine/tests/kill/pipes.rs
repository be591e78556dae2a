//! Deaths in the pipe: sending, receiving, and what the other side then sees.

use crate::case::{FREE_CELLS, Play, assert_bystander_goes_on_after, curtain, turned};
use crate::common::{
    Child, End as Ending, Ledger, Letter, Slate, briefly, isolated, linger, patiently, promptly,
};
use procession_engine::channel::{End, pipe};
use procession_engine::error::{GetError, PutError};
use procession_engine::failpoint::{self, Action};
use procession_engine::{Deadline, process};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::os::fd::BorrowedFd;

const VICTIM: usize = 0;
const STAGE: usize = 1;
const EACH: usize = 1200;

struct Line {
    near: Option<End>,
    far: Option<End>,
    ledger: Ledger,
    next: [usize; 2],
    size: usize,
    armed: bool,
}

impl Line {
    fn new(slate: Slate, size: usize, armed: bool) -> Line {
        let (near, far) = pipe(true).expect("a pipe");
        let ledger = Ledger::on(slate, FREE_CELLS + 16, 2, EACH);
        Line {
            near: Some(near),
            far: Some(far),
            ledger,
            next: [0; 2],
            size,
            armed,
        }
    }

    /// Keeps one end, and asks for its descriptor if that is part of the play: it is a process's own.
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
        let letter = Letter::new(writer, self.next[writer], self.size);
        self.ledger.begin(letter);
        end.as_ref()
            .expect("open")
            .send(&[&letter.bytes()], deadline)?;
        self.ledger.sent(letter);
        self.next[writer] += 1;
        Ok(())
    }

    fn recv(&self, reader: usize, deadline: Deadline) -> Result<Letter, GetError> {
        let end = if reader == VICTIM {
            &self.far
        } else {
            &self.near
        };
        let message = end.as_ref().expect("open").recv(deadline)?;
        Ok(self.ledger.received(message.bytes()))
    }
}

/// The victim alone has the far end, and sends.
pub struct Sending {
    line: Line,
    letters: usize,
}

impl Sending {
    pub fn small(slate: Slate) -> Sending {
        Sending {
            line: Line::new(slate, 40, false),
            letters: 400,
        }
    }

    pub fn large(slate: Slate) -> Sending {
        Sending {
            line: Line::new(slate, 100_000, false),
            letters: 12,
        }
    }

    pub fn armed(slate: Slate) -> Sending {
        Sending {
            line: Line::new(slate, 40, true),
            letters: 40,
        }
    }
}

impl Play for Sending {
    const BYSTANDER: bool = true;

    fn victim(&mut self, _: Slate) {
        self.line.keep(VICTIM);
        for _ in 0..self.letters {
            self.line
                .send(VICTIM, patiently())
                .expect("the bystander receives");
        }
    }

    fn bystander(&mut self, _: Slate) {
        self.line.keep(STAGE);
        loop {
            match self.line.recv(STAGE, patiently()) {
                Ok(_) => {}
                Err(GetError::Closed) => return,
                Err(error) => panic!("neither a letter nor the end: {error}"),
            }
        }
    }

    fn survive(&mut self, _: Slate) {
        self.line.keep(STAGE);
        let limit = promptly();
        loop {
            match self.line.recv(STAGE, limit) {
                Ok(_) => {}
                Err(GetError::Closed) => break,
                Err(error) => panic!("neither a letter nor the end: {error}"),
            }
        }
        let near = self.line.near.as_ref().expect("open");
        assert!(
            near.poll(Deadline::NOW).expect("no signal"),
            "the end is something to receive"
        );
    }

    fn verify(&mut self, _: Slate) {
        let missing = self.line.ledger.missing();
        assert!(missing.is_empty(), "lost: {missing:?}");
    }
}

/// The victim alone has the far end, and receives.
pub struct Receiving {
    line: Line,
    letters: usize,
}

impl Receiving {
    pub fn small(slate: Slate) -> Receiving {
        Receiving {
            line: Line::new(slate, 40, false),
            letters: 400,
        }
    }

    pub fn large(slate: Slate) -> Receiving {
        Receiving {
            line: Line::new(slate, 100_000, false),
            letters: 12,
        }
    }

    pub fn armed(slate: Slate) -> Receiving {
        Receiving {
            line: Line::new(slate, 40, true),
            letters: 40,
        }
    }
}

impl Play for Receiving {
    const BYSTANDER: bool = true;

    fn victim(&mut self, _: Slate) {
        self.line.keep(VICTIM);
        for _ in 0..self.letters {
            self.line
                .recv(VICTIM, patiently())
                .expect("the bystander sends");
        }
    }

    fn bystander(&mut self, _: Slate) {
        self.line.keep(STAGE);
        loop {
            if self.line.armed {
                // So that the victim finds nothing left now and then.
                linger();
            }
            match self.line.send(STAGE, patiently()) {
                Ok(()) => {}
                Err(PutError::Closed) => return,
                Err(error) => panic!("neither room nor the end: {error}"),
            }
            if self.line.next[STAGE] == EACH {
                return;
            }
        }
    }

    fn survive(&mut self, _: Slate) {
        self.line.keep(STAGE);
        let near = self.line.near.as_ref().expect("open");
        let limit = promptly();
        while !matches!(near.send(&[b"to nobody"], limit), Err(PutError::Closed)) {
            assert!(
                !limit.is_past(),
                "nobody has the other end, and sending does not say so"
            );
        }
    }
}

/// Both ends are open everywhere: several processes use them, and one dies.
pub struct Sharing {
    line: Line,
}

impl Sharing {
    pub fn new(slate: Slate) -> Sharing {
        Sharing {
            line: Line::new(slate, 40, false),
        }
    }

    /// As `new`, and somebody has asked for the descriptors of both ends.
    pub fn watched(slate: Slate) -> Sharing {
        let line = Line::new(slate, 40, true);
        for end in line.near.iter().chain(&line.far) {
            end.fileno();
        }
        Sharing { line }
    }
}

impl Play for Sharing {
    const BYSTANDER: bool = true;

    fn victim(&mut self, _: Slate) {
        for _ in 0..20 {
            self.line.send(VICTIM, patiently()).expect("room");
            self.line.recv(VICTIM, patiently()).expect("the answer");
        }
    }

    fn bystander(&mut self, slate: Slate) {
        while !curtain(slate) {
            match self.line.recv(STAGE, briefly()) {
                Ok(letter) => {
                    assert_eq!(letter.writer, VICTIM, "it came to the wrong end");
                    self.line.send(STAGE, patiently()).expect("room");
                    turned(slate);
                }
                Err(GetError::Empty) => {}
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn survive(&mut self, slate: Slate) {
        let limit = promptly();
        self.line.next[VICTIM] = EACH / 2;
        assert_bystander_goes_on_after(slate, || {
            (0..6).for_each(|_| self.line.send(VICTIM, limit).expect("room"));
        });
    }

    fn verify(&mut self, _: Slate) {
        while self.line.recv(VICTIM, Deadline::NOW).is_ok() {}
        while self.line.recv(STAGE, Deadline::NOW).is_ok() {}
        let missing = self.line.ledger.missing();
        assert!(missing.len() <= 1, "lost: {missing:?}");
        if self.line.armed {
            for end in self.line.near.iter().chain(&self.line.far) {
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

/// One of two processes that share an end is stopped while it takes the rings out of the socket.
#[test]
fn a_descriptor_tells_of_a_message_that_came_while_another_process_settled() {
    let slate = Slate::new();
    isolated(|| {
        process::ensure().expect("an arena");
        let (receiver, sender) = pipe(false).expect("a pipe");
        let other = Child::fork(|| {
            receiver.fileno();
            failpoint::arm("pipe.silencing", 1, Action::Stop);
            slate.write(FREE_CELLS, 1);
            receiver.recv(patiently()).expect("the first message");
        });
        slate.until(FREE_CELLS, 1);
        sender.send(&[b"first"], Deadline::NOW).expect("room");
        assert!(matches!(other.ended_or_stopped(), Ending::Stopped(_)));
        receiver.fileno();
        sender.send(&[b"second"], Deadline::NOW).expect("room");
        other.go_on();
        other.succeed();
        assert!(is_readable(&receiver), "the second message is there");
        assert_eq!(receiver.recv(Deadline::NOW).expect("it").bytes(), b"second");
        assert!(!is_readable(&receiver));
    });
}

/// Who takes the last message out may be another process than the one that asked for the descriptor.
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

/// A receiver that dies before it brought the descriptor in line leaves that to the next look.
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

/// The sender is stopped as it rings, and whatever it did before, no ring is left over.
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
        slow.go_on();
        slow.succeed();
        if early.is_err() {
            assert!(is_readable(&receiver));
            receiver.recv(Deadline::NOW).expect("the message");
        }
        assert!(!is_readable(&receiver), "nothing is there");
    });
}

/// How often the calling process gave up the processor.
fn switches_of(child: &Child) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.pid().as_raw_nonzero()))
        .expect("status");
    let told = status
        .lines()
        .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    told.and_then(|told| told.trim().parse().ok())
        .expect("a number")
}

/// Its byte is there all the time.
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
        stopped.go_on();
        stopped.succeed();
        asleep.succeed();
    });
}
