//! Deaths over messages that keep objects alive.

use crate::case::Scenario;
use crate::common::{PROMPTLY, SharedCells};
use procession_engine::channel::{Message, Queue};
use procession_engine::value::SharedBytes;
use procession_engine::{Deadline, Handle, ObjectRef};

const INSIDE: &[u8] = b"inside";

fn soon() -> Deadline {
    Deadline::after(5 * PROMPTLY)
}

/// Puts a message that holds a queue. A message in that queue holds shared bytes. Only the messages hold them.
fn put(queue: &Queue) {
    let bytes = SharedBytes::new(64).expect("memory");
    bytes.write_at(0, INSIDE);
    let inner = Queue::new(0).expect("a queue");
    put_attached(&inner, &bytes.handle());
    put_attached(queue, &inner.handle());
}

fn put_attached(queue: &Queue, handle: &Handle) {
    let held = [ObjectRef::of(handle).expect("it is open here")];
    queue
        .put_with(&[&handle.to_bytes()], &held, Deadline::NOW)
        .expect("no limit");
}

/// Opens the queue that a message holds, and the bytes in there.
fn open(message: &Message) {
    let inner = Queue::open(&handle_in(message)).expect("the message holds the queue");
    let message = inner.get(Deadline::NOW).expect("it was put before");
    let bytes = SharedBytes::open(&handle_in(&message)).expect("the message holds the bytes");
    let mut found = [0; INSIDE.len()];
    bytes.read_at(0, &mut found);
    assert_eq!(found, INSIDE);
}

fn handle_in(message: &Message) -> Handle {
    Handle::from_bytes(message.bytes()).expect("a handle")
}

fn drain(queue: &Queue) {
    while let Ok(message) = queue.get(Deadline::NOW) {
        open(&message);
    }
}

/// The victim puts messages that hold objects, and the bystander opens them.
pub struct Sending {
    queue: Queue,
}

impl Sending {
    pub fn new(_: SharedCells) -> Sending {
        Sending {
            queue: Queue::new(0).expect("a queue"),
        }
    }
}

impl Scenario for Sending {
    const BYSTANDER: bool = true;

    fn victim(&mut self, _: SharedCells) {
        for _ in 0..5 {
            put(&self.queue);
        }
    }

    fn bystander(&mut self, cells: SharedCells) {
        while !crate::case::is_over(cells) {
            drain(&self.queue);
            std::thread::yield_now();
        }
    }

    fn while_stopped(&mut self, cells: SharedCells) {
        self.survive(cells);
    }

    fn survive(&mut self, _: SharedCells) {
        put(&self.queue);
        drain(&self.queue);
    }

    fn verify(&mut self, _: SharedCells) {
        drain(&self.queue);
    }
}

/// The victim opens what messages hold, and drops messages unopened.
pub struct Receiving {
    queue: Queue,
}

impl Receiving {
    pub fn new(_: SharedCells) -> Receiving {
        let queue = Queue::new(0).expect("a queue");
        for _ in 0..8 {
            put(&queue);
        }
        Receiving { queue }
    }
}

impl Scenario for Receiving {
    fn victim(&mut self, _: SharedCells) {
        for _ in 0..3 {
            open(&self.queue.get(soon()).expect("a message"));
            drop(self.queue.get(soon()).expect("a message"));
        }
    }

    fn while_stopped(&mut self, cells: SharedCells) {
        self.survive(cells);
    }

    fn survive(&mut self, _: SharedCells) {
        open(&self.queue.get(soon()).expect("one is left"));
        put(&self.queue);
    }

    fn verify(&mut self, _: SharedCells) {
        drain(&self.queue);
    }
}

/// The victim drops the last reference to a queue full of messages that hold objects.
pub struct Dropping {
    queue: Option<Queue>,
}

impl Dropping {
    pub fn new(_: SharedCells) -> Dropping {
        Dropping {
            queue: Some(Queue::new(0).expect("a queue")),
        }
    }
}

impl Scenario for Dropping {
    fn victim(&mut self, _: SharedCells) {
        let full = || {
            let queue = Queue::new(0).expect("a queue");
            (0..3).for_each(|_| put(&queue));
            queue
        };
        drop(full());
        drop(full());
    }

    fn while_stopped(&mut self, cells: SharedCells) {
        self.survive(cells);
    }

    fn survive(&mut self, _: SharedCells) {
        if let Some(queue) = self.queue.take() {
            put(&queue);
        }
    }
}

/// The victim sends one object in many messages. They are received before it sends the object in more.
pub struct Repeating {
    queue: Queue,
    bytes: SharedBytes,
}

impl Repeating {
    pub fn new(_: SharedCells) -> Repeating {
        Repeating {
            queue: Queue::new(0).expect("a queue"),
            bytes: SharedBytes::new(64).expect("memory"),
        }
    }

    fn round(&self, count: usize) {
        for _ in 0..count {
            put_attached(&self.queue, &self.bytes.handle());
        }
        for _ in 0..count {
            // Other processes may have been killed after they received one.
            let Ok(message) = self.queue.get(Deadline::NOW) else {
                return;
            };
            SharedBytes::open(&handle_in(&message)).expect("the message holds it");
        }
    }
}

impl Scenario for Repeating {
    fn victim(&mut self, _: SharedCells) {
        self.bytes.write_at(0, INSIDE);
        self.round(30);
        self.round(30);
    }

    fn while_stopped(&mut self, _: SharedCells) {
        self.round(10);
    }

    fn survive(&mut self, _: SharedCells) {
        self.round(40);
        // An object that only messages hold lives for as long as they do.
        let own = SharedBytes::new(64).expect("memory");
        own.write_at(0, INSIDE);
        let queue = Queue::new(0).expect("a queue");
        (0..40).for_each(|_| put_attached(&queue, &own.handle()));
        let old = own.handle();
        drop(own);
        for _ in 0..40 {
            let message = queue.get(Deadline::NOW).expect("it was put");
            let opened = SharedBytes::open(&handle_in(&message)).expect("held by the message");
            let mut seen = [0; INSIDE.len()];
            opened.read_at(0, &mut seen);
            assert_eq!(seen, INSIDE);
        }
        assert!(SharedBytes::open(&old).is_err(), "nobody holds it");
    }
}
