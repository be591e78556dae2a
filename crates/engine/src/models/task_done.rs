//! Tasks of a queue: a message that was never put is discounted once, and a process with a task in
//! hand is seen to have it.

use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, AtomicU32, Ordering, fence};
use loom::thread;

use super::process;
use crate::channel::chunk_list::skipped::SkippedCount;
use crate::channel::chunk_list::slot::{Phase, SlotWord, View};
use crate::channel::counting::tasks_in_hand::Taker;

const INC: u32 = 1;
const BLOCK: u32 = 7;

/// Two slots whose writers died.
struct Slots {
    words: [SlotWord; 2],
    skipped: SkippedCount,
}

impl Slots {
    fn new() -> Arc<Slots> {
        let words = [SlotWord::new(), SlotWord::new()];
        for word in &words {
            word.claim(word.look(), INC, process(1)).unwrap();
            assert!(word.pass(INC, Phase::Reserved(process(1)), Phase::Lost));
        }
        Arc::new(Slots {
            words,
            skipped: SkippedCount::new(),
        })
    }

    /// The rule of `channel/counting/task_done.rs`. Stops after `steps` steps.
    fn discount(&self, index: usize, mut steps: u32) {
        loop {
            let seen = self.skipped.get();
            if let Some((block, named)) = seen.slot() {
                assert_eq!(block, BLOCK);
                self.words[named as usize].pass(INC, Phase::Lost, Phase::Skipped);
                if steps <= 1 {
                    return;
                }
                steps -= 1;
                self.skipped.count(seen);
            } else if self.words[index].look().view(INC) == View::In(Phase::Lost) {
                self.skipped.name(seen, BLOCK, index as u32);
            } else {
                return;
            }
            if steps <= 1 {
                return;
            }
            steps -= 1;
        }
    }
}

#[test]
fn each_slot_is_counted_once_whoever_helps() {
    for steps in [1, 2, 3, 99] {
        loom::model(move || {
            let slots = Slots::new();
            let theirs = slots.clone();
            let thread = thread::spawn(move || theirs.discount(0, steps));
            slots.discount(1, 99);
            thread.join().unwrap();
            slots.discount(0, 99);
            slots.discount(1, 99);
            let seen = slots.skipped.get();
            assert_eq!((seen.count(), seen.slot()), (2, None));
        });
    }
}

#[test]
fn at_every_instant_somebody_has_a_task_that_is_not_done() {
    loom::model(|| {
        let taker = Arc::new(Taker::new());
        let message = Arc::new(AtomicBool::new(true));
        let reported = Arc::new(AtomicU32::new(0));
        let (theirs, from, done) = (taker.clone(), message.clone(), reported.clone());
        let thread = thread::spawn(move || {
            let me = process(1);
            assert!(theirs.enter(theirs.get(), me));
            fence(Ordering::SeqCst);
            let took = from.swap(false, Ordering::SeqCst);
            theirs.end(me, took);
            done.fetch_add(1, Ordering::SeqCst);
            theirs.report(me);
        });
        // The order in which `join` looks: no message waits, and no process is busy.
        let before = reported.load(Ordering::SeqCst);
        let waits = message.load(Ordering::SeqCst);
        fence(Ordering::SeqCst);
        let busy = !taker.get().is_idle();
        let now = reported.load(Ordering::SeqCst);
        assert!(waits || busy || before != now || now == 1);
        thread.join().unwrap();
        assert!(taker.get().is_idle());
    });
}

#[test]
fn what_another_reports_is_never_a_task_that_is_only_about_to_be_taken() {
    loom::model(|| {
        let taker = Arc::new(Taker::new());
        assert!(taker.enter(taker.get(), process(1)));
        assert!(taker.end(process(1), true));
        let theirs = taker.clone();
        let thread = thread::spawn(move || {
            assert!(theirs.begin(process(1)));
            assert!(theirs.end(process(1), true));
        });
        let reported = u64::from(taker.report(process(1)));
        thread.join().unwrap();
        assert_eq!(taker.get().taken() + reported, 2);
    });
}
