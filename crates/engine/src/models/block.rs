//! The block of a large message is freed once, and never while a process may read it.

use loom::sync::Arc;
use loom::sync::atomic::{AtomicU32, Ordering};
use loom::thread;

use super::{Deaths, process};
use crate::arena::owner::{Owner, OwnerCell};
use crate::channel::chunk_list::slot::{Phase, SlotWord, View};

const INC: u32 = 1;
const SLOT: Owner = Owner::Slot {
    chunk: 9,
    index: 0,
    inc: INC,
};

struct LargeMessage {
    block: OwnerCell,
    slot: SlotWord,
    deaths: Arc<Deaths>,
    freed: AtomicU32,
    received: AtomicU32,
}

impl LargeMessage {
    fn new() -> Arc<LargeMessage> {
        Arc::new(LargeMessage {
            block: OwnerCell::new(Owner::Process(process(1))),
            slot: SlotWord::new(),
            deaths: Deaths::of(5),
            freed: AtomicU32::new(0),
            received: AtomicU32::new(0),
        })
    }

    /// Process 1 puts the block that it filled. It dies after `steps` steps.
    fn put(&self, steps: u32) {
        let me = process(1);
        let seen = self.slot.look();
        self.slot.claim(seen, INC, me).unwrap();
        if steps == 1 {
            return self.deaths.die(me);
        }
        self.block.pass(Owner::Process(me), SLOT);
        if steps == 2 {
            return self.deaths.die(me);
        }
        self.slot.pass(INC, Phase::Reserved(me), Phase::Ready);
    }

    /// Receives. Dies after `steps` steps.
    fn get(&self, number: u32, steps: u32) {
        let me = process(number);
        self.recover();
        if !self.slot.pass(INC, Phase::Ready, Phase::Receiving(me)) {
            return;
        }
        if steps == 1 {
            return self.deaths.die(me);
        }
        assert!(self.block.pass(SLOT, Owner::Process(me)));
        if steps == 2 {
            return self.deaths.die(me);
        }
        self.slot.pass(INC, Phase::Receiving(me), Phase::Done);
        self.received.fetch_add(1, Ordering::SeqCst);
        self.free(Owner::Process(me));
    }

    fn free(&self, from: Owner) {
        if self.block.pass(from, Owner::Free) {
            self.freed.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// The rule of `channel/recovery.rs`.
    fn recover(&self) {
        let (from, owner) = match self.slot.look().view(INC) {
            View::In(from @ (Phase::Reserved(owner) | Phase::Receiving(owner))) => (from, owner),
            _ => return,
        };
        if !self.deaths.is_dead(owner) {
            return;
        }
        let to = match (from, self.block.is(SLOT)) {
            (Phase::Reserved(_), true) => Phase::Ready,
            (Phase::Reserved(_), false) => Phase::Skipped,
            (_, true) => Phase::Ready,
            (_, false) => Phase::Done,
        };
        self.slot.pass(INC, from, to);
    }

    /// What recovery does for a dead process.
    fn reap(&self, number: u32) {
        if self.deaths.is_dead(process(number)) {
            self.free(Owner::Process(process(number)));
        }
    }
}

#[test]
fn a_block_is_freed_once_whenever_its_producer_dies() {
    for steps in [1, 2, 9] {
        loom::model(move || {
            let message = LargeMessage::new();
            let other = message.clone();
            let producer = thread::spawn(move || other.put(steps));
            let other = message.clone();
            let recovery = thread::spawn(move || other.reap(1));
            message.get(2, 9);
            producer.join().unwrap();
            recovery.join().unwrap();
            message.get(3, 9);
            message.reap(1);
            assert_eq!(message.freed.load(Ordering::SeqCst), 1);
            let received = message.received.load(Ordering::SeqCst);
            assert_eq!(received, u32::from(steps > 1));
        });
    }
}

#[test]
fn a_block_is_freed_once_whenever_its_consumer_dies() {
    for steps in [1, 2] {
        loom::model(move || {
            let message = LargeMessage::new();
            message.put(9);
            let other = message.clone();
            let consumer = thread::spawn(move || other.get(2, steps));
            let other = message.clone();
            let recovery = thread::spawn(move || other.reap(2));
            message.get(3, 9);
            consumer.join().unwrap();
            recovery.join().unwrap();
            message.get(4, 9);
            message.reap(2);
            assert_eq!(message.freed.load(Ordering::SeqCst), 1);
            // The consumer that died while it owned the block had received it.
            let received = message.received.load(Ordering::SeqCst);
            assert!(received <= 1);
            if steps == 1 {
                assert!(received == 1 || message.slot.look().view(INC) == View::In(Phase::Done));
            }
        });
    }
}
