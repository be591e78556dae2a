//! What a forked child holds of its parent's objects, and what it may not use.

mod common;

use common::{Child, End, Footprint, SharedCells, isolated};
use procession_engine::channel::{self, Queue};
use procession_engine::process;
use procession_engine::sync::{Event, Lock, Semaphore};
use procession_engine::value::SharedBytes;
use procession_engine::{BorrowedBuffer, Deadline, Error, Opened};
use std::time::{Duration, Instant};

/// So many holders, this process included, need no memory besides the object's own.
const INLINE_HOLDERS: usize = 10;

fn held_until_signalled(cells: SharedCells) -> Child {
    let child = Child::fork(|| cells.until(0, 1));
    process::check_fork().unwrap();
    child
}

fn is_refused(object: &impl Opened) -> bool {
    matches!(object.check(), Err(Error::NotInherited(_)))
}

#[test]
fn a_child_for_whose_name_there_is_no_room_is_told_and_may_use_nothing() {
    isolated(|| {
        let (lock, queue) = (Lock::new().unwrap(), Queue::new(0).unwrap());
        let before = Footprint::take();
        let cells = SharedCells::new();
        process::set_memory_limit(Some(1)).unwrap();
        let holders: Vec<_> = (1..INLINE_HOLDERS)
            .map(|_| held_until_signalled(cells))
            .collect();
        let child = Child::fork(|| {
            assert!(matches!(
                process::check_fork(),
                Err(Error::OutOfMemory { .. })
            ));
            assert!(is_refused(&lock) && is_refused(&queue));
            assert!(lock.check().is_err(), "and goes on to be");
            assert!(
                SharedBytes::open(&queue.handle()).is_err(),
                "of another kind, too"
            );
        });
        assert!(matches!(
            process::check_fork(),
            Err(Error::OutOfMemory { .. })
        ));
        process::check_fork().unwrap();
        child.succeed();
        cells.write(0, 1);
        holders.iter().for_each(Child::succeed);
        drop(holders);
        // Once the other holders are gone there is room again.
        Child::fork(|| {
            assert!(lock.check().is_ok() && lock.try_acquire() && lock.release().is_ok())
        })
        .succeed();
        process::check_fork().unwrap();
        process::sweep();
        before.assert_unchanged();
    });
}

#[test]
fn with_memory_more_processes_hold_an_object_than_its_head_has_names_for() {
    isolated(|| {
        let lock = Lock::new().unwrap();
        let cells = SharedCells::new();
        let before = process::memory().unwrap().in_use;
        let holders: Vec<_> = (0..3 * INLINE_HOLDERS)
            .map(|_| held_until_signalled(cells))
            .collect();
        let taken = process::memory().unwrap().in_use - before;
        assert!(taken < 2048, "{taken} bytes for {} names", holders.len());
        let handle = lock.handle();
        drop(lock);
        assert!(Lock::open(&handle).is_ok(), "the others hold it");
        cells.write(0, 1);
        holders.iter().for_each(Child::succeed);
        drop(holders);
        process::sweep();
        assert!(Lock::open(&handle).is_err(), "nobody does");
    });
}

#[test]
fn a_clone_that_no_handler_saw_may_use_what_is_there_still_and_nothing_else() {
    isolated(|| {
        let cells = SharedCells::new();
        let (gone, kept) = (Queue::new(0).unwrap(), Queue::new(0).unwrap());
        let (here, there) = channel::pipe(true).unwrap();
        let value = SharedBytes::new(8).unwrap();
        let (event, units) = (Event::new().unwrap(), Semaphore::new(1, None).unwrap());
        let child = Child::clone_without_handlers(|| {
            cells.until(0, 1);
            assert!(is_refused(&gone) && is_refused(&value) && is_refused(&here));
            assert!(is_refused(&event) && is_refused(&units));
            // The parent has dropped its own, with this closure.
            drop((here, there, value, event, units));
            kept.check().unwrap();
            kept.put(&[b"from a clone"], Deadline::NOW).unwrap();
        });
        let block = gone.handle();
        drop(gone);
        let others: Vec<_> = (0..20).map(|_| Queue::new(0).unwrap()).collect();
        assert!(Queue::open(&block).is_err());
        cells.write(0, 1);
        child.succeed();
        assert!(others.iter().all(Queue::is_empty));
        assert_eq!(kept.get(Deadline::NOW).unwrap().bytes(), b"from a clone");
    });
}

const LENGTH: usize = 50_000;

fn received(queue: &Queue, byte: u8) -> BorrowedBuffer {
    queue.put(&[&[byte; LENGTH]], Deadline::NOW).unwrap();
    let borrowed = queue.get(Deadline::NOW).unwrap().lend().unwrap();
    borrowed.slice(0..LENGTH).unwrap()
}

fn bytes(view: &BorrowedBuffer) -> &[u8] {
    // SAFETY: the view keeps them; no other thread writes there meanwhile.
    unsafe { std::slice::from_raw_parts(view.as_ptr(), view.len()) }
}

fn fill(view: &BorrowedBuffer, byte: u8) {
    // SAFETY: as above.
    unsafe { view.as_ptr().write_bytes(byte, view.len()) };
}

/// Forks a child that checks the views after this process has written to its own, and then writes to them.
fn fork_and_look(views: &[(u8, BorrowedBuffer)]) {
    let cells = SharedCells::new();
    let child = Child::fork(|| {
        process::check_fork().unwrap();
        cells.until(0, 1);
        for (byte, view) in views {
            assert_eq!(bytes(view), [*byte; LENGTH]);
            fill(view, 254);
        }
    });
    process::check_fork().unwrap();
    views.iter().for_each(|(_, view)| fill(view, 255));
    cells.write(0, 1);
    child.succeed();
    for (byte, view) in views {
        assert_eq!(bytes(view), [255; LENGTH]);
        fill(view, *byte);
    }
}

fn receive_many(queue: &Queue, count: u8) -> Vec<(u8, BorrowedBuffer)> {
    (0..count)
        .map(|byte| (byte, received(queue, byte)))
        .collect()
}

#[test]
fn many_borrowed_blocks_become_private_whatever_comes_and_goes() {
    isolated(|| {
        let queue = Queue::new(0).unwrap();
        drop(received(&queue, 0));
        let before = Footprint::take();
        let mut first = receive_many(&queue, 100);
        let mut nth = 0;
        first.retain(|_| {
            nth += 1;
            nth % 2 == 0
        });
        fork_and_look(&first);
        let second = receive_many(&queue, 100);
        fork_and_look(&second);
        fork_and_look(&first);
        for _ in 0..3 {
            let third = receive_many(&queue, 60);
            fork_and_look(&third);
            // A message that was begun before a fork is sent after it with the bytes it had.
            let mut buf = channel::MessageBuf::new(LENGTH, &[]).unwrap();
            let fourth = receive_many(&queue, 20);
            buf.bytes_mut().fill(7);
            fork_and_look(&fourth);
            queue.put_buf(&mut Some(buf), Deadline::NOW).unwrap();
            assert_eq!(queue.get(Deadline::NOW).unwrap().bytes(), [7; LENGTH]);
        }
        drop((first, second));
        fork_and_look(&receive_many(&queue, 100));
        process::sweep();
        before.assert_unchanged();
    });
}

#[test]
fn without_memory_for_cow_buffers_borrowed_blocks_are_private_all_the_same() {
    isolated(|| {
        let queue = Queue::new(0).unwrap();
        let views = receive_many(&queue, 30);
        process::set_memory_limit(Some(1)).unwrap();
        fork_and_look(&views);
        fork_and_look(&views);
        process::set_memory_limit(None).unwrap();
        drop(views);
        fork_and_look(&receive_many(&queue, 30));
    });
}

#[test]
fn what_is_borrowed_takes_no_second_memory_once_the_others_are_gone() {
    isolated(|| {
        let queue = Queue::new(0).unwrap();
        let views = receive_many(&queue, 60);
        let before = process::memory().unwrap().resident;
        assert!(before > (60 * LENGTH) as u64);
        fork_and_look(&views);
        let end = Instant::now() + Duration::from_secs(20);
        while process::memory().unwrap().resident > before / 2 {
            assert!(Instant::now() < end, "the file's pages are still there");
            std::thread::yield_now();
        }
        fork_and_look(&views);
        drop(views);
        fork_and_look(&receive_many(&queue, 60));
        assert_eq!(Child::fork(|| ()).join().0, End::Exited(0));
    });
}
