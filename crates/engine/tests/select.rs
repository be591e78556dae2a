//! Waiting for several things at once, as users of the engine see it.

mod common;

use common::{Child, briefly, isolated, promptly};
use procession_engine::channel::{Queue, pipe};
use procession_engine::error::WaitError;
use procession_engine::select::{Select, Source, WakeHandle};
use procession_engine::sync::Event;
use procession_engine::{Deadline, ProcId};
use rustix::process::{PidfdFlags, pidfd_open};
use std::os::fd::{AsFd, OwnedFd};

fn pidfd(child: &Child) -> (OwnedFd, ProcId) {
    let slot = child.proc_id().expect("forked with the engine");
    (pidfd_open(child.pid(), PidfdFlags::empty()).unwrap(), slot)
}

fn wait_for_ever() {
    let never = Event::new().unwrap();
    while never.wait(Deadline::NEVER).is_err() {}
}

#[test]
fn whichever_queue_has_a_message_ends_the_wait() {
    isolated(|| {
        let queues = [Queue::new(0).unwrap(), Queue::new(0).unwrap()];
        let sources = [Source::Message(&queues[0]), Source::Message(&queues[1])];
        let select = Select::default();
        assert_eq!(
            select.wait(&sources, Deadline::NOW),
            Err(WaitError::TimedOut)
        );
        assert_eq!(select.wait(&sources, briefly()), Err(WaitError::TimedOut));
        for (at, queue) in queues.iter().enumerate() {
            let producer = Child::fork(|| queue.put(&[b"here"], Deadline::NOW).unwrap());
            assert_eq!(select.wait(&sources, promptly()), Ok(at));
            assert_eq!(queue.get(Deadline::NOW).unwrap().bytes(), b"here");
            producer.succeed();
        }
    });
}

#[test]
fn of_several_that_are_ready_each_has_its_turn() {
    isolated(|| {
        let queues: Vec<Queue> = (0..3).map(|_| Queue::new(0).unwrap()).collect();
        for queue in &queues {
            queue.put(&[b"here"], Deadline::NOW).unwrap();
        }
        let sources: Vec<Source> = queues.iter().map(Source::Message).collect();
        let select = Select::default();
        let mut seen: Vec<usize> = (0..3)
            .map(|_| select.wait(&sources, Deadline::NOW).unwrap())
            .collect();
        seen.sort_unstable();
        assert_eq!(seen, [0, 1, 2]);
    });
}

#[test]
fn a_closed_queue_is_ready() {
    isolated(|| {
        let (one, other) = (Queue::new(0).unwrap(), Queue::new(1).unwrap());
        other.put(&[b"it is full"], Deadline::NOW).unwrap();
        let sources = [Source::Message(&one), Source::Room(&other)];
        let closer = Child::fork(|| one.close());
        assert_eq!(Select::default().wait(&sources, promptly()), Ok(0));
        closer.succeed();
        let closer = Child::fork(|| other.close());
        let sources = [Source::Room(&other)];
        assert_eq!(Select::default().wait(&sources, promptly()), Ok(0));
        closer.succeed();
    });
}

#[test]
fn room_in_a_full_queue_or_pipe_ends_the_wait() {
    isolated(|| {
        let queue = Queue::new(1).unwrap();
        queue.put(&[b"it is full"], Deadline::NOW).unwrap();
        let (reader, writer) = pipe(false).unwrap();
        let large = vec![1; 600_000];
        writer.send(&[&large], Deadline::NOW).unwrap();
        let key = writer.event_key();
        assert!(writer.send(&[&large], Deadline::NOW).is_err());
        let sources = [Source::Room(&queue), Source::DepartureSince(&writer, key)];
        let select = Select::default();
        assert_eq!(select.wait(&sources, briefly()), Err(WaitError::TimedOut));
        // A small message would fit.
        assert!(Source::Departure(&writer).is_ready());
        let consumer = Child::fork(|| drop(reader.recv(Deadline::NOW).unwrap()));
        assert_eq!(select.wait(&sources, promptly()), Ok(1));
        consumer.succeed();
        let consumer = Child::fork(|| drop(queue.get(Deadline::NOW).unwrap()));
        assert_eq!(select.wait(&sources[..1], promptly()), Ok(0));
        consumer.succeed();
    });
}

#[test]
fn a_message_in_a_pipe_and_the_end_of_its_stream_end_the_wait() {
    isolated(|| {
        let (reader, writer) = pipe(false).unwrap();
        let quiet = Queue::new(0).unwrap();
        let sources = [Source::Message(&quiet), Source::Arrival(&reader)];
        let select = Select::default();
        let sender = Child::fork(|| {
            writer.send(&[b"here"], Deadline::NOW).unwrap();
            wait_for_ever();
        });
        drop(writer);
        assert_eq!(select.wait(&sources, promptly()), Ok(1));
        assert_eq!(reader.recv(Deadline::NOW).unwrap().bytes(), b"here");
        assert_eq!(select.wait(&sources, briefly()), Err(WaitError::TimedOut));
        sender.kill();
        assert_eq!(select.wait(&sources, promptly()), Ok(1));
    });
}

#[test]
fn the_end_of_a_process_ends_the_wait() {
    isolated(|| {
        let quiet = Queue::new(0).unwrap();
        let select = Select::default();
        let child = Child::fork(wait_for_ever);
        let (fd, slot) = pidfd(&child);
        let sources = [Source::Message(&quiet), Source::Exit(fd.as_fd(), slot)];
        assert_eq!(select.wait(&sources, briefly()), Err(WaitError::TimedOut));
        child.kill();
        assert_eq!(select.wait(&sources, promptly()), Ok(1));
        let child = Child::fork(|| ());
        let (fd, slot) = pidfd(&child);
        let sources = [Source::Message(&quiet), Source::Exit(fd.as_fd(), slot)];
        assert_eq!(select.wait(&sources, promptly()), Ok(1));
        child.succeed();
        assert_eq!(select.wait(&sources, Deadline::NOW), Ok(1));
    });
}

#[test]
fn a_wake_handle_reaches_a_thread_that_waits_for_other_things() {
    isolated(|| {
        let (quiet, wake_handle) = (Queue::new(0).unwrap(), WakeHandle::default());
        let sources = [
            Source::Message(&quiet),
            Source::WakeHandle(&wake_handle, wake_handle.event_key()),
        ];
        std::thread::scope(|scope| {
            scope.spawn(|| wake_handle.notify());
            assert_eq!(Select::default().wait(&sources, promptly()), Ok(1));
        });
    });
}

#[test]
fn every_message_is_received_by_those_who_wait_for_two_queues() {
    isolated(|| {
        const EACH: usize = 2_000;
        let queues = [Queue::new(0).unwrap(), Queue::new(4).unwrap()];
        let work = || {
            let select = Select::default();
            let sources = [Source::Message(&queues[0]), Source::Message(&queues[1])];
            let mut open = vec![0, 1];
            let mut count = 0;
            while !open.is_empty() {
                let of: Vec<Source> = open.iter().map(|&at| sources[at]).collect();
                let ready = select.wait(&of, promptly()).unwrap();
                match queues[open[ready]].get(Deadline::NOW) {
                    Ok(_) => count += 1,
                    Err(procession_engine::error::GetError::Closed) => drop(open.remove(ready)),
                    Err(_) => {}
                }
            }
            count
        };
        let counted = Queue::new(0).unwrap();
        let consumer = || {
            let count: usize = work();
            counted.put(&[&count.to_le_bytes()], Deadline::NOW).unwrap();
        };
        let consumers = [Child::fork(consumer), Child::fork(consumer)];
        let producers = queues.each_ref().map(|queue| {
            Child::fork(|| (0..EACH).for_each(|_| queue.put(&[b"m"], promptly()).unwrap()))
        });
        producers.iter().for_each(Child::succeed);
        queues.iter().for_each(Queue::close);
        consumers.iter().for_each(Child::succeed);
        let mut sum = 0;
        while let Ok(count) = counted.get(Deadline::NOW) {
            sum += usize::from_le_bytes(count.bytes().try_into().unwrap());
        }
        assert_eq!(sum, 2 * EACH);
    });
}
