//! The six short operations: put, get, acquire, release, alloc, free.

use super::Operation;
use crate::common::{Ledger, Letter, Slate, promptly};
use procession_engine::Deadline;
use procession_engine::channel::{Message, Queue};
use procession_engine::error::{GetError, LockError};
use procession_engine::sync::{Acquired, Lock};
use procession_engine::value::SharedBytes;
use std::mem::ManuallyDrop;
use std::time::Duration;

const CHILD: usize = 0;
const SURVIVOR: usize = 1;
const EACH: usize = 64;
const LEDGER: usize = 64;
/// More than fits a slot, and not more: a copy is as many steps as it has bytes.
const LARGE: usize = 200;
/// As many letters as fit the first chunk.
const A_STRIP: usize = 16;

fn briefly() -> Deadline {
    Deadline::after(Duration::from_millis(2))
}

struct Mail<const SIZE: usize> {
    queue: Queue,
    ledger: Ledger,
    next: usize,
}

impl<const SIZE: usize> Mail<SIZE> {
    fn new(slate: Slate) -> Self {
        let ledger = Ledger::on(slate, LEDGER, 2, EACH);
        Mail {
            queue: Queue::new(0).expect("a queue"),
            ledger,
            next: 0,
        }
    }

    fn put(&mut self, count: usize) {
        for _ in 0..count {
            let letter = Letter::new(SURVIVOR, self.next, SIZE);
            self.ledger.begin(letter);
            self.queue
                .put(&[&letter.bytes()], promptly())
                .expect("no limit");
            self.ledger.sent(letter);
            self.next += 1;
        }
    }

    fn get(&self, count: usize) {
        for _ in 0..count {
            self.ledger
                .received(self.queue.get(promptly()).expect("a letter").bytes());
        }
    }

    fn drain(&self) {
        loop {
            match self.queue.get(Deadline::NOW) {
                Ok(message) => drop(self.ledger.received(message.bytes())),
                Err(GetError::Empty) => return,
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Goes on while another process hangs in the middle: gets may find nothing, but must return.
    fn beside(&mut self) {
        self.put(2);
        for _ in 0..2 {
            match self.queue.get(briefly()) {
                Ok(message) => drop(self.ledger.received(message.bytes())),
                Err(GetError::Empty) => {}
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn assert_complete(&self, in_dead_hands: usize) {
        self.drain();
        let missing = self.ledger.missing();
        assert!(missing.len() <= in_dead_hands, "lost: {missing:?}");
        assert!(self.queue.is_empty());
    }
}

/// `put` of a message of that size, as the so-manieth of a chunk.
pub struct Put<const SIZE: usize, const BEFORE: usize> {
    mail: Mail<SIZE>,
    letter: Letter,
    bytes: Vec<u8>,
}

impl<const SIZE: usize, const BEFORE: usize> Operation for Put<SIZE, BEFORE> {
    fn new(slate: Slate) -> Self {
        let mut mail = Mail::new(slate);
        mail.put(BEFORE);
        let letter = Letter::new(CHILD, 0, SIZE);
        mail.ledger.begin(letter);
        Put {
            mail,
            letter,
            bytes: letter.bytes(),
        }
    }

    fn prepare(&mut self) {
        let other = Queue::new(0).expect("a queue");
        other.put(&[&self.bytes], Deadline::NOW).expect("no limit");
    }

    fn operate(&mut self) {
        self.mail
            .queue
            .put(&[&self.bytes], Deadline::NOW)
            .expect("no limit");
    }

    fn beside(&mut self) {
        self.mail.beside();
    }

    fn survive(&mut self) {
        self.mail.put(3);
        self.mail.get(3);
    }

    fn verify(&mut self, done: bool) {
        if done {
            self.mail.ledger.sent(self.letter);
        }
        self.mail.assert_complete(0);
    }
}

/// `get` of a message of that size, after so many others.
pub struct Get<const SIZE: usize, const BEFORE: usize> {
    mail: Mail<SIZE>,
    got: ManuallyDrop<Option<Message>>,
}

impl<const SIZE: usize, const BEFORE: usize> Operation for Get<SIZE, BEFORE> {
    fn new(slate: Slate) -> Self {
        let mut mail = Mail::new(slate);
        mail.put(BEFORE + 3);
        mail.get(BEFORE);
        Get {
            mail,
            got: ManuallyDrop::new(None),
        }
    }

    fn prepare(&mut self) {
        let other = Queue::new(0).expect("a queue");
        other
            .put(&[&vec![0; SIZE]], Deadline::NOW)
            .expect("no limit");
        other.get(Deadline::NOW).expect("a letter");
    }

    fn operate(&mut self) {
        *self.got = Some(self.mail.queue.get(Deadline::NOW).expect("a letter"));
    }

    fn beside(&mut self) {
        self.mail.beside();
    }

    fn survive(&mut self) {
        self.mail.put(3);
        self.mail.get(3);
    }

    fn verify(&mut self, _: bool) {
        self.mail.assert_complete(1);
    }
}

pub type PutSmall = Put<40, 3>;
pub type PutLarge = Put<LARGE, 3>;
pub type PutOver = Put<40, A_STRIP>;
pub type GetSmall = Get<40, 3>;
pub type GetLarge = Get<LARGE, 3>;
pub type GetOver = Get<40, A_STRIP>;

/// Takes the lock, whoever died with it, and looks whether all is well again.
fn repair(lock: &Lock) {
    lock.acquire_for_repair(promptly()).expect("the lock");
    lock.release().expect("it is held");
    let acquired = lock.acquire_for_repair(promptly()).expect("the lock");
    assert_eq!(acquired, Acquired::Clean, "a death is told once");
    lock.release().expect("it is held");
}

fn pass_through(lock: &Lock) {
    match lock.acquire(briefly()) {
        Ok(()) => lock.release().expect("it is held"),
        Err(LockError::TimedOut) => {}
        Err(error) => panic!("the holder lives: {error}"),
    }
}

/// `acquire` of a free lock.
pub struct Acquire {
    lock: Lock,
}

impl Operation for Acquire {
    fn new(_: Slate) -> Self {
        Acquire {
            lock: Lock::new().expect("a lock"),
        }
    }

    fn prepare(&mut self) {
        self.lock.acquire(Deadline::NEVER).expect("the lock");
        self.lock.release().expect("it is held");
    }

    fn operate(&mut self) {
        self.lock.acquire(Deadline::NEVER).expect("the lock");
    }

    fn conclude(&mut self) {
        self.lock.release().expect("it is held");
    }

    fn beside(&mut self) {
        pass_through(&self.lock);
    }

    fn survive(&mut self) {
        repair(&self.lock);
    }

    fn verify(&mut self, _: bool) {
        assert!(!self.lock.is_held());
    }
}

/// `release` of a held lock.
pub struct Release {
    lock: Lock,
}

impl Operation for Release {
    fn new(_: Slate) -> Self {
        Release {
            lock: Lock::new().expect("a lock"),
        }
    }

    fn prepare(&mut self) {
        self.lock.acquire(Deadline::NEVER).expect("the lock");
        self.lock.release().expect("it is held");
        self.lock.acquire(Deadline::NEVER).expect("the lock");
    }

    fn operate(&mut self) {
        self.lock.release().expect("it is held");
    }

    fn beside(&mut self) {
        pass_through(&self.lock);
    }

    fn survive(&mut self) {
        repair(&self.lock);
    }

    fn verify(&mut self, _: bool) {
        assert!(!self.lock.is_held());
    }
}

/// As small as it may be: to zero it takes as many steps as it has bytes.
const BLOCK: usize = 200;

fn use_memory(count: usize) {
    let many: Vec<_> = (0..count)
        .map(|_| SharedBytes::new(BLOCK).expect("memory"))
        .collect();
    for (number, bytes) in many.iter().enumerate() {
        let mut seen = vec![1; BLOCK];
        bytes.read_at(0, &mut seen);
        assert!(
            seen.iter().all(|&byte| byte == 0),
            "new memory is not zeroed"
        );
        bytes.write_at(0, &[number as u8 + 1; BLOCK]);
    }
    for (number, bytes) in many.iter().enumerate() {
        let mut seen = vec![0; BLOCK];
        bytes.read_at(0, &mut seen);
        assert!(
            seen.iter().all(|&byte| byte == number as u8 + 1),
            "two have the same memory"
        );
    }
}

/// Taking memory.
pub struct Alloc {
    taken: ManuallyDrop<Option<SharedBytes>>,
}

impl Operation for Alloc {
    fn new(_: Slate) -> Self {
        Alloc {
            taken: ManuallyDrop::new(None),
        }
    }

    fn prepare(&mut self) {
        use_memory(1);
    }

    fn operate(&mut self) {
        *self.taken = Some(SharedBytes::new(BLOCK).expect("memory"));
    }

    fn beside(&mut self) {
        use_memory(3);
    }

    fn survive(&mut self) {
        use_memory(3);
    }
}

/// Giving memory back.
pub struct Free {
    taken: Option<SharedBytes>,
}

impl Operation for Free {
    fn new(_: Slate) -> Self {
        Free { taken: None }
    }

    fn prepare(&mut self) {
        use_memory(1);
        self.taken = Some(SharedBytes::new(BLOCK).expect("memory"));
    }

    fn operate(&mut self) {
        self.taken = None;
    }

    fn beside(&mut self) {
        use_memory(3);
    }

    fn survive(&mut self) {
        use_memory(3);
    }
}
