//! The readiness of a pipe: bytes are in the socket exactly while a message is there.

use loom::sync::Arc;
use loom::sync::atomic::{AtomicU32, Ordering};
use loom::thread;

use super::process;
use crate::channel::readiness::{Bytes, Readiness};
use crate::sys::atomic::total_order;

const EMPTY: u32 = 0;
const RESERVED: u32 = 1;
const READY: u32 = 2;
const DONE: u32 = 3;

/// The kernel's part: adding, counting and taking bytes are one step each.
struct Socket(AtomicU32);

impl Bytes for Socket {
    fn count(&self) -> usize {
        total_order();
        let count = self.0.fetch_add(0, Ordering::SeqCst) as usize;
        total_order();
        count
    }

    fn take(&self, count: usize) -> bool {
        total_order();
        let left = |there: u32| Some(there.saturating_sub(count as u32));
        let taken = self
            .0
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, left);
        total_order();
        taken.is_ok()
    }
}

struct Pipe {
    slots: [AtomicU32; 2],
    socket: Socket,
    readiness: Readiness,
}

impl Pipe {
    fn new() -> Arc<Pipe> {
        Arc::new(Pipe {
            slots: [AtomicU32::new(EMPTY), AtomicU32::new(EMPTY)],
            socket: Socket(AtomicU32::new(0)),
            readiness: Readiness::new(),
        })
    }

    fn send(&self, slot: usize) {
        self.slots[slot].swap(RESERVED, Ordering::SeqCst);
        if self.readiness.needs_byte() {
            self.socket.0.fetch_add(1, Ordering::SeqCst);
            self.readiness.set_signalled();
        }
        self.slots[slot].swap(READY, Ordering::SeqCst);
    }

    /// Like a queue's put: before a process asked for the descriptor, a sender shows nothing.
    fn put(&self, slot: usize) {
        self.slots[slot].swap(RESERVED, Ordering::SeqCst);
        if self.readiness.is_watched() && self.readiness.needs_byte() {
            self.socket.0.fetch_add(1, Ordering::SeqCst);
            self.readiness.set_signalled();
        }
        self.slots[slot].swap(READY, Ordering::SeqCst);
    }

    /// Asks for a queue's descriptor.
    fn ask(&self, me: u32) {
        self.readiness.watch();
        let is_due = self.any(|slot| slot == READY || slot == RESERVED);
        if is_due && self.socket.count() == 0 {
            self.socket.0.fetch_add(1, Ordering::SeqCst);
        }
        self.look(me);
    }

    /// Receives a message if there is one.
    fn receive(&self, me: u32) {
        for slot in &self.slots {
            let taken = slot.compare_exchange(READY, DONE, Ordering::SeqCst, Ordering::SeqCst);
            if taken.is_ok() {
                break;
            }
        }
        self.look(me);
    }

    fn look(&self, me: u32) {
        if self.readiness.is_watched() && !self.any(|slot| slot == READY) {
            let is_due = || self.any(|slot| slot == READY || slot == RESERVED);
            self.readiness
                .clear(process(me), |_| false, &self.socket, is_due);
        }
    }

    fn any(&self, is: impl Fn(u32) -> bool) -> bool {
        total_order();
        self.slots
            .iter()
            .any(|slot| is(slot.load(Ordering::SeqCst)))
    }

    /// Call it when all threads are at rest.
    fn check(&self) {
        let is_readable = self.socket.count() > 0;
        assert_eq!(is_readable, self.any(|slot| slot == READY));
    }
}

fn check(preemptions: usize, scenario: impl Fn(&Arc<Pipe>) + Send + Sync + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(preemptions);
    model.check(move || {
        let pipe = Pipe::new();
        scenario(&pipe);
        pipe.check();
    });
}

fn spawn(pipe: &Arc<Pipe>, run: impl Fn(&Pipe) + 'static) -> thread::JoinHandle<()> {
    let pipe = pipe.clone();
    thread::spawn(move || run(&pipe))
}

#[test]
fn a_message_that_comes_while_the_last_one_is_taken_is_shown() {
    check(3, |pipe| {
        pipe.readiness.watch();
        pipe.send(0);
        let sender = spawn(pipe, |pipe| pipe.send(1));
        pipe.receive(1);
        sender.join().unwrap();
    });
}

#[test]
fn a_sender_that_relies_on_another_ones_byte_is_shown() {
    check(3, |pipe| {
        pipe.readiness.watch();
        let senders = [0, 1].map(|slot| spawn(pipe, move |pipe| pipe.send(slot)));
        pipe.receive(1);
        for sender in senders {
            sender.join().unwrap();
        }
    });
}

#[test]
fn two_that_look_at_once_leave_no_byte_without_a_message() {
    check(3, |pipe| {
        pipe.readiness.watch();
        pipe.send(0);
        let other = spawn(pipe, |pipe| pipe.look(2));
        pipe.receive(1);
        other.join().unwrap();
    });
}

#[test]
fn two_receivers_and_a_sender_agree() {
    check(2, |pipe| {
        pipe.readiness.watch();
        pipe.send(0);
        let sender = spawn(pipe, |pipe| pipe.send(1));
        let other = spawn(pipe, |pipe| pipe.receive(2));
        pipe.receive(1);
        other.join().unwrap();
        sender.join().unwrap();
        pipe.look(1);
    });
}

#[test]
fn who_asks_for_the_descriptor_while_another_receives_is_told_the_truth() {
    check(3, |pipe| {
        pipe.send(0);
        let other = spawn(pipe, |pipe| pipe.receive(2));
        pipe.readiness.watch();
        pipe.look(1);
        other.join().unwrap();
    });
}

#[test]
fn what_is_put_while_somebody_first_asks_for_a_queues_descriptor_is_shown() {
    check(3, |pipe| {
        let sender = spawn(pipe, |pipe| pipe.put(0));
        pipe.ask(1);
        sender.join().unwrap();
    });
}

#[test]
fn a_queue_that_is_asked_while_a_message_is_taken_shows_what_is_left() {
    check(3, |pipe| {
        pipe.put(0);
        let other = spawn(pipe, |pipe| pipe.receive(2));
        let sender = spawn(pipe, |pipe| pipe.put(1));
        pipe.ask(1);
        other.join().unwrap();
        sender.join().unwrap();
        pipe.look(1);
    });
}

#[test]
fn two_that_ask_for_a_queues_descriptor_leave_no_byte_without_a_message() {
    check(3, |pipe| {
        pipe.put(0);
        let other = spawn(pipe, |pipe| pipe.ask(2));
        pipe.receive(1);
        pipe.ask(1);
        other.join().unwrap();
        pipe.look(1);
    });
}
