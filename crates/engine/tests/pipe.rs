//! Pipe as its users see it.

mod common;

use common::{Child, Footprint, SharedCells, TestMessage, briefly, die, isolated, promptly};
use procession_engine::channel::{End, pipe};
use procession_engine::error::{GetError, PutError};
use procession_engine::{Deadline, process};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::os::fd::BorrowedFd;

fn text(end: &End, deadline: Deadline) -> String {
    String::from_utf8(end.recv(deadline).unwrap().into_vec()).unwrap()
}

#[test]
fn what_one_process_sends_another_receives() {
    isolated(|| {
        let (receiver, sender) = pipe(false).unwrap();
        let child = Child::fork(|| {
            sender
                .send(&[b"Hello ", b"from sender!"], Deadline::NEVER)
                .unwrap()
        });
        assert_eq!(text(&receiver, Deadline::NEVER), "Hello from sender!");
        child.succeed();
    });
}

#[test]
fn a_duplex_pipe_goes_both_ways() {
    isolated(|| {
        let (near, far) = pipe(true).unwrap();
        let child = Child::fork(|| {
            for _ in 0..500 {
                let message = far.recv(Deadline::NEVER).unwrap();
                far.send(&[message.bytes(), b"!"], Deadline::NEVER).unwrap();
            }
        });
        for number in 0..500 {
            let sent = number.to_string();
            near.send(&[sent.as_bytes()], promptly()).unwrap();
            assert_eq!(text(&near, promptly()), sent + "!");
        }
        child.succeed();
    });
}

#[test]
fn ends_of_a_one_way_pipe_know_their_direction() {
    isolated(|| {
        let (receiver, sender) = pipe(false).unwrap();
        assert_eq!(
            (receiver.is_readable(), receiver.is_writable()),
            (true, false)
        );
        assert_eq!((sender.is_readable(), sender.is_writable()), (false, true));
        let (near, far) = pipe(true).unwrap();
        assert!(near.is_readable() && near.is_writable() && far.is_readable() && far.is_writable());
    });
}

#[test]
fn the_end_comes_when_all_copies_of_the_other_end_are_gone_and_all_was_received() {
    isolated(|| {
        let (receiver, sender) = pipe(false).unwrap();
        let child = Child::fork(|| {
            sender.send(&[b"last"], Deadline::NOW).unwrap();
            die();
        });
        drop(sender);
        child.join();
        assert!(receiver.poll(promptly()).unwrap());
        assert_eq!(text(&receiver, promptly()), "last");
        assert!(
            receiver.poll(promptly()).unwrap(),
            "the end is something to receive"
        );
        assert!(matches!(receiver.recv(promptly()), Err(GetError::Closed)));
    });
}

#[test]
fn the_end_does_not_come_while_a_copy_is_open_elsewhere() {
    isolated(|| {
        let cells = SharedCells::new();
        let (receiver, sender) = pipe(false).unwrap();
        let holder = Child::fork(|| {
            cells.until(0, 1);
            sender.send(&[b"still here"], Deadline::NOW).unwrap();
        });
        drop(sender);
        assert!(matches!(receiver.recv(briefly()), Err(GetError::Empty)));
        cells.write(0, 1);
        assert_eq!(text(&receiver, promptly()), "still here");
        assert!(matches!(receiver.recv(promptly()), Err(GetError::Closed)));
        holder.succeed();
    });
}

#[test]
fn a_sleeping_receiver_is_woken_by_the_death_of_the_sender() {
    isolated(|| {
        let cells = SharedCells::new();
        let (receiver, sender) = pipe(false).unwrap();
        let child = Child::fork(|| {
            let _mine = &sender;
            loop {
                std::thread::park();
            }
        });
        let waiter = {
            drop(sender);
            Child::fork(|| {
                cells.write(0, 1);
                assert!(matches!(
                    receiver.recv(Deadline::NEVER),
                    Err(GetError::Closed)
                ));
            })
        };
        cells.until(0, 1);
        child.kill();
        waiter.succeed();
        child.join();
    });
}

#[test]
fn sending_to_nobody_is_refused() {
    isolated(|| {
        let (receiver, sender) = pipe(false).unwrap();
        drop(receiver);
        assert!(matches!(
            sender.send(&[b"x"], Deadline::NEVER),
            Err(PutError::Closed)
        ));
    });
}

#[test]
fn what_is_under_way_is_bounded() {
    isolated(|| {
        let (receiver, sender) = pipe(false).unwrap();
        let mut sent = 0;
        while sender.send(&[&[1; 1_000]], Deadline::NOW).is_ok() {
            sent += 1;
            assert!(sent < 10_000, "it takes for ever");
        }
        assert!(matches!(
            sender.send(&[b"x"], briefly()),
            Err(PutError::Full)
        ));
        let child = Child::fork(|| sender.send(&[b"after all"], Deadline::NEVER).unwrap());
        for _ in 0..sent {
            assert_eq!(receiver.recv(promptly()).unwrap().len(), 1_000);
        }
        assert_eq!(text(&receiver, promptly()), "after all");
        child.succeed();
    });
}

#[test]
fn one_message_may_be_as_large_as_it_likes() {
    isolated(|| {
        process::ensure().unwrap();
        let before = Footprint::take();
        let (receiver, sender) = pipe(false).unwrap();
        let sent = TestMessage::new(0, 0, 30 << 20);
        let child = Child::fork(|| sender.send(&[&sent.bytes()], Deadline::NEVER).unwrap());
        assert_eq!(
            TestMessage::read(receiver.recv(Deadline::NEVER).unwrap().bytes()),
            sent
        );
        child.succeed();
        drop((receiver, sender));
        before.assert_unchanged();
    });
}

fn is_readable(end: &End) -> bool {
    // SAFETY: the end keeps its descriptor open while it is borrowed.
    let fd = unsafe { BorrowedFd::borrow_raw(end.fileno()) };
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    poll(
        &mut [PollFd::from_borrowed_fd(fd, PollFlags::IN)],
        Some(&now),
    )
    .unwrap()
        == 1
}

#[test]
fn the_descriptor_is_readable_exactly_when_something_is_there() {
    isolated(|| {
        let (receiver, sender) = pipe(false).unwrap();
        assert!(!is_readable(&receiver));
        Child::fork(|| (0..2).for_each(|_| sender.send(&[b"x"], Deadline::NOW).unwrap())).succeed();
        assert!(
            is_readable(&receiver) && is_readable(&receiver),
            "it is level-triggered"
        );
        receiver.recv(Deadline::NOW).unwrap();
        assert!(is_readable(&receiver), "one is left");
        receiver.recv(Deadline::NOW).unwrap();
        assert!(!is_readable(&receiver), "none is left");
        sender.send(&[b"y"], Deadline::NOW).unwrap();
        assert!(is_readable(&receiver));
        receiver.recv(Deadline::NOW).unwrap();
        drop(sender);
        assert!(is_readable(&receiver), "the end is something to receive");
    });
}

#[test]
fn what_was_sent_before_anybody_asked_for_the_descriptor_makes_it_readable() {
    isolated(|| {
        let (receiver, sender) = pipe(false).unwrap();
        sender.send(&[b"x"], Deadline::NOW).unwrap();
        assert!(is_readable(&receiver));
        receiver.recv(Deadline::NOW).unwrap();
        assert!(!is_readable(&receiver));
    });
}

#[test]
fn a_pipe_holds_what_64_kib_of_frames_hold() {
    isolated(|| {
        // The length of the messages, and how many of them the standard library's pipe takes.
        for (size, count) in [(0, 16_384), (5, 7_281), (1_000, 65), (30_000, 2)] {
            for (duplex, back) in [(false, false), (true, false), (true, true)] {
                let (one, two) = pipe(duplex).unwrap();
                let (reader, writer) = if back { (two, one) } else { (one, two) };
                let message = vec![7; size];
                for _ in 0..count {
                    writer.send(&[&message], Deadline::NOW).unwrap();
                }
                while writer.send(&[&message], Deadline::NOW).is_ok() {}
                for _ in 0..count {
                    assert_eq!(reader.recv(Deadline::NOW).unwrap().len(), size);
                }
                writer.send(&[&message], Deadline::NOW).unwrap();
            }
        }
    });
}

#[test]
fn large_messages_among_many_small_ones_wait_for_room() {
    isolated(|| {
        let (reader, writer) = pipe(false).unwrap();
        let large = vec![7; 300_000];
        for _ in 0..3_000 {
            writer.send(&[b"small"], Deadline::NOW).unwrap();
        }
        let mut sent = 0;
        while writer.send(&[&large], Deadline::NOW).is_ok() {
            sent += 1;
        }
        assert_eq!(sent, 3);
        for _ in 0..3_000 {
            assert_eq!(reader.recv(Deadline::NOW).unwrap().len(), 5);
        }
        for _ in 0..40 {
            assert_eq!(reader.recv(Deadline::NOW).unwrap().len(), 300_000);
            writer.send(&[&large], Deadline::NOW).unwrap();
            let refused = writer.send(&[&large], Deadline::NOW);
            assert!(matches!(refused, Err(PutError::Full)));
        }
    });
}
