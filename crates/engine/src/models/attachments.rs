//! An object that travels in an attachment list: it lives until its last holder releases it, and is
//! freed once.

use loom::sync::Arc;
use loom::sync::atomic::{AtomicU32, Ordering};
use loom::thread;

use super::process;
use crate::arena::owner::{Owner, OwnerCell};

const SENT: u32 = 1;
const ADDED: u32 = 2;

struct SentObject {
    owner: OwnerCell,
    added: AtomicU32,
    /// The references of the sender and the receiver.
    cells: [AtomicU32; 2],
    /// 1 while an attachment list lists the object.
    attachments: AtomicU32,
    freed: AtomicU32,
}

impl SentObject {
    /// The sender holds a reference.
    fn new() -> Arc<SentObject> {
        Arc::new(SentObject {
            owner: OwnerCell::new(Owner::Shared),
            added: AtomicU32::new(0),
            cells: [AtomicU32::new(1), AtomicU32::new(0)],
            attachments: AtomicU32::new(0),
            freed: AtomicU32::new(0),
        })
    }

    fn note_sent(&self) {
        self.added.fetch_or(SENT, Ordering::SeqCst);
        self.added.fetch_add(ADDED, Ordering::SeqCst);
    }

    fn is_held(&self) -> bool {
        loop {
            let added = self.added.load(Ordering::SeqCst);
            let held = self.cells.iter().any(|c| c.load(Ordering::SeqCst) != 0)
                || added & SENT != 0 && self.attachments.load(Ordering::SeqCst) == 1;
            if held || self.added.load(Ordering::SeqCst) == added {
                return held;
            }
        }
    }

    fn free_if_unheld(&self, number: u32) {
        let mine = Owner::Process(process(number));
        if self.is_held() || !self.owner.pass(Owner::Shared, mine) {
            return;
        }
        if self.is_held() {
            self.owner.pass(mine, Owner::Shared);
        } else {
            self.freed.fetch_add(1, Ordering::SeqCst);
            self.owner.pass(mine, Owner::Free);
        }
    }

    /// The sender puts the object into an attachment list and releases its reference.
    fn send(&self) {
        self.note_sent();
        self.attachments.store(1, Ordering::SeqCst);
        self.note_sent();
        self.cells[0].store(0, Ordering::SeqCst);
        self.free_if_unheld(1);
    }

    /// The receiver opens the object and frees the attachment list. Returns true if there was one.
    fn receive(&self) -> bool {
        if self.attachments.load(Ordering::SeqCst) == 0 {
            return false;
        }
        assert!(self.owner.is(Owner::Shared), "gone before it was opened");
        self.added.fetch_add(ADDED, Ordering::SeqCst);
        self.cells[1].store(1, Ordering::SeqCst);
        self.added.fetch_add(ADDED, Ordering::SeqCst);
        assert!(self.owner.is(Owner::Shared), "gone while it was opened");
        self.free_attachments(2);
        assert_eq!(self.freed.load(Ordering::SeqCst), 0, "gone while held");
        true
    }

    fn free_attachments(&self, number: u32) {
        self.attachments.store(0, Ordering::SeqCst);
        self.free_if_unheld(number);
    }

    fn release(&self) {
        self.cells[1].store(0, Ordering::SeqCst);
        self.free_if_unheld(2);
    }
}

fn bounded(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(4);
    builder.check(model);
}

#[test]
fn an_object_is_alive_from_sender_to_receiver() {
    bounded(|| {
        let object = SentObject::new();
        let other = object.clone();
        let sender = thread::spawn(move || other.send());
        let received = object.receive();
        sender.join().unwrap();
        assert_eq!(object.freed.load(Ordering::SeqCst), 0);
        if !received {
            assert!(object.receive());
        }
        object.release();
        assert_eq!(object.freed.load(Ordering::SeqCst), 1);
    });
}

#[test]
fn a_sweep_frees_nothing_that_travels() {
    bounded(|| {
        let object = SentObject::new();
        let (one, two) = (object.clone(), object.clone());
        let sender = thread::spawn(move || one.send());
        let recovery = thread::spawn(move || two.free_if_unheld(3));
        if object.receive() {
            object.release();
        }
        sender.join().unwrap();
        recovery.join().unwrap();
        object.free_attachments(4);
        assert_eq!(object.freed.load(Ordering::SeqCst), 1);
    });
}

#[test]
fn an_object_goes_with_the_last_attachment_list() {
    bounded(|| {
        let object = SentObject::new();
        object.send();
        let other = object.clone();
        let recovery = thread::spawn(move || other.free_if_unheld(3));
        object.free_attachments(2);
        recovery.join().unwrap();
        assert_eq!(object.freed.load(Ordering::SeqCst), 1);
    });
}
