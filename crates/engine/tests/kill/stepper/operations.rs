//! The six short operations: put, get, acquire, release, alloc, free.

use super::Operation;
use crate::common::{DeliveryLog, SharedCells, TestMessage, promptly};
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
const LOG: usize = 64;
/// More than fits into a slot, but not much more: a copy takes as many steps as it has bytes.
const LARGE: usize = 200;
/// As many messages as fit into the first chunk.
const FIRST_CHUNK: usize = 16;

fn briefly() -> Deadline {
    Deadline::after(Duration::from_millis(2))
}

struct LoggedQueue<const SIZE: usize> {
    queue: Queue,
    log: DeliveryLog,
    next: usize,
}

impl<const SIZE: usize> LoggedQueue<SIZE> {
    fn new(cells: SharedCells) -> Self {
        let log = DeliveryLog::new(cells, LOG, 2, EACH);
        LoggedQueue {
            queue: Queue::new(0).expect("a queue"),
            log,
            next: 0,
        }
    }

    fn put(&mut self, count: usize) {
        for _ in 0..count {
            let message = TestMessage::new(SURVIVOR, self.next, SIZE);
            self.log.begin(message);
            self.queue
                .put(&[&message.bytes()], promptly())
                .expect("no limit");
            self.log.sent(message);
            self.next += 1;
        }
    }

    fn get(&self, count: usize) {
        for _ in 0..count {
            self.log
                .received(self.queue.get(promptly()).expect("a message").bytes());
        }
    }

    fn drain(&self) {
        loop {
            match self.queue.get(Deadline::NOW) {
                Ok(message) => drop(self.log.received(message.bytes())),
                Err(GetError::Empty) => return,
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Goes on while another process hangs in the middle. `get` may find nothing, but must return.
    fn beside(&mut self) {
        self.put(2);
        for _ in 0..2 {
            match self.queue.get(briefly()) {
                Ok(message) => drop(self.log.received(message.bytes())),
                Err(GetError::Empty) => {}
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn assert_complete(&self, in_dead_hands: usize) {
        self.drain();
        let missing = self.log.missing();
        assert!(missing.len() <= in_dead_hands, "lost: {missing:?}");
        assert!(self.queue.is_empty());
    }
}

/// `put` of a message of that size, after `BEFORE` others in the chunk.
pub struct Put<const SIZE: usize, const BEFORE: usize> {
    logged: LoggedQueue<SIZE>,
    message: TestMessage,
    bytes: Vec<u8>,
}

impl<const SIZE: usize, const BEFORE: usize> Operation for Put<SIZE, BEFORE> {
    fn new(cells: SharedCells) -> Self {
        let mut logged = LoggedQueue::new(cells);
        logged.put(BEFORE);
        let message = TestMessage::new(CHILD, 0, SIZE);
        logged.log.begin(message);
        Put {
            logged,
            message,
            bytes: message.bytes(),
        }
    }

    fn prepare(&mut self) {
        let other = Queue::new(0).expect("a queue");
        other.put(&[&self.bytes], Deadline::NOW).expect("no limit");
    }

    fn operate(&mut self) {
        self.logged
            .queue
            .put(&[&self.bytes], Deadline::NOW)
            .expect("no limit");
    }

    fn beside(&mut self) {
        self.logged.beside();
    }

    fn survive(&mut self) {
        self.logged.put(3);
        self.logged.get(3);
    }

    fn verify(&mut self, done: bool) {
        if done {
            self.logged.log.sent(self.message);
        }
        self.logged.assert_complete(0);
    }
}

/// `get` of a message of that size, after `BEFORE` others.
pub struct Get<const SIZE: usize, const BEFORE: usize> {
    logged: LoggedQueue<SIZE>,
    got: ManuallyDrop<Option<Message>>,
}

impl<const SIZE: usize, const BEFORE: usize> Operation for Get<SIZE, BEFORE> {
    fn new(cells: SharedCells) -> Self {
        let mut logged = LoggedQueue::new(cells);
        logged.put(BEFORE + 3);
        logged.get(BEFORE);
        Get {
            logged,
            got: ManuallyDrop::new(None),
        }
    }

    fn prepare(&mut self) {
        let other = Queue::new(0).expect("a queue");
        other
            .put(&[&vec![0; SIZE]], Deadline::NOW)
            .expect("no limit");
        other.get(Deadline::NOW).expect("a message");
    }

    fn operate(&mut self) {
        *self.got = Some(self.logged.queue.get(Deadline::NOW).expect("a message"));
    }

    fn beside(&mut self) {
        self.logged.beside();
    }

    fn survive(&mut self) {
        self.logged.put(3);
        self.logged.get(3);
    }

    fn verify(&mut self, _: bool) {
        self.logged.assert_complete(1);
    }
}

pub type PutSmall = Put<40, 3>;
pub type PutLarge = Put<LARGE, 3>;
pub type PutOver = Put<40, FIRST_CHUNK>;
pub type GetSmall = Get<40, 3>;
pub type GetLarge = Get<LARGE, 3>;
pub type GetOver = Get<40, FIRST_CHUNK>;

/// Acquires the lock, even from a dead holder, and checks that it is clean afterwards.
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
    fn new(_: SharedCells) -> Self {
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
    fn new(_: SharedCells) -> Self {
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

/// As small as possible: zeroing takes as many steps as there are bytes.
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

/// Allocating memory.
pub struct Alloc {
    taken: ManuallyDrop<Option<SharedBytes>>,
}

impl Operation for Alloc {
    fn new(_: SharedCells) -> Self {
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

/// Freeing memory.
pub struct Free {
    taken: Option<SharedBytes>,
}

impl Operation for Free {
    fn new(_: SharedCells) -> Self {
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
