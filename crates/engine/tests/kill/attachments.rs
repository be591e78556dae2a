//! Deaths over messages that keep objects alive.

use crate::case::Play;
use crate::common::{PROMPTLY, Slate};
use procession_engine::channel::{Message, Queue};
use procession_engine::value::SharedBytes;
use procession_engine::{Deadline, Handle, ObjectRef};

const INSIDE: &[u8] = b"inside";

fn soon() -> Deadline {
    Deadline::after(5 * PROMPTLY)
}

/// Puts a message that holds a queue, with a message that holds shared bytes, which nobody else does.
fn put(mail: &Queue) {
    let bytes = SharedBytes::new(64).expect("memory");
    bytes.write_at(0, INSIDE);
    let inner = Queue::new(0).expect("a queue");
    enclose(&inner, &bytes.handle());
    enclose(mail, &inner.handle());
}

fn enclose(queue: &Queue, handle: &Handle) {
    let held = [ObjectRef::of(handle).expect("it is open here")];
    queue
        .put_with(&[&handle.to_bytes()], &held, Deadline::NOW)
        .expect("no limit");
}

/// Opens what a message holds, and what is in there.
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

fn drain(mail: &Queue) {
    while let Ok(message) = mail.get(Deadline::NOW) {
        open(&message);
    }
}

/// The victim puts messages that hold objects, and the bystander opens them.
pub struct Sending {
    mail: Queue,
}

impl Sending {
    pub fn new(_: Slate) -> Sending {
        Sending {
            mail: Queue::new(0).expect("a queue"),
        }
    }
}

impl Play for Sending {
    const BYSTANDER: bool = true;

    fn victim(&mut self, _: Slate) {
        for _ in 0..5 {
            put(&self.mail);
        }
    }

    fn bystander(&mut self, slate: Slate) {
        while !crate::case::curtain(slate) {
            drain(&self.mail);
            std::thread::yield_now();
        }
    }

    fn while_stopped(&mut self, slate: Slate) {
        self.survive(slate);
    }

    fn survive(&mut self, _: Slate) {
        put(&self.mail);
        drain(&self.mail);
    }

    fn verify(&mut self, _: Slate) {
        drain(&self.mail);
    }
}

/// The victim opens what messages hold, and drops messages unopened.
pub struct Receiving {
    mail: Queue,
}

impl Receiving {
    pub fn new(_: Slate) -> Receiving {
        let mail = Queue::new(0).expect("a queue");
        for _ in 0..8 {
            put(&mail);
        }
        Receiving { mail }
    }
}

impl Play for Receiving {
    fn victim(&mut self, _: Slate) {
        for _ in 0..3 {
            open(&self.mail.get(soon()).expect("a message"));
            drop(self.mail.get(soon()).expect("a message"));
        }
    }

    fn while_stopped(&mut self, slate: Slate) {
        self.survive(slate);
    }

    fn survive(&mut self, _: Slate) {
        open(&self.mail.get(soon()).expect("one is left"));
        put(&self.mail);
    }

    fn verify(&mut self, _: Slate) {
        drain(&self.mail);
    }
}

/// The victim drops the last hold on a queue full of messages that hold objects.
pub struct Dropping {
    mail: Option<Queue>,
}

impl Dropping {
    pub fn new(_: Slate) -> Dropping {
        Dropping {
            mail: Some(Queue::new(0).expect("a queue")),
        }
    }
}

impl Play for Dropping {
    fn victim(&mut self, _: Slate) {
        let full = || {
            let mail = Queue::new(0).expect("a queue");
            (0..3).for_each(|_| put(&mail));
            mail
        };
        drop(full());
        drop(full());
    }

    fn while_stopped(&mut self, slate: Slate) {
        self.survive(slate);
    }

    fn survive(&mut self, _: Slate) {
        if let Some(mail) = self.mail.take() {
            put(&mail);
        }
    }
}

/// The victim sends one object in many messages, which are received before it sends it in more.
pub struct Repeating {
    mail: Queue,
    bytes: SharedBytes,
}

impl Repeating {
    pub fn new(_: Slate) -> Repeating {
        Repeating {
            mail: Queue::new(0).expect("a queue"),
            bytes: SharedBytes::new(64).expect("memory"),
        }
    }

    fn turn(&self, count: usize) {
        for _ in 0..count {
            enclose(&self.mail, &self.bytes.handle());
        }
        for _ in 0..count {
            // Others may have been killed with one in their hands.
            let Ok(message) = self.mail.get(Deadline::NOW) else {
                return;
            };
            SharedBytes::open(&handle_in(&message)).expect("the message holds it");
        }
    }
}

impl Play for Repeating {
    fn victim(&mut self, _: Slate) {
        self.bytes.write_at(0, INSIDE);
        self.turn(30);
        self.turn(30);
    }

    fn while_stopped(&mut self, _: Slate) {
        self.turn(10);
    }

    fn survive(&mut self, _: Slate) {
        self.turn(40);
        // What nobody but messages holds is there for as long as they are.
        let own = SharedBytes::new(64).expect("memory");
        own.write_at(0, INSIDE);
        let mail = Queue::new(0).expect("a queue");
        (0..40).for_each(|_| enclose(&mail, &own.handle()));
        let old = own.handle();
        drop(own);
        for _ in 0..40 {
            let message = mail.get(Deadline::NOW).expect("it was put");
            let opened = SharedBytes::open(&handle_in(&message)).expect("held by the message");
            let mut seen = [0; INSIDE.len()];
            opened.read_at(0, &mut seen);
            assert_eq!(seen, INSIDE);
        }
        assert!(SharedBytes::open(&old).is_err(), "nobody holds it");
    }
}
