//! Messages that are written in place, as their users see them.

mod common;

use common::{Child, Footprint, die, isolated, promptly};
use procession_engine::channel::{MessageBuf, Queue, pipe};
use procession_engine::value::SharedBytes;
use procession_engine::{Deadline, ObjectRef, process};
use std::panic::{AssertUnwindSafe, catch_unwind};

fn buf_of(bytes: &[u8]) -> MessageBuf {
    let mut buf = MessageBuf::new(bytes.len(), &[]).unwrap();
    buf.bytes_mut().copy_from_slice(bytes);
    buf
}

fn put(queue: &Queue, buf: MessageBuf) {
    queue.put_buf(&mut Some(buf), Deadline::NOW).unwrap();
}

#[test]
fn it_arrives_where_it_was_written_and_aligned_whatever_its_size() {
    isolated(|| {
        let queue = Queue::new(0).unwrap();
        for size in (0..300).chain([1000, 4096, 4097, 5000, 100_000, 1 << 20]) {
            let buf = buf_of(&vec![7; size]);
            let written = buf.bytes().as_ptr();
            put(&queue, buf);
            let message = queue.get(Deadline::NOW).unwrap();
            assert_eq!(message.bytes(), vec![7; size]);
            assert_eq!(message.bytes().as_ptr(), written);
            assert_eq!(written.addr() % 64, 0);
        }
    });
}

#[test]
fn it_goes_through_several_processes_where_it_lies() {
    isolated(|| {
        process::ensure().unwrap();
        let before = Footprint::take();
        let (ours, theirs) = pipe(true).unwrap();
        let child = Child::fork(|| {
            let message = theirs.recv(promptly()).unwrap();
            let mut buf = message.into_buf().unwrap();
            buf.bytes_mut().reverse();
            buf.truncate(2);
            theirs.send_buf(&mut Some(buf), promptly()).unwrap();
        });
        let buf = buf_of(&[1, 2, 3]);
        let written = buf.bytes().as_ptr();
        ours.send_buf(&mut Some(buf), promptly()).unwrap();
        let back = ours.recv(promptly()).unwrap();
        assert_eq!(back.bytes(), [3, 2]);
        assert_eq!(back.bytes().as_ptr(), written);
        child.succeed();
        drop((back, ours, theirs));
        before.assert_unchanged();
    });
}

#[test]
fn what_lies_in_a_slot_or_keeps_objects_becomes_no_message_buf() {
    isolated(|| {
        let queue = Queue::new(0).unwrap();
        let object = SharedBytes::new(8).unwrap();
        let held = ObjectRef::of(&object.handle()).unwrap();
        queue.put(&[b"small"], Deadline::NOW).unwrap();
        queue
            .put_with(&[&[2; 5000]], &[held], Deadline::NOW)
            .unwrap();
        for length in [5, 5000] {
            let message = queue.get(Deadline::NOW).unwrap();
            let refused = message.into_buf().unwrap_err();
            assert_eq!(refused.len(), length);
        }
    });
}

#[test]
fn dropped_unsent_it_is_gone() {
    isolated(|| {
        process::ensure().unwrap();
        let before = Footprint::take();
        drop(buf_of(&[1; 10]));
        drop(buf_of(&[1; 100_000]));
        before.assert_unchanged();
    });
}

#[test]
fn what_its_process_forgot_or_died_with_comes_back() {
    isolated(|| {
        process::ensure().unwrap();
        let before = Footprint::take();
        Child::fork(|| std::mem::forget(buf_of(&[1; 100_000]))).succeed();
        before.assert_unchanged();
        let killed = Child::fork(|| {
            std::mem::forget(buf_of(&[1; 100_000]));
            die();
        });
        killed.join();
        before.assert_unchanged();
    });
}

#[test]
fn a_forked_child_neither_writes_nor_sends_nor_frees_its_parents_message_buf() {
    isolated(|| {
        let queue = Queue::new(0).unwrap();
        let mut buf = Some(buf_of(&[1; 5000]));
        let child = Child::fork(|| {
            let written = catch_unwind(AssertUnwindSafe(|| {
                buf.as_ref().map(|buf| buf.bytes().len())
            }));
            assert!(written.is_err());
            assert!(queue.put_buf(&mut buf, Deadline::NOW).is_err());
            drop(buf.take());
        });
        child.succeed();
        let other = buf_of(&[2; 5000]);
        put(&queue, buf.unwrap());
        drop(other);
        assert_eq!(queue.get(Deadline::NOW).unwrap().bytes(), [1; 5000]);
    });
}

#[test]
fn a_message_is_not_its_readers_forked_childs() {
    isolated(|| {
        let queue = Queue::new(0).unwrap();
        put(&queue, buf_of(&[1; 5000]));
        let message = queue.get(Deadline::NOW).unwrap();
        assert!(message.is_mine());
        let mut kept = Some(message);
        Child::fork(|| {
            let parents = kept.take().unwrap();
            assert!(!parents.is_mine());
            let parents = parents.into_buf().unwrap_err();
            assert!(
                parents.lend().is_err(),
                "it would write to its parent's memory"
            );
        })
        .succeed();
        let other = buf_of(&[2; 5000]);
        assert_eq!(kept.unwrap().bytes(), [1; 5000]);
        drop(other);
    });
}
