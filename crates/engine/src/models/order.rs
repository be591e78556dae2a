//! The order of messages: if one message was put after another, it is not received first.

use loom::sync::Arc;
use loom::sync::atomic::{AtomicU32, Ordering};
use loom::thread;

use super::process;
use crate::channel::chunk_list::slot::{Phase, Seen, SlotWord, View};

const INC: u32 = 1;
const SLOTS: usize = 2;

struct Chunk {
    words: [SlotWord; SLOTS],
    bodies: [AtomicU32; SLOTS],
    /// The word of an empty slot.
    empty: Seen,
}

impl Chunk {
    fn new() -> Arc<Chunk> {
        let words = [SlotWord::new(), SlotWord::new()];
        let empty = words[0].look();
        Arc::new(Chunk {
            words,
            bodies: [AtomicU32::new(0), AtomicU32::new(0)],
            empty,
        })
    }

    /// Puts a message into the first empty slot.
    ///
    /// It does not look first. Loom remembers one access of a word, and a thread's own load before
    /// its swap would hide that other threads' loads race with the swap.
    fn put(&self, number: u32, message: u32) {
        let me = process(number);
        for (word, body) in self.words.iter().zip(&self.bodies) {
            if word.claim(self.empty, INC, me).is_ok() {
                body.store(message, Ordering::Relaxed);
                assert!(word.pass(INC, Phase::Reserved(me), Phase::Ready));
                return;
            }
        }
        panic!("no slot is left");
    }

    /// The rule of `channel/receive.rs`.
    fn get(&self) -> Option<u32> {
        let mut confirmed = None;
        loop {
            match self.look(confirmed) {
                Ok(message) => return message,
                Err(behind) => confirmed = Some(behind),
            }
        }
    }

    fn look(&self, confirmed: Option<usize>) -> Result<Option<u32>, usize> {
        let mut stepped_over = false;
        for (index, word) in self.words.iter().enumerate() {
            match word.look().view(INC) {
                View::In(Phase::Ready) if stepped_over && confirmed != Some(index) => {
                    return Err(index);
                }
                View::In(Phase::Ready) => {
                    let message = self.bodies[index].load(Ordering::Relaxed);
                    assert!(word.pass(INC, Phase::Ready, Phase::Done));
                    return Ok(Some(message));
                }
                View::In(Phase::Reserved(_)) => stepped_over = true,
                View::Empty => return Ok(None),
                _ => {}
            }
        }
        Ok(None)
    }
}

#[test]
fn messages_of_one_producer_are_received_in_their_order() {
    loom::model(|| {
        let chunk = Chunk::new();
        let other = chunk.clone();
        let producer = thread::spawn(move || {
            other.put(1, 1);
            other.put(1, 2);
        });
        let mut received: Vec<u32> = (0..2).filter_map(|_| chunk.get()).collect();
        producer.join().unwrap();
        received.extend(std::iter::from_fn(|| chunk.get()));
        assert_eq!(received, [1, 2]);
    });
}

/// The second process learned of the first message in some other way.
#[test]
fn a_message_put_because_another_was_put_is_received_after_it() {
    loom::model(|| {
        let chunk = Chunk::new();
        let told = Arc::new(AtomicU32::new(0));
        let (one, tell) = (chunk.clone(), told.clone());
        let first = thread::spawn(move || {
            one.put(1, 1);
            tell.store(1, Ordering::SeqCst);
        });
        let two = chunk.clone();
        let second = thread::spawn(move || {
            if told.load(Ordering::SeqCst) == 1 {
                two.put(2, 2);
            }
        });
        let mut received: Vec<u32> = (0..2).filter_map(|_| chunk.get()).collect();
        first.join().unwrap();
        second.join().unwrap();
        received.extend(std::iter::from_fn(|| chunk.get()));
        assert!(received == [1] || received == [1, 2], "{received:?}");
    });
}
